//! What appenders and the committer share: the open commit, the ends of the partitions, eras.
//!
//! Sync and without I/O; the callers hold the lock around it.
//!
//! Invariants: an offset is given out once; commits leave in the order of their numbers; a commit is
//! of one era.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::clock::Era;
use crate::cold::COLD_KEY_BYTES_MAX;
use crate::encoding::Stored as _;
use crate::gap::{GAPS_MAX, Gap, oldest_pair};
use crate::identity::Span;
use crate::ids::{CommitNumber, EraId, LogId, LogPartition, Offset, SpanId};
use crate::journal::{JournalKey, JournalKind, JournalState, Operation};
use crate::logs::Log;
use crate::message::Message;
use crate::partitioner::partition_for_key;
use crate::store::cold::ColdChanges;
use crate::store::open_commit::OpenCommit;
use crate::store::{AppendError, Appended, Health, JOURNAL_ENTRIES_BYTES_MAX};
use crate::topics::TopicDictionary;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) limits: CommitLimits,
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) health: Health,
    /// Logs that take nothing because none of their records may go, and their bytes.
    pub(crate) full: BTreeMap<LogId, u64>,
    /// The journal as it is on flash.
    pub(crate) journal: JournalState,
    /// The newest commit that is on flash.
    pub(crate) durable: CommitNumber,
    pub(crate) eras: BTreeMap<EraId, Era>,
    /// Full commits, oldest first, and the one that still grows.
    closed: VecDeque<OpenCommit>,
    open: OpenCommit,
    /// When the committer took the commit that it writes.
    writing_since: Option<Instant>,
    /// Bytes of both, and of that.
    queued_bytes: usize,
    /// Offset of the next record of each partition that has had one.
    next_offsets: BTreeMap<LogPartition, Offset>,
    /// The span of new records, and all spans, with what is on its way to flash.
    span: SpanId,
    spans: BTreeMap<SpanId, Span>,
    /// The gap ledger, likewise.
    gaps: BTreeMap<u64, Gap>,
    /// The topics of records and their numbers.
    pub(crate) topics: TopicDictionary,
    /// What records of logs that commit at once wait for company, by the flash budget.
    pub(crate) linger: Duration,
    /// With which commit an era was frozen in this process.
    frozen_with: BTreeMap<EraId, CommitNumber>,
    /// Cold entries that the journal has.
    pub(crate) cold: ColdChanges,
}

/// Journal entries that are set, or with `None` removed.
pub(crate) type Entries = Vec<(JournalKey, Option<Vec<u8>>)>;

/// Bytes of entries that are to be in one commit.
fn size_of_entries(entries: &Entries) -> Result<usize, AppendError> {
    let size = |(key, value): &(JournalKey, Option<Vec<u8>>)| {
        key.size_bytes() + value.as_ref().map_or(0, Vec::len)
    };
    let bytes = entries.iter().map(size).sum();
    let is_long = |key: &JournalKey| key.is_cold() && key.rest().len() > COLD_KEY_BYTES_MAX;
    if bytes > JOURNAL_ENTRIES_BYTES_MAX || entries.iter().any(|(key, _)| is_long(key)) {
        return Err(AppendError::TooLarge { bytes });
    }
    Ok(bytes)
}

/// When the committer has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextDue {
    /// A full commit waits.
    Now,
    /// The open commit is due then; `None`: nothing is in it that is ever due.
    At(Option<Instant>),
}

/// Bounds of what waits for the committer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitLimits {
    /// A commit that has more is closed.
    pub(crate) commit_bytes: usize,
    /// More than this is refused.
    pub(crate) queue_bytes: usize,
}

