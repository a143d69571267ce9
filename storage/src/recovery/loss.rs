//! What is lost: exact ranges between what is readable, and ends that cannot be proven.

use super::{Recovered, RecoveryError, RecoveryEvent};
use crate::evacuated::Manifest;
use crate::folder::Folder;
use crate::ids::{LogPartition, Offset, SegmentId};
use crate::journal::JournalState;
use crate::metadata::SegmentRecord;

/// Records that are known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LostRange {
    pub(crate) partition: LogPartition,
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    pub(crate) bytes: Option<u64>,
}

impl Recovered {
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
        self.deferred.push((id, None));
        Ok(())
    }

    pub(super) fn lose_parts(&mut self, record: &SegmentRecord) {
        for part in &record.partitions {
            self.lost.push(LostRange {
                partition: part.partition,
                from: part.base_offset,
                to: part.next_offset,
                bytes: Some(part.bytes),
            });
        }
    }

    /// A segment after a loss begins: what it knows of the partitions says what is missing.
    pub(super) fn account_loss(&mut self, before: &JournalState) {
        if self.lost_ends == 0 {
            return;
        }
        self.lost_ends = 0;
        for state in self.journal.partition_states() {
            // What retention took meanwhile is not lost.
            let from = before
                .ends(state.partition)
                .next_offset
                .max(state.log_start);
            let to = state.next_offset;
            let known = |lost: &LostRange| lost.partition == state.partition && lost.to > from;
            if from < to && !self.lost.iter().any(known) {
                let partition = state.partition;
                self.lost.push(LostRange {
                    partition,
                    from,
                    to,
                    bytes: None,
                });
            }
        }
    }

    /// What was lost before an evacuated segment ends where that begins; what retention took is not
    /// lost.
    pub(super) fn account_loss_before(&mut self, manifest: &Manifest) {
        self.lost_ends = 0;
        for state in manifest.journal.partition_states() {
            let next = self.journal.ends(state.partition).next_offset;
            let from = next.max(state.log_start);
            let part = manifest.record.part(state.partition);
            let to = part.map_or(state.next_offset, |part| part.base_offset);
            let known = |lost: &LostRange| lost.partition == state.partition && lost.to > from;
            if from < to && !self.lost.iter().any(known) {
                self.lost.push(LostRange {
                    partition: state.partition,
                    from,
                    to,
                    bytes: None,
                });
            }
        }
    }

    /// Notices an end that sled has cut off without a word.
    pub(super) fn compare_with_mark(&mut self) {
        let (last_commit, durable) = (self.last_commit, self.mark.commit());
        if last_commit < durable && self.lost_ends == 0 {
            self.lost_ends = 1;
            self.events.push(RecoveryEvent::EndLost {
                last_commit,
                durable,
            });
        }
    }

    /// An index that fell back to an earlier state names segments that retention had removed.
    pub(super) fn forget_what_retention_took(&mut self) {
        for lost in &mut self.lost {
            let log_start = self.journal.ends(lost.partition).log_start;
            if lost.from < log_start {
                (lost.from, lost.bytes) = (log_start, None);
            }
        }
        self.lost.retain(|lost| lost.from < lost.to);
    }
}
