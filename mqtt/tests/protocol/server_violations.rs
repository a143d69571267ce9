//! What a client must not send, and what it is told.

use std::num::NonZeroU16;

use mqtt::server::{DisconnectCause, Event, Misbehaviour, Options};
use mqtt::{
    Acknowledgement, Auth, Connect, Delivery, Packet, PacketId, PacketType, ProblemInformation,
    Publish, QoS, ReasonCode, Suback, SubscriptionIdentifier, TopicAlias, Unsuback,
};

use crate::client::{Client, publish, topic};
use crate::raw::*;

#[test]
fn an_mqtt_5_client_is_told_when_it_exceeds_receive_maximum() {
    let options = Options {
        receive_maximum: NonZeroU16::new(2).unwrap(),
        ..Options::default()
    };
    let mut client = Client::connected(V5, options);
    let first = client.publish(1);
    client.publish(2);
    client.complete(first, ReasonCode::Success);
    client.publish(3);
    client.received();
    let expected = Misbehaviour::ReceiveMaximumExceeded { maximum: 2 };
    client.assert_misbehaved(&publish(4), expected);
}

#[test]
fn a_qos_above_the_maximum_ends_the_connection() {
    let packet_id = PacketId::new(1).unwrap();
    let Packet::Publish(qos_1) = publish(1) else {
        panic!()
    };
    let delivery = Delivery::ExactlyOnce {
        packet_id,
        dup: false,
    };
    let qos_2 = Packet::Publish(Publish { delivery, ..qos_1 });
    for version in VERSIONS {
        let client = Client::connected(version, Options::default());
        let expected = Misbehaviour::QosNotServed {
            qos: QoS::ExactlyOnce,
        };
        assert_eq!(expected.reason_code(), ReasonCode::QosNotSupported);
        client.assert_misbehaved(&qos_2, expected);

        let options = Options {
            maximum_qos: QoS::AtMostOnce,
            ..Options::default()
        };
        let client = Client::connected(version, options);
        client.assert_misbehaved(
            &publish(1),
            Misbehaviour::QosNotServed {
                qos: QoS::AtLeastOnce,
            },
        );
    }
}

#[test]
fn packets_that_a_client_must_not_send_end_the_connection() {
    let packet_id = PacketId::new(1).unwrap();
    let problem = ProblemInformation::default();
    let reason_codes = vec![ReasonCode::Success];
    let unexpected = |packet| Misbehaviour::UnexpectedPacket { packet };
    for version in VERSIONS {
        let connect = Connect::new(version, string("c"));
        let suback = Suback {
            packet_id,
            reason_codes: reason_codes.clone(),
            problem: problem.clone(),
        };
        let unsuback = Unsuback {
            packet_id,
            reason_codes: reason_codes.clone(),
            problem: problem.clone(),
        };
        for (packet, expected) in [
            (
                Packet::Connect(Box::new(connect)),
                Misbehaviour::SecondConnect,
            ),
            (
                Packet::Connack(Box::default()),
                unexpected(PacketType::Connack),
            ),
            (Packet::Suback(suback), unexpected(PacketType::Suback)),
            (Packet::Unsuback(unsuback), unexpected(PacketType::Unsuback)),
            (Packet::Pingresp, unexpected(PacketType::Pingresp)),
        ] {
            let client = Client::connected(version, Options::default());
            client.assert_misbehaved(&packet, expected);
        }
    }
    for auth in [
        Auth::default(),
        Auth {
            authentication_method: Some(string("SCRAM")),
            ..Auth::default()
        },
    ] {
        let client = Client::connected(V5, Options::default());
        client.assert_misbehaved(&Packet::Auth(auth), Misbehaviour::AuthUnexpected);
    }
}

#[test]
fn a_subscription_identifier_from_a_client_ends_the_connection() {
    let Packet::Publish(plain) = publish(1) else {
        panic!()
    };
    let subscription_identifiers = vec![SubscriptionIdentifier::new(1).unwrap()];
    let packet = Packet::Publish(Publish {
        subscription_identifiers,
        ..plain
    });
    let client = Client::connected(V5, Options::default());
    client.assert_misbehaved(&packet, Misbehaviour::SubscriptionIdentifierFromClient);
}

