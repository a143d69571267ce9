//! Evacuation: what the keeper and the thread that copies tell each other, and the copying.
//!
//! The keeper orders a run, and switches the index when the copy is complete; the thread `evacuator`
//! only reads sealed segments and fills a directory of its own. It writes at most
//! `StoreOptions::evacuation_bytes_per_second`, so that commits have the flash to themselves for most
//! of the time.
//!
//! Invariant: one run at a time; nothing of it is removed before the index knows its copy.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::commit::{Commit, CommitError};
use crate::database::DatabaseError;
use crate::evacuated::{self, EvacuatedWriter, ManifestError, WriteError};
use crate::evacuation::Run;
use crate::free_memory;
use crate::ids::{CommitNumber, LogPartition, Offset, SegmentId};
use crate::journal::{self, JournalError, JournalState};
use crate::metadata::SegmentRecord;
use crate::segment::ScanError;
use crate::segment_name::SegmentName;
use crate::store::Shared;
use crate::store::evacuation_failures::Verdict;
use crate::store::evacuation_source::Source;
use crate::store::retaining::starts_of;
use crate::store::topic_keeping::CopiedTopics;
use crate::topics::{self, RunsBuilder};

/// So much is copied between two looks at the budget.
const STEP_BYTES: u64 = 512 * 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Evacuations {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// What is being copied, or waits for it.
    run: Option<Run>,
    taken: bool,
    done: Option<Done>,
    closing: bool,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) run: Run,
    pub(crate) outcome: Result<Copied, NotEvacuated>,
}

/// A copy that is complete.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) record: SegmentRecord,
    /// Which topics are where in it, as far as that is known of what was copied.
    pub(crate) topics: Vec<topics::Run>,
}

/// A run that was not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEvacuated {
    #[error("the store is closing")]
    Closing,
    #[error("segment {0} is no longer there")]
    Gone(SegmentName),
    #[error("segment {0} does not hold what the index says")]
    Differs(SegmentName),
    #[error("segment {segment} cannot be opened")]
    Open {
        segment: SegmentName,
        source: DatabaseError,
    },
    #[error("segment {segment} cannot be read")]
    Read {
        segment: SegmentName,
        source: ScanError,
    },
    #[error("segment {segment} cannot be read")]
    Manifest {
        segment: SegmentName,
        source: ManifestError,
    },
    #[error("the journal of commit {commit} in segment {segment} cannot be read")]
    Journal {
        segment: SegmentName,
        commit: CommitNumber,
        source: JournalError,
    },
    #[error("what is live of a commit in segment {segment} cannot be taken out of it")]
    Commit {
        segment: SegmentName,
        source: CommitError,
    },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the evacuator panicked at segment {0}")]
    PanickedAt(SegmentName),
    #[error("the evacuator panicked")]
    Panicked,
}

impl NotEvacuated {
    /// What it says of the next try.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Closing | Self::Gone(_) => Verdict::Changed,
            Self::Open {
                segment,
                source: DatabaseError::Io { .. },
            }
            | Self::Read {
                segment,
                source: ScanError::Machine(_),
            } => Verdict::NotNow(*segment),
            Self::Manifest { segment, source } if source.is_of_the_machine() => {
                Verdict::NotNow(*segment)
            }
            // A thread of sled's is gone, or the fence: that is not of this segment.
            Self::Open {
                source: DatabaseError::Broken | DatabaseError::Fence(_),
                ..
            } => Verdict::NothingNow,
            Self::Differs(segment)
            | Self::Open { segment, .. }
            | Self::Read { segment, .. }
            | Self::Manifest { segment, .. }
            | Self::Journal { segment, .. }
            | Self::Commit { segment, .. }
            | Self::PanickedAt(segment) => Verdict::Never(*segment),
            Self::Write(_) | Self::Panicked => Verdict::NothingNow,
        }
    }
}

impl Evacuations {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_idle(&self) -> bool {
        let inner = self.inner();
        inner.run.is_none() && inner.done.is_none()
    }

    /// Whether a segment is part of what is being done.
    pub(crate) fn holds(&self, id: SegmentId) -> bool {
        let inner = self.inner();
        let done = inner.done.as_ref().map(|done| &done.run);
        inner.run.iter().chain(done).any(|run| run.covers(id))
    }

    pub(crate) fn order(&self, run: Run) {
        self.inner().run = Some(run);
        self.changed.notify_all();
    }

    pub(crate) fn take_done(&self) -> Option<Done> {
        self.inner().done.take()
    }

