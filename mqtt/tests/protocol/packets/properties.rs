//! Every property in every packet that has properties, against a table of our own reading of
//! MQTT 5, 2.2.2.2, and what is wrong with a property section as a whole.

use mqtt::codec::InvalidPacket;
use mqtt::{Bearer, PacketType, PropertyId, ReasonCode};

use super::Answer::{GoodBye, Says, Taken};
use super::Level::L5;
use super::{Answer, Row, check, first, row};
use crate::raw::*;

/// Identifier, a valid value, and the packets that may bear it: letters from `BEARERS`.
pub(super) const PROPERTIES: [(u8, &[u8], &str); 27] = [
    (0x01, &[1], "PW"),
    (0x02, &[0, 0, 0, 1], "PW"),
    (0x03, b"\0\x01a", "PW"),
    (0x08, b"\0\x01a", "PW"),
    (0x09, b"\0\x01a", "PW"),
    (0x0b, &[1], "PS"),
    (0x11, &[0, 0, 0, 1], "CcD"),
    (0x12, b"\0\x01a", "c"),
    (0x13, &[0, 1], "c"),
    (0x15, b"\0\x01a", "CcA"),
    (0x16, b"\0\x01a", "CcA"),
    (0x17, &[1], "C"),
    (0x18, &[0, 0, 0, 1], "W"),
    (0x19, &[1], "C"),
    (0x1a, b"\0\x01a", "c"),
    (0x1c, b"\0\x01a", "cD"),
    (0x1f, b"\0\x01a", "c1234suDA"),
    (0x21, &[0, 1], "Cc"),
    (0x22, &[0, 1], "Cc"),
    (0x23, &[0, 1], "P"),
    (0x24, &[1], "c"),
    (0x25, &[1], "c"),
    (0x26, b"\0\x01a\0\x01b", "CcPW1234SsUuDA"),
    (0x27, &[0, 0, 0, 1], "Cc"),
    (0x28, &[1], "c"),
    (0x29, &[1], "c"),
    (0x2a, &[1], "c"),
];

/// What bears properties.
pub(super) const BEARERS: [(char, Bearer); 14] = [
    ('C', Bearer::Packet(PacketType::Connect)),
    ('W', Bearer::Will),
    ('c', Bearer::Packet(PacketType::Connack)),
    ('P', Bearer::Packet(PacketType::Publish)),
    ('1', Bearer::Packet(PacketType::Puback)),
    ('2', Bearer::Packet(PacketType::Pubrec)),
    ('3', Bearer::Packet(PacketType::Pubrel)),
    ('4', Bearer::Packet(PacketType::Pubcomp)),
    ('S', Bearer::Packet(PacketType::Subscribe)),
    ('s', Bearer::Packet(PacketType::Suback)),
    ('U', Bearer::Packet(PacketType::Unsubscribe)),
    ('u', Bearer::Packet(PacketType::Unsuback)),
    ('D', Bearer::Packet(PacketType::Disconnect)),
    ('A', Bearer::Packet(PacketType::Auth)),
];

/// The least packet of the kind with this property section.
pub(super) fn with_section(bearer: char, section: &[u8]) -> Vec<u8> {
    let connect = |flags| [&text("MQTT")[..], &[5, flags, 0, 0]].concat();
    match bearer {
        'C' => packet(0x10, &[&connect(2), section, &text("c")]),
        'W' => packet(
            0x10,
            &[
                &connect(6),
                &[0],
                &text("c"),
                section,
                &text("w"),
                &text("p"),
            ],
        ),
        'c' => packet(0x20, &[&[0, 0], section]),
        'P' => packet(0x30, &[&text("t"), section]),
        '1' => packet(0x40, &[&[0, 1, 0], section]),
        '2' => packet(0x50, &[&[0, 1, 0], section]),
        '3' => packet(0x62, &[&[0, 1, 0], section]),
        '4' => packet(0x70, &[&[0, 1, 0], section]),
        'S' => packet(0x82, &[&[0, 1], section, &text("t"), &[0]]),
        's' => packet(0x90, &[&[0, 1], section, &[0]]),
        'U' => packet(0xa2, &[&[0, 1], section, &text("t")]),
        'u' => packet(0xb0, &[&[0, 1], section, &[0]]),
        'D' => packet(0xe0, &[&[0], section]),
        'A' => packet(0xf0, &[&[0x18], section]),
        _ => panic!("{bearer}"),
    }
}

/// What a property needs beside it, and is not itself.
pub(super) fn companion(bearer: char, id: u8) -> &'static [u8] {
    match (bearer, id) {
        ('A', 0x15) => &[],
        ('A', _) | ('C', 0x16) => b"\x15\0\x01m",
        _ => &[],
    }
}

