//! What the store's handle, its two threads and its readers share.
//!
//! Lock order, where two are held: state, then the segments' index. Nothing waits for flash while it
//! holds one of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::clock::{CorrectedTime, TimeQuality};
use crate::damaged_segments::DamagedSegments;
use crate::database::DatabaseError;
use crate::flash::{FlashStatus, FlashUse};
use crate::folder::Folder;
use crate::gap::{self, Gap, GapReason};
use crate::identity::Span;
use crate::ids::{CommitNumber, EraId, LogId, LogPartition, Offset, SegmentId, SpanId};
use crate::journal::JournalKey;
use crate::message::Message;
use crate::metadata::{Metadata, MetadataError, SegmentRecord};
use crate::recovery::RecoveryEvent;
use crate::ring::Ring;
use crate::segment::SegmentWriter;
use crate::segments::Segments;
use crate::store::counters::StoreCounters;
use crate::store::evacuations::Evacuations;
use crate::store::flash_account::FlashAccount;
use crate::store::keeper::ToSeal;
use crate::store::oldest_segment::{self, OldestSegment, Seen};
use crate::store::pins::Pins;
use crate::store::state::{Entries, State};
use crate::store::{AppendError, Appended, Health, RecoveredRetained, StoreOptions};

type Listener = Box<dyn Fn() + Send + Sync>;

/// See the module's documentation.
pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) folder: Folder,
    pub(crate) metadata: Metadata,
    pub(crate) segments: Segments,
    pub(crate) counters: StoreCounters,
    pub(crate) recovery_events: Vec<RecoveryEvent>,
    state: Mutex<State>,
    /// The committer waits here for something to write, others for something to be durable.
    work: Condvar,
    progress: Condvar,
    ring: RwLock<Ring>,
    listeners: RwLock<Vec<Listener>>,
    keeping: Mutex<Keeping>,
    keeper_wake: Condvar,
    /// The segment after the active one, if it is made; locked while one is being made.
    ready: Mutex<Option<SegmentWriter>>,
    recovered_retained: Mutex<Vec<RecoveredRetained>>,
    pub(crate) evacuations: Evacuations,
    pub(crate) pins: Pins,
    flash: Mutex<FlashAccount>,
    /// Bytes that may still be committed before a resting keeper is to look; 0: it does not rest.
    rest_bytes: AtomicI64,
}

/// What is between the committer and the keeper.
#[derive(Debug, Default)]
struct Keeping {
    to_seal: VecDeque<ToSeal>,
    closing: bool,
    /// What the last round of upkeep failed of.
    trouble: Option<String>,
}

