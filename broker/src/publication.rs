//! A message on its way to subscribers, with what must be remembered of its publisher; and its
//! forms in the log and back.
//!
//! Invariant: it shares no memory with a read buffer, unless it fills a good part of one. It may
//! wait for long, and a buffer lives as long as the last message in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt::{
    BinaryData, Message, MessageProperties, PayloadFormat, QoS, TopicName, UserProperty, Utf8String,
};
use storage::{EraId, Store};

/// From this size in bytes on a payload stays where it was read; a smaller one is copied, so that
/// it does not keep a whole read buffer for itself.
const SHARED_PAYLOAD_BYTES_MIN: usize = 16_384;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) message: Arc<Message>,
    pub(crate) expires_at: Option<Instant>,
    /// Client id of the publisher, for subscribers that do not want their own messages.
    pub(crate) publisher: Bytes,
}

/// The message must not be delivered any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expired;

impl Publication {
    /// A publication of what a client published just now under `topic`, which is the message's own,
    /// kept for long.
    pub(crate) fn new(
        now: Instant,
        message: &Message,
        topic: &TopicName,
        publisher: Bytes,
    ) -> Self {
        Self {
            expires_at: expiry(now, message),
            message: Arc::new(kept(message, topic)),
            publisher,
        }
    }

    /// A message of the log; `None` when it is expired. `era`: whose clock its expiry is of.
    ///
    /// # Errors
    /// It is no message that could be sent, and what of it is wrong.
    pub(crate) fn stored(
        now: Instant,
        store: &Store,
        era: EraId,
        stored: &storage::Message,
    ) -> Result<Option<Self>, String> {
        let publication = Self::stored_and_sent(now, store, era, stored)?;
        let is_alive = publication.remaining_seconds(now).is_ok();
        Ok(is_alive.then_some(publication))
    }

    /// The same of a message that was sent: it is sent again also when it has expired (MQTT-3.3.2-5 is about
    /// deliveries that have not begun).
    ///
    /// # Errors
    /// It is none that can be sent.
    pub(crate) fn stored_and_sent(
        now: Instant,
        store: &Store,
        era: EraId,
        stored: &storage::Message,
    ) -> Result<Self, String> {
        let expires_at = stored.expires_at_ms.and_then(|at_ms| {
            let era = store.era(era);
            let at_ms = era.map_or(at_ms, |era| era.corrected(at_ms).ms);
            let left_ms = u64::try_from(at_ms.saturating_sub(store.now().ms)).unwrap_or(0);
            now.checked_add(Duration::from_millis(left_ms))
        });
        Ok(Self {
            message: Arc::new(message_of(stored)?),
            expires_at,
            publisher: stored.client_id.clone(),
        })
    }

    /// Seconds that are left of the expiry interval, `None` for no end.
    ///
    /// # Errors
    /// The message has expired.
    pub(crate) fn remaining_seconds(&self, now: Instant) -> Result<Option<u32>, Expired> {
        remaining_seconds(self.expires_at, now)
    }

    /// What counts against bounds: topic name, payload and properties.
    pub(crate) fn size_bytes(&self) -> usize {
        size_bytes(&self.message)
    }

    /// Whether it takes a retained message away instead of setting one (MQTT 5, 3.3.1.3).
    pub(crate) fn clears(&self) -> bool {
        self.message.payload.is_empty()
    }
}

/// Seconds that are left until then, `None` for no end.
///
/// # Errors
/// It is over.
pub(crate) fn remaining_seconds(
    expires_at: Option<Instant>,
    now: Instant,
) -> Result<Option<u32>, Expired> {
    let Some(expires_at) = expires_at else {
        return Ok(None);
    };
    let left = expires_at.checked_duration_since(now).ok_or(Expired)?;
    // Rounded up: a fraction of a second is not yet expired.
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    match u32::try_from(seconds) {
        Ok(0) => Err(Expired),
        Ok(seconds) => Ok(Some(seconds)),
        Err(_) => Ok(Some(u32::MAX)),
    }
}

