//! The payload of CONNECT: which fields are there is said by the flags, and in which order by nobody.

use mqtt::codec::InvalidPacket;
use mqtt::{Packet, ProtocolVersion, ReasonCode};

use crate::raw::*;

const WILL: u8 = 0b0000_0100;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

/// A CONNECT with a clean start, these flags, and these fields as its payload.
fn connect(version: ProtocolVersion, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let head = [version.level(), 0b10 | flags, 0, 60];
    let payload = fields.concat();
    let none = no_properties(version);
    packet(0x10, &[&text("MQTT"), &head, none, &payload])
}

/// Properties, topic and payload.
fn will(version: ProtocolVersion) -> Vec<u8> {
    [no_properties(version), &text("w"), &text("gone")].concat()
}

#[test]
fn field_without_its_flag_is_refused() {
    let (id, user, password) = (text("c"), text("user"), text("secret"));
    for version in VERSIONS {
        let will = will(version);
        for (flags, fields, left) in [
            (0, &[&id[..], &will][..], will.len()),
            (0, &[&id, &user], user.len()),
            (0, &[&id, &password], password.len()),
            (WILL, &[&id, &will, &user], user.len()),
            (USER_NAME, &[&id, &user, &password], password.len()),
            (
                WILL | USER_NAME,
                &[&id, &will, &user, &password],
                password.len(),
            ),
        ] {
            let rule = InvalidPacket::TrailingBytes { bytes: left };
            let bytes = connect(version, flags, fields);
            assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
        }
    }
}

#[test]
fn flag_without_its_field_is_refused() {
    let (id, user) = (text("c"), text("user"));
    for version in VERSIONS {
        let will = will(version);
        for (flags, fields) in [
            (0, &[][..]),
            (WILL, &[&id[..]]),
            (USER_NAME, &[&id]),
            (WILL | USER_NAME, &[&id, &will]),
            (USER_NAME | PASSWORD, &[&id, &user]),
        ] {
            let bytes = connect(version, flags, fields);
            let error = try_decode(version, &bytes).unwrap_err();
            let is_end = matches!(error.rule, InvalidPacket::UnexpectedEnd { .. });
            assert!(is_end, "{version}: {flags:08b}: {error}");
            assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
        }
    }
}

#[test]
fn fields_are_read_in_the_order_of_the_standard() {
    let (id, user, password) = (text("c"), text("user"), text("secret"));
    for version in VERSIONS {
        let fields = [&id[..], &will(version), &user, &password];
        let flags = WILL | USER_NAME | PASSWORD;
        let Packet::Connect(read) = decoded(version, &connect(version, flags, &fields)) else {
            panic!("no CONNECT")
        };
        assert_eq!(read.client_id, "c");
        let will = read.will.unwrap().message;
        assert_eq!(will.topic.as_str(), "w");
        assert_eq!(will.payload, b"gone"[..]);
        assert_eq!(read.username.unwrap(), "user");
        assert_eq!(read.password.unwrap().as_bytes(), b"secret");
    }
}
