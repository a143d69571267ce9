//! One record inside a batch.
//!
//! ```text
//! length            varint   bytes after this field
//! attributes        1 byte   0
//! timestamp delta   varlong  from the batch's base timestamp
//! offset delta      varint   from the batch's base offset
//! key length, key   varint   -1: no key
//! value length, value varint -1: no value
//! header count      varint
//!   name length, name   varint
//!   value length, value varint, -1: no value
//! ```
//!
//! A timestamp delta may exceed 64 bits (first record at the one end of time, second at the other):
//! it wraps, here as in Kafka's own reader, and so comes back unchanged.

use bytes::Bytes;

use crate::builder::RecordFields;
use crate::error::RecordProblem;
use crate::varint::{self, VarintError};

/// Shortest possible record: six fields and its length prefix, a byte each.
pub(crate) const RECORD_BYTES_MIN: usize = 7;

/// Sizes of a record that is about to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// What the length prefix says.
    body: usize,
    /// With the length prefix.
    pub(crate) total: usize,
}

/// A length as the varint functions take it. Lengths of slices never exceed `i64::MAX`.
fn as_i64(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn optional_len(field: Option<&[u8]>) -> usize {
    field.map_or_else(
        || varint::len(-1),
        |field| varint::len(as_i64(field.len())) + field.len(),
    )
}

/// Sizes of `record` as the record number `index` of a batch.
pub(crate) fn lengths(record: &RecordFields<'_>, base_timestamp_ms: i64, index: u32) -> Lengths {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| optional_len(Some(name)) + optional_len(*value))
        .sum();
    let body = 1
        + varint::len(record.timestamp_ms.wrapping_sub(base_timestamp_ms))
        + varint::len(i64::from(index))
        + optional_len(record.key)
        + optional_len(record.value)
        + varint::len(as_i64(record.headers.len()))
        + headers;
    Lengths {
        body,
        total: varint::len(as_i64(body)) + body,
    }
}

fn write_optional(out: &mut Vec<u8>, field: Option<&[u8]>) {
    varint::write(out, field.map_or(-1, |field| as_i64(field.len())));
    out.extend_from_slice(field.unwrap_or_default());
}

/// Appends `record` to `out`; `lengths` must be those of the same record and place.
pub(crate) fn write(
    out: &mut Vec<u8>,
    record: &RecordFields<'_>,
    lengths: &Lengths,
    base_timestamp_ms: i64,
    index: u32,
) {
    varint::write(out, as_i64(lengths.body));
    out.push(0);
    varint::write(out, record.timestamp_ms.wrapping_sub(base_timestamp_ms));
    varint::write(out, i64::from(index));
    write_optional(out, record.key);
    write_optional(out, record.value);
    varint::write(out, as_i64(record.headers.len()));
    for (name, value) in record.headers {
        write_optional(out, Some(name));
        write_optional(out, *value);
    }
}

/// A record, sharing the buffer of its batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Offset in the log.
    pub offset: i64,
    /// Milliseconds since 1970; the time of the append if the batch says so.
    pub timestamp_ms: i64,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value, if any.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: RecordHeaders,
}

/// The headers of a record in order, repeated names kept. Iterating yields name and value.
///
/// Invariant: `bytes` was walked once when the record was read and holds `left` headers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RecordHeaders {
    bytes: Bytes,
    left: u32,
}

impl RecordHeaders {
    /// An iterator from the first header on.
    pub fn iter(&self) -> Self {
        self.clone()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Value of the first header called `name`; the inner option is a header without a value.
    pub fn first(&self, name: &[u8]) -> Option<Option<Bytes>> {
        self.iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }
}

impl IntoIterator for &RecordHeaders {
    type Item = (Bytes, Option<Bytes>);
    type IntoIter = RecordHeaders;

