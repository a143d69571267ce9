//! What is done when a data folder is opened: repair, read what was not sealed, put the rest aside.
//!
//! It always ends with a folder that can be written to, but for a machine that gives no files or no
//! space. What it found is told in [`RecoveryEvent`]s. `docs/storage-format.md` has the procedure.
//!
//! Invariants: nothing readable is thrown away; what is lost is in the result as a gap or as a lost
//! end; only segments that were not sealed are read, so that it does not matter how old the log is.

mod events;
mod inventory;
mod loss;
mod metadata;
mod quarantine;
mod reading;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::cold::ColdLoss;
use crate::commit::CommitError;
use crate::database::DatabaseError;
use crate::folder::Folder;
use crate::guard::{self, Room};
use crate::ids::{CommitNumber, SegmentId};
use crate::journal::{JournalError, JournalState};
use crate::mark::Mark;
use crate::metadata::{Metadata, MetadataError, RetainedRecord, SegmentRecord};
use crate::segment_name::SegmentName;
use crate::store::OpeningProgress;

pub use events::RecoveryEvent;
use inventory::Found;
pub(crate) use loss::LostRange;
use metadata::open_metadata;
pub(crate) use quarantine::{put_aside, put_aside_as};

/// What was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) metadata: Metadata,
    pub(crate) mark: Mark,
    room: Room,
    pub(crate) sealed: BTreeMap<SegmentId, SegmentRecord>,
    /// The newest commit that was whole in each segment that was found damaged, before sled opened it.
    newest_of_damaged: BTreeMap<SegmentId, CommitNumber>,
    /// Id of the next segment to make.
    pub(crate) next_segment: SegmentId,
    pub(crate) journal: JournalState,
    /// Whether `journal` is the state at the end of the last segment that was looked at.
    journal_is_current: bool,
    pub(crate) last_commit: CommitNumber,
    pub(crate) retained: BTreeMap<Bytes, RetainedRecord>,
    /// Ranges that are gone for good.
    pub(crate) lost: Vec<LostRange>,
    /// Ranges that are missing inside an evacuated segment.
    holes: Vec<LostRange>,
    /// Ranges that nothing explains but a segment that ends too early: the last one before them.
    unexplained: Vec<(Option<SegmentId>, LostRange)>,
    /// How many segments at the end of the log were lost, or cut: the end is not proven.
    pub(crate) lost_ends: u32,
    /// Changes of the index; `None` removes the segment. If anything was lost, they must wait until
    /// that is written down: until then the index is the proof of it.
    pub(crate) deferred: BTreeMap<SegmentId, Option<SegmentRecord>>,
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

/// Opens the metadata and reads all that was not sealed. `room`: what copies of damaged segments leave;
/// `progress` is told how far it has come.
pub(crate) fn recover(
    folder: &Folder,
    room: Room,
    progress: &OpeningProgress,
) -> Result<Recovered, RecoveryError> {
    let mut events = Vec::new();
    let quarantine = folder.quarantine();
    guard::remove_unfinished(&quarantine).map_err(io_error("clear", &quarantine))?;
    if folder.mark().is_dir() {
        put_aside(folder, &folder.mark())?;
    }
    let (mark, mark_is_whole) = open_mark(folder)?;
    let (metadata, retained) = open_metadata(folder, &mut events)?;
    tracing::debug!(target: "start", step = "metadata", "Start goes on.");
    progress.step();
    let mut recovered = Recovered {
        metadata,
        mark,
        room,
        sealed: BTreeMap::new(),
        newest_of_damaged: BTreeMap::new(),
        next_segment: SegmentId(1),
        journal: JournalState::default(),
        journal_is_current: true,
        last_commit: CommitNumber(0),
        retained,
        lost: Vec::new(),
        holes: Vec::new(),
        unexplained: Vec::new(),
        lost_ends: 0,
        deferred: BTreeMap::new(),
        events,
    };
    let has_index = !recovered.metadata.segments()?.is_empty();
    let found = recovered.find_segments(folder)?;
    tracing::debug!(target: "start", step = "index", "Start goes on.");
    recovered.next_segment = next_after(&found);
    recovered.read_all(folder, found, progress)?;
    recovered.catch_up_journal(folder)?;
    progress.end_segments();
    tracing::debug!(target: "start", step = "segments", "Start goes on.");
    recovered.compare_with_mark(mark_is_whole);
    recovered.settle_losses();
    recovered.settle_index()?;
    if recovered.last_commit == CommitNumber(0) && !mark_is_whole {
        let path = folder.mark();
        recovered
            .mark
            .begin(&path)
            .map_err(io_error("write", &path))?;
    }
    let told = |event: &RecoveryEvent| matches!(event, RecoveryEvent::MetadataQuarantined { .. });
    if !has_index && !recovered.sealed.is_empty() && !recovered.events.iter().any(told) {
        recovered.events.push(RecoveryEvent::MetadataMissing);
    }
    recovered.settle_cold()?;
    recovered.metadata.flush()?;
    Ok(recovered)
}

