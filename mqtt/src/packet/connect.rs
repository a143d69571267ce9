//! CONNECT (MQTT 5, 3.1; MQTT 3.1.1, 3.1).
//!
//! ```text
//! | protocol name | level, 1 | flags, 1 | keep alive, 2 | properties |
//! | client identifier | will properties, topic, payload | user name | password |
//!
//! flags: | user name | password | will retain | will QoS, 2 | will | clean start | reserved |
//! ```
//! The properties exist in MQTT 5 only. MQTT 3.1 differs from 3.1.1 in name and level; see
//! [`Connect::is_v31`].

use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;

use super::{PacketType, ProtocolVersion};
use crate::codec::{Encode, EncodeError, InvalidPacket, Reader, Writer};
use crate::message::{Message, MessageProperties};
use crate::property::{Bearer, PropertyId, Value};
use crate::qos::QoS;
use crate::utf8_string::{FIELD_BYTES_MAX, Utf8String};
use crate::{BinaryData, UserProperty};

const CONNECT: PacketType = PacketType::Connect;
const PROTOCOL_NAME: &str = "MQTT";
/// The name that MQTT 3.1 and older used.
const PROTOCOL_NAME_V31: &str = "MQIsdp";
const LEVEL_V31: u8 = 3;

const RESERVED: u8 = 1;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_QOS: u8 = 0b11 << WILL_QOS_SHIFT;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

/// Opens a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version that the client speaks, and in which this packet is written.
    pub version: ProtocolVersion,
    /// Whether a client of [`V311`](ProtocolVersion::V311) is one of MQTT 3.1: it calls itself `MQIsdp`,
    /// level 3. Its packets are read and written as those of 3.1.1.
    pub is_v31: bool,
    /// Whether an earlier session is to be discarded. In 3.1.1 it is named Clean Session, and the
    /// new session ends with the connection, too.
    pub clean_start: bool,
    /// Seconds within which the client promises to send some packet; 0 promises nothing.
    pub keep_alive_seconds: u16,
    /// Names the session. Empty when the server is to choose.
    pub client_id: Utf8String,
    /// What the server is to publish when the connection ends without a good-bye.
    pub will: Option<Will>,
    /// Who the client says it is.
    pub username: Option<Utf8String>,
    /// What proves it. In 3.1.1 only together with a user name.
    pub password: Option<BinaryData>,
    /// What MQTT 5 adds.
    pub properties: ConnectProperties,
}

/// The message that a server publishes in the client's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Seconds to wait for the client's return before it is published.
    pub delay_interval: Option<u32>,
    /// The message. Its payload is at most 65,535 bytes long.
    pub message: Message,
}

/// Properties of a CONNECT (MQTT 5, 3.1.2.11).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds that the session lives on after the connection; absent means 0.
    pub session_expiry_interval: Option<u32>,
    /// Publications of QoS 1 and 2 that the client takes at a time; absent means 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Largest packet in bytes that the client takes; absent means any.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Highest topic alias that the client takes; absent means none.
    pub topic_alias_maximum: Option<u16>,
    /// Whether CONNACK is to have Response Information; absent means no.
    pub request_response_information: Option<bool>,
    /// Whether answers may have problem information; absent means yes.
    pub request_problem_information: Option<bool>,
    /// Name of an enhanced authentication.
    pub authentication_method: Option<Utf8String>,
    /// What the method makes of it.
    pub authentication_data: Option<BinaryData>,
    /// Pairs in the client's order.
    pub user_properties: Vec<UserProperty>,
}

