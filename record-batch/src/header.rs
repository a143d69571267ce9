//! The 61-byte batch header: reading, writing, and what its fields mean.

use std::fmt;

use crate::error::BatchError;

/// Size of the header before the first record.
pub const HEADER_BYTES: usize = 61;

/// Bytes before the part that the batch length field counts.
const LENGTH_PREFIX_BYTES: usize = 12;

/// Smallest possible batch length: a header without records.
#[expect(clippy::cast_possible_truncation, reason = "49")]
const BATCH_LENGTH_MIN: i32 = (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32;

/// Where the checksummed part begins.
const CHECKSUMMED_FROM: usize = 21;

const MAGIC: i8 = 2;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;

/// CRC-32C of the checksummed part of a batch, or `None` if `batch` is shorter than a header.
pub fn checksum(batch: &[u8]) -> Option<u32> {
    if batch.len() < HEADER_BYTES {
        return None;
    }
    batch.get(CHECKSUMMED_FROM..).map(crc32c::crc32c)
}

/// How the records of a batch are compressed (attributes bits 0-2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Codec 1.
    Gzip,
    /// Codec 2.
    Snappy,
    /// Codec 3.
    Lz4,
    /// Codec 4.
    Zstd,
    /// Codecs 5 to 7, which Kafka has not assigned.
    Unknown(u8),
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Gzip => f.write_str("gzip"),
            Self::Snappy => f.write_str("snappy"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd => f.write_str("zstd"),
            Self::Unknown(codec) => write!(f, "unknown codec {codec}"),
        }
    }
}

/// The fields of the header, in the order of the wire; the magic byte is always 2.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Leader epoch in which the batch was appended; -1 before.
    pub partition_leader_epoch: i32,
    /// CRC-32C of everything after this field.
    pub crc: u32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record, less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas are added to.
    pub base_timestamp_ms: i64,
    /// Latest timestamp of a record, or the append time.
    pub max_timestamp_ms: i64,
    /// Idempotent or transactional producer; -1 for none.
    pub producer_id: i64,
    /// Epoch of that producer; -1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record; -1 for none.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

/// Reads fixed-size fields one after another.
struct Fields<'a>(&'a [u8; HEADER_BYTES], usize);

impl Fields<'_> {
    #[expect(
        clippy::indexing_slicing,
        reason = "the fields read in `parse` add up to 61 bytes"
    )]
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[self.1..self.1 + N]);
        self.1 += N;
        field
    }
}

