//! Arbitrary records, owned, and how they become a batch.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use record_batch::{BatchBuilder, RecordFields};

/// A record that owns its bytes, so that it can be compared with what was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnedRecord {
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    pub(crate) fn read(record: &record_batch::Record) -> Self {
        let owned = |field: &Option<Bytes>| field.as_ref().map(|bytes| bytes.to_vec());
        Self {
            timestamp_ms: record.timestamp_ms,
            key: owned(&record.key),
            value: owned(&record.value),
            headers: record
                .headers
                .iter()
                .map(|(n, v)| (n.to_vec(), owned(&v)))
                .collect(),
        }
    }

    pub(crate) fn with_fields<T>(&self, use_fields: impl FnOnce(&RecordFields<'_>) -> T) -> T {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(n, v)| (n.as_slice(), v.as_deref()))
            .collect();
        use_fields(&RecordFields {
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }
}

/// Names come from three letters, so that they often repeat.
fn header() -> impl Strategy<Value = (Vec<u8>, Option<Vec<u8>>)> {
    (
        "[abc]{0,2}".prop_map(String::into_bytes),
        option::of(vec(any::<u8>(), 0..12)),
    )
}

pub(crate) fn record() -> impl Strategy<Value = OwnedRecord> {
    let timestamp_ms = prop_oneof![
        4 => 1_700_000_000_000_i64..1_800_000_000_000,
        1 => any::<i64>(),
    ];
    let field = || option::of(vec(any::<u8>(), 0..200));
    (timestamp_ms, field(), field(), vec(header(), 0..5)).prop_map(
        |(timestamp_ms, key, value, headers)| OwnedRecord {
            timestamp_ms,
            key,
            value,
            headers,
        },
    )
}

pub(crate) fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    vec(record(), 1..20)
}

pub(crate) fn append_all(builder: &mut BatchBuilder, records: &[OwnedRecord]) {
    for record in records {
        record.with_fields(|fields| builder.append(fields)).unwrap();
    }
}

pub(crate) fn built(base_offset: i64, records: &[OwnedRecord]) -> Bytes {
    let mut builder = BatchBuilder::new(base_offset).with_producer(7, 1, 40);
    append_all(&mut builder, records);
    builder.finish()
}
