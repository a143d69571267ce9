//! MQTT 5 properties (2.2.2): one table of identifier, type, allowed packets and repeatability,
//! and the reader of a property section that enforces it.
//!
//! Invariant: what [`Section::next`] hands out is known, allowed in its packet, not repeated where
//! that is forbidden, and has a value in the range that the table gives.

use std::fmt;

use crate::codec::{Encode, InvalidPacket, Reader, Writer};
use crate::packet::PacketType;
use crate::utf8_string::Utf8String;
use crate::{BinaryData, SUBSCRIPTION_IDENTIFIER_MAX};

const WILL: u16 = 1;
const CONNECT: u16 = bit(PacketType::Connect);
const CONNACK: u16 = bit(PacketType::Connack);
const PUBLISH: u16 = bit(PacketType::Publish);
const SUBSCRIBE: u16 = bit(PacketType::Subscribe);
const SUBACK: u16 = bit(PacketType::Suback);
const UNSUBSCRIBE: u16 = bit(PacketType::Unsubscribe);
const UNSUBACK: u16 = bit(PacketType::Unsuback);
const DISCONNECT: u16 = bit(PacketType::Disconnect);
const AUTH: u16 = bit(PacketType::Auth);
const PUBLISH_ACKS: u16 = bit(PacketType::Puback)
    | bit(PacketType::Pubrec)
    | bit(PacketType::Pubrel)
    | bit(PacketType::Pubcomp);
const ANY: u16 = u16::MAX;
const ONCE: u16 = 0;

/// The bit of a packet type. Bit 0 is free for the will, because packet type 0 is reserved.
const fn bit(packet: PacketType) -> u16 {
    1 << packet as u16
}

macro_rules! property_table {
    ($(
        $name:ident = $id:literal, $text:literal, $kind:expr, $bearers:expr, $repeatable:expr;
    )+) => {
        /// Identifier of a property.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $(#[doc = $text] $name = $id,)+
        }

        impl PropertyId {
            /// Every property, in the order of the identifiers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The property with this identifier, `None` when the standard defines none.
            pub const fn from_identifier(identifier: u32) -> Option<Self> {
                match identifier {
                    $($id => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The standard's name of the property.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        kind: $kind,
                        bearers: $bearers,
                        repeatable: $repeatable,
                    },)+
                }
            }
        }
    };
}

