//! The gap ledger: what was published and will never reach the cluster, written down.
//!
//! published = replicated + waiting + what stands here. An entry is made before or when the records
//! go, never silently afterwards; entries that continue each other are one.

use serde::{Deserialize, Serialize};

use crate::encoding::Stored;
use crate::ids::{LogPartition, Offset};

/// Records that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Of which partition.
    pub partition: LogPartition,
    /// For which route they are missing; `None`: for every reader.
    pub route: Option<String>,
    /// First offset that is gone.
    pub from: Offset,
    /// First offset after it that is there again, or may be.
    pub to: Offset,
    /// How many records that is: exact, or the most that it can be.
    pub records: u64,
    /// Whether `records` is only an upper bound ("at most n").
    pub at_most: bool,
    /// Bytes of the records, if that is known.
    pub bytes: Option<u64>,
    /// Why.
    pub reason: GapReason,
    /// When it was noted, in milliseconds since 1970 as far as known then.
    pub noted_ms: i64,
}

impl Stored for Gap {
    const VERSION: u8 = 1;
}

/// Why records are gone. The order is stored: new reasons go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GapReason {
    /// Retention removed them before they were replicated.
    Retention,
    /// They were in a segment that could not be opened.
    Quarantine,
    /// They followed damage at the end of the log.
    LostEnd,
    /// The cluster refused the record itself for good.
    Refused,
    /// The cluster lost them after it had acknowledged them.
    UpstreamLost,
    /// An operator discarded them.
    Discarded,
}

impl GapReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Retention,
        Self::Quarantine,
        Self::LostEnd,
        Self::Refused,
        Self::UpstreamLost,
        Self::Discarded,
    ];

    /// The word in metrics and outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Quarantine => "quarantine",
            Self::LostEnd => "lost_end",
            Self::Refused => "refused",
            Self::UpstreamLost => "upstream_lost",
            Self::Discarded => "discarded",
        }
    }
}

impl Gap {
    /// This gap with `later` added, if the two are one: same readers, same reason, no record between.
    pub(crate) fn extended_by(&self, later: &Self) -> Option<Self> {
        let continues = self.partition == later.partition
            && self.route == later.route
            && self.reason == later.reason
            && self.to == later.from;
        continues.then(|| Self {
            to: later.to,
            records: self.records.saturating_add(later.records),
            at_most: self.at_most || later.at_most,
            bytes: self
                .bytes
                .zip(later.bytes)
                .map(|(a, b)| a.saturating_add(b)),
            noted_ms: later.noted_ms,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LogId, PartitionId};

    fn gap(from: u64, to: u64, reason: GapReason) -> Gap {
        Gap {
            partition: LogPartition {
                log: LogId(1),
                partition: PartitionId(0),
            },
            route: Some("r".to_owned()),
            from: Offset(from),
            to: Offset(to),
            records: to - from,
            at_most: false,
            bytes: Some(10),
            reason,
            noted_ms: 5,
        }
    }

    #[test]
    fn gaps_that_continue_each_other_are_one() {
        let one = gap(10, 20, GapReason::Retention);
        let both = one.extended_by(&gap(20, 25, GapReason::Retention)).unwrap();
        assert_eq!(
            (both.from, both.to, both.records, both.bytes),
            (Offset(10), Offset(25), 15, Some(20))
        );
        assert_eq!(one.extended_by(&gap(21, 25, GapReason::Retention)), None);
        assert_eq!(one.extended_by(&gap(20, 25, GapReason::Quarantine)), None);
    }

    #[test]
    fn gap_comes_back() {
        let gap = gap(1, 2, GapReason::Discarded);
        assert_eq!(Gap::from_stored(&gap.to_stored()).unwrap(), gap);
    }
}
