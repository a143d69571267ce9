//! PUBLISH (MQTT 5, 3.3; MQTT 3.1.1, 3.3).
//!
//! ```text
//! | topic name | packet identifier, 2, with QoS 1 and 2 only | properties | payload |
//!
//! fixed header flags: | DUP | QoS, 2 | RETAIN |
//! ```
//! The properties exist in MQTT 5 only. The payload is what is left of the packet.

use bytes::{Bytes, BytesMut};

use super::{PacketId, PacketType, ProtocolVersion, SubscriptionIdentifier, TopicAlias};
use crate::codec::{Encode, EncodeError, InvalidPacket, Reader, Writer, packet_bytes};
use crate::message::MessageProperties;
use crate::property::{Bearer, PropertyId, Value};
use crate::qos::QoS;
use crate::topic::TopicName;

const PUBLISH: PacketType = PacketType::Publish;
const RETAIN: u8 = 1;
const QOS_SHIFT: u8 = 1;
const QOS: u8 = 0b11 << QOS_SHIFT;
const DUP: u8 = 1 << 3;

/// Carries an application message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The QoS, with what belongs to it.
    pub delivery: Delivery,
    /// From a client: keep it. From a server: it was kept.
    pub retain: bool,
    /// `None` when only the alias says it.
    pub topic: Option<TopicName>,
    /// Stands for the topic name, or is to stand for it from now on.
    pub topic_alias: Option<TopicAlias>,
    /// The identifiers of the subscriptions that matched; from servers only.
    pub subscription_identifiers: Vec<SubscriptionIdentifier>,
    /// What belongs to the message.
    pub properties: MessageProperties,
    /// The content.
    pub payload: Bytes,
}

/// The QoS of a PUBLISH with the packet identifier that QoS 1 and 2 need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// What PUBACK answers.
        packet_id: PacketId,
        /// Whether it may have been sent before.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// What PUBREC answers.
        packet_id: PacketId,
        /// Whether it may have been sent before.
        dup: bool,
    },
}

impl Delivery {
    /// The level.
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce { .. } => QoS::AtLeastOnce,
            Self::ExactlyOnce { .. } => QoS::ExactlyOnce,
        }
    }

    /// What the answer must bear, `None` where there is no answer.
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { packet_id, .. } | Self::ExactlyOnce { packet_id, .. } => {
                Some(packet_id)
            }
        }
    }

    const fn flags(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => {
                (self.qos() as u8) << QOS_SHIFT | if dup { DUP } else { 0 }
            }
        }
    }
}

