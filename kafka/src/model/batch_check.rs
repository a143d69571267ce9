//! What a broker demands of the bytes in a Produce request before it looks at the producer.
//!
//! The order of the checks is the broker's (the classes `ProduceRequest`, `UnifiedLog` and
//! `LogValidator`), so that a batch with two faults is refused for the same one.

use bytes::Bytes;
use record_batch::{Batch, BatchError, Compression};

use super::partition::{PartitionOptions, TimestampType};
use crate::error_code::ErrorCode;

/// Batch length and magic stand here in every format version.
const LENGTH_AT: usize = 8;
const LENGTH_PREFIX_BYTES: usize = 12;
const MAGIC_AT: usize = 16;

/// The shortest batch length of the oldest format.
const BATCH_LENGTH_MIN: i32 = 14;

/// The first whole batch in `records`: its bytes and format version. `None` if there is none.
fn next_batch(records: &[u8]) -> Result<Option<(&[u8], u8)>, ErrorCode> {
    let length = records.get(LENGTH_AT..).and_then(<[u8]>::first_chunk);
    let Some(length) = length.map(|bytes| i32::from_be_bytes(*bytes)) else {
        return Ok(None);
    };
    if length < BATCH_LENGTH_MIN {
        return Err(ErrorCode::CORRUPT_MESSAGE);
    }
    let Some(&magic) = records.get(MAGIC_AT) else {
        return Ok(None);
    };
    if magic > 2 {
        return Err(ErrorCode::CORRUPT_MESSAGE);
    }
    let total = usize::try_from(length).unwrap_or(0) + LENGTH_PREFIX_BYTES;
    Ok(records.get(..total).map(|batch| (batch, magic)))
}

/// The one batch in `records`, if a broker with `options` would take it. Bytes behind it that are
/// no whole batch are ignored, as there.
pub(super) fn check(
    records: &Bytes,
    options: &PartitionOptions,
    now_ms: i64,
) -> Result<Batch, ErrorCode> {
    let Some((bytes, magic)) = next_batch(records)? else {
        return Err(ErrorCode::INVALID_RECORD);
    };
    let rest = records.get(bytes.len()..).unwrap_or_default();
    if magic != 2 || next_batch(rest)?.is_some() {
        return Err(ErrorCode::INVALID_RECORD);
    }
    let base_offset = bytes
        .first_chunk()
        .map_or(-1, |bytes| i64::from_be_bytes(*bytes));
    if base_offset != 0 {
        return Err(ErrorCode::INVALID_RECORD);
    }
    if bytes.len() > options.batch_bytes_max {
        return Err(ErrorCode::MESSAGE_TOO_LARGE);
    }
    let (batch, _) = Batch::parse(records.slice(..bytes.len())).map_err(|error| match error {
        BatchError::Count { .. } | BatchError::OffsetOverflow { .. } => ErrorCode::INVALID_RECORD,
        _ => ErrorCode::CORRUPT_MESSAGE,
    })?;
    let header = batch.header();
    if header.is_control() || (header.producer_id >= 0 && header.base_sequence < 0) {
        return Err(ErrorCode::INVALID_RECORD);
    }
    if header.is_transactional() {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    if header.compression() != Compression::None {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    }
    check_records(&batch, options, now_ms)?;
    Ok(batch)
}

fn check_records(batch: &Batch, options: &PartitionOptions, now_ms: i64) -> Result<(), ErrorCode> {
    let create_time = options.timestamp_type == TimestampType::CreateTime;
    let mut refused = None;
    for record in batch.records() {
        let record = record.map_err(|_| ErrorCode::INVALID_RECORD)?;
        // -1 stands for no timestamp.
        if create_time && record.timestamp_ms != -1 {
            let age_ms = now_ms.saturating_sub(record.timestamp_ms);
            if age_ms > options.timestamp_before_max_ms
                || age_ms.saturating_neg() > options.timestamp_after_max_ms
            {
                refused = Some(ErrorCode::INVALID_TIMESTAMP);
            }
        } else if batch.header().is_log_append_time() {
            refused = Some(ErrorCode::INVALID_TIMESTAMP);
        }
    }
    // Only after all records were read: a damaged one weighs more.
    refused.map_or(Ok(()), Err)
}
