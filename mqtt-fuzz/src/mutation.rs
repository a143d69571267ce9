//! New inputs from old ones: damage of the kinds that happens to packets, and other operations.

use crate::Target;
use crate::connection::operation::{self, Kind, Operation};
use crate::frame::{header_bytes, packet_bytes, remaining_length};
use crate::random::Random;

/// Longest input that is made.
const INPUT_BYTES_MAX: usize = 3_000;
/// Most changes at a time.
const CHANGES_MAX: usize = 4;

/// Bytes on the edge of something: signs, flags, lengths.
const EDGES: [u8; 12] = [0, 1, 2, 3, 4, 0x10, 0x7f, 0x80, 0x81, 0xc0, 0xfe, 0xff];

/// Properties with a value, one of each type and some that only one packet bears.
const PROPERTIES: &[&[u8]] = &[
    &[0x01, 1],
    &[0x02, 0, 0, 0, 5],
    &[0x03, 0, 1, b't'],
    &[0x08, 0, 1, b'r'],
    &[0x09, 0, 1, 0xff],
    &[0x0b, 0x80, 0x01],
    &[0x11, 0, 0, 0, 5],
    &[0x12, 0, 1, b'i'],
    &[0x13, 0, 5],
    &[0x15, 0, 1, b'm'],
    &[0x16, 0, 1, b'd'],
    &[0x17, 0],
    &[0x18, 0, 0, 0, 5],
    &[0x19, 1],
    &[0x1a, 0, 1, b'a'],
    &[0x1c, 0, 1, b's'],
    &[0x1f, 0, 1, b'w'],
    &[0x21, 0, 2],
    &[0x22, 0, 2],
    &[0x23, 0, 1],
    &[0x24, 1],
    &[0x25, 1],
    &[0x26, 0, 1, b'k', 0, 1, b'v'],
    &[0x27, 0, 0, 0, 20],
    &[0x28, 1],
    &[0x29, 1],
    &[0x2a, 1],
];

/// Changes an input, with parts of another one.
pub(crate) fn mutate(target: Target, input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut input = input.to_vec();
    for _ in 0..=random.below(CHANGES_MAX) {
        match target {
            Target::Decode => mutate_stream(&mut input, other, random),
            Target::Server => input = mutate_operations(&input, other, random),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// The first byte says how the stream comes; the rest are packets.
fn mutate_stream(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if input.is_empty() || random.is_one_in(20) {
        let first = random.byte();
        match input.first_mut() {
            Some(byte) => *byte = first,
            None => input.push(first),
        }
        return;
    }
    let mut stream = input.split_off(1);
    let other = other.get(1..).unwrap_or_default();
    match random.below(5) {
        0 => mutate_bytes(&mut stream, other, random),
        1 => mutate_packets(&mut stream, other, random),
        2 => insert_property(&mut stream, random),
        3 => mutate_strings(&mut stream, random),
        _ => mutate_inside(&mut stream, other, random),
    }
    input.append(&mut stream);
}

/// Damage that knows nothing of packets.
fn mutate_bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let until = (at + 1 + random.below(8)).min(bytes.len());
    let range = at.min(until)..until;
    match random.below(9) {
        0 | 1 => set(
            bytes,
            at,
            |byte, random| byte ^ (1 << random.below(8)),
            random,
        ),
        2 => set(bytes, at, |_, random| edge(random), random),
        // A length that is off by a little.
        3 => set(bytes, at, near, random),
        4 => bytes.insert(at, random.byte()),
        5 => drop(bytes.drain(range)),
        6 => {
            let again = bytes.get(range).unwrap_or_default().to_vec();
            bytes.splice(at..at, again);
        }
        7 => {
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend(other.iter().skip(from));
        }
        _ => bytes.truncate(at),
    }
}

fn set(bytes: &mut [u8], at: usize, change: impl Fn(u8, &mut Random) -> u8, random: &mut Random) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte, random);
    }
}

fn edge(random: &mut Random) -> u8 {
    random.pick(&EDGES).copied().unwrap_or_default()
}

fn near(byte: u8, random: &mut Random) -> u8 {
    let by = u8::try_from(1 + random.below(3)).unwrap_or(1);
    match random.is_one_in(2) {
        true => byte.wrapping_add(by),
        false => byte.wrapping_sub(by),
    }
}

