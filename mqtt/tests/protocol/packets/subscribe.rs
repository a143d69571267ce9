//! SUBSCRIBE and UNSUBSCRIBE: filters, options, lists.

use super::Answer::{Says, Taken};
use super::Level::{L3, L4, L5};
use super::{LEVELS, Level, check, row};
use crate::raw::{packet, section, text};

fn subscribe(level: Level, filters: &[(&[u8], u8)]) -> Vec<u8> {
    let entry = |(filter, options): &(&[u8], u8)| {
        let prefix = u16::try_from(filter.len()).unwrap().to_be_bytes();
        [&prefix, *filter, &[*options]].concat()
    };
    let filters: Vec<u8> = filters.iter().flat_map(entry).collect();
    packet(0x82, &[&[0, 1], level.none(), &filters])
}

fn unsubscribe(level: Level, filters: &[&[u8]]) -> Vec<u8> {
    let entry = |filter: &&[u8]| {
        let prefix = u16::try_from(filter.len()).unwrap().to_be_bytes();
        [&prefix, *filter].concat()
    };
    let filters: Vec<u8> = filters.iter().flat_map(entry).collect();
    packet(0xa2, &[&[0, 1], level.none(), &filters])
}

/// All 256, of an ordinary subscription and of a shared one.
#[test]
fn options() {
    let mut rows = Vec::new();
    for level in LEVELS {
        for filter in [&b"a/b"[..], b"$share/g/a"] {
            for options in 0..=u8::MAX {
                let reserved = match level {
                    L5 => 0b1100_0000,
                    L3 | L4 => 0b1111_1100,
                };
                let answer = match options {
                    _ if options & reserved != 0 => level.says(0x81),
                    _ if options & 0b11 == 3 => level.says(0x82),
                    _ if options >> 4 == 3 => level.says(0x82),
                    _ if options & 0b100 != 0 && filter[0] == b'$' => level.says(0x82),
                    _ => Taken,
                };
                let what = format!("options {options:08b}, {}", filter.escape_ascii());
                let bytes = subscribe(level, &[(filter, options)]);
                rows.push(row("3.8.3.1", what, level, bytes, answer));
            }
        }
    }
    check(rows);
}

