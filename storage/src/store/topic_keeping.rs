//! The keeper's part in [`crate::topics`]: storing what is known of a sealed segment, and forgetting
//! the names that no set names any more.
//!
//! Invariants: names are durable before a set that uses their numbers is written, and sets that are
//! gone are durably gone before a name is forgotten.

use std::time::{Duration, Instant};

use crate::ids::{CommitNumber, SegmentId};
use crate::metadata::{MetadataError, SegmentRecord, SegmentState};
use crate::store::Shared;
use crate::topics::{Run, TopicSet};

/// All sets are read for it.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Stores the topics of a segment with this record. They are durable with the next flush; the names
/// are at once.
pub(crate) fn store(
    shared: &Shared,
    id: SegmentId,
    record: &SegmentRecord,
    runs: Vec<Run>,
) -> Result<(), MetadataError> {
    let (names, next) = shared.state().topics.unstored();
    if !names.is_empty() {
        shared.metadata.put_topics(&names, next)?;
        shared.metadata.flush()?;
        shared.state().topics.note_stored(next);
    }
    shared.metadata.put_topics_of(id, record, runs)
}

/// When names were looked for last that can be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Forgetting {
    /// When, and what the index was then.
    last: Option<(Instant, u64)>,
}

impl Forgetting {
    /// Forgets names if there is little room for new ones and segments may have gone since.
    pub(crate) fn look(&mut self, shared: &Shared) -> Result<(), MetadataError> {
        let now = Instant::now();
        let version = shared.segments.index().version;
        let is_due = self.last.is_none_or(|(last, seen)| {
            seen != version && now.duration_since(last) >= FORGET_INTERVAL
        });
        if !is_due || !shared.state().topics.is_nearly_full() {
            return Ok(());
        }
        self.last = Some((now, version));
        forget(shared)
    }
}

pub(crate) fn forget(shared: &Shared) -> Result<(), MetadataError> {
    // What is newer than the look at the sets stays.
    let below = shared.state().topics.next();
    let sealed = last_sealed(shared);
    let named = shared.metadata.named_topics()?;
    shared.metadata.flush()?;
    let is_named = |number| named.contains(&number);
    let forgotten = shared.state().topics.forget(below, sealed, is_named);
    shared.metadata.remove_topics(&forgotten)?;
    let count = forgotten.len();
    tracing::debug!(count, "Topics forgotten that are nowhere in the log.");
    Ok(())
}

/// The commit up to which all segments are sealed.
fn last_sealed(shared: &Shared) -> CommitNumber {
    let index = shared.segments.index();
    let sealed = index.sealed.values();
    let sealed = sealed.take_while(|record| record.state == SegmentState::Sealed);
    sealed
        .last()
        .map_or(CommitNumber(0), |record| record.last_commit)
}

/// The topics of a segment that is copied.
pub(crate) struct CopiedTopics(Vec<Run>);

impl CopiedTopics {
    /// What is not known is taken for anything: the copy is right without, only slower to read.
    pub(crate) fn of(shared: &Shared, id: SegmentId, record: &SegmentRecord) -> Self {
        let stored = || {
            let topics = shared.metadata.topics_of(id, record).ok()??;
            shared.metadata.runs_of(id, record).ok()??.runs(&topics)
        };
        Self(stored().unwrap_or_default())
    }

    /// Those that a commit of it may have.
    pub(crate) fn of_commit(&self, commit: CommitNumber) -> TopicSet {
        let at = self.0.partition_point(|run| run.last < commit);
        let run = self.0.get(at).filter(|run| run.first <= commit);
        run.map_or_else(TopicSet::any, |run| run.topics.clone())
    }
}
