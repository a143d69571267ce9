//! PUBLISH as raw bytes.

use bytes::{Bytes, BytesMut};
use mqtt::codec::{EncodeError, InvalidPacket, Limits, decode};
use mqtt::{
    Delivery, MessageProperties, Packet, PacketId, PayloadFormat, PropertyId, ProtocolVersion,
    Publish, ReasonCode, SubscriptionIdentifier, TopicAlias, TopicNameError, Utf8StringError,
};

use crate::raw::*;

fn publish(version: ProtocolVersion, first: u8, topic: &str, rest: &[u8]) -> Vec<u8> {
    let topic = text(topic);
    match first & 0b110 {
        0 => packet(first, &[&topic, no_properties(version), rest]),
        _ => packet(first, &[&topic, &[0, 7], no_properties(version), rest]),
    }
}

/// A PUBLISH of MQTT 5 with QoS 0, these properties and the payload `p`.
fn with_properties(topic: &str, properties: &[&[u8]]) -> Vec<u8> {
    packet(0x30, &[&text(topic), &section(properties), b"p"])
}

fn decoded_publish(version: ProtocolVersion, bytes: &[u8]) -> Publish {
    match decoded(version, bytes) {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_say_dup_qos_and_retain() {
    let packet_id = PacketId::new(7).unwrap();
    for version in VERSIONS {
        for (first, delivery, retain) in [
            (0x30, Delivery::AtMostOnce, false),
            (0x31, Delivery::AtMostOnce, true),
            (
                0x32,
                Delivery::AtLeastOnce {
                    packet_id,
                    dup: false,
                },
                false,
            ),
            (
                0x3b,
                Delivery::AtLeastOnce {
                    packet_id,
                    dup: true,
                },
                true,
            ),
            (
                0x34,
                Delivery::ExactlyOnce {
                    packet_id,
                    dup: false,
                },
                false,
            ),
            (
                0x3d,
                Delivery::ExactlyOnce {
                    packet_id,
                    dup: true,
                },
                true,
            ),
        ] {
            let read = decoded_publish(version, &publish(version, first, "a/b", b"hello"));
            assert_eq!((read.delivery, read.retain), (delivery, retain));
            assert_eq!(read.topic.unwrap().as_str(), "a/b");
            assert_eq!(read.payload, "hello");
        }
    }
}

#[test]
fn forbidden_flags_are_refused() {
    for version in VERSIONS {
        let bytes = publish(version, 0x38, "a", b"");
        assert_refused(
            version,
            &bytes,
            InvalidPacket::DupWithoutQos,
            ReasonCode::MalformedPacket,
        );
        let rule = InvalidPacket::Qos { field: "PUBLISH" };
        let bytes = publish(version, 0x36, "a", b"");
        assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
    }
}

#[test]
fn an_empty_payload_is_a_payload() {
    for version in VERSIONS {
        let read = decoded_publish(version, &publish(version, 0x32, "a", b""));
        assert!(read.payload.is_empty());
    }
}

#[test]
fn topic_names_are_checked() {
    for version in VERSIONS {
        for (topic, error) in [
            ("a/#", TopicNameError::Wildcard { position: 2 }),
            ("+", TopicNameError::Wildcard { position: 0 }),
        ] {
            let rule = InvalidPacket::TopicName {
                field: "topic name",
                error,
            };
            let bytes = publish(version, 0x30, topic, b"");
            assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
        }
        let error = TopicNameError::TooManyLevels { levels: 129 };
        let rule = InvalidPacket::TopicName {
            field: "topic name",
            error,
        };
        let bytes = publish(version, 0x30, &"/".repeat(128), b"");
        assert_refused(version, &bytes, rule, ReasonCode::TopicNameInvalid);

        let rule = InvalidPacket::Text {
            field: "topic name",
            error: Utf8StringError::Nul { position: 0 },
        };
        let bytes = publish(version, 0x30, "\0", b"");
        assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
    }
}

#[test]
fn an_empty_topic_name_needs_an_alias_and_mqtt_5() {
    let error = TopicNameError::Empty;
    let rule = InvalidPacket::TopicName {
        field: "topic name",
        error,
    };
    assert_refused(
        V311,
        &publish(V311, 0x30, "", b""),
        rule,
        ReasonCode::MalformedPacket,
    );
    let rule = InvalidPacket::TopicNameMissing;
    assert_refused(
        V5,
        &publish(V5, 0x30, "", b""),
        rule,
        ReasonCode::ProtocolError,
    );

    let read = decoded_publish(V5, &with_properties("", &[&[0x23, 0, 9]]));
    assert_eq!((read.topic, read.topic_alias), (None, TopicAlias::new(9)));
}

#[test]
fn packet_identifiers_come_with_qos_1_and_2_and_are_not_zero() {
    for version in VERSIONS {
        for first in [0x32, 0x34] {
            let bytes = packet(first, &[&text("a"), &[0, 0], no_properties(version)]);
            let rule = InvalidPacket::PacketIdZero;
            assert_refused(version, &bytes, rule, ReasonCode::ProtocolError);
            let rule = InvalidPacket::UnexpectedEnd {
                field: "packet identifier",
            };
            let bytes = packet(first, &[&text("a"), &[0]]);
            assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
        }
    }
}

#[test]
fn every_publish_property_is_read() {
    let read = decoded_publish(
        V5,
        &with_properties(
            "a",
            &[
                &[0x23, 0, 3],
                &[0x0b, 1],
                &[0x0b, 0xff, 0xff, 0xff, 0x7f],
                &[0x01, 1],
                &[0x02, 0, 0, 1, 0],
                &[&[0x03], &text("text")[..]].concat(),
                &[&[0x08], &text("re")[..]].concat(),
                &[&[0x09], &text("id")[..]].concat(),
                &[&[0x26], &text("k")[..], &text("v")].concat(),
            ],
        ),
    );
    assert_eq!(read.topic_alias, TopicAlias::new(3));
    let identifiers = [1, 268_435_455].map(|number| SubscriptionIdentifier::new(number).unwrap());
    assert_eq!(read.subscription_identifiers, identifiers);
    let properties = read.properties;
    assert_eq!(properties.payload_format, Some(PayloadFormat::Utf8));
    assert_eq!(properties.message_expiry_interval, Some(256));
    assert_eq!(properties.content_type.unwrap(), "text");
    assert_eq!(properties.response_topic.unwrap().as_str(), "re");
    assert_eq!(properties.correlation_data.unwrap().as_bytes(), b"id");
    assert_eq!(properties.user_properties[0].value, "v");
}

#[test]
fn forbidden_publish_properties_are_refused() {
    let value = |property, value| InvalidPacket::PropertyValue { property, value };
    let alias = value(PropertyId::TopicAlias, 0);
    assert_refused(
        V5,
        &with_properties("a", &[&[0x23, 0, 0]]),
        alias,
        ReasonCode::TopicAliasInvalid,
    );
    for (property, rule) in [
        (&[0x0b, 0][..], value(PropertyId::SubscriptionIdentifier, 0)),
        (&[0x01, 2], value(PropertyId::PayloadFormatIndicator, 2)),
    ] {
        let bytes = with_properties("a", &[property]);
        assert_refused(V5, &bytes, rule, ReasonCode::ProtocolError);
    }
    let error = TopicNameError::Wildcard { position: 0 };
    let rule = InvalidPacket::TopicName {
        field: "response topic",
        error,
    };
    let response_topic = [&[0x08], &text("#")[..]].concat();
    let bytes = with_properties("a", &[&response_topic]);
    assert_refused(V5, &bytes, rule, ReasonCode::MalformedPacket);
}

#[test]
fn a_payload_that_is_no_utf8_is_refused_when_its_indicator_says_it_is() {
    let bytes = |indicator| {
        packet(
            0x30,
            &[&text("a"), &section(&[&[0x01, indicator]]), b"ab\xff"],
        )
    };
    let rule = InvalidPacket::PayloadFormat { position: 2 };
    assert_refused(V5, &bytes(1), rule, ReasonCode::PayloadFormatInvalid);
    assert_eq!(decoded_publish(V5, &bytes(0)).payload, b"ab\xff"[..]);
}

#[test]
fn user_properties_are_limited_in_number() {
    let pair = [&[0x26], &text("")[..], &text("")].concat();
    let many = |count| packet(0x30, &[&text("a"), &section(&vec![&pair[..]; count])]);
    assert!(try_decode(V5, &many(128)).is_ok());
    let rule = InvalidPacket::TooManyUserProperties { max: 128 };
    assert_refused(V5, &many(129), rule, ReasonCode::QuotaExceeded);
}

#[test]
fn the_payload_is_a_slice_of_the_read_buffer() {
    let mut src = BytesMut::from(&publish(V311, 0x30, "a", b"hello")[..]);
    let expected = src[src.len() - 5..].as_ptr();
    let packet = decode(&mut src, Some(V311), &Limits::default()).unwrap();
    let Some(Packet::Publish(publish)) = packet else {
        panic!("{packet:?}")
    };
    assert_eq!(publish.payload.as_ptr(), expected);
}

#[test]
fn header_and_payload_are_encoded_apart_when_wanted() {
    let publish = Publish {
        delivery: Delivery::AtMostOnce,
        retain: false,
        topic: Some("a".parse().unwrap()),
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        properties: MessageProperties::default(),
        payload: Bytes::from_static(b"hello"),
    };
    let mut header = BytesMut::new();
    publish.encode_header(V5, &mut header).unwrap();
    let whole = encoded(V5, &Packet::Publish(publish.clone()));
    assert_eq!([&header[..], b"hello"].concat(), whole);

    let nameless = Publish {
        topic: None,
        topic_alias: TopicAlias::new(1),
        ..publish
    };
    assert!(nameless.encode_header(V5, &mut header).is_ok());
    assert_eq!(
        nameless.encode_header(V311, &mut header),
        Err(EncodeError::TopicNameMissing)
    );
}

#[test]
fn properties_are_left_out_for_3_1_1() {
    let packet = try_decode(V5, &with_properties("a", &[&[0x02, 0, 0, 1, 0]])).unwrap();
    assert_eq!(encoded(V311, &packet), publish(V311, 0x30, "a", b"p"));
}