#[test]
fn each_property_is_allowed_exactly_where_the_standard_allows_it() {
    for (id, value, allowed) in PROPERTIES {
        let property = PropertyId::from_identifier(id.into()).unwrap();
        for (letter, bearer) in BEARERS {
            let entry = [&[id], value].concat();
            let bytes = with_section(letter, &section(&[companion(letter, id), &entry]));
            let is_allowed = allowed.contains(letter);
            assert_eq!(
                bearer.allows(property),
                is_allowed,
                "{property} in {bearer}"
            );
            if is_allowed {
                // What is read is also kept: it is there when the packet is encoded again.
                let again = encoded(V5, &try_decode(V5, &bytes).unwrap());
                assert_eq!(again.len(), bytes.len(), "{property} in {bearer} was lost");
            } else {
                let rule = InvalidPacket::PropertyNotAllowed { property, bearer };
                assert_refused(V5, &bytes, rule.clone(), ReasonCode::MalformedPacket);
                // Before its value is looked at.
                let bytes = with_section(letter, &section(&[&[id]]));
                assert_refused(V5, &bytes, rule, ReasonCode::MalformedPacket);
            }
        }
    }
}

#[test]
fn each_property_may_be_repeated_only_where_the_standard_says_so() {
    for (id, value, allowed) in PROPERTIES {
        let property = PropertyId::from_identifier(id.into()).unwrap();
        for (letter, _) in BEARERS
            .iter()
            .filter(|(letter, _)| allowed.contains(*letter))
        {
            let entry = [&[id], value].concat();
            let bytes = with_section(*letter, &section(&[companion(*letter, id), &entry, &entry]));
            if id == 0x26 || (id == 0x0b && *letter == 'P') {
                assert_eq!(decoded(V5, &bytes).packet_type() as u8, bytes[0] >> 4);
            } else {
                let rule = InvalidPacket::PropertyDuplicate { property };
                assert_refused(V5, &bytes, rule, ReasonCode::ProtocolError);
            }
        }
    }
}

/// A row of the packet that bears this section.
pub(super) fn bearing(letter: char, what: String, section: &[u8], answer: Answer) -> Row {
    let bytes = with_section(letter, section);
    match letter {
        'C' | 'W' => first("2.2.2.2", what, L5, bytes, answer),
        _ => row("2.2.2.2", what, L5, bytes, answer),
    }
}

/// What is said to a packet that bears a property that it may have.
pub(super) fn answer_to_allowed(letter: char, id: u8) -> Answer {
    match (letter, id) {
        // A packet that only servers send, or an authentication that was not agreed upon.
        ('c' | 's' | 'u' | 'A', _) => Says(0x82),
        // 3.3.4: from servers only.
        ('P', 0x0b) => Says(0x82),
        // 3.14.2.2.2: the session of these tests is to end.
        ('D', 0x11) => Says(0x82),
        ('D', _) => GoodBye,
        _ => Taken,
    }
}

/// Each of the 27 in each of the 14, from a client: once, twice, and where it must not be.
#[test]
fn what_is_said_to_each_property_in_each_packet() {
    let mut rows = Vec::new();
    for (id, value, allowed) in PROPERTIES {
        for (letter, bearer) in BEARERS {
            let entry = [&[id], value].concat();
            let with = companion(letter, id);
            let is_allowed = allowed.contains(letter);
            let once = match is_allowed {
                true => answer_to_allowed(letter, id),
                false => Says(0x81),
            };
            let twice = match (id, letter) {
                _ if !is_allowed => Says(0x81),
                (0x26, _) => once,
                _ => Says(0x82),
            };
            let what = |times| format!("0x{id:02x} {times} in {bearer}");
            rows.push(bearing(
                letter,
                what("once"),
                &section(&[with, &entry]),
                once,
            ));
            let repeated = section(&[with, &entry, &entry]);
            rows.push(bearing(letter, what("twice"), &repeated, twice));
        }
    }
    check(rows);
}

#[test]
fn values_at_the_edge_of_their_range_are_accepted_and_those_beyond_refused() {
    for (bearer, id, accepted, refused) in [
        ('P', 0x01, &[0][..], &[2][..]),
        ('P', 0x0b, &[0xff, 0xff, 0xff, 0x7f], &[0]),
        ('C', 0x17, &[0], &[2]),
        ('C', 0x19, &[0], &[255]),
        ('C', 0x21, &[0xff, 0xff], &[0, 0]),
        ('C', 0x27, &[0xff; 4], &[0; 4]),
        ('P', 0x23, &[0xff, 0xff], &[0, 0]),
        ('c', 0x24, &[0], &[2]),
        ('c', 0x25, &[0], &[2]),
        ('c', 0x28, &[0], &[2]),
        ('c', 0x29, &[0], &[2]),
        ('c', 0x2a, &[0], &[2]),
    ] {
        let entry = |value: &[u8]| with_section(bearer, &section(&[&[id], value]));
        assert!(try_decode(V5, &entry(accepted)).is_ok(), "0x{id:02x}");
        let error = try_decode(V5, &entry(refused)).unwrap_err();
        let is_value = matches!(error.rule, InvalidPacket::PropertyValue { .. });
        assert!(is_value, "0x{id:02x}: {error}");
    }
}

#[test]
fn an_identifier_in_more_bytes_than_it_needs_is_refused() {
    let rule = "more bytes than the value takes";
    let field = "property identifier";
    let rule = InvalidPacket::VariableByteInteger { field, rule };
    let bytes = with_section('P', &section(&[&[0x81, 0x00, 1]]));
    assert_refused(V5, &bytes, rule, ReasonCode::MalformedPacket);
}
