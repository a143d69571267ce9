//! Record batches for a partition that has no clock of its own.

#[path = "../batch/mod.rs"]
mod named;

use bytes::Bytes;
use record_batch::{Batch, BatchHeader};

pub(crate) use named::{batch_at, values};

/// The time that tests live in.
pub(crate) const NOW_MS: i64 = 1_800_000_000_000;

/// A batch of an idempotent producer, with a value that names each record.
pub(crate) fn batch(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Bytes {
    batch_at(producer_id, epoch, sequence, count, NOW_MS)
}

/// `records` with a changed header and a right checksum.
pub(crate) fn with_header(records: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let (batch, _) = Batch::parse(records.clone()).unwrap();
    let mut header = batch.header().clone();
    change(&mut header);
    batch.with_header(&header).unwrap().as_bytes().clone()
}