/// Section, what it is, and the filter.
type Filter = (&'static str, &'static str, &'static [u8]);

const FILTERS: [Filter; 8] = [
    ("4.7.1", "one of each wildcard", b"+/a/+/#"),
    ("4.7.1", "#", b"#"),
    ("4.7.3", "empty levels", b"//"),
    ("4.7.2", "$SYS", b"$SYS/#"),
    ("4.7.3", "the longest", &[b'x'; 65_535]),
    ("4.7.3", "the deepest", &[b'/'; 65_535]),
    ("4.8.2", "a shared subscription", b"$share/g//#"),
    ("4.8.2", "almost a shared subscription", b"$shared/g"),
];

const NO_FILTERS: [Filter; 9] = [
    ("4.7.3", "nothing", b""),
    ("4.7.1.2", "# inside", b"a/#/b"),
    ("4.7.1.2", "# with something before it", b"a/b#"),
    ("4.7.1.3", "+ with something before it", b"a+"),
    ("4.7.1.3", "+ with something behind it", b"+a/b"),
    ("1.5.4", "U+0000", b"a\0"),
    ("1.5.4", "a surrogate", b"\xed\xbf\xbf"),
    ("1.5.4", "a character that is cut off", b"\xf0\x9f\x8c"),
    ("4.8.2", "a wildcard in a share's name", b"$share/g+/a"),
];

/// Before MQTT 5, `$share/` means nothing: such a filter is none of the packet's errors.
const NO_SHARES: [Filter; 5] = [
    ("4.8.2", "a share without filter", b"$share/g"),
    ("4.8.2", "a share with an empty filter", b"$share/g/"),
    ("4.8.2", "a share without name", b"$share//a"),
    ("4.8.2", "nothing behind $share/", b"$share/"),
    ("4.8.2", "a wildcard as a share's name", b"$share/+/a"),
];

#[test]
fn filters() {
    let mut rows = Vec::new();
    for level in LEVELS {
        let of_share = match level {
            L5 => Says(0x81),
            L3 | L4 => Taken,
        };
        let filters = FILTERS.map(|filter| (filter, Taken)).into_iter();
        let no_filters = NO_FILTERS.map(|filter| (filter, level.says(0x81)));
        let no_shares = NO_SHARES.map(|filter| (filter, of_share));
        for ((section, what, filter), answer) in filters.chain(no_filters).chain(no_shares) {
            // A second one, so that one bad filter spoils a list.
            for bytes in [
                subscribe(level, &[(b"ok", 0), (filter, 0)]),
                unsubscribe(level, &[b"ok", filter]),
            ] {
                rows.push(row(section, what, level, bytes, answer));
            }
        }
    }
    check(rows);
}

#[test]
fn lists() {
    let mut rows = Vec::new();
    for level in LEVELS {
        let many = |count| vec![(&b"a"[..], 0); count];
        let names = |count| vec![&b"a"[..]; count];
        for (section, what, bytes, answer) in [
            ("3.8.3", "SUBSCRIBE, one", subscribe(level, &many(1)), Taken),
            (
                "3.8.3",
                "SUBSCRIBE, one twice",
                subscribe(level, &many(2)),
                Taken,
            ),
            (
                "3.8.3",
                "SUBSCRIBE, none",
                subscribe(level, &[]),
                level.says(0x82),
            ),
            (
                "3.10.3",
                "UNSUBSCRIBE, one",
                unsubscribe(level, &names(1)),
                Taken,
            ),
            (
                "3.10.3",
                "UNSUBSCRIBE, one twice",
                unsubscribe(level, &names(2)),
                Taken,
            ),
            (
                "3.10.3",
                "UNSUBSCRIBE, none",
                unsubscribe(level, &[]),
                level.says(0x82),
            ),
        ] {
            rows.push(row(section, what, level, bytes, answer));
        }
        // As many filters as this server takes.
        for (what, bytes, answer) in [
            ("SUBSCRIBE, 1,024", subscribe(level, &many(1_024)), Taken),
            (
                "SUBSCRIBE, 1,025",
                subscribe(level, &many(1_025)),
                level.says(0x97),
            ),
            (
                "UNSUBSCRIBE, 1,024",
                unsubscribe(level, &names(1_024)),
                Taken,
            ),
            (
                "UNSUBSCRIBE, 1,025",
                unsubscribe(level, &names(1_025)),
                level.says(0x97),
            ),
        ] {
            rows.push(row("4.13.2", what, level, bytes, answer));
        }
    }
    check(rows);
}

#[test]
fn packet_identifiers() {
    let mut rows = Vec::new();
    for level in LEVELS {
        for (first, tail) in [(0x82, &b"\0\x01a\x01"[..]), (0xa2, b"\0\x01a")] {
            for (id, answer) in [
                ([0, 1], Taken),
                ([0xff, 0xff], Taken),
                ([0, 0], level.says(0x82)),
            ] {
                let bytes = packet(first, &[&id, level.none(), tail]);
                let what = format!("0x{first:02x}, {id:?}");
                rows.push(row("2.2.1", what, level, bytes, answer));
            }
        }
    }
    check(rows);
}

#[test]
fn properties_together() {
    let pair = &b"\x26\0\x01k\0\x01v"[..];
    let largest = &b"\x0b\xff\xff\xff\x7f"[..];
    let with = |first, properties: &[&[u8]], tail: &[u8]| {
        packet(first, &[&[0, 1], &section(properties), &text("a"), tail])
    };
    check([
        row(
            "3.8.2.1",
            "all of SUBSCRIBE",
            L5,
            with(0x82, &[pair, largest, pair], &[0b0010_1110]),
            Taken,
        ),
        row(
            "3.8.2.1.2",
            "two identifiers",
            L5,
            with(0x82, &[b"\x0b\x01", b"\x0b\x02"], &[0]),
            Says(0x82),
        ),
        row(
            "3.8.2.1.2",
            "identifier 0",
            L5,
            with(0x82, &[b"\x0b\x00"], &[0]),
            Says(0x82),
        ),
        row(
            "3.8.2.1.2",
            "an identifier of five bytes",
            L5,
            with(0x82, &[b"\x0b\x80\x80\x80\x80\x01"], &[0]),
            Says(0x81),
        ),
        row(
            "3.10.2.1",
            "all of UNSUBSCRIBE",
            L5,
            with(0xa2, &[pair, pair], &[]),
            Taken,
        ),
        row(
            "3.10.2.1",
            "an identifier in UNSUBSCRIBE",
            L5,
            with(0xa2, &[b"\x0b\x01"], &[]),
            Says(0x81),
        ),
    ]);
}

/// There are none before MQTT 5: what stands there is taken for the length of a filter.
#[test]
fn property_section_in_an_older_version_is_no_part_of_the_packet() {
    check([L3, L4].into_iter().flat_map(|level| {
        [
            packet(0x82, &[&[0, 1], &[0], b"\0\x01a\0"]),
            packet(0x82, &[&[0, 1], b"\x02\x0b\x01", b"\0\x01a\0"]),
            packet(0xa2, &[&[0, 1], &[0], b"\0\x01a"]),
        ]
        .map(|bytes| {
            row(
                "3.1.1: 3.8.3",
                format!("{bytes:02x?}"),
                level,
                bytes,
                level.says(0x81),
            )
        })
    }));
}
