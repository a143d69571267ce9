//! The commit that is being collected: records are encoded into it as they come, while the one
//! before is on its way to flash.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use record_batch::{AppendError, BatchBuilder, RecordFields};

use crate::commit::{BodyBuilder, ENTRY_HEADER_BYTES};
use crate::ids::{CommitNumber, EraId, LogId, LogPartition, Offset, PartitionId, SpanId};
use crate::journal::{self, JournalError, JournalKey, Operation};
use crate::topics::{TopicNumber, TopicSet};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct OpenCommit {
    number: CommitNumber,
    era: EraId,
    batches: BTreeMap<LogPartition, BatchBuilder>,
    /// Set and removed entries by key: only the last word on a key is stored.
    entries: BTreeMap<JournalKey, Option<Vec<u8>>>,
    /// Other operations, in order.
    operations: Vec<Operation>,
    bytes: usize,
    records: u64,
    payload_bytes: u64,
    has_retained: bool,
    topics: TopicSet,
    /// When it must be on its way at the latest; `None`: nothing in it is urgent.
    due: Option<Instant>,
}

impl OpenCommit {
    pub(crate) fn new(number: CommitNumber, era: EraId) -> Self {
        Self {
            number,
            era,
            batches: BTreeMap::new(),
            entries: BTreeMap::new(),
            operations: Vec::new(),
            bytes: 0,
            records: 0,
            payload_bytes: 0,
            has_retained: false,
            topics: TopicSet::default(),
            due: None,
        }
    }

    pub(crate) fn number(&self) -> CommitNumber {
        self.number
    }

    /// Bytes that it will take on flash, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of the payloads of its records.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    pub(crate) fn has_retained(&self) -> bool {
        self.has_retained
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.entries.is_empty() && self.operations.is_empty()
    }

    /// Asks for it to be written at `at` or earlier.
    pub(crate) fn hurry(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// The topics of its records, which leave it.
    pub(crate) fn take_topics(&mut self) -> TopicSet {
        std::mem::take(&mut self.topics).settled()
    }

    /// Adds a record at `next`, the next offset of its partition. `topic`: the number of its topic,
    /// if it has one.
    pub(crate) fn append(
        &mut self,
        partition: LogPartition,
        next: Offset,
        fields: &RecordFields<'_>,
        retained: bool,
        topic: Option<TopicNumber>,
    ) -> Result<(), AppendError> {
        let batch = self
            .batches
            .entry(partition)
            .or_insert_with(|| BatchBuilder::new(next.as_i64()));
        let before = batch.len_bytes();
        let first = batch.is_empty();
        batch.append(fields)?;
        let header = if first {
            before + ENTRY_HEADER_BYTES
        } else {
            0
        };
        self.bytes += batch.len_bytes() - before + header;
        self.records += 1;
        self.payload_bytes += fields.value.map_or(0, |payload| payload.len() as u64);
        self.has_retained |= retained;
        self.topics.add(topic);
        Ok(())
    }

    /// Sets or removes a journal entry.
    pub(crate) fn put(&mut self, key: JournalKey, value: Option<Vec<u8>>) {
        self.bytes += key.size_bytes() + value.as_ref().map_or(0, Vec::len);
        self.entries.insert(key, value);
    }

    /// Adds another journal operation.
    pub(crate) fn operate(&mut self, operation: Operation) {
        self.bytes += 16;
        self.operations.push(operation);
    }

    /// The commit's body, with `snapshot` in front if it begins a segment, and the operations that
    /// it carries but for that snapshot.
    pub(crate) fn into_body(
        self,
        span: SpanId,
        snapshot: Option<Operation>,
    ) -> Result<(Bytes, Vec<Operation>), JournalError> {
        let mut operations: Vec<Operation> = snapshot.into_iter().collect();
        let begins = operations.len();
        operations.extend(self.operations);
        operations.extend(self.entries.into_iter().map(|(key, value)| match value {
            Some(value) => Operation::Put { key, value },
            None => Operation::Delete { key },
        }));
        let mut body = BodyBuilder::with_capacity(self.era, self.bytes.saturating_add(1024));
        if !operations.is_empty() {
            let journal = LogPartition {
                log: LogId::JOURNAL,
                partition: PartitionId(0),
            };
            let mut encoded = Vec::new();
            journal::encode(&operations, &mut encoded)?;
            body.entry(journal, |out| out.extend_from_slice(&encoded));
        }
        for (partition, mut batch) in self.batches {
            body.entry(partition, |out| {
                let at = out.len();
                batch.finish_into(out);
                place_span(out, at, span);
            });
        }
        operations.drain(..begins);
        Ok((body.finish(), operations))
    }
}

/// Writes the span into the partition leader epoch of the batch at `at`; the checksum leaves it out.
fn place_span(out: &mut [u8], at: usize, span: SpanId) {
    if let Some(place) = out.get_mut(at + 12..at + 16) {
        place.copy_from_slice(&span.0.to_be_bytes());
    }
}
