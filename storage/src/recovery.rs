//! What is done when a data folder is opened: repair, read what was not sealed, put the rest aside.
//!
//! It always ends with a folder that can be written to, but for a machine that gives no files or no
//! space. What it found is told in [`RecoveryEvent`]s. `docs/storage-format.md` has the procedure.
//!
//! Invariants: nothing readable is thrown away; what is lost is in the result as a gap or as a lost
//! end; only segments that were not sealed are read, so that it does not matter how old the log is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::commit::{Commit, CommitError};
use crate::database::{self, DatabaseError, Purpose};
use crate::durable_file::{remove_directory, sync_directory};
use crate::folder::Folder;
use crate::ids::{CommitNumber, LogPartition, Offset, SegmentId};
use crate::journal::{self, JournalError, JournalState, Operation};
use crate::mark::Mark;
use crate::metadata::{Metadata, MetadataError, RetainedRecord, SegmentRecord, SegmentState};
use crate::retained::retained_records;
use crate::segment::{self, ScanError};

/// Something out of the ordinary that happened while the folder was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryEvent {
    /// The metadata could not be opened; it was put aside and made again from the segments.
    MetadataQuarantined {
        /// What sled said.
        reason: String,
    },
    /// A segment could not be opened and was put aside.
    SegmentQuarantined {
        /// Which.
        segment: SegmentId,
        /// What sled said.
        reason: String,
    },
    /// A segment can be read up to a damaged place and is used up to there.
    SegmentCut {
        /// Which.
        segment: SegmentId,
        /// The last commit before the damage.
        last_commit: CommitNumber,
        /// What is wrong after it.
        reason: String,
    },
    /// The directory of a segment that should be there is gone.
    SegmentMissing {
        /// Which.
        segment: SegmentId,
    },
    /// Commits at the end of the log are gone although they were durable.
    EndLost {
        /// The last commit that can be read.
        last_commit: CommitNumber,
        /// A later one that had been durable.
        durable: CommitNumber,
    },
    /// The last commit was being written when the process ended; nobody had been promised anything.
    UnfinishedCommit {
        /// Which.
        commit: CommitNumber,
    },
}

impl fmt::Display for RecoveryEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MetadataQuarantined { reason } => {
                write!(
                    f,
                    "metadata was put into quarantine and made again from the log: {reason}"
                )
            }
            Self::SegmentQuarantined { segment, reason } => {
                write!(f, "segment {segment} was put into quarantine: {reason}")
            }
            Self::SegmentCut {
                segment,
                last_commit,
                reason,
            } => {
                write!(
                    f,
                    "segment {segment} ends at commit {last_commit}: {reason}"
                )
            }
            Self::SegmentMissing { segment } => write!(f, "segment {segment} is missing"),
            Self::EndLost {
                last_commit,
                durable,
            } => {
                write!(
                    f,
                    "the log ends at commit {last_commit} although commit {durable} was durable"
                )
            }
            Self::UnfinishedCommit { commit } => {
                write!(f, "commit {commit} was not finished and is left out")
            }
        }
    }
}

/// Records that are known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LostRange {
    pub(crate) partition: LogPartition,
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    pub(crate) bytes: Option<u64>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) metadata: Metadata,
    pub(crate) mark: Mark,
    pub(crate) sealed: BTreeMap<SegmentId, SegmentRecord>,
    /// Id of the next segment to make.
    pub(crate) next_segment: SegmentId,
    pub(crate) journal: JournalState,
    /// Whether `journal` is the state at the end of the last segment that was looked at.
    journal_is_current: bool,
    pub(crate) last_commit: CommitNumber,
    pub(crate) retained: BTreeMap<Bytes, RetainedRecord>,
    /// Ranges that are gone for good.
    pub(crate) lost: Vec<LostRange>,
    /// How many segments at the end of the log were lost, or cut: the end is not proven.
    pub(crate) lost_ends: u32,
    /// Changes of the index that must wait until the losses are written down: until then they are
    /// the proof of them. `None` removes the segment.
    pub(crate) deferred: Vec<(SegmentId, Option<SegmentRecord>)>,
    pub(crate) events: Vec<RecoveryEvent>,
}

/// The folder cannot be opened now.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A database cannot be opened or made, for reasons of the machine.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The metadata cannot be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Directories cannot be read or moved.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A commit of a later version.
    #[error(transparent)]
    Newer(CommitError),
    /// A journal of a later version.
    #[error("commit {commit}")]
    NewerJournal {
        /// The commit that carries it.
        commit: CommitNumber,
        /// Which version it is.
        source: JournalError,
    },
}

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

