//! An MQTT message as a Kafka record: which field becomes the key, the value and which header.
//!
//! Header names are one letter, because they repeat in every record on flash; the bridge gives them
//! readable names on the way to the cluster. `docs/storage-format.md` has the table.
//!
//! Not for: MQTT's rules (what a valid topic is), which the `mqtt` crate knows. Text is kept as
//! bytes that were checked before they came here.
//!
//! Invariant: what [`Message::with_record_fields`] writes, [`Message::from_record`] reads back.

use bytes::Bytes;
use record_batch::{Record, RecordFields};

/// Header names; one letter each, never given a second meaning.
mod name {
    pub(super) const CLIENT_ID: &[u8] = b"c";
    pub(super) const CONTENT_TYPE: &[u8] = b"m";
    pub(super) const CORRELATION_DATA: &[u8] = b"d";
    pub(super) const EXPIRES_AT: &[u8] = b"x";
    pub(super) const FLAGS: &[u8] = b"f";
    pub(super) const RESPONSE_TOPIC: &[u8] = b"r";
    pub(super) const SESSION: &[u8] = b"s";
    pub(super) const SOURCE: &[u8] = b"o";
    pub(super) const TOPIC: &[u8] = b"t";
    /// The first letter of a user property's header; the property's own name follows.
    pub(super) const USER_PROPERTY: u8 = b'u';
}

/// Bits of the flags header.
mod flag {
    /// Bits 0 and 1: the QoS with which the message was published.
    pub(super) const QOS: u8 = 0b0000_0011;
    pub(super) const RETAIN: u8 = 0b0000_0100;
    /// MQTT 5 payload format indicator 1: the payload is UTF-8 text.
    pub(super) const PAYLOAD_IS_UTF8: u8 = 0b0000_1000;
    /// The record's key is the client id, which has no header then.
    pub(super) const KEY_IS_CLIENT_ID: u8 = 0b0001_0000;
    /// The record's key is the topic, which has no header then.
    pub(super) const KEY_IS_TOPIC: u8 = 0b0010_0000;
}

/// An application message with all that is kept of it (MQTT 5 section 3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Topic name, UTF-8.
    pub topic: Bytes,
    /// The payload, untouched.
    pub payload: Bytes,
    /// Client id of the publisher, UTF-8.
    pub client_id: Bytes,
    /// QoS with which it was published: 0, 1 or 2.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// Payload format indicator 1: the payload is UTF-8.
    pub payload_is_utf8: bool,
    /// When it expires, in milliseconds of its era's provisional clock.
    pub expires_at_ms: Option<i64>,
    /// Content type, UTF-8.
    pub content_type: Option<Bytes>,
    /// Response topic, UTF-8.
    pub response_topic: Option<Bytes>,
    /// Correlation data.
    pub correlation_data: Option<Bytes>,
    /// User properties in order; names may repeat.
    pub user_properties: Vec<(Bytes, Bytes)>,
    /// For recovery only, never sent on: from which publish of which session a QoS 2 message came.
    pub session: Option<SessionPublish>,
    /// For recovery only, never sent on: where a record of a downlink stood upstream.
    pub source: Option<Bytes>,
}

/// A QoS 2 publish of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPublish {
    /// Which life of the session under its client id.
    pub session_epoch: u32,
    /// The packet id of the PUBLISH.
    pub packet_id: u16,
}

/// A record whose headers are not those of a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A header that every record has is not there.
    #[error("record at offset {offset} has no header `{header}`")]
    MissingHeader {
        /// Where.
        offset: i64,
        /// The header's name.
        header: char,
    },
    /// A header has a value of the wrong size.
    #[error(
        "record at offset {offset} has {found} bytes in header `{header}` where {expected} belong"
    )]
    HeaderSize {
        /// Where.
        offset: i64,
        /// The header's name.
        header: char,
        /// Size of the value.
        found: usize,
        /// Size that it must have.
        expected: usize,
    },
}

impl Message {
    /// Size that counts against limits: topic, payload and properties.
    pub fn size_bytes(&self) -> usize {
        let optional = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        let properties: usize = self
            .user_properties
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.topic.len()
            + self.payload.len()
            + self.client_id.len()
            + optional(&self.content_type)
            + optional(&self.response_topic)
            + optional(&self.correlation_data)
            + properties
    }

