//! The packets that the suites send and receive, as bytes.
//!
//! MQTT 3.1.1 and 5, section 3; properties are section 2.2.2.2 of MQTT 5.

use anyhow::{Context, Result, bail};

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// DISCONNECT without a reason code: 0, normal disconnection.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.
    V5,
}

impl Version {
    /// Both, for tests that hold for both.
    pub const BOTH: [Self; 2] = [Self::V311, Self::V5];

    /// The protocol level in CONNECT.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// A property of MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its identifier.
    pub id: u8,
    /// Its value.
    pub value: PropertyValue,
}

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyValue {
    /// A number of one, two or four bytes, or of variable length.
    Number(u32),
    /// A string or binary data.
    Bytes(Vec<u8>),
    /// Name and value of a user property.
    Pair(Vec<u8>, Vec<u8>),
}

/// How a property is written.
#[derive(Clone, Copy)]
enum Form {
    Byte,
    Two,
    Four,
    Variable,
    Bytes,
    Pair,
}

/// Properties in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<Property>);

impl Properties {
    /// With one more number.
    #[must_use]
    pub fn number(mut self, id: u8, value: u32) -> Self {
        let value = PropertyValue::Number(value);
        self.0.push(Property { id, value });
        self
    }

    /// With one more string or piece of binary data.
    #[must_use]
    pub fn bytes(mut self, id: u8, value: impl AsRef<[u8]>) -> Self {
        let value = PropertyValue::Bytes(value.as_ref().to_vec());
        self.0.push(Property { id, value });
        self
    }

    /// With one more user property.
    #[must_use]
    pub fn user(mut self, name: &str, value: &str) -> Self {
        let value = PropertyValue::Pair(name.into(), value.into());
        self.0.push(Property { id: 0x26, value });
        self
    }

    /// The value of the first numeric property with this identifier.
    #[must_use]
    pub fn find_number(&self, id: u8) -> Option<u32> {
        self.0
            .iter()
            .find_map(|property| match (property.id, &property.value) {
                (found, PropertyValue::Number(value)) if found == id => Some(*value),
                _ => None,
            })
    }

    /// The value of the first property with this identifier that is a string or binary data.
    #[must_use]
    pub fn find_bytes(&self, id: u8) -> Option<&[u8]> {
        self.0
            .iter()
            .find_map(|property| match (property.id, &property.value) {
                (found, PropertyValue::Bytes(value)) if found == id => Some(value.as_slice()),
                _ => None,
            })
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for Property { id, value } in &self.0 {
            body.push(*id);
            match (value, form(*id)) {
                (PropertyValue::Number(value), Some(Form::Byte)) => {
                    body.push(value.to_be_bytes()[3]);
                }
                (PropertyValue::Number(value), Some(Form::Two)) => {
                    body.extend(value.to_be_bytes().iter().skip(2));
                }
                (PropertyValue::Number(value), Some(Form::Variable)) => {
                    body.extend(variable(*value));
                }
                (PropertyValue::Number(value), _) => body.extend(value.to_be_bytes()),
                (PropertyValue::Bytes(bytes), _) => body.extend(string(bytes)),
                (PropertyValue::Pair(name, value), _) => {
                    body.extend(string(name));
                    body.extend(string(value));
                }
            }
        }
        let mut bytes = variable(u32::try_from(body.len()).unwrap_or(u32::MAX));
        bytes.extend(body);
        bytes
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let len = reader.variable()? as usize;
        let mut reader = Reader {
            bytes: reader.take(len)?,
        };
        let mut properties = Vec::new();
        while !reader.bytes.is_empty() {
            let id = reader.byte()?;
            let value = match form(id).with_context(|| format!("property 0x{id:02x}"))? {
                Form::Byte => PropertyValue::Number(reader.byte()?.into()),
                Form::Two => PropertyValue::Number(reader.two()?.into()),
                Form::Four => PropertyValue::Number(reader.four()?),
                Form::Variable => PropertyValue::Number(reader.variable()?),
                Form::Bytes => PropertyValue::Bytes(reader.string()?.to_vec()),
                Form::Pair => {
                    PropertyValue::Pair(reader.string()?.to_vec(), reader.string()?.to_vec())
                }
            };
            properties.push(Property { id, value });
        }
        Ok(Self(properties))
    }
}

