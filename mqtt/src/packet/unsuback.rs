//! UNSUBACK (MQTT 5, 3.11; MQTT 3.1.1, 3.11).
//!
//! ```text
//! | packet identifier, 2 | properties | reason code, 1 | reason code, 1 | …
//! ```
//! MQTT 3.1.1 has the packet identifier only.

use bytes::BytesMut;

use super::{
    PacketId, PacketType, ProblemInformation, ProtocolVersion, check_reason_code, read_reason_code,
};
use crate::codec::{Encode, EncodeError, InvalidPacket, Reader, Writer};
use crate::property::Bearer;
use crate::reason_code::ReasonCode;

const UNSUBACK: PacketType = PacketType::Unsuback;

/// Answers an UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsuback {
    /// The UNSUBSCRIBE that is answered.
    pub packet_id: PacketId,
    /// What became of each filter, in the order of the UNSUBSCRIBE; at least one. In 3.1.1 there
    /// are none.
    pub reason_codes: Vec<ReasonCode>,
    /// What there is to read about it.
    pub problem: ProblemInformation,
}

impl Unsuback {
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, InvalidPacket> {
        let packet_id = reader.packet_id()?;
        let section = reader.properties(version, Bearer::Packet(UNSUBACK))?;
        let problem = ProblemInformation::read(section)?;
        let mut reason_codes = Vec::new();
        if version == ProtocolVersion::V5 {
            while !reader.is_empty() {
                reason_codes.push(read_reason_code(reader, UNSUBACK)?);
            }
            if reason_codes.is_empty() {
                return Err(InvalidPacket::Empty {
                    field: "reason code",
                });
            }
        }
        Ok(Self {
            packet_id,
            reason_codes,
            problem,
        })
    }

    pub(crate) fn encode(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        if version == ProtocolVersion::V5 && self.reason_codes.is_empty() {
            return Err(EncodeError::Empty {
                packet: UNSUBACK,
                field: "reason code",
            });
        }
        for reason_code in &self.reason_codes {
            check_reason_code(*reason_code, UNSUBACK, version)?;
        }
        Writer::packet(out, UNSUBACK, 0, 0, |out| self.write(version, out)).map(|_| ())
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        self.packet_id.encode(out);
        if version == ProtocolVersion::V5 {
            out.section(version, |out| self.problem.write(out));
            for reason_code in &self.reason_codes {
                out.u8(*reason_code as u8);
            }
        }
    }
}
