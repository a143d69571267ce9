//! The stored form of a group commit: one value (or a few pieces of it) with the batches of all
//! partitions and the journal entries that became durable together.
//!
//! ```text
//! key of a piece    commit number u64 | piece u16                             (big endian)
//! value of a piece  format u8 | flags u8 | checksum u32 | part of the body
//!                   flags: bit 0 = last piece of its commit
//!                   checksum: CRC-32C over key, format, flags and part
//! body              era u32 | entries
//! entry             log u16 | partition u16 | length u32 | content
//!                   log 0: journal operations (postcard), first of all
//!                   other: a Kafka RecordBatch v2; entries ascend by (log, partition)
//! ```
//!
//! Invariant: a commit is read whole and checked, or not at all.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use record_batch::{Batch, BatchError, BatchHeader};

use crate::ids::{CommitNumber, EraId, LogId, LogPartition, Offset, PartitionId};

/// Version of everything in this module; a reader refuses what is newer.
pub(crate) const FORMAT: u8 = 1;

/// Most bytes of a stored value. Together with the rule for full chunks it keeps every page of sled
/// below the size at which it would become a separate, unsynced file (docs/decisions/0003).
const PIECE_BYTES_MAX: usize = 64 * 1024;
const PIECE_HEADER_BYTES: usize = 6;
const PART_BYTES_MAX: usize = PIECE_BYTES_MAX - PIECE_HEADER_BYTES;
const BODY_HEADER_BYTES: usize = 4;
/// Bytes of an entry before its content.
pub(crate) const ENTRY_HEADER_BYTES: usize = 8;
const FLAG_LAST: u8 = 1;

/// Key of a piece in its tree, and name of the tree that begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PieceKey {
    pub(crate) commit: CommitNumber,
    pub(crate) piece: u16,
}

impl PieceKey {
    pub(crate) const BYTES: usize = 10;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut rest = bytes.as_mut_slice();
        rest.put_u64(self.commit.0);
        rest.put_u16(self.piece);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (commit, piece) = bytes.split_first_chunk::<8>()?;
        let piece = <[u8; 2]>::try_from(piece).ok()?;
        Some(Self {
            commit: CommitNumber(u64::from_be_bytes(*commit)),
            piece: u16::from_be_bytes(piece),
        })
    }
}

/// Stored commit that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The value does not carry the checksum of its content.
    #[error(
        "piece {piece} of commit {commit} is damaged: checksum {stored:08x}, content has {computed:08x}"
    )]
    Checksum {
        /// The commit.
        commit: CommitNumber,
        /// Which piece of it.
        piece: u16,
        /// Checksum in the value.
        stored: u32,
        /// Checksum of what is there.
        computed: u32,
    },
    /// Written by a later version.
    #[error("commit {commit} has format {found}; this version reads up to {FORMAT}")]
    Format {
        /// The commit.
        commit: CommitNumber,
        /// Its format.
        found: u8,
    },
    /// A piece is missing, or the key or the body is no such thing.
    #[error("commit {commit} is not whole: {what}")]
    Incomplete {
        /// The commit.
        commit: CommitNumber,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A batch inside is not a batch.
    #[error("commit {commit} holds a damaged batch of partition {partition}")]
    Batch {
        /// The commit.
        commit: CommitNumber,
        /// Whose batch.
        partition: LogPartition,
        /// Why it cannot be read.
        source: BatchError,
    },
}

/// Collects the entries of a commit, in ascending order, and cuts the body into pieces.
#[derive(Debug)]
pub(crate) struct BodyBuilder {
    body: Vec<u8>,
}

impl BodyBuilder {
    #[cfg(test)]
    pub(crate) fn new(era: EraId) -> Self {
        Self::with_capacity(era, 1024)
    }

    /// For a body of about so many bytes.
    pub(crate) fn with_capacity(era: EraId, bytes: usize) -> Self {
        let mut body = Vec::with_capacity(bytes);
        body.put_u32(era.0);
        Self { body }
    }

