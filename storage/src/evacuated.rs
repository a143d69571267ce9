//! An evacuated segment: what was live of a run of sealed segments, copied into one.
//!
//! Batches are copied as they are, with their commit and offset. Journal entries are not: instead it
//! holds what they added up to at the end of the run, beside a record of its own content, so that it
//! can stand for the run even if nothing else is left.
//!
//! ```text
//! tree        key
//! (chunks)    as in every segment; commits ascend, but are not dense
//! evacuated   there before the chunks; last of all, it gets
//!             "journal" | piece u16    journal operations: a snapshot, the state after the run
//!             "record"  | piece u16    SegmentRecord
//! ```
//!
//! Invariant: a directory under its final name is complete: everything in it was flushed before it
//! was given that name.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use crate::commit::Commit;
use crate::database::{self, DatabaseError};
use crate::durable_file::{remove_directory, sync_directory};
use crate::encoding::{EncodingError, Stored as _};
use crate::ids::{Offset, SegmentId};
use crate::journal::{self, JournalError, JournalState, Operation};
use crate::metadata::{self, MetadataError, SegmentRecord, SegmentState};
use crate::segment::SegmentWriter;
use crate::segment_name::SegmentName;
use crate::segment_record::Evacuated;

/// Name of the tree that only such a segment has.
const TREE: &[u8] = b"evacuated";
const JOURNAL: &[u8] = b"journal";
const RECORD: &[u8] = b"record";

/// Whether a segment is one.
pub(crate) fn is_evacuated(database: &sled::Db) -> bool {
    database.tree_names().iter().any(|name| name == TREE)
}

/// Says of an empty segment that it is one: before all else, since what is written last is what
/// damage takes first, and commits that are not dense cannot be read as if they were.
pub(crate) fn declare(database: &sled::Db) -> Result<(), sled::Error> {
    database.open_tree(TREE).map(drop)
}

/// What an evacuated segment says of itself.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) record: SegmentRecord,
    /// The state after the last of the segments that it was made of.
    pub(crate) journal: JournalState,
}

