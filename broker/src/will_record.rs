//! What is written down of the will of a session that outlives its connection: one journal entry under
//! its client identifier (`JournalKind::Will`), cold. It has an entry of its own so that a will of many
//! bytes is written once and not with each SUBSCRIBE, and is not in memory while it waits.
//!
//! ```text
//! version u8 = 1 | postcard of Stored
//! ```
//!
//! User name and password are not in it; whether its client was permitted to publish it is.

use bytes::Bytes;
use mqtt::{
    BinaryData, Message, MessageProperties, PayloadFormat, QoS, TopicName, UserProperty,
    Utf8String, Will,
};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WillRecord {
    pub(crate) will: Will,
    /// The keep alive of its connection; 0 for none.
    pub(crate) keep_alive_seconds: u16,
    /// Its client was permitted to publish it when it connected.
    pub(crate) is_permitted: bool,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WillRecordError {
    /// Of a later version, or empty.
    #[error("the will has version {found}, this program reads {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// It is damaged.
    #[error("the will is damaged")]
    Encoding(#[from] postcard::Error),
    /// It is no message that could be sent.
    #[error("the will has {what}")]
    Content {
        /// What.
        what: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    delay_seconds: Option<u32>,
    keep_alive_seconds: u16,
    is_permitted: bool,
    topic: &'a str,
    payload: &'a [u8],
    qos: u8,
    retain: bool,
    payload_is_utf8: Option<bool>,
    expiry_seconds: Option<u32>,
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a [u8]>,
    #[serde(borrow)]
    user_properties: Vec<(&'a str, &'a str)>,
}

impl WillRecord {
    /// The record of a will, without a copy of it.
    pub(crate) fn stored(will: &Will, keep_alive_seconds: u16, is_permitted: bool) -> Vec<u8> {
        let message = &will.message;
        let properties = &message.properties;
        let pairs = properties.user_properties.iter();
        let stored = Stored {
            delay_seconds: will.delay_interval,
            keep_alive_seconds,
            is_permitted,
            topic: message.topic.as_str(),
            payload: &message.payload,
            qos: message.qos as u8,
            retain: message.retain,
            payload_is_utf8: properties
                .payload_format
                .map(|format| format == PayloadFormat::Utf8),
            expiry_seconds: properties.message_expiry_interval,
            content_type: properties.content_type.as_ref().map(Utf8String::as_str),
            response_topic: properties.response_topic.as_ref().map(TopicName::as_str),
            correlation_data: properties
                .correlation_data
                .as_ref()
                .map(BinaryData::as_bytes),
            user_properties: pairs
                .map(|pair| (pair.name.as_str(), pair.value.as_str()))
                .collect(),
        };
        // Nothing in it is of a kind that postcard refuses.
        postcard::to_extend(&stored, vec![VERSION]).unwrap_or_default()
    }

    /// # Errors
    /// It is none of ours.
    pub(crate) fn from_stored(bytes: &[u8]) -> Result<Self, WillRecordError> {
        let stored: Stored<'_> = match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest)?,
            first => {
                let found = first.map_or(0, |(version, _)| *version);
                return Err(WillRecordError::Version { found });
            }
        };
        let content = |what| WillRecordError::Content { what };
        let text = |text: &str| {
            Utf8String::try_from(text.to_owned()).map_err(|_| content("an invalid string"))
        };
        let topic =
            |name: &str| TopicName::new(text(name)?).map_err(|_| content("an invalid topic name"));
        let data = |data: &[u8]| {
            BinaryData::try_from(Bytes::copy_from_slice(data))
                .map_err(|_| content("correlation data that are too long"))
        };
        let pairs = stored.user_properties.iter().map(|(name, value)| {
            Ok(UserProperty {
                name: text(name)?,
                value: text(value)?,
            })
        });
        let message = Message {
            topic: topic(stored.topic)?,
            payload: Bytes::copy_from_slice(stored.payload),
            qos: QoS::from_bits(stored.qos).ok_or_else(|| content("an unknown QoS"))?,
            retain: stored.retain,
            properties: MessageProperties {
                payload_format: stored.payload_is_utf8.map(|is_utf8| match is_utf8 {
                    true => PayloadFormat::Utf8,
                    false => PayloadFormat::Unspecified,
                }),
                message_expiry_interval: stored.expiry_seconds,
                content_type: stored.content_type.map(text).transpose()?,
                response_topic: stored.response_topic.map(topic).transpose()?,
                correlation_data: stored.correlation_data.map(data).transpose()?,
                user_properties: pairs.collect::<Result<_, WillRecordError>>()?,
            },
        };
        Ok(Self {
            will: Will {
                delay_interval: stored.delay_seconds,
                message,
            },
            keep_alive_seconds: stored.keep_alive_seconds,
            is_permitted: stored.is_permitted,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Utf8String {
        Utf8String::try_from(text).unwrap()
    }

    fn record() -> WillRecord {
        WillRecord {
            will: Will {
                delay_interval: Some(300),
                message: Message {
                    topic: "a/b".parse().unwrap(),
                    payload: "gone".into(),
                    qos: QoS::ExactlyOnce,
                    retain: true,
                    properties: MessageProperties {
                        payload_format: Some(PayloadFormat::Utf8),
                        message_expiry_interval: Some(60),
                        content_type: Some(text("t")),
                        response_topic: Some("r".parse().unwrap()),
                        correlation_data: Some(
                            BinaryData::try_from(Bytes::from_static(&[0, 255])).unwrap(),
                        ),
                        user_properties: vec![
                            UserProperty {
                                name: text("n"),
                                value: text("1"),
                            },
                            UserProperty {
                                name: text("n"),
                                value: text(""),
                            },
                        ],
                    },
                },
            },
            keep_alive_seconds: 30,
            is_permitted: true,
        }
    }

    fn plain() -> WillRecord {
        WillRecord {
            will: Will {
                delay_interval: None,
                message: Message {
                    topic: "a".parse().unwrap(),
                    payload: Bytes::new(),
                    qos: QoS::AtMostOnce,
                    retain: false,
                    properties: MessageProperties {
                        payload_format: Some(PayloadFormat::Unspecified),
                        ..MessageProperties::default()
                    },
                },
            },
            keep_alive_seconds: 0,
            is_permitted: false,
        }
    }

    fn stored(record: &WillRecord) -> Vec<u8> {
        WillRecord::stored(&record.will, record.keep_alive_seconds, record.is_permitted)
    }

    #[test]
    fn will_comes_back_with_everything() {
        for record in [record(), plain()] {
            let read = WillRecord::from_stored(&stored(&record)).unwrap();
            assert_eq!(read, record);
        }
    }

    /// It stands in the files of every gateway.
    #[test]
    fn stored_form_does_not_change() {
        assert_eq!(
            stored(&record()),
            [
                1, 1, 172, 2, 30, 1, 3, b'a', b'/', b'b', 4, b'g', b'o', b'n', b'e', 2, 1, 1, 1, 1,
                60, 1, 1, b't', 1, 1, b'r', 1, 2, 0, 255, 2, 1, b'n', 1, b'1', 1, b'n', 0
            ]
        );
    }

    #[test]
    fn will_of_a_later_version_is_named() {
        let error = WillRecord::from_stored(&[2, 0]).unwrap_err();
        let expected = "the will has version 2, this program reads 1";
        assert_eq!(error.to_string(), expected);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = WillRecord::from_stored(&bytes);
            let _ = WillRecord::from_stored(&[&[VERSION], bytes.as_slice()].concat());
        }
    }
}