impl Connect {
    /// A CONNECT with a clean start and nothing optional.
    pub fn new(version: ProtocolVersion, client_id: Utf8String) -> Self {
        Self {
            version,
            is_v31: false,
            clean_start: true,
            keep_alive_seconds: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    /// Reads protocol name and level, which decide how the rest is read, and whether they are those of
    /// MQTT 3.1.
    pub(crate) fn read_version(
        reader: &mut Reader<'_>,
    ) -> Result<(ProtocolVersion, bool), InvalidPacket> {
        let name = reader.string("protocol name")?;
        let name = match name.as_str() {
            PROTOCOL_NAME => PROTOCOL_NAME,
            PROTOCOL_NAME_V31 => PROTOCOL_NAME_V31,
            _ => return Err(InvalidPacket::ProtocolName),
        };
        match (name, reader.u8("protocol level")?) {
            (PROTOCOL_NAME_V31, LEVEL_V31) => Ok((ProtocolVersion::V311, true)),
            (PROTOCOL_NAME, 4) => Ok((ProtocolVersion::V311, false)),
            (PROTOCOL_NAME, 5) => Ok((ProtocolVersion::V5, false)),
            (name, level) => Err(InvalidPacket::ProtocolVersion { name, level }),
        }
    }

    /// Reads what follows the level.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
        is_v31: bool,
    ) -> Result<Self, InvalidPacket> {
        let flags = reader.u8("connect flags")?;
        check_flags(flags, version)?;
        let keep_alive_seconds = reader.u16("keep alive")?;
        let properties = ConnectProperties::read(reader, version)?;
        let client_id = reader.string("client identifier")?;
        let will = match flags & WILL {
            0 => None,
            _ => Some(Will::read(flags, reader, version)?),
        };
        let username = match flags & USER_NAME {
            0 => None,
            _ => Some(reader.string("user name")?),
        };
        let password = match flags & PASSWORD {
            0 => None,
            _ => Some(reader.binary("password")?),
        };
        Ok(Self {
            version,
            is_v31,
            clean_start: flags & CLEAN_START != 0,
            keep_alive_seconds,
            client_id,
            will,
            username,
            password,
            properties,
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let version = self.version;
        if version == ProtocolVersion::V5 && self.is_v31 {
            return Err(EncodeError::NotInVersion {
                packet: CONNECT,
                version,
                field: "level of MQTT 3.1",
            });
        }
        if version == ProtocolVersion::V311 && self.password.is_some() && self.username.is_none() {
            let field = "password without user name";
            return Err(EncodeError::NotInVersion {
                packet: CONNECT,
                version,
                field,
            });
        }
        let method = self.properties.authentication_method.as_ref();
        if method.is_none() && self.properties.authentication_data.is_some() {
            return Err(EncodeError::Empty {
                packet: CONNECT,
                field: "authentication method",
            });
        }
        let payload_bytes = self
            .will
            .as_ref()
            .map_or(0, |will| will.message.payload.len());
        if payload_bytes > FIELD_BYTES_MAX {
            return Err(EncodeError::FieldTooLong {
                packet: CONNECT,
                field: "will payload",
                bytes: payload_bytes,
            });
        }
        Writer::packet(out, CONNECT, 0, 0, |out| self.write(out)).map(|_| ())
    }

    fn write(&self, out: &mut Writer<'_>) {
        let (name, level) = match self.is_v31 {
            true => (PROTOCOL_NAME_V31, LEVEL_V31),
            false => (PROTOCOL_NAME, self.version.level()),
        };
        out.prefixed(name.as_bytes());
        out.u8(level);
        out.u8(self.flags());
        out.u16(self.keep_alive_seconds);
        out.section(self.version, |out| self.properties.write(out));
        self.client_id.encode(out);
        if let Some(will) = &self.will {
            will.write(self.version, out);
        }
        if let Some(username) = &self.username {
            username.encode(out);
        }
        if let Some(password) = &self.password {
            password.encode(out);
        }
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(Will { message, .. }) = &self.will {
            flags |= WILL | (message.qos as u8) << WILL_QOS_SHIFT;
            if message.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

/// Refuses flags that are reserved or contradict each other (3.1.2.3 to 3.1.2.9).
fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), InvalidPacket> {
    let rule = if flags & RESERVED != 0 {
        "bit 0 is reserved"
    } else if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        "will QoS or will retain without will"
    } else if flags & WILL_QOS == WILL_QOS {
        return Err(InvalidPacket::Qos { field: "will" });
    } else if version == ProtocolVersion::V311 && flags & (USER_NAME | PASSWORD) == PASSWORD {
        "password without user name"
    } else {
        return Ok(());
    };
    Err(InvalidPacket::ConnectFlags { flags, rule })
}

impl ConnectProperties {
    fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, InvalidPacket> {
        let mut read = Self::default();
        let mut section = reader.properties(version, Bearer::Packet(CONNECT))?;
        while let Some(property) = section.next()? {
            match property {
                (PropertyId::SessionExpiryInterval, Value::FourByte(seconds)) => {
                    read.session_expiry_interval = Some(seconds);
                }
                (PropertyId::ReceiveMaximum, Value::TwoByte(maximum)) => {
                    read.receive_maximum = NonZeroU16::new(maximum);
                }
                (PropertyId::MaximumPacketSize, Value::FourByte(bytes)) => {
                    read.maximum_packet_size = NonZeroU32::new(bytes);
                }
                (PropertyId::TopicAliasMaximum, Value::TwoByte(maximum)) => {
                    read.topic_alias_maximum = Some(maximum);
                }
                (PropertyId::RequestResponseInformation, Value::Byte(wanted)) => {
                    read.request_response_information = Some(wanted == 1);
                }
                (PropertyId::RequestProblemInformation, Value::Byte(wanted)) => {
                    read.request_problem_information = Some(wanted == 1);
                }
                (PropertyId::AuthenticationMethod, Value::Text(method)) => {
                    read.authentication_method = Some(method);
                }
                (PropertyId::AuthenticationData, Value::Binary(data)) => {
                    read.authentication_data = Some(data);
                }
                (PropertyId::UserProperty, Value::Pair(pair)) => read.user_properties.push(pair),
                (id, _) => return Err(section.misplaced(id)),
            }
        }
        if read.authentication_data.is_some() && read.authentication_method.is_none() {
            return Err(InvalidPacket::AuthenticationDataWithoutMethod);
        }
        Ok(read)
    }

    fn write(&self, out: &mut Writer<'_>) {
        use PropertyId as Id;
        out.property(
            Id::SessionExpiryInterval,
            self.session_expiry_interval.as_ref(),
        );
        out.property(Id::ReceiveMaximum, self.receive_maximum.as_ref());
        out.property(Id::MaximumPacketSize, self.maximum_packet_size.as_ref());
        out.property(Id::TopicAliasMaximum, self.topic_alias_maximum.as_ref());
        out.property(
            Id::RequestResponseInformation,
            self.request_response_information.as_ref(),
        );
        out.property(
            Id::RequestProblemInformation,
            self.request_problem_information.as_ref(),
        );
        out.property(
            Id::AuthenticationMethod,
            self.authentication_method.as_ref(),
        );
        out.property(Id::AuthenticationData, self.authentication_data.as_ref());
        out.properties(Id::UserProperty, &self.user_properties);
    }
}

impl Will {
    fn read(
        flags: u8,
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, InvalidPacket> {
        let qos = QoS::from_bits((flags & WILL_QOS) >> WILL_QOS_SHIFT)
            .ok_or(InvalidPacket::Qos { field: "will" })?;
        let mut delay_interval = None;
        let mut properties = MessageProperties::default();
        let mut section = reader.properties(version, Bearer::Will)?;
        while let Some(property) = section.next()? {
            match property {
                (PropertyId::WillDelayInterval, Value::FourByte(seconds)) => {
                    delay_interval = Some(seconds);
                }
                (id, value) => properties.take(&section, id, value)?,
            }
        }
        let topic = reader.topic_name("will topic")?;
        let payload = reader.binary("will payload")?.into_bytes();
        properties.check_payload(&payload)?;
        let retain = flags & WILL_RETAIN != 0;
        Ok(Self {
            delay_interval,
            message: Message {
                topic,
                payload,
                qos,
                retain,
                properties,
            },
        })
    }

    fn write(&self, version: ProtocolVersion, out: &mut Writer<'_>) {
        let Message {
            topic,
            payload,
            properties,
            ..
        } = &self.message;
        out.section(version, |out| {
            out.property(PropertyId::WillDelayInterval, self.delay_interval.as_ref());
            properties.write(properties.message_expiry_interval, out);
        });
        topic.encode(out);
        out.prefixed(payload);
    }
}