/// A segment that does not say what it is, or not what its name says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("its manifest cannot be read")]
    Database(#[from] MetadataError),
    #[error("its manifest lacks the {0}")]
    Missing(&'static str),
    #[error("its manifest holds a damaged record")]
    Record(#[from] EncodingError),
    #[error("its manifest holds a damaged journal")]
    Journal(#[from] JournalError),
    #[error("its manifest is of another segment")]
    Name,
    #[error("sled panicked")]
    Panicked,
}

impl ManifestError {
    /// Whether it says nothing of the content: it may pass.
    pub(crate) fn is_of_the_machine(&self) -> bool {
        let Self::Database(MetadataError::Database(error)) = self else {
            return false;
        };
        database::is_of_the_machine(error)
    }
}

impl Manifest {
    /// Reads the manifest of the open segment `name`.
    pub(crate) fn read(database: &sled::Db, name: SegmentName) -> Result<Self, ManifestError> {
        if !is_evacuated(database) {
            return Err(ManifestError::Missing("whole"));
        }
        let tree = database.open_tree(TREE).map_err(MetadataError::from)?;
        Self::of_values(metadata::values(&tree), name)
    }

    /// As [`Self::read`], from the entries of its tree.
    pub(crate) fn of_entries(
        entries: &BTreeMap<Vec<u8>, Vec<u8>>,
        name: SegmentName,
    ) -> Result<Self, ManifestError> {
        let entries = entries.iter().map(Ok);
        Self::of_values(metadata::put_together(entries), name)
    }

    fn of_values(
        values: impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>), MetadataError>>,
        name: SegmentName,
    ) -> Result<Self, ManifestError> {
        let (mut record, mut state) = (None, None);
        for value in values {
            match value? {
                (key, Some(value)) if key == RECORD => {
                    record = Some(SegmentRecord::from_stored(&value)?);
                }
                (key, Some(value)) if key == JOURNAL => {
                    let mut journal = JournalState::default();
                    for operation in journal::decode(&value)? {
                        journal.apply(operation);
                    }
                    state = Some(journal);
                }
                _ => {}
            }
        }
        let record = record.ok_or(ManifestError::Missing("record"))?;
        if record.name(name.first) != name {
            return Err(ManifestError::Name);
        }
        let journal = state.ok_or(ManifestError::Missing("journal"))?;
        Ok(Self { record, journal })
    }
}

impl Manifest {
    /// As [`Self::read`], of a segment that may be damaged: sled panics on some damage instead of
    /// returning an error.
    pub(crate) fn read_surely(
        database: &sled::Db,
        name: SegmentName,
    ) -> Result<Self, ManifestError> {
        let read = panic::catch_unwind(AssertUnwindSafe(|| Self::read(database, name)));
        read.unwrap_or(Err(ManifestError::Panicked))
    }
}

/// A manifest that cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteManifestError {
    #[error("encode the journal")]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Database(#[from] MetadataError),
}

/// Writes what a segment with the content of `record` says of itself, unflushed. `journal` is the
/// state after `last`, the last segment that it stands for.
pub(crate) fn write_manifest(
    database: &sled::Db,
    last: SegmentId,
    record: &SegmentRecord,
    journal: &JournalState,
) -> Result<(), WriteManifestError> {
    let mut encoded = Vec::new();
    let snapshot = journal.to_snapshot(last);
    journal::encode(&[Operation::Snapshot(snapshot)], &mut encoded)?;
    let tree = database.open_tree(TREE).map_err(MetadataError::from)?;
    metadata::put(&tree, JOURNAL, &encoded)?;
    metadata::put(&tree, RECORD, &record.to_stored())?;
    Ok(())
}

/// A segment that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("write {path}")]
    Write { path: PathBuf, source: sled::Error },
    #[error("write {path}")]
    Manifest {
        path: PathBuf,
        source: WriteManifestError,
    },
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Makes an evacuated segment, under a temporary name until it is complete.
#[derive(Debug)]
pub(crate) struct EvacuatedWriter {
    folder: PathBuf,
    name: SegmentName,
    writer: SegmentWriter,
    record: SegmentRecord,
}

impl EvacuatedWriter {
    pub(crate) fn create(folder: &Path, name: SegmentName) -> Result<Self, WriteError> {
        let path = name.path_unfinished(folder);
        remove(&path)?;
        let evacuated = Evacuated {
            last: name.last,
            generation: name.generation,
            commits: 0,
        };
        let writer = SegmentWriter::create_at(&path, name.first)?;
        declare(writer.database()).map_err(|source| WriteError::Write { path, source })?;
        Ok(Self {
            folder: folder.to_owned(),
            name,
            writer,
            record: SegmentRecord {
                state: SegmentState::Sealed,
                evacuated: Some(evacuated),
                ..SegmentRecord::created()
            },
        })
    }

    /// See [`SegmentWriter::begins_in`].
    pub(crate) fn begins_in(&self) -> usize {
        self.writer.begins_in()
    }

    /// What is in it so far.
    pub(crate) fn record(&self) -> &SegmentRecord {
        &self.record
    }

    /// Adds a commit; it is durable with the next flush.
    pub(crate) fn add(&mut self, commit: &Commit) -> Result<(), WriteError> {
        self.writer
            .write_unflushed(commit)
            .map_err(|source| self.failed(source))?;
        self.record.add(commit);
        Ok(())
    }

    pub(crate) fn flush(&self) -> Result<(), WriteError> {
        self.writer.flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: sled::Error) -> WriteError {
        let path = self.name.path_unfinished(&self.folder);
        WriteError::Write { path, source }
    }

    /// Completes it: from now on it stands for what it was made of. `journal` is the state after the
    /// last of these segments.
    pub(crate) fn finish(self, journal: &JournalState) -> Result<SegmentRecord, WriteError> {
        let (from, to) = (
            self.name.path_unfinished(&self.folder),
            self.name.path(&self.folder),
        );
        let written = write_manifest(
            self.writer.database(),
            self.name.last,
            &self.record,
            journal,
        );
        written.map_err(|source| WriteError::Manifest {
            path: from.clone(),
            source,
        })?;
        self.flush()?;
        drop(self.writer);
        std::fs::rename(&from, &to).map_err(|source| WriteError::Io {
            action: "rename",
            path: from.clone(),
            source,
        })?;
        sync_directory(&self.folder).map_err(|source| WriteError::Io {
            action: "sync",
            path: self.folder.clone(),
            source,
        })?;
        Ok(self.record)
    }

    /// Removes what was written.
    pub(crate) fn abandon(self) -> Result<(), WriteError> {
        let path = self.name.path_unfinished(&self.folder);
        drop(self.writer);
        remove(&path)
    }
}

fn remove(path: &Path) -> Result<(), WriteError> {
    remove_directory(path).map_err(|source| WriteError::Io {
        action: "remove",
        path: path.to_owned(),
        source,
    })
}

/// The state that an evacuated segment carries: that after the run, its starts being those by which
/// batches were left out, so that they are not taken for lost.
pub(crate) fn with_starts(
    mut journal: JournalState,
    start: impl Fn(crate::ids::LogPartition) -> Offset,
) -> JournalState {
    for state in journal.partition_states() {
        let offset = start(state.partition).min(state.next_offset);
        journal.apply(Operation::LogStart {
            partition: state.partition,
            offset,
        });
    }
    journal
}