    fn into_iter(self) -> RecordHeaders {
        self.iter()
    }
}

impl Iterator for RecordHeaders {
    type Item = (Bytes, Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut reader = Reader::new(&self.bytes);
        let header = reader.header().ok()?;
        let read = reader.at;
        self.bytes = self.bytes.slice(read..);
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for RecordHeaders {}

/// What a record says before base offset and base timestamp are added.
#[derive(Debug)]
pub(crate) struct RecordParts {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: RecordHeaders,
}

/// Reads the record at the start of `bytes`, which end where the batch does; returns it and its
/// length. A problem comes with the place at which reading stopped.
pub(crate) fn read(bytes: &Bytes) -> Result<(RecordParts, usize), (RecordProblem, usize)> {
    let mut reader = Reader::new(bytes);
    let length = reader
        .i32("record length")
        .map_err(|problem| (problem, reader.at))?;
    let body_at = reader.at;
    let body = reader
        .take("record", length)
        .map_err(|problem| (problem, body_at))?;
    let total = reader.at;
    let mut reader = Reader::new(&body);
    match reader.body() {
        Ok(parts) => Ok((parts, total)),
        Err(problem) => Err((problem, body_at + reader.at)),
    }
}

/// Reads fields one after another; `at` never exceeds the length of `bytes`.
struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn varint<T>(
        &mut self,
        field: &'static str,
        read: impl Fn(&[u8]) -> Result<(T, usize), VarintError>,
    ) -> Result<T, RecordProblem> {
        match read(self.left()) {
            Ok((value, len)) => {
                self.at += len;
                Ok(value)
            }
            Err(VarintError::Overlong) => Err(RecordProblem::Varint(field)),
            Err(VarintError::Truncated) => Err(RecordProblem::Truncated(field)),
        }
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, RecordProblem> {
        self.varint(field, varint::read_i32)
    }

    /// `length` bytes, which must be there.
    fn take(&mut self, field: &'static str, length: i32) -> Result<Bytes, RecordProblem> {
        let left_bytes = self.left().len();
        let problem = RecordProblem::Length {
            field,
            length,
            left_bytes,
        };
        let bytes = usize::try_from(length).map_err(|_| problem)?;
        if bytes > left_bytes {
            return Err(problem);
        }
        let taken = self.bytes.slice(self.at..self.at + bytes);
        self.at += bytes;
        Ok(taken)
    }

    /// A length and as many bytes; none if the length is -1.
    fn optional(&mut self, field: &'static str) -> Result<Option<Bytes>, RecordProblem> {
        match self.i32(field)? {
            -1 => Ok(None),
            length => self.take(field, length).map(Some),
        }
    }

    fn header(&mut self) -> Result<(Bytes, Option<Bytes>), RecordProblem> {
        let length = self.i32("header name length")?;
        if length < 0 {
            return Err(RecordProblem::HeaderNameLength(length));
        }
        let name = self.take("header name", length)?;
        let value = self.optional("header value")?;
        Ok((name, value))
    }

    fn body(&mut self) -> Result<RecordParts, RecordProblem> {
        match self.left().first() {
            Some(0) => self.at += 1,
            Some(&attributes) => return Err(RecordProblem::Attributes(attributes)),
            None => return Err(RecordProblem::Truncated("attributes")),
        }
        let timestamp_delta = self.varint("timestamp delta", varint::read_i64)?;
        let offset_delta = self.i32("offset delta")?;
        let key = self.optional("key")?;
        let value = self.optional("value")?;
        let headers = self.headers()?;
        Ok(RecordParts {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
        })
    }

    /// Walks all headers, which must end where the record does.
    fn headers(&mut self) -> Result<RecordHeaders, RecordProblem> {
        let count = self.i32("header count")?;
        let left = u32::try_from(count).map_err(|_| RecordProblem::HeaderCount(count))?;
        let from = self.at;
        for _ in 0..left {
            self.header()?;
        }
        let trailing = self.left().len();
        if trailing > 0 {
            return Err(RecordProblem::Trailing(trailing));
        }
        Ok(RecordHeaders {
            bytes: self.bytes.slice(from..),
            left,
        })
    }
}
