//! Which records a log may lose, and which segments nobody needs any more. Pure decisions.
//!
//! Retention is counted in whole segments: the start of a log moves to the end of a segment, so a
//! log may have up to a segment more than asked. Age counts only where the clock was known.
//!
//! Not for: whether lost records had been replicated; whoever reads behind the start finds a gap
//! and writes it down.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{LogId, LogPartition, Offset, SegmentId};
use crate::logs::LogOptions;
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
            },
            None if is_any_configured => Self {
                bytes: 1024 * 1024 * 1024,
                age: None,
            },
            None => Self {
                bytes: u64::MAX,
                age: None,
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

    fn gives_up(&self, age: Age) -> bool {
        let too_old = match (self.need.age, age) {
            (Some(limit), Age::Known(age)) => age > limit,
            _ => false,
        };
        too_old || self.bytes > self.need.bytes
    }
}

/// New starts for the partitions whose log gives up segments, and the segments in which, by the
/// starts that are in force already, nothing is left. `segments` go from old to new.
pub(crate) fn plan(
    segments: &[Segment<'_>],
    needs: impl Fn(LogId) -> Need,
    start: impl Fn(LogPartition) -> Offset,
) -> (Vec<(LogPartition, Offset)>, Vec<SegmentId>) {
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
            let mut parts = parts.iter().filter(|part| live(part)).peekable();
            let Some(first) = parts.peek() else {
                continue;
            };
            let Some(walk) = logs.get_mut(&first.partition.log) else {
                continue;
            };
            walk.is_over = walk.is_over || !walk.gives_up(segment.age);
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
    (starts.into_iter().collect(), removable)
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
        };
        let (moved, removable) = plan(&segments, need, |p| Offset(starts[usize::from(p.log.0)]));
        (
            moved.into_iter().map(|(p, o)| (p.log.0, o.0)).collect(),
            removable.into_iter().map(|id| id.0).collect(),
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
            plan(&[sealed], needs, |_| Offset(0)).0
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
}