property_table! {
    PayloadFormatIndicator = 0x01, "Payload Format Indicator",
        Kind::Byte { max: 1 }, PUBLISH | WILL, ONCE;
    MessageExpiryInterval = 0x02, "Message Expiry Interval",
        Kind::FourByte { min: 0 }, PUBLISH | WILL, ONCE;
    ContentType = 0x03, "Content Type", Kind::Text, PUBLISH | WILL, ONCE;
    ResponseTopic = 0x08, "Response Topic", Kind::Text, PUBLISH | WILL, ONCE;
    CorrelationData = 0x09, "Correlation Data", Kind::Binary, PUBLISH | WILL, ONCE;
    SubscriptionIdentifier = 0x0b, "Subscription Identifier",
        Kind::VariableByte { min: 1 }, PUBLISH | SUBSCRIBE, PUBLISH;
    SessionExpiryInterval = 0x11, "Session Expiry Interval",
        Kind::FourByte { min: 0 }, CONNECT | CONNACK | DISCONNECT, ONCE;
    AssignedClientIdentifier = 0x12, "Assigned Client Identifier", Kind::Text, CONNACK, ONCE;
    ServerKeepAlive = 0x13, "Server Keep Alive", Kind::TwoByte { min: 0 }, CONNACK, ONCE;
    AuthenticationMethod = 0x15, "Authentication Method",
        Kind::Text, CONNECT | CONNACK | AUTH, ONCE;
    AuthenticationData = 0x16, "Authentication Data",
        Kind::Binary, CONNECT | CONNACK | AUTH, ONCE;
    RequestProblemInformation = 0x17, "Request Problem Information",
        Kind::Byte { max: 1 }, CONNECT, ONCE;
    WillDelayInterval = 0x18, "Will Delay Interval", Kind::FourByte { min: 0 }, WILL, ONCE;
    RequestResponseInformation = 0x19, "Request Response Information",
        Kind::Byte { max: 1 }, CONNECT, ONCE;
    ResponseInformation = 0x1a, "Response Information", Kind::Text, CONNACK, ONCE;
    ServerReference = 0x1c, "Server Reference", Kind::Text, CONNACK | DISCONNECT, ONCE;
    ReasonString = 0x1f, "Reason String",
        Kind::Text, CONNACK | PUBLISH_ACKS | SUBACK | UNSUBACK | DISCONNECT | AUTH, ONCE;
    ReceiveMaximum = 0x21, "Receive Maximum", Kind::TwoByte { min: 1 }, CONNECT | CONNACK, ONCE;
    TopicAliasMaximum = 0x22, "Topic Alias Maximum",
        Kind::TwoByte { min: 0 }, CONNECT | CONNACK, ONCE;
    TopicAlias = 0x23, "Topic Alias", Kind::TwoByte { min: 1 }, PUBLISH, ONCE;
    MaximumQos = 0x24, "Maximum QoS", Kind::Byte { max: 1 }, CONNACK, ONCE;
    RetainAvailable = 0x25, "Retain Available", Kind::Byte { max: 1 }, CONNACK, ONCE;
    UserProperty = 0x26, "User Property",
        Kind::Pair,
        WILL | CONNECT | CONNACK | PUBLISH | PUBLISH_ACKS | SUBSCRIBE | SUBACK | UNSUBSCRIBE
            | UNSUBACK | DISCONNECT | AUTH,
        ANY;
    MaximumPacketSize = 0x27, "Maximum Packet Size",
        Kind::FourByte { min: 1 }, CONNECT | CONNACK, ONCE;
    WildcardSubscriptionAvailable = 0x28, "Wildcard Subscription Available",
        Kind::Byte { max: 1 }, CONNACK, ONCE;
    SubscriptionIdentifiersAvailable = 0x29, "Subscription Identifiers Available",
        Kind::Byte { max: 1 }, CONNACK, ONCE;
    SharedSubscriptionAvailable = 0x2a, "Shared Subscription Available",
        Kind::Byte { max: 1 }, CONNACK, ONCE;
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x})", self.name(), *self as u8)
    }
}

/// What the standard says of a property.
struct Row {
    kind: Kind,
    /// Bits of the packets that may bear it.
    bearers: u16,
    /// Bits of the packets that may bear it more than once.
    repeatable: u16,
}

/// Type of a value, with the range where not every value of the type is allowed.
enum Kind {
    Binary,
    Byte { max: u8 },
    FourByte { min: u32 },
    Pair,
    Text,
    TwoByte { min: u16 },
    VariableByte { min: u32 },
}

/// What bears a property section: a packet, or the will inside a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bearer {
    /// The properties of a packet.
    Packet(PacketType),
    /// The will properties of a CONNECT.
    Will,
}

impl Bearer {
    /// Whether the standard allows the property here.
    pub const fn allows(self, property: PropertyId) -> bool {
        property.row().bearers & self.bit() != 0
    }

    /// Whether the standard allows the property here more than once.
    pub const fn allows_repeatedly(self, property: PropertyId) -> bool {
        property.row().repeatable & property.row().bearers & self.bit() != 0
    }

    const fn bit(self) -> u16 {
        match self {
            Self::Packet(packet) => bit(packet),
            Self::Will => WILL,
        }
    }
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(packet) => fmt::Display::fmt(packet, f),
            Self::Will => f.write_str("a will"),
        }
    }
}

