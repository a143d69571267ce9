//! The metadata database: what changes rarely and may be large. Segment index, retained messages,
//! the home of cold journal entries, which is `crate::cold`, and which topics are where.
//!
//! Not for: anything that must agree with the log to the record, see `crate::journal`.
//!
//! ```text
//! tree      key                               value (cut into pieces of at most 6 KiB)
//! segments  segment id u64      | piece u16   SegmentRecord, see `crate::segment_record`; an
//!                                             evacuated one under the first id that it stands for
//! retained  topic | 0x00        | piece u16   version u8 | commit u64 | era u32 | RecordBatch v2 of
//!                                             one record
//! topics    number u32      | piece u16       name; number 0: the number u32 that the next name gets
//! segment_topics, run_topics
//!           segment id u64  | piece u16       its topics, see `crate::topics`
//! piece     CRC-32C of the whole value u32 | part of the value
//! ```
//!
//! Pieces, because sled writes a page that grows too large into a file of its own, which it never
//! syncs: 16 values of 6 KiB stay below that size. The checksum, because a power cut may leave some
//! pieces of a value old and some new; the log still has what such a value was to say, so a reader
//! passes it over.

mod topics;

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::cold::ColdHome;
use crate::encoding::{EncodingError, Stored as _};
use crate::fence::{self, FenceError};
use crate::ids::{CommitNumber, EraId, SegmentId};
pub(crate) use crate::segment_record::{SegmentPartition, SegmentRecord, SegmentState};

const PIECE_BYTES_MAX: usize = 6 * 1024;
const RETAINED_VERSION: u8 = 1;
const RETAINED_HEADER_BYTES: usize = 13;

/// A retained message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetainedRecord {
    pub(crate) commit: CommitNumber,
    pub(crate) era: EraId,
    /// A batch of the one record.
    pub(crate) batch: Bytes,
}

