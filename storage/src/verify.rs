//! Reading everything that is on flash and telling what is wrong with it: segments, index, gap
//! ledger, retained messages, cold journal entries, and the files beside them.
//!
//! It goes segment by segment, keeps nothing of what it read but one offset a partition, tells what
//! it finds at once, and stops when it is told to. It sees what was durable when it began; what
//! retention removes meanwhile is no finding. [`crate::View`] does the same with a folder that no
//! gateway has open.
//!
//! Invariant: nothing is changed. (sled writes when a segment is opened for reading, here as for
//! every reader.)

mod files;
mod offsets;
mod segments;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::ids::{CommitNumber, LogPartition, Offset, SegmentId};
use crate::recovery::RecoveryEvent;
use crate::store::{Shared, Store};
use crate::view::View;

use offsets::Accounts;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Note,
    /// Nothing more is lost, but something should be looked at.
    Warning,
    /// Records or what is known of them are damaged, lost or contradict each other.
    Error,
}

impl Severity {
    /// The word in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// Something that recovery met when the store was opened.
    Recovery,
    /// A segment cannot be opened, or not be read from first to last.
    Damage,
    /// A batch or record in a commit that is otherwise whole cannot be read.
    Record,
    /// Offsets are missing and no gap accounts for them.
    Hole,
    /// Offsets or commits come twice.
    Overlap,
    /// The index says something else than the segment holds.
    Index,
    /// The journal of a commit, or the snapshot that a segment begins with.
    Journal,
    /// What an evacuated segment says of itself.
    Manifest,
    /// Retained messages in the metadata.
    Retained,
    /// Cold journal entries (sessions) in the metadata.
    Cold,
    /// MARK, the witness of how far the log was durable.
    Mark,
    /// A value that sled keeps in a file that it never syncs.
    Blob,
    /// Something in quarantine.
    Quarantine,
    /// A file or directory that does not belong there.
    Unknown,
}

impl FindingKind {
    /// The word in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Damage => "damage",
            Self::Record => "record",
            Self::Hole => "hole",
            Self::Overlap => "overlap",
            Self::Index => "index",
            Self::Journal => "journal",
            Self::Manifest => "manifest",
            Self::Retained => "retained",
            Self::Cold => "cold",
            Self::Mark => "mark",
            Self::Blob => "blob",
            Self::Quarantine => "quarantine",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub kind: FindingKind,
    /// The segment, if it is about one.
    pub segment: Option<SegmentId>,
    /// The commit, likewise; of damage, the last one before it.
    pub commit: Option<CommitNumber>,
    /// The partition, likewise.
    pub partition: Option<LogPartition>,
    /// First offset that it is about, and the first one after.
    pub offsets: Option<(Offset, Offset)>,
    /// What is wrong, in words.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(severity: Severity, kind: FindingKind, what: impl fmt::Display) -> Self {
        let what = what.to_string();
        let (segment, commit, partition, offsets) = (None, None, None, None);
        Self {
            severity,
            kind,
            segment,
            commit,
            partition,
            offsets,
            what,
        }
    }

    pub(crate) fn in_segment(mut self, segment: SegmentId, commit: CommitNumber) -> Self {
        self.segment = Some(segment);
        self.commit = (commit != CommitNumber(0)).then_some(commit);
        self
    }

    pub(crate) fn at(mut self, partition: LogPartition, from: Offset, to: Offset) -> Self {
        self.partition = Some(partition);
        self.offsets = Some((from, to));
        self
    }
}

/// Told while everything is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyProgress {
    /// Something is wrong.
    Finding(Finding),
    /// How far it is; told at least once a segment.
    Reading {
        /// Segments read.
        segments: u64,
        /// Segments to read.
        segments_total: u64,
        /// Bytes of commits read.
        bytes: u64,
        /// Bytes to read, as the index has it.
        bytes_total: u64,
    },
}

/// What was read, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments that were read.
    pub segments: u64,
    /// Bytes of their commits.
    pub bytes: u64,
    /// Commits.
    pub commits: u64,
    /// Batches of the partitions that were asked for.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Retained messages in the metadata.
    pub retained: u64,
    /// Cold journal entries (sessions) in the metadata.
    pub cold: u64,
    /// Entries of the gap ledger.
    pub gaps: u64,
    /// Findings that are only worth knowing.
    pub notes: u64,
    /// Findings to look at.
    pub warnings: u64,
    /// Findings of damage or loss that is not accounted for.
    pub errors: u64,
}

impl Verified {
    /// Whether there is nothing to look at.
    pub fn is_clean(&self) -> bool {
        self.warnings == 0 && self.errors == 0
    }
}

