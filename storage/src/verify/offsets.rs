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
    ) -> Vec<Finding> {
        let expected = self.next.insert(partition, next);
        let expected = expected.unwrap_or(base);
        if base > expected {
            let holes = self.holes(shared, partition, expected, base).into_iter();
            return holes.map(|hole| hole.in_segment(segment, commit)).collect();
        }
        let log_start = self.ends.get(&partition).map(|state| state.log_start);
        // A segment that retention has not removed yet may begin before the log does.
        if base < expected && Some(expected) != log_start {
            let what = format!(
                "commit {commit} holds offset {base} of partition {partition}, which goes on at \
                 {expected}"
            );
            let finding = Finding::new(Severity::Error, FindingKind::Overlap, what);
            let finding = finding.in_segment(segment, commit);
            return vec![finding.at(partition, base, expected)];
        }
        Vec::new()
    }

    /// The segments are read: what the journal has beyond them must be a known loss.
    pub(super) fn finish(&self, shared: &Shared) -> Vec<Finding> {
        let holes = self.ends.values().flat_map(|state| {
            let next = self.next.get(&state.partition).copied();
            let next = next.unwrap_or(state.log_start);
            self.holes(shared, state.partition, next, state.next_offset)
        });
        holes.collect()
    }

    /// Offsets from `from` to `to` are not there: findings of those that nothing accounts for.
    fn holes(
        &self,
        shared: &Shared,
        partition: LogPartition,
        from: Offset,
        to: Offset,
    ) -> Vec<Finding> {
        // What retention takes meanwhile is below the log start.
        let from = from.max(shared.log_start(partition));
        let gaps = self.gaps.get(&partition).map_or(&[][..], Vec::as_slice);
        let holes = unaccounted(from, to, gaps).into_iter();
        let holes = holes.map(|(from, to)| {
            let what = format!(
                "offsets {from} to {} of partition {partition} are missing, and no gap accounts for them",
                Offset(to.0.saturating_sub(1))
            );
            Finding::new(Severity::Error, FindingKind::Hole, what).at(partition, from, to)
        });
        holes.collect()
    }
}

/// What is in none of `gaps`, which ascend by their beginnings.
fn unaccounted(from: Offset, to: Offset, gaps: &[(Offset, Offset)]) -> Vec<(Offset, Offset)> {
    let (mut at, mut holes) = (from, Vec::new());
    for (gap_from, gap_to) in gaps {
        let end = to.min(*gap_from);
        if at < end {
            holes.push((at, end));
        }
        at = at.max(*gap_to);
    }
    if at < to {
        holes.push((at, to));
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hole_is_what_no_gap_accounts_for() {
        let gaps = [(5, 10), (7, 8), (20, 30), (30, 40)].map(|(a, b)| (Offset(a), Offset(b)));
        for (from, to, holes) in [
            (0, 3, vec![(0, 3)]),
            (0, 7, vec![(0, 5)]),
            (5, 10, vec![]),
            (6, 25, vec![(10, 20)]),
            (0, 50, vec![(0, 5), (10, 20), (40, 50)]),
            (40, 40, vec![]),
        ] {
            let found = unaccounted(Offset(from), Offset(to), &gaps);
            let found: Vec<_> = found.iter().map(|(a, b)| (a.0, b.0)).collect();
            assert_eq!(found, holes, "{from} to {to}");
        }
    }
}
