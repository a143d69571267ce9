//! The segments of a folder under repair: what of them stays in the log.
//!
//! Invariants: a damaged segment is read by means of a copy, so that it goes into quarantine as it
//! is; what takes its place has its name, and is complete before it gets it.

use std::fmt;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{RepairError, io_error};
use crate::database::{self, DatabaseError, Purpose};
use crate::durable_file::sync_directory;
use crate::evacuated::{self, Manifest};
use crate::folder::Folder;
use crate::guard::Keeping;
use crate::ids::{CommitNumber, SegmentId};
use crate::metadata::{Metadata, SegmentRecord, SegmentState};
use crate::recovery::{put_aside, put_aside_as};
use crate::segment::{self, SegmentWriter};
use crate::segment_name::SegmentName;
use crate::segment_record::Evacuated;
use crate::verify::with_causes;
use crate::view::copy_all;

/// Ending of a segment in quarantine that is not complete yet, or that was just taken out.
const UNFINISHED: &str = "new";

/// A folder whose segments are being worked on.
pub(super) struct Bench<'a> {
    folder: Folder,
    pub(super) metadata: Metadata,
    copies: &'a Path,
}

impl<'a> Bench<'a> {
    pub(super) fn open(path: &Path, copies: &'a Path) -> Result<Self, RepairError> {
        let folder = Folder::open_existing(path)?;
        let metadata = folder.metadata();
        let metadata = database::open(&metadata, Purpose::Metadata, &mut Keeping::default())?;
        let metadata = Metadata::new(metadata)?;
        Ok(Self {
            folder,
            metadata,
            copies,
        })
    }

    /// What the index says of a segment.
    fn record(&self, id: SegmentId) -> Result<SegmentRecord, RepairError> {
        let mut segments = self.metadata.segments()?.into_iter();
        let record = segments.find(|(found, _)| *found == id);
        let (_, record) = record.ok_or(RepairError::Unknown(id))?;
        Ok(record)
    }

    fn path(&self, name: SegmentName) -> PathBuf {
        name.path(&self.folder.segments())
    }

