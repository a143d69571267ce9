//! Messages to the client: window, queue, drops and expiry.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use mqtt::server::{
    DisconnectCause, Event, InflightEntry, InflightState, Misbehaviour, Options, Outgoing,
    PublishOutcome,
};
use mqtt::{
    Acknowledgement, Connect, ConnectProperties, Delivery, Message, MessageProperties, Packet,
    PacketId, Publish, QoS, ReasonCode, SubscriptionIdentifier,
};

use crate::client::{Client, message};
use crate::raw::*;

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn outgoing(message: &Arc<Message>, qos: QoS) -> Outgoing<'_> {
    Outgoing {
        message,
        qos,
        retain: false,
        message_expiry_interval: None,
        subscription_identifiers: &[],
    }
}

fn send(client: &mut Client, payload_bytes: usize, qos: QoS) -> PublishOutcome {
    client
        .connection
        .publish(client.now, outgoing(&message(payload_bytes), qos))
}

fn send_qos_1(client: &mut Client) -> PublishOutcome {
    send(client, 1, QoS::AtLeastOnce)
}

fn sent(number: u16) -> PublishOutcome {
    PublishOutcome::Sent {
        packet_id: Some(id(number)),
    }
}

fn acknowledge(client: &mut Client, number: u16) {
    client.send(&Packet::Puback(Acknowledgement::new(
        id(number),
        ReasonCode::Success,
    )));
}

