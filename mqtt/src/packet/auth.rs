//! AUTH (MQTT 5, 3.15); MQTT 3.1.1 has no such packet.
//!
//! ```text
//! | reason code, 1 | properties |
//! ```
//! Both may be left out together when the reason code is Success and there are no properties;
//! otherwise the method is required.

use bytes::BytesMut;

use super::{PacketType, ProblemInformation, ProtocolVersion, check_reason_code, read_reason_code};
use crate::BinaryData;
use crate::codec::{EncodeError, InvalidPacket, Reader, Writer};
use crate::property::{Bearer, PropertyId, Value};
use crate::reason_code::ReasonCode;
use crate::utf8_string::Utf8String;

const AUTH: PacketType = PacketType::Auth;

/// A step of an enhanced authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// Which step.
    pub reason_code: ReasonCode,
    /// The method, which only an empty AUTH may lack (3.15.2.2.2).
    pub authentication_method: Option<Utf8String>,
    /// What the method makes of it.
    pub authentication_data: Option<BinaryData>,
    /// What there is to read about it.
    pub problem: ProblemInformation,
}

impl Auth {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, InvalidPacket> {
        let mut read = Self::default();
        if reader.is_empty() {
            return Ok(read);
        }
        read.reason_code = read_reason_code(reader, AUTH)?;
        let mut section = reader.properties(ProtocolVersion::V5, Bearer::Packet(AUTH))?;
        while let Some(property) = section.next()? {
            match property {
                (PropertyId::AuthenticationMethod, Value::Text(method)) => {
                    read.authentication_method = Some(method);
                }
                (PropertyId::AuthenticationData, Value::Binary(data)) => {
                    read.authentication_data = Some(data);
                }
                (id, value) => read.problem.take(&section, id, value)?,
            }
        }
        if read.authentication_method.is_none() {
            return Err(InvalidPacket::AuthenticationMethodMissing);
        }
        Ok(read)
    }

    pub(crate) fn encode(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        if version == ProtocolVersion::V311 {
            let field = "such packet";
            return Err(EncodeError::NotInVersion {
                packet: AUTH,
                version,
                field,
            });
        }
        check_reason_code(self.reason_code, AUTH, version)?;
        if self.authentication_method.is_none() && *self != Self::default() {
            return Err(EncodeError::Empty {
                packet: AUTH,
                field: "authentication method",
            });
        }
        Writer::packet(out, AUTH, 0, 0, |out| self.write(version, out)).map(|_| ())
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        if self.authentication_method.is_none() {
            return;
        }
        out.u8(self.reason_code as u8);
        out.section(version, |out| {
            out.property(
                PropertyId::AuthenticationMethod,
                self.authentication_method.as_ref(),
            );
            out.property(
                PropertyId::AuthenticationData,
                self.authentication_data.as_ref(),
            );
            self.problem.write(out);
        });
    }
}