    /// Adds an entry whose content `write` appends.
    pub(crate) fn entry(&mut self, partition: LogPartition, write: impl FnOnce(&mut Vec<u8>)) {
        self.body.put_u16(partition.log.0);
        self.body.put_u16(partition.partition.0);
        let length_at = self.body.len();
        self.body.put_u32(0);
        write(&mut self.body);
        let length = u32::try_from(self.body.len() - length_at - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.body.get_mut(length_at..length_at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.body)
    }
}

/// Hands key and value of each piece of a commit with this body on to `put`. Each value is made in
/// `buffer`, so that one that is used again is still in the processor's cache.
pub(crate) fn for_each_piece<E>(
    commit: CommitNumber,
    body: &[u8],
    buffer: &mut Vec<u8>,
    mut put: impl FnMut(PieceKey, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let count = body.len().div_ceil(PART_BYTES_MAX).max(1);
    for index in 0..count {
        let start = index * PART_BYTES_MAX;
        let end = (start + PART_BYTES_MAX).min(body.len());
        let part = body.get(start..end).unwrap_or_default();
        let key = PieceKey {
            commit,
            piece: u16::try_from(index).unwrap_or(u16::MAX),
        };
        let flags = if index + 1 == count { FLAG_LAST } else { 0 };
        buffer.clear();
        buffer.put_u8(FORMAT);
        buffer.put_u8(flags);
        buffer.put_u32(checksum(key, flags, part));
        buffer.extend_from_slice(part);
        put(key, buffer)?;
    }
    Ok(())
}

/// All of them.
#[cfg(test)]
pub(crate) fn pieces(commit: CommitNumber, body: &[u8]) -> Vec<(PieceKey, Vec<u8>)> {
    let mut pieces = Vec::new();
    let collected = for_each_piece(commit, body, &mut Vec::new(), |key, value| {
        pieces.push((key, value.to_vec()));
        Ok::<_, std::convert::Infallible>(())
    });
    let Ok(()) = collected;
    pieces
}

fn checksum(key: PieceKey, flags: u8, part: &[u8]) -> u32 {
    let start = crc32c::crc32c(&key.to_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(start, &[FORMAT, flags]), part)
}

/// Puts pieces, which come in order of their keys, together to commits.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    begun: Option<(CommitNumber, u16, Vec<u8>)>,
}

impl Assembler {
    /// Takes the next piece; gives the commit that it completes.
    pub(crate) fn push(
        &mut self,
        key: PieceKey,
        value: &[u8],
    ) -> Result<Option<Commit>, CommitError> {
        let (last, part) = checked_part(key, value)?;
        let commit = key.commit;
        let incomplete = |what| Err(CommitError::Incomplete { commit, what });
        let body = match self.begun.take() {
            None if key.piece == 0 && last => Bytes::copy_from_slice(part),
            None if key.piece == 0 => {
                self.begun = Some((commit, 1, part.to_vec()));
                return Ok(None);
            }
            None => return incomplete("its first piece is missing"),
            Some((begun, next, _)) if begun != commit || next != key.piece => {
                return incomplete("a piece before this one is missing");
            }
            Some((_, next, mut body)) => {
                body.extend_from_slice(part);
                if !last {
                    self.begun = Some((commit, next + 1, body));
                    return Ok(None);
                }
                Bytes::from(body)
            }
        };
        Commit::parse(commit, body).map(Some)
    }

