//! Any bytes as a stream of packets: decoding does not panic, means the same in any chunks, keeps
//! its limits, and what it accepts is encoded to what decodes to the same.
//!
//! Input: one byte (bits 0 and 1 a place in [`BEGINNINGS`], the others the chunk size less one), then the
//! stream.

use bytes::BytesMut;
use mqtt::codec::{DecodeError, Limits, decode};
use mqtt::{Packet, PacketType, ProtocolVersion, TopicFilter};

use crate::filters::check_filters;
use crate::frame::has_packet;
use crate::seen::{Seen, variant};

/// Streams up to this length are also given byte by byte.
const SINGLE_BYTES_MAX: usize = 600;

/// The names of the beginnings, in the order of their numbers.
pub const BEGINNINGS: [&str; 4] = ["connect", "3.1.1", "5", "narrow"];

/// How the stream begins.
#[derive(Debug, Clone, Copy)]
struct Beginning {
    /// `None` before a CONNECT, which then must come first.
    version: Option<ProtocolVersion>,
    packet_bytes_max: u32,
    filters_max: u16,
    user_properties_max: u16,
}

/// All that there is to know of a decoded stream.
#[derive(Debug, PartialEq)]
struct Decoded {
    /// Each packet with the version in which it came and its size.
    packets: Vec<(Packet, ProtocolVersion, usize)>,
    error: Option<DecodeError>,
    /// Bytes of whole packets; a refused packet counts as soon as its header is right.
    taken: usize,
}

/// Decodes an input. Panics when something does not hold.
pub fn run(input: &[u8], seen: &mut Seen) {
    let Some((&first, stream)) = input.split_first() else {
        return;
    };
    let beginning = Beginning::of(first);
    let limits = beginning.limits();
    let whole = decode_chunks(beginning, &limits, stream, stream.len().max(1));
    let (_, chunk_bytes) = parameters(first);
    assert_same(&whole, beginning, &limits, stream, chunk_bytes);
    if stream.len() <= SINGLE_BYTES_MAX {
        assert_same(&whole, beginning, &limits, stream, 1);
    }
    check_rest(&whole, stream);
    for (packet, version, bytes) in &whole.packets {
        seen.note("packet", (packet.packet_type(), *version));
        check_limits(packet, *bytes, &limits, seen);
        check_encoding(packet, *version, *bytes, &limits);
    }
    check_filters(whole.packets.iter().map(|(packet, _, _)| packet), seen);
    match &whole.error {
        Some(error) => check_error(error, seen),
        None if whole.taken == stream.len() => seen.note_end(|| "ends whole".to_owned()),
        None => seen.note_end(|| "ends part".to_owned()),
    }
}

/// What the first byte of an input says: the beginning, and the chunk size in bytes.
pub fn parameters(first: u8) -> (&'static str, usize) {
    let name = BEGINNINGS.get(usize::from(first & 3)).copied();
    (name.unwrap_or_default(), usize::from(first >> 2) + 1)
}

impl Beginning {
    fn of(first: u8) -> Self {
        let version = match first & 3 {
            0 => None,
            1 => Some(ProtocolVersion::V311),
            _ => Some(ProtocolVersion::V5),
        };
        // The last one has limits that a short input passes.
        let is_narrow = first & 3 == 3;
        Self {
            version,
            packet_bytes_max: if is_narrow { 64 } else { 4_096 },
            filters_max: if is_narrow { 2 } else { 1_024 },
            user_properties_max: if is_narrow { 2 } else { 128 },
        }
    }

    fn limits(self) -> Limits {
        Limits {
            packet_bytes_max: self.packet_bytes_max,
            filters_max: self.filters_max,
            user_properties_max: self.user_properties_max,
        }
    }
}

/// The packets of a stream that comes in chunks, and the error at which it ended.
fn decode_chunks(
    beginning: Beginning,
    limits: &Limits,
    stream: &[u8],
    chunk_bytes: usize,
) -> Decoded {
    let mut version = beginning.version;
    let mut decoded = Decoded {
        packets: Vec::new(),
        error: None,
        taken: 0,
    };
    let mut src = BytesMut::new();
    for chunk in stream.chunks(chunk_bytes) {
        src.extend_from_slice(chunk);
        loop {
            let before = src.len();
            let result = decode(&mut src, version, limits);
            decoded.taken += before - src.len();
            match result {
                Ok(Some(packet)) => {
                    let own = own_version(&packet, version);
                    version = version.or(Some(own));
                    decoded.packets.push((packet, own, before - src.len()));
                }
                Ok(None) => {
                    assert_eq!(src.len(), before, "bytes of half a packet were taken");
                    break;
                }
                Err(error) => {
                    decoded.error = Some(error);
                    return decoded;
                }
            }
        }
    }
    decoded
}

