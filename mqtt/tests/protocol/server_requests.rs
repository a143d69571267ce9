//! SUBSCRIBE and UNSUBSCRIBE, and the driver's answers.

use std::num::NonZeroU32;

use mqtt::server::{CompleteError, DisconnectCause, Event, Options};
use mqtt::{
    Connect, ConnectProperties, Packet, PacketId, PacketType, ProblemInformation, ProtocolVersion,
    QoS, ReasonCode, Suback, Subscribe, Subscription, SubscriptionIdentifier, SubscriptionOptions,
    Unsuback, Unsubscribe,
};

use crate::client::Client;
use crate::raw::*;

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn subscription(filter: &str) -> Subscription {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..SubscriptionOptions::default()
    };
    Subscription {
        filter: filter.parse().unwrap(),
        options,
    }
}

fn subscribe(packet_id: u16, filters: &[&str]) -> Subscribe {
    Subscribe {
        packet_id: id(packet_id),
        subscriptions: filters.iter().map(|filter| subscription(filter)).collect(),
        subscription_identifier: None,
        user_properties: Vec::new(),
    }
}

fn unsubscribe(packet_id: u16, filters: &[&str]) -> Packet {
    let filters = filters
        .iter()
        .map(|filter| filter.parse().unwrap())
        .collect();
    Packet::Unsubscribe(Unsubscribe {
        packet_id: id(packet_id),
        filters,
        user_properties: vec![],
    })
}

fn suback(packet_id: u16, reason_codes: &[ReasonCode]) -> Packet {
    let (reason_codes, problem) = (reason_codes.to_vec(), ProblemInformation::default());
    Packet::Suback(Suback {
        packet_id: id(packet_id),
        reason_codes,
        problem,
    })
}

fn connected(version: ProtocolVersion) -> Client {
    Client::connected(version, Options::default())
}

#[test]
fn a_subscribe_is_answered_with_a_code_for_each_filter() {
    let granted = Options::default().maximum_qos.min(QoS::ExactlyOnce);
    let codes = [ReasonCode::granted(granted), ReasonCode::NotAuthorized];
    for (version, refused) in [
        (V311, ReasonCode::UnspecifiedError),
        (V5, ReasonCode::NotAuthorized),
    ] {
        let mut client = connected(version);
        client.send(&Packet::Subscribe(subscribe(5, &["a", "$share/g/b"])));
        let events = client.events();
        let [
            Event::Subscribe {
                ticket,
                subscriptions,
                ..
            },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!(
            subscriptions[..],
            [subscription("a"), subscription("$share/g/b")]
        );
        client
            .connection
            .complete_subscribe(client.now, *ticket, codes.to_vec())
            .unwrap();
        assert_eq!(
            client.received(),
            [suback(5, &[ReasonCode::GrantedQos1, refused])]
        );
    }
}

#[test]
fn a_subscription_identifier_comes_with_the_event() {
    let mut client = connected(V5);
    let subscription_identifier = SubscriptionIdentifier::new(77);
    client.send(&Packet::Subscribe(Subscribe {
        subscription_identifier,
        ..subscribe(5, &["a"])
    }));
    let events = client.events();
    let [
        Event::Subscribe {
            subscription_identifier: read,
            ..
        },
    ] = events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(read, subscription_identifier);
}

#[test]
fn an_unsubscribe_is_answered_with_codes_in_mqtt_5() {
    for version in VERSIONS {
        let mut client = connected(version);
        client.send(&unsubscribe(6, &["a", "b"]));
        let events = client.events();
        let [
            Event::Unsubscribe {
                ticket, filters, ..
            },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!(filters.len(), 2);
        let codes = vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
        let now = client.now;
        client
            .connection
            .complete_unsubscribe(now, *ticket, codes.clone())
            .unwrap();
        let reason_codes = if version == V5 { codes } else { vec![] };
        let problem = ProblemInformation::default();
        let expected = Unsuback {
            packet_id: id(6),
            reason_codes,
            problem,
        };
        assert_eq!(client.received(), [Packet::Unsuback(expected)]);
    }
}

#[test]
fn requests_may_be_answered_in_any_order() {
    let mut client = connected(V5);
    let tickets = [1, 2, 3].map(|number| {
        client.send(&Packet::Subscribe(subscribe(number, &["a"])));
        match client.events()[..] {
            [Event::Subscribe { ticket, .. }] => ticket,
            _ => panic!(),
        }
    });
    for ticket in [tickets[1], tickets[2], tickets[0]] {
        let codes = vec![ReasonCode::Success];
        client
            .connection
            .complete_subscribe(client.now, ticket, codes)
            .unwrap();
    }
    let expected = [2, 3, 1].map(|number| suback(number, &[ReasonCode::Success]));
    assert_eq!(client.received(), expected);
}

#[test]
fn an_answer_that_does_not_fit_is_refused_and_may_be_given_again() {
    let mut client = connected(V5);
    client.send(&Packet::Subscribe(subscribe(1, &["a", "b"])));
    let [Event::Subscribe { ticket, .. }] = client.events()[..] else {
        panic!()
    };
    let packet = PacketType::Suback;
    let now = client.now;
    let mut complete = |codes: &[ReasonCode]| {
        client
            .connection
            .complete_subscribe(now, ticket, codes.to_vec())
    };
    let success = ReasonCode::Success;
    let count = CompleteError::Count {
        packet,
        codes: 1,
        filters: 2,
    };
    assert_eq!(complete(&[success]), Err(count));
    let reason_code = ReasonCode::NoSubscriptionExisted;
    let code = CompleteError::ReasonCode {
        packet,
        reason_code,
    };
    assert_eq!(complete(&[success, reason_code]), Err(code));
    assert_eq!(complete(&[success, success]), Ok(()));
    assert_eq!(
        complete(&[success, success]),
        Err(CompleteError::UnknownTicket { packet })
    );
    assert_eq!(client.received(), [suback(1, &[success, success])]);
}

#[test]
fn reading_stops_while_too_many_requests_wait() {
    let mut client = connected(V311);
    for number in 1..=20 {
        client.send(&Packet::Subscribe(subscribe(number, &["a"])));
    }
    let events = client.events();
    assert_eq!(events.len(), 16);
    assert!(!client.connection.wants_read());
    let Event::Subscribe { ticket, .. } = events[0] else {
        panic!()
    };
    let codes = vec![ReasonCode::Success];
    client
        .connection
        .complete_subscribe(client.now, ticket, codes)
        .unwrap();
    client
        .connection
        .handle_bytes(client.now, &mut client.input);
    assert_eq!(client.events().len(), 1);
}

#[test]
fn an_answer_that_the_client_has_no_room_for_ends_the_connection() {
    let properties = ConnectProperties {
        maximum_packet_size: NonZeroU32::new(30),
        ..ConnectProperties::default()
    };
    let connect = Connect {
        properties,
        ..Connect::new(V5, string("c"))
    };
    let mut client = Client::connected_with(connect, Options::default());
    client.send(&Packet::Subscribe(subscribe(1, &["a"; 26])));
    let [Event::Subscribe { ticket, .. }] = client.events()[..] else {
        panic!()
    };
    let codes = vec![ReasonCode::Success; 26];
    client
        .connection
        .complete_subscribe(client.now, ticket, codes)
        .unwrap();
    assert_eq!(client.told(), Some(ReasonCode::PacketTooLarge));
    let packet = PacketType::Suback;
    assert_eq!(client.cause(), DisconnectCause::Unanswerable { packet });
}
