//! CONNECT as raw bytes.

use mqtt::codec::InvalidPacket;
use mqtt::{
    Connect, Packet, PayloadFormat, PropertyId, ProtocolVersion, QoS, ReasonCode, TopicNameError,
    UserProperty, Utf8StringError,
};

use crate::raw::*;

/// `MQTT`, level, flags, keep alive 60, no properties, client identifier `c`, and what is added.
fn connect(version: ProtocolVersion, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let payload = payload.concat();
    let level = [version.level()];
    let fields: &[&[u8]] = &[
        &text("MQTT"),
        &level,
        &[flags, 0, 60],
        no_properties(version),
        &text("c"),
        &payload,
    ];
    packet(0x10, fields)
}

/// A CONNECT of MQTT 5 with these properties.
fn with_properties(properties: &[&[u8]]) -> Vec<u8> {
    packet(
        0x10,
        &[
            &text("MQTT"),
            &[5, 2, 0, 60],
            &section(properties),
            &text("c"),
        ],
    )
}

fn decoded_connect(version: ProtocolVersion, bytes: &[u8]) -> Connect {
    match decoded(version, bytes) {
        Packet::Connect(connect) => *connect,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_least_connect_has_a_client_identifier_only() {
    for version in VERSIONS {
        let read = decoded_connect(version, &connect(version, 0b10, &[]));
        let expected = Connect {
            keep_alive_seconds: 60,
            ..Connect::new(version, string("c"))
        };
        assert_eq!(read, expected);
    }
}

#[test]
fn the_fullest_connect_has_will_user_name_and_password() {
    for version in VERSIONS {
        let will = [no_properties(version), &text("w/t"), &text("gone")].concat();
        let bytes = connect(
            version,
            0b1110_1100,
            &[&will, &text("user"), &text("secret")],
        );
        let read = decoded_connect(version, &bytes);
        let will = read.will.unwrap().message;
        assert_eq!(
            (will.topic.as_str(), &will.payload[..]),
            ("w/t", &b"gone"[..])
        );
        assert_eq!((will.qos, will.retain), (QoS::AtLeastOnce, true));
        assert_eq!(read.username.unwrap(), "user");
        assert_eq!(read.password.unwrap().as_bytes(), b"secret");
        assert!(!read.clean_start);
    }
}

#[test]
fn every_connect_property_is_read() {
    let read = decoded_connect(
        V5,
        &with_properties(&[
            &[0x11, 0, 0, 0, 9],
            &[0x21, 0, 20],
            &[0x27, 0, 1, 0, 0],
            &[0x22, 0, 5],
            &[0x19, 1],
            &[0x17, 0],
            &[&[0x15], &text("SCRAM")[..]].concat(),
            &[&[0x16], &text("data")[..]].concat(),
            &[&[0x26], &text("k")[..], &text("v")].concat(),
            &[&[0x26], &text("k")[..], &text("w")].concat(),
        ]),
    )
    .properties;
    assert_eq!(read.session_expiry_interval, Some(9));
    assert_eq!(read.receive_maximum.unwrap().get(), 20);
    assert_eq!(read.maximum_packet_size.unwrap().get(), 65_536);
    assert_eq!(read.topic_alias_maximum, Some(5));
    assert_eq!(read.request_response_information, Some(true));
    assert_eq!(read.request_problem_information, Some(false));
    assert_eq!(read.authentication_method.unwrap(), "SCRAM");
    assert_eq!(read.authentication_data.unwrap().as_bytes(), b"data");
    let pair = |value| UserProperty {
        name: string("k"),
        value: string(value),
    };
    assert_eq!(read.user_properties, [pair("v"), pair("w")]);
}

#[test]
fn every_will_property_is_read() {
    let will_properties = section(&[
        &[0x18, 0, 0, 0, 7],
        &[0x01, 1],
        &[0x02, 0, 0, 0, 8],
        &[&[0x03], &text("text")[..]].concat(),
        &[&[0x08], &text("re")[..]].concat(),
        &[&[0x09], &text("id")[..]].concat(),
        &[&[0x26], &text("k")[..], &text("v")].concat(),
    ]);
    let bytes = connect(V5, 0b110, &[&will_properties, &text("w"), &text("gone")]);
    let will = decoded_connect(V5, &bytes).will.unwrap();
    let properties = will.message.properties;
    assert_eq!(will.delay_interval, Some(7));
    assert_eq!(properties.payload_format, Some(PayloadFormat::Utf8));
    assert_eq!(properties.message_expiry_interval, Some(8));
    assert_eq!(properties.content_type.unwrap(), "text");
    assert_eq!(properties.response_topic.unwrap().as_str(), "re");
    assert_eq!(properties.correlation_data.unwrap().as_bytes(), b"id");
    assert_eq!(properties.user_properties.len(), 1);
}

#[test]
fn other_protocol_versions_are_refused_in_the_shape_that_their_clients_understand() {
    let other = |name: &str, level: u8| packet(0x10, &[&text(name), &[level, 2, 0, 0], &text("c")]);
    for (name, level, shape) in [
        ("MQIsdp", 4, V311),
        ("MQIsdp", 0x83, V311), // 3.1 with the bridge bit of mosquitto
        ("MQTT", 3, V311),
        ("MQTT", 0x84, V311), // 3.1.1 with the bridge bit of mosquitto
        ("MQTT", 0x85, V5),
        ("MQTT", 6, V5),
    ] {
        let error = try_decode(V5, &other(name, level)).unwrap_err();
        assert_eq!(
            error.rule,
            InvalidPacket::ProtocolVersion {
                name: if name == "MQTT" { "MQTT" } else { "MQIsdp" },
                level
            }
        );
        assert_eq!(error.version, Some(shape), "{name} {level}");
        assert_eq!(error.reason_code(), ReasonCode::UnsupportedProtocolVersion);
    }
}

#[test]
fn an_unknown_protocol_name_is_refused_without_a_version_to_answer_in() {
    for name in ["mqtt", "HTTP", ""] {
        let error = try_decode(V5, &packet(0x10, &[&text(name), &[4, 2, 0, 0]])).unwrap_err();
        assert_eq!(error.rule, InvalidPacket::ProtocolName);
        assert_eq!(error.version, None);
    }
}

#[test]
fn contradicting_flags_are_refused() {
    for version in VERSIONS {
        for (flags, rule) in [
            (0b0000_0011, "bit 0 is reserved"),
            (0b0000_1010, "will QoS or will retain without will"),
            (0b0010_0010, "will QoS or will retain without will"),
        ] {
            let rule = InvalidPacket::ConnectFlags { flags, rule };
            let bytes = connect(version, flags, &[]);
            assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
        }
        let rule = InvalidPacket::Qos { field: "will" };
        let bytes = connect(version, 0b0001_1110, &[]);
        assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
    }
}

#[test]
fn a_password_without_user_name_is_for_mqtt_5_only() {
    let flags = 0b0100_0010;
    let rule = InvalidPacket::ConnectFlags {
        flags,
        rule: "password without user name",
    };
    let bytes = connect(V311, flags, &[&text("token")]);
    assert_refused(V311, &bytes, rule, ReasonCode::MalformedPacket);
    let read = decoded_connect(V5, &connect(V5, flags, &[&text("token")]));
    assert_eq!(
        (read.username, read.password.unwrap().as_bytes()),
        (None, &b"token"[..])
    );
}

#[test]
fn a_connect_that_ends_early_is_refused_with_the_field_that_is_cut() {
    for version in VERSIONS {
        let will = [no_properties(version), &text("w"), &text("p")].concat();
        let whole = connect(version, 0b1100_0110, &[&will, &text("u"), &text("pw")]);
        let body = &whole[2..];
        for len in 0..body.len() {
            let error = try_decode(version, &packet(0x10, &[&body[..len]])).unwrap_err();
            assert!(
                matches!(error.rule, InvalidPacket::UnexpectedEnd { .. }),
                "cut to {len} bytes: {error}",
            );
            assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
        }
        let rule = InvalidPacket::TrailingBytes { bytes: 3 };
        let longer = packet(0x10, &[body, b"???"]);
        assert_refused(version, &longer, rule, ReasonCode::MalformedPacket);
    }
}

#[test]
fn ill_formed_strings_are_refused() {
    for version in VERSIONS {
        for (client_id, error) in [
            (
                &b"\0\x02\xc3\x28"[..],
                Utf8StringError::IllFormed { position: 0 },
            ),
            (
                b"\0\x03\xed\xa0\x80",
                Utf8StringError::IllFormed { position: 0 },
            ),
            (b"\0\x02a\0", Utf8StringError::Nul { position: 1 }),
        ] {
            let level = [version.level()];
            let bytes = packet(
                0x10,
                &[
                    &text("MQTT"),
                    &level,
                    &[2, 0, 0],
                    no_properties(version),
                    client_id,
                ],
            );
            let rule = InvalidPacket::Text {
                field: "client identifier",
                error,
            };
            assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
        }
    }
}

#[test]
fn a_will_needs_a_topic_name_without_wildcards() {
    for version in VERSIONS {
        for (topic, error) in [
            ("", TopicNameError::Empty),
            ("a/+", TopicNameError::Wildcard { position: 2 }),
        ] {
            let will = [no_properties(version), &text(topic), &text("p")].concat();
            let rule = InvalidPacket::TopicName {
                field: "will topic",
                error,
            };
            let bytes = connect(version, 0b110, &[&will]);
            assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
        }
    }
}

#[test]
fn a_will_that_is_no_utf8_is_refused_when_its_indicator_says_it_is() {
    let will = |indicator| {
        [
            &section(&[&[0x01, indicator]])[..],
            &text("w"),
            b"\0\x02a\xff",
        ]
        .concat()
    };
    let rule = InvalidPacket::PayloadFormat { position: 1 };
    let bytes = connect(V5, 0b110, &[&will(1)]);
    assert_refused(V5, &bytes, rule, ReasonCode::PayloadFormatInvalid);
    assert!(try_decode(V5, &connect(V5, 0b110, &[&will(0)])).is_ok());
}

#[test]
fn forbidden_connect_properties_are_refused() {
    let value = |property, value| InvalidPacket::PropertyValue { property, value };
    for (property, rule) in [
        (&[0x21, 0, 0][..], value(PropertyId::ReceiveMaximum, 0)),
        (&[0x27, 0, 0, 0, 0], value(PropertyId::MaximumPacketSize, 0)),
        (&[0x17, 2], value(PropertyId::RequestProblemInformation, 2)),
        (&[0x19, 2], value(PropertyId::RequestResponseInformation, 2)),
        (
            &[0x16, 0, 0],
            InvalidPacket::AuthenticationDataWithoutMethod,
        ),
    ] {
        let bytes = with_properties(&[property]);
        assert_refused(V5, &bytes, rule, ReasonCode::ProtocolError);
    }
}
