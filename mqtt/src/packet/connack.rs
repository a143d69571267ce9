//! CONNACK (MQTT 5, 3.2; MQTT 3.1.1, 3.2).
//!
//! ```text
//! | flags, 1 | reason code, 1 | properties |
//!
//! flags: | reserved, 7 | session present |
//! ```
//! MQTT 3.1.1 has no properties, and a return code of its own in the place of the reason code.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;

use super::{PacketType, ProblemInformation, ProtocolVersion, check_reason_code, read_reason_code};
use crate::BinaryData;
use crate::codec::{EncodeError, InvalidPacket, Reader, Writer};
use crate::property::{Bearer, PropertyId, Section, Value};
use crate::qos::MaximumQos;
use crate::reason_code::ReasonCode;
use crate::utf8_string::Utf8String;

const CONNACK: PacketType = PacketType::Connack;

/// Accepts or refuses a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connack {
    /// Whether an earlier session goes on. Never in a refusal.
    pub session_present: bool,
    /// Success, or why not.
    pub reason_code: ReasonCode,
    /// What MQTT 5 adds.
    pub properties: ConnackProperties,
}

/// Properties of a CONNACK (MQTT 5, 3.2.2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnackProperties {
    /// Seconds that the session lives on after the connection; absent means what CONNECT says.
    pub session_expiry_interval: Option<u32>,
    /// Publications of QoS 1 and 2 that the server takes at a time; absent means 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Highest QoS that the server serves; absent means 2.
    pub maximum_qos: Option<MaximumQos>,
    /// Whether retained messages are served; absent means yes.
    pub retain_available: Option<bool>,
    /// Largest packet in bytes that the server takes; absent means any.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The client identifier that the server chose, when CONNECT had an empty one.
    pub assigned_client_identifier: Option<Utf8String>,
    /// Highest topic alias that the server takes; absent means none.
    pub topic_alias_maximum: Option<u16>,
    /// Whether filters may have wildcards; absent means yes.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether subscriptions may have identifiers; absent means yes.
    pub subscription_identifiers_available: Option<bool>,
    /// Whether subscriptions may be shared; absent means yes.
    pub shared_subscription_available: Option<bool>,
    /// Keep alive in seconds that holds instead of the client's.
    pub server_keep_alive_seconds: Option<u16>,
    /// Basis of response topics.
    pub response_information: Option<Utf8String>,
    /// Another server to use.
    pub server_reference: Option<Utf8String>,
    /// Name of an enhanced authentication.
    pub authentication_method: Option<Utf8String>,
    /// What the method makes of it.
    pub authentication_data: Option<BinaryData>,
    /// What there is to read about it.
    pub problem: ProblemInformation,
}

impl Connack {
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, InvalidPacket> {
        let flags = reader.u8("connect acknowledge flags")?;
        if flags > 1 {
            return Err(InvalidPacket::ConnackFlags { flags });
        }
        let session_present = flags == 1;
        let reason_code = match version {
            ProtocolVersion::V311 => read_return_code(reader)?,
            ProtocolVersion::V5 => read_reason_code(reader, CONNACK)?,
        };
        if session_present && reason_code.is_error() {
            return Err(InvalidPacket::SessionPresentInRefusal);
        }
        let properties =
            ConnackProperties::read(reader.properties(version, Bearer::Packet(CONNACK))?)?;
        Ok(Self {
            session_present,
            reason_code,
            properties,
        })
    }

    pub(crate) fn encode(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let reason_code = self.reason_code;
        check_reason_code(reason_code, CONNACK, version)?;
        let code = match version {
            ProtocolVersion::V311 => return_code(reason_code).ok_or(EncodeError::ReasonCode {
                packet: CONNACK,
                version,
                reason_code,
            })?,
            ProtocolVersion::V5 => reason_code as u8,
        };
        let session_present = self.session_present && !reason_code.is_error();
        Writer::packet(out, CONNACK, 0, 0, |out| {
            out.u8(u8::from(session_present));
            out.u8(code);
            out.section(version, |out| self.properties.write(out));
        })
        .map(|_| ())
    }
}

/// The return code of MQTT 3.1.1 (3.2.2.3) that says what this reason code says, if there is one.
/// Where there is none, a 3.1.1 server closes the connection without CONNACK.
const fn return_code(reason_code: ReasonCode) -> Option<u8> {
    match reason_code {
        ReasonCode::Success => Some(0),
        ReasonCode::UnsupportedProtocolVersion => Some(1),
        ReasonCode::ClientIdentifierNotValid => Some(2),
        ReasonCode::ServerUnavailable | ReasonCode::ServerBusy => Some(3),
        ReasonCode::BadUserNameOrPassword => Some(4),
        ReasonCode::NotAuthorized | ReasonCode::Banned => Some(5),
        _ => None,
    }
}

