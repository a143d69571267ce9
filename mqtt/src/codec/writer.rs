//! Writes the fields of one packet. Every packet is written twice by the same code: first to be
//! measured, because lengths stand in front, then into the buffer.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, BytesMut};

use super::VARIABLE_BYTE_INTEGER_MAX;
use super::error::EncodeError;
use crate::message::PayloadFormat;
use crate::packet::{PacketId, PacketType, ProtocolVersion};
use crate::property::PropertyId;
use crate::qos::MaximumQos;
use crate::topic::{TopicFilter, TopicName};
use crate::utf8_string::Utf8String;
use crate::{BinaryData, SubscriptionIdentifier};

/// A buffer, or only a count of what would be written.
pub(crate) struct Writer<'b> {
    buffer: Option<&'b mut BytesMut>,
    bytes: usize,
}

impl Writer<'_> {
    /// How many bytes `body` writes.
    pub(crate) fn measure(body: impl Fn(&mut Writer<'_>)) -> usize {
        let mut counter = Writer {
            buffer: None,
            bytes: 0,
        };
        body(&mut counter);
        counter.bytes
    }

    /// Appends a packet to `buffer`: fixed header and body. `shared_bytes` of the packet follow
    /// from elsewhere.
    ///
    /// Returns the size of the packet, shared bytes included.
    pub(crate) fn packet(
        buffer: &mut BytesMut,
        packet: PacketType,
        flags: u8,
        shared_bytes: usize,
        body: impl Fn(&mut Writer<'_>),
    ) -> Result<usize, EncodeError> {
        let own_bytes = Writer::measure(&body);
        let bytes = own_bytes + shared_bytes;
        let remaining = remaining_length(packet, bytes)?;
        let header_bytes = 1 + variable_byte_integer_bytes(remaining);
        buffer.reserve(header_bytes + own_bytes);
        let mut writer = Writer {
            buffer: Some(buffer),
            bytes: 0,
        };
        writer.u8((packet as u8) << 4 | flags);
        writer.variable_byte_integer(remaining);
        body(&mut writer);
        Ok(header_bytes + bytes)
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.slice(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.slice(&value.to_be_bytes());
    }

    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        if let Some(buffer) = &mut self.buffer {
            buffer.put_slice(bytes);
        }
    }

    /// Bytes with a 16-bit length prefix. What is longer is cut; [`Utf8String`] and [`BinaryData`]
    /// cannot be, and for a will's payload it is checked before.
    pub(crate) fn prefixed(&mut self, bytes: &[u8]) {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(len);
        self.slice(bytes.get(..usize::from(len)).unwrap_or(bytes));
    }

    pub(crate) fn variable_byte_integer(&mut self, value: u32) {
        let mut rest = value;
        loop {
            let low = (rest & 0x7f) as u8;
            rest >>= 7;
            if rest == 0 {
                return self.u8(low);
            }
            self.u8(low | 0x80);
        }
    }

    /// A property section with its length, in MQTT 5; nothing in 3.1.1.
    pub(crate) fn section(
        &mut self,
        version: ProtocolVersion,
        properties: impl Fn(&mut Writer<'_>),
    ) {
        if version == ProtocolVersion::V5 {
            let bytes = Writer::measure(&properties);
            // A section that is longer than its prefix can say is also longer than a packet.
            self.variable_byte_integer(u32::try_from(bytes).unwrap_or(VARIABLE_BYTE_INTEGER_MAX));
            properties(self);
        }
    }

    /// A property, when it has a value.
    pub(crate) fn property(&mut self, id: PropertyId, value: Option<&impl Encode>) {
        if let Some(value) = value {
            self.u8(id as u8);
            value.encode(self);
        }
    }

    /// A property that is repeated for each of the values.
    pub(crate) fn properties(&mut self, id: PropertyId, values: &[impl Encode]) {
        for value in values {
            self.property(id, Some(value));
        }
    }
}

/// Size of a packet whose body has this many bytes, fixed header included.
pub(crate) fn packet_bytes(packet: PacketType, body_bytes: usize) -> Result<usize, EncodeError> {
    let remaining = remaining_length(packet, body_bytes)?;
    Ok(1 + variable_byte_integer_bytes(remaining) + body_bytes)
}

fn remaining_length(packet: PacketType, bytes: usize) -> Result<u32, EncodeError> {
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= VARIABLE_BYTE_INTEGER_MAX)
        .ok_or(EncodeError::PacketTooLarge { packet, bytes })
}

const fn variable_byte_integer_bytes(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// A value that a property or field can have.
pub(crate) trait Encode {
    fn encode(&self, out: &mut Writer<'_>);
}

impl Encode for bool {
    fn encode(&self, out: &mut Writer<'_>) {
        out.u8(u8::from(*self));
    }
}

impl Encode for u16 {
    fn encode(&self, out: &mut Writer<'_>) {
        out.u16(*self);
    }
}

impl Encode for u32 {
    fn encode(&self, out: &mut Writer<'_>) {
        out.slice(&self.to_be_bytes());
    }
}

impl Encode for NonZeroU16 {
    fn encode(&self, out: &mut Writer<'_>) {
        self.get().encode(out);
    }
}

impl Encode for NonZeroU32 {
    fn encode(&self, out: &mut Writer<'_>) {
        self.get().encode(out);
    }
}

impl Encode for PacketId {
    fn encode(&self, out: &mut Writer<'_>) {
        self.get().encode(out);
    }
}

impl Encode for SubscriptionIdentifier {
    fn encode(&self, out: &mut Writer<'_>) {
        out.variable_byte_integer(self.get());
    }
}

impl Encode for PayloadFormat {
    fn encode(&self, out: &mut Writer<'_>) {
        out.u8(*self as u8);
    }
}

impl Encode for MaximumQos {
    fn encode(&self, out: &mut Writer<'_>) {
        out.u8(*self as u8);
    }
}

impl Encode for BinaryData {
    fn encode(&self, out: &mut Writer<'_>) {
        out.prefixed(self.as_bytes());
    }
}

impl Encode for Utf8String {
    fn encode(&self, out: &mut Writer<'_>) {
        out.prefixed(self.as_bytes());
    }
}

impl Encode for TopicName {
    fn encode(&self, out: &mut Writer<'_>) {
        self.as_utf8_string().encode(out);
    }
}

impl Encode for TopicFilter {
    fn encode(&self, out: &mut Writer<'_>) {
        self.as_utf8_string().encode(out);
    }
}
