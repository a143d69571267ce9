//! PUBLISH: flags, topic names and aliases, packet identifiers, payload.

use super::Answer::{Says, Taken};
use super::Level::L5;
use super::{LEVELS, Level, check, row};
use crate::raw::{packet, section, text};

/// A PUBLISH with what its flags ask for.
fn publish(level: Level, flags: u8, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let prefix = u16::try_from(topic.len()).unwrap().to_be_bytes();
    let id: &[u8] = match flags >> 1 & 0b11 {
        0 => &[],
        _ => &[0x12, 0x34],
    };
    let fields = [&prefix, topic, id, level.none(), payload];
    packet(0x30 | flags, &fields)
}

#[test]
fn flags() {
    let rows = LEVELS.into_iter().flat_map(|level| {
        (0..16).map(move |flags: u8| {
            let (dup, qos) = (flags & 0b1000 != 0, flags >> 1 & 0b11);
            let (section, answer) = match (dup, qos) {
                (_, 3) => ("3.3.1.2", level.says(0x81)),
                (true, 0) => ("3.3.1.1", level.says(0x81)),
                _ => ("3.3.1", Taken),
            };
            let bytes = publish(level, flags, b"a/b", b"x");
            row(section, format!("flags {flags:04b}"), level, bytes, answer)
        })
    });
    check(rows);
}