/// A message that may be kept for long, under `topic`, which is its own and may be, too.
pub(crate) fn kept(message: &Message, topic: &TopicName) -> Message {
    let payload = match message.payload.len() {
        ..SHARED_PAYLOAD_BYTES_MIN => Bytes::copy_from_slice(&message.payload),
        _ => message.payload.clone(),
    };
    Message {
        topic: topic.clone(),
        payload,
        qos: message.qos,
        retain: message.retain,
        properties: detached(message),
    }
}

/// Topic name, payload and properties of a message, in bytes.
pub(crate) fn size_bytes(message: &Message) -> usize {
    let properties = &message.properties;
    let text = |text: &Option<Utf8String>| text.as_ref().map_or(0, |text| text.as_bytes().len());
    let response_topic = properties.response_topic.as_ref();
    let correlation_data = properties.correlation_data.as_ref();
    let pairs = properties.user_properties.iter();
    message.topic.as_bytes().len()
        + message.payload.len()
        + text(&properties.content_type)
        + response_topic.map_or(0, |topic| topic.as_bytes().len())
        + correlation_data.map_or(0, |data| data.as_bytes().len())
        + pairs
            .map(|pair| pair.name.as_bytes().len() + pair.value.as_bytes().len())
            .sum::<usize>()
}

fn expiry(now: Instant, message: &Message) -> Option<Instant> {
    let interval = message.properties.message_expiry_interval?;
    // Beyond what an Instant can say it never expires.
    now.checked_add(Duration::from_secs(interval.into()))
}

/// The properties, without sharing the read buffer.
fn detached(message: &Message) -> MessageProperties {
    if message.properties == MessageProperties::default() {
        return MessageProperties::default();
    }
    let mut without_payload = message.clone();
    without_payload.payload = Bytes::new();
    without_payload.detach().properties
}

/// The message as it goes into the log. The store copies it, so everything may be shared.
pub(crate) fn record_of(
    message: &Message,
    topic: Bytes,
    client_id: Bytes,
    now_ms: impl FnOnce() -> i64,
) -> storage::Message {
    let properties = &message.properties;
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let interval = properties.message_expiry_interval;
    storage::Message {
        topic,
        payload: message.payload.clone(),
        client_id,
        qos: message.qos as u8,
        retain: message.retain,
        payload_is_utf8: properties.payload_format == Some(PayloadFormat::Utf8),
        expires_at_ms: interval
            .map(|seconds| now_ms().saturating_add(i64::from(seconds).saturating_mul(1_000))),
        content_type: properties
            .content_type
            .as_ref()
            .map(|t| bytes(t.as_bytes())),
        response_topic: properties
            .response_topic
            .as_ref()
            .map(|t| bytes(t.as_bytes())),
        correlation_data: properties
            .correlation_data
            .as_ref()
            .map(|d| bytes(d.as_bytes())),
        user_properties: properties
            .user_properties
            .iter()
            .map(|pair| (bytes(pair.name.as_bytes()), bytes(pair.value.as_bytes())))
            .collect(),
        session: None,
        source: None,
    }
}

