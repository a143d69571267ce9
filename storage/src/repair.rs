//! Mending a data folder that nobody has open, beyond what every start does by itself.
//!
//! [`crate::View::verify`] says what is wrong, [`plan_repair`] what can be done about it, [`repair`]
//! does it. Each step brings the folder from one state that a gateway can start in to the next, and
//! follows from what is found there: after an interruption it is all begun again.
//!
//! Invariants: nothing is thrown away, a damaged segment goes into quarantine as it is; offsets stay
//! where they are; what is missing afterwards is in the gap ledger.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::database::{self, DatabaseError, Purpose};
use crate::durable_file::sync_directory;
use crate::folder::{Folder, FolderError};
use crate::gap::{Gap, GapReason};
use crate::ids::{CommitNumber, LogPartition, OFFSET_LEAP, Offset, SegmentId};
use crate::metadata::{Metadata, MetadataError, SegmentRecord, SegmentState};
use crate::recovery::{RecoveryError, put_aside, put_aside_as};
use crate::segment::{self, SegmentWriter};
use crate::segment_name::SegmentName;
use crate::store::{AppendError, OpenError, Store, StoreOptions};
use crate::verify::{Finding, FindingKind, Severity};
use crate::view::copy_all;

/// Ending of a segment in quarantine that is not complete yet, or that was just taken out.
const UNFINISHED: &str = "new";

/// Something that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairStep {
    /// Recover the folder, as every start does.
    Recover,
    /// Put a sealed segment that cannot be read to its end into quarantine, and what can be read
    /// from its beginning on in its place.
    Replace(SegmentId),
    /// Write the index record of a segment anew, from what is in it.
    Reindex(SegmentId),
    /// Write down that the records of a partition from the first offset up to the second are lost.
    NoteLoss(LogPartition, Offset, Offset),
}

impl fmt::Display for RepairStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recover => f.write_str("recover the folder, as every start does"),
            Self::Replace(segment) => write!(
                f,
                "put segment {segment} into quarantine, and what can be read from its beginning on \
                 in its place"
            ),
            Self::Reindex(segment) => {
                write!(f, "write the index record of segment {segment} anew")
            }
            Self::NoteLoss(partition, from, to) => write!(
                f,
                "write into the gap ledger that offsets {from} to {} of partition {partition} are \
                 lost",
                to.0.saturating_sub(1)
            ),
        }
    }
}

/// What can be done about these findings, in the order in which it has to be done.
pub fn plan_repair<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<RepairStep> {
    let mut steps = BTreeSet::new();
    for finding in findings {
        let step = match (finding.kind, finding.segment, finding.severity) {
            (FindingKind::Recovery | FindingKind::Mark, ..) => Some(RepairStep::Recover),
            (FindingKind::Damage, Some(segment), Severity::Error) => {
                Some(RepairStep::Replace(segment))
            }
            (FindingKind::Index, Some(segment), _) => Some(RepairStep::Reindex(segment)),
            (FindingKind::Hole, ..) => finding
                .partition
                .zip(finding.offsets)
                .map(|(partition, (from, to))| RepairStep::NoteLoss(partition, from, to)),
            _ => None,
        };
        steps.extend(step);
    }
    steps.into_iter().collect()
}