/// State of the store for people and programs.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// Whether it takes records.
    pub health: Health,
    /// What upkeep fails of now, if it does. Nothing that was acknowledged hangs on it; if it stays,
    /// no new segment can be begun, and then the store fails.
    pub upkeep_trouble: Option<String>,
    /// Newest durable commit.
    pub durable: CommitNumber,
    /// Segments on flash.
    pub segments: usize,
    /// Segments whose databases are open.
    pub segments_open: usize,
    /// Sealed segments that were found damaged when they were opened for reading, since the start, and
    /// copied into quarantine for what lies behind the damage.
    pub damage_copies: usize,
    /// Sealed segments that were found damaged by whoever read them, since the start.
    pub damaged_segments: DamagedSegments,
    /// Bytes of all commits that are kept.
    pub bytes: u64,
    /// Bytes that wait for the committer.
    pub queued_bytes: usize,
    /// Cold journal entries, of sessions for example, that each new segment begins with: they changed
    /// last, and are on their way into the metadata.
    pub cold_in_journal: usize,
    /// What the flash takes.
    pub flash: FlashStatus,
    /// Oldest segment, and what keeps it.
    pub oldest_segment: Option<OldestSegment>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere does not make our plain data wrong; a poisoned store says so in its health.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        options: StoreOptions,
        folder: Folder,
        metadata: Metadata,
        segments: Segments,
        state: State,
        recovery_events: Vec<RecoveryEvent>,
        recovered_retained: Vec<RecoveredRetained>,
    ) -> Self {
        let counters = StoreCounters::new(segments.opened_count());
        counters.set_durable(state.durable);
        let flash = FlashAccount::new(
            &state.journal,
            FlashUse::of_process(&counters, 0),
            options.flash_budget_bytes_per_day,
            Instant::now(),
        );
        Self {
            ring: RwLock::new(Ring::new(options.ring_bytes_max)),
            options,
            folder,
            metadata,
            segments,
            counters,
            recovery_events,
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            listeners: RwLock::new(Vec::new()),
            keeping: Mutex::new(Keeping::default()),
            keeper_wake: Condvar::new(),
            ready: Mutex::new(None),
            recovered_retained: Mutex::new(recovered_retained),
            evacuations: Evacuations::default(),
            pins: Pins::default(),
            flash: Mutex::new(flash),
            rest_bytes: AtomicI64::new(0),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    pub(crate) fn ring(&self) -> std::sync::RwLockWriteGuard<'_, Ring> {
        self.ring.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read_ring(&self) -> std::sync::RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn folder_path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn segments_path(&self) -> PathBuf {
        self.folder.segments()
    }

    pub(crate) fn take_recovered_retained(&self) -> Vec<RecoveredRetained> {
        std::mem::take(&mut *locked(&self.recovered_retained))
    }

    // Appending

    pub(crate) fn append(
        &self,
        log: LogId,
        key: &[u8],
        message: &Message,
        entries: Entries,
    ) -> Result<Appended, AppendError> {
        let mut state = self.state();
        let timestamp_ms = provisional_now(&state, &self.options);
        let due = state.next_due();
        let appended = state.append(log, key, message, entries, timestamp_ms, Instant::now());
        let is_earlier = state.next_due() != due;
        drop(state);
        // The committer looks before it sleeps: it need not hear of every record.
        if is_earlier {
            self.work.notify_one();
        }
        appended
    }

    pub(crate) fn put(
        &self,
        entries: Entries,
        within: Duration,
    ) -> Result<CommitNumber, AppendError> {
        let mut state = self.state();
        check_journal(&state.health)?;
        let commit = state.put_all(entries, Instant::now(), within);
        drop(state);
        self.work.notify_one();
        commit
    }

    pub(crate) fn freeze_era(&self, id: EraId) -> Result<CommitNumber, AppendError> {
        let mut state = self.state();
        check_journal(&state.health)?;
        let commit = state.freeze_era(id, Instant::now());
        drop(state);
        self.work.notify_one();
        Ok(commit)
    }

    /// Sends the records of the open commit on their way.
    pub(crate) fn hurry_records(&self) {
        self.state().hurry_records(Instant::now());
        self.work.notify_one();
    }

    /// Sends the open commit on its way if it is this one.
    pub(crate) fn hurry_commit(&self, commit: CommitNumber) {
        self.state().hurry_commit(commit, Instant::now());
        self.work.notify_one();
    }

    /// Sends the open commit on its way, whatever is in it.
    pub(crate) fn hurry_open_commit(&self) -> CommitNumber {
        let commit = self.state().hurry_open(Instant::now());
        self.work.notify_one();
        commit
    }

    // The committer's side

    pub(crate) fn wake_committer(&self) {
        self.work.notify_one();
    }

    pub(crate) fn wait_for_work<'a>(
        &self,
        state: MutexGuard<'a, State>,
        due: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match due {
            None => self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(due) => {
                let wait = due.saturating_duration_since(Instant::now());
                let waited = self.work.wait_timeout(state, wait);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Tells everybody that something became durable or that the health changed.
    pub(crate) fn announce(&self) {
        let durable = self.state().durable;
        self.counters.set_durable(durable);
        self.progress.notify_all();
        for listener in self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            listener();
        }
    }

    pub(crate) fn subscribe(&self, listener: Listener) {
        self.listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(listener);
    }

    pub(crate) fn wait_durable(&self, commit: CommitNumber) -> Result<(), AppendError> {
        let mut state = self.state();
        while state.durable < commit {
            if let Health::Poisoned(problem) = &state.health {
                return Err(AppendError::Poisoned(problem.clone()));
            }
            // Closing ends with all commits written, so there is an end to this wait.
            state = self
                .progress
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Changes the health, but never back from one that is final.
    pub(crate) fn set_health(&self, health: Health) {
        let mut state = self.state();
        let is_final = matches!(state.health, Health::Poisoned(_) | Health::Closing)
            && !matches!(health, Health::Poisoned(_));
        if !is_final {
            state.health = health;
        }
        drop(state);
        self.work.notify_all();
        self.announce();
    }

    /// Says which logs are full; everybody who waits for room hears of a change.
    pub(crate) fn set_full_logs(&self, full: BTreeMap<LogId, u64>) {
        let mut state = self.state();
        let is_same = state.full.keys().eq(full.keys());
        state.full = full;
        drop(state);
        if !is_same {
            self.announce();
        }
    }

    pub(crate) fn is_any_log_full(&self) -> bool {
        !self.state().full.is_empty()
    }

    pub(crate) fn begin_close(&self) {
        // Statistics are not worth a commit for which there may be no room.
        if matches!(self.state().health, Health::Ready) {
            self.close_flash_account();
        }
        self.set_health(Health::Closing);
        self.evacuations.end();
    }

    pub(crate) fn end_keeping(&self) {
        locked(&self.keeping).closing = true;
        self.keeper_wake.notify_all();
    }

    pub(crate) fn wake_keeper(&self) {
        self.keeper_wake.notify_one();
    }

    // Between committer and keeper

    pub(crate) fn make_segment(&self, id: SegmentId) -> Result<SegmentWriter, MakeSegmentError> {
        let writer = SegmentWriter::create(&self.segments_path(), id)?;
        // The index knows of a segment before anything is in it.
        self.metadata.put_segment(id, &SegmentRecord::created())?;
        self.metadata.flush()?;
        Ok(writer)
    }

    /// Makes the segment after the active one the active one, and returns what to write with. The
    /// writer of the old one must be gone when `let_go` returns.
    pub(crate) fn roll(
        &self,
        let_go: impl FnOnce(SegmentWriter) -> SegmentId,
    ) -> Result<SegmentId, MakeSegmentError> {
        let mut ready = locked(&self.ready);
        let next = SegmentId(self.segments.index().active.0.0 + 1);
        let writer = match ready.take() {
            Some(writer) => writer,
            None => self.make_segment(next)?,
        };
        let database = writer.database().clone();
        let id = let_go(writer);
        let old = self.segments.roll(id, database);
        drop(ready);
        self.keeper_wake.notify_one();
        Ok(old)
    }

    /// Makes the next segment if the active one is half full and there is none yet.
    pub(crate) fn prepare_segment(&self) {
        let mut ready = locked(&self.ready);
        let (active, bytes) = {
            let index = self.segments.index();
            (index.active.0, index.active.1.bytes)
        };
        if bytes < self.options.segment_bytes / 2 || ready.is_some() {
            return;
        }
        match self.make_segment(SegmentId(active.0 + 1)) {
            Ok(writer) => *ready = Some(writer),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "Next segment could not be made ahead of time.");
            }
        }
    }

    pub(crate) fn seal_later(&self, to_seal: ToSeal) {
        locked(&self.keeping).to_seal.push_back(to_seal);
        self.keeper_wake.notify_one();
    }

    /// Puts back what could not be sealed: later segments must not be sealed before it, or its older
    /// retained messages would take the place of theirs.
    pub(crate) fn seal_first(&self, to_seal: ToSeal) {
        locked(&self.keeping).to_seal.push_front(to_seal);
    }

    pub(crate) fn next_to_seal(&self) -> Option<ToSeal> {
        locked(&self.keeping).to_seal.pop_front()
    }

    /// Notes how the round of upkeep went; whether that is news.
    pub(crate) fn note_upkeep(&self, trouble: Option<String>) -> bool {
        let mut keeping = locked(&self.keeping);
        let is_news = keeping.trouble != trouble;
        keeping.trouble = trouble;
        is_news
    }

    /// The account of the flash.
    pub(crate) fn flash(&self) -> MutexGuard<'_, FlashAccount> {
        locked(&self.flash)
    }

    /// A commit was written: ends the keeper's rest when there have been many.
    pub(crate) fn disturb_keeper(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.rest_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > 0 && before <= bytes {
            drop(locked(&self.keeping)); // It waits, or it has not looked yet.
            self.keeper_wake.notify_one();
        }
    }

    /// Waits for something to do or for `interval`, not so long if `rest_bytes` are committed first
    /// (0: that does not count); false when it is time to end.
    pub(crate) fn wait_as_keeper(&self, interval: Duration, rest_bytes: i64) -> bool {
        self.rest_bytes.store(rest_bytes, Ordering::Relaxed);
        let keeping = locked(&self.keeping);
        if keeping.closing {
            return false;
        }
        let waited = self.keeper_wake.wait_timeout(keeping, interval);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    // Looking

    pub(crate) fn now_ms(&self) -> i64 {
        provisional_now(&self.state(), &self.options)
    }

    pub(crate) fn now(&self) -> CorrectedTime {
        let state = self.state();
        let provisional_ms = provisional_now(&state, &self.options);
        let era = state.current_era().map(|(_, era)| *era);
        era.map_or(
            CorrectedTime {
                ms: provisional_ms,
                quality: TimeQuality::Estimated,
            },
            |era| era.corrected(provisional_ms),
        )
    }

    pub(crate) fn current_span(&self) -> (SpanId, Span) {
        let state = self.state();
        let id = state.span();
        // Opening wrote it before anything else.
        (id, state.span_of(id).cloned().unwrap_or_else(Span::unknown))
    }

    pub(crate) fn span(&self, id: SpanId) -> Option<Span> {
        self.state().span_of(id).cloned()
    }

    pub(crate) fn log_start(&self, partition: LogPartition) -> Offset {
        let log_start = self.state().journal.ends(partition).log_start;
        let index = self.segments.index();
        let first = index.all().find_map(|(_, record)| record.part(partition));
        first.map_or(log_start, |part| log_start.max(part.base_offset))
    }

    pub(crate) fn gaps(&self) -> Vec<Gap> {
        self.state().gaps().cloned().collect()
    }

    /// See [`gap::noted`].
    pub(crate) fn noted_gap(
        &self,
        partition: LogPartition,
        from: Offset,
        to: Offset,
    ) -> (Option<GapReason>, Offset) {
        gap::noted(self.state().gaps(), partition, from, to)
    }

    pub(crate) fn record_gap(
        &self,
        gap: &Gap,
        counted: Option<(JournalKey, Vec<u8>)>,
    ) -> Result<CommitNumber, AppendError> {
        let mut state = self.state();
        check_journal(&state.health)?;
        let commit = state.record_gap(gap, counted, Instant::now());
        drop(state);
        self.work.notify_one();
        Ok(commit)
    }

    pub(crate) fn status(&self) -> StoreStatus {
        let upkeep_trouble = locked(&self.keeping).trouble.clone();
        let flash = self.flash_status();
        let places = self.pins.places();
        let state = self.state();
        let index = self.segments.index();
        let seen = Seen::copy(&state, &index, places);
        let (health, durable) = (state.health.clone(), state.durable);
        let queued_bytes = state.queued_bytes();
        let cold_in_journal = state.cold_in_journal();
        let segments = index.sealed.len() + 1;
        let bytes = index.all().map(|(_, record)| record.bytes).sum();
        drop(index);
        drop(state);
        StoreStatus {
            health,
            upkeep_trouble,
            durable,
            segments,
            segments_open: self.segments.open_count(),
            damage_copies: self.segments.damage_copies(),
            damaged_segments: self.segments.damaged_segments(),
            bytes,
            queued_bytes,
            cold_in_journal,
            flash,
            oldest_segment: oldest_segment::look(self, &seen),
        }
    }
}

/// A segment that could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeSegmentError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

fn provisional_now(state: &State, options: &StoreOptions) -> i64 {
    let clock = options.clock.as_ref();
    state
        .current_era()
        .map_or_else(|| clock.wall_ms(), |(_, era)| era.provisional_ms(clock))
}

/// A full disk refuses messages, not the journal: the reserve is kept for it.
fn check_journal(health: &Health) -> Result<(), AppendError> {
    match health {
        Health::DiskFull { .. } => Ok(()),
        other => other.check(),
    }
}
