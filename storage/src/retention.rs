//! Which records a log may lose, and which segments nobody needs any more. Pure decisions.
//!
//! Retention is counted in whole segments: the start of a log moves to the end of a segment, so a
//! log may have up to a segment more than asked. Age counts only where the clock was known.
//!
//! A log that drops its oldest records does so whether they had been replicated or not; whoever reads
//! behind the start finds a gap and writes it down. One that rejects keeps what somebody still needs,
//! and is full when that leaves it no room.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{LogId, LogPartition, Offset, SegmentId};
use crate::logs::{LogOptions, OnFull};
use crate::metadata::SegmentPartition;

/// A segment as retention sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) id: SegmentId,
    pub(crate) age: Age,
    /// Only sealed segments are ever given up.
    pub(crate) sealed: bool,
    pub(crate) parts: &'a [SegmentPartition],
}

/// How old the newest record of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    Known(Duration),
    Unknown,
}

/// What a log must keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) bytes: u64,
    pub(crate) age: Option<Duration>,
    pub(crate) keeps: Keeps,
}

/// What stays although it is too much or too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    Nothing,
    /// What a pin needs.
    Needed,
    /// Everything that is not too old: there is no pin that could say what is not needed.
    Bytes,
}

impl Keeps {
    fn of(on_full: &OnFull) -> Self {
        match on_full {
            OnFull::DropOldest => Self::Nothing,
            OnFull::Reject { pins } if pins.is_empty() => Self::Bytes,
            OnFull::Reject { .. } => Self::Needed,
        }
    }
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// New starts of partitions whose log gives up segments.
    pub(crate) starts: Vec<(LogPartition, Offset)>,
    /// Segments in which, by the starts that are in force already, nothing is left.
    pub(crate) removable: Vec<SegmentId>,
    /// Logs that have more than their bytes and may not give up any, and what they have.
    pub(crate) full: BTreeMap<LogId, u64>,
}

impl Need {
    /// Of a log with these options, or of one that the configuration does not name. The latter still
    /// pins its segments; but if no log is configured, somebody only looks at the folder, and nobody
    /// has said what may go.
    pub(crate) fn of(options: Option<&LogOptions>, is_any_configured: bool) -> Self {
        match options {
            Some(options) => Self {
                bytes: options.retention_bytes,
                age: options.retention_age,
                keeps: Keeps::of(&options.on_full),
            },
            None if is_any_configured => Self {
                bytes: 1024 * 1024 * 1024,
                age: None,
                keeps: Keeps::Nothing,
            },
            None => Self {
                bytes: u64::MAX,
                age: None,
                keeps: Keeps::Nothing,
            },
        }
    }
}

/// How far a log was followed from its oldest segment on.
#[derive(Clone, Copy, Debug)]
struct Walk {
    need: Need,
    /// What is left of it.
    bytes: u64,
    /// It needs the segment that was reached, and with it all later ones.
    is_over: bool,
}

impl Walk {
    fn of(need: Need) -> Self {
        Self {
            need,
            bytes: 0,
            is_over: false,
        }
    }

    fn gives_up(&self, age: Age, is_needed: impl FnOnce() -> bool) -> bool {
        let too_old = match (self.need.age, age) {
            (Some(limit), Age::Known(age)) => age > limit,
            _ => false,
        };
        match self.need.keeps {
            Keeps::Nothing => too_old || self.bytes > self.need.bytes,
            Keeps::Needed => (too_old || self.bytes > self.need.bytes) && !is_needed(),
            Keeps::Bytes => too_old,
        }
    }

    /// Too much is left of it, and that is because it may not go.
    fn is_full(&self) -> bool {
        self.is_over && self.bytes > self.need.bytes
    }
}

