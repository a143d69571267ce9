//! What the index, and an evacuated segment itself, knows of a segment's content.
//!
//! ```text
//! version 1    state, first and last commit, bytes, newest timestamp, first and last era,
//!              [((log, partition), base, next, bytes)]; a segment as it was written
//! version 2    the same, then last segment id, generation, number of commits; an evacuated one
//! ```
//!
//! A folder in which nothing was evacuated holds version 1 only, as earlier versions wrote it.

use serde::{Deserialize, Serialize};

use crate::commit::{BatchInCommit, Commit};
use crate::encoding::{EncodingError, Stored};
use crate::ids::{CommitNumber, EraId, LogPartition, Offset, SegmentId};
use crate::segment_name::SegmentName;

/// Version byte of the record of an evacuated segment.
const EVACUATED_VERSION: u8 = 2;

/// What the index knows of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentRecord {
    pub(crate) state: SegmentState,
    /// Its commits; both 0 while it is not sealed.
    pub(crate) first_commit: CommitNumber,
    pub(crate) last_commit: CommitNumber,
    /// Bytes of its commits.
    pub(crate) bytes: u64,
    /// The newest time in it, by the provisional clock of `last_era`.
    pub(crate) max_timestamp_ms: i64,
    pub(crate) first_era: EraId,
    pub(crate) last_era: EraId,
    /// The partitions with records in it, ascending.
    pub(crate) partitions: Vec<SegmentPartition>,
    /// What is different if it was not written commit by commit. Stored behind the rest.
    #[serde(skip)]
    pub(crate) evacuated: Option<Evacuated>,
}

/// What is known of a segment that was made of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evacuated {
    /// The last segment that it stands for; the first one is the key of the record.
    pub(crate) last: SegmentId,
    /// See [`SegmentName`].
    pub(crate) generation: u32,
    /// Its commits, which are not dense.
    pub(crate) commits: u64,
}

impl Stored for SegmentRecord {
    const VERSION: u8 = 1;

    #[expect(
        clippy::expect_used,
        reason = "a growing vector takes all, and our types have no serializer that fails"
    )]
    fn to_stored(&self) -> Vec<u8> {
        let (version, text) = (self.version(), "encoding into memory does not fail");
        let stored = postcard::to_extend(self, vec![version]).expect(text);
        match &self.evacuated {
            Some(evacuated) => postcard::to_extend(evacuated, stored).expect(text),
            None => stored,
        }
    }

    fn from_stored(bytes: &[u8]) -> Result<Self, EncodingError> {
        let (version, content) = bytes.split_first().unwrap_or((&0, &[]));
        if ![Self::VERSION, EVACUATED_VERSION].contains(version) {
            return Err(EncodingError::Version {
                found: *version,
                known: EVACUATED_VERSION,
            });
        }
        let (mut record, rest) =
            postcard::take_from_bytes::<Self>(content).map_err(EncodingError::Content)?;
        if *version == EVACUATED_VERSION {
            record.evacuated = Some(postcard::from_bytes(rest).map_err(EncodingError::Content)?);
        }
        Ok(record)
    }
}

/// Life of a segment. The order is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SegmentState {
    /// It exists; what is in it must be read from it.
    Created,
    /// Nothing more is written into it; the record says what is in it.
    Sealed,
    /// Its directory is being removed.
    Deleting,
}

/// A partition's part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentPartition {
    pub(crate) partition: LogPartition,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) bytes: u64,
}

impl SegmentRecord {
    /// A segment without a commit.
    pub(crate) fn created() -> Self {
        Self {
            state: SegmentState::Created,
            first_commit: CommitNumber(0),
            last_commit: CommitNumber(0),
            bytes: 0,
            max_timestamp_ms: i64::MIN,
            first_era: EraId(0),
            last_era: EraId(0),
            partitions: Vec::new(),
            evacuated: None,
        }
    }

    /// The record of a segment of the same kind that commits are still to be added to.
    pub(crate) fn without_commits(&self) -> Self {
        Self {
            evacuated: self.evacuated.map(|evacuated| Evacuated {
                commits: 0,
                ..evacuated
            }),
            ..Self::created()
        }
    }

    fn version(&self) -> u8 {
        match self.evacuated {
            Some(_) => EVACUATED_VERSION,
            None => Self::VERSION,
        }
    }

    /// The name of its directory, if the index has it under `id`.
    pub(crate) fn name(&self, id: SegmentId) -> SegmentName {
        match self.evacuated {
            Some(evacuated) => SegmentName {
                first: id,
                last: evacuated.last,
                generation: evacuated.generation,
            },
            None => SegmentName::written(id),
        }
    }

    /// Bytes of the records that are not behind the starts of their partitions. Where a start lies
    /// inside, records are taken to be of one size.
    pub(crate) fn live_bytes(&self, start: impl Fn(LogPartition) -> Offset) -> u64 {
        let parts = self.partitions.iter();
        parts
            .map(|part| part.live_bytes(start(part.partition)))
            .sum()
    }