/// A name and a value that the standard gives no meaning (MQTT 5, 1.5.7).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserProperty {
    /// May occur more than once.
    pub name: Utf8String,
    /// The value.
    pub value: Utf8String,
}

impl UserProperty {
    pub(crate) fn detach(&self) -> Self {
        Self {
            name: self.name.detach(),
            value: self.value.detach(),
        }
    }
}

impl Encode for UserProperty {
    fn encode(&self, out: &mut Writer<'_>) {
        self.name.encode(out);
        self.value.encode(out);
    }
}

/// A decoded value, inside the range of its property.
#[derive(Debug)]
pub(crate) enum Value {
    Binary(BinaryData),
    Byte(u8),
    FourByte(u32),
    Pair(UserProperty),
    Text(Utf8String),
    TwoByte(u16),
    VariableByte(u32),
}

/// The properties of one packet, read one by one.
pub(crate) struct Section<'l> {
    reader: Reader<'l>,
    bearer: Bearer,
    /// A bit for each identifier met.
    seen: u64,
    user_properties: u16,
}

impl<'l> Section<'l> {
    /// The section of `len` bytes that `reader` holds, and nothing else.
    pub(crate) fn new(reader: Reader<'l>, bearer: Bearer) -> Self {
        Self {
            reader,
            bearer,
            seen: 0,
            user_properties: 0,
        }
    }

    /// The next property, `None` at the end of the section.
    pub(crate) fn next(&mut self) -> Result<Option<(PropertyId, Value)>, InvalidPacket> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let identifier = self.reader.variable_byte_integer("property identifier")?;
        let id = PropertyId::from_identifier(identifier)
            .ok_or(InvalidPacket::PropertyUnknown { identifier })?;
        if !self.bearer.allows(id) {
            return Err(self.misplaced(id));
        }
        let seen = 1 << id as u64;
        if self.seen & seen != 0 && !self.bearer.allows_repeatedly(id) {
            return Err(InvalidPacket::PropertyDuplicate { property: id });
        }
        self.seen |= seen;
        if id == PropertyId::UserProperty {
            let max = self.reader.limits().user_properties_max;
            if self.user_properties == max {
                return Err(InvalidPacket::TooManyUserProperties { max });
            }
            self.user_properties += 1;
        }
        Ok(Some((id, self.value(id)?)))
    }

    /// The error for a property that this packet does not bear.
    pub(crate) fn misplaced(&self, property: PropertyId) -> InvalidPacket {
        InvalidPacket::PropertyNotAllowed {
            property,
            bearer: self.bearer,
        }
    }

    fn value(&mut self, id: PropertyId) -> Result<Value, InvalidPacket> {
        let reader = &mut self.reader;
        let field = id.name();
        let (value, number, in_range) = match id.row().kind {
            Kind::Binary => return Ok(Value::Binary(reader.binary(field)?)),
            Kind::Pair => {
                let name = reader.string(field)?;
                let value = reader.string(field)?;
                return Ok(Value::Pair(UserProperty { name, value }));
            }
            Kind::Text => return Ok(Value::Text(reader.string(field)?)),
            Kind::Byte { max } => {
                let value = reader.u8(field)?;
                (Value::Byte(value), u32::from(value), value <= max)
            }
            Kind::TwoByte { min } => {
                let value = reader.u16(field)?;
                (Value::TwoByte(value), u32::from(value), value >= min)
            }
            Kind::FourByte { min } => {
                let value = reader.u32(field)?;
                (Value::FourByte(value), value, value >= min)
            }
            Kind::VariableByte { min } => {
                let value = reader.variable_byte_integer(field)?;
                (
                    Value::VariableByte(value),
                    value,
                    (min..=SUBSCRIPTION_IDENTIFIER_MAX).contains(&value),
                )
            }
        };
        if !in_range {
            return Err(InvalidPacket::PropertyValue {
                property: id,
                value: number,
            });
        }
        Ok(value)
    }
}