/// Opens the metadata and reads all that was not sealed.
pub(crate) fn recover(folder: &Folder) -> Result<Recovered, RecoveryError> {
    let mut events = Vec::new();
    let mark = Mark::open(&folder.mark()).map_err(io_error("open", &folder.mark()))?;
    let metadata = open_metadata(folder, &mut events)?;
    let mut retained = BTreeMap::new();
    for entry in metadata.retained() {
        let (topic, record) = entry?;
        retained.insert(topic, record);
    }
    let mut recovered = Recovered {
        metadata,
        mark,
        sealed: BTreeMap::new(),
        next_segment: SegmentId(1),
        journal: JournalState::default(),
        journal_is_current: true,
        last_commit: CommitNumber(0),
        retained,
        lost: Vec::new(),
        lost_ends: 0,
        deferred: Vec::new(),
        events,
    };
    let found = recovered.find_segments(folder)?;
    if let Some(last) = found.keys().next_back() {
        recovered.next_segment = SegmentId(last.0 + 1);
    }
    let mut in_doubt = false;
    for (id, found) in found {
        match found {
            Found::Missing(record) => recovered.note_missing(folder, id, &record)?,
            Found::Sealed(record) if recovered.lost_ends == 0 && !in_doubt => {
                recovered.last_commit = recovered.last_commit.max(record.last_commit);
                recovered.sealed.insert(id, record);
                recovered.journal_is_current = false;
            }
            Found::Sealed(_) => recovered.read_segment(folder, id)?,
            Found::Unsealed => {
                recovered.read_segment(folder, id)?;
                // What it sets or clears in the metadata, later segments may have changed since: all
                // of them are read, in order.
                in_doubt |= recovered.sealed.contains_key(&id);
            }
        }
    }
    recovered.catch_up_journal(folder)?;
    recovered.compare_with_mark();
    recovered.metadata.flush()?;
    Ok(recovered)
}

/// A segment of which the index or a directory tells.
enum Found {
    /// In the index, but not on the flash.
    Missing(SegmentRecord),
    Sealed(SegmentRecord),
    Unsealed,
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> RecoveryError + 'a {
    move |source| RecoveryError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn open_metadata(
    folder: &Folder,
    events: &mut Vec<RecoveryEvent>,
) -> Result<Metadata, RecoveryError> {
    let path = folder.metadata();
    let database = if path.exists() {
        match database::open(&path, Purpose::Metadata) {
            Err(DatabaseError::Damaged { what, .. }) => {
                put_aside(folder, &path)?;
                events.push(RecoveryEvent::MetadataQuarantined { reason: what });
                database::create(&path, Purpose::Metadata)?
            }
            opened => opened?,
        }
    } else {
        database::create(&path, Purpose::Metadata)?
    };
    let metadata = Metadata::new(database)?;
    metadata.verify_fence().map_err(DatabaseError::Fence)?;
    Ok(metadata)
}

/// Moves a directory into quarantine, under its name or one like it that is free there.
pub(crate) fn put_aside(folder: &Folder, path: &Path) -> Result<(), RecoveryError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    put_aside_as(folder, path, &name)
}

/// As [`put_aside`], under `name` or one like it.
pub(crate) fn put_aside_as(folder: &Folder, path: &Path, name: &str) -> Result<(), RecoveryError> {
    let quarantine = folder.quarantine();
    let names = std::iter::once(name.to_owned()).chain((1_u32..).map(|n| format!("{name}.{n}")));
    let target = names
        .map(|name| quarantine.join(name))
        .find(|target| !target.exists());
    let target = target.unwrap_or_else(|| quarantine.join(name));
    fs::rename(path, &target).map_err(io_error("put into quarantine", path))?;
    for directory in [Some(quarantine.as_path()), path.parent()]
        .into_iter()
        .flatten()
    {
        sync_directory(directory).map_err(io_error("sync", directory))?;
    }
    Ok(())
}

