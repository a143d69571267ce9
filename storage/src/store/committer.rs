//! The committer: one thread that takes what was collected, writes it as one commit, syncs once, and
//! says so. While it syncs, the next commit collects.
//!
//! Invariant: nothing is announced as durable before the flush of its commit has returned; after a
//! flush that failed nothing is announced ever again.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::commit::{Commit, CommitError};
use crate::ids::SegmentId;
use crate::journal::{JournalError, Operation};
use crate::metadata::RetainedRecord;
use crate::retained::retained_records;
use crate::segment::SegmentWriter;
use crate::store::keeper::ToSeal;
use crate::store::open_commit::OpenCommit;
use crate::store::shared::MakeSegmentError;
use crate::store::{Health, Shared, SyncProblem};
use crate::topics::RunsBuilder;

/// A segment with less than this part of its bytes stays open however quiet it is.
const QUIET_SHARE: u64 = 8;

/// Retained messages of a segment, newest of each topic.
pub(crate) type RetainedOfSegment = BTreeMap<Bytes, RetainedRecord>;

/// See the module's documentation.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    writer: SegmentWriter,
    /// What the active segment set or cleared.
    retained: RetainedOfSegment,
    /// Which topics are where in it.
    topics: RunsBuilder,
    /// Bytes in the active segment.
    segment_bytes: u64,
    /// When the last commit was written.
    quiet_since: Instant,
}

/// What the committer is to do.
enum Next {
    Write(OpenCommit),
    /// Nothing came for long, and the active segment takes memory.
    LetGo,
    /// The store closes and nothing is left, or it is poisoned.
    End,
}

/// A commit that could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("write to segment {segment}")]
    Segment {
        segment: SegmentId,
        source: sled::Error,
    },
    #[error("begin a new segment")]
    Roll(#[from] MakeSegmentError),
    #[error("encode the journal")]
    Journal(#[from] JournalError),
    #[error("encode the commit")]
    Commit(#[from] CommitError),
}

impl Committer {
    /// Writes to an empty segment.
    pub(crate) fn new(shared: Arc<Shared>, writer: SegmentWriter) -> Self {
        Self {
            shared,
            writer,
            retained: BTreeMap::new(),
            topics: RunsBuilder::default(),
            segment_bytes: 0,
            quiet_since: Instant::now(),
        }
    }

    /// Runs until the store is closed or poisoned.
    pub(crate) fn run(self) {
        let shared = Arc::clone(&self.shared);
        // sled panics on some damage; whoever waits for a commit must then be told.
        if panic::catch_unwind(AssertUnwindSafe(|| self.commit_all())).is_err() {
            poison(&shared, SyncProblem::new("the committer panicked"));
        }
    }

    fn commit_all(mut self) {
        loop {
            match self.next() {
                Next::Write(open) => {
                    if let Err(error) = self.write(open) {
                        poison(&self.shared, SyncProblem::of(&error));
                        return;
                    }
                    self.quiet_since = Instant::now();
                    self.shared.announce();
                }
                Next::LetGo => self.let_go(),
                Next::End => return,
            }
        }
    }

    /// Waits for the next commit that is due, or until nothing has come for long.
    fn next(&self) -> Next {
        let let_go_at = self.let_go_at();
        let mut state = self.shared.state();
        loop {
            let closing = state.health == Health::Closing;
            if matches!(state.health, Health::Poisoned(_)) {
                return Next::End;
            }
            let now = Instant::now();
            match state.take_due(now, closing) {
                Ok(commit) => return Next::Write(commit),
                Err(_) if closing => return Next::End,
                Err(_)
                    if state.health == Health::Ready && let_go_at.is_some_and(|at| at <= now) =>
                {
                    return Next::LetGo;
                }
                Err(due) => {
                    let until = due.into_iter().chain(let_go_at).min();
                    state = self.shared.wait_for_work(state, until);
                }
            }
        }
    }

    /// When to go on in a new segment although this one is not full: an open database has its pages in
    /// memory. One that holds little takes little, and would be one more file to look into for ever.
    fn let_go_at(&self) -> Option<Instant> {
        let options = &self.shared.options;
        let holds_much = self.segment_bytes >= options.segment_bytes / QUIET_SHARE;
        let quiet_for = options.quiet_after?;
        holds_much.then(|| self.quiet_since + quiet_for)
    }

    /// Goes on in a new segment, and lets go of what readers have had for long.
    fn let_go(&mut self) {
        if let Err(error) = self.roll() {
            // Nobody waits for it; a commit that needs a new segment says what is wrong.
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "Segment of a quiet gateway stays open.");
        }
        // Also after an error: it is tried again when as much time has passed.
        self.quiet_since = Instant::now();
        self.shared.ring().let_go();
        self.shared.segments.close_unread();
    }

    fn write(&mut self, mut open: OpenCommit) -> Result<(), WriteError> {
        let begins_segment = self.segment_bytes == 0;
        let full = self.segment_bytes + open.bytes() as u64 > self.shared.options.segment_bytes;
        if full && !begins_segment {
            self.roll()?;
        }
        let (queued_bytes, number) = (open.bytes(), open.number());
        let (records, has_retained) = (open.records(), open.has_retained());
        let (payload_bytes, topics) = (open.payload_bytes(), open.take_topics());
        let (span, snapshot) = {
            let state = self.shared.state();
            let begins = self.segment_bytes == 0;
            let snapshot =
                begins.then(|| Operation::Snapshot(state.journal.to_snapshot(self.writer.id())));
            (state.journal.span(), snapshot)
        };
        let (body, operations) = open.into_body(span, snapshot)?;
        let commit = Commit::parse(number, body)?;
        let segment = self.writer.id();
        self.writer
            .write(&commit)
            .map_err(|source| WriteError::Segment { segment, source })?;

        self.topics.add(number, self.writer.begins_in(), &topics);
        self.segment_bytes += commit.size_bytes() as u64;
        if has_retained {
            self.retained.extend(retained_records(&commit));
        }
        let counters = &self.shared.counters;
        counters.committed(records, commit.size_bytes(), payload_bytes);
        self.shared.disturb_keeper(commit.size_bytes());
        self.shared.segments.committed(&commit);
        self.shared.ring().push(commit.clone());
        let mut state = self.shared.state();
        for operation in operations {
            state.journal.apply(operation);
        }
        for batch in commit.batches() {
            state.journal.advance(batch.partition, batch.next_offset);
        }
        state.committed(queued_bytes);
        state.durable = number;
        Ok(())
    }

    /// Goes on in a new segment; the old one is sealed by the keeper.
    fn roll(&mut self) -> Result<(), MakeSegmentError> {
        let shared = Arc::clone(&self.shared);
        let old = shared.roll(|next| {
            let id = next.id();
            // The old writer lets go of its database before others may close it.
            self.writer = next;
            id
        })?;
        self.segment_bytes = 0;
        shared.seal_later(ToSeal {
            segment: old,
            retained: std::mem::take(&mut self.retained),
            topics: std::mem::take(&mut self.topics).into_runs(),
        });
        Ok(())
    }
}

/// The store has failed for good: everybody is told, and nothing is acknowledged any more.
pub(crate) fn poison(shared: &Shared, problem: SyncProblem) {
    tracing::error!(%problem, "Store failed; nothing more is acknowledged.");
    shared.set_health(Health::Poisoned(problem));
}
