//! The fixed header (MQTT 5, 2.1): packet type, flags and remaining length.
//!
//! ```text
//!  7   6   5   4   3   2   1   0
//! +---------------+---------------+
//! |  packet type  |     flags     |
//! +---------------+---------------+
//! | remaining length, 1-4 bytes   |
//! +-------------------------------+
//! ```

use super::error::{DecodeError, InvalidPacket};
use super::reader::variable_byte_integer;
use crate::packet::{PacketType, ProtocolVersion};

/// A fixed header that has been checked as far as it can be without the rest of the packet.
pub(crate) struct FixedHeader {
    pub(crate) packet_type: PacketType,
    /// The flags; only those of a PUBLISH mean anything.
    pub(crate) flags: u8,
    pub(crate) header_bytes: usize,
    remaining_bytes: usize,
}

impl FixedHeader {
    /// Reads the header at the front of `src`; `None` when it is not there as a whole.
    pub(crate) fn read(
        src: &[u8],
        version: Option<ProtocolVersion>,
        packet_bytes_max: u32,
    ) -> Result<Option<Self>, DecodeError> {
        let Some((first, rest)) = src.split_first() else {
            return Ok(None);
        };
        let (number, flags) = (first >> 4, first & 0x0f);
        let packet_type = PacketType::from_number(number)
            .filter(|packet| {
                !(*packet == PacketType::Auth && version == Some(ProtocolVersion::V311))
            })
            .ok_or(DecodeError {
                packet: None,
                version,
                rule: InvalidPacket::PacketTypeReserved { number },
            })?;
        let blame = |rule| DecodeError {
            packet: Some(packet_type),
            version,
            rule,
        };
        if let Some(expected) = packet_type.fixed_flags()
            && flags != expected
        {
            return Err(blame(InvalidPacket::FixedHeaderFlags { flags, expected }));
        }
        if version.is_none() && packet_type != PacketType::Connect {
            return Err(blame(InvalidPacket::ConnectExpected));
        }
        let Some((remaining, length_bytes)) =
            variable_byte_integer(rest, "remaining length").map_err(blame)?
        else {
            return Ok(None);
        };
        let header_bytes = 1 + length_bytes;
        let remaining_bytes = remaining as usize;
        let bytes = header_bytes + remaining_bytes;
        if bytes > packet_bytes_max as usize {
            return Err(blame(InvalidPacket::PacketTooLarge {
                bytes,
                max: packet_bytes_max,
            }));
        }
        Ok(Some(Self {
            packet_type,
            flags,
            header_bytes,
            remaining_bytes,
        }))
    }

    /// Size of the packet with its header.
    pub(crate) fn packet_bytes(&self) -> usize {
        self.header_bytes + self.remaining_bytes
    }
}