/// The metadata cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// sled failed.
    #[error("metadata database")]
    Database(#[from] sled::Error),
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Metadata {
    database: sled::Db,
    segments: sled::Tree,
    retained: sled::Tree,
    /// The home of cold journal entries.
    pub(crate) cold: ColdHome,
    topics: topics::TopicTrees,
}

impl Metadata {
    pub(crate) fn new(database: sled::Db) -> Result<Self, MetadataError> {
        let segments = database.open_tree("segments")?;
        let retained = database.open_tree("retained")?;
        let cold = ColdHome::open(&database)?;
        let topics = topics::TopicTrees::open(&database)?;
        Ok(Self {
            database,
            segments,
            retained,
            cold,
            topics,
        })
    }

    /// Whether flushes of this binary are durable.
    pub(crate) fn verify_fence(&self) -> Result<(), FenceError> {
        fence::verify(&self.database)
    }

    /// Makes all changes so far durable.
    pub(crate) fn flush(&self) -> Result<(), MetadataError> {
        self.database.flush()?;
        Ok(())
    }

    pub(crate) fn put_segment(
        &self,
        id: SegmentId,
        record: &SegmentRecord,
    ) -> Result<(), MetadataError> {
        put(&self.segments, &id.0.to_be_bytes(), &record.to_stored())
    }

    /// Removes a segment from the index, and what is known of its topics.
    pub(crate) fn remove_segment(&self, id: SegmentId) -> Result<(), MetadataError> {
        self.topics.remove_segment(&id.0.to_be_bytes())?;
        remove(&self.segments, &id.0.to_be_bytes())
    }

    /// Reads what is only read later, once: sled panics at pages that it cannot read.
    pub(crate) fn read_topics_through(&self) -> Result<(), MetadataError> {
        self.topics.read_through()
    }

    /// The segments of the index, ascending. One whose record cannot be read is left out: its
    /// directory says that it exists, and it is read like one that was never sealed.
    pub(crate) fn segments(&self) -> Result<Vec<(SegmentId, SegmentRecord)>, MetadataError> {
        let mut segments = Vec::new();
        for value in values(&self.segments) {
            let (key, value) = value?;
            let id = key.as_slice().try_into().map_or(0, u64::from_be_bytes);
            match value
                .ok_or(Unreadable::Torn)
                .and_then(|value| SegmentRecord::from_stored(&value).map_err(Unreadable::Encoding))
            {
                Ok(record) => segments.push((SegmentId(id), record)),
                Err(problem) => tracing::warn!(segment = id, %problem, "Index record passed over."),
            }
        }
        Ok(segments)
    }

    /// Sets or, with `None`, removes the retained message of `topic`.
    pub(crate) fn put_retained(
        &self,
        topic: &[u8],
        record: Option<&RetainedRecord>,
    ) -> Result<(), MetadataError> {
        let key = [topic, &[0]].concat();
        match record {
            Some(record) => put(&self.retained, &key, &record.encode()),
            None => remove(&self.retained, &key),
        }
    }

    /// The retained messages with their topics, but for those that cannot be read.
    pub(crate) fn retained(
        &self,
    ) -> impl Iterator<Item = Result<(Bytes, RetainedRecord), MetadataError>> {
        values(&self.retained).filter_map(|value| {
            let (mut topic, value) = match value {
                Ok(value) => value,
                Err(error) => return Some(Err(error)),
            };
            topic.pop();
            match value
                .ok_or(Unreadable::Torn)
                .and_then(|value| RetainedRecord::decode(value).map_err(Unreadable::Encoding))
            {
                Ok(record) => Some(Ok((Bytes::from(topic), record))),
                Err(problem) => {
                    let topic = String::from_utf8_lossy(&topic);
                    tracing::warn!(%topic, %problem, "Retained message passed over.");
                    None
                }
            }
        })
    }
}

impl Metadata {
    /// Reads every retained message: how many there are, and what is wrong with the others.
    pub(crate) fn check(&self) -> Result<(u64, Vec<String>), MetadataError> {
        let (mut count, mut problems) = (0, Vec::new());
        for value in values(&self.retained) {
            let (mut topic, value) = value?;
            topic.pop();
            let record = value
                .ok_or(Unreadable::Torn)
                .and_then(|value| RetainedRecord::decode(value).map_err(Unreadable::Encoding));
            let problem = match record.map(|record| record.message()) {
                Err(problem) => problem.to_string(),
                Ok(Some(Err(problem))) => problem.to_string(),
                Ok(None) => "there is no message in it".to_owned(),
                Ok(Some(Ok(_))) => {
                    count += 1;
                    continue;
                }
            };
            let topic = topic.escape_ascii();
            problems.push(format!(
                "the retained message of `{topic}` cannot be read: {problem}"
            ));
        }
        Ok((count, problems))
    }
}

/// Why a single value is passed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("its pieces do not belong together")]
    Torn,
    #[error(transparent)]
    Encoding(EncodingError),
}

impl RetainedRecord {
    fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(RETAINED_HEADER_BYTES + self.batch.len());
        value.put_u8(RETAINED_VERSION);
        value.put_u64(self.commit.0);
        value.put_u32(self.era.0);
        value.extend_from_slice(&self.batch);
        value
    }

    fn decode(value: Vec<u8>) -> Result<Self, EncodingError> {
        let mut value = Bytes::from(value);
        let version = value.first().copied().unwrap_or(0);
        if version != RETAINED_VERSION || value.len() < RETAINED_HEADER_BYTES {
            return Err(EncodingError::Version {
                found: version,
                known: RETAINED_VERSION,
            });
        }
        value.advance(1);
        let (commit, era) = (CommitNumber(value.get_u64()), EraId(value.get_u32()));
        Ok(Self {
            commit,
            era,
            batch: value,
        })
    }
}

/// Writes `value` in pieces under `key`, in place of what was there.
pub(crate) fn put(tree: &sled::Tree, key: &[u8], value: &[u8]) -> Result<(), MetadataError> {
    let checksum = crc32c::crc32c(value).to_be_bytes();
    let mut count = 0;
    for part in value.chunks(PIECE_BYTES_MAX) {
        tree.insert(piece_key(key, count), [&checksum, part].concat())?;
        count += 1;
    }
    remove_pieces(tree, key, count)
}

