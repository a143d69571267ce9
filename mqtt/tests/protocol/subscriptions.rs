//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK as raw bytes.

use bytes::BytesMut;
use mqtt::codec::{EncodeError, InvalidPacket, Limits, decode};
use mqtt::{
    Packet, PacketId, PacketType, ProblemInformation, ProtocolVersion, QoS, ReasonCode,
    RetainHandling, Suback, Subscribe, Subscription, SubscriptionIdentifier, SubscriptionOptions,
    TopicFilterError, Unsuback, Unsubscribe,
};

use crate::raw::*;

const ID: [u8; 2] = [0, 9];

fn id() -> PacketId {
    PacketId::new(9).unwrap()
}

fn subscribe(version: ProtocolVersion, filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> = filters
        .iter()
        .flat_map(|(filter, options)| [text(filter), vec![*options]].concat())
        .collect();
    packet(0x82, &[&ID, no_properties(version), &filters])
}

fn unsubscribe(version: ProtocolVersion, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| text(filter)).collect();
    packet(0xa2, &[&ID, no_properties(version), &filters])
}

fn subscription(filter: &str, options: SubscriptionOptions) -> Subscription {
    Subscription {
        filter: filter.parse().unwrap(),
        options,
    }
}

#[test]
fn a_subscribe_has_filters_with_a_qos() {
    let with = |qos| SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    for version in VERSIONS {
        let bytes = subscribe(version, &[("a/+", 0), ("#", 1), ("$share/g/b", 2)]);
        let expected = Subscribe {
            packet_id: id(),
            subscriptions: vec![
                subscription("a/+", with(QoS::AtMostOnce)),
                subscription("#", with(QoS::AtLeastOnce)),
                subscription("$share/g/b", with(QoS::ExactlyOnce)),
            ],
            subscription_identifier: None,
            user_properties: Vec::new(),
        };
        assert_eq!(decoded(version, &bytes), Packet::Subscribe(expected));
    }
}

#[test]
fn mqtt_5_has_more_options_and_3_1_1_refuses_them() {
    for (bits, options) in [
        (
            0b0000_0100,
            SubscriptionOptions {
                no_local: true,
                ..Default::default()
            },
        ),
        (
            0b0000_1000,
            SubscriptionOptions {
                retain_as_published: true,
                ..Default::default()
            },
        ),
        (
            0b0001_0000,
            SubscriptionOptions {
                retain_handling: RetainHandling::SendIfNew,
                ..Default::default()
            },
        ),
        (
            0b0010_0000,
            SubscriptionOptions {
                retain_handling: RetainHandling::DoNotSend,
                ..Default::default()
            },
        ),
    ] {
        let Packet::Subscribe(read) = decoded(V5, &subscribe(V5, &[("a", bits)])) else {
            panic!()
        };
        assert_eq!(read.subscriptions, [subscription("a", options)]);
        let rule = InvalidPacket::SubscriptionOptions { options: bits };
        let bytes = subscribe(V311, &[("a", bits)]);
        assert_refused(V311, &bytes, rule, ReasonCode::MalformedPacket);
    }
}

#[test]
fn forbidden_options_are_refused() {
    for version in VERSIONS {
        for options in [0b0100_0000, 0b1000_0000] {
            let rule = InvalidPacket::SubscriptionOptions { options };
            let bytes = subscribe(version, &[("a", options)]);
            assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
        }
        let rule = InvalidPacket::MaximumQos { options: 3 };
        let bytes = subscribe(version, &[("a", 3)]);
        assert_refused(version, &bytes, rule, ReasonCode::ProtocolError);
    }
    let rule = InvalidPacket::RetainHandling {
        options: 0b0011_0000,
    };
    assert_refused(
        V5,
        &subscribe(V5, &[("a", 0b0011_0000)]),
        rule,
        ReasonCode::ProtocolError,
    );
    let rule = InvalidPacket::SharedNoLocal;
    let bytes = subscribe(V5, &[("$share/g/a", 0b100)]);
    assert_refused(V5, &bytes, rule, ReasonCode::ProtocolError);
}

#[test]
fn a_list_of_filters_has_at_least_one_and_at_most_the_limit() {
    for version in VERSIONS {
        let rule = InvalidPacket::Empty {
            field: "topic filter",
        };
        let bytes = subscribe(version, &[]);
        assert_refused(version, &bytes, rule.clone(), ReasonCode::ProtocolError);
        assert_refused(
            version,
            &unsubscribe(version, &[]),
            rule,
            ReasonCode::ProtocolError,
        );

        assert!(try_decode(version, &subscribe(version, &[("a", 0); 1_024])).is_ok());
        assert!(try_decode(version, &unsubscribe(version, &["a"; 1_024])).is_ok());
        let rule = InvalidPacket::TooManyFilters { max: 1_024 };
        let bytes = subscribe(version, &[("a", 0); 1_025]);
        assert_refused(version, &bytes, rule.clone(), ReasonCode::QuotaExceeded);
        let bytes = unsubscribe(version, &["a"; 1_025]);
        assert_refused(version, &bytes, rule, ReasonCode::QuotaExceeded);
    }
}

