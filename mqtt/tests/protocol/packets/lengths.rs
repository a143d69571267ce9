//! Packets whose remaining length is right for the bytes that come, and too small or too large for the
//! packet: cut short at every byte, and longer by one.

use super::Answer::{Closes, GoodBye, Says, Taken};
use super::Level::L5;
use super::{Answer, LEVELS, Level, Row, check, first, row};
use crate::raw::{packet, section};

/// A packet, and what is said to it cut to each length.
struct Cut<'a> {
    section: &'static str,
    name: &'static str,
    first: u8,
    body: &'a [u8],
    /// To a cut one, where nothing else stands in `but`.
    answer: Answer,
    /// Lengths that mean something, or something else.
    but: &'a [(usize, Answer)],
    whole: Answer,
    longer: Answer,
}

impl Cut<'_> {
    fn rows(&self, level: Level) -> Vec<Row> {
        let len = self.body.len();
        let longer = [self.body, &[0]].concat();
        let answer_to = |cut| {
            let other = self.but.iter().find(|(len, _)| *len == cut);
            other.map_or(self.answer, |(_, answer)| *answer)
        };
        let cut = (0..len).map(|cut| (&self.body[..cut], answer_to(cut)));
        let others = [(self.body, self.whole), (&longer, self.longer)];
        let make = match self.first {
            0x10 => first,
            _ => row,
        };
        cut.chain(others)
            .map(|(body, answer)| {
                let what = format!("{} of {} bytes", self.name, body.len());
                let bytes = packet(self.first, &[body]);
                make(self.section, what, level, bytes, answer)
            })
            .collect()
    }
}

#[test]
fn connect() {
    for level in LEVELS {
        let will = [level.none(), b"\0\x01w\0\x04gone"].concat();
        let payload = [b"\0\x01c", &will[..], b"\0\x04user\0\x06secret"].concat();
        let head = [level.name(), &[0b1110_1110, 0, 60], level.none()].concat();
        let body = [head, payload].concat();
        // Nobody can be told whose version is not known.
        let unknown: Vec<(usize, Answer)> =
            (0..level.name().len()).map(|len| (len, Closes)).collect();
        let rows = Cut {
            section: "3.1",
            name: "CONNECT",
            first: 0x10,
            body: &body,
            answer: level.says(0x81),
            but: &unknown,
            whole: Taken,
            longer: level.says(0x81),
        };
        check(rows.rows(level));
    }
}

#[test]
fn publish() {
    for level in LEVELS {
        for (byte, id) in [
            (0x30, &[][..]),
            (0x32, &[0x12, 0x34]),
            (0x3d, &[0x12, 0x34]),
        ] {
            let head = [b"\0\x03a/b", id, level.none()].concat();
            let body = [&head, &b"xyz"[..]].concat();
            let payloads: Vec<(usize, Answer)> =
                (head.len()..body.len()).map(|len| (len, Taken)).collect();
            let rows = Cut {
                section: "3.3",
                name: "PUBLISH",
                first: byte,
                body: &body,
                answer: level.says(0x81),
                but: &payloads,
                whole: Taken,
                longer: Taken,
            };
            check(rows.rows(level));
        }
    }
    // The section's length goes beyond the packet as long as it is cut.
    let properties = section(&[b"\x02\0\0\0\x09", b"\x26\0\x01k\0\x01v"]);
    let rows = Cut {
        section: "3.3.2.3",
        name: "PUBLISH with properties",
        first: 0x30,
        body: &[b"\0\x01a", &properties[..]].concat(),
        answer: Says(0x81),
        but: &[],
        whole: Taken,
        longer: Taken,
    };
    check(rows.rows(L5));
}