impl BatchHeader {
    /// Reads the header at the start of `bytes` and checks it in itself; the checksum is checked by
    /// [`crate::Batch::parse`].
    ///
    /// # Errors
    /// Fewer than 61 bytes, a format version other than 2, a length that cannot hold a header, a
    /// record count that does not fit the span of offsets, offsets beyond 64 bits.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::read(bytes)?;
        header.check_span()?;
        Ok(header)
    }

    /// Reads the header and checks only what is needed to find the end of the batch, so that the
    /// checksum can be judged before the meaning of the fields.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated {
                available_bytes: bytes.len(),
                needed_bytes: HEADER_BYTES,
            });
        };
        let mut fields = Fields(bytes, 0);
        let base_offset = i64::from_be_bytes(fields.take());
        let batch_length = i32::from_be_bytes(fields.take());
        let partition_leader_epoch = i32::from_be_bytes(fields.take());
        let magic = i8::from_be_bytes(fields.take());
        let header = Self {
            base_offset,
            batch_length,
            partition_leader_epoch,
            crc: u32::from_be_bytes(fields.take()),
            attributes: i16::from_be_bytes(fields.take()),
            last_offset_delta: i32::from_be_bytes(fields.take()),
            base_timestamp_ms: i64::from_be_bytes(fields.take()),
            max_timestamp_ms: i64::from_be_bytes(fields.take()),
            producer_id: i64::from_be_bytes(fields.take()),
            producer_epoch: i16::from_be_bytes(fields.take()),
            base_sequence: i32::from_be_bytes(fields.take()),
            record_count: i32::from_be_bytes(fields.take()),
        };
        if magic != MAGIC {
            return Err(BatchError::Magic { base_offset, magic });
        }
        if header.batch_length < BATCH_LENGTH_MIN {
            return Err(BatchError::BatchLength {
                base_offset,
                batch_length: header.batch_length,
            });
        }
        Ok(header)
    }

    /// Checks that count and offsets go together.
    pub(crate) fn check_span(&self) -> Result<(), BatchError> {
        let base_offset = self.base_offset;
        let last_offset_delta = self.last_offset_delta;
        let span = i64::from(last_offset_delta) + 1;
        if last_offset_delta < 0 || !(0..=span).contains(&i64::from(self.record_count)) {
            let record_count = self.record_count;
            return Err(BatchError::Count {
                base_offset,
                record_count,
                last_offset_delta,
            });
        }
        // One more than the last offset must exist as well: it is the next offset.
        if base_offset.checked_add(span).is_none() {
            return Err(BatchError::OffsetOverflow {
                base_offset,
                last_offset_delta,
            });
        }
        Ok(())
    }

    /// The header as it stands on the wire, with the fields as they are: nothing is computed.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let fields: [&[u8]; 13] = [
            &self.base_offset.to_be_bytes(),
            &self.batch_length.to_be_bytes(),
            &self.partition_leader_epoch.to_be_bytes(),
            &MAGIC.to_be_bytes(),
            &self.crc.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &self.last_offset_delta.to_be_bytes(),
            &self.base_timestamp_ms.to_be_bytes(),
            &self.max_timestamp_ms.to_be_bytes(),
            &self.producer_id.to_be_bytes(),
            &self.producer_epoch.to_be_bytes(),
            &self.base_sequence.to_be_bytes(),
            &self.record_count.to_be_bytes(),
        ];
        for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// Size of the whole batch, header included; 0 if the length field is below -12, which
    /// [`Self::parse`] refuses.
    pub fn total_bytes(&self) -> usize {
        let total = i64::from(self.batch_length) + LENGTH_PREFIX_BYTES as i64;
        usize::try_from(total).unwrap_or(0)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset that the record after this batch gets.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Whether there is a record for every offset of the span. Only compaction makes holes.
    pub fn is_dense(&self) -> bool {
        i64::from(self.record_count) == i64::from(self.last_offset_delta) + 1
    }

    /// Sequence of the last record, wrapped as Kafka does (2147483647 is followed by 0); -1 without
    /// a producer.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(last & i64::from(i32::MAX)).unwrap_or(-1)
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Compression {
        match self.attributes & COMPRESSION_MASK {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            codec => Compression::Unknown(codec.to_le_bytes()[0]),
        }
    }

    /// Whether all records have the batch's max timestamp, the time of the append
    /// (`LogAppendTime`).
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds a broker's marker instead of records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: 0x0102_0304_0506_0708,
            batch_length: 60,
            partition_leader_epoch: 7,
            crc: 0xdead_beef,
            attributes: 0x11,
            last_offset_delta: 2,
            base_timestamp_ms: -5,
            max_timestamp_ms: 9,
            producer_id: 4000,
            producer_epoch: 3,
            base_sequence: i32::MAX,
            record_count: 3,
        }
    }

    #[test]
    fn header_comes_back_and_every_field_is_at_its_place() {
        let bytes = header().encode();
        assert_eq!(BatchHeader::parse(&bytes), Ok(header()));
        assert_eq!(bytes[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[8..12], [0, 0, 0, 60]);
        assert_eq!(bytes[16], 2);
        assert_eq!(bytes[17..21], [0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(bytes[43..51], 4000_i64.to_be_bytes());
        assert_eq!(bytes[57..61], [0, 0, 0, 3]);
    }

    #[test]
    fn derived_values_follow_the_fields() {
        let header = header();
        assert_eq!(header.total_bytes(), 72);
        assert_eq!(header.last_offset(), header.base_offset + 2);
        assert_eq!(header.next_offset(), header.base_offset + 3);
        assert_eq!(header.last_sequence(), 1, "2^31 - 1 is followed by 0");
        assert_eq!(header.compression(), Compression::Gzip);
        assert!(header.is_transactional());
        assert!(!header.is_control());
        assert!(!header.is_log_append_time());
        assert!(header.is_dense());
    }

    fn error_when(change: fn(&mut BatchHeader)) -> BatchError {
        let mut header = header();
        change(&mut header);
        BatchHeader::parse(&header.encode()).unwrap_err()
    }

    #[test]
    fn header_is_refused_when_a_field_is_impossible() {
        let error = error_when(|h| h.batch_length = 48);
        assert!(
            matches!(
                error,
                BatchError::BatchLength {
                    batch_length: 48,
                    ..
                }
            ),
            "{error}"
        );
        let error = error_when(|h| h.last_offset_delta = -1);
        assert!(
            matches!(
                error,
                BatchError::Count {
                    last_offset_delta: -1,
                    ..
                }
            ),
            "{error}"
        );
        let error = error_when(|h| h.record_count = 4);
        assert!(
            matches!(
                error,
                BatchError::Count {
                    record_count: 4,
                    ..
                }
            ),
            "{error}"
        );
        let error = error_when(|h| h.record_count = -1);
        assert!(
            matches!(
                error,
                BatchError::Count {
                    record_count: -1,
                    ..
                }
            ),
            "{error}"
        );
        let error = error_when(|h| h.base_offset = i64::MAX - 2);
        assert!(
            matches!(error, BatchError::OffsetOverflow { .. }),
            "{error}"
        );
    }

    #[test]
    fn header_is_refused_when_cut_or_of_another_version() {
        let mut bytes = header().encode();
        bytes[16] = 1;
        let error = BatchHeader::parse(&bytes).unwrap_err();
        assert!(
            matches!(error, BatchError::Magic { magic: 1, .. }),
            "{error}"
        );
        let error = BatchHeader::parse(&bytes[..60]).unwrap_err();
        assert!(
            matches!(
                error,
                BatchError::Truncated {
                    available_bytes: 60,
                    ..
                }
            ),
            "{error}"
        );
    }
}