    /// Calls `use_fields` with the fields of the record that stands for this message under `key`.
    ///
    /// A callback, because the fields borrow small arrays that live no longer than the call.
    pub fn with_record_fields<R>(
        &self,
        key: &[u8],
        timestamp_ms: i64,
        use_fields: impl FnOnce(&RecordFields<'_>) -> R,
    ) -> R {
        let flags = [self.flags(key)];
        let expires_at = self.expires_at_ms.map(i64::to_be_bytes);
        let session = self.session.map(SessionPublish::to_bytes);

        let [flag_bits] = flags;
        let topic = (flag_bits & flag::KEY_IS_TOPIC == 0).then_some(&*self.topic);
        let client_id = (flag_bits & flag::KEY_IS_CLIENT_ID == 0).then_some(&*self.client_id);
        let mut fixed: [(&[u8], Option<&[u8]>); 9] = [
            (name::FLAGS, Some(&flags)),
            (name::TOPIC, topic),
            (name::CLIENT_ID, client_id),
            (
                name::EXPIRES_AT,
                expires_at.as_ref().map(<[u8; 8]>::as_slice),
            ),
            (name::CONTENT_TYPE, self.content_type.as_deref()),
            (name::RESPONSE_TOPIC, self.response_topic.as_deref()),
            (name::CORRELATION_DATA, self.correlation_data.as_deref()),
            (name::SESSION, session.as_ref().map(<[u8; 6]>::as_slice)),
            (name::SOURCE, self.source.as_deref()),
        ];
        // Those that are there move to the front, in order; nothing is allocated for them.
        let mut count = 0;
        for index in 0..fixed.len() {
            if fixed.get(index).is_some_and(|(_, value)| value.is_some()) {
                fixed.swap(count, index);
                count += 1;
            }
        }
        let fixed = fixed.get(..count).unwrap_or_default();

        if self.user_properties.is_empty() {
            return use_fields(&fields(key, &self.payload, timestamp_ms, fixed));
        }
        let names: Vec<Vec<u8>> = self
            .user_properties
            .iter()
            .map(|(name, _)| [&[name::USER_PROPERTY], name.as_ref()].concat())
            .collect();
        let mut headers = fixed.to_vec();
        for (name, (_, value)) in names.iter().zip(&self.user_properties) {
            headers.push((name, Some(value)));
        }
        use_fields(&fields(key, &self.payload, timestamp_ms, &headers))
    }

    fn flags(&self, key: &[u8]) -> u8 {
        let mut flags = self.qos & flag::QOS;
        for (set, bit) in [
            (self.retain, flag::RETAIN),
            (self.payload_is_utf8, flag::PAYLOAD_IS_UTF8),
            (key == self.client_id, flag::KEY_IS_CLIENT_ID),
            (key == self.topic, flag::KEY_IS_TOPIC),
        ] {
            if set {
                flags |= bit;
            }
        }
        flags
    }

    /// The message that `record` stands for. Headers that this version does not know are skipped.
    ///
    /// # Errors
    /// The record is none of ours, or of a later version that changed a header.
    pub fn from_record(record: &Record) -> Result<Self, MessageError> {
        let offset = record.offset;
        let key = record.key.clone().unwrap_or_default();
        let mut message = Self {
            payload: record.value.clone().unwrap_or_default(),
            ..Self::default()
        };
        let mut flags = None;
        let (mut topic, mut client_id) = (None, None);
        for (header, value) in &record.headers {
            let value = value.unwrap_or_default();
            match header.as_ref() {
                name::FLAGS => flags = Some(u8::from_be_bytes(sized(offset, 'f', &value)?)),
                name::TOPIC => topic = Some(value),
                name::CLIENT_ID => client_id = Some(value),
                name::EXPIRES_AT => {
                    message.expires_at_ms = Some(i64::from_be_bytes(sized(offset, 'x', &value)?));
                }
                name::CONTENT_TYPE => message.content_type = Some(value),
                name::RESPONSE_TOPIC => message.response_topic = Some(value),
                name::CORRELATION_DATA => message.correlation_data = Some(value),
                name::SESSION => {
                    message.session = Some(SessionPublish::from_bytes(sized(offset, 's', &value)?));
                }
                name::SOURCE => message.source = Some(value),
                [name::USER_PROPERTY, ..] => {
                    message.user_properties.push((header.slice(1..), value));
                }
                _ => {}
            }
        }
        let flags = flags.ok_or(MessageError::MissingHeader {
            offset,
            header: 'f',
        })?;
        message.qos = flags & flag::QOS;
        message.retain = flags & flag::RETAIN != 0;
        message.payload_is_utf8 = flags & flag::PAYLOAD_IS_UTF8 != 0;
        let from_key = |bit: u8| (flags & bit != 0).then(|| key.clone());
        message.topic =
            topic
                .or_else(|| from_key(flag::KEY_IS_TOPIC))
                .ok_or(MessageError::MissingHeader {
                    offset,
                    header: 't',
                })?;
        message.client_id = client_id
            .or_else(|| from_key(flag::KEY_IS_CLIENT_ID))
            .ok_or(MessageError::MissingHeader {
                offset,
                header: 'c',
            })?;
        Ok(message)
    }

    /// Whether `record` carries the RETAIN flag, without reading the rest of it.
    pub(crate) fn is_retained(record: &Record) -> bool {
        let flags = record.headers.first(name::FLAGS).flatten();
        flags.is_some_and(|value| value.first().is_some_and(|bits| bits & flag::RETAIN != 0))
    }
}

impl SessionPublish {
    fn to_bytes(self) -> [u8; 6] {
        let [a, b, c, d] = self.session_epoch.to_be_bytes();
        let [e, f] = self.packet_id.to_be_bytes();
        [a, b, c, d, e, f]
    }