/// A folder that cannot be repaired now.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The folder is not ours or in use.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is lost cannot be written down.
    #[error("write into the gap ledger")]
    Append(#[from] AppendError),
    /// A database cannot be opened or made.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The index cannot be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Something cannot be put into quarantine.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Files cannot be read, moved or written.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The segment that is to take the place of a damaged one cannot be written.
    #[error("write {path}: {what}")]
    Write {
        /// Where it is made.
        path: PathBuf,
        /// What sled said.
        what: String,
    },
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> RepairError + 'a {
    move |source| RepairError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Does `steps` in the data folder `path`. Damaged segments are read by means of copies in `copies`,
/// an empty folder that the caller removes. `tell` hears of each step before it is done.
///
/// # Errors
/// See [`RepairError`]; what was done so far stays, and the rest can be done again.
pub fn repair(
    path: &Path,
    copies: &Path,
    steps: &[RepairStep],
    mut tell: impl FnMut(&RepairStep),
) -> Result<(), RepairError> {
    if steps.contains(&RepairStep::Recover) {
        tell(&RepairStep::Recover);
        with_store(path, |_| Ok(()))?;
    }
    let of_segments =
        |step: &&RepairStep| matches!(step, RepairStep::Replace(_) | RepairStep::Reindex(_));
    if steps.iter().any(|step| of_segments(&step)) {
        let bench = Bench::open(path, copies)?;
        for step in steps.iter().filter(of_segments) {
            tell(step);
            match step {
                RepairStep::Replace(segment) => bench.replace(*segment)?,
                RepairStep::Reindex(segment) => bench.reindex(*segment)?,
                RepairStep::Recover | RepairStep::NoteLoss(..) => {}
            }
        }
    }
    let losses = steps
        .iter()
        .filter(|step| matches!(step, RepairStep::NoteLoss(..)));
    if losses.clone().next().is_none() {
        return Ok(());
    }
    with_store(path, |store| {
        for step in losses {
            tell(step);
            if let RepairStep::NoteLoss(partition, from, to) = step {
                note_loss(store, *partition, *from, *to)?;
            }
        }
        Ok(())
    })
}

/// Opens the folder as a start does, but as no gateway in particular: the folder may be in another
/// machine only to be repaired.
fn with_store(
    path: &Path,
    act: impl FnOnce(&Store) -> Result<(), RepairError>,
) -> Result<(), RepairError> {
    let options = StoreOptions {
        fingerprint: None,
        ..StoreOptions::default()
    };
    let (store, threads) = Store::open_existing(path, options)?;
    let acted = act(&store);
    drop(store);
    threads.close();
    acted
}

fn note_loss(
    store: &Store,
    partition: LogPartition,
    from: Offset,
    to: Offset,
) -> Result<(), RepairError> {
    let records = to.since(from);
    let gap = Gap {
        partition,
        route: None,
        from,
        to,
        records,
        // So many are in no segment: offsets leapt there.
        at_most: records >= OFFSET_LEAP,
        bytes: None,
        reason: GapReason::Quarantine,
        noted_ms: store.now_ms(),
    };
    let commit = store.record_gap(&gap, None)?;
    store.wait_durable(commit)?;
    Ok(())
}

/// A folder whose segments are being worked on.
struct Bench<'a> {
    folder: Folder,
    metadata: Metadata,
    copies: &'a Path,
}

impl<'a> Bench<'a> {
    fn open(path: &Path, copies: &'a Path) -> Result<Self, RepairError> {
        let folder = Folder::open_existing(path)?;
        let metadata = Metadata::new(database::open(&folder.metadata(), Purpose::Metadata)?)?;
        Ok(Self {
            folder,
            metadata,
            copies,
        })
    }

    fn path(&self, id: SegmentId) -> PathBuf {
        SegmentName::written(id).path(&self.folder.segments())
    }

