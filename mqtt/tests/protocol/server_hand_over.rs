//! Deliveries that are not over when a connection ends, and how the next one goes on with them.

use std::num::NonZeroU32;

use mqtt::server::InflightState::*;
use mqtt::server::{Accept, PublishOutcome};
use mqtt::{Connect, ConnectProperties, Delivery, Packet};

use crate::client::{Client, exactly_once, id};
use crate::raw::*;
use crate::server_qos_2_outbound::*;

#[test]
fn what_is_not_over_can_be_taken_in_the_order_of_sending() {
    for version in VERSIONS {
        let mut client = Client::connected(version, exactly_once());
        for _ in 1..=5 {
            send_qos_2(&mut client);
        }
        assert_eq!(send_qos_1(&mut client), sent(6));
        reserve(&mut client);
        for number in [5, 4, 3, 1] {
            says(&mut client, PUBREC, number);
        }
        for number in [1, 4, 5] {
            assert!(release(&mut client, number));
        }
        says(&mut client, PUBCOMP, 5);
        client.connection.handle_end_of_stream();
        assert!(
            release(&mut client, 3),
            "durable too late for this connection"
        );
        assert_eq!(client.connection.reserve(), None);
        let entries = client.connection.take_inflight();
        let taken: Vec<_> = entries
            .iter()
            .map(|entry| (entry.packet_id.get(), entry.state))
            .collect();
        assert_eq!(
            taken,
            [
                (1, AwaitsPubcomp),
                (2, AwaitsPubrec),
                (3, AwaitsPubcomp),
                (4, AwaitsPubcomp),
                (6, AwaitsPuback),
                (7, AwaitsPubrec),
            ]
        );
    }
}

#[test]
fn a_session_goes_on_before_anything_new_is_sent() {
    for version in VERSIONS {
        let left = entries(&[AwaitsPubcomp, AwaitsPubrec, OwesPubrel, AwaitsPuback]);
        let mut client = resumed(plain(version), with_window(8), &left);
        assert_eq!(client.connection.inflight(), 4);
        assert_eq!(send_qos_1(&mut client), PublishOutcome::Queued);
        assert!(release(&mut client, 1));
        assert_eq!(
            resend(&mut client, 1, 1),
            PublishOutcome::NotReserved,
            "PUBLISH is past"
        );
        assert_eq!(resend(&mut client, 2, 1), sent(2));
        assert!(release(&mut client, 3));
        assert_eq!(client.connection.free_places(), 0);
        assert_eq!(client.connection.reserve(), None);
        assert_eq!(resend(&mut client, 4, 1), sent(4));
        assert_eq!(
            resend(&mut client, 4, 1),
            PublishOutcome::NotReserved,
            "once"
        );

        let packets = client.received();
        let deliveries = packets.iter().filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(publish.delivery),
            _ => None,
        });
        let deliveries: Vec<_> = deliveries.collect();
        let exactly_once = |dup| Delivery::ExactlyOnce {
            packet_id: id(2),
            dup,
        };
        let at_least_once = |number, dup| {
            let packet_id = id(number);
            Delivery::AtLeastOnce { packet_id, dup }
        };
        let expected = [
            exactly_once(true),
            at_least_once(4, true),
            at_least_once(5, false),
        ];
        assert_eq!(deliveries, expected);
        let pubrels = packets.iter().filter_map(|packet| match packet {
            Packet::Pubrel(pubrel) => Some(pubrel.packet_id.get()),
            _ => None,
        });
        assert_eq!(pubrels.collect::<Vec<_>>(), [1, 3]);
        assert_eq!(client.connection.free_places(), 3);
        assert_eq!(
            reserve(&mut client),
            id(6),
            "identifiers in use are passed over"
        );
    }
}

#[test]
fn a_forgotten_message_of_qos_2_is_released_so_that_its_identifier_can_be_used_again() {
    for version in VERSIONS {
        let left = entries(&[AwaitsPuback, AwaitsPubrec, AwaitsPubcomp]);
        let mut client = resumed(plain(version), exactly_once(), &left);
        let forget = |client: &mut Client, number| client.connection.forget(client.now, id(number));
        assert!(forget(&mut client, 1) && forget(&mut client, 2));
        assert!(!forget(&mut client, 3) && !forget(&mut client, 9));
        assert_eq!(received(&mut client), [(PUBREL, 2)]);
        assert_eq!(client.connection.inflight(), 2, "QoS 1 is over at once");
        says(&mut client, PUBCOMP, 2);
        assert_eq!(client.events(), [acknowledged(2)]);
        assert_eq!(client.connection.inflight(), 1);
    }
}

#[test]
fn no_more_is_resent_than_the_new_window_has_places() {
    for version in VERSIONS {
        let left = entries(&[AwaitsPubrec, AwaitsPubcomp, AwaitsPubrec, AwaitsPuback]);
        let mut client = resumed(plain(version), with_window(2), &left);
        assert!(release(&mut client, 2), "a PUBREL needs no place");
        assert_eq!(resend(&mut client, 1, 1), sent(1));
        assert_eq!(resend(&mut client, 3, 1), PublishOutcome::NoRoom);
        says(&mut client, PUBCOMP, 2);
        assert_eq!(resend(&mut client, 3, 1), sent(3));
        assert_eq!(resend(&mut client, 4, 1), PublishOutcome::NoRoom);
        says(&mut client, PUBREC, 1);
        release(&mut client, 1);
        assert_eq!(resend(&mut client, 4, 1), PublishOutcome::NoRoom);
        says(&mut client, PUBCOMP, 1);
        assert_eq!(resend(&mut client, 4, 1), sent(4));
        assert_eq!(client.connection.free_places(), 0);
        says(&mut client, PUBACK, 4);
        assert_eq!(client.connection.free_places(), 1);
    }
}

/// A driver that has not yet learnt that an identifier is free would take its acknowledgement for
/// that of the next message.
#[test]
fn new_identifiers_follow_those_that_were_handed_over() {
    let mut left = entries(&[AwaitsPubcomp, AwaitsPubrec]);
    for (entry, number) in left.iter_mut().zip([65_535, 1]) {
        entry.packet_id = id(number);
    }
    let mut client = resumed(plain(V5), exactly_once(), &left);
    release(&mut client, 65_535);
    assert_eq!(resend(&mut client, 1, 1), sent(1));
    says(&mut client, PUBCOMP, 65_535);
    says(&mut client, PUBREC, 1);
    release(&mut client, 1);
    says(&mut client, PUBCOMP, 1);
    assert_eq!(client.connection.inflight(), 0);
    assert_eq!(reserve(&mut client), id(2));
}

#[test]
fn what_is_handed_over_survives_a_connection_that_is_not_accepted() {
    let left = entries(&[AwaitsPubrec]);
    let properties = ConnectProperties {
        maximum_packet_size: NonZeroU32::new(5),
        ..ConnectProperties::default()
    };
    let connect = Connect {
        properties,
        ..plain(V5)
    };
    let mut client = Client::new(V5, exactly_once());
    client.send(&Packet::Connect(Box::new(connect)));
    client.events();
    let inflight = left.clone();
    let accept = Accept {
        inflight,
        ..Accept::default()
    };
    client.connection.accept(client.now, accept).unwrap();
    assert!(client.connection.is_closed());
    assert_eq!(client.connection.take_inflight(), left);
}
