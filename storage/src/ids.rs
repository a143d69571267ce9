//! The numbers by which things are named, each a type of its own so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far offsets and commit numbers leap when the end of the log cannot be proven: more than the
/// records that a segment, of at most 256 MiB, can hold at eight bytes each.
pub const OFFSET_LEAP: u64 = 1 << 25;

/// Makes a newtype over an unsigned number that prints as that number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A log, within one data folder. Never given to another log, not even after its removal.
    LogId(u16)
}
number! {
    /// A partition of a log, from 0 on.
    PartitionId(u16)
}
number! {
    /// A group commit of the data folder, from 1 on; 0 stands for "before the first". Stored beside
    /// every batch; the canonical order of records is (commit, log, partition, offset).
    CommitNumber(u64)
}
number! {
    /// A stretch of time with one clock: one boot of the machine, or the part of it after the clock
    /// became known too late. See `crate::clock`.
    EraId(u32)
}
number! {
    /// A stretch of dense offsets. A new span starts where the end of the log could not be proven
    /// after damage, and with a new incarnation. Stored as the batches' partition leader epoch.
    SpanId(u32)
}
number! {
    /// A segment: one sled database below `log/`.
    SegmentId(u64)
}
number! {
    /// Position of a record in its partition (Kafka's offset): dense within a span, never reused.
    Offset(u64)
}

impl LogId {
    /// The id under which journal entries stand in a commit; no log has it.
    pub(crate) const JOURNAL: Self = Self(0);
}

impl CommitNumber {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Offset {
    /// This offset, `records` further on.
    #[must_use]
    pub fn advanced(self, records: u64) -> Self {
        Self(self.0 + records)
    }

    /// Records from `earlier` up to this offset; 0 if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As Kafka writes it.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// From a batch header.
    ///
    /// # Errors
    /// `None` for a negative number, which no stored batch has.
    pub fn from_i64(offset: i64) -> Option<Self> {
        u64::try_from(offset).ok().map(Self)
    }
}

/// A partition of a certain log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPartition {
    /// The log.
    pub log: LogId,
    /// The partition in it.
    pub partition: PartitionId,
}

impl fmt::Display for LogPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.log, self.partition)
    }
}

/// What tells this data folder from every other, copies included: 64 random bits.
///
/// With it and the gateway's name every replicated record is named for good (`tg-id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::store::SEGMENT_BYTES_MAX;
    use record_batch::BatchBuilder;

    /// Else offsets that were in a lost segment would be given out again.
    #[test]
    fn leap_is_longer_than_the_largest_segment_of_the_smallest_records() {
        let bytes = Message::default()
            .with_record_fields(b"", 0, |fields| BatchBuilder::new(0).record_bytes(fields));
        let records = SEGMENT_BYTES_MAX / u64::try_from(bytes).unwrap();
        assert!(
            records < OFFSET_LEAP,
            "{records} records of {bytes} bytes fit, the leap is {OFFSET_LEAP}"
        );
    }
}
