//! The store: the one handle on a data folder. Appends, the journal, readers, what the folder is.
//!
//! Two threads belong to it, the `committer` and the `keeper`; both end with [`Store::close`].
//! Callers may be on any thread; [`Store::append`] encodes and returns, it never waits for flash.

mod candidates;
mod cold;
mod committer;
mod counters;
mod evacuation_failures;
mod evacuation_source;
mod evacuations;
mod flash_account;
mod keeper;
mod oldest_segment;
mod open_commit;
mod opening;
mod opening_progress;
mod pins;
mod retaining;
mod shared;
mod state;
pub(crate) mod topic_keeping;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::{ClockSource, CorrectedTime, Era, SystemClock};
use crate::gap::Gap;
use crate::identity::{Fingerprint, Span};
use crate::ids::{CommitNumber, EraId, Incarnation, LogId, LogPartition, Offset, SpanId};
use crate::journal::{JournalKey, JournalKind};
use crate::logs::Log;
use crate::message::Message;
use crate::reader::{CommitReader, PartitionReader};
use crate::recovery::RecoveryEvent;
use crate::topics::TopicMatch;

pub use counters::StoreCounters;
pub use oldest_segment::{KeptBy, LogInSegment, OldestSegment, PinLag, Stage};
pub use opening::OpenError;
pub use opening_progress::OpeningProgress;
pub use pins::Pin;
pub(crate) use shared::Shared;
pub use shared::StoreStatus;

/// Smallest and largest size of a segment.
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// See [`SEGMENT_BYTES_MIN`]; `crate::ids::OFFSET_LEAP` depends on it.
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of journal entries, with their keys, that one commit takes at a caller's wish.
pub const JOURNAL_ENTRIES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How a store is to work.
#[derive(Clone)]
pub struct StoreOptions {
    /// Bytes of commits after which a segment is full.
    pub segment_bytes: u64,
    /// Publishes are refused when the file system has less free.
    pub free_space_reserve_bytes: u64,
    /// A commit that has this size is closed.
    pub commit_bytes_max: usize,
    /// Appends are refused while this much waits for the committer.
    pub queue_bytes_max: usize,
    /// Newest commits kept in memory for readers.
    pub ring_bytes_max: usize,
    /// How long nothing must be committed until a segment that is at least an eighth full is closed, and
    /// the commits in memory are let go of; the next commit begins a segment. `None`: never.
    pub quiet_after: Option<Duration>,
    /// Bytes a second that evacuation writes at most; 0: segments are never evacuated.
    pub evacuation_bytes_per_second: u64,
    /// Bytes that may be written to flash in a day; above it, commits linger.
    pub flash_budget_bytes_per_day: Option<u64>,
    /// Where times come from.
    pub clock: Arc<dyn ClockSource>,
    /// Free bytes of the file system of a path.
    pub free_space: fn(&Path) -> io::Result<u64>,
    /// What tells this machine from others; a folder that moves to another begins a new incarnation.
    pub fingerprint: Option<Fingerprint>,
    /// Told how far opening has come, if somebody watches.
    pub progress: Option<Arc<OpeningProgress>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            free_space_reserve_bytes: 64 * 1024 * 1024,
            commit_bytes_max: 1024 * 1024,
            queue_bytes_max: 8 * 1024 * 1024,
            ring_bytes_max: 4 * 1024 * 1024,
            quiet_after: Some(Duration::from_secs(60)),
            evacuation_bytes_per_second: 4 * 1024 * 1024,
            flash_budget_bytes_per_day: None,
            clock: SystemClock::new(),
            free_space: free_space_of,
            fingerprint: Fingerprint::of_machine(),
            progress: None,
        }
    }
}

fn free_space_of(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("segment_bytes", &self.segment_bytes)
            .field("free_space_reserve_bytes", &self.free_space_reserve_bytes)
            .finish_non_exhaustive()
    }
}

/// Place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// It is durable when this commit is.
    pub commit: CommitNumber,
    /// Its partition.
    pub partition: LogPartition,
    /// Its offset there.
    pub offset: Offset,
}

