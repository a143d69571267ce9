//! What is wrong with a packet: the packet, the rule that it breaks, and the reason code with
//! which MQTT 5 answers it.

use thiserror::Error;

use crate::packet::{PacketType, ProtocolVersion};
use crate::property::{Bearer, PropertyId};
use crate::reason_code::ReasonCode;
use crate::topic::{TopicFilterError, TopicNameError};
use crate::utf8_string::Utf8StringError;

/// The peer sent bytes that are no packet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {rule}", packet.map_or("fixed header", PacketType::name))]
pub struct DecodeError {
    /// The packet, when its type is a defined one.
    pub packet: Option<PacketType>,
    /// The version in which the peer can be told, `None` while that is not known. For a CONNECT of
    /// an unknown level it is the version whose CONNACK such a client understands.
    pub version: Option<ProtocolVersion>,
    /// The rule that the packet breaks.
    pub rule: InvalidPacket,
}

impl DecodeError {
    /// The code of the CONNACK or DISCONNECT that answers the packet in MQTT 5.
    pub fn reason_code(&self) -> ReasonCode {
        self.rule.reason_code()
    }
}

/// A rule of the standard, or a limit, that a packet breaks. What is called *field* is the part of
/// the packet that was being read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidPacket {
    /// Authentication Data makes no sense without its method (MQTT 5, 3.1.2.11.10).
    #[error("authentication data without authentication method")]
    AuthenticationDataWithoutMethod,
    /// An AUTH that is not empty names its method (MQTT 5, 3.15.2.2.2).
    #[error("no authentication method")]
    AuthenticationMethodMissing,
    /// CONNACK flags other than Session Present.
    #[error("CONNACK flags 0x{flags:02x}, only bit 0 may be set")]
    ConnackFlags {
        /// The byte.
        flags: u8,
    },
    /// The first packet of a connection is CONNECT (3.1).
    #[error("first packet of the connection is no CONNECT")]
    ConnectExpected,
    /// Connect flags that contradict each other, or the reserved one.
    #[error("connect flags 0x{flags:02x}: {rule}")]
    ConnectFlags {
        /// The byte.
        flags: u8,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// The DUP flag of a PUBLISH with QoS 0 (3.3.1.1).
    #[error("DUP flag with QoS 0")]
    DupWithoutQos,
    /// A list that must have an element has none.
    #[error("no {field} at all, at least one is required")]
    Empty {
        /// What there should be.
        field: &'static str,
    },
    /// Reserved bits of the fixed header (2.1.3).
    #[error("fixed header flags 0b{flags:04b}, 0b{expected:04b} required")]
    FixedHeaderFlags {
        /// The lower half of the first byte.
        flags: u8,
        /// What it must be.
        expected: u8,
    },
    /// Maximum QoS 3 (MQTT 5, 3.8.3.1).
    #[error("subscription options 0x{options:02x} have the reserved QoS 3")]
    MaximumQos {
        /// The byte.
        options: u8,
    },
    /// Packet identifiers are not zero (2.2.1).
    #[error("packet identifier 0")]
    PacketIdZero,
    /// Larger than [`Limits::packet_bytes_max`](super::Limits::packet_bytes_max).
    #[error("packet of {bytes} bytes, at most {max} are allowed")]
    PacketTooLarge {
        /// Size with its fixed header.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// Packet type 0, or 15 in MQTT 3.1.1.
    #[error("packet type {number} is reserved")]
    PacketTypeReserved {
        /// The upper half of the first byte.
        number: u8,
    },
    /// The payload is not UTF-8 although its format indicator says so.
    #[error("payload is not UTF-8 at byte {position}, as its format indicator says it is")]
    PayloadFormat {
        /// Offset of the first byte that belongs to no character.
        position: usize,
    },
    /// A property that may occur once occurs again.
    #[error("property {property} occurs more than once")]
    PropertyDuplicate {
        /// The property.
        property: PropertyId,
    },
    /// A property in a packet that does not bear it (2.2.2.2).
    #[error("property {property} is not allowed in {bearer}")]
    PropertyNotAllowed {
        /// The property.
        property: PropertyId,
        /// Where it occurred.
        bearer: Bearer,
    },
    /// No property has this identifier.
    #[error("property identifier 0x{identifier:02x} is not defined")]
    PropertyUnknown {
        /// The identifier.
        identifier: u32,
    },
    /// A value outside the range of the property.
    #[error("property {property} has the forbidden value {value}")]
    PropertyValue {
        /// The property.
        property: PropertyId,
        /// Its value.
        value: u32,
    },
    /// Neither `MQTT` nor `MQIsdp`.
    #[error("protocol name is not \"MQTT\"")]
    ProtocolName,
    /// Not 3.1.1 (`MQTT`, level 4) and not 5 (`MQTT`, level 5).
    #[error(
        "protocol \"{name}\" level {level}, only \"MQTT\" levels 4 and 5 and \"MQIsdp\" level 3 are served"
    )]
    ProtocolVersion {
        /// `MQTT` or `MQIsdp`.
        name: &'static str,
        /// The level as it was sent.
        level: u8,
    },
    /// QoS 3 of a PUBLISH or a will (3.3.1.2).
    #[error("{field} has the reserved QoS 3")]
    Qos {
        /// Where it stands.
        field: &'static str,
    },
    /// A reason code that this packet does not carry.
    #[error("reason code {reason_code} is not allowed")]
    ReasonCodeNotAllowed {
        /// The code.
        reason_code: ReasonCode,
    },
    /// No reason code has this value.
    #[error("reason code 0x{value:02x} is not defined")]
    ReasonCodeUnknown {
        /// The value.
        value: u8,
    },
    /// Retain Handling 3 (MQTT 5, 3.8.3.1).
    #[error("subscription options 0x{options:02x} have the reserved retain handling 3")]
    RetainHandling {
        /// The byte.
        options: u8,
    },
    /// A refusal that claims a session (3.2.2.1.1).
    #[error("session present in a refusal")]
    SessionPresentInRefusal,
    /// No Local on a shared subscription (MQTT 5, 3.8.3.1).
    #[error("no local option on a shared subscription")]
    SharedNoLocal,
    /// Reserved bits of the subscription options.
    #[error("subscription options 0x{options:02x} have reserved bits set")]
    SubscriptionOptions {
        /// The byte.
        options: u8,
    },
    /// A string that is no UTF-8 Encoded String (1.5.4).
    #[error("{field} {error}")]
    Text {
        /// The string.
        field: &'static str,
        /// What is wrong with it.
        error: Utf8StringError,
    },
    /// More filters than [`Limits::filters_max`](super::Limits::filters_max).
    #[error("more than {max} topic filters")]
    TooManyFilters {
        /// The limit.
        max: u16,
    },
    /// More than [`Limits::user_properties_max`](super::Limits::user_properties_max).
    #[error("more than {max} user properties")]
    TooManyUserProperties {
        /// The limit.
        max: u16,
    },
    /// A string that is no topic filter.
    #[error("{0}")]
    TopicFilter(TopicFilterError),
    /// A string that is no topic name.
    #[error("{field}: {error}")]
    TopicName {
        /// The string.
        field: &'static str,
        /// What is wrong with it.
        error: TopicNameError,
    },
    /// A PUBLISH with neither topic name nor topic alias (MQTT 5, 3.3.2.1).
    #[error("empty topic name without topic alias")]
    TopicNameMissing,
    /// The packet goes on behind its last field.
    #[error("{bytes} bytes after the last field")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// The packet ends inside a field.
    #[error("ends inside {field}")]
    UnexpectedEnd {
        /// The field.
        field: &'static str,
    },
    /// More than four bytes, or more bytes than the value takes (1.5.5).
    #[error("{field} is no variable byte integer: {rule}")]
    VariableByteInteger {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        rule: &'static str,
    },
}