fn read_return_code(reader: &mut Reader<'_>) -> Result<ReasonCode, InvalidPacket> {
    match reader.u8("return code")? {
        0 => Ok(ReasonCode::Success),
        1 => Ok(ReasonCode::UnsupportedProtocolVersion),
        2 => Ok(ReasonCode::ClientIdentifierNotValid),
        3 => Ok(ReasonCode::ServerUnavailable),
        4 => Ok(ReasonCode::BadUserNameOrPassword),
        5 => Ok(ReasonCode::NotAuthorized),
        value => Err(InvalidPacket::ReasonCodeUnknown { value }),
    }
}

impl ConnackProperties {
    fn read(mut section: Section<'_>) -> Result<Self, InvalidPacket> {
        let mut read = Self::default();
        while let Some((id, value)) = section.next()? {
            read.take(&section, id, value)?;
        }
        Ok(read)
    }

    fn take(
        &mut self,
        section: &Section<'_>,
        id: PropertyId,
        value: Value,
    ) -> Result<(), InvalidPacket> {
        use PropertyId as Id;
        match (id, value) {
            (Id::SessionExpiryInterval, Value::FourByte(v)) => {
                self.session_expiry_interval = Some(v);
            }
            (Id::ReceiveMaximum, Value::TwoByte(v)) => self.receive_maximum = NonZeroU16::new(v),
            (Id::MaximumQos, Value::Byte(0)) => self.maximum_qos = Some(MaximumQos::AtMostOnce),
            (Id::MaximumQos, Value::Byte(_)) => self.maximum_qos = Some(MaximumQos::AtLeastOnce),
            (Id::RetainAvailable, Value::Byte(v)) => self.retain_available = Some(v == 1),
            (Id::MaximumPacketSize, Value::FourByte(v)) => {
                self.maximum_packet_size = NonZeroU32::new(v);
            }
            (Id::AssignedClientIdentifier, Value::Text(v)) => {
                self.assigned_client_identifier = Some(v);
            }
            (Id::TopicAliasMaximum, Value::TwoByte(v)) => self.topic_alias_maximum = Some(v),
            (Id::WildcardSubscriptionAvailable, Value::Byte(v)) => {
                self.wildcard_subscription_available = Some(v == 1);
            }
            (Id::SubscriptionIdentifiersAvailable, Value::Byte(v)) => {
                self.subscription_identifiers_available = Some(v == 1);
            }
            (Id::SharedSubscriptionAvailable, Value::Byte(v)) => {
                self.shared_subscription_available = Some(v == 1);
            }
            (Id::ServerKeepAlive, Value::TwoByte(v)) => self.server_keep_alive_seconds = Some(v),
            (Id::ResponseInformation, Value::Text(v)) => self.response_information = Some(v),
            (Id::ServerReference, Value::Text(v)) => self.server_reference = Some(v),
            (Id::AuthenticationMethod, Value::Text(v)) => self.authentication_method = Some(v),
            (Id::AuthenticationData, Value::Binary(v)) => self.authentication_data = Some(v),
            (id, value) => self.problem.take(section, id, value)?,
        }
        Ok(())
    }

    fn write(&self, out: &mut Writer<'_>) {
        use PropertyId as Id;
        out.property(
            Id::SessionExpiryInterval,
            self.session_expiry_interval.as_ref(),
        );
        out.property(Id::ReceiveMaximum, self.receive_maximum.as_ref());
        out.property(Id::MaximumQos, self.maximum_qos.as_ref());
        out.property(Id::RetainAvailable, self.retain_available.as_ref());
        out.property(Id::MaximumPacketSize, self.maximum_packet_size.as_ref());
        out.property(
            Id::AssignedClientIdentifier,
            self.assigned_client_identifier.as_ref(),
        );
        out.property(Id::TopicAliasMaximum, self.topic_alias_maximum.as_ref());
        out.property(
            Id::WildcardSubscriptionAvailable,
            self.wildcard_subscription_available.as_ref(),
        );
        out.property(
            Id::SubscriptionIdentifiersAvailable,
            self.subscription_identifiers_available.as_ref(),
        );
        out.property(
            Id::SharedSubscriptionAvailable,
            self.shared_subscription_available.as_ref(),
        );
        out.property(Id::ServerKeepAlive, self.server_keep_alive_seconds.as_ref());
        out.property(Id::ResponseInformation, self.response_information.as_ref());
        out.property(Id::ServerReference, self.server_reference.as_ref());
        out.property(
            Id::AuthenticationMethod,
            self.authentication_method.as_ref(),
        );
        out.property(Id::AuthenticationData, self.authentication_data.as_ref());
        self.problem.write(out);
    }
}
