//! What is lost: exact ranges between what is readable, and ends that cannot be proven.
//!
//! Each segment begins with the ends of all partitions, so what is missing between two that were read
//! is known to the record, whether or not anything was noticed to be damaged: sled cuts off an end
//! that it does not recognise without a word.
//!
//! Invariant: what is told as lost cannot be read, is not behind the start of its partition, and
//! stands in the gap ledger only once, however often a loss is met.

use std::collections::{BTreeMap, BTreeSet};

use super::{Recovered, RecoveryError, RecoveryEvent};
use crate::encoding::Stored as _;
use crate::evacuated::Manifest;
use crate::folder::Folder;
use crate::gap::Gap;
use crate::ids::{CommitNumber, LogPartition, OFFSET_LEAP, Offset, SegmentId, SpanId};
use crate::journal::{JournalKind, JournalState};
use crate::metadata::SegmentRecord;

/// Records that are known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LostRange {
    pub(crate) partition: LogPartition,
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    pub(crate) bytes: Option<u64>,
}

impl LostRange {
    /// What is left of it without `from..to`.
    fn without(self, from: Offset, to: Offset) -> impl Iterator<Item = Self> {
        let before = (self.from, self.to.min(from));
        let after = (self.from.max(to), self.to);
        let left = move |(from, to)| Self {
            from,
            to,
            bytes: self.bytes.filter(|_| (from, to) == (self.from, self.to)),
            ..self
        };
        // Of an empty range both sides would be the whole.
        let sides = if from < to {
            [before, after]
        } else {
            [(self.from, self.to), (self.to, self.to)]
        };
        sides
            .into_iter()
            .map(left)
            .filter(|left| left.from < left.to)
    }
}

impl Recovered {
    /// A segment that the index knows is not there.
    pub(super) fn note_missing(
        &mut self,
        folder: &Folder,
        id: SegmentId,
        record: &SegmentRecord,
    ) -> Result<(), RecoveryError> {
        self.catch_up_journal(folder)?;
        self.events
            .push(RecoveryEvent::SegmentMissing { segment: id });
        self.lose_parts(record);
        self.lost_ends += 1;
        self.deferred.insert(id, None);
        Ok(())
    }

    /// Everything of a segment is lost.
    pub(super) fn lose_parts(&mut self, record: &SegmentRecord) {
        for part in &record.partitions {
            self.lose(LostRange {
                partition: part.partition,
                from: part.base_offset,
                to: part.next_offset,
                bytes: Some(part.bytes),
            });
        }
    }

    /// Notes what of `range` is not noted yet.
    pub(super) fn lose(&mut self, range: LostRange) {
        let left = self.not_noted(range);
        self.lost.extend(left);
    }

    fn not_noted(&self, range: LostRange) -> Vec<LostRange> {
        let noted = self.lost.iter();
        let noted = noted.filter(|noted| noted.partition == range.partition);
        cut_out(range, noted.map(|noted| (noted.from, noted.to)))
    }

    /// The segment `segment` was written in the state that is now the journal: what the partitions
    /// had then and `before` does not know of was lost before it.
    pub(super) fn account_loss_before(&mut self, segment: SegmentId, before: &JournalState) {
        let states = self.journal.partition_states().into_iter();
        let begins = states.map(|state| (state.partition, state.log_start, state.next_offset));
        let begins: Vec<_> = begins.collect();
        self.account_loss(segment, before, &begins);
    }

    /// As [`Self::account_loss_before`], for an evacuated segment, whose journal is of its end. What
    /// retention took before it was made is in it no more, and not lost.
    pub(super) fn account_loss_before_copy(&mut self, segment: SegmentId, manifest: &Manifest) {
        let states = manifest.journal.partition_states().into_iter();
        let begins = states.map(|state| {
            let part = manifest.record.part(state.partition);
            let begin = part.map_or(state.next_offset, |part| part.base_offset);
            (state.partition, state.log_start, begin)
        });
        let begins: Vec<_> = begins.collect();
        let before = std::mem::take(&mut self.journal);
        self.account_loss(segment, &before, &begins);
        self.journal = before;
    }

