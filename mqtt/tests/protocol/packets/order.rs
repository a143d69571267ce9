//! What comes when: CONNECT first, and once.

use super::Answer::{Closes, Says, Waits};
use super::Level::{L4, L5};
use super::{LEVELS, check, first, row};
use crate::raw::packet;

/// A byte that announces something else than a CONNECT is enough, whatever it announces.
#[test]
fn something_else_before_connect() {
    check((0..=u8::MAX).map(|byte| {
        let answer = match byte {
            0x10 => Waits,
            _ => Closes,
        };
        first("3.1", format!("0x{byte:02x}"), L5, [byte], answer)
    }));
    check(LEVELS.into_iter().flat_map(|level| {
        [
            ("PUBLISH", packet(0x30, &[b"\0\x01a", level.none()])),
            (
                "SUBSCRIBE",
                packet(0x82, &[&[0, 1], level.none(), b"\0\x01a\0"]),
            ),
            ("PINGREQ", vec![0xc0, 0]),
            ("DISCONNECT", vec![0xe0, 0]),
            ("AUTH", vec![0xf0, 0]),
            ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            ("another protocol, secured", b"\x16\x03\x01\x02\0".to_vec()),
        ]
        .map(|(what, bytes)| first("3.1", what, level, bytes, Closes))
    }));
}

#[test]
fn second_connect_whatever_it_says() {
    let mut rows = Vec::new();
    for level in LEVELS {
        for second in LEVELS {
            let bytes = second.connect(0b10, &[b"\0\x01c"]);
            let what = format!("one of {second:?}");
            rows.push(row("3.1", what, level, bytes, level.says(0x82)));
        }
        for (what, name) in [
            ("one of a level that is not served", &b"\0\x04MQTT\x06"[..]),
            ("one of another protocol", b"\0\x04mqtt\x05"),
        ] {
            let bytes = packet(0x10, &[name, &[0b10, 0, 60], level.none(), b"\0\x01c"]);
            rows.push(row("3.1", what, level, bytes, level.says(0x82)));
        }
        let ill_formed = level.connect(0b11, &[b"\0\x01c"]);
        let what = "one that is ill-formed, too";
        rows.push(row("3.1.2.3", what, level, ill_formed, level.says(0x81)));
    }
    check(rows);
}

/// What follows a packet that ends the connection is not looked at.
#[test]
fn behind_the_end() {
    check([
        row(
            "4.13",
            "PINGREQ behind an error",
            L5,
            [0xc1, 0, 0xc0, 0],
            Says(0x81),
        ),
        row(
            "4.13",
            "another error behind an error",
            L5,
            [0xc0, 1, 0, 0xd0, 0],
            Says(0x81),
        ),
        first(
            "4.13",
            "PINGREQ behind a CONNECT that is refused",
            L4,
            [&L4.connect(0, &[b"\0\0"])[..], &[0xc0, 0]].concat(),
            Says(2),
        ),
    ]);
}