/// Removes the value under `key`, if there is one.
pub(crate) fn remove(tree: &sled::Tree, key: &[u8]) -> Result<(), MetadataError> {
    remove_pieces(tree, key, 0)
}

/// Removes the pieces of a value from number `from` on, also those behind a missing one: a power cut
/// may have interrupted an earlier removal, and what it left would spoil the next value for good.
fn remove_pieces(tree: &sled::Tree, key: &[u8], from: usize) -> Result<(), MetadataError> {
    let (first, last) = (piece_key(key, from), piece_key(key, usize::MAX));
    for piece in tree.range(first.as_slice()..=last.as_slice()).keys() {
        let piece = piece?;
        // A longer topic may lie between.
        if piece.len() == first.len() {
            tree.remove(piece)?;
        }
    }
    Ok(())
}

/// The value under `key`, if there is anything of one. Nobody else may write it meanwhile.
pub(crate) fn get(
    tree: &sled::Tree,
    key: &[u8],
) -> Result<Option<Result<Vec<u8>, Unreadable>>, MetadataError> {
    let (first, last) = (piece_key(key, 0), piece_key(key, usize::MAX));
    let mut pieces = Vec::new();
    for piece in tree.range(first.as_slice()..=last.as_slice()) {
        let (found, piece) = piece?;
        if found.len() == first.len() {
            pieces.push(piece);
        }
    }
    let value = (!pieces.is_empty()).then(|| whole(&pieces).ok_or(Unreadable::Torn));
    Ok(value)
}

fn piece_key(key: &[u8], index: usize) -> Vec<u8> {
    [key, &u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes()].concat()
}

/// The keys of a tree with their values put together from the pieces; `None` where those do not
/// belong together.
pub(crate) fn values(
    tree: &sled::Tree,
) -> impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>), MetadataError>> + use<> {
    put_together(tree.iter())
}

/// The same of the entries of a tree, in their order.
pub(crate) fn put_together<B: AsRef<[u8]>>(
    entries: impl Iterator<Item = Result<(B, B), sled::Error>>,
) -> impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>), MetadataError>> {
    let mut pieces = entries.peekable();
    std::iter::from_fn(move || {
        let (first, piece) = match pieces.next()? {
            Ok(piece) => piece,
            Err(error) => return Some(Err(error.into())),
        };
        let first = first.as_ref();
        let key = first.split_last_chunk::<2>().map_or(first, |(key, _)| key);
        let mut parts = vec![piece];
        while let Some(Ok((_, piece))) = pieces.next_if(|next| {
            let next = next
                .as_ref()
                .ok()
                .and_then(|(next, _)| next.as_ref().split_last_chunk::<2>());
            next.is_some_and(|(next, _)| next == key)
        }) {
            parts.push(piece);
        }
        Some(Ok((key.to_vec(), whole(&parts))))
    })
}

