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
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::commit::{Commit, CommitError};
use crate::database::{self, DatabaseError, Purpose};
use crate::durable_file::{remove_directory, sync_directory};
use crate::evacuated::Manifest;
use crate::fence::FenceError;
use crate::folder::Folder;
use crate::ids::{CommitNumber, LogPartition, Offset, SegmentId};
use crate::journal::{self, JournalError, JournalState, Operation};
use crate::mark::Mark;
use crate::metadata::{Metadata, MetadataError, RetainedRecord, SegmentRecord, SegmentState};
use crate::retained::retained_records;
use crate::segment::{self, ScanError};
use crate::segment_name::SegmentName;
use crate::segment_record::Evacuated;

/// Something out of the ordinary that happened while the folder was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryEvent {
    /// The metadata could not be opened; it was put aside and made again from the segments.
    MetadataQuarantined {
        /// What sled said.
        reason: String,
    },
    /// The metadata was empty or not there; it was made again from the segments.
    MetadataMissing,
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

impl RecoveryEvent {
    /// The kinds of events, one word each, for labels of metrics.
    pub const KINDS: [&str; 7] = [
        "metadata_missing",
        "metadata_quarantined",
        "segment_quarantined",
        "segment_cut",
        "segment_missing",
        "end_lost",
        "unfinished_commit",
    ];

    /// Which of [`Self::KINDS`] it is.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::MetadataMissing => "metadata_missing",
            Self::MetadataQuarantined { .. } => "metadata_quarantined",
            Self::SegmentQuarantined { .. } => "segment_quarantined",
            Self::SegmentCut { .. } => "segment_cut",
            Self::SegmentMissing { .. } => "segment_missing",
            Self::EndLost { .. } => "end_lost",
            Self::UnfinishedCommit { .. } => "unfinished_commit",
        }
    }
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
            Self::MetadataMissing => {
                f.write_str("metadata was missing and was made again from the log")
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
    if folder.mark().is_dir() {
        put_aside(folder, &folder.mark())?;
    }
    let mark = Mark::open(&folder.mark()).map_err(io_error("open", &folder.mark()))?;
    let (metadata, retained) = open_metadata(folder, &mut events)?;
    tracing::debug!(target: "start", step = "metadata", "Start goes on.");
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
    let has_index = !recovered.metadata.segments()?.is_empty();
    let found = recovered.find_segments(folder)?;
    tracing::debug!(target: "start", step = "index", "Start goes on.");
    if let Some(last) = found.keys().next_back() {
        recovered.next_segment = SegmentId(last.0 + 1);
    }
    for found in found.values() {
        let last = match found {
            Found::Evacuated(name) => name.last,
            Found::Sealed(record) | Found::Missing(record) => record
                .evacuated
                .map_or(SegmentId(0), |evacuated| evacuated.last),
            Found::Unsealed => SegmentId(0),
        };
        recovered.next_segment = recovered.next_segment.max(SegmentId(last.0 + 1));
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
            Found::Sealed(record) => {
                recovered.read_segment(folder, record.name(id), in_doubt)?;
            }
            Found::Evacuated(name) => recovered.read_segment(folder, name, true)?,
            Found::Unsealed => {
                recovered.read_segment(folder, SegmentName::written(id), true)?;
                // What it sets or clears in the metadata, later segments may have changed since: all
                // of them are read, in order.
                in_doubt |= recovered.sealed.contains_key(&id);
            }
        }
    }
    recovered.catch_up_journal(folder)?;
    tracing::debug!(target: "start", step = "segments", "Start goes on.");
    recovered.compare_with_mark();
    recovered.forget_what_retention_took();
    let told = |event: &RecoveryEvent| matches!(event, RecoveryEvent::MetadataQuarantined { .. });
    if !has_index && !recovered.sealed.is_empty() && !recovered.events.iter().any(told) {
        recovered.events.push(RecoveryEvent::MetadataMissing);
    }
    recovered.metadata.flush()?;
    Ok(recovered)
}

