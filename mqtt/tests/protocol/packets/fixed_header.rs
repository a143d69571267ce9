//! The fixed header: reserved types and flags, and remaining lengths.

use super::Answer::{Closes, GoodBye, Says, Taken, Waits};
use super::Level::{L3, L5};
use super::{Answer, LEVELS, Level, check, first, row};
use crate::raw::packet;

/// The types with flags that are prescribed, the flags, and their names; PUBLISH has flags of its own.
const PRESCRIBED: [(u8, u8, &str); 14] = [
    (1, 0, "CONNECT"),
    (2, 0, "CONNACK"),
    (4, 0, "PUBACK"),
    (5, 0, "PUBREC"),
    (6, 0b10, "PUBREL"),
    (7, 0, "PUBCOMP"),
    (8, 0b10, "SUBSCRIBE"),
    (9, 0, "SUBACK"),
    (10, 0b10, "UNSUBSCRIBE"),
    (11, 0, "UNSUBACK"),
    (12, 0, "PINGREQ"),
    (13, 0, "PINGRESP"),
    (14, 0, "DISCONNECT"),
    (15, 0, "AUTH"),
];

/// A packet of this type with which nothing is wrong but perhaps its flags.
fn with_flags(level: Level, kind: u8, flags: u8) -> Vec<u8> {
    let first = kind << 4 | flags;
    let (id, none) = (&[0, 1][..], level.none());
    match kind {
        1 => packet(first, &[level.name(), &[2, 0, 60], none, b"\0\x01c"]),
        2 => packet(first, &[&[0, 0], none]),
        8 => packet(first, &[id, none, b"\0\x01a\0"]),
        9 => packet(first, &[id, none, &[0]]),
        10 => packet(first, &[id, none, b"\0\x01a"]),
        11 if level == L5 => packet(first, &[id, none, &[0]]),
        12..=15 => vec![first, 0],
        _ => packet(first, &[id]),
    }
}

/// What is said to the packet when its flags are right.
fn answer_to(level: Level, kind: u8) -> Answer {
    match kind {
        15 if level != L5 => Closes,
        // A second CONNECT, AUTH that was not agreed upon, and what only servers send.
        1 | 2 | 9 | 11 | 13 | 15 => level.says(0x82),
        14 => GoodBye,
        _ => Taken,
    }
}

#[test]
fn packet_with_reserved_flags_ends_the_connection() {
    check(LEVELS.into_iter().flat_map(|level| {
        PRESCRIBED
            .into_iter()
            .flat_map(move |(kind, prescribed, name)| {
                (0..16).map(move |flags| {
                    let answer = match flags ^ prescribed {
                        0 => answer_to(level, kind),
                        // MQTT 3.1 (2.1) has DUP on what is sent again.
                        0b1000 if level == L3 && prescribed != 0 => Taken,
                        _ => level.says(0x81),
                    };
                    let bytes = with_flags(level, kind, flags);
                    row(
                        "2.1.3",
                        format!("{name} with {flags:04b}"),
                        level,
                        bytes,
                        answer,
                    )
                })
            })
    }));
}

#[test]
fn connect_with_reserved_flags_is_no_connect() {
    check(LEVELS.into_iter().flat_map(|level| {
        (0..16).map(move |flags| {
            let answer = match flags {
                0 => Taken,
                _ => Closes,
            };
            let bytes = with_flags(level, 1, flags);
            first(
                "2.1.3",
                format!("CONNECT with {flags:04b}"),
                level,
                bytes,
                answer,
            )
        })
    }));
}

#[test]
fn packet_type_0_is_reserved() {
    check(LEVELS.into_iter().flat_map(|level| {
        (0..16).map(move |byte| {
            row(
                "2.1.2",
                format!("0x{byte:02x}"),
                level,
                [byte, 0],
                level.says(0x81),
            )
        })
    }));
}

/// Of every type: more bytes than the number takes, and a fifth.
#[test]
fn remaining_lengths_that_are_none() {
    let lengths: [&[u8]; 7] = [
        &[0x80, 0x00],
        &[0x82, 0x80, 0x00],
        &[0x82, 0x80, 0x80, 0x00],
        &[0x80, 0x80, 0x80, 0x80],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x80, 0x80, 0x80, 0x00],
        &[0x80, 0x80, 0x80, 0x80, 0x01],
    ];
    let types = PRESCRIBED
        .into_iter()
        .map(|(kind, flags, _)| kind << 4 | flags);
    let firsts: Vec<u8> = types.chain([0x30, 0x3d]).collect();
    check(LEVELS.into_iter().flat_map(|level| {
        firsts.iter().flat_map(move |byte| {
            lengths.map(|length| {
                let bytes = [&[*byte], length].concat();
                let what = format!("{bytes:02x?}");
                row("1.5.5", what, level, bytes, level.says(0x81))
            })
        })
    }));
    check(LEVELS.into_iter().flat_map(|level| {
        lengths.map(|length| {
            let bytes = [&[0x10], length].concat();
            first("1.5.5", format!("{bytes:02x?}"), level, bytes, Closes)
        })
    }));
}

/// The server of these tests takes packets of 262,144 bytes.
#[test]
fn remaining_lengths_that_are_too_large() {
    check(LEVELS.into_iter().flat_map(|level| {
        // 262,140 bytes behind a header of four, and one more; and the most that there can be.
        let (largest, larger) = ([0xfc, 0xff, 0x0f], [0xfd, 0xff, 0x0f]);
        let of = |byte: u8, length: &[u8]| [&[byte], length].concat();
        [
            row(
                "3.1.2.11.4",
                "the largest",
                level,
                of(0x30, &largest),
                Waits,
            ),
            row(
                "3.1.2.11.4",
                "too large",
                level,
                of(0x30, &larger),
                level.says(0x95),
            ),
            row(
                "3.1.2.11.4",
                "the most",
                level,
                of(0x30, &[255, 255, 255, 127]),
                level.says(0x95),
            ),
            row(
                "3.1.2.11.4",
                "another packet",
                level,
                of(0xc0, &larger),
                level.says(0x95),
            ),
            first(
                "3.1.2.11.4",
                "the largest CONNECT",
                level,
                of(0x10, &largest),
                Waits,
            ),
            first(
                "3.1.2.11.4",
                "too large a CONNECT",
                level,
                of(0x10, &larger),
                Closes,
            ),
        ]
    }));
    let payload = vec![b'x'; 262_140 - 4];
    let bytes = packet(0x30, &[b"\0\x01a\0", &payload]);
    assert_eq!(bytes.len(), 262_144);
    check([
        row("3.1.2.11.4", "the largest, whole", L5, bytes, Taken),
        row(
            "3.1.2.11.4",
            "too large, only announced",
            L5,
            [0x82, 0xff, 0xff, 0x10],
            Says(0x95),
        ),
    ]);
}
