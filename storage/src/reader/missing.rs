//! What a reader of commits was not given.

use std::collections::BTreeSet;

use crate::gap::GapReason;
use crate::ids::{CommitNumber, LogId, LogPartition, OFFSET_LEAP, Offset};
use crate::store::Shared;

/// Ranges that are kept for whoever asks; beyond, the newest ones become one.
const MISSING_MAX: usize = 256;

/// Commits that a reader asked for and did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first one.
    pub from: CommitNumber,
    /// The first one behind them that is there again, or may be.
    pub to: CommitNumber,
    /// Why, as far as that is known.
    pub reason: GapReason,
    /// Whose records are missing: that of retention is told log by log. `None`: of any log.
    pub log: Option<LogId>,
    /// Whether some of these commits may be there, may never have been, or may have had no record
    /// of `log`.
    pub at_most: bool,
}

/// What is missing so far, in order.
#[derive(Debug, Default)]
pub(super) struct MissingList(Vec<Missing>);

impl MissingList {
    pub(super) fn take(&mut self) -> Vec<Missing> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn push(&mut self, missing: Missing) {
        if missing.from >= missing.to {
            return;
        }
        let is_full = self.0.len() >= MISSING_MAX;
        let Some(last) = self.0.last_mut() else {
            self.0.push(missing);
            return;
        };
        let same = Missing {
            from: last.from,
            to: last.to,
            ..missing
        };
        if same == *last && missing.from <= last.to {
            last.to = last.to.max(missing.to);
        } else if is_full {
            last.to = last.to.max(missing.to);
            last.log = last.log.filter(|log| Some(*log) == missing.log);
            last.at_most = true;
        } else {
            self.0.push(missing);
        }
    }

    /// What lies between two segments, or before the first one.
    pub(super) fn push_hole(&mut self, shared: &Shared, from: CommitNumber, to: CommitNumber) {
        // Commit numbers leap as far as offsets do when an end is lost.
        let leapt = to.0.saturating_sub(from.0) >= OFFSET_LEAP;
        let noted = parts_missing(shared, to)
            .into_iter()
            .find_map(|(partition, from, to)| shared.noted_gap(partition, from, to).0);
        match noted.or_else(|| leapt.then_some(GapReason::LostEnd)) {
            None => self.push_retention(shared, from, to),
            Some(reason) => self.push(Missing {
                from,
                to,
                reason,
                log: None,
                at_most: leapt,
            }),
        }
    }

    /// What retention may have taken of these commits. It takes the oldest records of a partition, so
    /// that it took none where older ones are left.
    pub(super) fn push_retention(&mut self, shared: &Shared, from: CommitNumber, to: CommitNumber) {
        for log in logs_without_older(shared, from) {
            self.push(Missing {
                from,
                to,
                reason: GapReason::Retention,
                log: Some(log),
                at_most: true,
            });
        }
    }
}

/// Logs that have lost records to retention, and of which a partition has none in segments that end
/// before `from`.
fn logs_without_older(shared: &Shared, from: CommitNumber) -> BTreeSet<LogId> {
    let states = shared.state().journal.partition_states();
    let index = shared.segments.index();
    let may_lack = |partition| {
        let mut with_it = index.all().map(|(_, record)| record);
        let oldest = with_it.find(|record| record.part(partition).is_some());
        oldest.is_none_or(|oldest| oldest.is_empty() || oldest.last_commit >= from)
    };
    let starts = states.iter().filter(|state| state.log_start > Offset(0));
    let lacking = starts.filter(|state| may_lack(state.partition));
    lacking.map(|state| state.partition.log).collect()
}

/// The offsets that are missing before the segment that begins at commit `to`, of each partition in
/// it.
fn parts_missing(shared: &Shared, to: CommitNumber) -> Vec<(LogPartition, Offset, Offset)> {
    let index = shared.segments.index();
    let segment = index.all().find(|(_, record)| record.first_commit == to);
    let parts = segment
        .into_iter()
        .flat_map(|(_, record)| &record.partitions);
    let missing = parts.filter_map(|part| {
        let earlier = index
            .all()
            .take_while(|(_, record)| record.last_commit < to);
        let ends = earlier.filter_map(|(_, record)| record.part(part.partition));
        let end = ends.map(|part| part.next_offset).last();
        let end = end.unwrap_or(Offset(0));
        (end < part.base_offset).then_some((part.partition, end, part.base_offset))
    });
    missing.collect()
}