/// Opens MARK, and whether it was there and whole; one that the card cannot read any more is put aside.
fn open_mark(folder: &Folder) -> Result<(Mark, bool), RecoveryError> {
    let path = folder.mark();
    match Mark::open(&path) {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => {
            tracing::warn!(%error, "MARK cannot be read; it is put aside.");
            put_aside(folder, &path)?;
            Mark::open(&path)
        }
        opened => opened,
    }
    .map_err(io_error("open", &path))
}

/// The id that no segment has had, nor one of those that an evacuated one stands for.
fn next_after(found: &BTreeMap<SegmentId, Found>) -> SegmentId {
    let last = found.iter().map(|(id, found)| {
        let stands_for = match found {
            Found::Evacuated(name) => name.last,
            Found::Sealed(record) | Found::Missing(record) => record
                .evacuated
                .map_or(SegmentId(0), |evacuated| evacuated.last),
            Found::Unsealed => SegmentId(0),
        };
        stands_for.max(*id)
    });
    SegmentId(last.max().map_or(1, |last| last.0 + 1))
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

impl Recovered {
    /// Reads, from old to new, every segment of which the index does not say for certain what is in it.
    fn read_all(
        &mut self,
        folder: &Folder,
        found: BTreeMap<SegmentId, Found>,
        progress: &OpeningProgress,
    ) -> Result<(), RecoveryError> {
        let mut in_doubt = false;
        progress.begin_segments(found.len());
        for (id, found) in found {
            progress.next_segment();
            match found {
                Found::Missing(record) => self.note_missing(folder, id, &record)?,
                Found::Sealed(record) if self.lost_ends == 0 && !in_doubt => {
                    self.last_commit = self.last_commit.max(record.last_commit);
                    self.sealed.insert(id, record);
                    self.journal_is_current = false;
                }
                Found::Sealed(record) => {
                    self.read_segment(folder, record.name(id), in_doubt)?;
                }
                Found::Evacuated(_) | Found::Unsealed => {
                    let name = match found {
                        Found::Evacuated(name) => name,
                        _ => SegmentName::written(id),
                    };
                    self.read_segment(folder, name, true)?;
                    // What it sets or clears in the metadata, later segments may have changed since: all
                    // of them are read, in order.
                    in_doubt |= self.sealed.contains_key(&id);
                }
            }
        }
        Ok(())
    }

    /// Reads the journal of the newest sealed segment, if that was not done.
    fn catch_up_journal(&mut self, folder: &Folder) -> Result<(), RecoveryError> {
        if self.journal_is_current {
            return Ok(());
        }
        let Some((id, record)) = self.sealed.last_key_value() else {
            self.journal_is_current = true;
            return Ok(());
        };
        let newest = record.name(*id);
        // What it begins with says nothing of losses after it.
        let lost_ends = std::mem::take(&mut self.lost_ends);
        self.read_segment(folder, newest, false)?;
        self.lost_ends += lost_ends;
        Ok(())
    }

    /// Compares the home of cold entries with what the journal says of it.
    fn settle_cold(&mut self) -> Result<(), RecoveryError> {
        let cold = &self.metadata.cold;
        if let Some(ColdLoss { held, found }) = cold.settle(&mut self.journal, self.last_commit)? {
            self.events
                .push(RecoveryEvent::ColdEntriesLost { held, found });
        }
        Ok(())
    }

    /// Tells the index what was found, unless it must still prove what was lost.
    fn settle_index(&mut self) -> Result<(), RecoveryError> {
        if self.lost.is_empty() && self.lost_ends == 0 {
            for (id, record) in std::mem::take(&mut self.deferred) {
                match record {
                    Some(record) => self.metadata.put_segment(id, &record)?,
                    None => self.metadata.remove_segment(id)?,
                }
            }
        }
        Ok(())
    }
}
