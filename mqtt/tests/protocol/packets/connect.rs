//! CONNECT: protocol names and levels, flags, payload.

use super::Answer::{Closes, Says, Taken};
use super::Level::{L3, L4, L5};
use super::{LEVELS, Level, Row, check, first};
use crate::raw::{packet, section, text};

const CLEAN: u8 = 0b10;

/// What the flags announce, in the order in which it must come.
fn payload(level: Level, flags: u8) -> Vec<u8> {
    let mut payload = text("c");
    if flags & 0b100 != 0 {
        payload.extend([level.none(), &text("w"), &text("gone")].concat());
    }
    if flags & 0b1000_0000 != 0 {
        payload.extend(text("user"));
    }
    if flags & 0b0100_0000 != 0 {
        payload.extend(text("secret"));
    }
    payload
}

#[test]
fn names_and_levels_that_are_served_and_those_that_are_not() {
    let with = |name: &[u8], level: u8| {
        let prefix = [0, u8::try_from(name.len()).unwrap()];
        packet(0x10, &[&prefix, name, &[level, CLEAN, 0, 60], b"\0\x01c"])
    };
    let mut rows: Vec<Row> = LEVELS
        .iter()
        .map(|level| {
            let bytes = level.connect(CLEAN, &[b"\0\x01c"]);
            first("3.1.2.2", "a level that is served", *level, bytes, Taken)
        })
        .collect();
    for number in 0..=255 {
        // The shape of the answer goes by the level without the bit that bridges set.
        let (level, answer) = match number & 0x7f {
            0..=4 => (L4, Says(1)),
            _ => (L5, Says(0x84)),
        };
        let what = |name| format!("{name} level {number}");
        if number != 4 && number != 5 {
            let bytes = with(b"MQTT", number);
            rows.push(first("3.1.2.2", what("MQTT"), level, bytes, answer));
        }
        if number != 3 {
            let bytes = with(b"MQIsdp", number);
            rows.push(first("3.1.2.2", what("MQIsdp"), level, bytes, answer));
        }
    }
    for name in [
        &b"mqtt"[..],
        b"MQTt",
        b"MQIsdP",
        b"MQT",
        b"MQTTT",
        b"",
        b"MQTT\0",
    ] {
        for number in [3, 4, 5] {
            let what = format!("name {name:?} level {number}");
            rows.push(first("3.1.2.1", what, L4, with(name, number), Closes));
        }
    }
    let not_utf8 = with(b"MQ\xff\xfe", 5);
    rows.push(first(
        "3.1.2.1",
        "a name that is not UTF-8",
        L4,
        not_utf8,
        Closes,
    ));
    check(rows);
}

/// All 256, each with the payload that it announces.
#[test]
fn flags_and_what_they_may_be_together() {
    let mut rows = Vec::new();
    for level in LEVELS {
        for flags in 0..=u8::MAX {
            let (will, will_qos) = (flags & 0b100 != 0, flags >> 3 & 0b11);
            let section = match flags {
                _ if flags & 1 != 0 => "3.1.2.3",
                _ if !will && (will_qos != 0 || flags & 0b10_0000 != 0) => "3.1.2.6",
                _ if will_qos == 3 => "3.1.2.6",
                _ if level != L5 && flags & 0b1100_0000 == 0b0100_0000 => "3.1.1: 3.1.2.9",
                _ => "",
            };
            let answer = match section {
                "" => Taken,
                _ => level.says(0x81),
            };
            let bytes = level.connect(flags, &[&payload(level, flags)]);
            let what = format!("flags {flags:08b}");
            rows.push(first(section, what, level, bytes, answer));
        }
    }
    check(rows);
}

#[test]
fn client_identifiers() {
    let mut rows = Vec::new();
    for level in LEVELS {
        for (length, clean) in [0, 1, 23, 24, 1_000]
            .into_iter()
            .flat_map(|length| [(length, 0), (length, CLEAN)])
        {
            let answer = match (level, length, clean) {
                (L3, 0, _) | (L4, 0, 0) => Says(2),
                // 3.1 has at most 23; more are taken, as other servers do.
                _ => Taken,
            };
            let id = text(&"x".repeat(length));
            let what = format!("{length} characters, clean {clean}");
            let bytes = level.connect(clean, &[&id]);
            rows.push(first("3.1.3.1", what, level, bytes, answer));
        }
    }
    check(rows);
}

