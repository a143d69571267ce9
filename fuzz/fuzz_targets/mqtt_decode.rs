//! Any bytes as a stream of packets: decoding does not panic, means the same in any chunks, and
//! what it accepts is encoded to what decodes to the same.
//!
//! Input: one byte (bit 0 the version, the others the chunk size less one), then the stream.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mqtt::codec::{DecodeError, Limits, decode};
use mqtt::{Packet, ProtocolVersion};

fuzz_target!(|data: &[u8]| {
    let Some((&first, stream)) = data.split_first() else {
        return;
    };
    let version = match first & 1 {
        0 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    let whole = decode_chunks(version, std::iter::once(stream));
    let chunked = decode_chunks(version, stream.chunks(usize::from(first >> 1) + 1));
    assert_eq!(chunked, whole);

    for packet in whole.0 {
        let mut encoded = BytesMut::new();
        packet
            .encode(version_of(&packet, version), &mut encoded)
            .expect("it was decoded");
        let (again, error) = decode_chunks(version, std::iter::once(&encoded[..]));
        assert_eq!((again, error), (vec![packet], None));
    }
});

/// All packets of a stream, and the error at which it ended.
fn decode_chunks<'a>(
    version: ProtocolVersion,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Packet>, Option<DecodeError>) {
    let limits = Limits {
        packet_bytes_max: 4_096,
        ..Limits::default()
    };
    let mut packets = Vec::new();
    let mut src = BytesMut::new();
    for chunk in chunks {
        src.extend_from_slice(chunk);
        loop {
            match decode(&mut src, Some(version), &limits) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

/// A CONNECT names its version itself.
fn version_of(packet: &Packet, version: ProtocolVersion) -> ProtocolVersion {
    match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    }
}