    pub(crate) fn end(&self) {
        self.inner().closing = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Run> {
        let mut inner = self.inner();
        loop {
            if inner.closing {
                return None;
            }
            if !inner.taken
                && let Some(run) = inner.run.clone()
            {
                inner.taken = true;
                return Some(run);
            }
            let waited = self.changed.wait(inner);
            inner = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tell(&self, outcome: Result<Copied, NotEvacuated>) {
        let mut inner = self.inner();
        inner.taken = false;
        inner.done = inner.run.take().map(|run| Done { run, outcome });
    }

    /// Waits until `until`; true if the store is closing.
    fn wait(&self, until: Instant) -> bool {
        let mut inner = self.inner();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if inner.closing || left.is_zero() {
                return inner.closing;
            }
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Runs until the store is closed.
pub(crate) fn run(shared: &Shared) {
    while let Some(run) = shared.evacuations.next() {
        let copied = panic::catch_unwind(AssertUnwindSafe(|| evacuate(shared, &run)));
        shared
            .evacuations
            .tell(copied.unwrap_or(Err(NotEvacuated::Panicked)));
        free_memory::release();
        shared.wake_keeper();
    }
}

fn evacuate(shared: &Shared, run: &Run) -> Result<Copied, NotEvacuated> {
    let mut copy = Copy::begin(shared, run.target)?;
    for source in &run.sources {
        // sled panics on some damage; it must not be met again by every run.
        let copied = panic::catch_unwind(AssertUnwindSafe(|| copy.segment(*source)));
        if let Err(error) = copied.unwrap_or(Err(NotEvacuated::PanickedAt(*source))) {
            copy.writer.abandon()?;
            return Err(error);
        }
    }
    if copy.writer.record().is_empty() {
        // Retention was faster: what is dead goes without a copy.
        let name = run.target;
        copy.writer.abandon()?;
        return Err(NotEvacuated::Gone(name));
    }
    let start = |partition| copy.starts.get(&partition).copied().unwrap_or_default();
    let journal = evacuated::with_starts(copy.journal, start);
    let topics = copy.topics.into_runs();
    let record = copy.writer.finish(&journal)?;
    Ok(Copied { record, topics })
}

/// A copy that grows.
struct Copy<'a> {
    shared: &'a Shared,
    /// By which batches are left out.
    starts: BTreeMap<LogPartition, Offset>,
    writer: EvacuatedWriter,
    /// The state after what was read.
    journal: JournalState,
    topics: RunsBuilder,
    begun: Instant,
    flushed_bytes: u64,
}

impl<'a> Copy<'a> {
    fn begin(shared: &'a Shared, target: SegmentName) -> Result<Self, WriteError> {
        Ok(Self {
            shared,
            starts: starts_of(shared),
            writer: EvacuatedWriter::create(&shared.segments_path(), target)?,
            journal: JournalState::default(),
            topics: RunsBuilder::default(),
            begun: Instant::now(),
            flushed_bytes: 0,
        })
    }

    fn segment(&mut self, name: SegmentName) -> Result<(), NotEvacuated> {
        let record = {
            let index = self.shared.segments.index();
            let record = index.sealed.get(&name.first);
            record
                .filter(|record| record.name(name.first) == name)
                .cloned()
        };
        let record = record.ok_or(NotEvacuated::Gone(name))?;
        let opened = Source::open(self.shared, name, &record);
        let opened = opened.map_err(|source| NotEvacuated::Open {
            segment: name,
            source,
        })?;
        let opened = opened.ok_or(NotEvacuated::Gone(name))?;
        self.source(name, &record, &opened)
    }

    /// Copies the segment `name`, of which the index says `record`.
    fn source(
        &mut self,
        name: SegmentName,
        record: &SegmentRecord,
        opened: &Source,
    ) -> Result<(), NotEvacuated> {
        if name.is_evacuated() {
            let manifest = opened.manifest(name).map_err(|source| {
                let segment = name;
                NotEvacuated::Manifest { segment, source }
            })?;
            self.journal = manifest.journal;
        }
        let topics = CopiedTopics::of(self.shared, name.first, record);
        let mut seen = record.without_commits();
        let mut failure = None;
        let scanned = opened.scan(|commit| {
            if let Err(error) = self.commit(name, commit, &topics) {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            seen.add(commit);
            // Behind it there may be what recovery cut off.
            if commit.number() >= record.last_commit {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if let Some(error) = failure {
            return Err(error);
        }
        scanned.map_err(|source| NotEvacuated::Read {
            segment: name,
            source,
        })?;
        seen.state = record.state;
        if seen != *record {
            return Err(match opened {
                // It was as the index says a moment ago: a block was not read this time.
                Source::File(_) => NotEvacuated::Read {
                    segment: name,
                    source: ScanError::Machine("it was not read as before".to_owned()),
                },
                Source::Database(_) => NotEvacuated::Differs(name),
            });
        }
        Ok(())
    }

    fn commit(
        &mut self,
        segment: SegmentName,
        commit: &Commit,
        topics: &CopiedTopics,
    ) -> Result<(), NotEvacuated> {
        let number = commit.number();
        if let Some(encoded) = commit.journal() {
            let operations = journal::decode(&encoded).map_err(|source| {
                let commit = number;
                NotEvacuated::Journal {
                    segment,
                    commit,
                    source,
                }
            })?;
            for operation in operations {
                self.journal.apply(operation);
            }
        }
        for batch in commit.batches() {
            self.journal.advance(batch.partition, batch.next_offset);
        }
        let kept = live_of(commit, &self.starts);
        let kept = kept.map_err(|source| NotEvacuated::Commit { segment, source });
        if let Some(kept) = kept? {
            self.writer.add(&kept)?;
            let chunk = self.writer.begins_in();
            self.topics.add(number, chunk, &topics.of_commit(number));
        }
        let bytes = self.writer.record().bytes;
        if bytes >= self.flushed_bytes + STEP_BYTES {
            self.flushed_bytes = bytes;
            self.writer.flush()?;
        }
        let pause = self.begun + self.time_for(self.flushed_bytes);
        if self.shared.evacuations.wait(pause) {
            return Err(NotEvacuated::Closing);
        }
        Ok(())
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let per_second = self.shared.options.evacuation_bytes_per_second.max(1);
        Duration::from_millis(bytes.saturating_mul(1000) / per_second)
    }
}

/// A commit without what lies behind the starts; `None` if that is all.
fn live_of(
    commit: &Commit,
    starts: &BTreeMap<LogPartition, Offset>,
) -> Result<Option<Commit>, CommitError> {
    commit.keeping(|batch| {
        let start = starts.get(&batch.partition).copied().unwrap_or_default();
        batch.next_offset > start
    })
}

#[cfg(test)]
mod copying;
#[cfg(test)]
mod tests;
