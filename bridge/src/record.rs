//! A stored record as it goes upstream: readable header names, who it is (`tg-id`), when it was
//! (`tg-time`).
//!
//! ```text
//! tg-id                 gateway/incarnation/log-partition/offset, unique for good
//! tg-time               when the gateway received it, milliseconds since 1970, corrected
//! tg-time-quality       synced | estimated
//! mqtt-topic            topic name
//! mqtt-client-id        publisher
//! mqtt-qos              0 | 1 | 2, as published
//! mqtt-retain           1, if the RETAIN flag was set
//! mqtt-content-type, mqtt-response-topic, mqtt-correlation-data, mqtt-payload-format (utf-8),
//! mqtt-expires          milliseconds since 1970
//! (a user property)     its own name; one that begins with `tg-` or `mqtt-` gets `user-` in front
//! ```
//!
//! Invariant: no device can make a header that reads like one of ours.

use bytes::Bytes;
use record_batch::{AppendError, BatchBuilder, RecordFields};
use storage::{CorrectedTime, Incarnation, Message, Offset};

/// What is the same for all records of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) gateway_id: String,
    pub(crate) log: String,
    pub(crate) partition: u16,
}

/// A record, ready to be put into a batch.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) key: Bytes,
    pub(crate) message: Message,
    /// When the gateway received it.
    pub(crate) time: CorrectedTime,
    /// What it bears as the record's own time.
    pub(crate) create_time_ms: i64,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) offset: Offset,
    pub(crate) incarnation: Incarnation,
}

const RESERVED: [&[u8]; 2] = [b"tg-", b"mqtt-"];

impl Origin {
    /// The name that no other record ever has.
    pub(crate) fn tg_id(&self, incarnation: Incarnation, offset: Offset) -> String {
        let Self {
            gateway_id,
            log,
            partition,
        } = self;
        format!("{gateway_id}/{incarnation}/{log}-{partition}/{offset}")
    }

    /// Appends `record` to `batch`.
    pub(crate) fn append(
        &self,
        record: &Outgoing,
        batch: &mut BatchBuilder,
    ) -> Result<(), AppendError> {
        self.with_fields(record, |fields| batch.append(fields))
    }

    /// Bytes by which `record` would make `batch` longer.
    pub(crate) fn record_bytes(&self, record: &Outgoing, batch: &BatchBuilder) -> usize {
        self.with_fields(record, |fields| batch.record_bytes(fields))
    }

    fn with_fields<R>(
        &self,
        record: &Outgoing,
        use_fields: impl FnOnce(&RecordFields<'_>) -> R,
    ) -> R {
        let message = &record.message;
        let id = self.tg_id(record.incarnation, record.offset);
        let time = record.time.ms.to_string();
        let qos = message.qos.to_string();
        let expires = record.expires_ms.map(|ms| ms.to_string());
        let names: Vec<Vec<u8>> = message
            .user_properties
            .iter()
            .map(|(name, _)| user_header(name))
            .collect();

        let mut headers: Vec<(&[u8], Option<&[u8]>)> = vec![
            (b"tg-id", Some(id.as_bytes())),
            (b"tg-time", Some(time.as_bytes())),
            (
                b"tg-time-quality",
                Some(record.time.quality.as_str().as_bytes()),
            ),
            (b"mqtt-topic", Some(&message.topic)),
            (b"mqtt-client-id", Some(&message.client_id)),
            (b"mqtt-qos", Some(qos.as_bytes())),
        ];
        let optional: [(&[u8], Option<&[u8]>); 6] = [
            (b"mqtt-retain", message.retain.then_some(b"1")),
            (b"mqtt-content-type", message.content_type.as_deref()),
            (b"mqtt-response-topic", message.response_topic.as_deref()),
            (
                b"mqtt-correlation-data",
                message.correlation_data.as_deref(),
            ),
            (
                b"mqtt-payload-format",
                message.payload_is_utf8.then_some(b"utf-8"),
            ),
            (b"mqtt-expires", expires.as_deref().map(str::as_bytes)),
        ];
        headers.extend(optional.into_iter().filter(|(_, value)| value.is_some()));
        for (name, (_, value)) in names.iter().zip(&message.user_properties) {
            headers.push((name, Some(value)));
        }
        use_fields(&RecordFields {
            timestamp_ms: record.create_time_ms,
            key: Some(&record.key),
            value: Some(&message.payload),
            headers: &headers,
        })
    }
}

fn user_header(name: &[u8]) -> Vec<u8> {
    let is_reserved = RESERVED.iter().any(|reserved| name.starts_with(reserved));
    if is_reserved {
        [b"user-", name].concat()
    } else {
        name.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record_batch::Batch;
    use storage::TimeQuality;

    fn headers(message: Message) -> Vec<(String, String)> {
        let origin = Origin {
            gateway_id: "gw-1".into(),
            log: "telemetry".into(),
            partition: 3,
        };
        let record = Outgoing {
            key: "dev".into(),
            message,
            time: CorrectedTime {
                ms: 1_700_000_000_123,
                quality: TimeQuality::Synced,
            },
            create_time_ms: 5,
            expires_ms: Some(1_700_000_060_123),
            offset: Offset(42),
            incarnation: Incarnation(0xab),
        };
        let mut batch = BatchBuilder::new(0);
        let expected = origin.record_bytes(&record, &batch);
        let before = batch.len_bytes();
        origin.append(&record, &mut batch).unwrap();
        assert_eq!(batch.len_bytes() - before, expected);
        let (batch, _) = Batch::parse(batch.finish()).unwrap();
        let record = batch.records().next().unwrap().unwrap();
        assert_eq!(
            (record.timestamp_ms, record.key.unwrap()),
            (5, Bytes::from("dev"))
        );
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        record
            .headers
            .iter()
            .map(|(name, value)| (text(&name), text(&value.unwrap())))
            .collect()
    }

    #[test]
    fn record_says_who_it_is_and_what_it_was() {
        let message = Message {
            topic: "a/b".into(),
            client_id: "dev".into(),
            qos: 1,
            retain: true,
            payload_is_utf8: true,
            content_type: Some("text/plain".into()),
            ..Message::default()
        };
        let expected = [
            ("tg-id", "gw-1/00000000000000ab/telemetry-3/42"),
            ("tg-time", "1700000000123"),
            ("tg-time-quality", "synced"),
            ("mqtt-topic", "a/b"),
            ("mqtt-client-id", "dev"),
            ("mqtt-qos", "1"),
            ("mqtt-retain", "1"),
            ("mqtt-content-type", "text/plain"),
            ("mqtt-payload-format", "utf-8"),
            ("mqtt-expires", "1700000060123"),
        ];
        let expected: Vec<_> = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        assert_eq!(headers(message), expected);
    }

    #[test]
    fn device_cannot_make_headers_of_ours() {
        let property = |n: &'static str, v: &'static str| (Bytes::from(n), Bytes::from(v));
        let message = Message {
            user_properties: vec![
                property("tg-id", "forged"),
                property("unit", "C"),
                property("mqtt-topic", "forged"),
                property("unit", "F"),
            ],
            ..Message::default()
        };
        let headers = headers(message);
        assert_eq!(
            headers.iter().filter(|(name, _)| name == "tg-id").count(),
            1
        );
        let names: Vec<_> = headers
            .iter()
            .rev()
            .take(4)
            .rev()
            .map(|(n, v)| (&**n, &**v))
            .collect();
        let expected = [
            ("user-tg-id", "forged"),
            ("unit", "C"),
            ("user-mqtt-topic", "forged"),
            ("unit", "F"),
        ];
        assert_eq!(names, expected);
    }
}
