//! Builds a batch record by record, straight into the buffer that will be the batch.
//!
//! Invariant: the buffer is always a whole batch but for its header, so that the size is known
//! before and after each record; nothing is allocated but the growth of that one buffer.

use bytes::Bytes;

use crate::error::AppendError;
use crate::header::{BatchHeader, HEADER_BYTES, checksum};
use crate::record;

/// The batch length field is a signed 32-bit number; it leaves out the first twelve bytes, which
/// this limit forgoes.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// One record to add.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordFields<'a> {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key; Kafka distinguishes none from an empty one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone in compacted topics.
    pub value: Option<&'a [u8]>,
    /// Name and value of each header, in order; names may repeat.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// A batch under construction. Offsets are dense from the base offset on.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    base_offset: i64,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    /// At most `i32::MAX`: a record takes at least seven bytes of at most 2^31.
    record_count: u32,
}

impl BatchBuilder {
    /// An empty batch without a producer id.
    pub fn new(base_offset: i64) -> Self {
        Self::in_buffer(vec![0; HEADER_BYTES], base_offset)
    }

    /// `buffer` must have the size of a header; its content does not matter.
    fn in_buffer(buffer: Vec<u8>, base_offset: i64) -> Self {
        Self {
            buffer,
            base_offset,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        }
    }

    /// As [`Self::set_producer`], for construction in one expression.
    #[must_use]
    pub fn with_producer(
        mut self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
    ) -> Self {
        self.set_producer(producer_id, producer_epoch, base_sequence);
        self
    }

    /// Makes it the batch of an idempotent producer whose first record has `base_sequence`.
    pub fn set_producer(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        self.producer_id = producer_id;
        self.producer_epoch = producer_epoch;
        self.base_sequence = base_sequence;
    }

    /// Adds a record at [`Self::next_offset`].
    ///
    /// # Errors
    /// The batch would have more than 2147483647 bytes; it stays as it was.
    pub fn append(&mut self, record: &RecordFields<'_>) -> Result<(), AppendError> {
        let lengths = self.lengths(record);
        let batch_bytes = self.buffer.len();
        if batch_bytes.saturating_add(lengths.total) > BATCH_BYTES_MAX {
            return Err(AppendError::BatchTooLarge {
                batch_bytes,
                record_bytes: lengths.total,
            });
        }
        if self.is_empty() {
            self.base_timestamp_ms = record.timestamp_ms;
            self.max_timestamp_ms = record.timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        self.buffer.reserve(lengths.total);
        record::write(
            &mut self.buffer,
            record,
            &lengths,
            self.base_timestamp_ms,
            self.record_count,
        );
        debug_assert_eq!(
            self.buffer.len(),
            batch_bytes + lengths.total,
            "lengths are exact"
        );
        self.record_count += 1;
        Ok(())
    }

    fn lengths(&self, record: &RecordFields<'_>) -> record::Lengths {
        let base_timestamp_ms = if self.is_empty() {
            record.timestamp_ms
        } else {
            self.base_timestamp_ms
        };
        record::lengths(record, base_timestamp_ms, self.record_count)
    }

    /// Exactly the bytes by which [`Self::append`] would make the batch longer.
    pub fn record_bytes(&self, record: &RecordFields<'_>) -> usize {
        self.lengths(record).total
    }

    /// Size of the batch with the records so far; the header alone when there is none.
    pub fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Records so far.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Offset that the next record gets.
    pub fn next_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.record_count))
    }

    /// The finished batch; nothing at all when there is no record, because Kafka knows no batch
    /// without records.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        self.seal();
        Bytes::from(self.buffer)
    }

    /// Appends the finished batch to `out`, nothing when there is no record. The builder keeps its
    /// records until [`Self::clear`].
    pub fn finish_into(&mut self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            self.seal();
            out.extend_from_slice(&self.buffer);
        }
    }

    /// Starts a new batch at `base_offset`, without a producer id, in the same buffer.
    pub fn clear(&mut self, base_offset: i64) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.truncate(HEADER_BYTES);
        *self = Self::in_buffer(buffer, base_offset);
    }

    /// Writes the header for the records so far.
    fn seal(&mut self) {
        let bytes_after_length = self.buffer.len().saturating_sub(12);
        let mut header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: i32::try_from(bytes_after_length).unwrap_or(i32::MAX),
            partition_leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: i32::try_from(self.record_count).unwrap_or(i32::MAX) - 1,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: i32::try_from(self.record_count).unwrap_or(i32::MAX),
        };
        self.write_header(&header);
        header.crc = checksum(&self.buffer).unwrap_or(0);
        self.write_header(&header);
    }

    fn write_header(&mut self, header: &BatchHeader) {
        if let Some(place) = self.buffer.first_chunk_mut::<HEADER_BYTES>() {
            *place = header.encode();
        }
    }
}
