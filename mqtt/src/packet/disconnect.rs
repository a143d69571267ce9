//! DISCONNECT (MQTT 5, 3.14; MQTT 3.1.1, 3.14).
//!
//! ```text
//! | reason code, 1 | properties |
//! ```
//! In MQTT 5 the properties may be left out when there are none, and the reason code with them
//! when it is 0x00. In MQTT 3.1.1 the packet is empty and only the client sends it.

use bytes::BytesMut;

use super::{PacketType, ProblemInformation, ProtocolVersion, check_reason_code, read_reason_code};
use crate::codec::{EncodeError, InvalidPacket, Reader, Writer};
use crate::property::{Bearer, PropertyId, Value};
use crate::reason_code::ReasonCode;
use crate::utf8_string::Utf8String;

const DISCONNECT: PacketType = PacketType::Disconnect;

/// The last packet of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// Why the sender goes.
    pub reason_code: ReasonCode,
    /// Seconds that the session is to live on, instead of what CONNECT said. From clients only.
    pub session_expiry_interval: Option<u32>,
    /// Another server to use. From servers only.
    pub server_reference: Option<Utf8String>,
    /// What there is to read about it.
    pub problem: ProblemInformation,
}

impl Disconnect {
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, InvalidPacket> {
        let mut read = Self::default();
        if version == ProtocolVersion::V311 || reader.is_empty() {
            return Ok(read);
        }
        read.reason_code = read_reason_code(reader, DISCONNECT)?;
        if reader.is_empty() {
            return Ok(read);
        }
        let mut section = reader.properties(version, Bearer::Packet(DISCONNECT))?;
        while let Some(property) = section.next()? {
            match property {
                (PropertyId::SessionExpiryInterval, Value::FourByte(seconds)) => {
                    read.session_expiry_interval = Some(seconds);
                }
                (PropertyId::ServerReference, Value::Text(server)) => {
                    read.server_reference = Some(server);
                }
                (id, value) => read.problem.take(&section, id, value)?,
            }
        }
        Ok(read)
    }

    pub(crate) fn encode(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        check_reason_code(self.reason_code, DISCONNECT, version)?;
        // Without its code it would be a normal disconnection, which takes the will back.
        if version == ProtocolVersion::V311 && self.reason_code != ReasonCode::Success {
            let reason_code = self.reason_code;
            return Err(EncodeError::ReasonCode {
                packet: DISCONNECT,
                version,
                reason_code,
            });
        }
        Writer::packet(out, DISCONNECT, 0, 0, |out| self.write(version, out)).map(|_| ())
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        if version == ProtocolVersion::V311 {
            return;
        }
        let has_properties = self.session_expiry_interval.is_some()
            || self.server_reference.is_some()
            || !self.problem.is_empty();
        if has_properties || self.reason_code != ReasonCode::Success {
            out.u8(self.reason_code as u8);
        }
        if has_properties {
            out.section(version, |out| {
                out.property(
                    PropertyId::SessionExpiryInterval,
                    self.session_expiry_interval.as_ref(),
                );
                out.property(PropertyId::ServerReference, self.server_reference.as_ref());
                self.problem.write(out);
            });
        }
    }
}
