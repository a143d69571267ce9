//! From bytes to packets and back, for both versions of the protocol and in both directions.
//!
//! Decoding is strict: whatever the standard forbids is refused with the packet, the rule and the
//! reason code. It allocates nothing on the word of a length field: a packet is decoded when all
//! its bytes are there, and a length above the limit is refused from the header.
//!
//! The payload and the strings of a decoded PUBLISH are slices of the buffer that was read into.
//! CONNECT, SUBSCRIBE and UNSUBSCRIBE are copied out first: wills, names and filters live as long
//! as their connection, and would keep the whole buffer alive.

mod error;
mod fixed_header;
mod reader;
mod writer;

use bytes::{Buf, Bytes, BytesMut};

use crate::ProtocolVersion;
use crate::packet::{
    Acknowledgement, Auth, Connack, Connect, Disconnect, Packet, PacketType, Publish, Suback,
    Subscribe, Unsuback, Unsubscribe,
};

pub use error::{DecodeError, EncodeError, InvalidPacket};
pub(crate) use fixed_header::FixedHeader;
pub(crate) use reader::Reader;
pub(crate) use writer::{Encode, Writer, packet_bytes};

/// Largest value of a variable byte integer, and so of the remaining length (MQTT 5, 1.5.5).
pub const VARIABLE_BYTE_INTEGER_MAX: u32 = 268_435_455;

/// What a decoder accepts at most. Passing one is answered with a reason code, never cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet in bytes, fixed header included (MQTT 5 Maximum Packet Size). Default
    /// 262,144.
    pub packet_bytes_max: u32,
    /// Most topic filters in one SUBSCRIBE or UNSUBSCRIBE. A filter of one byte takes some fifty
    /// in memory, so the size of the packet alone is no bound. Default 1,024.
    pub filters_max: u16,
    /// Most user properties in one packet or will, for the same reason. Default 128.
    pub user_properties_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 262_144,
            filters_max: 1_024,
            user_properties_max: 128,
        }
    }
}

/// Takes one packet from the front of `src`; `None` when it is not there as a whole.
///
/// `version` is what the CONNECT named, and `None` before: then only a CONNECT is accepted, which
/// names its version itself.
///
/// # Errors
/// The packet breaks a rule of the standard or passes a limit. The stream has no next packet then.
///
/// ```
/// use bytes::BytesMut;
/// use mqtt::codec::{Limits, decode};
/// use mqtt::{Packet, ProtocolVersion};
///
/// let mut src = BytesMut::from(&b"\xc0\x00\x40"[..]);
/// let version = Some(ProtocolVersion::V5);
/// assert_eq!(decode(&mut src, version, &Limits::default())?, Some(Packet::Pingreq));
/// assert_eq!(decode(&mut src, version, &Limits::default())?, None);
/// assert_eq!(src, b"\x40"[..]);
/// # Ok::<(), mqtt::codec::DecodeError>(())
/// ```
pub fn decode(
    src: &mut BytesMut,
    version: Option<ProtocolVersion>,
    limits: &Limits,
) -> Result<Option<Packet>, DecodeError> {
    let Some(header) = FixedHeader::read(src, version, limits.packet_bytes_max)? else {
        return Ok(None);
    };
    if src.len() < header.packet_bytes() {
        return Ok(None);
    }
    let mut frame = src.split_to(header.packet_bytes()).freeze();
    frame.advance(header.header_bytes);
    let body = match header.packet_type {
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe => {
            Bytes::copy_from_slice(&frame)
        }
        _ => frame,
    };
    decode_body(&header, body, version, limits).map(Some)
}

fn decode_body(
    header: &FixedHeader,
    body: Bytes,
    version: Option<ProtocolVersion>,
    limits: &Limits,
) -> Result<Packet, DecodeError> {
    let blame = |version, rule| DecodeError {
        packet: Some(header.packet_type),
        version,
        rule,
    };
    let mut reader = Reader::new(body, limits);
    let (version, is_v31) = match (header.packet_type, version) {
        (PacketType::Connect, _) => Connect::read_version(&mut reader)
            .map_err(|rule| blame(rule.version_to_answer_in(), rule))?,
        (_, Some(version)) => (version, false),
        (_, None) => return Err(blame(None, InvalidPacket::ConnectExpected)),
    };
    let packet = read_packet(header, &mut reader, version, is_v31);
    packet
        .and_then(|packet| reader.finish().map(|()| packet))
        .map_err(|rule| blame(Some(version), rule))
}

fn read_packet(
    header: &FixedHeader,
    reader: &mut Reader<'_>,
    version: ProtocolVersion,
    is_v31: bool,
) -> Result<Packet, InvalidPacket> {
    let packet_type = header.packet_type;
    let mut acknowledgement = || Acknowledgement::read(reader, version, packet_type);
    Ok(match packet_type {
        PacketType::Puback => Packet::Puback(acknowledgement()?),
        PacketType::Pubrec => Packet::Pubrec(acknowledgement()?),
        PacketType::Pubrel => Packet::Pubrel(acknowledgement()?),
        PacketType::Pubcomp => Packet::Pubcomp(acknowledgement()?),
        PacketType::Connect => Packet::Connect(Box::new(Connect::read(reader, version, is_v31)?)),
        PacketType::Connack => Packet::Connack(Box::new(Connack::read(reader, version)?)),
        PacketType::Publish => Packet::Publish(Publish::read(header.flags, reader, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::read(reader, version)?),
        PacketType::Suback => Packet::Suback(Suback::read(reader, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::read(reader, version)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::read(reader, version)?),
        PacketType::Pingreq => Packet::Pingreq,
        PacketType::Pingresp => Packet::Pingresp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::read(reader, version)?),
        PacketType::Auth => Packet::Auth(Auth::read(reader)?),
    })
}
