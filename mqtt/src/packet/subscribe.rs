//! SUBSCRIBE (MQTT 5, 3.8; MQTT 3.1.1, 3.8).
//!
//! ```text
//! | packet identifier, 2 | properties | topic filter | options, 1 | topic filter | options, 1 | …
//!
//! options: | reserved, 2 | retain handling, 2 | retain as published | no local | QoS, 2 |
//! ```
//! The properties and all options but the QoS exist in MQTT 5 only.

use bytes::BytesMut;

use super::{PacketId, PacketType, ProtocolVersion, SubscriptionIdentifier};
use crate::UserProperty;
use crate::codec::{Encode, EncodeError, InvalidPacket, Reader, Writer};
use crate::property::{Bearer, PropertyId, Value};
use crate::qos::QoS;
use crate::topic::TopicFilter;

const SUBSCRIBE: PacketType = PacketType::Subscribe;
const QOS: u8 = 0b11;
const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED: u8 = 0b1100_0000;

/// Asks for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// What SUBACK answers.
    pub packet_id: PacketId,
    /// What is asked for; at least one.
    pub subscriptions: Vec<Subscription>,
    /// Comes back with every message that one of the subscriptions matched.
    pub subscription_identifier: Option<SubscriptionIdentifier>,
    /// Pairs in the client's order.
    pub user_properties: Vec<UserProperty>,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Which messages.
    pub filter: TopicFilter,
    /// How they are delivered.
    pub options: SubscriptionOptions,
}

/// How messages are delivered to a subscription (MQTT 5, 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionOptions {
    /// The highest QoS that the client wants.
    pub qos: QoS,
    /// Not the client's own messages. Never set on a shared subscription.
    pub no_local: bool,
    /// Deliver the retain flag as it was published, instead of clearing it.
    pub retain_as_published: bool,
    /// Whether retained messages come when the subscription is made.
    pub retain_handling: RetainHandling,
}

/// Whether retained messages come when a subscription is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// They come.
    #[default]
    Send = 0,
    /// They come unless the subscription existed before.
    SendIfNew = 1,
    /// They do not come.
    DoNotSend = 2,
}

impl Subscribe {
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, InvalidPacket> {
        let mut read = Self {
            packet_id: reader.packet_id()?,
            subscriptions: Vec::new(),
            subscription_identifier: None,
            user_properties: Vec::new(),
        };
        let mut section = reader.properties(version, Bearer::Packet(SUBSCRIBE))?;
        while let Some(property) = section.next()? {
            match property {
                (PropertyId::SubscriptionIdentifier, Value::VariableByte(identifier)) => {
                    read.subscription_identifier = SubscriptionIdentifier::new(identifier);
                }
                (PropertyId::UserProperty, Value::Pair(pair)) => read.user_properties.push(pair),
                (id, _) => return Err(section.misplaced(id)),
            }
        }
        let max = reader.limits().filters_max;
        while !reader.is_empty() {
            if read.subscriptions.len() == usize::from(max) {
                return Err(InvalidPacket::TooManyFilters { max });
            }
            read.subscriptions
                .push(Subscription::read(reader, version)?);
        }
        if read.subscriptions.is_empty() {
            return Err(InvalidPacket::Empty {
                field: "topic filter",
            });
        }
        Ok(read)
    }

    pub(crate) fn encode(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        if self.subscriptions.is_empty() {
            return Err(EncodeError::Empty {
                packet: SUBSCRIBE,
                field: "topic filter",
            });
        }
        let flags = SUBSCRIBE.fixed_flags().unwrap_or_default();
        Writer::packet(out, SUBSCRIBE, flags, 0, |out| self.write(version, out)).map(|_| ())
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        self.packet_id.encode(out);
        out.section(version, |out| {
            let identifier = self.subscription_identifier.as_ref();
            out.property(PropertyId::SubscriptionIdentifier, identifier);
            out.properties(PropertyId::UserProperty, &self.user_properties);
        });
        for Subscription { filter, options } in &self.subscriptions {
            filter.encode(out);
            out.u8(options.bits(version));
        }
    }
}

impl Subscription {
    fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, InvalidPacket> {
        let filter = reader.topic_filter(version)?;
        let options = SubscriptionOptions::from_bits(reader.u8("subscription options")?, version)?;
        if options.no_local && filter.share_name().is_some() {
            return Err(InvalidPacket::SharedNoLocal);
        }
        Ok(Self { filter, options })
    }
}

impl SubscriptionOptions {
    fn from_bits(bits: u8, version: ProtocolVersion) -> Result<Self, InvalidPacket> {
        let reserved = match version {
            ProtocolVersion::V311 => !QOS,
            ProtocolVersion::V5 => RESERVED,
        };
        if bits & reserved != 0 {
            return Err(InvalidPacket::SubscriptionOptions { options: bits });
        }
        let qos = QoS::from_bits(bits & QOS).ok_or(InvalidPacket::MaximumQos { options: bits })?;
        let retain_handling = match bits >> RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(InvalidPacket::RetainHandling { options: bits }),
        };
        Ok(Self {
            qos,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    fn bits(self, version: ProtocolVersion) -> u8 {
        let mut bits = self.qos as u8;
        if version == ProtocolVersion::V5 {
            bits |= (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT;
            if self.no_local {
                bits |= NO_LOCAL;
            }
            if self.retain_as_published {
                bits |= RETAIN_AS_PUBLISHED;
            }
        }
        bits
    }
}
