//! Reading whole commits, all of them or those with a wanted topic.
//!
//! Invariant: a commit from where it began up to what is durable is given, tells of no wanted topic,
//! or is reported as missing.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::missing::MissingList;
use super::{Missing, Ranges, ReadError, Visited, visit, visit_segment};
use crate::commit::Commit;
use crate::gap::GapReason;
use crate::ids::{CommitNumber, SegmentId};
use crate::metadata::{SegmentRecord, SegmentState};
use crate::segment_name::SegmentName;
use crate::store::Shared;
use crate::topics::{TopicMatch, WantedRuns};

/// Segments that one call passes over before it comes back, so that others have their turn: some
/// 64 KiB of sets.
const PASSED_OVER_MAX: usize = 32;

/// Reads whole commits.
#[derive(Debug)]
pub struct CommitReader {
    pub(super) shared: Arc<Shared>,
    pub(super) next: CommitNumber,
    missing: MissingList,
    /// The evacuated segment of which it was told what may be missing in it.
    told: Option<SegmentName>,
}

/// What is to be done about the segment that comes next.
enum Next {
    /// All of it is read, or there is none, or its topics are not known.
    Whole,
    /// Nothing in it is wanted.
    PassOver(Arc<SegmentRecord>),
    Part(SegmentName, Arc<SegmentRecord>, WantedRuns),
}

impl CommitReader {
    pub(crate) fn new(shared: Arc<Shared>, from: CommitNumber) -> Self {
        Self {
            shared,
            next: from.max(CommitNumber(1)),
            missing: MissingList::default(),
            told: None,
        }
    }

    /// Reads on: commits in order, about `bytes_max` of them; none at the end of what is durable, or
    /// where some cannot be had: see [`Self::is_at_end`].
    ///
    /// # Errors
    /// As [`crate::PartitionReader::read`].
    pub fn read(&mut self, bytes_max: usize) -> Result<Vec<Commit>, ReadError> {
        let durable = self.shared.state().durable;
        self.tell_of_evacuated();
        self.collect(bytes_max, |shared, next, take| {
            visit(shared, next, durable, take)
        })
    }

