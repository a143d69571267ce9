//! DISCONNECT and PINGREQ.

use super::Answer::{GoodBye, Says, Taken};
use super::Level::L5;
use super::{LEVELS, check, row};
use crate::packets::acknowledgements::CODES;
use crate::raw::{packet, section};

/// What a DISCONNECT may carry (3.14.2.1). The standard's table says of some that servers send them,
/// and has no rule for a client that does: it goes, and is let go.
const ALLOWED: [u8; 29] = [
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1,
];
const ALLOWED_LAST: u8 = 0xa2;

#[test]
fn reason_codes_of_disconnect() {
    check((0..=u8::MAX).map(|code| {
        let answer = match code {
            _ if ALLOWED.contains(&code) || code == ALLOWED_LAST => GoodBye,
            _ if CODES.contains(&code) => Says(0x82),
            _ => Says(0x81),
        };
        row(
            "3.14.2.1",
            format!("code 0x{code:02x}"),
            L5,
            packet(0xe0, &[&[code]]),
            answer,
        )
    }));
}

#[test]
fn contents_of_disconnect() {
    let mut rows = Vec::new();
    for level in LEVELS {
        let longer = match level {
            L5 => GoodBye,
            _ => level.says(0x81),
        };
        for (what, body, answer) in [
            ("nothing", &[][..], GoodBye),
            ("a code", &[0], longer),
            ("a code and no properties", &[0, 0], longer),
            ("a byte too many", &[0, 0, 0], level.says(0x81)),
            ("properties that are not there", &[0, 1], level.says(0x81)),
        ] {
            rows.push(row("3.14.2", what, level, packet(0xe0, &[body]), answer));
        }
    }
    let with = |properties: &[&[u8]]| packet(0xe0, &[&[4], &section(properties)]);
    // The CONNECT of these tests has no session expiry interval.
    let all = [
        &b"\x11\0\0\0\0"[..],
        b"\x1c\0\x05other",
        b"\x1f\0\x03why",
        b"\x26\0\x01k\0\x01v",
        b"\x26\0\x01k\0\x01v",
    ];
    rows.push(row(
        "3.14.2.2",
        "all that it may have",
        L5,
        with(&all),
        GoodBye,
    ));
    for expiry in [&b"\x11\0\0\0\x01"[..], b"\x11\xff\xff\xff\xff"] {
        let what = "a session that is not to end after all";
        rows.push(row("3.14.2.2.2", what, L5, with(&[expiry]), Says(0x82)));
    }
    check(rows);
}

#[test]
fn pingreq_has_nothing_in_it() {
    check(LEVELS.into_iter().flat_map(|level| {
        [
            row("3.12", "nothing", level, [0xc0, 0], Taken),
            row("3.12", "a byte", level, [0xc0, 1, 0], level.says(0x81)),
            row("3.12", "two", level, [0xc0, 2, 0, 0], level.says(0x81)),
        ]
    }));
}