/// A segment of which the index or a directory tells.
enum Found {
    /// In the index, but not on the flash.
    Missing(SegmentRecord),
    Sealed(SegmentRecord),
    Unsealed,
    /// Made of others, and the index knows nothing of it or them.
    Evacuated(SegmentName),
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

/// Retained messages by topic.
type Retained = BTreeMap<Bytes, RetainedRecord>;

/// The manifest of an evacuated segment, or why it cannot be read.
fn read_manifest(
    folder: &Folder,
    name: SegmentName,
) -> Result<Result<Manifest, String>, RecoveryError> {
    match database::open(&name.path(&folder.segments()), Purpose::Segment) {
        Ok(database) => Ok(Manifest::read(&database, name).map_err(|error| error.to_string())),
        Err(DatabaseError::Damaged { what, .. }) => Ok(Err(what)),
        Err(error) => Err(error.into()),
    }
}

fn open_metadata(
    folder: &Folder,
    events: &mut Vec<RecoveryEvent>,
) -> Result<(Metadata, Retained), RecoveryError> {
    let path = folder.metadata();
    if path.is_dir() {
        match open_and_read_metadata(&path) {
            Err(RecoveryError::Database(DatabaseError::Damaged { what, .. })) => {
                put_aside(folder, &path)?;
                events.push(RecoveryEvent::MetadataQuarantined { reason: what });
            }
            read => return read,
        }
    } else if path.exists() {
        put_aside(folder, &path)?;
        let reason = "it is no directory".to_owned();
        events.push(RecoveryEvent::MetadataQuarantined { reason });
    }
    let metadata = Metadata::new(database::create(&path, Purpose::Metadata)?)?;
    metadata.verify_fence().map_err(DatabaseError::Fence)?;
    Ok((metadata, Retained::new()))
}

/// Opens the metadata and reads all of it once: sled opens many a database of which it cannot read
/// every page, and panics at some.
fn open_and_read_metadata(path: &Path) -> Result<(Metadata, Retained), RecoveryError> {
    let database = database::open(path, Purpose::Metadata)?;
    let read = panic::catch_unwind(AssertUnwindSafe(|| {
        let metadata = Metadata::new(database)?;
        metadata.verify_fence().map_err(DatabaseError::Fence)?;
        let retained = metadata.retained().collect::<Result<_, _>>()?;
        metadata.segments()?;
        Ok((metadata, retained))
    }));
    let damaged = |what: String| {
        let path = path.to_owned();
        Err(DatabaseError::Damaged { path, what }.into())
    };
    match read {
        Ok(Err(RecoveryError::Metadata(MetadataError::Database(error))))
        | Ok(Err(RecoveryError::Database(DatabaseError::Fence(FenceError::Database(error)))))
            if !database::is_of_the_machine(&error) =>
        {
            damaged(error.to_string())
        }
        Ok(read) => read,
        Err(_) => damaged("sled panicked when it was read".to_owned()),
    }
}

/// Moves a directory, or what is in its place, into quarantine, under its name or one like it that is free there.
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
    fn find_segments(
        &mut self,
        folder: &Folder,
    ) -> Result<BTreeMap<SegmentId, Found>, RecoveryError> {
        let path = folder.segments();
        let records = self.metadata.segments()?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(io_error("read", &path))? {
            let entry = entry.map_err(io_error("read", &path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if SegmentName::parse(&name)
                .or_else(|| SegmentName::parse_unfinished(&name))
                .is_none()
            {
                continue;
            }
            if !path.is_dir() {
                // The index knows whether a segment is missing here.
                put_aside(folder, &path)?;
                continue;
            }
            if SegmentName::parse_unfinished(&name).is_some() {
                remove_directory(&path).map_err(io_error("remove", &path))?;
            }
            names.extend(SegmentName::parse(&name));
        }
        let (mut found, covered) = self.find_evacuated(folder, &records, &mut names)?;
        for name in names {
            let state = if name.is_evacuated() {
                Found::Evacuated(name)
            } else {
                Found::Unsealed
            };
            found.entry(name.first).or_insert(state);
        }
        for (id, record) in records {
            if covered.iter().any(|name| name.covers(id)) {
                continue;
            }
            let name = match found.get(&id) {
                Some(Found::Evacuated(name)) => Some(*name),
                Some(_) => Some(SegmentName::written(id)),
                None => None,
            };
            let is_there = name == Some(record.name(id));
            match record.state {
                SegmentState::Deleting => {
                    let path = record.name(id).path(&path);
                    remove_directory(&path).map_err(io_error("remove", &path))?;
                    self.metadata.remove_segment(id)?;
                    if is_there {
                        found.remove(&id);
                    }
                }
                SegmentState::Sealed if is_there => {
                    found.insert(id, Found::Sealed(record));
                }
                // What is there under another name is read.
                SegmentState::Created | SegmentState::Sealed if name.is_some() => {}
                SegmentState::Created | SegmentState::Sealed => {
                    found.insert(id, Found::Missing(record));
                }
            }
        }
        Ok(found)
    }

    /// Finds the evacuated segments of which the index does not know yet, while it still knows those
    /// that they were made of, or of which leftovers are there: they take their places. `names` loses
    /// what is superseded. Returns also the names whose records in the index are settled.
    fn find_evacuated(
        &mut self,
        folder: &Folder,
        records: &[(SegmentId, SegmentRecord)],
        names: &mut Vec<SegmentName>,
    ) -> Result<(BTreeMap<SegmentId, Found>, Vec<SegmentName>), RecoveryError> {
        let (mut found, mut settled) = (BTreeMap::new(), Vec::new());
        let mut evacuated: Vec<_> = names.iter().copied().filter(|n| n.is_evacuated()).collect();
        evacuated.sort_by_key(|name| std::cmp::Reverse(name.generation));
        for name in evacuated {
            let superseded: Vec<_> = names
                .iter()
                .copied()
                .filter(|other| name.supersedes(*other))
                .collect();
            let in_index = |(id, record): &&(SegmentId, SegmentRecord)| {
                record.name(*id) == name && record.state != SegmentState::Created
            };
            let known = records
                .iter()
                .find(in_index)
                .map(|(_, record)| record.clone());
            let covered: Vec<_> = records.iter().filter(|(id, _)| name.covers(*id)).collect();
            let is_settled = known.is_some() && covered.len() == 1 && superseded.is_empty();
            let is_unknown = covered.is_empty() && superseded.is_empty();
            if !names.contains(&name) || is_settled || is_unknown {
                continue;
            }
            let (is_switched, record) = match known {
                Some(record) => (true, record),
                None => match read_manifest(folder, name)? {
                    Ok(manifest) => (false, manifest.record),
                    // What it was made of is better than a copy that cannot be read.
                    Err(reason) if !superseded.is_empty() => {
                        put_aside(folder, &name.path(&folder.segments()))?;
                        let segment = name.first;
                        self.events
                            .push(RecoveryEvent::SegmentQuarantined { segment, reason });
                        names.retain(|other| *other != name);
                        continue;
                    }
                    Err(_) => continue,
                },
            };
            let is_deleting = record.state == SegmentState::Deleting;
            if !covered.is_empty() && !is_switched {
                self.metadata.put_segment(name.first, &record)?;
                self.metadata.flush()?;
            }
            for (id, _) in covered.iter().filter(|(id, _)| *id != name.first) {
                self.metadata.remove_segment(*id)?;
            }
            self.metadata.flush()?;
            for other in superseded {
                let path = other.path(&folder.segments());
                remove_directory(&path).map_err(io_error("remove", &path))?;
                names.retain(|name| *name != other);
            }
            tracing::info!(segment = %name, "Evacuation of a segment was completed.");
            if !covered.is_empty() && !is_deleting {
                found.insert(name.first, Found::Sealed(record));
                settled.push(name);
            }
        }
        Ok((found, settled))
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

    /// An index that fell back to an earlier state names segments that retention had removed.
    fn forget_what_retention_took(&mut self) {
        for lost in &mut self.lost {
            let log_start = self.journal.ends(lost.partition).log_start;
            if lost.from < log_start {
                (lost.from, lost.bytes) = (log_start, None);
            }
        }
        self.lost.retain(|lost| lost.from < lost.to);
    }

    /// Reads the journal of the newest sealed segment, if that was not done.
    fn catch_up_journal(&mut self, folder: &Folder) -> Result<(), RecoveryError> {
        if !self.journal_is_current
            && let Some((id, record)) = self.sealed.last_key_value()
        {
            let newest = record.name(*id);
            // What it begins with says nothing of losses after it.
            let lost_ends = std::mem::take(&mut self.lost_ends);
            self.read_segment(folder, newest, false)?;
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
    /// journal is the one at its end. `sets_retained`: whether the metadata may lack what it says of
    /// retained messages; if not, what the metadata has is as new or newer.
    fn read_segment(
        &mut self,
        folder: &Folder,
        name: SegmentName,
        sets_retained: bool,
    ) -> Result<(), RecoveryError> {
        let path = name.path(&folder.segments());
        let database = match database::open(&path, Purpose::Segment) {
            Ok(database) => database,
            Err(DatabaseError::Damaged { what, .. }) => {
                return self.quarantine(folder, name, what);
            }
            Err(error) => return Err(error.into()),
        };
        let mut reading = Reading {
            name,
            record: SegmentRecord::created(),
            damage: None,
            sets_retained,
        };
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
        } = reading;
        record.state = SegmentState::Sealed;
        for wanted in &manifest.record.partitions {
            let from = record
                .part(wanted.partition)
                .map_or(wanted.base_offset, |part| part.next_offset);
            if from < wanted.next_offset {
                self.lost.push(LostRange {
                    partition: wanted.partition,
                    from,
                    to: wanted.next_offset,
                    bytes: None,
                });
            }
        }
        if self.lost_ends > 0 {
            self.account_loss_before(&manifest);
        }
        self.journal = manifest.journal;
        self.journal_is_current = true;
        if record == manifest.record {
            return self.keep_sealed(name, record, sets_retained);
        }
        let reason = damage.map_or_else(|| "commits are missing".to_owned(), |d| d.to_string());
        if record.is_empty() {
            put_aside(folder, &name.path(&folder.segments()))?;
            self.sealed.remove(&name.first);
            self.deferred.push((name.first, None));
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
        self.deferred.push((name.first, Some(record.clone())));
        self.sealed.insert(name.first, record);
        Ok(())
    }

    /// What was lost before an evacuated segment ends where that begins; what retention took is not
    /// lost.
    fn account_loss_before(&mut self, manifest: &Manifest) {
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
        self.metadata.put_segment(name.first, &record)?;
        self.sealed.insert(name.first, record);
        Ok(())
    }

    fn seal(&mut self, folder: &Folder, reading: Reading) -> Result<(), RecoveryError> {
        let Reading {
            name,
            mut record,
            damage,
            sets_retained,
        } = reading;
        let segment = name.first;
        if record.is_empty() {
            return match damage {
                Some(damage) => self.quarantine(folder, name, damage.to_string()),
                // sled takes a file in which it recognises nothing for a new one.
                None if self.lost_ends == 0 && self.last_commit < self.mark.commit() => {
                    let reason = format!("it is empty, but {} was durable", self.mark.commit());
                    self.quarantine(folder, name, reason)
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
        self.keep_sealed(name, record, sets_retained)
    }

    fn quarantine(
        &mut self,
        folder: &Folder,
        name: SegmentName,
        reason: String,
    ) -> Result<(), RecoveryError> {
        put_aside(folder, &name.path(&folder.segments()))?;
        let segment = name.first;
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
        let path = SegmentName::written(segment).path(&folder.segments());
        remove_directory(&path).map_err(io_error("remove", &path))
    }

    /// A segment after a loss begins: what it knows of the partitions says what is missing.
    fn account_loss(&mut self, before: &JournalState) {
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
}

/// A segment while it is read.
struct Reading {
    name: SegmentName,
    record: SegmentRecord,
    damage: Option<Damage>,
    sets_retained: bool,
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
                Some(Operation::Snapshot(snapshot)) if snapshot.segment == self.name.first);
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
        self.record.add(commit);
        recovered.last_commit = recovered.last_commit.max(commit.number());
    }
}