/// What is to be done about `segments`, which go from old to new. `start`: the starts in force;
/// `replicated`: the offset up to which all pins of a partition's log have everything.
pub(crate) fn plan(
    segments: &[Segment<'_>],
    needs: impl Fn(LogId) -> Need,
    start: impl Fn(LogPartition) -> Offset,
    replicated: impl Fn(LogPartition) -> Offset,
) -> Plan {
    let live = |part: &SegmentPartition| start(part.partition) < part.next_offset;
    let mut logs: BTreeMap<LogId, Walk> = BTreeMap::new();
    for part in segments.iter().flat_map(|segment| segment.parts) {
        if live(part) {
            let log = part.partition.log;
            let walk = logs.entry(log).or_insert_with(|| Walk::of(needs(log)));
            walk.bytes += part.bytes;
        }
    }
    let mut starts = Vec::new();
    for segment in segments.iter().take_while(|segment| segment.sealed) {
        // A segment lists its partitions in order, so those of a log stand together.
        let parts_of_logs = segment
            .parts
            .chunk_by(|a, b| a.partition.log == b.partition.log);
        for parts in parts_of_logs {
            let parts = parts.iter().filter(|part| live(part));
            let Some(first) = parts.clone().next() else {
                continue;
            };
            let Some(walk) = logs.get_mut(&first.partition.log) else {
                continue;
            };
            let is_needed = |part: &SegmentPartition| replicated(part.partition) < part.next_offset;
            let is_needed = || parts.clone().any(is_needed);
            walk.is_over = walk.is_over || !walk.gives_up(segment.age, is_needed);
            if walk.is_over {
                continue;
            }
            for part in parts {
                walk.bytes -= part.bytes;
                starts.push((part.partition, part.next_offset));
            }
        }
    }
    // Of several ends in a row the last one is where the partition begins.
    let starts: BTreeMap<_, _> = starts.into_iter().collect();
    // The newest sealed segment stays: while the active one is empty, its journal is the state.
    let newest_sealed = segments
        .iter()
        .filter(|segment| segment.sealed)
        .map(|s| s.id)
        .max();
    let removable = segments
        .iter()
        .filter(|segment| segment.sealed && Some(segment.id) != newest_sealed)
        .filter(|segment| !segment.parts.iter().any(live))
        .map(|segment| segment.id)
        .collect();
    let full = logs.into_iter().filter(|(_, walk)| walk.is_full());
    Plan {
        starts: starts.into_iter().collect(),
        removable,
        full: full.map(|(log, walk)| (log, walk.bytes)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PartitionId;

    const DAY: Duration = Duration::from_secs(86_400);

    fn part(log: u16, base: u64, next: u64, bytes: u64) -> SegmentPartition {
        SegmentPartition {
            partition: LogPartition {
                log: LogId(log),
                partition: PartitionId(0),
            },
            base_offset: Offset(base),
            next_offset: Offset(next),
            bytes,
        }
    }

    fn planned(
        parts: &[Vec<SegmentPartition>],
        ages: &[Age],
        needs: &[(u64, Option<Duration>)],
        starts: &[u64],
    ) -> (Vec<(u16, u64)>, Vec<u64>) {
        let last = parts.len() - 1;
        let segments: Vec<_> = (0..parts.len())
            .map(|n| Segment {
                id: SegmentId(n as u64),
                age: ages[n],
                sealed: n != last,
                parts: &parts[n],
            })
            .collect();
        let need = |log: LogId| Need {
            bytes: needs[usize::from(log.0)].0,
            age: needs[usize::from(log.0)].1,
            keeps: Keeps::Nothing,
        };
        let start = |p: LogPartition| Offset(starts[usize::from(p.log.0)]);
        let plan = plan(&segments, need, start, |_| Offset(0));
        assert_eq!(plan.full, BTreeMap::new());
        (
            plan.starts
                .into_iter()
                .map(|(p, o)| (p.log.0, o.0))
                .collect(),
            plan.removable.into_iter().map(|id| id.0).collect(),
        )
    }

    fn three_segments() -> Vec<Vec<SegmentPartition>> {
        vec![
            vec![part(0, 0, 10, 100), part(1, 0, 5, 100)],
            vec![part(0, 10, 20, 100)],
            vec![part(0, 20, 30, 100), part(1, 5, 9, 100)],
            vec![part(0, 30, 35, 50)],
        ]
    }

    #[test]
    fn nothing_goes_when_a_folder_is_only_looked_at() {
        let huge = [part(1, 0, 10, 1 << 50)];
        let sealed = Segment {
            id: SegmentId(1),
            age: Age::Known(10_000 * DAY),
            sealed: true,
            parts: &huge,
        };
        let starts = |is_any_configured| {
            let needs = |_| Need::of(None, is_any_configured);
            plan(&[sealed], needs, |_| Offset(0), |_| Offset(0)).starts
        };
        assert_eq!(starts(false), []);
        assert_eq!(starts(true).len(), 1);
    }

    #[test]
    fn log_over_its_bytes_gives_up_its_oldest_segments_only() {
        let ages = [Age::Unknown; 4];
        let needs = [(250, None), (200, None)];
        let (moved, removable) = planned(&three_segments(), &ages, &needs, &[0, 0]);
        assert_eq!(moved, [(0, 10)]);
        assert_eq!(
            removable,
            [] as [u64; 0],
            "log 1 still needs the first segment"
        );
    }

    #[test]
    fn segment_goes_when_no_log_needs_it() {
        let ages = [Age::Unknown; 4];
        let needs = [(250, None), (200, None)];
        let (moved, removable) = planned(&three_segments(), &ages, &needs, &[20, 0]);
        assert_eq!((moved, removable), (vec![], vec![1]));
        let (_, removable) = planned(&three_segments(), &ages, &needs, &[30, 9]);
        assert_eq!(
            removable,
            [0, 1],
            "the newest sealed segment stays for its journal"
        );
    }

    #[test]
    fn age_counts_only_where_the_clock_was_known() {
        let needs = [(10_000, Some(DAY)), (10_000, None)];
        let old = Age::Known(2 * DAY);
        let (moved, _) = planned(
            &three_segments(),
            &[old, old, Age::Known(DAY / 2), old],
            &needs,
            &[0, 0],
        );
        assert_eq!(moved, [(0, 20)]);
        let (moved, _) = planned(
            &three_segments(),
            &[Age::Unknown, old, old, old],
            &needs,
            &[0, 0],
        );
        assert_eq!(moved, [], "an unknown age stops it");
    }

    #[test]
    fn active_segment_is_never_given_up() {
        let needs = [(0, None), (0, None)];
        let (moved, _) = planned(&three_segments(), &[Age::Unknown; 4], &needs, &[0, 0]);
        assert_eq!(moved, [(0, 30), (1, 9)]);
    }

    /// Starts and full logs of log 0 with three sealed segments of 10 records and 100 bytes.
    fn kept(need: Need, age: Age, replicated: u64) -> (Vec<u64>, Vec<u64>) {
        let parts: Vec<_> = (0..4)
            .map(|n| [part(0, n * 10, n * 10 + 10, 100)])
            .collect();
        let segment = |(n, parts)| Segment {
            id: SegmentId(n),
            age,
            sealed: n != 3,
            parts,
        };
        let with_ids = (0..).zip(parts.iter().map(|parts| &parts[..]));
        let segments: Vec<_> = with_ids.map(segment).collect();
        let plan = plan(&segments, |_| need, |_| Offset(0), |_| Offset(replicated));
        let starts = plan.starts.into_iter().map(|(_, start)| start.0);
        (starts.collect(), plan.full.into_values().collect())
    }

    #[test]
    fn what_a_pin_needs_stays_and_makes_the_log_full() {
        let need = Need {
            bytes: 250,
            age: Some(DAY),
            keeps: Keeps::Needed,
        };
        for age in [Age::Unknown, Age::Known(2 * DAY)] {
            assert_eq!(kept(need, age, 9), (vec![], vec![400]), "{age:?}");
            assert_eq!(kept(need, age, 19), (vec![10], vec![300]));
        }
        assert_eq!(kept(need, Age::Unknown, 20), (vec![20], vec![]));
        assert_eq!(kept(need, Age::Unknown, 40), (vec![20], vec![]));
        assert_eq!(kept(need, Age::Known(2 * DAY), 40), (vec![30], vec![]));
    }

    #[test]
    fn log_without_a_pin_is_full_until_something_is_too_old() {
        let need = Need {
            bytes: 250,
            age: Some(DAY),
            keeps: Keeps::Bytes,
        };
        assert_eq!(kept(need, Age::Unknown, 0), (vec![], vec![400]));
        assert_eq!(kept(need, Age::Known(2 * DAY), 0), (vec![30], vec![]));
    }

    #[test]
    fn log_that_drops_its_oldest_is_never_full() {
        let need = Need {
            bytes: 250,
            age: None,
            keeps: Keeps::Nothing,
        };
        assert_eq!(kept(need, Age::Unknown, 0), (vec![20], vec![]));
    }
}
