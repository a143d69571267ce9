//! Reading a segment from its first commit on, and sealing what can be read.
//!
//! Invariant: after a segment of which anything can be read, the journal is the one at its end.

use std::ops::ControlFlow;

use super::quarantine::put_aside;
use super::{LostRange, Recovered, RecoveryError, RecoveryEvent, io_error};
use crate::commit::{Commit, CommitError};
use crate::durable_file::remove_directory;
use crate::evacuated::Manifest;
use crate::folder::Folder;
use crate::ids::{CommitNumber, LogPartition, Offset, SegmentId};
use crate::journal::{self, JournalError, JournalState, Operation};
use crate::metadata::{SegmentRecord, SegmentState};
use crate::retained::retained_records;
use crate::segment::{self, ScanError};
use crate::segment_name::SegmentName;
use crate::segment_record::Evacuated;

/// Why a segment cannot be read on.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("commit {commit}: {source}")]
    Journal {
        commit: CommitNumber,
        source: JournalError,
    },
    #[error("segment begins without a snapshot of its own")]
    NoSnapshot,
    #[error(
        "commit {commit} holds offset {found} of partition {partition} where {expected} belongs"
    )]
    Offset {
        commit: CommitNumber,
        partition: LogPartition,
        found: Offset,
        expected: Offset,
    },
}

/// A segment while it is read.
struct Reading {
    name: SegmentName,
    record: SegmentRecord,
    damage: Option<Damage>,
    sets_retained: bool,
    /// Of an evacuated segment: where a partition goes on behind what it had so far.
    holes: Vec<LostRange>,
}

impl Reading {
    fn new(name: SegmentName, sets_retained: bool) -> Self {
        Self {
            name,
            record: SegmentRecord::created(),
            damage: None,
            sets_retained,
            holes: Vec::new(),
        }
    }

    /// Takes the next commit into the state, or says why it cannot be one.
    fn take(
        &mut self,
        recovered: &mut Recovered,
        before: &JournalState,
        commit: &Commit,
    ) -> Result<(), Damage> {
        let number = commit.number();
        let operations = match commit.journal() {
            Some(encoded) => journal::decode(&encoded).map_err(|source| Damage::Journal {
                commit: number,
                source,
            })?,
            None => Vec::new(),
        };
        if self.record.is_empty() {
            let begins = matches!(operations.first(),
                Some(Operation::Snapshot(snapshot)) if snapshot.segment == self.name.first);
            if !begins {
                return Err(Damage::NoSnapshot);
            }
        }
        for operation in operations {
            let is_snapshot = matches!(operation, Operation::Snapshot(_));
            recovered.journal.apply(operation);
            if is_snapshot {
                recovered.account_loss_before(self.name.first, before);
            }
        }
        for batch in commit.batches() {
            let partition = batch.partition;
            let expected = recovered.journal.ends(partition).next_offset;
            if batch.base_offset != expected {
                let found = batch.base_offset;
                return Err(Damage::Offset {
                    commit: number,
                    partition,
                    found,
                    expected,
                });
            }
            recovered.journal.advance(partition, batch.next_offset);
        }
        if self.sets_retained {
            recovered.retained.extend(retained_records(commit));
        }
        self.record.add(commit);
        recovered.last_commit = recovered.last_commit.max(number);
        Ok(())
    }

    /// As [`Self::take`], for a commit of an evacuated segment: its manifest says what must be there.
    fn take_copied(&mut self, recovered: &mut Recovered, commit: &Commit) {
        if self.sets_retained {
            recovered.retained.extend(retained_records(commit));
        }
        for batch in commit.batches() {
            let known = self.record.part(batch.partition);
            let from = known.map_or(batch.base_offset, |part| part.next_offset);
            if from < batch.base_offset {
                self.holes.push(LostRange {
                    partition: batch.partition,
                    from,
                    to: batch.base_offset,
                    bytes: None,
                });
            }
        }
        self.record.add(commit);
        recovered.last_commit = recovered.last_commit.max(commit.number());
    }
}

impl Recovered {
    /// Reads a segment from its first commit on and seals what can be read. If there is anything, the
    /// journal is the one at its end. `sets_retained`: whether the metadata may lack what it says of
    /// retained messages; if not, what the metadata has is as new or newer.
    pub(super) fn read_segment(
        &mut self,
        folder: &Folder,
        name: SegmentName,
        sets_retained: bool,
    ) -> Result<(), RecoveryError> {
        let database = match self.open_segment(folder, name)? {
            Ok(database) => database,
            Err(what) => return self.quarantine(folder, name, what),
        };
        let mut reading = Reading::new(name, sets_retained);
        let before = self.journal.clone();
        let manifest = match name.is_evacuated().then(|| Manifest::read(&database, name)) {
            Some(Err(error)) => {
                drop(database);
                return self.quarantine(folder, name, error.to_string());
            }
            Some(Ok(manifest)) => Some(manifest),
            None => None,
        };
        if let Some(manifest) = &manifest {
            reading.record.evacuated = manifest.record.evacuated.map(|evacuated| Evacuated {
                commits: 0,
                ..evacuated
            });
        }
        let end = segment::scan(&database, CommitNumber(0), |commit| {
            let taken = match manifest {
                Some(_) => {
                    reading.take_copied(self, &commit);
                    Ok(())
                }
                None => reading.take(self, &before, &commit),
            };
            match taken {
                Ok(()) => ControlFlow::Continue(()),
                Err(damage) => {
                    reading.damage = Some(damage);
                    ControlFlow::Break(())
                }
            }
        });
        drop(database);
        match end {
            Ok(Some(commit)) => self.events.push(RecoveryEvent::UnfinishedCommit { commit }),
            Ok(None) => {}
            Err(ScanError::Commit(error @ CommitError::Format { .. })) => {
                return Err(RecoveryError::Newer(error));
            }
            Err(error) => reading.damage = Some(error.into()),
        }
        if let Some(manifest) = manifest {
            return self.seal_copied(folder, reading, manifest);
        }
        match reading.damage {
            // The checksum was right: this is no damage, and nothing may be cut off for it.
            Some(Damage::Journal { commit, source }) if source.is_newer() => {
                Err(RecoveryError::NewerJournal { commit, source })
            }
            _ => self.seal(folder, reading),
        }
    }