    fn from_bytes([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self {
            session_epoch: u32::from_be_bytes([a, b, c, d]),
            packet_id: u16::from_be_bytes([e, f]),
        }
    }
}

fn fields<'a>(
    key: &'a [u8],
    payload: &'a [u8],
    timestamp_ms: i64,
    headers: &'a [(&'a [u8], Option<&'a [u8]>)],
) -> RecordFields<'a> {
    RecordFields {
        timestamp_ms,
        key: Some(key),
        value: Some(payload),
        headers,
    }
}

fn sized<const N: usize>(
    offset: i64,
    header: char,
    value: &Bytes,
) -> Result<[u8; N], MessageError> {
    <[u8; N]>::try_from(value.as_ref()).map_err(|_| MessageError::HeaderSize {
        offset,
        header,
        found: value.len(),
        expected: N,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use record_batch::{Batch, BatchBuilder};

    fn record_of(message: &Message, key: &[u8]) -> Record {
        let mut builder = BatchBuilder::new(7);
        message
            .with_record_fields(key, 1_000, |fields| builder.append(fields))
            .unwrap();
        let (batch, _) = Batch::parse(builder.finish()).unwrap();
        batch.records().next().unwrap().unwrap()
    }

    fn text() -> impl Strategy<Value = Bytes> {
        "[a-z/]{1,12}".prop_map(Bytes::from)
    }

    prop_compose! {
        fn messages()(
            topic in text(), client_id in text(), payload in proptest::collection::vec(any::<u8>(), 0..40),
            qos in 0..3_u8, retain: bool, payload_is_utf8: bool, expires_at_ms: Option<i64>,
            content_type in proptest::option::of(text()), response_topic in proptest::option::of(text()),
            correlation_data in proptest::option::of(text()), source in proptest::option::of(text()),
            session in proptest::option::of((any::<u32>(), any::<u16>())),
            user_properties in proptest::collection::vec((text(), text()), 0..4),
        ) -> Message {
            Message {
                topic, client_id, payload: payload.into(), qos, retain, payload_is_utf8, expires_at_ms,
                content_type, response_topic, correlation_data, source, user_properties,
                session: session.map(|(session_epoch, packet_id)| SessionPublish { session_epoch, packet_id }),
            }
        }
    }

    proptest! {
        #[test]
        fn message_comes_back_from_its_record(message in messages(), choice in 0..3_u8) {
            let key = match choice { 0 => message.client_id.clone(), 1 => message.topic.clone(), _ => Bytes::from_static(b"k") };
            let record = record_of(&message, &key);
            prop_assert_eq!(record.key.as_ref(), Some(&key));
            prop_assert_eq!(Message::is_retained(&record), message.retain);
            prop_assert_eq!(Message::from_record(&record), Ok(message));
        }
    }

    #[test]
    fn record_of_something_else_is_refused() {
        let mut builder = BatchBuilder::new(3);
        builder
            .append(&RecordFields {
                value: Some(b"x"),
                ..RecordFields::default()
            })
            .unwrap();
        let (batch, _) = Batch::parse(builder.finish()).unwrap();
        let record = batch.records().next().unwrap().unwrap();
        let error = Message::from_record(&record).unwrap_err();
        assert_eq!(error.to_string(), "record at offset 3 has no header `f`");
    }

    #[test]
    fn repeated_user_properties_keep_their_order() {
        let property = |n: &'static str, v: &'static str| (Bytes::from(n), Bytes::from(v));
        let message = Message {
            topic: "a".into(),
            client_id: "c".into(),
            user_properties: vec![property("k", "1"), property("z", "2"), property("k", "3")],
            ..Message::default()
        };
        let back = Message::from_record(&record_of(&message, b"c")).unwrap();
        assert_eq!(back.user_properties, message.user_properties);
    }
}
