//! What clients are asked to do, and messages as they tell them; and both as the lines of
//! `tests/python/client_lines.py`.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::who::Who;

/// Seconds for which a session waits for its client: longer than any test.
const SESSION_SECONDS: u32 = 3600;

/// An application message, given to a client or told by one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Properties,
}

/// Properties of a message in MQTT 5.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) content_type: Option<String>,
    pub(crate) response_topic: Option<String>,
    pub(crate) correlation_data: Option<Vec<u8>>,
    pub(crate) payload_format: Option<u8>,
    /// In seconds. Not compared when it is told: it counts down.
    pub(crate) message_expiry: Option<u32>,
    pub(crate) user: Vec<(String, String)>,
}

/// For failures: a payload is text there, and those that are none are large.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text().chars().take(40).collect();
        write!(f, "{text:?} to {}, QoS {}", self.topic, self.qos)?;
        if self.retain {
            write!(f, ", RETAIN")?;
        }
        if self.properties != Properties::default() {
            write!(f, ", {:?}", self.properties)?;
        }
        Ok(())
    }
}

impl Message {
    pub(crate) fn new(topic: &str, payload: impl Into<Vec<u8>>, qos: u8) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.into(),
            qos,
            retain: false,
            properties: Properties::default(),
        }
    }

    pub(crate) fn retained(self, retain: bool) -> Self {
        Self { retain, ..self }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    pub(crate) fn to_json(&self) -> Value {
        let properties = &self.properties;
        json!({
            "topic": self.topic,
            "payload": hex(&self.payload),
            "qos": self.qos,
            "retain": self.retain,
            "properties": {
                "content_type": properties.content_type,
                "response_topic": properties.response_topic,
                "correlation_data": properties.correlation_data.as_deref().map(hex),
                "payload_format": properties.payload_format,
                "message_expiry": properties.message_expiry,
                "user": properties.user,
            },
        })
    }

    pub(crate) fn from_json(line: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let told = &line["properties"];
        let user = told["user"].as_array().into_iter().flatten();
        let correlation_data = told["correlation_data"].as_str().map(bytes).transpose()?;
        let payload_format = told["payload_format"].as_u64().map(u8::try_from);
        Ok(Self {
            topic: text(&line["topic"]).context("a message without topic")?,
            payload: bytes(line["payload"].as_str().context("no payload")?)?,
            qos: u8::try_from(line["qos"].as_u64().context("no QoS")?)?,
            retain: line["retain"].as_bool().context("no RETAIN flag")?,
            properties: Properties {
                content_type: text(&told["content_type"]),
                response_topic: text(&told["response_topic"]),
                correlation_data,
                payload_format: payload_format.transpose()?,
                message_expiry: None,
                user: user
                    .filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?)))
                    .collect(),
            },
        })
    }
}

/// What is published when the client is gone without a good-bye.
#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) message: Message,
    /// Will Delay Interval of MQTT 5, in seconds.
    pub(crate) delay: Option<u32>,
}

/// How to connect.
#[derive(Debug, Clone)]
pub(crate) struct Connect {
    pub(crate) client_id: String,
    /// Clean Session; in MQTT 5 Clean Start.
    pub(crate) clean: bool,
    /// Session Expiry Interval of MQTT 5, in seconds.
    pub(crate) session_expiry: Option<u32>,
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) will: Option<Will>,
}

impl Connect {
    /// For a session that ends with the connection.
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            clean: true,
            session_expiry: None,
            maximum_packet_size: None,
            will: None,
        }
    }

    /// For a session that is kept, a new one or the one that was left.
    pub(crate) fn kept(client_id: &str, who: Who) -> Self {
        Self {
            clean: false,
            session_expiry: who.is_5().then_some(SESSION_SECONDS),
            ..Self::new(client_id)
        }
    }

    pub(crate) fn to_json(&self, port: u16, level: u8) -> Value {
        let will = self.will.as_ref().map(|will| {
            let mut line = will.message.to_json();
            line["delay"] = json!(will.delay);
            line
        });
        json!({
            "do": "connect",
            "port": port,
            "level": level,
            "client_id": self.client_id,
            "clean": self.clean,
            "session_expiry": self.session_expiry,
            "maximum_packet_size": self.maximum_packet_size,
            "will": will,
        })
    }
}

/// What to subscribe to, and how.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    pub(crate) qos: u8,
    /// Retain Handling of MQTT 5.
    pub(crate) retain_handling: u8,
    /// Retain As Published of MQTT 5.
    pub(crate) retain_as_published: bool,
}

impl Subscription {
    pub(crate) fn new(filter: &str, qos: u8) -> Self {
        Self {
            filter: filter.to_owned(),
            qos,
            retain_handling: 0,
            retain_as_published: false,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "do": "subscribe",
            "filter": self.filter,
            "qos": self.qos,
            "retain_handling": self.retain_handling,
            "retain_as_published": self.retain_as_published,
        })
    }
}

/// The line with one more member.
pub(crate) fn with(mut line: Value, name: &str, value: Value) -> Value {
    line[name] = value;
    line
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    let both = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(both).collect()
}

pub(crate) fn bytes(hex: &str) -> Result<Vec<u8>> {
    ensure!(
        hex.len().is_multiple_of(2),
        "{hex:?} is not bytes in hexadecimal"
    );
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?);
    digits.map(byte).collect()
}