    /// Whether it has no commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.last_commit == CommitNumber(0)
    }

    /// Takes a commit in that was written behind all others.
    pub(crate) fn add(&mut self, commit: &Commit) {
        if self.is_empty() {
            self.first_commit = commit.number();
            self.first_era = commit.era();
        }
        if self.last_era != commit.era() {
            // The time is by the clock of the last era alone.
            self.max_timestamp_ms = i64::MIN;
        }
        if let Some(evacuated) = &mut self.evacuated {
            evacuated.commits += 1;
        }
        self.last_commit = commit.number();
        self.last_era = commit.era();
        self.bytes += commit.size_bytes() as u64;
        for batch in commit.batches() {
            self.max_timestamp_ms = self.max_timestamp_ms.max(batch.max_timestamp_ms);
            let BatchInCommit {
                partition,
                base_offset,
                next_offset,
                bytes,
                ..
            } = batch;
            match self
                .partitions
                .binary_search_by_key(&partition, |part| part.partition)
            {
                Ok(at) => {
                    if let Some(part) = self.partitions.get_mut(at) {
                        part.next_offset = next_offset;
                        part.bytes += bytes;
                    }
                }
                Err(at) => {
                    let part = SegmentPartition {
                        partition,
                        base_offset,
                        next_offset,
                        bytes,
                    };
                    self.partitions.insert(at, part);
                }
            }
        }
    }

    /// The part of `partition`, if it has one.
    pub(crate) fn part(&self, partition: LogPartition) -> Option<&SegmentPartition> {
        let at = self
            .partitions
            .binary_search_by_key(&partition, |part| part.partition)
            .ok()?;
        self.partitions.get(at)
    }
}

impl SegmentPartition {
    /// Bytes of what is at or behind `start`, the records taken to be of one size.
    pub(crate) fn live_bytes(&self, start: Offset) -> u64 {
        let (all, live) = (
            self.next_offset.since(self.base_offset),
            self.next_offset.since(self.base_offset.max(start)),
        );
        if live >= all {
            return self.bytes;
        }
        let bytes = u128::from(self.bytes) * u128::from(live) / u128::from(all.max(1));
        u64::try_from(bytes).unwrap_or(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use record_batch::{BatchBuilder, RecordFields};

    use super::*;
    use crate::commit::BodyBuilder;
    use crate::ids::{LogId, PartitionId};

    fn record() -> SegmentRecord {
        SegmentRecord {
            state: SegmentState::Sealed,
            first_commit: CommitNumber(1),
            last_commit: CommitNumber(9),
            bytes: 300,
            max_timestamp_ms: 5,
            first_era: EraId(1),
            last_era: EraId(2),
            partitions: vec![SegmentPartition {
                partition: LogPartition {
                    log: LogId(1),
                    partition: PartitionId(3),
                },
                base_offset: Offset(10),
                next_offset: Offset(20),
                bytes: 77,
            }],
            evacuated: None,
        }
    }

    /// What tidegate 0.1.0 wrote, byte for byte.
    const VERSION_1: [u8; 15] = [1, 1, 1, 9, 172, 2, 10, 1, 2, 1, 1, 3, 10, 20, 77];

    #[test]
    fn record_of_version_1_is_read_and_written_unchanged() {
        assert_eq!(SegmentRecord::from_stored(&VERSION_1).unwrap(), record());
        assert_eq!(record().to_stored(), VERSION_1);
    }

    #[test]
    fn record_of_an_evacuated_segment_comes_back() {
        let evacuated = SegmentRecord {
            evacuated: Some(Evacuated {
                last: SegmentId(8),
                generation: 2,
                commits: 4,
            }),
            ..record()
        };
        let stored = evacuated.to_stored();
        assert_eq!(stored, [&[2], &VERSION_1[1..], &[8, 2, 4]].concat());
        assert_eq!(SegmentRecord::from_stored(&stored).unwrap(), evacuated);
        assert!(SegmentRecord::from_stored(&stored[..15]).is_err());
        let later = SegmentRecord::from_stored(&[3, 1]).unwrap_err();
        assert_eq!(later.to_string(), "version 3 where this version reads 2");
    }

    fn commit(number: u64, era: u32, timestamp_ms: i64) -> Commit {
        let mut body = BodyBuilder::new(EraId(era));
        let mut batch = BatchBuilder::new(i64::try_from(number).unwrap());
        let fields = RecordFields {
            timestamp_ms,
            value: Some(b"v"),
            ..Default::default()
        };
        batch.append(&fields).unwrap();
        body.entry(record().partitions[0].partition, |out| {
            batch.finish_into(out);
        });
        Commit::parse(CommitNumber(number), body.finish()).unwrap()
    }

    /// A clock that was wrong by years must not make the records of the next boot young.
    #[test]
    fn newest_time_is_by_the_clock_of_the_last_era_alone() {
        let mut record = SegmentRecord::created();
        for (number, era, timestamp_ms, newest) in [
            (1, 1, 9000, 9000),
            (2, 1, 8000, 9000),
            (3, 2, 100, 100),
            (4, 2, 300, 300),
            (5, 2, 200, 300),
        ] {
            record.add(&commit(number, era, timestamp_ms));
            assert_eq!(record.max_timestamp_ms, newest, "commit {number}");
        }
        assert_eq!((record.first_era, record.last_era), (EraId(1), EraId(2)));
    }

    #[test]
    fn part_behind_the_start_does_not_count_as_live() {
        let record = record();
        for (start, live) in [(0, 77), (10, 77), (15, 38), (20, 0), (30, 0)] {
            assert_eq!(record.live_bytes(|_| Offset(start)), live, "from {start}");
        }
    }
}