/// A stored message as it can be sent. It shares nothing with what it was read with: a small one that waits
/// for long would hold a whole commit.
fn message_of(stored: &storage::Message) -> Result<Message, String> {
    let text = |what: &str, bytes: &Bytes| {
        Utf8String::try_from(bytes.clone()).map_err(|error| format!("{what} {error}"))
    };
    let topic = |what: &str, bytes: &Bytes| {
        TopicName::new(text(what, bytes)?).map_err(|error| format!("{what}: {error}"))
    };
    let content_type = stored.content_type.as_ref();
    let response_topic = stored.response_topic.as_ref();
    let correlation_data = stored.correlation_data.as_ref();
    let pairs = stored.user_properties.iter().map(|(name, value)| {
        Ok(UserProperty {
            name: text("name of a user property", name)?,
            value: text("value of a user property", value)?,
        })
    });
    let message = Message {
        topic: topic("topic name", &stored.topic)?,
        payload: stored.payload.clone(),
        qos: QoS::from_bits(stored.qos).unwrap_or_default(),
        retain: stored.retain,
        properties: MessageProperties {
            payload_format: stored.payload_is_utf8.then_some(PayloadFormat::Utf8),
            // Only what is left of it is ever sent.
            message_expiry_interval: None,
            content_type: content_type.map(|t| text("content type", t)).transpose()?,
            response_topic: response_topic
                .map(|t| topic("response topic", t))
                .transpose()?,
            correlation_data: correlation_data
                .map(|data| BinaryData::try_from(data.clone()).map_err(|error| error.to_string()))
                .transpose()?,
            user_properties: pairs.collect::<Result<_, String>>()?,
        },
    };
    Ok(message.detach())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let text = |text: &str| Utf8String::try_from(text).unwrap();
        Message {
            topic: "a/b".parse().unwrap(),
            payload: "21.5".into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: MessageProperties {
                payload_format: Some(PayloadFormat::Utf8),
                message_expiry_interval: Some(60),
                content_type: Some(text("text/plain")),
                response_topic: Some("r".parse().unwrap()),
                correlation_data: Some(
                    BinaryData::try_from(Bytes::from_static(b"\0\xff")).unwrap(),
                ),
                user_properties: vec![UserProperty {
                    name: text("k"),
                    value: text("v"),
                }],
            },
        }
    }

    #[test]
    fn message_comes_back_from_the_log() {
        let record = record_of(&message(), "a/b".into(), "c1".into(), || 1_000);
        assert_eq!(record.expires_at_ms, Some(61_000));
        assert_eq!(record.client_id, "c1");
        let mut expected = message();
        expected.properties.message_expiry_interval = None;
        assert_eq!(message_of(&record), Ok(expected));
    }

    #[test]
    fn stored_message_that_cannot_be_sent_is_refused_with_its_fault() {
        let of_topic = |topic: &'static [u8]| storage::Message {
            topic: Bytes::from_static(topic),
            ..storage::Message::default()
        };
        assert_eq!(
            message_of(&of_topic(b"a\xff")).unwrap_err(),
            "topic name is not well-formed UTF-8 at byte 1"
        );
        assert!(message_of(&of_topic(b"a/#")).is_err());
    }

    #[test]
    fn stored_message_does_not_hold_what_it_was_read_with() {
        let buffer = Bytes::from(vec![b'x'; 100_000]);
        let stored = storage::Message {
            topic: buffer.slice(..10),
            payload: buffer.slice(10..90_000),
            content_type: Some(buffer.slice(90_000..90_010)),
            user_properties: vec![(buffer.slice(..1), buffer.slice(1..2))],
            ..storage::Message::default()
        };
        let message = message_of(&stored).unwrap();
        assert_eq!(message.payload, stored.payload);
        drop(stored);
        assert!(buffer.is_unique(), "{:?}", message.topic);
    }

    #[test]
    fn remaining_seconds_are_rounded_up_and_end_with_the_interval() {
        let now = Instant::now();
        let publication = Publication::new(now, &message(), &message().topic, "c".into());
        let after = |ms| now + Duration::from_millis(ms);
        let remaining = |ms| publication.remaining_seconds(after(ms)).map_err(|_| ());
        assert_eq!(remaining(0), Ok(Some(60)));
        assert_eq!(remaining(1), Ok(Some(60)));
        assert_eq!(remaining(59_999), Ok(Some(1)));
        assert_eq!(remaining(60_000), Err(()));
        assert_eq!(remaining(60_001), Err(()));
    }

    #[test]
    fn small_payload_and_properties_leave_the_read_buffer_and_a_large_payload_stays() {
        let is_inside =
            |bytes: &[u8], buffer: &[u8]| buffer.as_ptr_range().contains(&bytes.as_ptr());
        for (bytes, is_shared) in [(100, false), (SHARED_PAYLOAD_BYTES_MIN, true)] {
            let buffer = Bytes::from(vec![b'x'; bytes + 10]);
            let mut message = message();
            message.payload = buffer.slice(10..);
            message.properties.content_type =
                Some(Utf8String::try_from(buffer.slice(..10)).unwrap());
            let publication =
                Publication::new(Instant::now(), &message, &message.topic, Bytes::new());
            let kept = &publication.message;
            assert_eq!(is_inside(&kept.payload, &buffer), is_shared);
            let content_type = kept.properties.content_type.as_ref().unwrap();
            assert!(!is_inside(content_type.as_bytes(), &buffer));
        }
    }
}
