//! Reads the fields of one packet. Strings and binary data are slices of the packet.

use bytes::{Buf, Bytes};

use super::Limits;
use super::error::InvalidPacket;
use crate::BinaryData;
use crate::packet::{PacketId, ProtocolVersion};
use crate::property::{Bearer, Section};
use crate::topic::{TopicFilter, TopicName};
use crate::utf8_string::Utf8String;

/// What is left of a packet's body.
pub(crate) struct Reader<'l> {
    body: Bytes,
    limits: &'l Limits,
}

impl<'l> Reader<'l> {
    pub(crate) fn new(body: Bytes, limits: &'l Limits) -> Self {
        Self { body, limits }
    }

    pub(crate) fn limits(&self) -> &'l Limits {
        self.limits
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// All that is left: the payload of a PUBLISH.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.body)
    }

    /// Refuses a packet that goes on behind its last field.
    pub(crate) fn finish(&self) -> Result<(), InvalidPacket> {
        match self.body.len() {
            0 => Ok(()),
            bytes => Err(InvalidPacket::TrailingBytes { bytes }),
        }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, InvalidPacket> {
        self.body
            .try_get_u8()
            .map_err(|_| InvalidPacket::UnexpectedEnd { field })
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, InvalidPacket> {
        self.body
            .try_get_u16()
            .map_err(|_| InvalidPacket::UnexpectedEnd { field })
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, InvalidPacket> {
        self.body
            .try_get_u32()
            .map_err(|_| InvalidPacket::UnexpectedEnd { field })
    }

    pub(crate) fn variable_byte_integer(
        &mut self,
        field: &'static str,
    ) -> Result<u32, InvalidPacket> {
        let (value, bytes) = variable_byte_integer(&self.body, field)?
            .ok_or(InvalidPacket::UnexpectedEnd { field })?;
        self.body.advance(bytes);
        Ok(value)
    }

    /// Bytes with a 16-bit length prefix.
    fn prefixed(&mut self, field: &'static str) -> Result<Bytes, InvalidPacket> {
        let len = usize::from(self.u16(field)?);
        self.take(len, field)
    }

    fn take(&mut self, len: usize, field: &'static str) -> Result<Bytes, InvalidPacket> {
        if len > self.body.len() {
            return Err(InvalidPacket::UnexpectedEnd { field });
        }
        Ok(self.body.split_to(len))
    }

    pub(crate) fn binary(&mut self, field: &'static str) -> Result<BinaryData, InvalidPacket> {
        let data = self.prefixed(field)?;
        // A 16-bit prefix cannot announce more than fits.
        BinaryData::try_from(data).map_err(|_| InvalidPacket::UnexpectedEnd { field })
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Result<Utf8String, InvalidPacket> {
        Utf8String::try_from(self.prefixed(field)?)
            .map_err(|error| InvalidPacket::Text { field, error })
    }

    pub(crate) fn topic_name(&mut self, field: &'static str) -> Result<TopicName, InvalidPacket> {
        let text = self.string(field)?;
        TopicName::new(text).map_err(|error| InvalidPacket::TopicName { field, error })
    }

    pub(crate) fn topic_filter(
        &mut self,
        version: ProtocolVersion,
    ) -> Result<TopicFilter, InvalidPacket> {
        let text = self.string("topic filter")?;
        TopicFilter::of_client(text, version).map_err(InvalidPacket::TopicFilter)
    }

    pub(crate) fn packet_id(&mut self) -> Result<PacketId, InvalidPacket> {
        PacketId::new(self.u16("packet identifier")?).ok_or(InvalidPacket::PacketIdZero)
    }

    /// The property section, which MQTT 3.1.1 does not have.
    pub(crate) fn properties(
        &mut self,
        version: ProtocolVersion,
        bearer: Bearer,
    ) -> Result<Section<'l>, InvalidPacket> {
        let section = match version {
            ProtocolVersion::V311 => Bytes::new(),
            ProtocolVersion::V5 => {
                let len = self.variable_byte_integer("property length")?;
                self.take(len as usize, "properties")?
            }
        };
        Ok(Section::new(Self::new(section, self.limits), bearer))
    }
}

/// The variable byte integer at the front of `src`, and how many bytes it takes; `None` when it
/// is not there as a whole.
pub(crate) fn variable_byte_integer(
    src: &[u8],
    field: &'static str,
) -> Result<Option<(u32, usize)>, InvalidPacket> {
    let mut value = 0;
    for (index, byte) in src.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if *byte == 0 && index > 0 {
                let rule = "more bytes than the value takes";
                return Err(InvalidPacket::VariableByteInteger { field, rule });
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if src.len() < 4 {
        return Ok(None);
    }
    let rule = "longer than four bytes";
    Err(InvalidPacket::VariableByteInteger { field, rule })
}
