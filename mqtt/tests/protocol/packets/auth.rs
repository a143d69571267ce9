//! AUTH: no enhanced authentication was agreed upon, so that none is ever right (4.12); and MQTT 5
//! alone has the packet.

use super::Answer::{Closes, Says};
use super::Level::{L3, L4, L5};
use super::{check, row};
use crate::packets::acknowledgements::CODES;
use crate::raw::{packet, section};

const METHOD: &[u8] = b"\x15\0\x05SCRAM";

#[test]
fn contents() {
    let data = &b"\x16\0\x02\x00\xff"[..];
    let (reason, pair) = (&b"\x1f\0\x03why"[..], &b"\x26\0\x01k\0\x01v"[..]);
    let with = |code: u8, properties: &[&[u8]]| packet(0xf0, &[&[code], &section(properties)]);
    let all = [METHOD, data, reason, pair, pair];
    check([
        row("4.12", "nothing", L5, [0xf0, 0], Says(0x82)),
        row(
            "4.12",
            "all that it may have",
            L5,
            with(0x18, &all),
            Says(0x82),
        ),
        row("4.12", "a method", L5, with(0x19, &[METHOD]), Says(0x82)),
        row("3.15.2.2.2", "no method", L5, with(0x18, &[]), Says(0x82)),
        row(
            "3.15.2.2.2",
            "data without method",
            L5,
            with(0x18, &[data]),
            Says(0x82),
        ),
        row(
            "3.15.2",
            "a code without properties",
            L5,
            [0xf0, 1, 0x18],
            Says(0x81),
        ),
        row(
            "3.15.2",
            "a byte too many",
            L5,
            packet(0xf0, &[&[0x18], &section(&[METHOD]), &[0]]),
            Says(0x81),
        ),
    ]);
}

#[test]
fn reason_codes() {
    check((0..=u8::MAX).map(|code| {
        let answer = match CODES.contains(&code) {
            true => Says(0x82),
            false => Says(0x81),
        };
        let bytes = packet(0xf0, &[&[code], &section(&[METHOD])]);
        row("3.15.2.1", format!("code 0x{code:02x}"), L5, bytes, answer)
    }));
}

#[test]
fn older_versions_have_no_such_packet() {
    check([L3, L4].into_iter().flat_map(|level| {
        [&[0xf0][..], &[0xf0, 0], &[0xf1, 0], &[0xff]]
            .map(|bytes| row("3.1.1: 2.2.1", "type 15", level, bytes, Closes))
    }));
}