/// A record that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The store is closed or closing.
    #[error("the store is closing")]
    Closing,
    /// Less space is free than the reserve.
    #[error("disk is full: {free_bytes} bytes are free, the reserve is {reserve_bytes}")]
    DiskFull {
        /// Free bytes when it was last looked at.
        free_bytes: u64,
        /// Bytes that are to stay free.
        reserve_bytes: u64,
    },
    /// The log has its bytes and may not forget any of them; see [`crate::OnFull::Reject`].
    #[error("log {log} is full: it has {bytes} bytes, {bytes_max} are allowed, and none may go")]
    LogFull {
        /// The log.
        log: LogId,
        /// Bytes that it has.
        bytes: u64,
        /// Bytes that it is to have.
        bytes_max: u64,
    },
    /// A write or sync failed.
    #[error("the store has failed: {0}")]
    Poisoned(SyncProblem),
    /// Too much waits for the committer; try again after its next commit.
    #[error("too much waits for the committer")]
    QueueFull,
    /// No record can be so large; or the journal entries have more than
    /// [`JOURNAL_ENTRIES_BYTES_MAX`], or one that is cold has a key of more than 1024 bytes.
    #[error("{bytes} bytes are too large for a record, or for entries of the journal")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a configured log.
    #[error("there is no log {log}")]
    UnknownLog {
        /// The log.
        log: LogId,
    },
}

/// Why a write or a sync failed, as text, because it is told many times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncProblem(Arc<str>);

impl SyncProblem {
    fn new(what: &str) -> Self {
        Self(what.into())
    }

    fn of(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self(text.into())
    }
}

impl fmt::Display for SyncProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the store takes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ready,
    /// Not now: see [`AppendError::DiskFull`].
    DiskFull {
        /// Free bytes when it was last looked at.
        free_bytes: u64,
        /// Bytes that are to stay free.
        reserve_bytes: u64,
    },
    /// Never again in this process.
    Poisoned(SyncProblem),
    /// It is being closed.
    Closing,
}

impl Health {
    fn check(&self) -> Result<(), AppendError> {
        match self {
            Self::Ready => Ok(()),
            Self::DiskFull {
                free_bytes,
                reserve_bytes,
            } => Err(AppendError::DiskFull {
                free_bytes: *free_bytes,
                reserve_bytes: *reserve_bytes,
            }),
            Self::Poisoned(problem) => Err(AppendError::Poisoned(problem.clone())),
            Self::Closing => Err(AppendError::Closing),
        }
    }
}

/// A data folder in use. Cheap to clone; the threads end with [`StoreThreads::close`].
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

/// What belongs to whoever opened the store: closing it.
#[derive(Debug)]
#[must_use = "dropping it leaves the threads running until the process ends"]
pub struct StoreThreads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl StoreThreads {
    /// Writes what was appended and ends the threads. Appends are refused from now on. The folder can
    /// be opened again when the last [`Store`] and reader are gone.
    pub fn close(self) {
        self.shared.begin_close();
        // The committer first: the keeper's last act is to note how far it came.
        for (index, thread) in self.threads.into_iter().enumerate() {
            // A thread that panicked has told so on its own.
            let _ = thread.join();
            if index == 0 {
                self.shared.end_keeping();
            }
        }
    }
}

impl Store {
    /// Gives `message` the next offset of its partition in `log`, which its `key` decides.
    ///
    /// # Errors
    /// The record is not taken, for the reason given.
    pub fn append(
        &self,
        log: LogId,
        key: &[u8],
        message: &Message,
    ) -> Result<Appended, AppendError> {
        self.shared.append(log, key, message, Vec::new())
    }

    /// As [`Self::append`], and sets or, with `None`, removes journal entries with the same commit: the
    /// record is there after a crash exactly if they are. [`Self::journal_entry`] shows them when they
    /// are durable.
    ///
    /// # Errors
    /// Nothing of it is taken, for the reason given.
    pub fn append_with(
        &self,
        log: LogId,
        key: &[u8],
        message: &Message,
        entries: Vec<(JournalKey, Option<Vec<u8>>)>,
    ) -> Result<Appended, AppendError> {
        self.shared.append(log, key, message, entries)
    }

    /// The newest commit that is durable.
    pub fn durable(&self) -> CommitNumber {
        self.shared.counters.durable()
    }

