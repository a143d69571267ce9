//! What a client sends after CONNACK, and what it must not send.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use mqtt::server::{CompleteError, Event, Options, Reason};
use mqtt::{
    Connect, ConnectProperties, Message, MessageProperties, Packet, PacketType, QoS, ReasonCode,
};

use crate::client::{Client, pubacks, publish, publish_with, topic};
use crate::raw::*;

#[test]
fn a_message_of_qos_0_comes_without_ticket() {
    for version in VERSIONS {
        let mut client = Client::connected(version, Options::default());
        client.send_bytes(&packet(
            0x31,
            &[&text("a/b"), no_properties(version), b"hello"],
        ));
        let message = Message {
            topic: topic("a/b"),
            payload: Bytes::from_static(b"hello"),
            qos: QoS::AtMostOnce,
            retain: true,
            properties: MessageProperties::default(),
        };
        assert_eq!(
            client.events(),
            [Event::Publish {
                ticket: None,
                packet_id: None,
                dup: false,
                message
            }]
        );
        assert_eq!(client.received(), []);
    }
}

#[test]
fn pubacks_leave_in_the_order_of_the_publications() {
    for version in VERSIONS {
        let mut client = Client::connected(version, Options::default());
        let [first, second, third] = [7, 3, 5].map(|id| client.publish(id));
        client.complete(third, ReasonCode::Success);
        client.complete(second, ReasonCode::Success);
        assert_eq!(client.received(), [], "nothing overtakes the first");
        assert_eq!(client.connection.pending_publishes(), 3);
        client.complete(first, ReasonCode::Success);
        let success = |id| (id, ReasonCode::Success);
        assert_eq!(pubacks(&client.received()), [7, 3, 5].map(success));
        assert_eq!(client.connection.pending_publishes(), 0);
    }
}

#[test]
fn a_refused_publication_waits_for_its_place() {
    let mut client = Client::connected(V5, Options::default());
    let [first, second, third] = [1, 2, 3].map(|id| client.publish(id));
    client.complete(second, ReasonCode::QuotaExceeded);
    client.complete(first, ReasonCode::NoMatchingSubscribers);
    let expected = [
        (1, ReasonCode::NoMatchingSubscribers),
        (2, ReasonCode::QuotaExceeded),
    ];
    assert_eq!(pubacks(&client.received()), expected);
    client.complete(third, ReasonCode::NotAuthorized);
    assert_eq!(
        pubacks(&client.received()),
        [(3, ReasonCode::NotAuthorized)]
    );
}

#[test]
fn a_publication_is_completed_once_and_with_a_code_that_the_client_understands() {
    let packet = PacketType::Puback;
    let reason_code = ReasonCode::QuotaExceeded;
    let mut client = Client::connected(V311, Options::default());
    let ticket = client.publish(1);
    let mut complete = |code| client.connection.complete_publish(client.now, ticket, code);
    assert_eq!(
        complete(reason_code),
        Err(CompleteError::Negative {
            packet,
            reason_code
        })
    );
    let reason_code = ReasonCode::SessionTakenOver;
    assert_eq!(
        complete(reason_code),
        Err(CompleteError::ReasonCode {
            packet,
            reason_code
        })
    );
    assert_eq!(complete(ReasonCode::NoMatchingSubscribers), Ok(()));
    assert_eq!(
        complete(ReasonCode::Success),
        Err(CompleteError::UnknownTicket { packet })
    );
    assert_eq!(
        client.connection.poll_transmit().unwrap()[..],
        [0x40, 2, 0, 1]
    );
}

#[test]
fn a_3_1_1_client_is_not_read_from_when_it_reaches_receive_maximum() {
    let options = Options {
        receive_maximum: NonZeroU16::new(2).unwrap(),
        ..Options::default()
    };
    let mut client = Client::connected(V311, options);
    let bytes = [1, 2, 3].map(|id| encoded(V311, &publish(id))).concat();
    client.send_bytes(&bytes);
    let events = client.events();
    let [
        Event::Publish {
            ticket: Some(first),
            ..
        },
        Event::Publish { .. },
    ] = events[..]
    else {
        panic!("{events:?}");
    };
    assert!(!client.connection.wants_read());
    assert_eq!(
        client.input.len(),
        bytes.len() / 3,
        "the third is left where it is"
    );

    client.complete(first, ReasonCode::Success);
    assert!(client.connection.wants_read());
    client
        .connection
        .handle_bytes(client.now, &mut client.input);
    assert_eq!(client.events().len(), 1);
}

#[test]
fn reason_strings_are_left_out_for_a_client_that_does_not_want_them() {
    for (wanted, has_string) in [(None, true), (Some(true), true), (Some(false), false)] {
        let properties = ConnectProperties {
            request_problem_information: wanted,
            ..ConnectProperties::default()
        };
        let connect = Connect {
            properties,
            ..Connect::new(V5, string("c"))
        };
        let mut client = Client::connected_with(connect, Options::default());
        let ticket = client.publish(1);
        let reason = || Reason {
            code: ReasonCode::QuotaExceeded,
            string: Some(string("log is full")),
        };
        client
            .connection
            .complete_publish(client.now, ticket, reason())
            .unwrap();
        client.connection.disconnect(reason());
        let received = client.received();
        let [Packet::Puback(puback), Packet::Disconnect(disconnect)] = &received[..] else {
            panic!("{received:?}");
        };
        assert_eq!(puback.problem.reason_string.is_some(), has_string);
        assert!(
            disconnect.problem.reason_string.is_some(),
            "DISCONNECT may always have it"
        );
    }
}

#[test]
fn a_detached_message_does_not_keep_the_read_buffer() {
    let properties = section(&[
        &[&[0x03], &text("text")[..]].concat(),
        &[&[0x08], &text("re")[..]].concat(),
        &[&[0x09], &text("id")[..]].concat(),
        &[&[0x26], &text("k")[..], &text("v")].concat(),
    ]);
    let mut client = Client::connected(V5, Options::default());
    client.input = BytesMut::with_capacity(4_096);
    client.send_bytes(&packet(0x30, &[&text("t"), &properties, b"hello"]));
    let Some(Event::Publish { message, .. }) = client.connection.poll_event() else {
        panic!("no message");
    };
    let detached = message.detach();
    assert_eq!(detached, message);
    assert!(
        !client.input.try_reclaim(4_096),
        "the message itself is a slice of it"
    );
    drop(message);
    assert!(client.input.try_reclaim(4_096), "the copy still is");
}

#[test]
fn events_wait_in_a_bounded_queue() {
    let mut client = Client::connected(V5, Options::default());
    let publications = packet(0x30, &[&text("t"), &[0], b"x"]).repeat(100);
    client.send_bytes(&publications);
    assert!(!client.connection.wants_read());
    let first = std::iter::from_fn(|| client.connection.poll_event()).count();
    assert_eq!(first, 16);
    assert!(client.connection.wants_read());
    client
        .connection
        .handle_bytes(client.now, &mut client.input);
    assert_eq!(first + client.events().len(), 100);
}

#[test]
fn payloads_of_a_connection_are_not_mixed_up() {
    let mut client = Client::connected(V311, Options::default());
    for (id, payload) in [(1, &b"one"[..]), (2, b"two"), (3, b"")] {
        client.send(&publish_with(id, payload));
        let events = client.events();
        let [Event::Publish { message, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(message.payload, payload);
    }
}