fn assert_same(
    whole: &Decoded,
    beginning: Beginning,
    limits: &Limits,
    stream: &[u8],
    chunk_bytes: usize,
) {
    let chunked = decode_chunks(beginning, limits, stream, chunk_bytes);
    assert_eq!(
        chunked, *whole,
        "chunks of {chunk_bytes} bytes mean something else"
    );
}

/// Without an error, what is left is less than a packet.
fn check_rest(decoded: &Decoded, stream: &[u8]) {
    let rest = stream.get(decoded.taken..);
    let rest = rest.unwrap_or_else(|| panic!("{} taken of {}", decoded.taken, stream.len()));
    assert!(
        decoded.error.is_some() || !has_packet(rest),
        "a whole packet was left: {rest:02x?}"
    );
}

/// A CONNECT names its version itself.
fn own_version(packet: &Packet, version: Option<ProtocolVersion>) -> ProtocolVersion {
    match (packet, version) {
        (Packet::Connect(connect), _) => connect.version,
        (_, Some(version)) => version,
        (other, None) => panic!("{} before CONNECT", other.packet_type()),
    }
}

/// What a packet holds is bounded by its bytes and by the limits.
fn check_limits(packet: &Packet, bytes: usize, limits: &Limits, seen: &mut Seen) {
    assert!(
        bytes <= limits.packet_bytes_max as usize,
        "{} of {bytes} bytes",
        packet.packet_type()
    );
    let (filters, user_properties) = match packet {
        Packet::Subscribe(it) => (it.subscriptions.len(), it.user_properties.len()),
        Packet::Unsubscribe(it) => (it.filters.len(), it.user_properties.len()),
        Packet::Connect(it) => {
            let of_will = it
                .will
                .as_ref()
                .map_or(0, |will| will.message.properties.user_properties.len());
            (0, it.properties.user_properties.len().max(of_will))
        }
        Packet::Publish(it) => (0, it.properties.user_properties.len()),
        _ => (0, 0),
    };
    let counts = (filters.min(4), user_properties.min(4));
    seen.note("counts", (packet.packet_type(), counts, limits.filters_max));
    assert!(
        filters <= usize::from(limits.filters_max),
        "{filters} filters"
    );
    let max = usize::from(limits.user_properties_max);
    assert!(user_properties <= max, "{user_properties} user properties");
}

/// The packet encodes to what decodes to the same, is no longer than it came, and is either refused
/// by the other version or understood there.
fn check_encoding(packet: &Packet, version: ProtocolVersion, bytes: usize, limits: &Limits) {
    let mut encoded = BytesMut::new();
    packet
        .encode(version, &mut encoded)
        .unwrap_or_else(|error| panic!("it was decoded, and is not encoded: {error}"));
    assert!(
        encoded.len() <= bytes,
        "{} bytes become {}",
        bytes,
        encoded.len()
    );
    let again = decode(&mut encoded, Some(version), limits);
    assert_eq!(again.as_ref(), Ok(&Some(packet.clone())));
    assert!(encoded.is_empty(), "{} bytes are left", encoded.len());

    let other = match version {
        ProtocolVersion::V311 => ProtocolVersion::V5,
        ProtocolVersion::V5 => ProtocolVersion::V311,
    };
    // MQTT 3.1.1 gives `$share/` no meaning, so that a filter of it may be none of version 5.
    let is_of_both = all_filters_are_served(packet);
    if !is_of_both {
        return;
    }
    if packet.encode(other, &mut encoded).is_ok() {
        // One property length more.
        let limits = Limits {
            packet_bytes_max: limits.packet_bytes_max + 8,
            ..limits.clone()
        };
        let again = decode(&mut encoded, Some(other), &limits);
        let again = again.unwrap_or_else(|error| panic!("in {other}: {error}"));
        assert_eq!(
            again.map(|packet| packet.packet_type()),
            Some(packet.packet_type())
        );
        assert!(encoded.is_empty(), "{} bytes are left", encoded.len());
    } else {
        assert!(encoded.is_empty(), "a refused packet was written");
    }
}

/// The client can be told of it.
fn check_error(error: &DecodeError, seen: &mut Seen) {
    seen.note_end(|| format!("refused {}", variant(&error.rule)));
    let words: String = error.to_string();
    let words = words.replace(|char: char| char.is_ascii_hexdigit(), "");
    seen.note("refused", (words, error.packet, error.version));
    let code = error.reason_code();
    let answer = match error.packet {
        Some(PacketType::Connect) => PacketType::Connack,
        _ => PacketType::Disconnect,
    };
    assert!(code.is_error(), "{error} is answered with {code}");
    assert!(
        code.allowed_in(answer) || code.allowed_in(PacketType::Connack),
        "{error}: {answer} does not carry {code}"
    );
    assert!(!error.to_string().is_empty());
}

fn all_filters_are_served(packet: &Packet) -> bool {
    match packet {
        Packet::Subscribe(it) => it.subscriptions.iter().all(|it| it.filter.is_served()),
        Packet::Unsubscribe(it) => it.filters.iter().all(TopicFilter::is_served),
        _ => true,
    }
}
