//! Mending a data folder that nobody has open, beyond what every start does by itself.
//!
//! [`crate::View::verify`] says what is wrong, [`plan_repair`] what can be done about it, [`repair`]
//! does it. Each step brings the folder from one state that a gateway can start in to the next, and
//! follows from what is found there: after an interruption it is all begun again.
//!
//! Invariants: nothing is thrown away, a damaged segment goes into quarantine as it is; offsets stay
//! where they are; what is missing afterwards is in the gap ledger.

mod bench;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::database::DatabaseError;
use crate::folder::FolderError;
use crate::gap::{Gap, GapReason};
use crate::ids::{LogPartition, OFFSET_LEAP, Offset, SegmentId};
use crate::metadata::MetadataError;
use crate::recovery::RecoveryError;
use crate::store::{AppendError, OpenError, Store, StoreOptions};
use crate::verify::{Finding, FindingKind, Severity};

use bench::Bench;

/// Something that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairStep {
    /// Recover the folder, as every start does.
    Recover,
    /// Put a sealed segment that cannot be read to its end into quarantine, and what can be read
    /// from its beginning on in its place.
    Replace(SegmentId),
    /// Write into the index how far a damaged segment can be read, and leave it where it is: nothing
    /// can take its place.
    Cut(SegmentId),
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
            Self::Cut(segment) => write!(
                f,
                "write into the index how far segment {segment} can be read, and leave it there"
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
    let findings: Vec<_> = findings.into_iter().collect();
    // What such a segment stands for cannot be said of a new one.
    let nameless: BTreeSet<_> = findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::Manifest)
        .filter_map(|finding| finding.segment)
        .collect();
    let mut steps = BTreeSet::new();
    for finding in findings {
        let step = match (finding.kind, finding.segment, finding.severity) {
            (FindingKind::Recovery | FindingKind::Mark, ..) => Some(RepairStep::Recover),
            (FindingKind::Damage, Some(segment), Severity::Error) => {
                match nameless.contains(&segment) {
                    true => Some(RepairStep::Cut(segment)),
                    false => Some(RepairStep::Replace(segment)),
                }
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
    /// An evacuated segment does not say what it stands for, so nothing can take its place.
    #[error("segment {segment} stays: what it says of itself cannot be read: {what}")]
    Manifest {
        /// Which.
        segment: SegmentId,
        /// What is wrong with it.
        what: String,
    },
    /// The index knows nothing of a segment.
    #[error("the index has no segment {0}; verify again")]
    Unknown(SegmentId),
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
    let of_segments = |step: &&RepairStep| {
        use RepairStep::{Cut, Reindex, Replace};
        matches!(step, Replace(_) | Cut(_) | Reindex(_))
    };
    if steps.iter().any(|step| of_segments(&step)) {
        let bench = Bench::open(path, copies)?;
        for step in steps.iter().filter(of_segments) {
            tell(step);
            match step {
                RepairStep::Replace(segment) => bench.replace(*segment)?,
                RepairStep::Cut(segment) | RepairStep::Reindex(segment) => {
                    bench.reindex(*segment)?;
                }
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

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

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