/// Section, what it is, and the name.
type Name = (&'static str, &'static str, &'static [u8]);

const NAMES: [Name; 5] = [
    ("3.3.2.1", "one character", b"a"),
    ("4.7.3", "empty levels", b"//"),
    ("4.7.3", "spaces", b" / "),
    ("1.5.4", "U+FEFF, U+FFFF", "\u{feff}/\u{ffff}".as_bytes()),
    ("4.7.3", "the longest", &[b'x'; 65_535]),
];

const NO_NAMES: [Name; 9] = [
    ("3.3.2.1", "a wildcard of many levels", b"a/#"),
    ("3.3.2.1", "a wildcard of one level", b"+/a"),
    ("3.3.2.1", "a wildcard inside a level", b"a+b"),
    ("1.5.4", "U+0000", b"a\0b"),
    ("1.5.4", "a surrogate", b"\xed\xa0\x80"),
    ("1.5.4", "a pair of them", b"\xed\xa0\x80\xed\xb0\x80"),
    ("1.5.4", "a longer form than it takes", b"\xc0\xaf"),
    ("1.5.4", "more than U+10FFFF", b"\xf4\x90\x80\x80"),
    ("1.5.4", "a character that is cut off", b"a\xe2\x82"),
];

#[test]
fn topic_names() {
    let mut rows = Vec::new();
    for level in LEVELS {
        // Without an alias, which only MQTT 5 has.
        let none = match level {
            L5 => Says(0x82),
            _ => level.says(0x81),
        };
        let nothing: Name = ("4.7.3", "nothing, nor an alias", b"");
        let names = NAMES.map(|name| (name, Taken)).into_iter();
        let no_names = NO_NAMES.map(|name| (name, level.says(0x81)));
        for ((section, what, topic), answer) in names.chain(no_names).chain([(nothing, none)]) {
            for flags in [0, 0b10, 0b100] {
                let what = format!("{what}, flags {flags:03b}");
                let bytes = publish(level, flags, topic, b"x");
                rows.push(row(section, what, level, bytes, answer));
            }
        }
    }
    check(rows);
}

/// More levels than this server takes (1 to 128) are no error of the packet.
#[test]
fn topic_names_with_many_levels() {
    check(LEVELS.into_iter().flat_map(|level| {
        let of = |levels: usize| publish(level, 0, "/".repeat(levels - 1).as_bytes(), b"x");
        [
            row("4.7.3", "128 levels", level, of(128), Taken),
            row("4.7.3", "129 levels", level, of(129), level.says(0x90)),
        ]
    }));
}

#[test]
fn packet_identifiers() {
    check(LEVELS.into_iter().flat_map(|level| {
        [0x32_u8, 0x34].into_iter().flat_map(move |first| {
            let with =
                |id: u16| packet(first, &[b"\0\x01a", &id.to_be_bytes(), level.none(), b"x"]);
            [
                row("2.2.1", "1", level, with(1), Taken),
                row("2.2.1", "65,535", level, with(u16::MAX), Taken),
                row("2.2.1", "0", level, with(0), level.says(0x82)),
            ]
        })
    }));
}

/// The server of these tests takes aliases up to 10.
#[test]
fn topic_aliases() {
    let with = |topic: &str, alias: u16| {
        let alias = [&[0x23][..], &alias.to_be_bytes()].concat();
        packet(0x30, &[&text(topic), &section(&[&alias]), b"x"])
    };
    let twice = [with("a", 10), with("", 10)].concat();
    check([
        row("3.3.2.3.4", "the smallest", L5, with("a", 1), Taken),
        row("3.3.2.3.4", "the largest, set and used", L5, twice, Taken).not_cut(),
        row("3.3.2.3.4", "0", L5, with("a", 0), Says(0x94)),
        row(
            "3.3.2.3.4",
            "above the maximum",
            L5,
            with("a", 11),
            Says(0x94),
        ),
        row(
            "3.3.2.3.4",
            "one that was never set",
            L5,
            with("", 9),
            Says(0x82),
        ),
        row(
            "3.3.2.3.4",
            "0 and no topic name",
            L5,
            with("", 0),
            Says(0x94),
        ),
    ]);
}

/// A PUBLISH with these properties.
fn with(properties: &[&[u8]], payload: &[u8]) -> Vec<u8> {
    packet(0x34, &[b"\0\x01a\0\x07", &section(properties), payload])
}

#[test]
fn properties_together() {
    let all = [
        &b"\x01\x01"[..],
        b"\x02\0\0\x01\0",
        b"\x23\0\x03",
        b"\x08\0\x02re",
        b"\x09\0\x03\x00\xff\x80",
        b"\x26\0\x01k\0\x01v",
        b"\x03\0\x04text",
        b"\x26\0\x00\0\x00",
        b"\x26\0\x01k\0\x01v",
    ];
    let many = |count| with(&vec![&b"\x26\0\0\0\0"[..]; count], b"");
    let [text, wildcard, nothing] = [&b"\x01\x01"[..], b"\x08\0\x01#", b"\x08\0\0"];
    let cases = [
        (
            "3.3.2.3",
            "all that a client may send",
            with(&all, b"x"),
            Taken,
        ),
        (
            "3.3.2.3.2",
            "text that is none",
            with(&[text], b"\xff"),
            Says(0x99),
        ),
        ("3.3.2.3.2", "bytes", with(&[b"\x01\x00"], b"\xff"), Taken),
        (
            "3.3.2.3.5",
            "a wildcard",
            with(&[wildcard], b""),
            Says(0x81),
        ),
        (
            "3.3.2.3.5",
            "an empty name",
            with(&[nothing], b""),
            Says(0x81),
        ),
        ("4.13.2", "as many pairs as are taken", many(128), Taken),
        ("4.13.2", "more than are taken", many(129), Says(0x97)),
    ];
    check(cases.map(|(section, what, bytes, answer)| row(section, what, L5, bytes, answer)));
}

/// There are none before MQTT 5: what stands there is the payload.
#[test]
fn property_section_in_an_older_version_is_payload() {
    let rows = [Level::L3, Level::L4].map(|level| {
        let bytes = packet(0x30, &[b"\0\x01a", b"\x05\x02\0\0\0\x01", b"x"]);
        let mut server = super::Server::connected(level);
        let events = server.take(&bytes);
        let [mqtt::server::Event::Publish { message, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(message.payload, b"\x05\x02\0\0\0\x01x"[..]);
        row("3.1.1: 3.3.3", "properties", level, bytes, Taken)
    });
    check(rows);
}
