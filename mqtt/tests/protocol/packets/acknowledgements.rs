//! PUBACK, PUBREC, PUBREL and PUBCOMP: lengths, packet identifiers, reason codes. None of them names a
//! message that is on its way, which is no error (4.3.3).

use super::Answer::{Says, Taken};
use super::Level::L5;
use super::{LEVELS, check, row};
use crate::raw::{packet, section};

/// Section, first byte, and the codes that it may carry.
const ACKNOWLEDGEMENTS: [(&str, u8, &[u8]); 4] = [
    (
        "3.4",
        0x40,
        &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
    ),
    (
        "3.5",
        0x50,
        &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
    ),
    ("3.6", 0x62, &[0x00, 0x92]),
    ("3.7", 0x70, &[0x00, 0x92]),
];

/// Values that stand for a reason, in one packet or another (2.4).
pub(super) const CODES: [u8; 43] = [
    0x00, 0x01, 0x02, 0x04, 0x10, 0x11, 0x18, 0x19, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97,
    0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];

/// What is said to a packet with this code: a value without a meaning cannot be parsed, one with a
/// meaning elsewhere is an error of the protocol.
pub(super) fn answer_to_code(code: u8, allowed: &[u8]) -> super::Answer {
    match code {
        _ if allowed.contains(&code) => Taken,
        _ if CODES.contains(&code) => Says(0x82),
        _ => Says(0x81),
    }
}

#[test]
fn identifiers_and_lengths() {
    let mut rows = Vec::new();
    for level in LEVELS {
        for (section, first, _) in ACKNOWLEDGEMENTS {
            let longer = match level {
                L5 => Taken,
                _ => level.says(0x81),
            };
            for (what, body, answer) in [
                ("nothing", &[][..], level.says(0x81)),
                ("half an identifier", &[0], level.says(0x81)),
                ("an identifier", &[0, 1], Taken),
                ("the largest identifier", &[0xff, 0xff], Taken),
                ("identifier 0", &[0, 0], level.says(0x82)),
                ("a code", &[0, 1, 0], longer),
                ("a code and no properties", &[0, 1, 0, 0], longer),
                ("a byte too many", &[0, 1, 0, 0, 0], level.says(0x81)),
                (
                    "properties that are not there",
                    &[0, 1, 0, 1],
                    level.says(0x81),
                ),
                ("identifier 0 and a code", &[0, 0, 0], level.says(0x82)),
            ] {
                rows.push(row(section, what, level, packet(first, &[body]), answer));
            }
        }
    }
    check(rows);
}

#[test]
fn reason_codes() {
    check(
        ACKNOWLEDGEMENTS
            .into_iter()
            .flat_map(|(section, first, allowed)| {
                (0..=u8::MAX).map(move |code| {
                    let bytes = packet(first, &[&[0, 1, code]]);
                    let what = format!("code 0x{code:02x}");
                    row(section, what, L5, bytes, answer_to_code(code, allowed))
                })
            }),
    );
}

#[test]
fn properties_together() {
    let pair = &b"\x26\0\x01k\0\x01v"[..];
    let reason = b"\x1f\0\x03why";
    check(
        ACKNOWLEDGEMENTS
            .into_iter()
            .map(|(number, first, allowed)| {
                let all = section(&[pair, reason, pair, b"\x26\0\0\0\0"]);
                let bytes = packet(first, &[&[0, 1, *allowed.last().unwrap()], &all]);
                row(number, "all that it may have", L5, bytes, Taken)
            }),
    );
}