    /// The commit of which only the beginning came, if any.
    pub(crate) fn unfinished(&self) -> Option<CommitNumber> {
        self.begun.as_ref().map(|(commit, ..)| *commit)
    }
}

/// Whether `value` is a piece of this key as it was written; if so, whether it is the last one of its
/// commit.
pub(crate) fn is_intact(key: PieceKey, value: &[u8]) -> Option<bool> {
    checked_part(key, value).ok().map(|(is_last, _)| is_last)
}

fn checked_part(key: PieceKey, value: &[u8]) -> Result<(bool, &[u8]), CommitError> {
    let commit = key.commit;
    let Some(([format, flags, crc @ ..], part)) = value.split_first_chunk::<PIECE_HEADER_BYTES>()
    else {
        return Err(CommitError::Incomplete {
            commit,
            what: "a value is too short",
        });
    };
    if *format != FORMAT {
        return Err(CommitError::Format {
            commit,
            found: *format,
        });
    }
    let stored = u32::from_be_bytes(*crc);
    let computed = checksum(key, *flags, part);
    if stored != computed {
        return Err(CommitError::Checksum {
            commit,
            piece: key.piece,
            stored,
            computed,
        });
    }
    Ok((flags & FLAG_LAST != 0, part))
}

/// A commit that was read back, or that has just become durable. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Commit {
    number: CommitNumber,
    era: EraId,
    body: Bytes,
    entries: Arc<[Entry]>,
}

/// A batch in a commit.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    partition: LogPartition,
    content: Range<usize>,
    base_offset: Offset,
    next_offset: Offset,
    max_timestamp_ms: i64,
}

impl Commit {
    /// Reads the entries of `body`; the batches' own checksums are left to [`Commit::batch`].
    pub(crate) fn parse(number: CommitNumber, body: Bytes) -> Result<Self, CommitError> {
        let incomplete = |what| CommitError::Incomplete {
            commit: number,
            what,
        };
        let era = body.first_chunk::<BODY_HEADER_BYTES>();
        let era = EraId(u32::from_be_bytes(
            *era.ok_or_else(|| incomplete("its body is too short"))?,
        ));
        let mut entries = Vec::new();
        let mut at = BODY_HEADER_BYTES;
        while at < body.len() {
            let header = body
                .get(at..)
                .and_then(|rest| rest.first_chunk::<ENTRY_HEADER_BYTES>());
            let [l0, l1, p0, p1, length @ ..] =
                header.ok_or_else(|| incomplete("an entry is too short"))?;
            let start = at + ENTRY_HEADER_BYTES;
            let end = start.saturating_add(u32::from_be_bytes(*length) as usize);
            let content = body
                .get(start..end)
                .ok_or_else(|| incomplete("an entry is cut off"))?;
            let partition = LogPartition {
                log: LogId(u16::from_be_bytes([*l0, *l1])),
                partition: PartitionId(u16::from_be_bytes([*p0, *p1])),
            };
            entries.push(Entry::parse(number, partition, start..end, content)?);
            at = end;
        }
        Ok(Self {
            number,
            era,
            body,
            entries: entries.into(),
        })
    }

    /// Its number.
    pub fn number(&self) -> CommitNumber {
        self.number
    }

    /// The era whose clock its timestamps are of.
    pub fn era(&self) -> EraId {
        self.era
    }

    /// The entries as they are stored, before they are cut into pieces.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes of its body.
    pub fn size_bytes(&self) -> usize {
        self.body.len()
    }