    /// Opens a copy of a segment; `None` if nothing of it can be read.
    fn open_copy(&self, id: SegmentId) -> Result<Option<sled::Db>, RepairError> {
        let (original, copy) = (self.path(id), SegmentName::written(id).path(self.copies));
        copy_all(&original, &copy).map_err(io_error("copy", &original))?;
        match database::open(&copy, Purpose::Segment) {
            Ok(database) => Ok(Some(database)),
            Err(DatabaseError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn drop_copy(&self, id: SegmentId, database: Option<sled::Db>) -> Result<(), RepairError> {
        drop(database);
        let copy = SegmentName::written(id).path(self.copies);
        fs::remove_dir_all(&copy).map_err(io_error("remove", &copy))
    }

    /// The last commit that the index knows of in a segment.
    fn last_commit(&self, id: SegmentId) -> Result<CommitNumber, RepairError> {
        let mut segments = self.metadata.segments()?.into_iter();
        let record = segments.find(|(found, _)| *found == id);
        let last = record.map(|(_, record)| record.last_commit);
        Ok(last.unwrap_or(CommitNumber(u64::MAX)))
    }

    fn reindex(&self, id: SegmentId) -> Result<(), RepairError> {
        let last = self.last_commit(id)?;
        let database = self.open_copy(id)?;
        let mut record = SegmentRecord::created();
        if let Some(database) = &database {
            // What cannot be read is left to another step.
            let _ = segment::scan(database, CommitNumber(0), |commit| {
                if commit.number() > last {
                    return ControlFlow::Break(());
                }
                record.add(&commit);
                ControlFlow::Continue(())
            });
        }
        self.drop_copy(id, database)?;
        self.write_index(id, record)
    }

    fn write_index(&self, id: SegmentId, record: SegmentRecord) -> Result<(), RepairError> {
        if !record.is_empty() {
            let record = SegmentRecord {
                state: SegmentState::Sealed,
                ..record
            };
            self.metadata.put_segment(id, &record)?;
            self.metadata.flush()?;
        }
        Ok(())
    }

    fn replace(&self, id: SegmentId) -> Result<(), RepairError> {
        let (original, last) = (self.path(id), self.last_commit(id)?);
        let name = original.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let place = self
            .folder
            .quarantine()
            .join(format!("{name}.{UNFINISHED}"));
        if place.exists() {
            // Of a repair that was interrupted: a beginning, or the original itself.
            put_aside_as(&self.folder, &place, &name)?;
        }
        let database = self.open_copy(id)?;
        let mut record = SegmentRecord::created();
        if let Some(database) = &database {
            record = write_beginning(database, &place, id, last)?;
        }
        self.drop_copy(id, database)?;
        if record.is_empty() {
            // In this order: an entry without a directory would count as a lost end of the log.
            self.metadata.remove_segment(id)?;
            self.metadata.flush()?;
            put_aside(&self.folder, &original)?;
            return Ok(());
        }
        exchange(&place, &original).map_err(io_error("exchange", &original))?;
        for directory in [self.folder.segments(), self.folder.quarantine()] {
            sync_directory(&directory).map_err(io_error("sync", &directory))?;
        }
        self.write_index(id, record)?;
        Ok(put_aside_as(&self.folder, &place, &name)?)
    }
}

/// Writes what can be read from the beginning of a segment on, up to commit `last`, into a new one
/// at `place`, and says what that is; nothing is made for nothing.
fn write_beginning(
    database: &sled::Db,
    place: &Path,
    id: SegmentId,
    last: CommitNumber,
) -> Result<SegmentRecord, RepairError> {
    let failed = |error: sled::Error| RepairError::Write {
        path: place.to_owned(),
        what: error.to_string(),
    };
    let mut record = SegmentRecord::created();
    let mut writer: Option<SegmentWriter> = None;
    let mut problem = None;
    // What ends it is known: it is why the segment is replaced.
    let _ = segment::scan(database, CommitNumber(0), |commit| {
        if commit.number() > last {
            return ControlFlow::Break(());
        }
        let written = match &mut writer {
            Some(writer) => writer.write_unflushed(&commit).map_err(failed),
            None => SegmentWriter::create_at(place, id)
                .map_err(RepairError::from)
                .and_then(|made| writer.insert(made).write_unflushed(&commit).map_err(failed)),
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
    if let Some(writer) = writer {
        writer.flush().map_err(failed)?;
    }
    Ok(record)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::LogOptions;
    use crate::message::Message;
    use crate::verify::VerifyProgress;
    use crate::view::View;

    fn findings(path: &Path) -> Vec<Finding> {
        let copy = tempfile::tempdir().unwrap();
        let view = View::open(path, copy.path()).unwrap();
        let mut findings = Vec::new();
        view.verify(None, |progress| {
            if let VerifyProgress::Finding(finding) = progress {
                findings.push(finding);
            }
            ControlFlow::Continue(())
        });
        view.close();
        findings
    }

    #[test]
    fn index_that_says_something_else_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            segment_bytes: 1 << 20,
            ..StoreOptions::default()
        };
        let logs = [LogOptions::new("a", 1)];
        let (store, threads) = Store::open(folder.path(), options, &logs).unwrap();
        let log = store.log("a").unwrap().id;
        for _ in 0..30 {
            let message = Message {
                topic: "t".into(),
                payload: vec![7; 100_000].into(),
                ..Message::default()
            };
            let commit = store.append(log, b"k", &message).unwrap().commit;
            store.wait_durable(commit).unwrap();
        }
        drop(store);
        threads.close();
        let copies = tempfile::tempdir().unwrap();
        let bench = Bench::open(folder.path(), copies.path()).unwrap();
        let (id, right) = bench.metadata.segments().unwrap().remove(1);
        let mut wrong = right.clone();
        wrong.bytes += 1;
        bench.metadata.put_segment(id, &wrong).unwrap();
        bench.metadata.flush().unwrap();
        drop(bench);
        let found = findings(folder.path());
        assert_eq!(found.len(), 1, "{found:?}");
        let steps = plan_repair(&found);
        assert_eq!(steps, [RepairStep::Reindex(id)]);
        repair(folder.path(), copies.path(), &steps, |_| {}).unwrap();
        assert_eq!(findings(folder.path()), []);
        let bench = Bench::open(folder.path(), copies.path()).unwrap();
        assert_eq!(bench.metadata.segments().unwrap()[1], (id, right));
    }
}
