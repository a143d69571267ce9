//! Raw packets, byte by byte, and what decoding makes of them.

use bytes::BytesMut;
use mqtt::codec::{DecodeError, InvalidPacket, Limits, decode};
use mqtt::{Packet, ProtocolVersion, ReasonCode, Utf8String};

pub(crate) use ProtocolVersion::{V5, V311};

/// Both versions, for what they have in common.
pub(crate) const VERSIONS: [ProtocolVersion; 2] = [V311, V5];

/// A packet from its first byte and the fields that follow the remaining length.
pub(crate) fn packet(first: u8, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let mut bytes = vec![first];
    bytes.extend(variable_byte_integer(body.len()));
    bytes.extend(body);
    bytes
}

pub(crate) fn variable_byte_integer(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).unwrap();
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low + 128);
    }
}

/// Text with its length prefix.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A property section with its length.
pub(crate) fn section(properties: &[&[u8]]) -> Vec<u8> {
    let properties = properties.concat();
    [variable_byte_integer(properties.len()), properties].concat()
}

/// The empty property section in MQTT 5, nothing in 3.1.1.
pub(crate) fn no_properties(version: ProtocolVersion) -> &'static [u8] {
    match version {
        V311 => &[],
        V5 => &[0],
    }
}

pub(crate) fn string(text: &str) -> Utf8String {
    Utf8String::try_from(text).unwrap()
}

pub(crate) fn try_decode(version: ProtocolVersion, bytes: &[u8]) -> Result<Packet, DecodeError> {
    let mut src = BytesMut::from(bytes);
    let packet = decode(&mut src, Some(version), &Limits::default())?.expect("a whole packet");
    assert!(src.is_empty(), "decoded less than the packet");
    Ok(packet)
}

/// Decodes, and checks that encoding gives the same bytes again.
pub(crate) fn decoded(version: ProtocolVersion, bytes: &[u8]) -> Packet {
    let packet = try_decode(version, bytes).unwrap();
    assert_eq!(
        encoded(version, &packet),
        bytes,
        "encoding differs from what was decoded"
    );
    packet
}

pub(crate) fn encoded(version: ProtocolVersion, packet: &Packet) -> Vec<u8> {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).unwrap();
    out.to_vec()
}

/// Asserts that a packet is refused, for this rule and with this code.
#[track_caller]
pub(crate) fn assert_refused(
    version: ProtocolVersion,
    bytes: &[u8],
    rule: InvalidPacket,
    reason_code: ReasonCode,
) {
    let error = try_decode(version, bytes).unwrap_err();
    assert_eq!(error.rule, rule, "{version}");
    assert_eq!(error.reason_code(), reason_code, "{version}: {error}");
}