/// The messages that the client has got since the last call.
fn publications(client: &mut Client) -> Vec<Publish> {
    client
        .received()
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn packet_ids(client: &mut Client) -> Vec<u16> {
    let publications = publications(client);
    publications
        .iter()
        .map(|publish| publish.delivery.packet_id().unwrap().get())
        .collect()
}

fn with_window(inflight_max: u16) -> Options {
    Options {
        inflight_max: NonZeroU16::new(inflight_max).unwrap(),
        ..Options::default()
    }
}

fn with_properties(properties: ConnectProperties) -> Client {
    let connect = Connect {
        properties,
        ..Connect::new(V5, string("c"))
    };
    Client::connected_with(connect, Options::default())
}

#[test]
fn a_message_arrives_with_what_is_its_own_and_what_is_this_delivery_s() {
    let message = Arc::new(Message {
        retain: true,
        properties: MessageProperties {
            message_expiry_interval: Some(100),
            content_type: Some(string("text")),
            ..MessageProperties::default()
        },
        ..(*message(3)).clone()
    });
    let identifiers = [4, 7].map(|number| SubscriptionIdentifier::new(number).unwrap());
    for version in VERSIONS {
        let mut client = Client::connected(version, Options::default());
        let outgoing = Outgoing {
            retain: true,
            message_expiry_interval: Some(60),
            subscription_identifiers: &identifiers,
            ..outgoing(&message, QoS::AtLeastOnce)
        };
        assert_eq!(client.connection.publish(client.now, outgoing), sent(1));
        let expected = Publish {
            delivery: Delivery::AtLeastOnce {
                packet_id: id(1),
                dup: false,
            },
            retain: true,
            topic: Some(message.topic.clone()),
            topic_alias: None,
            subscription_identifiers: identifiers.to_vec(),
            properties: MessageProperties {
                message_expiry_interval: Some(60),
                ..message.properties.clone()
            },
            payload: message.payload.clone(),
        };
        let expected = match version {
            V5 => expected,
            V311 => Publish {
                subscription_identifiers: vec![],
                properties: MessageProperties::default(),
                ..expected
            },
        };
        assert_eq!(publications(&mut client), [expected]);
    }
}

#[test]
fn the_qos_is_never_above_the_maximum() {
    let mut client = Client::connected(V5, Options::default());
    assert_eq!(send(&mut client, 1, QoS::ExactlyOnce), sent(1));
    let delivery = Delivery::AtLeastOnce {
        packet_id: id(1),
        dup: false,
    };
    assert_eq!(publications(&mut client)[0].delivery, delivery);
    let outcome = send(&mut client, 1, QoS::AtMostOnce);
    assert_eq!(outcome, PublishOutcome::Sent { packet_id: None });
}

#[test]
fn messages_beyond_the_window_wait_and_go_out_in_order() {
    let mut client = Client::connected(V5, with_window(2));
    assert_eq!([1, 2].map(|_| send_qos_1(&mut client)), [sent(1), sent(2)]);
    assert_eq!(
        [3, 4].map(|_| send_qos_1(&mut client)),
        [PublishOutcome::Queued; 2]
    );
    assert_eq!(
        (
            client.connection.inflight(),
            client.connection.queued_messages()
        ),
        (2, 2)
    );
    assert_eq!(packet_ids(&mut client), [1, 2]);

    acknowledge(&mut client, 2);
    let reason_code = ReasonCode::Success;
    assert_eq!(
        client.events(),
        [Event::Acknowledged {
            packet_id: id(2),
            reason_code
        }]
    );
    assert_eq!(packet_ids(&mut client), [3]);
    assert_eq!(
        send_qos_1(&mut client),
        PublishOutcome::Queued,
        "others wait already"
    );
    acknowledge(&mut client, 1);
    acknowledge(&mut client, 3);
    assert_eq!(packet_ids(&mut client), [4, 5]);
    assert_eq!(
        (
            client.connection.queued_messages(),
            client.connection.queued_bytes()
        ),
        (0, 0)
    );
}

#[test]
fn the_window_is_the_smaller_of_ours_and_the_client_s() {
    let receive_maximum = NonZeroU16::new(1);
    let mut client = with_properties(ConnectProperties {
        receive_maximum,
        ..ConnectProperties::default()
    });
    assert_eq!(send_qos_1(&mut client), sent(1));
    assert_eq!(send_qos_1(&mut client), PublishOutcome::Queued);
}

#[test]
fn an_acknowledgement_of_nothing_does_not_widen_the_window() {
    let mut client = Client::connected(V5, with_window(1));
    assert_eq!(send_qos_1(&mut client), sent(1));
    acknowledge(&mut client, 1);
    acknowledge(&mut client, 1);
    acknowledge(&mut client, 9);
    assert_eq!(client.events().len(), 1);
    assert_eq!(send_qos_1(&mut client), sent(2));
    assert_eq!(send_qos_1(&mut client), PublishOutcome::Queued);
}

#[test]
fn a_failed_acknowledgement_frees_its_place_too() {
    let mut client = Client::connected(V5, with_window(1));
    send_qos_1(&mut client);
    let reason_code = ReasonCode::QuotaExceeded;
    client.send(&Packet::Puback(Acknowledgement::new(id(1), reason_code)));
    assert_eq!(
        client.events(),
        [Event::Acknowledged {
            packet_id: id(1),
            reason_code
        }]
    );
    assert_eq!(send_qos_1(&mut client), sent(2));
}

#[test]
fn a_pubrec_for_qos_1_ends_the_connection() {
    for version in VERSIONS {
        let mut client = Client::connected(version, Options::default());
        send_qos_1(&mut client);
        client.send(&Packet::Pubrec(Acknowledgement::new(
            id(1),
            ReasonCode::Success,
        )));
        let cause = Misbehaviour::PubrecForQos1 { packet_id: id(1) };
        assert_eq!(client.cause(), DisconnectCause::Misbehaved(cause));
    }
}

#[test]
fn packet_identifiers_in_use_are_passed_over() {
    let mut client = Client::connected(V5, with_window(2));
    assert_eq!(send_qos_1(&mut client), sent(1), "is never acknowledged");
    for number in 2..=u16::MAX {
        assert_eq!(send_qos_1(&mut client), sent(number));
        acknowledge(&mut client, number);
        client.events();
        client.received();
    }
    assert_eq!(send_qos_1(&mut client), sent(2), "neither 0 nor 1");
}

#[test]
fn what_exceeds_the_client_s_maximum_packet_size_is_dropped() {
    // Two bytes of header, three of topic name, two of identifier, one of property length.
    let maximum_packet_size = NonZeroU32::new(20 + 8);
    let mut client = with_properties(ConnectProperties {
        maximum_packet_size,
        ..ConnectProperties::default()
    });
    assert_eq!(send(&mut client, 20, QoS::AtLeastOnce), sent(1));
    assert_eq!(
        send(&mut client, 21, QoS::AtLeastOnce),
        PublishOutcome::DroppedTooLarge
    );
    let outcome = send(&mut client, 22, QoS::AtMostOnce);
    assert_eq!(outcome, PublishOutcome::Sent { packet_id: None });
    assert_eq!(
        send(&mut client, 23, QoS::AtMostOnce),
        PublishOutcome::DroppedTooLarge
    );
}

#[test]
fn qos_0_is_dropped_and_qos_1_waits_while_the_client_does_not_read() {
    let options = Options {
        transmit_bytes_max: 1_000,
        ..Options::default()
    };
    let mut client = Client::connected(V5, options);
    assert!(matches!(
        send(&mut client, 900, QoS::AtMostOnce),
        PublishOutcome::Sent { .. }
    ));
    assert_eq!(
        send(&mut client, 100, QoS::AtMostOnce),
        PublishOutcome::DroppedFull
    );
    assert_eq!(
        send(&mut client, 100, QoS::AtLeastOnce),
        PublishOutcome::Queued
    );
    assert!(client.connection.transmit_bytes() <= 1_000);
    assert!(
        client.connection.wants_read(),
        "messages alone do not stop reading"
    );

    let sizes: Vec<_> = publications(&mut client)
        .iter()
        .map(|p| p.payload.len())
        .collect();
    assert_eq!(sizes, [900, 100], "sent when there was room");
}

#[test]
fn nothing_overtakes_a_message_that_waits() {
    let options = Options {
        transmit_bytes_max: 1_000,
        ..Options::default()
    };
    let mut client = Client::connected(V5, options);
    send(&mut client, 900, QoS::AtMostOnce);
    assert_eq!(
        send(&mut client, 200, QoS::AtLeastOnce),
        PublishOutcome::Queued
    );
    // There is room and a place, but the machine was not told yet.
    while client.connection.poll_transmit().is_some() {}
    assert_eq!(
        send(&mut client, 100, QoS::AtLeastOnce),
        PublishOutcome::Queued
    );
    let sizes: Vec<_> = publications(&mut client)
        .iter()
        .map(|p| p.payload.len())
        .collect();
    assert_eq!(sizes, [200, 100]);
}

#[test]
fn a_message_larger_than_the_buffer_is_sent_when_that_is_empty() {
    let options = Options {
        transmit_bytes_max: 1_000,
        ..Options::default()
    };
    let mut client = Client::connected(V5, options);
    assert_eq!(send(&mut client, 5_000, QoS::AtLeastOnce), sent(1));
    assert_eq!(
        send(&mut client, 5_000, QoS::AtLeastOnce),
        PublishOutcome::Queued
    );
    assert_eq!(packet_ids(&mut client), [1, 2]);
}

#[test]
fn the_queue_is_bounded_in_messages_and_in_bytes() {
    let options = Options {
        queue_messages_max: 3,
        queue_bytes_max: 250,
        ..with_window(1)
    };
    let mut client = Client::connected(V5, options.clone());
    send_qos_1(&mut client);
    for _ in 0..3 {
        assert_eq!(
            send(&mut client, 10, QoS::AtLeastOnce),
            PublishOutcome::Queued
        );
    }
    assert_eq!(
        send(&mut client, 10, QoS::AtLeastOnce),
        PublishOutcome::Overflow
    );

    let mut client = Client::connected(V5, options);
    send_qos_1(&mut client);
    assert_eq!(
        send(&mut client, 1_000, QoS::AtLeastOnce),
        PublishOutcome::Queued,
        "one always"
    );
    assert_eq!(client.connection.queued_bytes(), 1_000 + 3 + 3 + 2 + 1);
    assert_eq!(
        send(&mut client, 1, QoS::AtLeastOnce),
        PublishOutcome::Overflow
    );
    assert_eq!(client.connection.queued_messages(), 1);
}

#[test]
fn time_in_the_queue_counts_towards_expiry() {
    for (waited_ms, left) in [(10_000, [2, 90]), (10_001, [2, 90]), (11_000, [1, 89])] {
        let mut client = Client::connected(V5, with_window(2));
        send_qos_1(&mut client);
        send_qos_1(&mut client);
        let message = message(1);
        for interval in [5, 10, 12, 100] {
            let outgoing = Outgoing {
                message_expiry_interval: Some(interval),
                ..outgoing(&message, QoS::AtLeastOnce)
            };
            let outcome = client.connection.publish(client.now, outgoing);
            assert_eq!(outcome, PublishOutcome::Queued);
        }
        client.received();
        client.pass(Duration::from_millis(waited_ms));
        acknowledge(&mut client, 1);
        acknowledge(&mut client, 2);
        assert!(client.events().contains(&Event::Expired { messages: 2 }));
        let publications = publications(&mut client);
        let intervals: Vec<_> = publications
            .iter()
            .map(|p| p.properties.message_expiry_interval)
            .collect();
        assert_eq!(intervals, left.map(Some), "after {waited_ms} ms");
    }
}

#[test]
fn large_payloads_are_handed_out_without_a_copy() {
    let mut client = Client::connected(V5, Options::default());
    let message = message(10_000);
    client
        .connection
        .publish(client.now, outgoing(&message, QoS::AtLeastOnce));
    let chunks: Vec<_> = std::iter::from_fn(|| client.connection.poll_transmit()).collect();
    assert_eq!(chunks.len(), 2);
    assert_eq!(chunks[1].as_ptr(), message.payload.as_ptr());
}

#[test]
fn small_messages_make_one_chunk() {
    let mut client = Client::connected(V5, Options::default());
    for _ in 0..10 {
        send_qos_1(&mut client);
    }
    assert!(client.connection.poll_transmit().is_some());
    assert_eq!(client.connection.poll_transmit(), None);
}

#[test]
fn only_what_was_sent_is_left_after_the_end() {
    let mut client = Client::connected(V5, with_window(1));
    send_qos_1(&mut client);
    send_qos_1(&mut client);
    client.connection.disconnect(ReasonCode::QuotaExceeded);
    assert_eq!(
        (
            client.connection.inflight(),
            client.connection.queued_bytes()
        ),
        (1, 0)
    );
    let sent = InflightEntry {
        packet_id: id(1),
        state: InflightState::AwaitsPuback,
    };
    assert_eq!(client.connection.take_inflight(), [sent]);
    assert_eq!(client.connection.take_inflight(), []);
    assert_eq!(send_qos_1(&mut client), PublishOutcome::NotConnected);
}