impl State {
    pub(crate) fn new(
        limits: CommitLimits,
        logs: BTreeMap<LogId, Log>,
        journal: JournalState,
        last_commit: CommitNumber,
        eras: BTreeMap<EraId, Era>,
    ) -> Self {
        let era = eras.keys().next_back().copied().unwrap_or_default();
        let states = journal.partition_states();
        let gaps = journal
            .of_kind(JournalKind::Gap)
            .filter_map(|(key, value)| numbered_gap(key, value));
        Self {
            span: journal.span(),
            spans: journal
                .of_kind(JournalKind::Span)
                .filter_map(|(key, value)| numbered_span(key, value))
                .collect(),
            gaps: gaps.collect(),
            limits,
            logs,
            health: Health::Ready,
            full: BTreeMap::new(),
            next_offsets: states
                .iter()
                .map(|s| (s.partition, s.next_offset))
                .collect(),
            journal,
            durable: last_commit,
            eras,
            closed: VecDeque::new(),
            open: OpenCommit::new(last_commit.next(), era),
            writing_since: None,
            queued_bytes: 0,
            topics: TopicDictionary::default(),
            linger: Duration::ZERO,
            frozen_with: BTreeMap::new(),
            cold: ColdChanges::default(),
        }
    }

    /// Gives the record of `message` its place in the open commit, and `entries` theirs in the same
    /// one; or takes nothing of it.
    pub(crate) fn append(
        &mut self,
        log: LogId,
        key: &[u8],
        message: &Message,
        entries: Entries,
        timestamp_ms: i64,
        now: Instant,
    ) -> Result<Appended, AppendError> {
        self.health.check()?;
        let log = self.logs.get(&log).ok_or(AppendError::UnknownLog { log })?;
        let options = log
            .options
            .as_ref()
            .ok_or(AppendError::UnknownLog { log: log.id })?;
        if let Some(bytes) = self.full.get(&log.id) {
            return Err(AppendError::LogFull {
                log: log.id,
                bytes: *bytes,
                bytes_max: options.retention_bytes,
            });
        }
        let number = partition_for_key(key, options.partitions);
        let partition = LogPartition {
            log: log.id,
            partition: number,
        };
        let due = now + options.commit_within(self.linger);
        // What is larger than a commit may wait alone, so that a limit never refuses for good.
        let size = message.size_bytes() + size_of_entries(&entries)?;
        if self.queued_bytes > 0 && self.queued_bytes + size > self.limits.queue_bytes {
            // Who waits for room must not wait for the interval of an unhurried log.
            self.open.hurry(now);
            return Err(AppendError::QueueFull);
        }
        if !self.open.is_empty() && self.open.bytes() + size > self.limits.commit_bytes {
            self.close_open(now);
        }
        let next = self.next_offset(partition);
        let before = self.open.bytes();
        let topic = self.topics.number_of(&message.topic, self.open.number());
        let appended = message.with_record_fields(key, timestamp_ms, |fields| {
            self.open
                .append(partition, next, fields, message.retain, topic)
        });
        appended.map_err(|_| AppendError::TooLarge { bytes: size })?;
        self.put_in_open(entries, now);
        self.queued_bytes += self.open.bytes() - before;
        self.next_offsets.insert(partition, next.advanced(1));
        self.open.hurry(due);
        Ok(Appended {
            commit: self.open.number(),
            partition,
            offset: next,
        })
    }

    /// The offset that the next record of a partition gets.
    pub(crate) fn next_offset(&self, partition: LogPartition) -> Offset {
        let unused = || self.journal.ends(partition).next_offset;
        self.next_offsets
            .get(&partition)
            .copied()
            .unwrap_or_else(unused)
    }

    /// Sets or removes a journal entry with the open commit, which leaves within `within`.
    pub(crate) fn put(
        &mut self,
        key: JournalKey,
        value: Option<Vec<u8>>,
        now: Instant,
        within: Duration,
    ) -> CommitNumber {
        self.in_open(now + within, |open| open.put(key, value))
    }

    /// Sets or removes journal entries, all with the same commit, which leaves within `within`.
    pub(crate) fn put_all(
        &mut self,
        entries: Entries,
        now: Instant,
        within: Duration,
    ) -> Result<CommitNumber, AppendError> {
        let size = size_of_entries(&entries)?;
        if !self.open.is_empty() && self.open.bytes() + size > self.limits.commit_bytes {
            self.close_open(now);
        }
        let before = self.open.bytes();
        self.put_in_open(entries, now);
        self.queued_bytes += self.open.bytes() - before;
        self.open.hurry(now + within);
        Ok(self.open.number())
    }

    fn put_in_open(&mut self, entries: Entries, now: Instant) {
        for (key, value) in entries {
            let value = self.cold.note(&key, value, self.open.number(), now);
            self.open.put(key, value);
        }
    }

