//! Framing: first byte, remaining length, and the size limit.

use bytes::BytesMut;
use mqtt::codec::{InvalidPacket, Limits, decode};
use mqtt::{Packet, PacketType, ReasonCode};

use crate::raw::*;

/// Decodes the front of `bytes`, which may be less than a packet.
fn front(bytes: &[u8], limits: &Limits) -> Result<Option<Packet>, InvalidPacket> {
    decode(&mut BytesMut::from(bytes), Some(V5), limits).map_err(|error| error.rule)
}

#[test]
fn flags_are_refused_when_they_are_not_the_prescribed_ones() {
    for version in VERSIONS {
        for number in 1..=14_u8 {
            let packet = PacketType::from_number(number).unwrap();
            let Some(expected) = packet.fixed_flags() else {
                continue;
            };
            for flags in (0..16).filter(|flags| *flags != expected) {
                // From the first byte alone, whatever would follow.
                let error = decode(
                    &mut BytesMut::from(&[number << 4 | flags][..]),
                    Some(version),
                    &Limits::default(),
                )
                .unwrap_err();
                assert_eq!(error.packet, Some(packet));
                assert_eq!(
                    error.rule,
                    InvalidPacket::FixedHeaderFlags { flags, expected }
                );
                assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
            }
        }
    }
}

#[test]
fn reserved_packet_types_are_refused() {
    let reserved = |number| InvalidPacket::PacketTypeReserved { number };
    for version in VERSIONS {
        assert_refused(
            version,
            &[0x00, 0],
            reserved(0),
            ReasonCode::MalformedPacket,
        );
    }
    assert_refused(V311, &[0xf0, 0], reserved(15), ReasonCode::MalformedPacket);
    assert_eq!(
        try_decode(V5, &[0xf0, 0]).unwrap().packet_type(),
        PacketType::Auth
    );
}

#[test]
fn anything_but_connect_is_refused_from_its_first_byte_before_the_version_is_known() {
    for first in [0x20, 0x30, 0x40, 0x82, 0xc0, 0xe0, 0xf0] {
        let mut src = BytesMut::from(&[first][..]);
        let error = decode(&mut src, None, &Limits::default()).unwrap_err();
        assert_eq!(error.rule, InvalidPacket::ConnectExpected);
        assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
        assert_eq!(error.version, None);
    }
}

#[test]
fn remaining_length_is_read_in_one_to_four_bytes() {
    for (length, bytes) in [
        (2_usize, 1_usize),
        (127, 1),
        (128, 2),
        (16_383, 2),
        (16_384, 3),
        (200_000, 3),
        (2_097_151, 3),
        (2_097_152, 4),
    ] {
        let limits = Limits {
            packet_bytes_max: u32::MAX,
            ..Limits::default()
        };
        let payload = vec![0; length.saturating_sub(3 + 1)];
        let publish = packet(0x30, &[&text("t"), &[0], &payload]);
        assert_eq!(variable_byte_integer(length).len(), bytes);
        if length > 3 {
            assert_eq!(publish.len(), 1 + bytes + length);
            assert!(matches!(
                front(&publish, &limits),
                Ok(Some(Packet::Publish(_)))
            ));
        }
    }
}

#[test]
fn remaining_length_is_refused_when_it_takes_more_bytes_than_it_must() {
    for bytes in [
        &[0x80, 0x00][..],
        &[0xff, 0x00],
        &[0x80, 0x80, 0x00],
        &[0x80, 0x80, 0x80, 0x00],
    ] {
        let error = front(&[&[0xc0], bytes].concat(), &Limits::default()).unwrap_err();
        let rule = "more bytes than the value takes";
        let field = "remaining length";
        assert_eq!(error, InvalidPacket::VariableByteInteger { field, rule });
        assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
    }
}

#[test]
fn remaining_length_is_refused_when_it_goes_on_after_four_bytes() {
    let error = front(&[0x30, 0x80, 0x80, 0x80, 0x80], &Limits::default()).unwrap_err();
    let rule = "longer than four bytes";
    assert_eq!(
        error,
        InvalidPacket::VariableByteInteger {
            field: "remaining length",
            rule
        }
    );
}

#[test]
fn a_packet_above_the_limit_is_refused_from_its_header() {
    let limits = Limits {
        packet_bytes_max: 100,
        ..Limits::default()
    };
    // 98 bytes and two of header are the limit.
    assert_eq!(front(&[0x30, 98], &limits), Ok(None));
    let error = front(&[0x30, 99], &limits).unwrap_err();
    assert_eq!(
        error,
        InvalidPacket::PacketTooLarge {
            bytes: 101,
            max: 100
        }
    );
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);

    let largest = front(&[0x30, 0xff, 0xff, 0xff, 0x7f], &limits).unwrap_err();
    assert_eq!(
        largest,
        InvalidPacket::PacketTooLarge {
            bytes: 268_435_460,
            max: 100
        }
    );
}

#[test]
fn a_packet_is_taken_when_all_of_it_is_there_and_nothing_more() {
    let whole = packet(0x40, &[&[0, 7]]);
    for len in 0..whole.len() {
        let mut src = BytesMut::from(&whole[..len]);
        assert_eq!(decode(&mut src, Some(V311), &Limits::default()), Ok(None));
        assert_eq!(src.len(), len, "part of a packet was consumed");
    }
    let mut src = BytesMut::from(&[&whole[..], &[0xc0]].concat()[..]);
    assert!(
        decode(&mut src, Some(V311), &Limits::default())
            .unwrap()
            .is_some()
    );
    assert_eq!(src, [0xc0][..]);
}

#[test]
fn pings_have_no_body() {
    for version in VERSIONS {
        for (first, expected) in [(0xc0, Packet::Pingreq), (0xd0, Packet::Pingresp)] {
            assert_eq!(decoded(version, &[first, 0]), expected);
            let rule = InvalidPacket::TrailingBytes { bytes: 1 };
            assert_refused(version, &[first, 1, 0], rule, ReasonCode::MalformedPacket);
        }
    }
}

#[test]
fn an_error_names_packet_and_rule() {
    let error = try_decode(V5, &[0x40, 2, 0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "PUBACK: packet identifier 0");
    let error = try_decode(V5, &[0x05, 0]).unwrap_err();
    assert_eq!(error.to_string(), "fixed header: packet type 0 is reserved");
}
