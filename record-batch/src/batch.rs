//! A checked batch over a shared buffer, and its records.

use bytes::Bytes;

use crate::error::{BatchError, RecordProblem};
use crate::header::{BatchHeader, Compression, HEADER_BYTES, checksum};
use crate::record::{self, RECORD_BYTES_MIN, Record};

/// A batch whose header and checksum are right.
///
/// Invariant: `bytes` is exactly the batch, `header` is what its first 61 bytes say.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Reads the batch at the start of `bytes` as a producer must have built it: at least one
    /// record, and one for every offset of the span. Returns it and its size.
    ///
    /// # Errors
    /// As [`Self::parse_stored`]; also [`BatchError::Count`] for an empty batch or one with holes.
    pub fn parse(bytes: Bytes) -> Result<(Self, usize), BatchError> {
        let (batch, consumed) = Self::parse_stored(bytes)?;
        let header = &batch.header;
        if header.is_dense() {
            return Ok((batch, consumed));
        }
        Err(BatchError::Count {
            base_offset: header.base_offset,
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        })
    }

    /// Reads the batch at the start of `bytes` as a broker may return it: compaction can have taken
    /// records out. Returns it and its size.
    ///
    /// # Errors
    /// Input that ends inside the batch, a wrong checksum, and what [`BatchHeader::parse`] refuses.
    pub fn parse_stored(bytes: Bytes) -> Result<(Self, usize), BatchError> {
        let header = BatchHeader::read(&bytes)?;
        let needed_bytes = header.total_bytes();
        if bytes.len() < needed_bytes {
            return Err(BatchError::Truncated {
                available_bytes: bytes.len(),
                needed_bytes,
            });
        }
        let bytes = bytes.slice(..needed_bytes);
        // The header was read, so there is a checksummed part.
        let computed = checksum(&bytes).unwrap_or(!header.crc);
        if computed != header.crc {
            let BatchHeader {
                base_offset,
                crc: stored,
                ..
            } = header;
            return Err(BatchError::Crc {
                base_offset,
                stored,
                computed,
            });
        }
        header.check_span()?;
        // Every record takes some bytes: an absurd count is found before anyone trusts it.
        let records_max = (needed_bytes - HEADER_BYTES) / RECORD_BYTES_MIN;
        let compressed = header.compression() != Compression::None;
        if !compressed && usize::try_from(header.record_count).unwrap_or(usize::MAX) > records_max {
            return Err(BatchError::Count {
                base_offset: header.base_offset,
                record_count: header.record_count,
                last_offset_delta: header.last_offset_delta,
            });
        }
        Ok((Self { header, bytes }, needed_bytes))
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, in order. A compressed batch yields one error that names the codec.
    pub fn records(&self) -> Records {
        Records {
            batch: self.clone(),
            at: HEADER_BYTES,
            index: 0,
            lowest_delta: 0,
            ended: false,
        }
    }

    /// A copy with the same records under another header: placed at the offset where it is
    /// appended, given to another producer, shifted in time. Length and checksum are computed, the
    /// other fields are taken as they are.
    ///
    /// # Errors
    /// What [`BatchHeader::parse`] refuses.
    pub fn with_header(&self, header: &BatchHeader) -> Result<Self, BatchError> {
        let mut bytes = self.bytes.to_vec();
        let mut header = BatchHeader {
            batch_length: self.header.batch_length,
            ..header.clone()
        };
        let write = |header: &BatchHeader, bytes: &mut Vec<u8>| {
            if let Some(place) = bytes.first_chunk_mut::<HEADER_BYTES>() {
                *place = header.encode();
            }
        };
        write(&header, &mut bytes);
        header.crc = checksum(&bytes).unwrap_or(0);
        write(&header, &mut bytes);
        let header = BatchHeader::parse(&bytes)?;
        Ok(Self {
            header,
            bytes: Bytes::from(bytes),
        })
    }
}

/// The records of a batch. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    batch: Batch,
    /// Where the next record begins.
    at: usize,
    /// Records read so far.
    index: u32,
    /// Smallest offset delta that the next record may have.
    lowest_delta: i64,
    ended: bool,
}

impl Records {
    fn read(&mut self) -> Result<Option<Record>, BatchError> {
        let header = &self.batch.header;
        let base_offset = header.base_offset;
        let codec = header.compression();
        if codec != Compression::None {
            return Err(BatchError::Compressed { base_offset, codec });
        }
        let rest = self.batch.bytes.slice(self.at..);
        let to_come = i64::from(header.record_count) - i64::from(self.index);
        if to_come == 0 {
            if rest.is_empty() {
                return Ok(None);
            }
            return Err(BatchError::TrailingBytes {
                base_offset,
                trailing_bytes: rest.len(),
            });
        }
        let wrong = |problem, at_byte| BatchError::Record {
            base_offset,
            index: self.index,
            at_byte,
            problem,
        };
        let (parts, record_bytes) =
            record::read(&rest).map_err(|(problem, at)| wrong(problem, self.at + at))?;
        // In a dense batch this leaves exactly one possible delta.
        let highest = i64::from(header.last_offset_delta) + 1 - to_come;
        let delta = i64::from(parts.offset_delta);
        if !(self.lowest_delta..=highest).contains(&delta) {
            let (found, lowest) = (parts.offset_delta, self.lowest_delta);
            return Err(wrong(
                RecordProblem::OffsetDelta {
                    found,
                    lowest,
                    highest,
                },
                self.at,
            ));
        }
        let timestamp_ms = if header.is_log_append_time() {
            header.max_timestamp_ms
        } else {
            header.base_timestamp_ms.wrapping_add(parts.timestamp_delta)
        };
        self.at += record_bytes;
        self.index += 1;
        self.lowest_delta = delta + 1;
        Ok(Some(Record {
            offset: base_offset + delta,
            timestamp_ms,
            key: parts.key,
            value: parts.value,
            headers: parts.headers,
        }))
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read().transpose();
        self.ended = !matches!(read, Some(Ok(_)));
        read
    }
}

impl std::iter::FusedIterator for Records {}