#[test]
fn acknowledgements_of_qos_2_for_unknown_identifiers_are_answered_as_the_standard_says() {
    let packet_id = PacketId::new(9).unwrap();
    let acknowledgement = |code| Acknowledgement::new(packet_id, code);
    let success = acknowledgement(ReasonCode::Success);
    let not_found = acknowledgement(ReasonCode::PacketIdentifierNotFound);
    for (version, answer) in [(V311, success.clone()), (V5, not_found)] {
        for (packet, expected) in [
            (
                Packet::Pubrec(success.clone()),
                vec![Packet::Pubrel(answer.clone())],
            ),
            (Packet::Pubcomp(success.clone()), vec![]),
            (Packet::Puback(success.clone()), vec![]),
        ] {
            let mut client = Client::connected(version, Options::default());
            client.send(&packet);
            assert_eq!(client.received(), expected, "{version}");
            assert_eq!(client.events(), []);
        }
    }
    let mut client = Client::connected(V5, Options::default());
    client.send(&Packet::Pubrec(acknowledgement(
        ReasonCode::UnspecifiedError,
    )));
    assert_eq!(client.received(), [], "a failed PUBREC is the end of it");
}

#[test]
fn topic_aliases_stand_for_what_they_were_set_to() {
    let Packet::Publish(plain) = publish(1) else {
        panic!()
    };
    let aliased = |name: Option<&str>, alias| {
        let (topic, topic_alias) = (name.map(topic), TopicAlias::new(alias));
        let delivery = Delivery::AtMostOnce;
        Packet::Publish(Publish {
            delivery,
            topic,
            topic_alias,
            ..plain.clone()
        })
    };
    let connected = || {
        Client::connected(
            V5,
            Options {
                topic_alias_maximum: 2,
                ..Options::default()
            },
        )
    };
    let mut client = connected();
    let mut topic_of = |packet| {
        client.send(&packet);
        match &client.events()[..] {
            [Event::Publish { message, .. }] => message.topic.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(topic_of(aliased(Some("a"), 1)), "a");
    assert_eq!(topic_of(aliased(Some("b"), 2)), "b");
    assert_eq!(topic_of(aliased(None, 1)), "a");
    assert_eq!(topic_of(aliased(Some("c"), 1)), "c");
    assert_eq!(topic_of(aliased(None, 1)), "c");
    assert_eq!(topic_of(aliased(None, 2)), "b");

    connected().assert_misbehaved(&aliased(None, 1), Misbehaviour::TopicAliasUnknown);
    let above = |maximum, alias| Misbehaviour::TopicAliasInvalid {
        alias: TopicAlias::new(alias).unwrap(),
        maximum,
    };
    assert_eq!(above(2, 3).reason_code(), ReasonCode::TopicAliasInvalid);
    connected().assert_misbehaved(&aliased(Some("a"), 3), above(2, 3));
    let none = Client::connected(V5, Options::default());
    none.assert_misbehaved(&aliased(Some("a"), 1), above(0, 1));
}

#[test]
fn a_malformed_packet_ends_the_connection_after_what_came_before_it() {
    for (version, told) in [(V311, None), (V5, Some(ReasonCode::MalformedPacket))] {
        let mut client = Client::connected(version, Options::default());
        client.send_bytes(&[&encoded(version, &publish(1))[..], &[0xc1, 0]].concat());
        assert!(matches!(
            client.connection.poll_event(),
            Some(Event::Publish { .. })
        ));
        assert_eq!(client.told(), told);
        assert!(matches!(client.cause(), DisconnectCause::Invalid(_)));
    }
}

#[test]
fn a_packet_above_the_limit_ends_the_connection_from_its_header() {
    let mut client = Client::connected(V5, Options::default());
    client.send_bytes(&[0x30, 0x80, 0x80, 0x10]);
    assert_eq!(client.told(), Some(ReasonCode::PacketTooLarge));
}