    /// `begins`: partitions, their starts, and where the segment goes on.
    fn account_loss(
        &mut self,
        segment: SegmentId,
        before: &JournalState,
        begins: &[(LogPartition, Offset, Offset)],
    ) {
        let is_told = std::mem::take(&mut self.lost_ends) > 0;
        if !self.journal_is_current {
            return; // The segments before it are as the index says.
        }
        let previous = self.sealed.range(..segment).next_back().map(|(id, _)| *id);
        for (partition, log_start, to) in begins.iter().copied() {
            // What retention took meanwhile is not lost.
            let from = before.ends(partition).next_offset.max(log_start);
            let range = LostRange {
                partition,
                from,
                to,
                bytes: None,
            };
            match is_told {
                _ if from >= to => {}
                true => self.lose(range),
                false => self.unexplained.push((previous, range)),
            }
        }
    }

    /// Notices an end that sled has cut off without a word. Without MARK nothing says that there is none.
    pub(super) fn compare_with_mark(&mut self, mark_is_whole: bool) {
        let (last_commit, durable) = (self.last_commit, self.known_durable());
        let event = match mark_is_whole {
            _ if last_commit < durable => RecoveryEvent::EndLost {
                last_commit,
                durable,
            },
            false if last_commit > CommitNumber(0) => RecoveryEvent::EndNotProven { last_commit },
            _ => return,
        };
        if self.lost_ends == 0 {
            self.lost_ends = 1;
            self.events.push(event);
        }
    }

    /// The newest commit that MARK, or the home of cold entries, knows to have been durable.
    fn known_durable(&self) -> CommitNumber {
        let moved = self.metadata.cold.state().as_of;
        self.mark.commit().max(moved)
    }

    /// The ends, as the index knows them, of partitions that no journal is left of.
    pub(crate) fn ends_without_journal(&self) -> BTreeMap<LogPartition, Offset> {
        let states = self.journal.partition_states().into_iter();
        let known: BTreeSet<_> = states.map(|state| state.partition).collect();
        let parts = self.sealed.values().flat_map(|record| &record.partitions);
        let parts = parts.map(|part| (part.partition, part.next_offset));
        let lost = self.lost.iter().map(|lost| (lost.partition, lost.to));
        let mut ends = BTreeMap::new();
        for (partition, end) in parts.chain(lost) {
            if !known.contains(&partition) {
                let last = ends.entry(partition).or_insert(end);
                *last = end.max(*last);
            }
        }
        ends
    }

    /// The span that begins after a loss of the end. A partition that no journal is left of begins
    /// anew with the first offset of the span: so this one is above all offsets that the index, and
    /// without any journal MARK, let suppose.
    pub(crate) fn span_after_loss(&self) -> SpanId {
        let next = self.journal.span().0 + self.lost_ends.max(1);
        let ends = self.ends_without_journal();
        let index = ends.values().map(|end| end.0.div_ceil(OFFSET_LEAP));
        // What the lost ends held came behind what the index knows.
        let index = index.max().map(|span| span + u64::from(self.lost_ends));
        let mark = self.known_durable().0 / OFFSET_LEAP + 1;
        let mark = self.has_no_journal().then_some(mark);
        let floor = index.max(mark).map(u32::try_from);
        // A number that no span can have comes from nothing that was written by us.
        SpanId(floor.map_or(next, |floor| next.max(floor.unwrap_or(next))))
    }

    /// The commit after which the log goes on, above all that is known. Without any journal it keeps
    /// step with the spans: MARK has to tell them apart once more after the next such loss.
    pub(crate) fn last_commit_after(&self, leap: u64) -> CommitNumber {
        let (last, mark) = (self.last_commit.0, self.known_durable().0);
        CommitNumber(match self.has_no_journal() {
            true => last.max(mark) + leap,
            false => mark.max(last + leap),
        })
    }

