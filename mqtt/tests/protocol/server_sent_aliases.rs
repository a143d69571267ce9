//! Topic aliases that the server sets: never beyond the client's maximum, always understood by it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use mqtt::server::{Accept, InflightEntry, InflightState, Options, PublishOutcome};
use mqtt::{Connect, ConnectProperties, Message, Packet, QoS};

use crate::client::{Client, exactly_once, id, message, outgoing, topic};
use crate::raw::*;

const NAME: &str = "sensors/one";
/// First byte, remaining length, length of the name, length of the properties.
const PLAIN_BYTES: usize = 5 + NAME.len();
/// The property with its identifier.
const ALIAS_BYTES: usize = 3;

fn connect(alias_maximum: u16, packet_bytes_max: Option<usize>) -> Connect {
    let packet_bytes_max = packet_bytes_max.and_then(|bytes| u32::try_from(bytes).ok());
    Connect {
        properties: ConnectProperties {
            topic_alias_maximum: Some(alias_maximum),
            maximum_packet_size: packet_bytes_max.and_then(NonZeroU32::new),
            ..ConnectProperties::default()
        },
        ..Connect::new(V5, string("c"))
    }
}

fn options(topic_alias_sent_max: u16) -> Options {
    Options {
        topic_alias_sent_max,
        ..exactly_once()
    }
}

fn to(name: &str, payload_bytes: usize) -> Arc<Message> {
    Arc::new(Message {
        topic: topic(name),
        qos: QoS::AtMostOnce,
        ..(*message(payload_bytes)).clone()
    })
}

/// Sends a message to this topic with QoS 0.
fn send(client: &mut Client, name: &str, payload_bytes: usize) -> PublishOutcome {
    let message = to(name, payload_bytes);
    client.connection.publish(client.now, outgoing(&message))
}

/// Name and alias of the messages that came, empty and 0 where there is none.
fn received(client: &mut Client) -> Vec<(String, u16)> {
    let received = client.received().into_iter();
    received
        .map(|packet| match packet {
            Packet::Publish(publish) => (
                publish
                    .topic
                    .map_or(String::new(), |topic| topic.to_string()),
                publish.topic_alias.map_or(0, |alias| alias.get()),
            ),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn pair(name: &str, alias: u16) -> (String, u16) {
    (name.to_owned(), alias)
}

#[test]
fn topic_is_sent_by_its_name_once_and_then_by_its_alias() {
    let mut client = Client::connected_with(connect(9, None), options(2));
    for name in [NAME, NAME, "sensors/two", NAME] {
        send(&mut client, name, 1);
    }
    let expected = [
        pair(NAME, 1),
        pair("", 1),
        pair("sensors/two", 2),
        pair("", 1),
    ];
    assert_eq!(received(&mut client), expected);
}

#[test]
fn every_topic_is_understood_however_many_take_turns() {
    for (client_maximum, own_maximum) in [(3, 16), (16, 3), (1, 1), (0, 16), (16, 0)] {
        let mut client =
            Client::connected_with(connect(client_maximum, None), options(own_maximum));
        let mut names: HashMap<u16, String> = HashMap::new();
        for number in 0_u32..500 {
            // Some come often, some rarely.
            let name = format!("sensors/{}", number * number % 37 % 11);
            send(&mut client, &name, 1);
            let [(sent, alias)] = &received(&mut client)[..] else {
                panic!()
            };
            assert!(*alias <= client_maximum.min(own_maximum));
            if *alias == 0 {
                assert_eq!(*sent, name);
                continue;
            }
            if !sent.is_empty() {
                names.insert(*alias, sent.clone());
            }
            assert_eq!(names.get(alias), Some(&name), "message {number}");
        }
    }
}

#[test]
fn all_qos_share_the_aliases_and_what_waits_has_them_when_it_is_sent() {
    let mut client = Client::connected_with(connect(16, None), options(16));
    let (now, message) = (client.now, to(NAME, 1));
    let packet_id = client.connection.reserve().unwrap();
    for qos in [QoS::AtLeastOnce, QoS::AtMostOnce] {
        let outgoing = mqtt::server::Outgoing {
            qos,
            ..outgoing(&message)
        };
        client.connection.publish(now, outgoing);
    }
    let outcome = client
        .connection
        .publish_reserved(now, packet_id, outgoing(&message));
    assert!(matches!(outcome, PublishOutcome::Sent { .. }));
    let expected = [pair(NAME, 1), pair("", 1), pair("", 1)];
    assert_eq!(received(&mut client), expected);
}

#[test]
fn what_is_sent_again_has_its_name_because_the_connection_is_another() {
    let mut client = Client::new(V5, options(16));
    client.send(&Packet::Connect(Box::new(connect(16, None))));
    client.events();
    let entry = InflightEntry {
        packet_id: id(7),
        state: InflightState::AwaitsPuback,
    };
    let accept = Accept {
        session_present: true,
        inflight: vec![entry],
        ..Accept::default()
    };
    client.connection.accept(client.now, accept).unwrap();
    client.received();
    let message = to(NAME, 1);
    let outcome = client
        .connection
        .resend(client.now, id(7), outgoing(&message));
    assert!(matches!(outcome, PublishOutcome::Sent { .. }));
    send(&mut client, NAME, 1);
    assert_eq!(received(&mut client), [pair(NAME, 1), pair("", 1)]);
}

#[test]
fn packets_are_not_made_too_large_by_an_alias_beside_the_name() {
    for (room, alias) in [(ALIAS_BYTES, 1), (ALIAS_BYTES - 1, 0), (0, 0)] {
        let most = PLAIN_BYTES + 1 + room;
        let mut client = Client::connected_with(connect(16, Some(most)), options(16));
        let outcome = send(&mut client, NAME, 1);
        assert_eq!(outcome, PublishOutcome::Sent { packet_id: None });
        assert_eq!(
            received(&mut client),
            [pair(NAME, alias)],
            "room for {room}"
        );
    }
    // What fits is measured with the name, also where the alias would make it fit.
    let mut client = Client::connected_with(connect(16, Some(PLAIN_BYTES + 10)), options(16));
    send(&mut client, NAME, 1);
    assert_eq!(send(&mut client, NAME, 11), PublishOutcome::DroppedTooLarge);
    assert_eq!(received(&mut client), [pair(NAME, 1)]);
}

#[test]
fn transmit_buffer_is_not_longer_than_it_may_be_by_an_alias_beside_the_name() {
    let first = PLAIN_BYTES + ALIAS_BYTES + 1;
    for (room, alias) in [(ALIAS_BYTES, 2), (ALIAS_BYTES - 1, 0)] {
        let transmit_bytes_max = first + PLAIN_BYTES + 1 + room;
        let options = Options {
            transmit_bytes_max,
            ..options(16)
        };
        let mut client = Client::connected_with(connect(16, None), options);
        send(&mut client, NAME, 1);
        send(&mut client, "sensors/two", 1);
        assert!(client.connection.transmit_bytes() <= transmit_bytes_max);
        let expected = [pair(NAME, 1), pair("sensors/two", alias)];
        assert_eq!(received(&mut client), expected);
    }
}

#[test]
fn client_of_3_1_1_gets_names_only() {
    let mut client = Client::connected(V311, options(16));
    send(&mut client, NAME, 1);
    send(&mut client, NAME, 1);
    assert_eq!(received(&mut client), [pair(NAME, 0), pair(NAME, 0)]);
}