/// Hears what is found; breaks off to stop.
type Tell<'a> = &'a mut dyn FnMut(VerifyProgress) -> ControlFlow<()>;

impl Store {
    /// Reads everything, or of the records only those of the log called `log`, and tells what is
    /// wrong. Blocks on flash; ends early, with what it has, when `tell` breaks off.
    pub fn verify(
        &self,
        log: Option<&str>,
        mut tell: impl FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Verified {
        verify(&self.shared(), self.path(), Source::Running, log, &mut tell)
    }
}

impl View {
    /// As [`Store::verify`], of the folder that is looked at.
    pub fn verify(
        &self,
        log: Option<&str>,
        mut tell: impl FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Verified {
        let shared = self.store().shared();
        verify(&shared, self.path(), Source::Folder, log, &mut tell)
    }
}

/// What is verified.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A store that has recovered its folder.
    Running,
    /// A folder; what recovery did to the copy, the next start will do to it.
    Folder,
}

fn verify(
    shared: &Arc<Shared>,
    path: &Path,
    source: Source,
    log: Option<&str>,
    tell: Tell<'_>,
) -> Verified {
    let mut verifier = Verifier {
        shared,
        source,
        log: log.map(str::to_owned),
        accounts: Accounts::new(shared),
        verified: Verified::default(),
        tell,
    };
    let _ = verifier.everything(path);
    verifier.verified
}

/// See the module's documentation.
struct Verifier<'a> {
    shared: &'a Shared,
    source: Source,
    /// Only records of this log are decoded.
    log: Option<String>,
    accounts: Accounts,
    verified: Verified,
    tell: Tell<'a>,
}

impl Verifier<'_> {
    fn everything(&mut self, path: &Path) -> ControlFlow<()> {
        let events = self.shared.recovery_events.clone();
        for event in events {
            self.find(of_event(&event, self.source))?;
        }
        for finding in files::findings(path, self.shared, self.source) {
            self.find(finding)?;
        }
        self.retained()?;
        self.cold()?;
        self.all_segments()?;
        for finding in self.accounts.finish(self.shared) {
            self.find(finding)?;
        }
        ControlFlow::Continue(())
    }

    fn find(&mut self, finding: Finding) -> ControlFlow<()> {
        *match finding.severity {
            Severity::Note => &mut self.verified.notes,
            Severity::Warning => &mut self.verified.warnings,
            Severity::Error => &mut self.verified.errors,
        } += 1;
        (self.tell)(VerifyProgress::Finding(finding))
    }

    fn retained(&mut self) -> ControlFlow<()> {
        let wrong = |what: String| Finding::new(Severity::Error, FindingKind::Retained, what);
        match self.shared.metadata.check() {
            Err(error) => self.find(wrong(format!("retained messages cannot be read: {error}"))),
            Ok((retained, problems)) => {
                self.verified.retained = retained;
                for problem in problems {
                    self.find(wrong(problem))?;
                }
                ControlFlow::Continue(())
            }
        }
    }

    fn cold(&mut self) -> ControlFlow<()> {
        let wrong = |what: String| Finding::new(Severity::Error, FindingKind::Cold, what);
        match self.shared.metadata.cold.check() {
            Err(error) => self.find(wrong(format!("cold entries cannot be read: {error}"))),
            Ok((cold, problems)) => {
                self.verified.cold = cold;
                for problem in problems {
                    self.find(wrong(problem))?;
                }
                ControlFlow::Continue(())
            }
        }
    }
}

fn of_event(event: &RecoveryEvent, source: Source) -> Finding {
    let (severity, what) = match (event, source) {
        (RecoveryEvent::UnfinishedCommit { .. }, _) => (Severity::Note, event.to_string()),
        (_, Source::Folder) => (Severity::Error, event.to_string()),
        (_, Source::Running) => (
            Severity::Warning,
            format!(
                "met and dealt with at the last start: {event}; what was lost is in the gap ledger"
            ),
        ),
    };
    let mut finding = Finding::new(severity, FindingKind::Recovery, what);
    match event {
        RecoveryEvent::SegmentQuarantined { segment, .. }
        | RecoveryEvent::DamageCopied { segment, .. }
        | RecoveryEvent::SegmentMissing { segment } => finding.segment = Some(*segment),
        RecoveryEvent::SegmentCut {
            segment,
            last_commit,
            ..
        } => {
            finding = finding.in_segment(*segment, *last_commit);
        }
        RecoveryEvent::EndLost { last_commit, .. }
        | RecoveryEvent::EndNotProven { last_commit } => {
            finding.commit = Some(*last_commit);
        }
        RecoveryEvent::UnfinishedCommit { commit } => finding.commit = Some(*commit),
        _ => {}
    }
    finding
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