    /// The batches in it, ascending by partition, at most one for each.
    pub fn batches(&self) -> impl Iterator<Item = BatchInCommit> + '_ {
        self.entries
            .iter()
            .filter(|entry| entry.partition.log != LogId::JOURNAL)
            .map(|entry| BatchInCommit {
                partition: entry.partition,
                base_offset: entry.base_offset,
                next_offset: entry.next_offset,
                max_timestamp_ms: entry.max_timestamp_ms,
                bytes: (entry.content.len() + ENTRY_HEADER_BYTES) as u64,
            })
    }

    /// Where the batch of `partition` stands, if there is one.
    pub fn batch_of(&self, partition: LogPartition) -> Option<BatchInCommit> {
        self.batches().find(|batch| batch.partition == partition)
    }

    /// The batch of `partition`, checked.
    ///
    /// # Errors
    /// [`CommitError::Batch`] if it is damaged.
    pub fn batch(&self, partition: LogPartition) -> Result<Option<Batch>, CommitError> {
        let Some(content) = self.content(partition) else {
            return Ok(None);
        };
        let read = Batch::parse(content);
        let wrong = |source| CommitError::Batch {
            commit: self.number,
            partition,
            source,
        };
        Ok(Some(read.map_err(wrong)?.0))
    }

    /// This commit with only the batches that `keep` names, as they are, and without its journal;
    /// `None` if nothing is left.
    ///
    /// # Errors
    /// None for a commit that was read, since its entries were read before.
    pub(crate) fn keeping(
        &self,
        keep: impl Fn(&BatchInCommit) -> bool,
    ) -> Result<Option<Self>, CommitError> {
        let kept = || self.batches().filter(&keep);
        let bytes: u64 = kept().map(|batch| batch.bytes).sum();
        let bytes = usize::try_from(bytes).unwrap_or_default() + BODY_HEADER_BYTES;
        let mut body = BodyBuilder::with_capacity(self.era, bytes);
        let mut is_empty = true;
        for batch in kept() {
            if let Some(content) = self.content(batch.partition) {
                body.entry(batch.partition, |out| out.extend_from_slice(&content));
                is_empty = false;
            }
        }
        if is_empty {
            return Ok(None);
        }
        Self::parse(self.number, body.finish()).map(Some)
    }

    /// Journal operations, encoded.
    pub(crate) fn journal(&self) -> Option<Bytes> {
        self.content(LogPartition {
            log: LogId::JOURNAL,
            partition: PartitionId(0),
        })
    }

    fn content(&self, partition: LogPartition) -> Option<Bytes> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.partition == partition)?;
        Some(self.body.slice(entry.content.clone()))
    }
}