impl InvalidPacket {
    /// The code of the CONNACK or DISCONNECT that answers such a packet in MQTT 5.
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::AuthenticationDataWithoutMethod
            | Self::AuthenticationMethodMissing
            | Self::ConnectExpected
            | Self::Empty { .. }
            | Self::MaximumQos { .. }
            | Self::PacketIdZero
            | Self::PropertyDuplicate { .. }
            | Self::ReasonCodeNotAllowed { .. }
            | Self::RetainHandling { .. }
            | Self::SessionPresentInRefusal
            | Self::SharedNoLocal
            | Self::TopicNameMissing => ReasonCode::ProtocolError,
            Self::PropertyValue {
                property: PropertyId::TopicAlias,
                ..
            } => ReasonCode::TopicAliasInvalid,
            Self::PropertyValue { .. } => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::PayloadFormat { .. } => ReasonCode::PayloadFormatInvalid,
            Self::ProtocolName | Self::ProtocolVersion { .. } => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::TooManyFilters { .. } | Self::TooManyUserProperties { .. } => {
                ReasonCode::QuotaExceeded
            }
            Self::TopicName {
                error: TopicNameError::TooManyLevels { .. },
                ..
            } => ReasonCode::TopicNameInvalid,
            _ => ReasonCode::MalformedPacket,
        }
    }

    /// The version whose CONNACK the sender of an unserved CONNECT understands.
    ///
    /// Bridges of mosquitto first try their level with bit 7 set, and fall back when they are
    /// refused in the shape of the level below that bit.
    pub(crate) const fn version_to_answer_in(&self) -> Option<ProtocolVersion> {
        match self {
            Self::ProtocolVersion { level, .. } if *level & 0x7f < 5 => Some(ProtocolVersion::V311),
            Self::ProtocolVersion { .. } => Some(ProtocolVersion::V5),
            _ => None,
        }
    }
}

/// A packet that cannot be sent: our own fault, not the peer's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// SUBSCRIBE, SUBACK and UNSUBSCRIBE have at least one element.
    #[error("{packet} without any {field}")]
    Empty {
        /// The packet.
        packet: PacketType,
        /// What is missing.
        field: &'static str,
    },
    /// The payload of a will has a 16-bit length prefix.
    #[error("{field} of {packet} is {bytes} bytes long, at most 65535 are allowed")]
    FieldTooLong {
        /// The packet.
        packet: PacketType,
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The version has no such packet or field, and leaving it out would change the meaning.
    #[error("{packet} of {version} has no {field}")]
    NotInVersion {
        /// The packet.
        packet: PacketType,
        /// The version.
        version: ProtocolVersion,
        /// What it lacks.
        field: &'static str,
    },
    /// The packet would not fit its remaining length.
    #[error("{packet} of {bytes} bytes is longer than the format can say")]
    PacketTooLarge {
        /// The packet.
        packet: PacketType,
        /// Bytes after the fixed header.
        bytes: usize,
    },
    /// The packet does not carry this code, or not in this version.
    #[error("{packet} of {version} does not carry the reason code {reason_code}")]
    ReasonCode {
        /// The packet.
        packet: PacketType,
        /// The version.
        version: ProtocolVersion,
        /// The code.
        reason_code: ReasonCode,
    },
    /// A PUBLISH with neither topic name nor topic alias.
    #[error("PUBLISH without topic name")]
    TopicNameMissing,
}
