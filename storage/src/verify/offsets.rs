//! Whether the offsets of every partition follow each other, and what is missing is written down.

use std::collections::BTreeMap;

use crate::gap::Gap;
use crate::ids::{CommitNumber, LogPartition, Offset, SegmentId};
use crate::journal::PartitionState;
use crate::store::Shared;
use crate::verify::{Finding, FindingKind, Severity};

/// What the journal says and how far the segments have been read.
pub(super) struct Accounts {
    /// What was durable when it began.
    pub(super) durable: CommitNumber,
    ends: BTreeMap<LogPartition, PartitionState>,
    /// Gaps of every reader, by partition.
    gaps: BTreeMap<LogPartition, Vec<(Offset, Offset)>>,
    pub(super) gaps_total: u64,
    next: BTreeMap<LogPartition, Offset>,
}

impl Accounts {
    pub(super) fn new(shared: &Shared) -> Self {
        let state = shared.state();
        let mut gaps: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut gaps_total = 0;
        for gap in state.gaps() {
            gaps_total += 1;
            let Gap {
                partition,
                from,
                to,
                ..
            } = gap;
            if gap.route.is_none() {
                gaps.entry(*partition).or_default().push((*from, *to));
            }
        }
        for gaps in gaps.values_mut() {
            gaps.sort_unstable();
        }
        let states = state.journal.partition_states().into_iter();
        let ends: BTreeMap<_, _> = states.map(|state| (state.partition, state)).collect();
        let next = ends
            .values()
            .map(|state| (state.partition, state.log_start))
            .collect();
        Self {
            durable: state.durable,
            ends,
            gaps,
            gaps_total,
            next,
        }
    }

    /// The next batch of `partition` has the offsets from `base` up to `next`.
    pub(super) fn take(
        &mut self,
        shared: &Shared,
        segment: SegmentId,
        commit: CommitNumber,
        (partition, base, next): (LogPartition, Offset, Offset),
    ) -> Option<Finding> {
        let expected = self.next.insert(partition, next);
        let expected = expected.unwrap_or(base);
        if base > expected {
            let hole = self.hole(shared, partition, expected, base)?;
            return Some(hole.in_segment(segment, commit));
        }
        let log_start = self.ends.get(&partition).map(|state| state.log_start);
        // A segment that retention has not removed yet may begin before the log does.
        if base < expected && Some(expected) != log_start {
            let what = format!(
                "commit {commit} holds offset {base} of partition {partition}, which goes on at \
                 {expected}"
            );
            let finding = Finding::new(Severity::Error, FindingKind::Overlap, what);
            return Some(
                finding
                    .in_segment(segment, commit)
                    .at(partition, base, expected),
            );
        }
        None
    }

    /// The segments are read: what the journal has beyond them must be a known loss.
    pub(super) fn finish(&self, shared: &Shared) -> Vec<Finding> {
        let holes = self.ends.values().filter_map(|state| {
            let next = self.next.get(&state.partition).copied();
            let next = next.unwrap_or(state.log_start);
            let missing = next < state.next_offset;
            missing.then(|| self.hole(shared, state.partition, next, state.next_offset))?
        });
        holes.collect()
    }

    /// Offsets from `from` to `to` are not there: a finding, if nothing accounts for them.
    fn hole(
        &self,
        shared: &Shared,
        partition: LogPartition,
        from: Offset,
        to: Offset,
    ) -> Option<Finding> {
        // What retention takes meanwhile is below the log start.
        let mut at = from.max(shared.log_start(partition).min(to));
        for (gap_from, gap_to) in self.gaps.get(&partition).into_iter().flatten() {
            if *gap_from <= at {
                at = at.max(*gap_to);
            } else if at < to {
                break;
            }
        }
        (at < to).then(|| {
            let what = format!(
                "offsets {at} to {} of partition {partition} are missing, and no gap accounts for them",
                Offset(to.0.saturating_sub(1))
            );
            Finding::new(Severity::Error, FindingKind::Hole, what).at(partition, at, to)
        })
    }
}
