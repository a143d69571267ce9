//! SUBACK (MQTT 5, 3.9; MQTT 3.1.1, 3.9).
//!
//! ```text
//! | packet identifier, 2 | properties | reason code, 1 | reason code, 1 | …
//! ```
//! MQTT 3.1.1 has no properties, and of the failures only 0x80.

use bytes::BytesMut;

use super::{
    PacketId, PacketType, ProblemInformation, ProtocolVersion, check_reason_code, read_reason_code,
};
use crate::codec::{Encode, EncodeError, InvalidPacket, Reader, Writer};
use crate::property::Bearer;
use crate::reason_code::ReasonCode;

const SUBACK: PacketType = PacketType::Suback;

/// Answers a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    /// The SUBSCRIBE that is answered.
    pub packet_id: PacketId,
    /// What became of each filter, in the order of the SUBSCRIBE; at least one. To a 3.1.1 client
    /// every failure goes out as 0x80.
    pub reason_codes: Vec<ReasonCode>,
    /// What there is to read about it.
    pub problem: ProblemInformation,
}

impl Suback {
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, InvalidPacket> {
        let packet_id = reader.packet_id()?;
        let section = reader.properties(version, Bearer::Packet(SUBACK))?;
        let problem = ProblemInformation::read(section)?;
        let mut reason_codes = Vec::new();
        while !reader.is_empty() {
            let reason_code = read_reason_code(reader, SUBACK)?;
            let is_known = version == ProtocolVersion::V5
                || !reason_code.is_error()
                || reason_code == ReasonCode::UnspecifiedError;
            if !is_known {
                return Err(InvalidPacket::ReasonCodeNotAllowed { reason_code });
            }
            reason_codes.push(reason_code);
        }
        if reason_codes.is_empty() {
            return Err(InvalidPacket::Empty {
                field: "reason code",
            });
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
        if self.reason_codes.is_empty() {
            return Err(EncodeError::Empty {
                packet: SUBACK,
                field: "reason code",
            });
        }
        for reason_code in &self.reason_codes {
            check_reason_code(*reason_code, SUBACK, version)?;
        }
        Writer::packet(out, SUBACK, 0, 0, |out| self.write(version, out)).map(|_| ())
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        self.packet_id.encode(out);
        out.section(version, |out| self.problem.write(out));
        for reason_code in &self.reason_codes {
            let reason_code = match version {
                ProtocolVersion::V311 if reason_code.is_error() => ReasonCode::UnspecifiedError,
                _ => *reason_code,
            };
            out.u8(reason_code as u8);
        }
    }
}