    /// As [`Self::read`], but only commits that may hold a record of a topic that `wants` wants; others
    /// may come along. Segments and parts of them that hold no such topic are not read. After some of
    /// them it comes back, possibly with nothing.
    ///
    /// `topics` remembers what `wants` said: it is asked once for each topic. It must have been made
    /// for the same wishes, and be used with this store only.
    ///
    /// # Errors
    /// As [`crate::PartitionReader::read`].
    pub fn read_matching(
        &mut self,
        bytes_max: usize,
        topics: &mut TopicMatch,
        wants: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Vec<Commit>, ReadError> {
        let durable = self.shared.state().durable;
        topics.look(&self.shared, wants);
        for _ in 0..PASSED_OVER_MAX {
            self.tell_of_evacuated();
            match self.look_at_next(topics) {
                Next::Whole => {
                    return self.collect(bytes_max, |shared, next, take| {
                        visit(shared, next, durable, take)
                    });
                }
                Next::PassOver(record) => {
                    self.shared.counters.passed_over();
                    self.tell_of_hole(&record);
                    self.next = record.last_commit.next();
                }
                Next::Part(name, record, runs) => {
                    return self.read_runs(bytes_max, durable, (name, record), &runs);
                }
            }
        }
        Ok(Vec::new())
    }

    fn read_runs(
        &mut self,
        bytes_max: usize,
        durable: CommitNumber,
        (name, record): (SegmentName, Arc<SegmentRecord>),
        runs: &WantedRuns,
    ) -> Result<Vec<Commit>, ReadError> {
        let rest = runs.commits.iter().filter(|(_, last)| *last >= self.next);
        let ranges: Vec<_> = rest
            .map(|(first, last)| (*first.max(&self.next), *last))
            .collect();
        let Some((first, _)) = ranges.first() else {
            self.tell_of_hole(&record);
            self.next = record.last_commit.next();
            return Ok(Vec::new());
        };
        let is_begun = self.next > record.first_commit;
        self.tell_of_hole(&record);
        // What comes before it is not wanted; the hole before the segment is told.
        self.next = *first;
        if !is_begun {
            self.shared
                .counters
                .runs(runs.wanted, runs.runs - runs.wanted);
        }
        let wanted: Ranges<'_> = (name, &ranges);
        self.collect(bytes_max, |shared, next, take| {
            visit_segment(shared, next, durable, Some(wanted), take)
        })
    }

    /// What the stored sets say of the segment that is next.
    fn look_at_next(&self, topics: &TopicMatch) -> Next {
        if self.shared.read_ring().from(self.next).is_some() {
            return Next::Whole;
        }
        let Some((id, record)) = self.next_sealed() else {
            return Next::Whole;
        };
        // Not an error: without them it is only slower.
        let Ok(Some(set)) = self.shared.metadata.topics_of(id, &record) else {
            return Next::Whole;
        };
        let wanted = topics.wanted(&set);
        let name = record.name(id);
        if !set.any && !wanted.contains(&true) {
            return Next::PassOver(record);
        }
        let Ok(Some(runs)) = self.shared.metadata.runs_of(id, &record) else {
            return Next::Whole;
        };
        let runs = runs.wanted(&wanted);
        runs.map_or(Next::Whole, |runs| Next::Part(name, record, runs))
    }

    /// The sealed segment that is next, if it is one.
    fn next_sealed(&self) -> Option<(SegmentId, Arc<SegmentRecord>)> {
        let index = self.shared.segments.index();
        let sealed = index.sealed.iter();
        let mut later =
            sealed.filter(|(_, record)| !record.is_empty() && record.last_commit >= self.next);
        let (id, record) = later.next()?;
        (record.state == SegmentState::Sealed).then(|| (*id, Arc::clone(record)))
    }

    fn collect(
        &mut self,
        bytes_max: usize,
        visit: impl FnOnce(
            &Shared,
            CommitNumber,
            &mut dyn FnMut(&Commit) -> ControlFlow<()>,
        ) -> Result<Visited, ReadError>,
    ) -> Result<Vec<Commit>, ReadError> {
        let (mut commits, mut bytes) = (Vec::new(), 0);
        let visited = visit(&self.shared, self.next, &mut |commit| {
            bytes += commit.size_bytes();
            commits.push(commit.clone());
            if bytes >= bytes_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        self.note_visited(&visited);
        Ok(commits)
    }

    fn note_visited(&mut self, visited: &Visited) {
        if let Some(begins_at) = visited.begins_at {
            self.missing.push_hole(&self.shared, self.next, begins_at);
        }
        self.next = visited.next;
        let Some((name, at)) = visited.ended else {
            return;
        };
        if !self.shared.segments.index().has(name) {
            // Evacuated while it was read: the copy may have what could not be read here.
            self.next = at;
            return;
        }
        self.missing.push(Missing {
            from: at,
            to: visited.next,
            reason: GapReason::Quarantine,
            log: None,
            at_most: false,
        });
    }

    /// The reader goes on in the segment of `record`, or behind it, without having opened it.
    fn tell_of_hole(&mut self, record: &SegmentRecord) {
        if record.first_commit > self.next {
            self.missing
                .push_hole(&self.shared, self.next, record.first_commit);
        }
    }

    /// If an evacuated segment is next, what may be missing in it; once.
    fn tell_of_evacuated(&mut self) {
        if self.shared.read_ring().from(self.next).is_some() {
            return;
        }
        let Some((id, record)) = self.next_sealed() else {
            return;
        };
        let name = record.name(id);
        if name.is_evacuated() && self.told != Some(name) {
            self.told = Some(name);
            let from = self.next.max(record.first_commit);
            let to = record.last_commit.next();
            self.missing.push_retention(&self.shared, from, to);
        }
    }

    /// Number of the next commit that it gives, or a smaller one.
    pub fn next_commit(&self) -> CommitNumber {
        self.next
    }

    /// Whether it has read everything that is durable now.
    pub fn is_at_end(&self) -> bool {
        self.next > self.shared.counters.durable()
    }

    /// What it was asked for since the last call and could not give, in order: what retention had
    /// taken, what lay behind damage, what was lost with an end of the log. Commits without a wanted
    /// topic are not missing.
    pub fn take_missing(&mut self) -> Vec<Missing> {
        self.missing.take()
    }
}
