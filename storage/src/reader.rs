//! Reading the log: by partition and offset, or commit by commit.
//!
//! Whoever keeps up is served from memory; whoever is behind reads one segment at a time. Readers
//! never see beyond the high watermark. They block on flash: not for an I/O thread.
//!
//! Invariant: a reader gives every record from where it began up to the high watermark, in order,
//! or says which it cannot give.

mod by_time;
mod commits;
mod lookup;
#[cfg(test)]
mod matching_tests;
mod missing;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

use record_batch::Batch;

use crate::commit::{Commit, CommitError};
use crate::database::DatabaseError;
use crate::gap::GapReason;
use crate::ids::{CommitNumber, EraId, LogPartition, Offset, SegmentId, SpanId};
use crate::segment::{self, ScanError};
use crate::segment_name::SegmentName;
use crate::store::Shared;
pub use commits::CommitReader;
use lookup::open_found;
pub use missing::Missing;

/// Bytes of commits that one call looks through before it comes back, with or without a find.
const VISIT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A batch as it is stored.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// The commit that it is of.
    pub commit: CommitNumber,
    /// The era whose provisional clock its times are of.
    pub era: EraId,
    /// The span that its offsets are of.
    pub span: SpanId,
    /// The records.
    pub batch: Batch,
}

/// What a call found.
#[derive(Clone, Debug)]
pub enum Read {
    /// Batches in order, possibly none: then call again. The first may begin before the offset that
    /// was asked for.
    Batches(Vec<StoredBatch>),
    /// The records from `from` up to `to` cannot be had; the reader goes on at `to`.
    Gap {
        /// First offset that is missing.
        from: Offset,
        /// First offset that is there again.
        to: Offset,
        /// Why.
        reason: GapReason,
    },
    /// The reader is at the high watermark.
    UpToDate,
}

/// The log cannot be read now.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment that is written to cannot be read, or the machine gives no answer.
    #[error("segment {segment} cannot be read")]
    Scan {
        /// Which.
        segment: SegmentId,
        /// Why.
        source: ScanError,
    },
    /// A segment cannot be opened.
    #[error("segment {segment} cannot be opened")]
    Open {
        /// Which.
        segment: SegmentId,
        /// Why.
        source: DatabaseError,
    },
}

impl ReadError {
    /// Whether a segment is so damaged that it cannot be opened.
    fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Open {
                source: DatabaseError::Damaged { .. },
                ..
            }
        )
    }
}

/// Reads a partition. Its place is remembered from call to call.
#[derive(Debug)]
pub struct PartitionReader {
    shared: Arc<Shared>,
    partition: LogPartition,
    next: Offset,
    /// All earlier commits are read, or hold nothing at or behind `next`.
    at: Option<CommitNumber>,
}

impl PartitionReader {
    pub(crate) fn new(shared: Arc<Shared>, partition: LogPartition, from: Offset) -> Self {
        Self {
            shared,
            partition,
            next: from,
            at: None,
        }
    }

    /// Offset of the next record that it gives.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Goes on at `offset`.
    pub fn seek(&mut self, offset: Offset) {
        self.next = offset;
        self.at = None;
    }

    /// Reads on: at least one batch if there is one, and more up to about `bytes_max`.
    ///
    /// # Errors
    /// The flash cannot be read, or the machine gives no files; the reader stays where it is.
    pub fn read(&mut self, bytes_max: usize) -> Result<Read, ReadError> {
        let partition = self.partition;
        let (high_watermark, durable) = {
            let state = self.shared.state();
            (state.journal.ends(partition).next_offset, state.durable)
        };
        if self.next >= high_watermark {
            return Ok(Read::UpToDate);
        }
        let log_start = self.shared.log_start(partition);
        if self.next < log_start {
            return Ok(self.gap(log_start.min(high_watermark), GapReason::Retention));
        }
        let from = match self.at {
            Some(at) => at,
            None => match self.locate()? {
                Some(at) => at,
                None => return Ok(self.gap(high_watermark, GapReason::Quarantine)),
            },
        };
        let mut collected = Collected {
            next: self.next,
            bytes: 0,
            visited: 0,
            commits: Vec::new(),
        };
        let mut jump = None;
        if self.shared.read_ring().from(from).is_none() {
            self.shared.counters.partition_read();
        }
        let visited = visit(&self.shared, from, durable, &mut |commit| {
            collected.take(commit, partition, bytes_max, &mut jump)
        })?;
        let at_end = visited.next > durable && visited.damaged.is_none();
        if at_end && jump.is_none() && collected.commits.is_empty() {
            // Offsets leapt to the high watermark and nothing came since, or the last ones are missing.
            let reason = self.missing_reason();
            return Ok(self.gap(high_watermark, reason));
        }
        self.finish(collected, jump, visited)
    }

