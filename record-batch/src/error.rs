//! Why a batch cannot be read or a record not be added.

use crate::header::Compression;

/// A record that cannot be added to a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// The batch length is a signed 32-bit number.
    #[error(
        "record of {record_bytes} bytes does not fit a batch that has {batch_bytes} bytes: a \
         batch has at most 2147483647"
    )]
    BatchTooLarge {
        /// Size of the batch so far.
        batch_bytes: usize,
        /// Size of the refused record, with its own length prefix.
        record_bytes: usize,
    },
}

/// A batch that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// The length field is impossible.
    #[error(
        "record batch at offset {base_offset} has batch length {batch_length}, at least 49 is \
         needed"
    )]
    BatchLength {
        /// Base offset in the header.
        base_offset: i64,
        /// The value found.
        batch_length: i32,
    },
    /// The records are compressed, which this crate does not undo.
    #[error(
        "records of batch at offset {base_offset} are compressed with {codec}: only \
         uncompressed records can be read"
    )]
    Compressed {
        /// Base offset in the header.
        base_offset: i64,
        /// The codec named by the attributes.
        codec: Compression,
    },
    /// The number of records does not fit the span of offsets.
    #[error(
        "record batch at offset {base_offset} has {record_count} records and last offset delta \
         {last_offset_delta}"
    )]
    Count {
        /// Base offset in the header.
        base_offset: i64,
        /// Record count in the header.
        record_count: i32,
        /// Last offset delta in the header.
        last_offset_delta: i32,
    },
    /// The checksum does not match the bytes.
    #[error(
        "record batch at offset {base_offset} has CRC-32C {computed:#010x}, its header says \
         {stored:#010x}"
    )]
    Crc {
        /// Base offset in the header.
        base_offset: i64,
        /// Checksum in the header.
        stored: u32,
        /// Checksum of the bytes.
        computed: u32,
    },
    /// Not format version 2.
    #[error(
        "record batch at offset {base_offset} has format version (magic) {magic}, only 2 is \
         supported"
    )]
    Magic {
        /// Base offset in the header.
        base_offset: i64,
        /// The version found.
        magic: i8,
    },
    /// The last offset would be beyond the largest 64-bit number.
    #[error(
        "record batch at offset {base_offset} with last offset delta {last_offset_delta} \
         overflows the offset"
    )]
    OffsetOverflow {
        /// Base offset in the header.
        base_offset: i64,
        /// Last offset delta in the header.
        last_offset_delta: i32,
    },
    /// A record is damaged although the checksum is right: the writer was wrong.
    #[error(
        "record {index} of batch at offset {base_offset}, at byte {at_byte} of the batch: {problem}"
    )]
    Record {
        /// Base offset in the header.
        base_offset: i64,
        /// Zero-based place of the record in the batch.
        index: u32,
        /// Where in the batch reading stopped.
        at_byte: usize,
        /// What is wrong with it.
        problem: RecordProblem,
    },
    /// Bytes follow the last record inside the batch.
    #[error("{trailing_bytes} bytes follow the last record of batch at offset {base_offset}")]
    TrailingBytes {
        /// Base offset in the header.
        base_offset: i64,
        /// How many.
        trailing_bytes: usize,
    },
    /// The input ends inside the batch.
    #[error("record batch is cut short: {available_bytes} of {needed_bytes} bytes")]
    Truncated {
        /// What there is.
        available_bytes: usize,
        /// What there must be at least.
        needed_bytes: usize,
    },
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordProblem {
    /// No record attribute is defined.
    #[error("record attributes are {0:#04x}, none is defined")]
    Attributes(u8),
    /// The header count is negative or larger than the record can hold.
    #[error("header count is {0}")]
    HeaderCount(i32),
    /// A header has no name.
    #[error("header name length is {0}")]
    HeaderNameLength(i32),
    /// A length is negative where it must not be, or reaches beyond the record.
    #[error("{field} length is {length}, the record has {left_bytes} bytes left")]
    Length {
        /// The field that it belongs to.
        field: &'static str,
        /// The value found.
        length: i32,
        /// Bytes between the length field and the end of the record.
        left_bytes: usize,
    },
    /// Offset deltas must ascend and leave room for the records that follow.
    #[error("offset delta is {found}, from {lowest} to {highest} is allowed")]
    OffsetDelta {
        /// The value found.
        found: i32,
        /// Smallest possible one here.
        lowest: i64,
        /// Largest possible one here.
        highest: i64,
    },
    /// Bytes follow the last header inside the record.
    #[error("{0} bytes follow the last header")]
    Trailing(usize),
    /// The batch ends inside the record.
    #[error("the record ends inside its {0}")]
    Truncated(&'static str),
    /// A number is not in its shortest form or too large.
    #[error("{0} is not a minimal variable-length integer")]
    Varint(&'static str),
}