impl Entry {
    fn parse(
        commit: CommitNumber,
        partition: LogPartition,
        range: Range<usize>,
        content: &[u8],
    ) -> Result<Self, CommitError> {
        if partition.log == LogId::JOURNAL {
            let (base_offset, next_offset) = Default::default();
            let max_timestamp_ms = i64::MIN;
            return Ok(Self {
                partition,
                content: range,
                base_offset,
                next_offset,
                max_timestamp_ms,
            });
        }
        let header = BatchHeader::parse(content);
        let header = header.map_err(|source| CommitError::Batch {
            commit,
            partition,
            source,
        })?;
        let offset = |value: i64| {
            let what = "a batch has a negative offset";
            Offset::from_i64(value).ok_or(CommitError::Incomplete { commit, what })
        };
        Ok(Self {
            partition,
            content: range,
            base_offset: offset(header.base_offset)?,
            next_offset: offset(header.next_offset())?,
            max_timestamp_ms: header.max_timestamp_ms,
        })
    }
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchInCommit {
    /// Whose it is.
    pub partition: LogPartition,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// Newest time in it, by its era's provisional clock.
    pub max_timestamp_ms: i64,
    /// Bytes that it takes in the commit.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use record_batch::{BatchBuilder, RecordFields};

    pub(crate) fn partition(log: u16, partition: u16) -> LogPartition {
        LogPartition {
            log: LogId(log),
            partition: PartitionId(partition),
        }
    }

    fn body(batches: &[(LogPartition, i64, usize)], journal: &[u8]) -> Bytes {
        let mut builder = BodyBuilder::new(EraId(3));
        if !journal.is_empty() {
            builder.entry(partition(0, 0), |out| out.extend_from_slice(journal));
        }
        for (partition, base, size) in batches {
            let mut batch = BatchBuilder::new(*base);
            let value = vec![7; *size];
            batch
                .append(&RecordFields {
                    value: Some(&value),
                    ..Default::default()
                })
                .unwrap();
            builder.entry(*partition, |out| batch.finish_into(out));
        }
        builder.finish()
    }

    fn stored(number: u64, body: &Bytes) -> Vec<(PieceKey, Vec<u8>)> {
        pieces(CommitNumber(number), body)
    }

    fn assemble(pieces: &[(PieceKey, Vec<u8>)]) -> Result<Vec<Commit>, CommitError> {
        let mut assembler = Assembler::default();
        let mut commits = Vec::new();
        for (key, value) in pieces {
            commits.extend(assembler.push(*key, value)?);
        }
        Ok(commits)
    }

    #[test]
    fn commit_of_any_size_comes_back() {
        for size in [0, 1, 60_000, 65_400, 65_530, 200_000] {
            let body = body(
                &[(partition(1, 0), 5, size), (partition(2, 7), 9, 10)],
                b"journal",
            );
            let pieces = stored(4, &body);
            assert!(
                pieces
                    .iter()
                    .all(|(_, value)| value.len() <= PIECE_BYTES_MAX)
            );
            let [commit] = <[Commit; 1]>::try_from(assemble(&pieces).unwrap()).unwrap();
            assert_eq!((commit.number(), commit.era()), (CommitNumber(4), EraId(3)));
            assert_eq!(commit.journal().unwrap(), "journal");
            let found: Vec<_> = commit
                .batches()
                .map(|b| (b.partition, b.base_offset, b.next_offset))
                .collect();
            let expected = [
                (partition(1, 0), Offset(5), Offset(6)),
                (partition(2, 7), Offset(9), Offset(10)),
            ];
            assert_eq!(found, expected);
            let batch = commit.batch(partition(1, 0)).unwrap().unwrap();
            assert_eq!(
                batch
                    .records()
                    .next()
                    .unwrap()
                    .unwrap()
                    .value
                    .unwrap()
                    .len(),
                size
            );
            assert!(commit.batch(partition(1, 1)).unwrap().is_none());
        }
    }

    #[test]
    fn missing_piece_is_noticed() {
        let pieces = stored(4, &body(&[(partition(1, 0), 0, 200_000)], b""));
        assert_eq!(pieces.len(), 4);
        for missing in 0..3 {
            let mut pieces = pieces.clone();
            pieces.remove(missing);
            assert!(
                matches!(assemble(&pieces), Err(CommitError::Incomplete { .. })),
                "{missing}"
            );
        }
        let mut assembler = Assembler::default();
        for (key, value) in &pieces[..3] {
            assert!(assembler.push(*key, value).unwrap().is_none());
        }
        assert_eq!(assembler.unfinished(), Some(CommitNumber(4)));
    }

    #[test]
    fn value_under_another_key_is_noticed() {
        let (key, value) = stored(4, &body(&[(partition(1, 0), 0, 9)], b"")).remove(0);
        let other = PieceKey {
            commit: CommitNumber(5),
            ..key
        };
        assert!(matches!(
            assemble(&[(other, value)]),
            Err(CommitError::Checksum { .. })
        ));
    }

    #[test]
    fn later_format_is_named() {
        let (key, mut value) = stored(4, &body(&[], b"")).remove(0);
        value[0] = 9;
        let error = assemble(&[(key, value)]).unwrap_err().to_string();
        assert_eq!(error, "commit 4 has format 9; this version reads up to 1");
    }

    proptest! {
        #[test]
        fn flipped_bit_is_noticed(size in 0..300_usize, at in any::<prop::sample::Index>(), bit in 0..8) {
            let (key, mut value) = stored(4, &body(&[(partition(1, 0), 0, size)], b"j")).remove(0);
            let at = at.index(value.len());
            value[at] ^= 1_u8 << bit;
            prop_assert!(assemble(&[(key, value)]).is_err());
        }

        #[test]
        fn arbitrary_body_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(commit) = Commit::parse(CommitNumber(1), body.into()) {
                for partition in commit.batches().map(|b| b.partition).collect::<Vec<_>>() {
                    let _ = commit.batch(partition);
                }
            }
        }
    }
}
