//! Values of properties: numbers at the ends of their ranges and beyond, strings that are none,
//! identifiers without a meaning, sections that end too early.

use super::Answer::{Says, Taken};
use super::properties::{BEARERS, PROPERTIES, answer_to_allowed, bearing, companion};
use super::{Answer, check};
use crate::raw::{section, variable_byte_integer};

/// Properties whose value is a string, or two.
const STRINGS: [u8; 8] = [0x03, 0x08, 0x12, 0x15, 0x1a, 0x1c, 0x1f, 0x26];

/// Not UTF-8, a surrogate, a longer form than it takes, a character that is cut off, U+0000.
const NO_STRINGS: [&[u8]; 5] = [
    b"\0\x02\xc3\x28",
    b"\0\x03\xed\xa0\x80",
    b"\0\x02\xc0\xaf",
    b"\0\x02\xe2\x82",
    b"\0\x01\0",
];

/// Packet, identifier, values that are taken, and values with what is said to them.
type Values = (
    char,
    u8,
    &'static [&'static [u8]],
    &'static [(&'static [u8], Answer)],
);

/// Of a byte that is 0 or 1.
const BEYOND_1: &[(&[u8], Answer)] = &[(&[2], Says(0x82)), (&[255], Says(0x82))];

const VALUES: [Values; 18] = [
    ('P', 0x01, &[&[0], &[1]], BEYOND_1),
    ('W', 0x01, &[&[0], &[1]], BEYOND_1),
    ('P', 0x02, &[&[0; 4], &[255; 4]], &[]),
    ('W', 0x02, &[&[0; 4], &[255; 4]], &[]),
    (
        'S',
        0x0b,
        &[&[1], &[0x80, 1], &[0xff, 0xff, 0xff, 0x7f]],
        &[
            (&[0], Says(0x82)),
            (&[0x81, 0], Says(0x81)),
            (&[0x80, 0x80, 0x80, 0x80, 1], Says(0x81)),
        ],
    ),
    ('C', 0x11, &[&[0; 4], &[255; 4]], &[]),
    ('C', 0x17, &[&[0], &[1]], BEYOND_1),
    ('W', 0x18, &[&[0; 4], &[255; 4]], &[]),
    ('C', 0x19, &[&[0], &[1]], BEYOND_1),
    ('C', 0x21, &[&[0, 1], &[255; 2]], &[(&[0, 0], Says(0x82))]),
    ('C', 0x22, &[&[0, 0], &[255; 2]], &[]),
    (
        'P',
        0x23,
        &[&[0, 1], &[0, 10]],
        &[(&[0, 0], Says(0x94)), (&[0, 11], Says(0x94))],
    ),
    (
        'C',
        0x27,
        &[&[0, 0, 0, 1], &[255; 4]],
        &[(&[0; 4], Says(0x82))],
    ),
    // Bytes of any kind, none as well.
    ('P', 0x09, &[b"\0\0", b"\0\x02\0\xff"], &[]),
    ('W', 0x09, &[b"\0\0", b"\0\x02\0\xff"], &[]),
    ('C', 0x16, &[b"\0\0", b"\0\x02\0\xff"], &[]),
    // Names and values of nothing.
    ('P', 0x26, &[b"\0\0\0\0"], &[]),
    ('C', 0x26, &[b"\0\0\0\0"], &[]),
];

#[test]
fn numbers() {
    let row = |letter, id: u8, value: &[u8], answer| {
        let bytes = section(&[companion(letter, id), &[id], value]);
        let what = format!("0x{id:02x} with {value:02x?} in {letter}");
        bearing(letter, what, &bytes, answer)
    };
    check(VALUES.into_iter().flat_map(|(letter, id, taken, refused)| {
        let taken = taken.iter().map(move |value| row(letter, id, value, Taken));
        let refused = refused
            .iter()
            .map(move |(value, answer)| row(letter, id, value, *answer));
        taken.chain(refused).collect::<Vec<_>>()
    }));
}

/// In every packet that may bear one.
#[test]
fn strings_that_are_none() {
    let mut rows = Vec::new();
    for (id, _, allowed) in PROPERTIES {
        if !STRINGS.contains(&id) {
            continue;
        }
        for letter in allowed.chars() {
            for string in NO_STRINGS {
                let values = match id {
                    0x26 => vec![[string, b"\0\x01v"].concat(), [b"\0\x01k", string].concat()],
                    _ => vec![string.to_vec()],
                };
                rows.extend(values.into_iter().map(|value| {
                    let bytes = section(&[companion(letter, id), &[id], &value]);
                    let what = format!("0x{id:02x} with {value:02x?} in {letter}");
                    bearing(letter, what, &bytes, Says(0x81))
                }));
            }
        }
    }
    check(rows);
}

/// One-byte identifiers, some of two bytes, and one of the most bytes that it may have.
#[test]
fn identifiers_that_mean_nothing() {
    let defined: Vec<usize> = PROPERTIES.iter().map(|(id, ..)| usize::from(*id)).collect();
    let unknown = (0..=300).chain([16_384, 268_435_455]);
    let unknown: Vec<usize> = unknown.filter(|id| !defined.contains(id)).collect();
    check(BEARERS.into_iter().flat_map(|(letter, bearer)| {
        unknown.iter().map(move |id| {
            let bytes = section(&[&variable_byte_integer(*id), &[0, 0, 0, 0]]);
            let what = format!("identifier {id} in {bearer}");
            bearing(letter, what, &bytes, Says(0x81))
        })
    }));
}

/// Where the length of the section says that it ends inside a property.
#[test]
fn sections_that_end_inside_a_property() {
    let mut rows = Vec::new();
    for (id, value, allowed) in PROPERTIES {
        let entry = [&[id], value].concat();
        for letter in allowed.chars() {
            rows.extend((1..=entry.len()).map(|len| {
                let answer = match len == entry.len() {
                    true => answer_to_allowed(letter, id),
                    false => Says(0x81),
                };
                let bytes = section(&[companion(letter, id), &entry[..len]]);
                let what = format!("{len} bytes of 0x{id:02x} in {letter}");
                bearing(letter, what, &bytes, answer)
            }));
        }
    }
    check(rows);
}

#[test]
fn lengths_of_sections() {
    let lengths: [&[u8]; 5] = [
        // More than there is, more bytes than it takes, more than four bytes, and ends inside it.
        &[100],
        &[0xff, 0xff, 0xff, 0x7f],
        &[0x80, 0],
        &[0x80, 0x80, 0x80, 0x80, 0],
        &[0xff, 0xff, 0xff, 0xff],
    ];
    check(BEARERS.into_iter().flat_map(|(letter, bearer)| {
        lengths.map(|length| {
            let what = format!("length {length:02x?} in {bearer}");
            bearing(letter, what, length, Says(0x81))
        })
    }));
}