    /// Puts `gap` into the ledger, as an entry of its own or as the continuation of one, together
    /// with the entry that says that it was counted.
    pub(crate) fn record_gap(
        &mut self,
        gap: &Gap,
        counted: Option<(JournalKey, Vec<u8>)>,
        now: Instant,
    ) -> CommitNumber {
        let longer = self
            .gaps
            .iter()
            .find_map(|(n, earlier)| Some((*n, earlier.extended_by(gap)?)));
        let next = self.gaps.keys().next_back().map_or(0, |last| last + 1);
        let (number, gap) = longer.unwrap_or_else(|| (next, gap.clone()));
        let mut entries = vec![(gap_key(number), Some(gap.to_stored()))];
        self.gaps.insert(number, gap);
        if self.gaps.len() > GAPS_MAX
            && let Some((stays, goes, gap)) = oldest_pair(&self.gaps)
        {
            entries.push((gap_key(stays), Some(gap.to_stored())));
            entries.push((gap_key(goes), None));
            self.gaps.insert(stays, gap);
            self.gaps.remove(&goes);
        }
        self.in_open(now, |open| {
            if let Some((key, value)) = counted {
                open.put(key, Some(value));
            }
            for (key, value) in entries {
                open.put(key, value);
            }
        })
    }

    /// The span of new records.
    pub(crate) fn span(&self) -> SpanId {
        self.span
    }

    /// What is written down of a span, or about to be.
    pub(crate) fn span_of(&self, id: SpanId) -> Option<&Span> {
        self.spans.get(&id)
    }