    /// Seals an evacuated segment: what its manifest names and it does not have is lost.
    fn seal_copied(
        &mut self,
        folder: &Folder,
        reading: Reading,
        manifest: Manifest,
    ) -> Result<(), RecoveryError> {
        let Reading {
            name,
            mut record,
            damage,
            sets_retained,
            holes,
        } = reading;
        record.state = SegmentState::Sealed;
        for wanted in &manifest.record.partitions {
            let part = record.part(wanted.partition);
            let (base, next) = part.map_or((wanted.next_offset, wanted.next_offset), |part| {
                (part.base_offset, part.next_offset)
            });
            for (from, to) in [(wanted.base_offset, base), (next, wanted.next_offset)] {
                if from < to {
                    self.lose(LostRange {
                        partition: wanted.partition,
                        from,
                        to,
                        bytes: None,
                    });
                }
            }
        }
        if record != manifest.record {
            // Those that its sources had already are in the ledger.
            self.holes.extend(holes);
        }
        self.account_loss_before_copy(name.first, &manifest);
        self.journal = manifest.journal;
        self.journal_is_current = true;
        if record == manifest.record || self.sealed.get(&name.first) == Some(&record) {
            return self.keep_sealed(name, record, sets_retained);
        }
        let reason = damage.map_or_else(|| "commits are missing".to_owned(), |d| d.to_string());
        if record.is_empty() {
            put_aside(folder, &name.path(&folder.segments()))?;
            self.sealed.remove(&name.first);
            self.deferred.insert(name.first, None);
            let segment = name.first;
            self.events
                .push(RecoveryEvent::SegmentQuarantined { segment, reason });
            return Ok(());
        }
        self.events.push(RecoveryEvent::SegmentCut {
            segment: name.first,
            last_commit: record.last_commit,
            reason,
        });
        self.keep_sealed(name, record, sets_retained)
    }

    fn keep_sealed(
        &mut self,
        name: SegmentName,
        record: SegmentRecord,
        sets_retained: bool,
    ) -> Result<(), RecoveryError> {
        for (topic, retained) in &self.retained {
            if sets_retained && retained.commit >= record.first_commit {
                self.metadata.put_retained(topic, retained.kept())?;
            }
        }
        self.deferred.insert(name.first, Some(record.clone()));
        self.sealed.insert(name.first, record);
        Ok(())
    }

    fn seal(&mut self, folder: &Folder, reading: Reading) -> Result<(), RecoveryError> {
        let Reading {
            name,
            mut record,
            damage,
            sets_retained,
            ..
        } = reading;
        let segment = name.first;
        record.state = SegmentState::Sealed;
        let known = self.sealed.get(&segment);
        let is_as_known = known == Some(&record);
        let known_to = known.map(|known| known.last_commit);
        let short = known_to.filter(|last| record.last_commit < *last);
        // sled cuts off an end that it does not recognise, without a word.
        let short = short.map(|last| format!("the index knows of commits up to {last}"));
        let newest = self.newest_of_damaged.get(&segment);
        let newest = newest.filter(|newest| record.last_commit < **newest);
        let newest =
            newest.map(|newest| format!("it is damaged, and had commits up to {newest} in it"));
        let damage = damage.map(|damage| damage.to_string());
        let damage = damage.or(short).or(newest);
        if record.is_empty() {
            return match damage {
                Some(reason) => self.quarantine(folder, name, reason),
                // sled takes a file in which it recognises nothing for a new one.
                None if self.lost_ends == 0 && self.last_commit < self.mark.commit() => {
                    let reason = self.reason_of_empty();
                    self.quarantine(folder, name, reason)
                }
                None => self.discard_empty(folder, segment),
            };
        }
        self.journal_is_current = true;
        if let Some(reason) = damage.filter(|_| !is_as_known) {
            self.lost_ends += 1;
            self.events.push(RecoveryEvent::SegmentCut {
                segment,
                last_commit: record.last_commit,
                reason,
            });
        }
        self.keep_sealed(name, record, sets_retained)
    }

    /// It may have been made ahead of time and never written to; then what is missing is the end of the
    /// segment before it.
    fn reason_of_empty(&self) -> String {
        let durable = self.mark.commit();
        let before = self.sealed.last_key_value();
        let before = before.map_or_else(String::new, |(id, record)| {
            let last = record.last_commit;
            format!("; it, or segment {id}, which ends at commit {last}, has lost its end")
        });
        format!("it is empty, but commit {durable} was durable{before}")
    }

    fn discard_empty(&self, folder: &Folder, segment: SegmentId) -> Result<(), RecoveryError> {
        // In this order: an entry without a directory would count as a loss.
        self.metadata.remove_segment(segment)?;
        self.metadata.flush()?;
        let path = SegmentName::written(segment).path(&folder.segments());
        remove_directory(&path).map_err(io_error("remove", &path))
    }
}
