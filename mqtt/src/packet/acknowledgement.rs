//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5, 3.4-3.7), which have one shape.
//!
//! ```text
//! | packet identifier, 2 | reason code, 1 | properties |
//! ```
//! In MQTT 5 the properties may be left out when there are none, and the reason code with them
//! when it is Success. MQTT 3.1.1 has the packet identifier only.

use bytes::BytesMut;

use super::{
    PacketId, PacketType, ProblemInformation, ProtocolVersion, check_reason_code, read_reason_code,
};
use crate::codec::{Encode, EncodeError, InvalidPacket, Reader, Writer};
use crate::property::Bearer;
use crate::reason_code::ReasonCode;

/// Answers a PUBLISH, PUBREC or PUBREL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The packet that is answered.
    pub packet_id: PacketId,
    /// What became of it. Always Success in 3.1.1, which has no other.
    pub reason_code: ReasonCode,
    /// What there is to read about it.
    pub problem: ProblemInformation,
}

impl Acknowledgement {
    /// An acknowledgement without problem information.
    pub fn new(packet_id: PacketId, reason_code: ReasonCode) -> Self {
        Self {
            packet_id,
            reason_code,
            problem: ProblemInformation::default(),
        }
    }

    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
        packet: PacketType,
    ) -> Result<Self, InvalidPacket> {
        let mut read = Self::new(reader.packet_id()?, ReasonCode::Success);
        if version == ProtocolVersion::V5 && !reader.is_empty() {
            read.reason_code = read_reason_code(reader, packet)?;
            if !reader.is_empty() {
                let section = reader.properties(version, Bearer::Packet(packet))?;
                read.problem = ProblemInformation::read(section)?;
            }
        }
        Ok(read)
    }

    pub(crate) fn encode(
        &self,
        packet: PacketType,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let reason_code = self.reason_code;
        check_reason_code(reason_code, packet, version)?;
        // A negative PUBACK or PUBREC cannot be said in 3.1.1, and without its code it would be a
        // positive one. PUBREL and PUBCOMP go out there whatever the code, as 3.1.1 wants it.
        let refuses = matches!(packet, PacketType::Puback | PacketType::Pubrec);
        if version == ProtocolVersion::V311 && refuses && reason_code.is_error() {
            return Err(EncodeError::ReasonCode {
                packet,
                version,
                reason_code,
            });
        }
        let flags = packet.fixed_flags().unwrap_or_default();
        Writer::packet(out, packet, flags, 0, |out| self.write(version, out)).map(|_| ())
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        self.packet_id.encode(out);
        if version == ProtocolVersion::V311 {
            return;
        }
        let has_properties = !self.problem.is_empty();
        if has_properties || self.reason_code != ReasonCode::Success {
            out.u8(self.reason_code as u8);
        }
        if has_properties {
            out.section(version, |out| self.problem.write(out));
        }
    }
}