fn form(id: u8) -> Option<Form> {
    Some(match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Form::Byte,
        0x13 | 0x21 | 0x22 | 0x23 => Form::Two,
        0x02 | 0x11 | 0x18 | 0x27 => Form::Four,
        0x0b => Form::Variable,
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => Form::Bytes,
        0x26 => Form::Pair,
        _ => return None,
    })
}

/// A will, QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether it is to be retained.
    pub retain: bool,
}

/// CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Protocol version.
    pub version: Version,
    /// Client identifier.
    pub client_id: String,
    /// Keep alive in seconds; 0 is none.
    pub keep_alive_seconds: u16,
    /// Properties; MQTT 5 only.
    pub properties: Properties,
    /// The will.
    pub will: Option<Will>,
    /// Whether an earlier session goes on, if there is one; Clean Start is the opposite.
    pub goes_on: bool,
}

impl Connect {
    /// With a clean start, without keep alive, properties and will.
    #[must_use]
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            client_id: client_id.to_owned(),
            keep_alive_seconds: 0,
            properties: Properties::default(),
            will: None,
            goes_on: false,
        }
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        const CLEAN_START: u8 = 0b10;
        let will_flags = self
            .will
            .as_ref()
            .map_or(0, |will| 0b1100 | (u8::from(will.retain) << 5));
        let mut body = string(b"MQTT");
        body.push(self.version.level());
        let clean_start = if self.goes_on { 0 } else { CLEAN_START };
        body.push(clean_start | will_flags);
        body.extend(self.keep_alive_seconds.to_be_bytes());
        if self.version == Version::V5 {
            body.extend(self.properties.encode());
        }
        body.extend(string(self.client_id.as_bytes()));
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                body.push(0);
            }
            body.extend(string(will.topic.as_bytes()));
            body.extend(string(&will.payload));
        }
        packet(0x10, &body)
    }
}

/// PUBLISH.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publish {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// With one it has QoS 1 or 2, without QoS 0.
    pub packet_id: Option<u16>,
    /// With a packet identifier: QoS 2 and not 1.
    pub exactly_once: bool,
    /// The RETAIN flag.
    pub retain: bool,
    /// The DUP flag.
    pub dup: bool,
    /// Properties; MQTT 5 only.
    pub properties: Properties,
}

impl Publish {
    /// QoS 0, not retained, without properties.
    #[must_use]
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            ..Self::default()
        }
    }

    /// The same with the RETAIN flag.
    #[must_use]
    pub fn retained(self) -> Self {
        Self {
            retain: true,
            ..self
        }
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let qos = self.qos();
        let first = 0x30 | (u8::from(self.dup) << 3) | (qos << 1) | u8::from(self.retain);
        let mut body = string(self.topic.as_bytes());
        body.extend(self.packet_id.map(u16::to_be_bytes).into_iter().flatten());
        if version == Version::V5 {
            body.extend(self.properties.encode());
        }
        body.extend(&self.payload);
        packet(first, &body)
    }

    /// 0, 1 or 2.
    #[must_use]
    pub fn qos(&self) -> u8 {
        u8::from(self.packet_id.is_some()) + u8::from(self.exactly_once)
    }

    fn decode(first: u8, reader: &mut Reader<'_>, version: Version) -> Result<Self> {
        let qos = (first >> 1) & 0b11;
        let topic = String::from_utf8(reader.string()?.to_vec()).context("topic name")?;
        let packet_id = match qos {
            0 => None,
            1 | 2 => Some(reader.two()?),
            _ => bail!("PUBLISH of QoS {qos} from the broker"),
        };
        let properties = match version {
            Version::V311 => Properties::default(),
            Version::V5 => Properties::decode(reader)?,
        };
        Ok(Self {
            topic,
            payload: reader.bytes.to_vec(),
            packet_id,
            exactly_once: qos == 2,
            retain: first & 1 == 1,
            dup: first & 8 == 8,
            properties,
        })
    }
}