/// Whole packets come again, are left out, change places, or come from the other stream.
fn mutate_packets(stream: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let mut packets = packets(stream);
    let others = self::packets(other);
    let at = random.below(packets.len());
    match random.below(4) {
        0 if !packets.is_empty() => drop(packets.remove(at)),
        1 if !packets.is_empty() => {
            let to = random.below(packets.len());
            packets.swap(at, to);
        }
        2 => packets.extend(packets.get(at).cloned()),
        _ => packets.extend(random.pick(&others).cloned()),
    }
    *stream = packets.concat();
}

/// Damage inside of one packet.
fn mutate_inside(stream: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    change_body(stream, random, |body, random| {
        mutate_bytes(body, other, random)
    });
}

/// A property where a section may begin, with both lengths right afterwards if it does.
fn insert_property(stream: &mut Vec<u8>, random: &mut Random) {
    change_body(stream, random, |body, random| {
        let section = random.below(body.len());
        let property = random.pick(PROPERTIES).copied().unwrap_or_default();
        if let Some(length) = body.get_mut(section) {
            *length = length.wrapping_add(u8::try_from(property.len()).unwrap_or_default());
            body.splice(section + 1..section + 1, property.iter().copied());
        }
    });
}

/// What looks like a string with its length, and maybe a byte behind it, comes again or is left out.
fn mutate_strings(stream: &mut Vec<u8>, random: &mut Random) {
    change_body(stream, random, |body, random| {
        let at = random.below(body.len());
        let Some([high, low]) = body.get(at..).and_then(<[u8]>::first_chunk).copied() else {
            return;
        };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low])) + random.below(2);
        let Some(string) = body.get(at..end).map(<[u8]>::to_vec) else {
            return;
        };
        match random.is_one_in(2) {
            true => drop(body.drain(at..end)),
            false => drop(body.splice(at..at, string)),
        }
    });
}

/// Changes the body of one packet, whose remaining length is right afterwards.
fn change_body(
    stream: &mut Vec<u8>,
    random: &mut Random,
    change: impl Fn(&mut Vec<u8>, &mut Random),
) {
    let mut packets = packets(stream);
    let at = random.below(packets.len());
    if let Some(packet) = packets.get_mut(at) {
        let mut body = packet.split_off(header_bytes(packet).min(packet.len()));
        change(&mut body, random);
        packet.truncate(1);
        packet.extend(remaining_length(body.len()));
        packet.append(&mut body);
    }
    *stream = packets.concat();
}

/// A stream cut where its remaining lengths say; the last piece may be a part.
fn packets(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (packet, tail) = rest.split_at(packet_bytes(rest).min(rest.len()));
        packets.push(packet.to_vec());
        rest = tail;
    }
    packets
}

/// Operations come again, are left out, change places, get another argument, or come from the other
/// input; what the client sends as bytes is damaged.
fn mutate_operations(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let (mut options, mut operations) = operation::split(input);
    let (_, others) = operation::split(other);
    // What goes on from where an input has come to leads further than what changes its way.
    let at = match random.is_one_in(2) {
        true => operations.len(),
        false => random.below(operations.len() + 1),
    };
    let mut damaged = Vec::new();
    match random.below(12) {
        0 => options = random.byte() & 0xf,
        1 => {
            let until = (at + 1 + random.below(3)).min(operations.len());
            operations.drain(at.min(until)..until);
        }
        2 if at < operations.len() => {
            let to = random.below(operations.len());
            operations.swap(at, to);
        }
        3 => {
            let until = (at + 1 + random.below(6)).min(operations.len());
            let again = operations.get(at..until).unwrap_or_default().to_vec();
            operations.splice(at..at, again);
        }
        4 => {
            operations.truncate(at);
            operations.extend(others.iter().skip(random.below(others.len())));
        }
        5 | 6 => {
            if let Some(one) = operations.get_mut(at) {
                one.argument = argument(one.argument, random);
            }
        }
        7 => {
            if let Some(one) = operations.iter_mut().find(|one| one.kind == Kind::Raw) {
                damaged.extend(one.bytes);
                mutate_inside(&mut damaged, &[], random);
                one.bytes = &damaged;
            }
        }
        _ => operations.insert(at, any_operation(random)),
    }
    operation::join(options, operations)
}

fn any_operation(random: &mut Random) -> Operation<'static> {
    let kind = random.pick(Kind::ALL).copied().unwrap_or(Kind::Turn);
    Operation {
        kind,
        argument: argument(0, random),
        bytes: &[],
    }
}

fn argument(old: u8, random: &mut Random) -> u8 {
    match random.below(4) {
        0 => old ^ (1 << random.below(8)),
        1 => near(old, random),
        2 => edge(random),
        _ => random.byte(),
    }
}