    /// Opens a copy of a segment; `None` if nothing of it can be read.
    fn open_copy(&self, name: SegmentName) -> Result<Option<sled::Db>, RepairError> {
        let (original, copy) = (self.path(name), name.path(self.copies));
        copy_all(&original, &copy).map_err(io_error("copy", &original))?;
        // sled may do to the copy what it likes.
        match database::open(&copy, Purpose::Segment, &mut Keeping::default()) {
            Ok(database) => Ok(Some(database)),
            Err(DatabaseError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn drop_copy(&self, name: SegmentName, database: Option<sled::Db>) -> Result<(), RepairError> {
        drop(database);
        let copy = name.path(self.copies);
        fs::remove_dir_all(&copy).map_err(io_error("remove", &copy))
    }

    pub(super) fn reindex(&self, id: SegmentId) -> Result<(), RepairError> {
        let index = self.record(id)?;
        let name = index.name(id);
        let database = self.open_copy(name)?;
        let mut record = nothing_of(&index);
        if let Some(database) = &database {
            // What cannot be read is left to another step.
            let _ = segment::scan(database, CommitNumber(0), |commit| {
                if commit.number() > index.last_commit {
                    return ControlFlow::Break(());
                }
                record.add(&commit);
                ControlFlow::Continue(())
            });
        }
        self.drop_copy(name, database)?;
        match record.is_empty() {
            true => self.take_out(name),
            false => self.write_index(id, record),
        }
    }

    /// Puts a segment aside of which nothing can be read.
    fn take_out(&self, name: SegmentName) -> Result<(), RepairError> {
        // In this order: an entry without a directory would count as a lost end of the log.
        self.metadata.remove_segment(name.first)?;
        self.metadata.flush()?;
        Ok(put_aside(&self.folder, &self.path(name))?)
    }

    fn write_index(&self, id: SegmentId, record: SegmentRecord) -> Result<(), RepairError> {
        let record = SegmentRecord {
            state: SegmentState::Sealed,
            ..record
        };
        self.metadata.put_segment(id, &record)?;
        Ok(self.metadata.flush()?)
    }

    pub(super) fn replace(&self, id: SegmentId) -> Result<(), RepairError> {
        let index = self.record(id)?;
        let name = index.name(id);
        let original = self.path(name);
        let place = self
            .folder
            .quarantine()
            .join(format!("{name}.{UNFINISHED}"));
        if place.exists() {
            // Of a repair that was interrupted: a beginning, or the original itself.
            put_aside_as(&self.folder, &place, &name.to_string())?;
        }
        let database = self.open_copy(name)?;
        let written = match &database {
            Some(database) => write_beginning(database, &place, id, &index),
            None => Ok(nothing_of(&index)),
        };
        self.drop_copy(name, database)?;
        let record = written?;
        if record.is_empty() {
            return self.take_out(name);
        }
        exchange(&place, &original).map_err(io_error("exchange", &original))?;
        for directory in [self.folder.segments(), self.folder.quarantine()] {
            sync_directory(&directory).map_err(io_error("sync", &directory))?;
        }
        self.write_index(id, record)?;
        Ok(put_aside_as(&self.folder, &place, &name.to_string())?)
    }
}

/// The record of a segment like the one that the index has, without a commit.
fn nothing_of(index: &SegmentRecord) -> SegmentRecord {
    SegmentRecord {
        evacuated: index.evacuated.map(|evacuated| Evacuated {
            commits: 0,
            ..evacuated
        }),
        ..SegmentRecord::created()
    }
}

/// Writes what can be read from the beginning of segment `id` on, as far as the index knows it, into
/// a new one at `place`, and says what that is; nothing is made for nothing.
fn write_beginning(
    database: &sled::Db,
    place: &Path,
    id: SegmentId,
    index: &SegmentRecord,
) -> Result<SegmentRecord, RepairError> {
    let failed = |what: &dyn fmt::Display| RepairError::Write {
        path: place.to_owned(),
        what: what.to_string(),
    };
    let mut record = nothing_of(index);
    let mut writer: Option<SegmentWriter> = None;
    let mut problem = None;
    // What ends it is known: it is why the segment is replaced.
    let _ = segment::scan(database, CommitNumber(0), |commit| {
        if commit.number() > index.last_commit {
            return ControlFlow::Break(());
        }
        let written = match &mut writer {
            Some(writer) => writer
                .write_unflushed(&commit)
                .map_err(|error| failed(&error)),
            None => SegmentWriter::create_at(place, id)
                .map_err(RepairError::from)
                .and_then(|made| {
                    let made = writer.insert(made);
                    if index.evacuated.is_some() {
                        evacuated::declare(made.database()).map_err(|error| failed(&error))?;
                    }
                    let written = made.write_unflushed(&commit);
                    written.map_err(|error| failed(&error))
                }),
        };
        match written {
            Ok(()) => record.add(&commit),
            Err(error) => {
                problem = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    let Some(writer) = writer else {
        return Ok(record);
    };
    record.state = SegmentState::Sealed;
    if index.evacuated.is_some()
        && let Err(error) = copy_manifest(database, &writer, index.name(id), &record)
    {
        drop(writer);
        fs::remove_dir_all(place).map_err(io_error("remove", place))?;
        return Err(error);
    }
    writer.flush().map_err(|error| failed(&error))?;
    Ok(record)
}

/// Says of what was written, which is all of `record`, what segment `name` says of itself.
fn copy_manifest(
    database: &sled::Db,
    writer: &SegmentWriter,
    name: SegmentName,
    record: &SegmentRecord,
) -> Result<(), RepairError> {
    let segment = name.first;
    let manifest =
        Manifest::read_surely(database, name).map_err(|error| RepairError::Manifest {
            segment,
            what: with_causes(&error),
        })?;
    let written =
        evacuated::write_manifest(writer.database(), name.last, record, &manifest.journal);
    written.map_err(|error| RepairError::Write {
        path: PathBuf::from(name.to_string()),
        what: with_causes(&error),
    })
}

/// Puts each of two directories in the place of the other, at once where the file system can.
fn exchange(place: &Path, original: &Path) -> io::Result<()> {
    match renameat_with(CWD, place, CWD, original, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            let between = place.with_extension("out");
            fs::rename(original, &between)?;
            fs::rename(place, original)?;
            fs::rename(&between, place)
        }
        exchanged => Ok(exchanged?),
    }
}