/// SUBSCRIBE to one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet identifier.
    pub packet_id: u16,
    /// Topic filter.
    pub filter: String,
    /// Subscription options: the QoS, and for MQTT 5 more.
    pub options: u8,
    /// Properties; MQTT 5 only.
    pub properties: Properties,
}

impl Subscribe {
    /// QoS 1.
    #[must_use]
    pub fn new(filter: &str) -> Self {
        Self {
            packet_id: 7,
            filter: filter.to_owned(),
            options: 1,
            properties: Properties::default(),
        }
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        if version == Version::V5 {
            body.extend(self.properties.encode());
        }
        body.extend(string(self.filter.as_bytes()));
        body.push(self.options);
        packet(0x82, &body)
    }
}

/// UNSUBSCRIBE from one filter.
#[must_use]
pub fn unsubscribe(packet_id: u16, filter: &str, version: Version) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    body.extend(string(filter.as_bytes()));
    packet(0xa2, &body)
}

/// PUBACK with success.
#[must_use]
pub fn puback(packet_id: u16) -> Vec<u8> {
    packet(0x40, &packet_id.to_be_bytes())
}

/// PUBREC with success.
#[must_use]
pub fn pubrec(packet_id: u16) -> Vec<u8> {
    packet(0x50, &packet_id.to_be_bytes())
}

/// PUBREL with success.
#[must_use]
pub fn pubrel(packet_id: u16) -> Vec<u8> {
    packet(0x62, &packet_id.to_be_bytes())
}

/// PUBCOMP with success.
#[must_use]
pub fn pubcomp(packet_id: u16) -> Vec<u8> {
    packet(0x70, &packet_id.to_be_bytes())
}

/// A packet of any first byte and body.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(variable(u32::try_from(body.len()).unwrap_or(u32::MAX)));
    bytes.extend(body);
    bytes
}

/// A string or binary data with its length in front.
#[must_use]
pub fn string(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let mut out = len.to_be_bytes().to_vec();
    out.extend(bytes.iter().take(len.into()));
    out
}

/// A variable byte integer (1.5.5).
#[must_use]
pub fn variable(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [.., low] = (value & 0x7f).to_be_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK.
    Connack {
        /// Reason code, or return code of MQTT 3.1.1.
        code: u8,
        /// Whether an earlier session goes on.
        session_present: bool,
        /// Its properties.
        properties: Properties,
    },
    /// DISCONNECT, MQTT 5.
    Disconnect {
        /// Reason code.
        code: u8,
    },
    /// PINGRESP.
    Pingresp,
    /// PUBACK.
    Puback {
        /// Packet identifier.
        packet_id: u16,
        /// Reason code; 0 in MQTT 3.1.1.
        code: u8,
    },
    /// PUBREC.
    Pubrec {
        /// Packet identifier.
        packet_id: u16,
        /// Reason code; 0 in MQTT 3.1.1.
        code: u8,
    },
    /// PUBREL.
    Pubrel {
        /// Packet identifier.
        packet_id: u16,
        /// Reason code; 0 in MQTT 3.1.1.
        code: u8,
    },
    /// PUBCOMP.
    Pubcomp {
        /// Packet identifier.
        packet_id: u16,
        /// Reason code; 0 in MQTT 3.1.1.
        code: u8,
    },
    /// PUBLISH.
    Publish(Publish),
    /// SUBACK.
    Suback {
        /// Packet identifier.
        packet_id: u16,
        /// A reason code for each filter.
        codes: Vec<u8>,
    },
    /// UNSUBACK.
    Unsuback {
        /// Packet identifier.
        packet_id: u16,
    },
    /// Any other.
    Other {
        /// First byte.
        first: u8,
        /// What follows the fixed header.
        body: Vec<u8>,
    },
}