    fn has_no_journal(&self) -> bool {
        self.journal.of_kind(JournalKind::Identity).next().is_none()
    }

    /// Leaves of the losses what is news: not what retention had removed, which an index of an earlier
    /// state still names, not what is in the ledger, and not what can be read elsewhere.
    pub(super) fn settle_losses(&mut self) {
        let mut elsewhere: BTreeMap<LogPartition, Vec<(Offset, Offset)>> = BTreeMap::new();
        let gaps = self.journal.of_kind(JournalKind::Gap);
        let gaps = gaps.filter_map(|(_, value)| Gap::from_stored(value).ok());
        for gap in gaps.filter(|gap| gap.route.is_none()) {
            let ranges = elsewhere.entry(gap.partition).or_default();
            ranges.push((gap.from, gap.to));
        }
        // No other segment has what is missing inside of one.
        let holes = std::mem::take(&mut self.holes).into_iter();
        let holes: Vec<_> = holes
            .flat_map(|hole| {
                let taken = (Offset(0), self.journal.ends(hole.partition).log_start);
                let noted = elsewhere.get(&hole.partition).into_iter().flatten();
                cut_out(hole, noted.copied().chain([taken]))
            })
            .collect();
        for part in self.sealed.values().flat_map(|record| &record.partitions) {
            let ranges = elsewhere.entry(part.partition).or_default();
            ranges.push((part.base_offset, part.next_offset));
        }
        let journal = &self.journal;
        let news = |range: LostRange| {
            let taken = (Offset(0), journal.ends(range.partition).log_start);
            let elsewhere = elsewhere.get(&range.partition).into_iter().flatten();
            cut_out(range, elsewhere.copied().chain([taken]))
        };
        self.lost = self.lost.iter().copied().flat_map(news).collect();
        self.lost.extend(holes);
        let mut short = BTreeSet::new();
        for (previous, range) in std::mem::take(&mut self.unexplained) {
            for range in news(range) {
                let left = self.not_noted(range);
                if !left.is_empty() {
                    short.extend(previous);
                }
                self.lost.extend(left);
            }
        }
        for (segment, record) in short.iter().filter_map(|id| self.sealed.get_key_value(id)) {
            self.events.push(RecoveryEvent::SegmentCut {
                segment: *segment,
                last_commit: record.last_commit,
                reason: "what the next segment says was before it is missing".to_owned(),
            });
        }
    }
}

/// What is left of `range` without all of `others`.
fn cut_out(range: LostRange, others: impl Iterator<Item = (Offset, Offset)>) -> Vec<LostRange> {
    others.fold(vec![range], |left, (from, to)| {
        let left = left.into_iter();
        left.flat_map(|left| left.without(from, to)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LogId, PartitionId};

    #[test]
    fn range_keeps_what_is_not_cut_out() {
        let partition = LogPartition {
            log: LogId(1),
            partition: PartitionId(0),
        };
        let range = LostRange {
            partition,
            from: Offset(10),
            to: Offset(20),
            bytes: Some(7),
        };
        let left = |others: &[(u64, u64)]| {
            let others = others.iter().map(|(from, to)| (Offset(*from), Offset(*to)));
            let left = cut_out(range, others).into_iter();
            let left = left.map(|left| (left.from.0, left.to.0, left.bytes));
            left.collect::<Vec<_>>()
        };
        assert_eq!(left(&[(0, 10), (20, 30), (15, 15)]), [(10, 20, Some(7))]);
        assert_eq!(left(&[(0, 12), (18, 30)]), [(12, 18, None)]);
        assert_eq!(left(&[(12, 14)]), [(10, 12, None), (14, 20, None)]);
        assert_eq!(left(&[(0, 15), (15, 20)]), []);
    }
}
