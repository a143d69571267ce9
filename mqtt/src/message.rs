//! The application message: what is published, whichever packet carries it.

use bytes::Bytes;

use crate::codec::{InvalidPacket, Writer};
use crate::property::{PropertyId, Section, Value};
use crate::qos::QoS;
use crate::topic::TopicName;
use crate::utf8_string::Utf8String;
use crate::{BinaryData, UserProperty};

/// An application message: the content of a PUBLISH or of a will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it is published to.
    pub topic: TopicName,
    /// Its content. A decoded payload is a slice of the read buffer and keeps that alive.
    pub payload: Bytes,
    /// The level that the publisher chose.
    pub qos: QoS,
    /// Whether the server keeps it for later subscribers.
    pub retain: bool,
    /// What MQTT 5 adds. Always the default from a 3.1.1 client.
    pub properties: MessageProperties,
}

impl Message {
    /// A copy that shares nothing with the buffer that this message was decoded from: for one that
    /// is kept, such as a retained one.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            topic: self.topic.detach(),
            payload: Bytes::copy_from_slice(&self.payload),
            qos: self.qos,
            retain: self.retain,
            properties: self.properties.detach(),
        }
    }
}

/// The properties that belong to the message and travel with it to every subscriber (MQTT 5,
/// 3.3.2.3), not those that concern one PUBLISH packet only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// Whether the payload is said to be UTF-8.
    pub payload_format: Option<PayloadFormat>,
    /// Seconds until the message must not be delivered any more.
    pub message_expiry_interval: Option<u32>,
    /// What kind of content the payload is, as publisher and subscriber agree.
    pub content_type: Option<Utf8String>,
    /// Where the answer to this request goes.
    pub response_topic: Option<TopicName>,
    /// What the answer to this request must bear.
    pub correlation_data: Option<BinaryData>,
    /// Pairs in the publisher's order.
    pub user_properties: Vec<UserProperty>,
}

/// The value of the Payload Format Indicator (MQTT 5, 3.3.2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PayloadFormat {
    /// Bytes of any kind.
    Unspecified = 0,
    /// Well-formed UTF-8.
    Utf8 = 1,
}

impl MessageProperties {
    fn detach(&self) -> Self {
        Self {
            payload_format: self.payload_format,
            message_expiry_interval: self.message_expiry_interval,
            content_type: self.content_type.as_ref().map(Utf8String::detach),
            response_topic: self.response_topic.as_ref().map(TopicName::detach),
            correlation_data: self.correlation_data.as_ref().map(BinaryData::detach),
            user_properties: self
                .user_properties
                .iter()
                .map(UserProperty::detach)
                .collect(),
        }
    }

    /// Takes a property of a PUBLISH or a will that belongs to the message.
    pub(crate) fn take(
        &mut self,
        section: &Section<'_>,
        id: PropertyId,
        value: Value,
    ) -> Result<(), InvalidPacket> {
        match (id, value) {
            (PropertyId::PayloadFormatIndicator, Value::Byte(format)) => {
                self.payload_format = Some(if format == 1 {
                    PayloadFormat::Utf8
                } else {
                    PayloadFormat::Unspecified
                });
            }
            (PropertyId::MessageExpiryInterval, Value::FourByte(seconds)) => {
                self.message_expiry_interval = Some(seconds);
            }
            (PropertyId::ContentType, Value::Text(text)) => self.content_type = Some(text),
            (PropertyId::ResponseTopic, Value::Text(text)) => {
                self.response_topic =
                    Some(
                        TopicName::new(text).map_err(|error| InvalidPacket::TopicName {
                            field: "response topic",
                            error,
                        })?,
                    );
            }
            (PropertyId::CorrelationData, Value::Binary(data)) => {
                self.correlation_data = Some(data);
            }
            (PropertyId::UserProperty, Value::Pair(pair)) => self.user_properties.push(pair),
            (id, _) => return Err(section.misplaced(id)),
        }
        Ok(())
    }

    /// Writes the properties, with an expiry interval of its own: a server says how much is left
    /// (MQTT 5, 3.3.2.3.3).
    pub(crate) fn write(&self, message_expiry_interval: Option<u32>, out: &mut Writer<'_>) {
        out.property(
            PropertyId::PayloadFormatIndicator,
            self.payload_format.as_ref(),
        );
        out.property(
            PropertyId::MessageExpiryInterval,
            message_expiry_interval.as_ref(),
        );
        out.property(PropertyId::ContentType, self.content_type.as_ref());
        out.property(PropertyId::ResponseTopic, self.response_topic.as_ref());
        out.property(PropertyId::CorrelationData, self.correlation_data.as_ref());
        out.properties(PropertyId::UserProperty, &self.user_properties);
    }

    /// Refuses a payload that is not what its format indicator says.
    pub(crate) fn check_payload(&self, payload: &[u8]) -> Result<(), InvalidPacket> {
        if self.payload_format == Some(PayloadFormat::Utf8)
            && let Err(error) = str::from_utf8(payload)
        {
            return Err(InvalidPacket::PayloadFormat {
                position: error.valid_up_to(),
            });
        }
        Ok(())
    }
}