impl Publish {
    pub(crate) fn read(
        flags: u8,
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, InvalidPacket> {
        let dup = flags & DUP != 0;
        let qos = QoS::from_bits((flags & QOS) >> QOS_SHIFT)
            .ok_or(InvalidPacket::Qos { field: "PUBLISH" })?;
        let topic = read_topic(reader, version)?;
        let delivery = match qos {
            QoS::AtMostOnce if dup => return Err(InvalidPacket::DupWithoutQos),
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce {
                packet_id: reader.packet_id()?,
                dup,
            },
            QoS::ExactlyOnce => Delivery::ExactlyOnce {
                packet_id: reader.packet_id()?,
                dup,
            },
        };
        let mut read = Self {
            delivery,
            retain: flags & RETAIN != 0,
            topic,
            topic_alias: None,
            subscription_identifiers: Vec::new(),
            properties: MessageProperties::default(),
            payload: Bytes::new(),
        };
        read.read_properties(reader, version)?;
        read.payload = reader.rest();
        if read.topic.is_none() && read.topic_alias.is_none() {
            return Err(InvalidPacket::TopicNameMissing);
        }
        read.properties.check_payload(&read.payload)?;
        Ok(read)
    }

    fn read_properties(
        &mut self,
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<(), InvalidPacket> {
        let mut section = reader.properties(version, Bearer::Packet(PUBLISH))?;
        while let Some(property) = section.next()? {
            match property {
                (PropertyId::TopicAlias, Value::TwoByte(alias)) => {
                    self.topic_alias = TopicAlias::new(alias);
                }
                (PropertyId::SubscriptionIdentifier, Value::VariableByte(identifier)) => {
                    let identifier = SubscriptionIdentifier::new(identifier);
                    self.subscription_identifiers.extend(identifier);
                }
                (id, value) => self.properties.take(&section, id, value)?,
            }
        }
        Ok(())
    }

    /// Appends everything but the payload, which is to follow from where it is.
    ///
    /// # Errors
    /// Nothing is written when there is no topic name (with an alias, in MQTT 5, there need not
    /// be one), or when the packet with its payload is too long.
    pub fn encode_header(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.header().encode(version, out)
    }

    pub(crate) fn encode(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.encode_header(version, out)?;
        out.extend_from_slice(&self.payload);
        Ok(())
    }

    fn header(&self) -> PublishHeader<'_> {
        PublishHeader {
            delivery: self.delivery,
            retain: self.retain,
            topic: self.topic.as_ref(),
            topic_alias: self.topic_alias,
            message_expiry_interval: self.properties.message_expiry_interval,
            subscription_identifiers: &self.subscription_identifiers,
            properties: &self.properties,
            payload_bytes: self.payload.len(),
        }
    }
}

/// In MQTT 5 a PUBLISH may leave its topic name to an alias; in 3.1.1 it must have one.
fn read_topic(
    reader: &mut Reader<'_>,
    version: ProtocolVersion,
) -> Result<Option<TopicName>, InvalidPacket> {
    let text = reader.string("topic name")?;
    if version == ProtocolVersion::V5 && text.as_bytes().is_empty() {
        return Ok(None);
    }
    TopicName::new(text)
        .map(Some)
        .map_err(|error| InvalidPacket::TopicName {
            field: "topic name",
            error,
        })
}

/// A PUBLISH without its payload, borrowed: a message that goes to many subscribers is encoded for
/// each without being copied.
#[derive(Clone, Copy)]
pub(crate) struct PublishHeader<'m> {
    pub(crate) delivery: Delivery,
    pub(crate) retain: bool,
    pub(crate) topic: Option<&'m TopicName>,
    pub(crate) topic_alias: Option<TopicAlias>,
    /// Goes out instead of the message's own.
    pub(crate) message_expiry_interval: Option<u32>,
    pub(crate) subscription_identifiers: &'m [SubscriptionIdentifier],
    pub(crate) properties: &'m MessageProperties,
    pub(crate) payload_bytes: usize,
}

impl PublishHeader<'_> {
    pub(crate) fn encode(
        &self,
        version: ProtocolVersion,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let has_alias = self.topic_alias.is_some() && version == ProtocolVersion::V5;
        if self.topic.is_none() && !has_alias {
            return Err(EncodeError::TopicNameMissing);
        }
        let flags = self.delivery.flags() | if self.retain { RETAIN } else { 0 };
        Writer::packet(out, PUBLISH, flags, self.payload_bytes, |out| {
            self.write(version, out)
        })
        .map(|_| ())
    }

    /// Size of the packet with its payload.
    pub(crate) fn packet_bytes(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let header_bytes = Writer::measure(|out| self.write(version, out));
        packet_bytes(PUBLISH, header_bytes + self.payload_bytes)
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        match self.topic {
            Some(topic) => topic.encode(out),
            None => out.prefixed(&[]),
        }
        if let Some(packet_id) = self.delivery.packet_id() {
            packet_id.encode(out);
        }
        out.section(version, |out| {
            let alias = self.topic_alias.map(TopicAlias::get);
            out.property(PropertyId::TopicAlias, alias.as_ref());
            out.properties(
                PropertyId::SubscriptionIdentifier,
                self.subscription_identifiers,
            );
            self.properties.write(self.message_expiry_interval, out);
        });
    }
}