impl Packet {
    /// Reads what follows the fixed header.
    ///
    /// # Errors
    /// When it is not what the packet type asks for.
    pub fn decode(first: u8, body: &[u8], version: Version) -> Result<Self> {
        let mut reader = Reader { bytes: body };
        let is_v5 = version == Version::V5;
        Ok(match first {
            0x20 => {
                let session_present = reader.byte()? & 1 == 1;
                let code = reader.byte()?;
                let properties = match is_v5 {
                    true => Properties::decode(&mut reader)?,
                    false => Properties::default(),
                };
                Self::Connack {
                    code,
                    session_present,
                    properties,
                }
            }
            0x40 | 0x50 | 0x62 | 0x70 => {
                let packet_id = reader.two()?;
                let code = reader.bytes.first().copied().unwrap_or(0);
                match first {
                    0x40 => Self::Puback { packet_id, code },
                    0x50 => Self::Pubrec { packet_id, code },
                    0x62 => Self::Pubrel { packet_id, code },
                    _ => Self::Pubcomp { packet_id, code },
                }
            }
            0xb0 => Self::Unsuback {
                packet_id: reader.two()?,
            },
            0x90 => {
                let packet_id = reader.two()?;
                if is_v5 {
                    Properties::decode(&mut reader)?;
                }
                let codes = reader.bytes.to_vec();
                Self::Suback { packet_id, codes }
            }
            0xd0 => Self::Pingresp,
            0xe0 => Self::Disconnect {
                code: body.first().copied().unwrap_or(0),
            },
            first if first >> 4 == 3 => {
                Self::Publish(Publish::decode(first, &mut reader, version)?)
            }
            first => Self::Other {
                first,
                body: body.to_vec(),
            },
        })
    }
}

/// Lengths of the fixed header and of what follows it; `None` while more bytes are needed.
///
/// # Errors
/// When the remaining length has more than four bytes.
pub fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut body_len = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        body_len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((index + 2, body_len)));
        }
    }
    if bytes.len() > 4 {
        bail!("remaining length of more than four bytes from the broker");
    }
    Ok(None)
}

/// Reads from front to back.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(len)
            .context("a packet of the broker is too short")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1)?.first().copied().context("a byte")
    }

    fn two(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn four(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn variable(&mut self) -> Result<u32> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a variable byte integer of more than four bytes from the broker")
    }

    fn string(&mut self) -> Result<&'a [u8]> {
        let len = self.two()?;
        self.take(len.into())
    }
}

#[cfg(test)]
mod tests {
    use super::{Connect, Packet, Properties, Publish, Version, lengths, variable};

    #[test]
    fn connect_has_the_bytes_of_the_standard() {
        let connect = Connect::new(Version::V311, "a");
        assert_eq!(
            connect.encode(),
            [
                0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'a'
            ]
        );
    }

    #[test]
    fn publish_is_read_back_in_both_versions() {
        for version in Version::BOTH {
            let properties = match version {
                Version::V311 => Properties::default(),
                Version::V5 => Properties::default()
                    .number(0x01, 1)
                    .number(0x02, 70_000)
                    .bytes(0x03, "text/plain")
                    .user("a", "b"),
            };
            let publish = Publish {
                packet_id: Some(300),
                properties,
                ..Publish::new("a/b", "payload").retained()
            };
            let bytes = publish.encode(version);
            let (header, body) = lengths(&bytes).unwrap().unwrap();
            assert_eq!(header + body, bytes.len());
            let packet = Packet::decode(bytes[0], &bytes[header..], version).unwrap();
            assert_eq!(packet, Packet::Publish(publish));
        }
    }

    #[test]
    fn variable_byte_integers_are_those_of_the_standard() {
        assert_eq!(variable(0), [0]);
        assert_eq!(variable(127), [127]);
        assert_eq!(variable(128), [0x80, 1]);
        assert_eq!(variable(268_435_455), [0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(lengths(&[0x30, 0x80, 1]).unwrap(), Some((3, 128)));
        assert_eq!(lengths(&[0x30, 0x80]).unwrap(), None);
        assert!(lengths(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