#[test]
fn acknowledgements() {
    for (byte, code) in [(0x40, 0x97), (0x50, 0x97), (0x62, 0x92), (0x70, 0x92)] {
        for level in LEVELS {
            let rows = Cut {
                section: "3.4",
                name: "acknowledgement",
                first: byte,
                body: &[0x12, 0x34],
                answer: level.says(0x81),
                but: &[],
                whole: Taken,
                longer: if level == L5 { Taken } else { Closes },
            };
            check(rows.rows(level));
        }
        let properties = section(&[b"\x1f\0\x03why", b"\x26\0\x01k\0\x01v"]);
        let rows = Cut {
            section: "3.4",
            name: "acknowledgement with properties",
            first: byte,
            body: &[&[0x12, 0x34, code], &properties[..]].concat(),
            answer: Says(0x81),
            but: &[(2, Taken), (3, Taken)],
            whole: Taken,
            longer: Says(0x81),
        };
        check(rows.rows(L5));
    }
}

#[test]
fn subscribe_and_unsubscribe() {
    for level in LEVELS {
        let head = [&[0x12, 0x34], level.none()].concat();
        let filters = |entry: &[u8]| [&head, entry, entry].concat();
        for (section, name, byte, entry) in [
            ("3.8", "SUBSCRIBE", 0x82, &b"\0\x03a/b\x01"[..]),
            ("3.10", "UNSUBSCRIBE", 0xa2, b"\0\x03a/b"),
        ] {
            let rows = Cut {
                section,
                name,
                first: byte,
                body: &filters(entry),
                answer: level.says(0x81),
                but: &[
                    // No filter at all, and one.
                    (head.len(), level.says(0x82)),
                    (head.len() + entry.len(), Taken),
                ],
                whole: Taken,
                longer: level.says(0x81),
            };
            check(rows.rows(level));
        }
    }
}

#[test]
fn packets_of_servers() {
    for level in LEVELS {
        let codes = if level == L5 { &[0, 0x11][..] } else { &[] };
        let none = level.none().len();
        let suback = [&[0x12, 0x34], level.none(), &[0, 0x80]].concat();
        let unsuback = [&[0x12, 0x34], level.none(), codes].concat();
        let connack = [&[0, 0], level.none()].concat();
        let violation = level.says(0x82);
        // Of the list without an element the one thing that is wrong is said, too.
        let lists = [(2 + none, violation), (3 + none, violation)];
        for (section, name, byte, body, but) in [
            ("3.2", "CONNACK", 0x20, &connack, &[][..]),
            ("3.9", "SUBACK", 0x90, &suback, &lists),
            (
                "3.11",
                "UNSUBACK",
                0xb0,
                &unsuback,
                if level == L5 { &lists } else { &[] },
            ),
        ] {
            let is_list_of_codes = byte == 0x90 || (byte == 0xb0 && level == L5);
            let rows = Cut {
                section,
                name,
                first: byte,
                body,
                answer: level.says(0x81),
                but,
                whole: violation,
                longer: level.says(if is_list_of_codes { 0x82 } else { 0x81 }),
            };
            check(rows.rows(level));
        }
    }
}

#[test]
fn disconnect_and_auth() {
    let properties = section(&[b"\x1f\0\x03why", b"\x26\0\x01k\0\x01v"]);
    let disconnect = Cut {
        section: "3.14",
        name: "DISCONNECT",
        first: 0xe0,
        body: &[&[4], &properties[..]].concat(),
        answer: Says(0x81),
        but: &[(0, GoodBye), (1, GoodBye)],
        whole: GoodBye,
        longer: Says(0x81),
    };
    check(disconnect.rows(L5));
    let properties = section(&[b"\x15\0\x05SCRAM", b"\x16\0\x02\0\xff"]);
    let auth = Cut {
        section: "3.15",
        name: "AUTH",
        first: 0xf0,
        body: &[&[0x18], &properties[..]].concat(),
        answer: Says(0x81),
        but: &[(0, Says(0x82))],
        whole: Says(0x82),
        longer: Says(0x81),
    };
    check(auth.rows(L5));
}