impl Recovered {
    /// Compares the index with the directories.
    fn find_segments(&self, folder: &Folder) -> Result<BTreeMap<SegmentId, Found>, RecoveryError> {
        let path = folder.segments();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&path).map_err(io_error("read", &path))? {
            let entry = entry.map_err(io_error("read", &path))?;
            if let Some(id) = segment::id_of(&entry.file_name().to_string_lossy()) {
                found.insert(id, Found::Unsealed);
            }
        }
        for (id, record) in self.metadata.segments()? {
            match (record.state, found.contains_key(&id)) {
                (SegmentState::Deleting, _) => {
                    let path = segment::path(&path, id);
                    remove_directory(&path).map_err(io_error("remove", &path))?;
                    self.metadata.remove_segment(id)?;
                    found.remove(&id);
                }
                (SegmentState::Sealed, true) => {
                    found.insert(id, Found::Sealed(record));
                }
                (SegmentState::Created, true) => {}
                (SegmentState::Created | SegmentState::Sealed, false) => {
                    found.insert(id, Found::Missing(record));
                }
            }
        }
        Ok(found)
    }

    /// Notices an end that sled has cut off without a word.
    fn compare_with_mark(&mut self) {
        let (last_commit, durable) = (self.last_commit, self.mark.commit());
        if last_commit < durable && self.lost_ends == 0 {
            self.lost_ends = 1;
            self.events.push(RecoveryEvent::EndLost {
                last_commit,
                durable,
            });
        }
    }

    /// Reads the journal of the newest sealed segment, if that was not done.
    fn catch_up_journal(&mut self, folder: &Folder) -> Result<(), RecoveryError> {
        if !self.journal_is_current
            && let Some(newest) = self.sealed.keys().next_back().copied()
        {
            // What it begins with says nothing of losses after it.
            let lost_ends = std::mem::take(&mut self.lost_ends);
            self.read_segment(folder, newest)?;
            self.lost_ends += lost_ends;
        }
        Ok(())
    }

    fn note_missing(
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

    fn lose_parts(&mut self, record: &SegmentRecord) {
        for part in &record.partitions {
            self.lost.push(LostRange {
                partition: part.partition,
                from: part.base_offset,
                to: part.next_offset,
                bytes: Some(part.bytes),
            });
        }
    }

    /// Reads a segment from its first commit on and seals what can be read. If there is anything, the
    /// journal is the one at its end.
    fn read_segment(&mut self, folder: &Folder, id: SegmentId) -> Result<(), RecoveryError> {
        let path = segment::path(&folder.segments(), id);
        let database = match database::open(&path, Purpose::Segment) {
            Ok(database) => database,
            Err(DatabaseError::Damaged { what, .. }) => {
                return self.quarantine(folder, id, what);
            }
            Err(error) => return Err(error.into()),
        };
        let mut reading = Reading {
            segment: id,
            record: SegmentRecord::created(),
            damage: None,
        };
        let before = self.journal.clone();
        let end = segment::scan(&database, CommitNumber(0), |commit| {
            match reading.take(self, &before, &commit) {
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
        match reading.damage {
            // The checksum was right: this is no damage, and nothing may be cut off for it.
            Some(Damage::Journal { commit, source }) if source.is_newer() => {
                Err(RecoveryError::NewerJournal { commit, source })
            }
            _ => self.seal(folder, reading),
        }
    }

    fn seal(&mut self, folder: &Folder, reading: Reading) -> Result<(), RecoveryError> {
        let Reading {
            segment,
            mut record,
            damage,
        } = reading;
        if record.is_empty() {
            return match damage {
                Some(damage) => self.quarantine(folder, segment, damage.to_string()),
                // sled takes a file in which it recognises nothing for a new one.
                None if self.lost_ends == 0 && self.last_commit < self.mark.commit() => {
                    let reason = format!("it is empty, but {} was durable", self.mark.commit());
                    self.quarantine(folder, segment, reason)
                }
                None => self.discard_empty(folder, segment),
            };
        }
        self.journal_is_current = true;
        record.state = SegmentState::Sealed;
        if let Some(damage) = damage {
            self.lost_ends += 1;
            self.events.push(RecoveryEvent::SegmentCut {
                segment,
                last_commit: record.last_commit,
                reason: damage.to_string(),
            });
            self.deferred.push((segment, Some(record.clone())));
            self.sealed.insert(segment, record);
            return Ok(());
        }
        for (topic, retained) in &self.retained {
            if retained.commit >= record.first_commit {
                self.metadata.put_retained(topic, retained.kept())?;
            }
        }
        self.metadata.put_segment(segment, &record)?;
        self.sealed.insert(segment, record);
        Ok(())
    }

    fn quarantine(
        &mut self,
        folder: &Folder,
        segment: SegmentId,
        reason: String,
    ) -> Result<(), RecoveryError> {
        put_aside(folder, &segment::path(&folder.segments(), segment))?;
        if let Some(record) = self.sealed.remove(&segment) {
            self.lose_parts(&record);
        }
        self.catch_up_journal(folder)?;
        self.deferred.push((segment, None));
        self.lost_ends += 1;
        self.events
            .push(RecoveryEvent::SegmentQuarantined { segment, reason });
        Ok(())
    }

    fn discard_empty(&self, folder: &Folder, segment: SegmentId) -> Result<(), RecoveryError> {
        // In this order: an entry without a directory would count as a loss.
        self.metadata.remove_segment(segment)?;
        self.metadata.flush()?;
        let path = segment::path(&folder.segments(), segment);
        remove_directory(&path).map_err(io_error("remove", &path))
    }

    /// A segment after a loss begins: what it knows of the partitions says what is missing.
    fn account_loss(&mut self, before: &JournalState) {
        if self.lost_ends == 0 {
            return;
        }
        self.lost_ends = 0;
        for state in self.journal.partition_states() {
            let (from, to) = (before.ends(state.partition).next_offset, state.next_offset);
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
}

/// A segment while it is read.
struct Reading {
    segment: SegmentId,
    record: SegmentRecord,
    damage: Option<Damage>,
}

impl Reading {
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
                Some(Operation::Snapshot(snapshot)) if snapshot.segment == self.segment);
            if !begins {
                return Err(Damage::NoSnapshot);
            }
        }
        for operation in operations {
            let is_snapshot = matches!(operation, Operation::Snapshot(_));
            recovered.journal.apply(operation);
            if is_snapshot {
                recovered.account_loss(before);
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
        for (topic, record) in retained_records(commit) {
            recovered.retained.insert(topic, record);
        }
        self.record.add(commit);
        recovered.last_commit = recovered.last_commit.max(number);
        Ok(())
    }
}
