//! Packets that only servers send, from a client: also when nothing is wrong with them, the connection
//! ends. What cannot even be parsed is told so.

use super::Answer::Says;
use super::Level::{L3, L4, L5};
use super::{LEVELS, check, row};
use crate::raw::{packet, section};

#[test]
fn well_formed_ones() {
    let mut rows = Vec::new();
    for level in LEVELS {
        for (section, what, bytes) in [
            ("3.2", "CONNACK", packet(0x20, &[&[0, 0], level.none()])),
            (
                "3.2",
                "CONNACK, session present",
                packet(0x20, &[&[1, 0], level.none()]),
            ),
            (
                "3.2",
                "CONNACK that refuses",
                packet(0x20, &[&[0, 5 * u8::from(level != L5)], level.none()]),
            ),
            (
                "3.9",
                "SUBACK",
                packet(0x90, &[&[0, 1], level.none(), &[0, 1, 2, 0x80]]),
            ),
            (
                "3.11",
                "UNSUBACK",
                packet(
                    0xb0,
                    &[
                        &[0, 1],
                        level.none(),
                        if level == L5 { &[0, 0x11] } else { &[] },
                    ],
                ),
            ),
            ("3.13", "PINGRESP", vec![0xd0, 0]),
        ] {
            rows.push(row(section, what, level, bytes, level.says(0x82)));
        }
    }
    let all = section(&[
        b"\x11\0\0\0\x01",
        b"\x21\0\x01",
        b"\x24\x01",
        b"\x25\x01",
        b"\x27\0\0\0\x01",
        b"\x12\0\x01c",
        b"\x22\0\x01",
        b"\x1f\0\x01r",
        b"\x26\0\x01k\0\x01v",
        b"\x28\x01",
        b"\x29\x01",
        b"\x2a\x01",
        b"\x13\0\x01",
        b"\x1a\0\x01i",
        b"\x1c\0\x01s",
        b"\x15\0\x01m",
        b"\x16\0\x01d",
    ]);
    let what = "CONNACK with everything";
    rows.push(row(
        "3.2",
        what,
        L5,
        packet(0x20, &[&[0, 0], &all]),
        Says(0x82),
    ));
    check(rows);
}

#[test]
fn ill_formed_ones() {
    let mut rows = Vec::new();
    for level in LEVELS {
        for (section, what, bytes) in [
            ("3.2.2", "CONNACK of nothing", vec![0x20, 0]),
            ("3.2.2", "CONNACK without code", vec![0x20, 1, 0]),
            (
                "3.2.2.1",
                "CONNACK with reserved flags",
                packet(0x20, &[&[2, 0], level.none()]),
            ),
            ("3.9.2", "SUBACK of nothing", vec![0x90, 0]),
            (
                "3.9.3",
                "SUBACK with code 3",
                packet(0x90, &[&[0, 1], level.none(), &[3]]),
            ),
            ("3.11.2", "UNSUBACK of nothing", vec![0xb0, 0]),
            ("3.13", "PINGRESP of something", vec![0xd0, 1, 0]),
        ] {
            rows.push(row(section, what, level, bytes, level.says(0x81)));
        }
        for (section, what, bytes) in [
            (
                "2.2.1",
                "SUBACK 0",
                packet(0x90, &[&[0, 0], level.none(), &[0]]),
            ),
            (
                "2.2.1",
                "UNSUBACK 0",
                packet(0xb0, &[&[0, 0], level.none(), &[0]]),
            ),
            (
                "3.9.3",
                "SUBACK without a code",
                packet(0x90, &[&[0, 1], level.none()]),
            ),
        ] {
            rows.push(row(section, what, level, bytes, level.says(0x82)));
        }
    }
    check(rows);
}

/// The older versions have neither codes in UNSUBACK nor more than three codes in CONNACK's place.
#[test]
fn those_of_mqtt_5_in_older_versions() {
    check([L3, L4].into_iter().flat_map(|level| {
        [
            packet(0x20, &[&[0, 0], &[0]]),
            packet(0x20, &[&[0, 0x87]]),
            packet(0x90, &[&[0, 1], &[0x97]]),
            packet(0xb0, &[&[0, 1], &[0], &[0]]),
        ]
        .map(|bytes| {
            row(
                "3.1.1: 3.2.2.3",
                format!("{bytes:02x?}"),
                level,
                bytes,
                level.says(0x81),
            )
        })
    }));
}