#[test]
fn wills() {
    let mut rows = Vec::new();
    for level in LEVELS {
        let will = |topic: &[u8], payload: &[u8]| {
            let prefix = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
            let will = [&prefix(topic)[..], topic, &prefix(payload), payload];
            level.connect(0b110, &[b"\0\x01c", level.none(), &will.concat()])
        };
        for (what, topic, payload, answer) in [
            ("nothing in it", &b"w"[..], &b""[..], Taken),
            ("bytes that are no text", b"w", b"\0\xff\x80", Taken),
            ("the largest payload", b"w", &[b'x'; 65_535], Taken),
            ("no topic name", b"", b"x", level.says(0x81)),
            ("a wildcard", b"a/+", b"x", level.says(0x81)),
            ("the other wildcard", b"#", b"x", level.says(0x81)),
            ("U+0000", b"a\0", b"x", level.says(0x81)),
        ] {
            rows.push(first("3.1.3.3", what, level, will(topic, payload), answer));
        }
    }
    check(rows);
}

/// With everything that it can have, and then one thing that contradicts another.
#[test]
fn properties_together() {
    let all = [
        &b"\x11\0\0\0\x09"[..],
        b"\x21\0\x14",
        b"\x27\0\x01\0\0",
        b"\x22\0\x05",
        b"\x19\x01",
        b"\x17\x00",
        b"\x15\0\x05SCRAM",
        b"\x16\0\x04\x00\xff\x00\xff",
        b"\x26\0\x01k\0\x01v",
        b"\x26\0\x01k\0\x01v",
    ];
    let of_will = [
        &b"\x18\0\0\0\x07"[..],
        b"\x01\x01",
        b"\x02\0\0\0\x08",
        b"\x03\0\x04text",
        b"\x08\0\x02re",
        b"\x09\0\x02\x00\xff",
        b"\x26\0\x01k\0\x01v",
        b"\x26\0\x01k\0\x01v",
    ];
    let with = |properties: &[&[u8]], will: &[&[u8]]| {
        let head = [L5.name(), &[0b1100_0110, 0, 60]].concat();
        let will = [&section(will)[..], b"\0\x01w\0\x04gone"].concat();
        let tail = b"\0\x04user\0\x06secret";
        packet(
            0x10,
            &[&head, &section(properties), b"\0\x01c", &will, tail],
        )
    };
    let not_text = |indicator: u8| {
        let will = [&section(&[&[1, indicator]])[..], b"\0\x01w\0\x02a\xff"].concat();
        packet(0x10, &[L5.name(), &[0b110, 0, 60, 0], b"\0\x01c", &will])
    };
    check([
        first("3.1.2.11", "all of them", L5, with(&all, &of_will), Taken),
        first(
            "3.1.2.11",
            "in another order",
            L5,
            with(&reversed(&all), &reversed(&of_will)),
            Taken,
        ),
        first("3.1.2.11", "none", L5, with(&[], &[]), Taken),
        first(
            "3.1.2.11.10",
            "data without method",
            L5,
            with(&[b"\x16\0\x01d"], &[]),
            Says(0x82),
        ),
        first(
            "3.1.3.2.3",
            "a payload that is text",
            L5,
            not_text(0),
            Taken,
        ),
        first(
            "3.1.3.2.3",
            "a payload that is no text and says so",
            L5,
            not_text(1),
            Says(0x99),
        ),
    ]);
}

fn reversed<'a>(properties: &[&'a [u8]]) -> Vec<&'a [u8]> {
    properties.iter().rev().copied().collect()
}

/// Properties are no part of CONNECT before MQTT 5: they are read as what stands there instead.
#[test]
fn property_section_in_an_older_version_is_no_part_of_the_packet() {
    let rows = [L3, L4].into_iter().flat_map(|level| {
        let with =
            |section: &[u8]| packet(0x10, &[level.name(), &[CLEAN, 0, 60], section, b"\0\x01c"]);
        [
            first(
                "3.1.1: 3.1.3",
                "an empty section",
                level,
                with(&[0]),
                Closes,
            ),
            first(
                "3.1.1: 3.1.3",
                "one property",
                level,
                with(&[5, 0x11, 0, 0, 0, 9]),
                Closes,
            ),
        ]
    });
    check(rows);
}
