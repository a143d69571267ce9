//! Record batches for tests.

use bytes::Bytes;
use record_batch::{BatchBuilder, RecordFields};

/// A batch of an idempotent producer, with a value that names each record.
pub(crate) fn batch_at(
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    count: i32,
    timestamp_ms: i64,
) -> Bytes {
    let mut builder = BatchBuilder::new(0).with_producer(producer_id, epoch, sequence);
    for index in 0..count {
        let value = format!(
            "{producer_id}/{epoch}/{}",
            i64::from(sequence) + i64::from(index)
        );
        let record = RecordFields {
            timestamp_ms,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[(b"h", Some(b"1")), (b"h", Some(b"2"))],
        };
        builder.append(&record).unwrap();
    }
    builder.finish()
}

/// The values of records, as text.
pub(crate) fn values(records: &[record_batch::Record]) -> Vec<String> {
    let values = records
        .iter()
        .map(|record| record.value.clone().unwrap_or_default());
    values
        .map(|value| String::from_utf8(value.to_vec()).unwrap())
        .collect()
}