    /// Calls `listener` after each commit and each change of health, from the store's threads. It
    /// must not block.
    pub fn subscribe(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.shared.subscribe(Box::new(listener));
    }

    /// Ends the linger of the records that wait for company: whoever could bring more is waiting for
    /// them.
    pub fn hurry(&self) {
        self.shared.hurry_records();
    }

    /// Sends the open commit on its way if it is this one: somebody waits for it.
    pub fn hurry_commit(&self, commit: CommitNumber) {
        self.shared.hurry_commit(commit);
    }

    /// Whether it takes records.
    pub fn health(&self) -> Health {
        self.shared.state().health.clone()
    }

    /// Since when the committer writes a commit, or has left one lying that is due; `None` while there is
    /// nothing for it to do. For a watchdog: with [`Self::durable`] it says whether commits still come to
    /// an end.
    pub fn commit_waits_since(&self) -> Option<Instant> {
        self.shared.state().waits_since(Instant::now())
    }

    /// Waits until `commit` is durable. Blocks: not for an I/O thread.
    ///
    /// # Errors
    /// The store failed or was closed before.
    pub fn wait_durable(&self, commit: CommitNumber) -> Result<(), AppendError> {
        self.shared.wait_durable(commit)
    }

    /// The logs of the folder, also those that are no longer configured.
    pub fn logs(&self) -> Vec<Log> {
        self.shared.state().logs.values().cloned().collect()
    }

    /// The log of this name.
    pub fn log(&self, name: &str) -> Option<Log> {
        self.shared
            .state()
            .logs
            .values()
            .find(|log| log.name == name)
            .cloned()
    }

    /// First offset that is kept of a partition.
    pub fn log_start(&self, partition: LogPartition) -> Offset {
        self.shared.log_start(partition)
    }

    /// What a partition takes on flash: bytes of its batches, and segments that hold any. Whole
    /// segments count, also what lies before the log start.
    pub fn partition_usage(&self, partition: LogPartition) -> (u64, usize) {
        let index = self.shared.segments.index();
        let parts = index.all().filter_map(|(_, record)| record.part(partition));
        parts.fold((0, 0), |(bytes, segments), part| {
            (bytes + part.bytes, segments + 1)
        })
    }

    /// First offset of a partition that is not yet durable; nothing behind it is ever shown.
    pub fn high_watermark(&self, partition: LogPartition) -> Offset {
        self.shared.state().journal.ends(partition).next_offset
    }

    /// The logs that refuse records now because none of theirs may go, and the bytes that each has.
    pub fn full_logs(&self) -> Vec<(LogId, u64)> {
        let state = self.shared.state();
        state
            .full
            .iter()
            .map(|(log, bytes)| (*log, *bytes))
            .collect()
    }

    /// The pin of this name; see [`crate::OnFull::Reject`].
    pub fn pin(&self, name: &str) -> Pin {
        Pin::new(Arc::clone(&self.shared), name)
    }

    /// Reads the records of a partition, from `from` on.
    pub fn partition_reader(&self, partition: LogPartition, from: Offset) -> PartitionReader {
        PartitionReader::new(Arc::clone(&self.shared), partition, from)
    }

    /// Reads whole commits, from `from` on.
    pub fn commit_reader(&self, from: CommitNumber) -> CommitReader {
        CommitReader::new(Arc::clone(&self.shared), from)
    }

    /// Adds to what a [`TopicMatch`] wants: `wants` is asked for each topic that was looked at and not
    /// wanted so far.
    pub fn widen_match(&self, topics: &mut TopicMatch, mut wants: impl FnMut(&[u8]) -> bool) {
        topics.widen(&self.shared, &mut wants);
    }

    /// The value of a journal entry, as it is on flash. One of a cold kind may have to be read from
    /// there; if that fails it is told in the log, and there is none.
    pub fn journal_entry(&self, key: &JournalKey) -> Option<Vec<u8>> {
        self.shared.entry(key)
    }

