//! Strings: whatever field one is in, it is well-formed UTF-8 without U+0000, and is read as it is.

use mqtt::codec::InvalidPacket;
use mqtt::{Packet, ProtocolVersion, ReasonCode};

use crate::raw::*;

/// A packet around the bytes of a string.
type Around = fn(ProtocolVersion, &[u8]) -> Vec<u8>;

/// Not UTF-8, an encoded surrogate, an overlong slash, a character that is cut off, U+0000.
const BAD: [&[u8]; 5] = [
    b"a\xc3\x28",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"a\xe2\x82",
    b"a\0b",
];

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

/// Every field takes a good string and refuses the bad ones.
#[track_caller]
fn assert_strings(version: ProtocolVersion, fields: &[(&str, Around)]) {
    for (field, around) in fields {
        // Also one of four bytes, and U+FEFF.
        let good = around(version, &prefixed("a\u{feff}\u{1f30a}".as_bytes()));
        assert!(try_decode(version, &good).is_ok(), "{version}: {field}");
        for bad in BAD {
            let error = try_decode(version, &around(version, &prefixed(bad))).unwrap_err();
            let is_text = matches!(error.rule, InvalidPacket::Text { .. });
            assert!(is_text, "{version}: {field} {bad:02x?}: {error}");
            assert_eq!(error.reason_code(), ReasonCode::MalformedPacket, "{field}");
        }
    }
}

fn connect(version: ProtocolVersion, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let head = [version.level(), flags, 0, 60];
    let payload = payload.concat();
    let none = no_properties(version);
    packet(0x10, &[&text("MQTT"), &head, none, &payload])
}

#[test]
fn client_identifiers_will_topics_and_user_names_are_strings() {
    for version in VERSIONS {
        let fields: [(&str, Around); 3] = [
            ("client identifier", |version, string| {
                connect(version, 0b10, &[string])
            }),
            ("will topic", |version, string| {
                let none = no_properties(version);
                connect(version, 0b110, &[&text("c"), none, string, &text("p")])
            }),
            ("user name", |version, string| {
                connect(version, 0b1000_0010, &[&text("c"), string])
            }),
        ];
        assert_strings(version, &fields);
    }
}

#[test]
fn topic_names_and_filters_are_strings() {
    for version in VERSIONS {
        let fields: [(&str, Around); 3] = [
            ("topic name", |version, string| {
                packet(0x30, &[string, no_properties(version), b"p"])
            }),
            ("filter of SUBSCRIBE", |version, string| {
                packet(0x82, &[&[0, 1], no_properties(version), string, &[0]])
            }),
            ("filter of UNSUBSCRIBE", |version, string| {
                packet(0xa2, &[&[0, 1], no_properties(version), string])
            }),
        ];
        assert_strings(version, &fields);
    }
}

/// A PUBLISH of QoS 0 with this property.
fn publish_with(property: &[&[u8]]) -> Vec<u8> {
    packet(0x30, &[&text("t"), &section(property), b"p"])
}

#[test]
fn response_topics_content_types_and_reasons_are_strings() {
    let fields: [(&str, Around); 5] = [
        ("response topic", |_, string| {
            publish_with(&[&[0x08], string])
        }),
        ("content type", |_, string| publish_with(&[&[0x03], string])),
        ("content type of a will", |_, string| {
            let will = [section(&[&[0x03], string]), text("w"), text("p")].concat();
            connect(V5, 0b110, &[&text("c"), &will])
        }),
        ("authentication method", |_, string| {
            let properties = section(&[&[0x15], string]);
            let head = [5, 0b10, 0, 60];
            packet(0x10, &[&text("MQTT"), &head, &properties, &text("c")])
        }),
        ("reason string", |_, string| {
            packet(0x40, &[&[0, 1, 0x80], &section(&[&[0x1f], string])])
        }),
    ];
    assert_strings(V5, &fields);
}

#[test]
fn names_and_values_of_user_properties_are_strings() {
    let fields: [(&str, Around); 4] = [
        ("name in PUBLISH", |_, string| {
            publish_with(&[&[0x26], string, &text("v")])
        }),
        ("value in PUBLISH", |_, string| {
            publish_with(&[&[0x26], &text("k"), string])
        }),
        ("value in SUBSCRIBE", |_, string| {
            let properties = section(&[&[0x26], &text("k"), string]);
            packet(0x82, &[&[0, 1], &properties, &text("t"), &[0]])
        }),
        ("name in DISCONNECT", |_, string| {
            packet(0xe0, &[&[0], &section(&[&[0x26], string, &text("v")])])
        }),
    ];
    assert_strings(V5, &fields);
}

#[test]
fn byte_order_mark_is_a_character_like_others() {
    for version in VERSIONS {
        let bytes = packet(0x30, &[b"\0\x05\xef\xbb\xbf/x", no_properties(version)]);
        let Packet::Publish(publish) = decoded(version, &bytes) else {
            panic!("no PUBLISH")
        };
        assert_eq!(publish.topic.unwrap().as_str(), "\u{feff}/x");
    }
}