#[test]
fn filters_are_checked() {
    for version in VERSIONS {
        for (filter, error) in [
            ("", TopicFilterError::Empty),
            ("a/#/b", TopicFilterError::MultiLevelNotLast { position: 2 }),
        ] {
            let rule = InvalidPacket::TopicFilter(error);
            let code = ReasonCode::MalformedPacket;
            let bytes = subscribe(version, &[("ok", 0), (filter, 0)]);
            assert_refused(version, &bytes, rule.clone(), code);
            assert_refused(version, &unsubscribe(version, &[filter]), rule, code);
        }
    }
    let rule = InvalidPacket::TopicFilter(TopicFilterError::ShareWithoutFilter);
    let bytes = subscribe(V5, &[("$share/g", 0)]);
    assert_refused(V5, &bytes, rule, ReasonCode::MalformedPacket);
}

#[test]
fn filters_that_no_rule_forbids_are_read_and_not_served() {
    let deep = "/".repeat(128);
    for (version, filter, is_served) in [
        (V5, "a", true),
        (V5, "$share/g/a", true),
        (V5, &deep, false),
        (V311, &deep, false),
        (V311, "$share/g/a", true),
        (V311, "$share/g", false),
        (V311, "$share/", false),
        (V311, "$shared/g", true),
    ] {
        let Packet::Subscribe(read) = decoded(version, &subscribe(version, &[(filter, 0)])) else {
            panic!()
        };
        let read = &read.subscriptions[0].filter;
        assert_eq!(read.as_str(), filter);
        assert_eq!(read.is_served(), is_served, "{version}: {filter}");
        assert_eq!(read.detach().is_served(), is_served);
    }
}

#[test]
fn lists_that_end_inside_an_element_are_refused() {
    for version in VERSIONS {
        let none = no_properties(version);
        for (bytes, field) in [
            (packet(0x82, &[&[0]]), "packet identifier"),
            (
                packet(0x82, &[&ID, none, &text("a")]),
                "subscription options",
            ),
            (packet(0x82, &[&ID, none, &[0, 5, b'a']]), "topic filter"),
            (packet(0xa2, &[&ID, none, &[0, 5, b'a']]), "topic filter"),
            (packet(0xa2, &[&ID, none, &text("a"), &[0]]), "topic filter"),
            (packet(0x90, &[&[0]]), "packet identifier"),
            (packet(0xb0, &[&[0]]), "packet identifier"),
        ] {
            let rule = InvalidPacket::UnexpectedEnd { field };
            assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
        }
        for first in [0x82, 0x90, 0xa2, 0xb0] {
            let bytes = packet(first, &[&[0, 0], none, &text("a"), &[0]]);
            let rule = InvalidPacket::PacketIdZero;
            assert_refused(version, &bytes, rule, ReasonCode::ProtocolError);
        }
    }
}

#[test]
fn a_subscription_identifier_may_come_once_and_is_not_zero() {
    let with = |properties: &[&[u8]]| packet(0x82, &[&ID, &section(properties), &text("a"), &[0]]);
    let Packet::Subscribe(read) = decoded(V5, &with(&[&[0x0b, 0x80, 0x01]])) else {
        panic!()
    };
    assert_eq!(
        read.subscription_identifier,
        SubscriptionIdentifier::new(128)
    );
    let property = mqtt::PropertyId::SubscriptionIdentifier;
    let rule = InvalidPacket::PropertyValue { property, value: 0 };
    assert_refused(V5, &with(&[&[0x0b, 0]]), rule, ReasonCode::ProtocolError);
    let rule = InvalidPacket::PropertyDuplicate { property };
    assert_refused(
        V5,
        &with(&[&[0x0b, 1], &[0x0b, 2]]),
        rule,
        ReasonCode::ProtocolError,
    );
}