    /// The journal entries of a kind, as they are on flash. Of a cold kind, only what changed last
    /// stands in the journal, removals as empty values: see [`Self::cold_entries`].
    pub fn journal_entries(&self, kind: JournalKind) -> Vec<(JournalKey, Vec<u8>)> {
        let state = self.shared.state();
        state
            .journal
            .of_kind(kind)
            .map(|(key, value)| (key.clone(), value.to_vec()))
            .collect()
    }

    /// Sets, or with `None` removes, a journal entry with the next commit. If there is none within
    /// `within`, it gets one of its own.
    ///
    /// # Errors
    /// The store has failed or is closing. A full disk does not refuse it: the reserve is for this.
    pub fn put_journal_entry(
        &self,
        key: JournalKey,
        value: Option<Vec<u8>>,
        within: Duration,
    ) -> Result<CommitNumber, AppendError> {
        self.shared.put(vec![(key, value)], within)
    }

    /// As [`Self::put_journal_entry`], of several, all with the same commit. Of a cold kind an empty
    /// value removes the entry. Nothing holds back who puts without waiting for the commit.
    ///
    /// # Errors
    /// As there; or they are too large for one commit, and none is taken.
    pub fn put_journal_entries(
        &self,
        entries: Vec<(JournalKey, Option<Vec<u8>>)>,
        within: Duration,
    ) -> Result<CommitNumber, AppendError> {
        self.shared.put(entries, within)
    }

    /// Writes down records that are lost, with the next commit; and, in the same commit, the entry
    /// that says that they were counted.
    ///
    /// # Errors
    /// As [`Self::put_journal_entry`].
    pub fn record_gap(
        &self,
        gap: &Gap,
        counted: Option<(JournalKey, Vec<u8>)>,
    ) -> Result<CommitNumber, AppendError> {
        self.shared.record_gap(gap, counted)
    }

    /// The gap ledger.
    pub fn gaps(&self) -> Vec<Gap> {
        self.shared.gaps()
    }

    /// Now, by the current era's provisional clock, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.shared.now_ms()
    }

    /// Now, as well as it is known.
    pub fn now(&self) -> CorrectedTime {
        self.shared.now()
    }

    /// Whether the times of what is appended now can be right; see [`Era::is_plausible`].
    pub fn clock_is_plausible(&self) -> bool {
        let state = self.shared.state();
        state
            .current_era()
            .is_some_and(|(_, era)| era.is_plausible())
    }

    /// The era of what is appended now.
    pub fn current_era(&self) -> EraId {
        let state = self.shared.state();
        state.current_era().map_or(EraId(0), |(id, _)| id)
    }

    /// The era's clock. Unknown eras have lost their commits; their times are taken as they are.
    pub fn era(&self, era: EraId) -> Option<Era> {
        self.shared.state().eras.get(&era).copied()
    }

    /// Fixes the era's clock for good, because its times are about to be told to others. Returns the
    /// commit with which that is durable.
    ///
    /// # Errors
    /// As [`Self::put_journal_entry`].
    pub fn freeze_era(&self, era: EraId) -> Result<CommitNumber, AppendError> {
        self.shared.freeze_era(era)
    }

    /// The folder's incarnation now.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.current_span().1.incarnation
    }

    /// The span that new records are of.
    pub fn span(&self) -> SpanId {
        self.shared.current_span().0
    }

    /// What is written down of a span.
    pub fn span_of(&self, span: SpanId) -> Option<Span> {
        self.shared.span(span)
    }

    /// Retained messages as they were found when the store was opened; given out once.
    pub fn take_recovered_retained(&self) -> Vec<RecoveredRetained> {
        self.shared.take_recovered_retained()
    }

    /// What was out of the ordinary when the store was opened.
    pub fn recovery_events(&self) -> &[RecoveryEvent] {
        &self.shared.recovery_events
    }

    /// Counts since the store was opened.
    pub fn counters(&self) -> &StoreCounters {
        &self.shared.counters
    }

    /// State for people and programs to look at.
    pub fn status(&self) -> StoreStatus {
        self.shared.status()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The data folder.
    pub fn path(&self) -> &Path {
        self.shared.folder_path()
    }
}

/// A retained message that was found on flash.
#[derive(Clone, Debug)]
pub struct RecoveredRetained {
    /// The era whose clock its expiry is of.
    pub era: EraId,
    /// The message.
    pub message: Message,
}