/// The value whose pieces these are, if they are all of it and of no other.
fn whole(pieces: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    let mut checksum = None;
    for piece in pieces {
        let (crc, part) = piece.as_ref().split_first_chunk::<4>()?;
        if *checksum.get_or_insert(*crc) != *crc {
            return None;
        }
        value.extend_from_slice(part);
    }
    (checksum == Some(crc32c::crc32c(&value).to_be_bytes())).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Purpose, create};
    use crate::ids::{LogId, LogPartition, Offset, PartitionId};

    fn metadata() -> (tempfile::TempDir, Metadata) {
        let parent = tempfile::tempdir().unwrap();
        let database = create(&parent.path().join("meta"), Purpose::Metadata).unwrap();
        (parent, Metadata::new(database).unwrap())
    }

    fn record(partitions: u16) -> SegmentRecord {
        let partition = |number| SegmentPartition {
            partition: LogPartition {
                log: LogId(1),
                partition: PartitionId(number),
            },
            base_offset: Offset(1 << 40),
            next_offset: Offset(1 << 41),
            bytes: 77,
        };
        SegmentRecord {
            state: SegmentState::Sealed,
            first_commit: CommitNumber(1),
            last_commit: CommitNumber(9),
            bytes: 100,
            max_timestamp_ms: 5,
            first_era: EraId(1),
            last_era: EraId(2),
            partitions: (0..partitions).map(partition).collect(),
            evacuated: None,
        }
    }

    #[test]
    fn segments_come_back_in_order_whatever_their_size() {
        let (_parent, metadata) = metadata();
        for (id, partitions) in [(2, 5000), (1, 3), (3, 0)] {
            metadata
                .put_segment(SegmentId(id), &record(partitions))
                .unwrap();
        }
        let expected = vec![
            (SegmentId(1), record(3)),
            (SegmentId(2), record(5000)),
            (SegmentId(3), record(0)),
        ];
        assert_eq!(metadata.segments().unwrap(), expected);
        metadata.put_segment(SegmentId(2), &record(1)).unwrap();
        metadata.remove_segment(SegmentId(1)).unwrap();
        let expected = vec![(SegmentId(2), record(1)), (SegmentId(3), record(0))];
        assert_eq!(metadata.segments().unwrap(), expected);
        assert_eq!(
            metadata.segments.len(),
            2,
            "no piece of an older value is left"
        );
    }

    #[test]
    fn retained_messages_come_back_and_go() {
        let (_parent, metadata) = metadata();
        let record = |size| RetainedRecord {
            commit: CommitNumber(7),
            era: EraId(1),
            batch: vec![9; size].into(),
        };
        metadata
            .put_retained(b"a/b", Some(&record(100_000)))
            .unwrap();
        metadata.put_retained(b"a", Some(&record(10))).unwrap();
        metadata
            .put_retained(b"a/b", Some(&record(20_000)))
            .unwrap();
        let all: Vec<_> = metadata.retained().map(Result::unwrap).collect();
        let expected = [
            (Bytes::from("a"), record(10)),
            (Bytes::from("a/b"), record(20_000)),
        ];
        assert_eq!(all, expected);
        metadata.put_retained(b"a/b", None).unwrap();
        assert_eq!(metadata.retained().count(), 1);
        assert_eq!(metadata.retained.len(), 1);
    }

    /// Found by `cargo xtask power-cut`: the rest of the older value made the newer one unreadable.
    #[test]
    fn value_is_whole_after_the_removal_of_an_older_one_was_interrupted() {
        let (_parent, metadata) = metadata();
        let record = |size| RetainedRecord {
            commit: CommitNumber(7),
            era: EraId(1),
            batch: vec![9; size].into(),
        };
        for topic in [b"a".as_slice(), b"b"] {
            metadata.put_retained(topic, Some(&record(50_000))).unwrap();
            let second = piece_key(&[topic, &[0]].concat(), 1);
            assert!(metadata.retained.remove(second).unwrap().is_some());
        }
        metadata.put_retained(b"a", Some(&record(10))).unwrap();
        metadata.put_retained(b"b", None).unwrap();
        let all: Vec<_> = metadata.retained().map(Result::unwrap).collect();
        assert_eq!(all, [(Bytes::from("a"), record(10))]);
        assert_eq!(metadata.retained.len(), 1);
    }

    #[test]
    fn value_with_a_missing_or_an_older_piece_is_passed_over() {
        let (_parent, metadata) = metadata();
        metadata.put_segment(SegmentId(1), &record(5000)).unwrap();
        metadata.put_segment(SegmentId(2), &record(5000)).unwrap();
        metadata.put_segment(SegmentId(3), &record(5000)).unwrap();
        let piece = |segment: u64, number| piece_key(&segment.to_be_bytes(), number);
        metadata.segments.remove(piece(1, 1)).unwrap();
        let mut old = metadata
            .segments
            .get(piece(2, 1))
            .unwrap()
            .unwrap()
            .to_vec();
        old[100] ^= 1;
        metadata.segments.insert(piece(2, 1), old).unwrap();
        assert_eq!(metadata.segments().unwrap(), [(SegmentId(3), record(5000))]);
    }
}