    /// The gap ledger.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = &Gap> {
        self.gaps.values()
    }

    /// Adds a journal operation to the open commit, which leaves within `within`.
    pub(crate) fn operate(&mut self, operation: Operation, now: Instant, within: Duration) {
        self.in_open(now + within, |open| open.operate(operation));
    }

    fn in_open(&mut self, due: Instant, change: impl FnOnce(&mut OpenCommit)) -> CommitNumber {
        let before = self.open.bytes();
        change(&mut self.open);
        self.queued_bytes += self.open.bytes() - before;
        self.open.hurry(due);
        self.open.number()
    }

    /// Takes an operation that must become durable no later than anything that comes after it, and
    /// no sooner than that: it costs no commit of its own.
    pub(crate) fn accompany(&mut self, operation: Operation) {
        match &operation {
            Operation::Leap { partitions, span } => {
                self.span = *span;
                let leapt = partitions
                    .iter()
                    .map(|leapt| (leapt.partition, leapt.next_offset));
                self.next_offsets.extend(leapt);
            }
            Operation::Put { key, value } if key.is(JournalKind::Span) => {
                self.spans.extend(numbered_span(key, value));
            }
            Operation::Put { key, value } if key.is(JournalKind::Gap) => {
                self.gaps.extend(numbered_gap(key, value));
            }
            _ => {}
        }
        let before = self.open.bytes();
        self.open.operate(operation);
        self.queued_bytes += self.open.bytes() - before;
    }

    /// Makes the open commit due.
    pub(crate) fn hurry_open(&mut self, now: Instant) -> CommitNumber {
        self.open.hurry(now);
        self.open.number()
    }

    /// Makes the open commit due if it is this one; others are on their way.
    pub(crate) fn hurry_commit(&mut self, commit: CommitNumber, now: Instant) {
        if self.open.number() == commit {
            self.open.hurry(now);
        }
    }

    /// Makes the open commit due if a record waits in it.
    pub(crate) fn hurry_records(&mut self, now: Instant) {
        if self.open.records() > 0 {
            self.open.hurry(now);
        }
    }

    /// When the next commit is due, as far as it is known now.
    pub(crate) fn next_due(&self) -> NextDue {
        match self.closed.is_empty() {
            false => NextDue::Now,
            true => NextDue::At(self.open.due().filter(|_| !self.open.is_empty())),
        }
    }

    fn close_open(&mut self, now: Instant) {
        // What is full goes next, whatever it waited for.
        self.open.hurry(now);
        let next = self.open.number().next();
        let era = self.eras.keys().next_back().copied().unwrap_or_default();
        let full = std::mem::replace(&mut self.open, OpenCommit::new(next, era));
        self.closed.push_back(full);
    }

    /// The next commit to write, if one is due; else when the open one will be.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        drain: bool,
    ) -> Result<OpenCommit, Option<Instant>> {
        if self.closed.is_empty() {
            let due = self.open.due().filter(|_| !self.open.is_empty());
            let is_due = due.is_some_and(|due| drain || due <= now);
            if !is_due {
                return Err(due);
            }
            self.close_open(now);
        }
        let taken = self.closed.pop_front().ok_or(None)?;
        self.writing_since = Some(now);
        Ok(taken)
    }

    /// A commit is on flash.
    pub(crate) fn committed(&mut self, bytes: usize) {
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.writing_since = None;
    }

    /// Since when the committer writes a commit, or has left one lying that is due; `None`: it has nothing
    /// to do. After a failure nobody waits for it.
    pub(crate) fn waits_since(&self, now: Instant) -> Option<Instant> {
        if matches!(self.health, Health::Poisoned(_)) {
            return None;
        }
        let left_lying = || match self.closed.front() {
            Some(closed) => closed.due(),
            None => self.open.due().filter(|_| !self.open.is_empty()),
        };
        let since = self.writing_since.or_else(left_lying);
        since.filter(|since| *since <= now)
    }

    /// Bytes that wait for the committer.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// The era of what is appended now.
    pub(crate) fn current_era(&self) -> Option<(EraId, &Era)> {
        self.eras.last_key_value().map(|(id, era)| (*id, era))
    }

    /// Removes eras that are older than all records.
    pub(crate) fn forget_eras_before(&mut self, oldest: EraId, now: Instant, within: Duration) {
        let kept = self.eras.split_off(&oldest);
        let forgotten = std::mem::replace(&mut self.eras, kept);
        for id in forgotten.into_keys() {
            self.put(era_key(id), None, now, within);
        }
    }

    /// Fixes an era's clock; durable with the commit that is returned.
    pub(crate) fn freeze_era(&mut self, id: EraId, now: Instant) -> CommitNumber {
        match self.eras.get(&id) {
            Some(era) if !era.frozen => {
                let frozen = Era {
                    frozen: true,
                    ..*era
                };
                let commit = self.set_era(id, frozen, now, Duration::ZERO);
                self.frozen_with.insert(id, commit);
                commit
            }
            // Frozen before this process, or unknown, which nothing can change either.
            _ => self.frozen_with.get(&id).copied().unwrap_or(self.durable),
        }
    }

    /// Changes an era, and the journal with the next commit.
    pub(crate) fn set_era(
        &mut self,
        id: EraId,
        era: Era,
        now: Instant,
        within: Duration,
    ) -> CommitNumber {
        let begins = !self.eras.contains_key(&id);
        self.eras.insert(id, era);
        if begins {
            if self.open.is_empty() {
                self.open = OpenCommit::new(self.open.number(), id);
            } else {
                self.close_open(now);
            }
        }
        self.put(era_key(id), Some(era.to_stored()), now, within)
    }
}

/// Journal key of an entry of the gap ledger.
pub(crate) fn gap_key(number: u64) -> JournalKey {
    JournalKey::new(JournalKind::Gap, &number.to_be_bytes())
}

/// Journal key of a span.
pub(crate) fn span_key(id: SpanId) -> JournalKey {
    JournalKey::new(JournalKind::Span, &id.0.to_be_bytes())
}

fn numbered_span(key: &JournalKey, value: &[u8]) -> Option<(SpanId, Span)> {
    let id = key.rest().try_into().ok().map(u32::from_be_bytes)?;
    Some((SpanId(id), Span::from_stored(value).ok()?))
}

fn numbered_gap(key: &JournalKey, value: &[u8]) -> Option<(u64, Gap)> {
    let number = key.rest().try_into().ok().map(u64::from_be_bytes)?;
    Some((number, Gap::from_stored(value).ok()?))
}

/// Journal key of an era.
pub(crate) fn era_key(id: EraId) -> JournalKey {
    JournalKey::new(JournalKind::Era, &id.0.to_be_bytes())
}

#[cfg(test)]
mod tests;
