//! How `sub` prints a message: its payload, its topic and payload, or one JSON object.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use crate::cli::client::SubOptions;
use crate::client::event::Received;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Json,
    Payload,
    TopicAndPayload,
}

/// A message as JSON. Names and meaning are kept from version to version; what a message does not
/// have is left out.
#[derive(Serialize)]
struct MessageView<'a> {
    topic: Cow<'a, str>,
    qos: u8,
    retain: bool,
    /// The payload, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    /// The payload in hexadecimal digits, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_expiry_interval_seconds: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    user_properties: &'a [(String, String)],
}

impl Style {
    /// The style that the options ask for.
    pub(super) fn of(options: &SubOptions) -> Self {
        if options.json {
            Self::Json
        } else if options.verbose {
            Self::TopicAndPayload
        } else {
            Self::Payload
        }
    }

    /// Writes one message and a line end, at once.
    pub(super) fn print(self, out: &mut impl Write, message: &Received) -> io::Result<()> {
        match self {
            Self::Json => serde_json::to_writer(&mut *out, &view(message))?,
            Self::Payload => out.write_all(&message.payload)?,
            Self::TopicAndPayload => {
                out.write_all(&message.topic)?;
                out.write_all(b" ")?;
                out.write_all(&message.payload)?;
            }
        }
        out.write_all(b"\n")?;
        out.flush()
    }
}

fn view(message: &Received) -> MessageView<'_> {
    let payload = str::from_utf8(&message.payload).ok();
    let properties = &message.properties;
    MessageView {
        topic: String::from_utf8_lossy(&message.topic),
        qos: message.qos,
        retain: message.retain,
        payload,
        payload_hex: payload.is_none().then(|| hex(&message.payload)),
        content_type: properties.content_type.as_deref(),
        response_topic: properties.response_topic.as_deref(),
        correlation_data_hex: properties.correlation_data.as_deref().map(hex),
        message_expiry_interval_seconds: properties.message_expiry_interval,
        user_properties: &properties.user_properties,
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rumqttc::v5::mqttbytes::v5::PublishProperties;

    use super::*;

    fn printed(style: Style, payload: &'static [u8], properties: PublishProperties) -> String {
        let message = Received {
            topic: Bytes::from_static(b"a/b"),
            payload: Bytes::from_static(payload),
            qos: 1,
            retain: true,
            properties,
        };
        let mut out = Vec::new();
        style.print(&mut out, &message).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_style_prints_one_line() {
        let none = PublishProperties::default;
        assert_eq!(printed(Style::Payload, b"x y", none()), "x y\n");
        assert_eq!(printed(Style::TopicAndPayload, b"x", none()), "a/b x\n");
        assert_eq!(
            printed(Style::Json, b"x\ny", none()),
            "{\"topic\":\"a/b\",\"qos\":1,\"retain\":true,\"payload\":\"x\\ny\"}\n"
        );
    }

    #[test]
    fn json_has_what_text_cannot_hold() {
        let properties = PublishProperties {
            user_properties: vec![(String::from("k"), String::from("v"))],
            correlation_data: Some(Bytes::from_static(b"\x01\xff")),
            ..PublishProperties::default()
        };
        assert_eq!(
            printed(Style::Json, b"\xff\x00", properties),
            "{\"topic\":\"a/b\",\"qos\":1,\"retain\":true,\"payload_hex\":\"ff00\",\
             \"correlation_data_hex\":\"01ff\",\"user_properties\":[[\"k\",\"v\"]]}\n"
        );
    }
}