#[test]
fn a_suback_has_a_code_for_each_filter() {
    let suback = |reason_codes: &[ReasonCode]| {
        let (reason_codes, problem) = (reason_codes.to_vec(), ProblemInformation::default());
        Packet::Suback(Suback {
            packet_id: id(),
            reason_codes,
            problem,
        })
    };
    let granted = suback(&[
        ReasonCode::Success,
        ReasonCode::GrantedQos1,
        ReasonCode::GrantedQos2,
        ReasonCode::UnspecifiedError,
    ]);
    for version in VERSIONS {
        let bytes = packet(0x90, &[&ID, no_properties(version), &[0, 1, 2, 0x80]]);
        assert_eq!(decoded(version, &bytes), granted);
        let rule = InvalidPacket::Empty {
            field: "reason code",
        };
        let bytes = packet(0x90, &[&ID, no_properties(version)]);
        assert_refused(version, &bytes, rule, ReasonCode::ProtocolError);
    }
    let refused = suback(&[ReasonCode::NotAuthorized]);
    assert_eq!(decoded(V5, &packet(0x90, &[&ID, &[0, 0x87]])), refused);
    assert_eq!(encoded(V311, &refused), packet(0x90, &[&ID, &[0x80]]));
    let rule = InvalidPacket::ReasonCodeNotAllowed {
        reason_code: ReasonCode::NotAuthorized,
    };
    assert_refused(
        V311,
        &packet(0x90, &[&ID, &[0x87]]),
        rule,
        ReasonCode::ProtocolError,
    );
}

#[test]
fn an_unsuback_has_codes_in_mqtt_5_only() {
    let unsuback = |reason_codes| {
        let problem = ProblemInformation::default();
        Packet::Unsuback(Unsuback {
            packet_id: id(),
            reason_codes,
            problem,
        })
    };
    assert_eq!(decoded(V311, &packet(0xb0, &[&ID])), unsuback(vec![]));
    let rule = InvalidPacket::TrailingBytes { bytes: 1 };
    assert_refused(
        V311,
        &packet(0xb0, &[&ID, &[0]]),
        rule,
        ReasonCode::MalformedPacket,
    );

    let codes = vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    assert_eq!(
        decoded(V5, &packet(0xb0, &[&ID, &[0, 0, 0x11]])),
        unsuback(codes.clone())
    );
    assert_eq!(encoded(V311, &unsuback(codes)), packet(0xb0, &[&ID]));
    let rule = InvalidPacket::Empty {
        field: "reason code",
    };
    assert_refused(
        V5,
        &packet(0xb0, &[&ID, &[0]]),
        rule,
        ReasonCode::ProtocolError,
    );
    let rule = InvalidPacket::ReasonCodeNotAllowed {
        reason_code: ReasonCode::GrantedQos1,
    };
    assert_refused(
        V5,
        &packet(0xb0, &[&ID, &[0, 1]]),
        rule,
        ReasonCode::ProtocolError,
    );
}

#[test]
fn an_unsubscribe_names_filters() {
    for version in VERSIONS {
        let expected = Unsubscribe {
            packet_id: id(),
            filters: vec!["a/+".parse().unwrap(), "$share/g/#".parse().unwrap()],
            user_properties: Vec::new(),
        };
        let bytes = unsubscribe(version, &["a/+", "$share/g/#"]);
        assert_eq!(decoded(version, &bytes), Packet::Unsubscribe(expected));
    }
}

#[test]
fn empty_lists_are_not_encoded() {
    let (packet_id, user_properties) = (id(), Vec::new());
    let problem = ProblemInformation::default();
    for (packet, name) in [
        (
            Packet::Subscribe(Subscribe {
                packet_id,
                subscriptions: Vec::new(),
                subscription_identifier: None,
                user_properties: Vec::new(),
            }),
            PacketType::Subscribe,
        ),
        (
            Packet::Unsubscribe(Unsubscribe {
                packet_id,
                filters: Vec::new(),
                user_properties,
            }),
            PacketType::Unsubscribe,
        ),
        (
            Packet::Suback(Suback {
                packet_id,
                reason_codes: Vec::new(),
                problem: problem.clone(),
            }),
            PacketType::Suback,
        ),
        (
            Packet::Unsuback(Unsuback {
                packet_id,
                reason_codes: Vec::new(),
                problem,
            }),
            PacketType::Unsuback,
        ),
    ] {
        let error = packet.encode(V5, &mut BytesMut::new()).unwrap_err();
        assert!(
            matches!(error, EncodeError::Empty { packet, .. } if packet == name),
            "{error}"
        );
    }
}

#[test]
fn filters_do_not_keep_the_read_buffer() {
    for bytes in [subscribe(V5, &[("a/b", 0)]), unsubscribe(V5, &["a/b"])] {
        let mut src = BytesMut::with_capacity(4_096);
        src.extend_from_slice(&bytes);
        let packet = decode(&mut src, Some(V5), &Limits::default()).unwrap();
        assert!(packet.is_some());
        assert!(
            src.try_reclaim(4_096),
            "the buffer is shared with the packet"
        );
    }
}
