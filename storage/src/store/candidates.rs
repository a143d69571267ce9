//! The segments as evacuation sees them: what they take on flash, what is live in them, and for how
//! long.
//!
//! How long is a guess that nothing depends on but what is copied first. A log that is limited by its
//! bytes is taken to keep its records for as long as it has its oldest one, and longer while it is not
//! full. What they take is worked out from their commits, never looked up: what sled adds to a copy it
//! would add to a copy of that copy, too, and there would be no end of copying.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::evacuation::{self, Candidate, Fixed};
use crate::ids::{LogId, LogPartition, Offset};
use crate::metadata::{SegmentRecord, SegmentState};
use crate::retention::{Keeps, Need};
use crate::segment_name::SegmentName;
use crate::store::Shared;
use crate::store::retaining::{Retaining, certain_ages, starts_of};

/// What a log keeps.
#[derive(Clone, Copy, Debug)]
struct Kept {
    need: Need,
    live_bytes: u64,
    /// Of the oldest segment that it needs.
    oldest: Option<Duration>,
}

/// Sealed segments, oldest first, but for `unreadable` ones, which stay, and what stays in any case.
pub(crate) fn candidates(
    shared: &Shared,
    retaining: &mut Retaining,
    unreadable: &BTreeSet<SegmentName>,
) -> (Vec<Candidate>, Fixed) {
    let starts = starts_of(shared);
    let (sealed, active_bytes) = {
        let index = shared.segments.index();
        (index.sealed.clone(), index.active.1.bytes)
    };
    let ages = certain_ages(shared, retaining, sealed.values().map(AsRef::as_ref));
    let start = |partition| starts.get(&partition).copied().unwrap_or_default();
    let kept = kept(shared, sealed.values().map(AsRef::as_ref).zip(&ages), start);
    let newest = sealed.keys().next_back().copied();
    let candidates = sealed.iter().zip(&ages).map(|((id, record), age)| {
        let name = record.name(*id);
        Candidate {
            name,
            disk_bytes: evacuation::disk_bytes(record.bytes),
            live_bytes: record.live_bytes(start),
            stay: evacuation::stay(stays(record, start, &kept, *age)),
            may_move: Some(*id) != newest
                && record.state == SegmentState::Sealed
                && !unreadable.contains(&name),
        }
    });
    let fixed = Fixed {
        disk_bytes: active_bytes,
        live_bytes: active_bytes,
    };
    (candidates.collect(), fixed)
}

fn kept<'a>(
    shared: &Shared,
    segments: impl Iterator<Item = (&'a SegmentRecord, &'a Option<Duration>)>,
    start: impl Fn(LogPartition) -> Offset,
) -> BTreeMap<LogId, Kept> {
    let needs: BTreeMap<_, _> = {
        let state = shared.state();
        let logs = state.logs.iter();
        logs.map(|(id, log)| (*id, Need::of(log.options.as_ref(), true)))
            .collect()
    };
    let mut kept = BTreeMap::new();
    for (record, age) in segments {
        for part in &record.partitions {
            let (log, live_bytes) = (part.partition.log, part.live_bytes(start(part.partition)));
            if live_bytes == 0 {
                continue;
            }
            let need = needs.get(&log).copied();
            let entry = kept.entry(log).or_insert_with(|| Kept {
                need: need.unwrap_or_else(|| Need::of(None, true)),
                live_bytes: 0,
                oldest: *age,
            });
            entry.live_bytes += live_bytes;
        }
    }
    kept
}

/// Live bytes of the parts of a segment whose newest record is so old, and how long they stay.
fn stays(
    record: &SegmentRecord,
    start: impl Fn(LogPartition) -> Offset,
    kept: &BTreeMap<LogId, Kept>,
    age: Option<Duration>,
) -> impl Iterator<Item = (u64, Option<Duration>)> {
    record.partitions.iter().filter_map(move |part| {
        let live_bytes = part.live_bytes(start(part.partition));
        let stay = || Some(kept.get(&part.partition.log)?.span()?.saturating_sub(age?));
        (live_bytes > 0).then(|| (live_bytes, stay()))
    })
}

impl Kept {
    /// How long the log keeps a record.
    fn span(&self) -> Option<Duration> {
        let by_bytes = match self.need.keeps {
            Keeps::Bytes => None,
            Keeps::Nothing | Keeps::Needed => self.oldest.map(|oldest| {
                let times = self.need.bytes / self.live_bytes.max(1);
                oldest.saturating_mul(u32::try_from(times.max(1)).unwrap_or(u32::MAX))
            }),
        };
        [self.need.age, by_bytes].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn log_keeps_a_record_until_it_is_too_old_or_too_much_came_after_it() {
        let kept = |bytes, age, keeps, oldest| Kept {
            need: Need { bytes, age, keeps },
            live_bytes: 1000,
            oldest,
        };
        let day = Some(HOUR * 24);
        let span = |bytes, age, oldest| kept(bytes, age, Keeps::Nothing, oldest).span();
        assert_eq!(span(1000, day, Some(HOUR)), Some(HOUR), "full in an hour");
        assert_eq!(span(5000, day, Some(HOUR)), Some(HOUR * 5), "a fifth full");
        assert_eq!(span(u64::MAX, day, Some(HOUR)), day);
        assert_eq!(span(900, None, Some(HOUR)), Some(HOUR), "more than full");
        assert_eq!(span(1000, None, None), None, "nobody knows the time");
        let rejects = kept(1000, day, Keeps::Bytes, Some(HOUR));
        assert_eq!(rejects.span(), day, "what came after it makes no room");
    }
}
