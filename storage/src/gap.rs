//! The gap ledger: what was published and will never reach the cluster, written down.
//!
//! published = replicated + waiting + what stands here. An entry is made before or when the records
//! go, never silently afterwards; entries that continue each other are one. A link that stays too
//! slow makes ever more of them: above [`GAPS_MAX`], the oldest of a route are put together. Their
//! records are still counted one by one, only where they were is told less exactly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::encoding::Stored;
use crate::ids::{LogPartition, Offset};

/// Entries above which those of a route are put together. They are in every segment's snapshot, so
/// this is some tens of KiB there.
pub(crate) const GAPS_MAX: usize = 512;

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
    /// How many records that is: exact, or the most that it can be. Fewer than `to - from` if this
    /// was put together of several gaps of a route.
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

/// What the ledger says of the first of the missing records `from..to`, and up to where it says the same.
/// Gaps of routes are none for readers.
pub(crate) fn noted<'a>(
    gaps: impl Iterator<Item = &'a Gap>,
    partition: LogPartition,
    from: Offset,
    to: Offset,
) -> (Option<GapReason>, Offset) {
    let mut next = to;
    for gap in gaps.filter(|gap| gap.route.is_none() && gap.partition == partition) {
        if gap.from <= from && from < gap.to {
            return (Some(gap.reason), to.min(gap.to));
        }
        if gap.from > from {
            next = next.min(gap.from);
        }
    }
    (None, next)
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
        continues.then(|| self.with(later))
    }

    /// This gap and `later` in one, with what lies between them in its range, but not in its counts.
    fn with(&self, later: &Self) -> Self {
        Self {
            to: later.to,
            records: self.records.saturating_add(later.records),
            at_most: self.at_most || later.at_most,
            bytes: self
                .bytes
                .zip(later.bytes)
                .map(|(a, b)| a.saturating_add(b)),
            noted_ms: later.noted_ms,
            ..self.clone()
        }
    }
}

/// The two oldest of `gaps` that may be put together, and what comes of them: the number of the one
/// that stays, that of the one that goes, and the gap. Only gaps of a route: a gap of every reader
/// tells readers which offsets are not there.
pub(crate) fn oldest_pair(gaps: &BTreeMap<u64, Gap>) -> Option<(u64, u64, Gap)> {
    let mut seen = BTreeMap::new();
    gaps.iter().find_map(|(number, gap)| {
        let route = gap.route.as_deref()?;
        let earlier = seen.insert((gap.partition, route, gap.reason), (*number, gap));
        let (stays, earlier) = earlier.filter(|(_, earlier)| earlier.to <= gap.from)?;
        Some((stays, *number, earlier.with(gap)))
    })
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
    fn loss_is_told_piece_by_piece_as_the_ledger_has_it() {
        let of_all = |from, to, reason| Gap {
            route: None,
            ..gap(from, to, reason)
        };
        let other = LogPartition {
            log: LogId(2),
            partition: PartitionId(0),
        };
        let ledger = [
            gap(0, 100, GapReason::Refused),
            Gap {
                partition: other,
                ..of_all(0, 100, GapReason::Discarded)
            },
            of_all(30, 40, GapReason::LostEnd),
            of_all(10, 20, GapReason::Quarantine),
        ];
        let noted = |from, to| {
            let partition = of_all(0, 0, GapReason::LostEnd).partition;
            let (reason, to) = noted(ledger.iter(), partition, Offset(from), Offset(to));
            (reason, to.0)
        };
        assert_eq!(noted(0, 50), (None, 10));
        assert_eq!(noted(10, 50), (Some(GapReason::Quarantine), 20));
        assert_eq!(noted(19, 20), (Some(GapReason::Quarantine), 20));
        assert_eq!(noted(15, 17), (Some(GapReason::Quarantine), 17));
        assert_eq!(noted(20, 50), (None, 30));
        assert_eq!(noted(30, 50), (Some(GapReason::LostEnd), 40));
        assert_eq!(noted(40, 50), (None, 50));
        assert_eq!(noted(0, 5), (None, 5));
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
    fn oldest_gaps_of_a_route_are_put_together() {
        let of_all = |gap: Gap| Gap { route: None, ..gap };
        let gaps = [
            (1, of_all(gap(1, 2, GapReason::Retention))),
            (2, of_all(gap(3, 4, GapReason::Retention))),
            (3, gap(10, 12, GapReason::Retention)),
            (4, gap(13, 14, GapReason::Refused)),
            (7, gap(20, 25, GapReason::Retention)),
            (8, gap(30, 31, GapReason::Retention)),
        ];
        let (stays, goes, gap) = oldest_pair(&gaps.clone().into()).unwrap();
        assert_eq!((stays, goes), (3, 7));
        assert_eq!(
            (gap.from, gap.to, gap.records),
            (Offset(10), Offset(25), 2 + 5)
        );
        let [first, second, third, ..] = gaps;
        assert_eq!(oldest_pair(&[first, second, third].into()), None);
    }

    #[test]
    fn gap_comes_back() {
        let gap = gap(1, 2, GapReason::Discarded);
        assert_eq!(Gap::from_stored(&gap.to_stored()).unwrap(), gap);
    }
}