    fn finish(
        &mut self,
        collected: Collected,
        jump: Option<(CommitNumber, Offset, SpanId)>,
        visited: Visited,
    ) -> Result<Read, ReadError> {
        self.at = Some(jump.map_or(visited.next, |(commit, ..)| commit));
        if collected.commits.is_empty() {
            if let Some((_, to, span)) = jump {
                let leapt = self.shared.current_span().0 >= span && span > SpanId(0);
                let reason = match leapt {
                    true => self.missing_reason(),
                    false => GapReason::Quarantine,
                };
                return Ok(self.gap_keeping_place(to, reason));
            }
            if let Some(segment) = visited.damaged {
                return Ok(self.gap_after_damage(segment, visited.next));
            }
            return Ok(Read::Batches(Vec::new()));
        }
        let mut batches = Vec::with_capacity(collected.commits.len());
        for commit in collected.commits {
            match commit.batch(self.partition) {
                Ok(Some(batch)) => {
                    let header = batch.header();
                    let span = SpanId(header.partition_leader_epoch.cast_unsigned());
                    self.next = Offset::from_i64(header.next_offset()).unwrap_or(self.next);
                    batches.push(StoredBatch {
                        commit: commit.number(),
                        era: commit.era(),
                        span,
                        batch,
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "Batch is damaged.");
                    // The readable ones first; the next call meets it again, in front.
                    self.at = Some(commit.number());
                    if batches.is_empty() {
                        return Ok(self.gap_over(&commit));
                    }
                    break;
                }
            }
        }
        Ok(Read::Batches(batches))
    }

    fn gap_over(&mut self, commit: &Commit) -> Read {
        self.at = Some(commit.number().next());
        let end = commit
            .batch_of(self.partition)
            .map(|batch| batch.next_offset);
        let end = end.unwrap_or_else(|| self.next.advanced(1));
        self.gap_keeping_place(end, GapReason::Quarantine)
    }

    /// What follows is wherever the partition goes on `after` the damaged `segment`.
    fn gap_after_damage(&mut self, segment: SegmentName, after: CommitNumber) -> Read {
        let index = self.shared.segments.index();
        if !index.has(segment) {
            // Evacuated while it was read: the copy may have what could not be read here.
            self.at = None;
            return Read::Batches(Vec::new());
        }
        let later = index
            .all()
            .filter(|(_, record)| record.first_commit >= after);
        let base = later
            .filter_map(|(_, record)| record.part(self.partition))
            .map(|p| p.base_offset);
        let to = base.filter(|base| *base >= self.next).min();
        drop(index);
        if to == Some(self.next) {
            // What is damaged lies behind the last record that the partition has there.
            return Read::Batches(Vec::new());
        }
        let end = self.shared.state().journal.ends(self.partition).next_offset;
        self.gap_keeping_place(to.unwrap_or(end), GapReason::Quarantine)
    }

    fn gap(&mut self, to: Offset, reason: GapReason) -> Read {
        self.at = None;
        self.gap_keeping_place(to, reason)
    }

    /// If the ledger knows of it, it is told as it stands there, piece by piece.
    fn gap_keeping_place(&mut self, to: Offset, reason: GapReason) -> Read {
        let (noted, to) = self.shared.noted_gap(self.partition, self.next, to);
        let from = std::mem::replace(&mut self.next, to);
        let reason = noted.unwrap_or(reason);
        Read::Gap { from, to, reason }
    }

    /// Why the next record is not there: it is missing in the segment that has had it, or none had.
    fn missing_reason(&self) -> GapReason {
        let index = self.shared.segments.index();
        let mut parts = index
            .all()
            .filter_map(|(_, record)| record.part(self.partition));
        match parts.any(|part| part.base_offset <= self.next && self.next < part.next_offset) {
            true => GapReason::Quarantine,
            false => GapReason::LostEnd,
        }
    }

    /// A commit before or at which the partition reaches `next`; `None` if no segment has it.
    fn locate(&self) -> Result<Option<CommitNumber>, ReadError> {
        let (partition, next) = (self.partition, self.next);
        let find = || {
            let index = self.shared.segments.index();
            index.of_offset(partition, next).and_then(|(id, record)| {
                let part = record.part(partition)?;
                let from_start = part.base_offset >= next;
                Some((record.name(id), (record.first_commit, from_start)))
            })
        };
        // From the start of a segment on it is read without a search.
        let opened = open_found(find, |name, (_, from_start)| match from_start {
            true => Ok::<_, ReadError>(Some(None)),
            false => Ok(open(&self.shared, name)?.map(Some)),
        });
        let Some((_, (first_commit, _), database)) = opened else {
            return Ok(None);
        };
        let database = match database {
            Ok(Some(database)) => database,
            Ok(None) => return Ok(Some(first_commit)),
            // The reading itself meets it again, and says what cannot be had.
            Err(error) if error.is_damage() => return Ok(Some(first_commit)),
            Err(error) => return Err(error),
        };
        let starts = segment::chunk_starts(&database);
        // The last chunk at whose start the partition is not yet behind `next`.
        let (mut low, mut high) = (0, starts.len());
        while low + 1 < high {
            let middle = low.midpoint(high);
            let start = starts.get(middle).copied().unwrap_or(first_commit);
            let offset = first_offset(&database, start, partition);
            // A chunk that cannot be read is met again by the reading itself.
            if offset.unwrap_or(None).is_some_and(|offset| offset <= next) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Some(starts.get(low).copied().unwrap_or(first_commit)))
    }
}

/// Commits with batches of a partition, one behind the other.
struct Collected {
    next: Offset,
    bytes: usize,
    visited: usize,
    commits: Vec<Commit>,
}

impl Collected {
    fn take(
        &mut self,
        commit: &Commit,
        partition: LogPartition,
        bytes_max: usize,
        jump: &mut Option<(CommitNumber, Offset, SpanId)>,
    ) -> ControlFlow<()> {
        self.visited += commit.size_bytes();
        if let Some(batch) = commit
            .batch_of(partition)
            .filter(|b| b.next_offset > self.next)
        {
            if batch.base_offset > self.next {
                let span = commit.span_of(partition).unwrap_or_default();
                *jump = Some((commit.number(), batch.base_offset, span));
                return ControlFlow::Break(());
            }
            self.next = batch.next_offset;
            self.bytes += usize::try_from(batch.bytes).unwrap_or(usize::MAX);
            self.commits.push(commit.clone());
        }
        if self.bytes >= bytes_max || self.visited >= VISIT_BYTES_MAX {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

struct Visited {
    /// Where to go on.
    next: CommitNumber,
    /// The segment that could not be read on; what it still had ended before `next`.
    damaged: Option<SegmentName>,
    /// Where the segment begins, if that is behind what was asked for.
    begins_at: Option<CommitNumber>,
    /// The segment that ended too early, and from where on.
    ended: Option<(SegmentName, CommitNumber)>,
}

impl Visited {
    fn up_to(next: CommitNumber) -> Self {
        Self {
            next,
            damaged: None,
            begins_at: None,
            ended: None,
        }
    }
}

/// Shows commits from `from` on and up to `durable` to `visit` until it breaks off, or the memory or
/// the segment that they come from ends.
fn visit(
    shared: &Shared,
    from: CommitNumber,
    durable: CommitNumber,
    visit: &mut dyn FnMut(&Commit) -> ControlFlow<()>,
) -> Result<Visited, ReadError> {
    if let Some(commits) = shared.read_ring().from(from) {
        let mut next = from;
        for commit in commits.take_while(|commit| commit.number() <= durable) {
            next = commit.number().next();
            if visit(commit).is_break() {
                break;
            }
        }
        return Ok(Visited::up_to(next));
    }
    visit_segment(shared, from, durable, None, visit)
}

/// What the index says of a segment.
struct FoundSegment {
    is_active: bool,
    first_commit: CommitNumber,
    last_commit: CommitNumber,
}

/// Ranges of commits in a segment, each by its first and last one, and the segment that this is true
/// of.
type Ranges<'a> = (SegmentName, &'a [(CommitNumber, CommitNumber)]);

/// The segment that commit `from` is in.
fn open_of_commit(
    shared: &Shared,
    from: CommitNumber,
) -> Option<lookup::Opened<FoundSegment, Arc<sled::Db>, ReadError>> {
    let find = || {
        let index = shared.segments.index();
        let active = index.active.0;
        let found = index.of_commit(from);
        found.map(|(id, record)| {
            let found = FoundSegment {
                is_active: id == active,
                first_commit: record.first_commit,
                last_commit: record.last_commit,
            };
            (record.name(id), found)
        })
    };
    open_found(find, |name, _| open(shared, name))
}

/// As [`visit`], for commits that are no longer in memory; of those only the `wanted` ranges, if it
/// is their segment that is read.
fn visit_segment(
    shared: &Shared,
    from: CommitNumber,
    durable: CommitNumber,
    wanted: Option<Ranges<'_>>,
    visit: &mut dyn FnMut(&Commit) -> ControlFlow<()>,
) -> Result<Visited, ReadError> {
    let Some((name, found, opened)) = open_of_commit(shared, from) else {
        return Ok(Visited::up_to(from));
    };
    let (is_active, last_commit) = (found.is_active, found.last_commit);
    let after = last_commit.next();
    let begins_at = Some(found.first_commit).filter(|first| *first > from);
    let ended_at = |next: CommitNumber| Visited {
        next: after,
        damaged: Some(name),
        begins_at,
        ended: Some((name, next.max(found.first_commit))),
    };
    let read_to = |next| Visited {
        begins_at,
        ..Visited::up_to(next)
    };
    let database = match opened {
        Err(error) if error.is_damage() && !is_active => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "Segment cannot be read.");
            return Ok(ended_at(from));
        }
        opened => opened?,
    };
    let whole = [(from, last_commit)];
    let wanted = wanted.filter(|(of, _)| *of == name);
    let ranges = wanted.map_or(&whole[..], |(_, ranges)| ranges);
    let (mut next, mut broken_off) = (from, false);
    let scanned = segment::scan_ranges(&database, ranges, |commit| {
        if commit.number() > durable || commit.number() > last_commit {
            broken_off = true;
            return ControlFlow::Break(());
        }
        next = commit.number().next();
        shared.counters.read(commit.size_bytes());
        let flow = visit(&commit);
        broken_off = flow.is_break();
        flow
    });
    match scanned {
        // That may pass; what was read so far is as good as ever.
        Err(ScanError::Machine(_)) if next > from => Ok(read_to(next)),
        Err(source) if is_active || matches!(source, ScanError::Machine(_)) => {
            Err(ReadError::Scan {
                segment: name.first,
                source,
            })
        }
        Err(error) => {
            tracing::error!(segment = %name, %error, "Segment cannot be read on.");
            note_end(shared, name, next, &error.to_string());
            Ok(ended_at(next))
        }
        Ok(_) if broken_off => Ok(read_to(next)),
        Ok(is_whole) if is_whole || is_active => Ok(read_to(next.max(after))),
        Ok(_) => {
            note_end(shared, name, next, "it ends too early");
            Ok(Visited {
                damaged: None,
                ..ended_at(next)
            })
        }
    }
}

/// A sealed segment ended before the last commit that the index knows in it.
fn note_end(shared: &Shared, name: SegmentName, next: CommitNumber, why: &str) {
    let what = format!("nothing can be read in it from commit {next} on: {why}");
    shared.segments.note_damage(name, &what);
}

/// The database of a segment; `None` if there is no such segment any more.
fn open(shared: &Shared, name: SegmentName) -> Result<Option<Arc<sled::Db>>, ReadError> {
    let opened = shared.segments.database(name);
    opened.map_err(|source| ReadError::Open {
        segment: name.first,
        source,
    })
}

/// The first offset that the partition has in a segment from `start` on.
fn first_offset(
    database: &sled::Db,
    start: CommitNumber,
    partition: LogPartition,
) -> Result<Option<Offset>, ScanError> {
    let mut found = None;
    segment::scan(database, start, |commit| match commit.batch_of(partition) {
        Some(batch) => {
            found = Some(batch.base_offset);
            ControlFlow::Break(())
        }
        None => ControlFlow::Continue(()),
    })?;
    Ok(found)
}

impl Commit {
    /// The span of a partition's batch, without its records checked.
    fn span_of(&self, partition: LogPartition) -> Option<SpanId> {
        let batch: Result<Option<Batch>, CommitError> = self.batch(partition);
        let batch = batch.ok().flatten()?;
        Some(SpanId(
            batch.header().partition_leader_epoch.cast_unsigned(),
        ))
    }
}
