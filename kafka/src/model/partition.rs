//! One partition and the rules by which its leader appends: no I/O, no clock. `now` is an argument,
//! and equal calls in equal order make equal partitions, so that a search can clone, compare and
//! hash them.
//!
//! What a batch must be like is in the `batch_check` module, what a producer may send in
//! [`Producer`]. Where the model is stricter than Apache Kafka: records whose offset deltas are not
//! dense are refused (87) instead of stored as they are, compressed batches are refused (76)
//! because their records cannot be looked at, and so are transactions (53).
//!
//! Invariants:
//! - log start offset ≤ high watermark ≤ log end offset.
//! - Batches stand in the order of their offsets; a stored batch never changes.
//! - The high watermark is moved by [`Partition::advance_high_watermark`] only, unless it follows
//!   the log end ([`PartitionOptions::high_watermark_lags`]).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use record_batch::{Batch, BatchHeader, Record};

use super::batch_check;
use super::leader_epochs::LeaderEpochs;
use super::producers::{Producer, Producers, Verdict};
use crate::error_code::ErrorCode;

/// What a producer state counts for in [`Partition::bytes`].
const PRODUCER_BYTES: usize = 256;

/// Whose clock stands in the records.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TimestampType {
    /// The producer's (`message.timestamp.type=CreateTime`).
    CreateTime,
    /// The broker's, at the append (`LogAppendTime`).
    LogAppendTime,
}

/// Settings of a partition; the names in parentheses are Kafka's.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PartitionOptions {
    /// Largest batch (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// Whether the high watermark waits for [`Partition::advance_high_watermark`] instead of
    /// following the log end, as if there were a slow follower.
    pub high_watermark_lags: bool,
    /// Age of a producer's last batch at which it is forgotten (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
    /// How far a timestamp may lie behind now (`message.timestamp.before.max.ms`).
    pub timestamp_before_max_ms: i64,
    /// How far a timestamp may lie ahead of now (`message.timestamp.after.max.ms`).
    pub timestamp_after_max_ms: i64,
    /// Whose timestamps are kept (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
}

impl Default for PartitionOptions {
    /// The defaults of Apache Kafka 4.
    fn default() -> Self {
        Self {
            batch_bytes_max: 1_048_588,
            high_watermark_lags: false,
            producer_id_expiration_ms: 86_400_000,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            timestamp_type: TimestampType::CreateTime,
        }
    }
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record: acknowledged as soon as the high watermark is beyond it.
    pub last_offset: i64,
    /// Whether it had been appended before; nothing was added then.
    pub duplicate: bool,
    /// What a Produce response says as the time of the append: -1 for the producer's timestamps,
    /// but the batch's max timestamp for a duplicate.
    pub log_append_time_ms: i64,
}

/// Something to be done to a batch between judging and storing it: a broker that lies.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Tampering {
    /// The first record is not stored.
    DropRecord,
    /// The first record is stored twice.
    DuplicateRecord,
}

/// A partition.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Partition {
    options: PartitionOptions,
    batches: VecDeque<Batch>,
    batch_bytes: usize,
    log_start_offset: i64,
    log_end_offset: i64,
    high_watermark: i64,
    leader_epoch: i32,
    leader_epochs: LeaderEpochs,
    producers: Producers,
}

impl Partition {
    /// An empty partition in leader epoch 0.
    pub fn new(options: PartitionOptions) -> Self {
        let mut leader_epochs = LeaderEpochs::default();
        leader_epochs.begin(0, 0);
        Self {
            options,
            batches: VecDeque::new(),
            batch_bytes: 0,
            log_start_offset: 0,
            log_end_offset: 0,
            high_watermark: 0,
            leader_epoch: 0,
            leader_epochs,
            producers: Producers::default(),
        }
    }

    /// First offset that is still there.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Offset that the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// First offset that consumers do not see yet.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The epoch in which this leader leads.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// What the partition takes up.
    pub fn bytes(&self) -> usize {
        self.batch_bytes + self.producers.len() * PRODUCER_BYTES
    }

    /// What is remembered about a producer.
    pub fn producer(&self, producer_id: i64) -> Option<&Producer> {
        self.producers.get(producer_id)
    }

    /// What is remembered about all producers, by id.
    pub fn producers(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.producers.iter()
    }

    /// The batches, whatever the high watermark.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    /// The records from the log start offset on, whatever the high watermark.
    pub fn records(&self) -> Vec<Record> {
        // Every stored batch was read when it was checked.
        let stored = self
            .batches
            .iter()
            .flat_map(|batch| batch.records().flatten());
        stored
            .filter(|record| record.offset >= self.log_start_offset)
            .collect()
    }

    /// Appends the one batch in `records`, or recognises it.
    ///
    /// # Errors
    /// The broker's error code; the partition is unchanged then.
    pub fn append(&mut self, records: &Bytes, now_ms: i64) -> Result<Appended, ErrorCode> {
        self.append_tampered(records, now_ms, None)
    }

    /// As [`Self::append`], but stores something else than it says.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_tampered(
        &mut self,
        records: &Bytes,
        now_ms: i64,
        tampering: Option<Tampering>,
    ) -> Result<Appended, ErrorCode> {
        let batch = batch_check::check(records, &self.options, now_ms)?;
        if let Verdict::Duplicate(known) = self.producers.judge(batch.header())? {
            return Ok(Appended {
                base_offset: known.base_offset,
                last_offset: known.last_offset,
                duplicate: true,
                log_append_time_ms: known.max_timestamp_ms,
            });
        }
        let header = self.stored_header(&batch, now_ms);
        // The producer's state is that of the whole batch, whatever is stored.
        self.producers.remember(&header);
        let base_offset = header.base_offset;
        let stored = match tampering {
            None => batch.with_header(&header).ok(),
            Some(tampering) => tampered(&batch, &header, tampering),
        };
        if let Some(stored) = stored {
            self.log_end_offset = stored.header().next_offset();
            self.batch_bytes += stored.as_bytes().len();
            self.batches.push_back(stored);
        }
        if !self.options.high_watermark_lags {
            self.high_watermark = self.log_end_offset;
        }
        let log_append_time = self.options.timestamp_type == TimestampType::LogAppendTime;
        Ok(Appended {
            base_offset,
            last_offset: self.log_end_offset - 1,
            duplicate: false,
            log_append_time_ms: if log_append_time { now_ms } else { -1 },
        })
    }

    /// The header under which the broker stores a batch.
    fn stored_header(&self, batch: &Batch, now_ms: i64) -> BatchHeader {
        const LOG_APPEND_TIME_BIT: i16 = 0x08;
        let sent = batch.header();
        let (attributes, max_timestamp_ms) = match self.options.timestamp_type {
            TimestampType::CreateTime => {
                // The producer's own field is not believed.
                let timestamps = batch.records().flatten().map(|record| record.timestamp_ms);
                (
                    sent.attributes & !LOG_APPEND_TIME_BIT,
                    timestamps.fold(-1, i64::max),
                )
            }
            TimestampType::LogAppendTime => (sent.attributes | LOG_APPEND_TIME_BIT, now_ms),
        };
        BatchHeader {
            base_offset: self.log_end_offset,
            partition_leader_epoch: self.leader_epoch,
            attributes,
            max_timestamp_ms,
            ..sent.clone()
        }
    }

    /// Moves the high watermark up to `offset`, at most to the log end, never back.
    pub fn advance_high_watermark(&mut self, offset: i64) {
        self.high_watermark = self.high_watermark.max(offset.min(self.log_end_offset));
    }

    /// A new leader takes over, whose log ends at `truncate_to` if that is before this log's end.
    /// Its producer states are those that its batches tell.
    pub fn new_leader_epoch(&mut self, truncate_to: Option<i64>) {
        if let Some(end_offset) = truncate_to.filter(|offset| *offset < self.log_end_offset) {
            self.truncate(end_offset.max(self.log_start_offset));
        }
        self.leader_epoch += 1;
        self.leader_epochs
            .begin(self.leader_epoch, self.log_end_offset);
    }

    /// Takes away the batches that reach beyond `end_offset`.
    fn truncate(&mut self, end_offset: i64) {
        while let Some(last) = self.batches.back() {
            if last.header().last_offset() < end_offset {
                break;
            }
            self.batch_bytes -= last.as_bytes().len();
            self.batches.pop_back();
        }
        let end = self.batches.back().map(|last| last.header().next_offset());
        self.log_end_offset = end.unwrap_or(self.log_start_offset);
        self.high_watermark = self.high_watermark.min(self.log_end_offset);
        self.leader_epochs.truncate(self.log_end_offset);
        self.producers = Producers::default();
        for batch in &self.batches {
            self.producers.remember(batch.header());
        }
    }

    /// Retention moves the log start offset up to `offset`, at most to the high watermark. Producer
    /// states stay.
    pub fn trim(&mut self, offset: i64) {
        let offset = offset.min(self.high_watermark);
        if offset <= self.log_start_offset {
            return;
        }
        self.log_start_offset = offset;
        while let Some(first) = self.batches.front() {
            if first.header().last_offset() >= offset {
                break;
            }
            self.batch_bytes -= first.as_bytes().len();
            self.batches.pop_front();
        }
        self.leader_epochs.trim(offset);
    }

    /// The broker's sweep over producer states.
    pub fn expire_producers(&mut self, now_ms: i64) {
        self.producers
            .expire(now_ms, self.options.producer_id_expiration_ms);
    }

    /// All producer states vanish: a leader whose state was neither in a snapshot nor in its log.
    pub fn lose_producer_state(&mut self) {
        self.producers = Producers::default();
    }

    /// The broker goes down, killed or in good order, and comes back as the leader. Its epoch grows
    /// by two, because for a while nobody led, and of each producer only the last batch is
    /// remembered: that is all that a snapshot holds, and recovery writes and reads one.
    pub fn restart(&mut self) {
        self.new_leader_epoch(None);
        self.new_leader_epoch(None);
        self.producers.keep_last_batches();
    }

    /// Refuses a client whose idea of the leader epoch is not this leader's.
    ///
    /// # Errors
    /// 74 if the client is behind, 75 if it is ahead.
    pub fn check_leader_epoch(&self, current: Option<i32>) -> Result<(), ErrorCode> {
        match current {
            Some(epoch) if epoch < self.leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
            Some(epoch) if epoch > self.leader_epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }

    /// The batches from the one that holds `offset` on, below the high watermark: the first one
    /// whole, the others as far as `bytes_max` reaches.
    ///
    /// # Errors
    /// 1 if `offset` lies before the log start or beyond the log end.
    pub fn fetch(&self, offset: i64, bytes_max: usize) -> Result<Bytes, ErrorCode> {
        if !(self.log_start_offset..=self.log_end_offset).contains(&offset) {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let mut records = BytesMut::new();
        let from = self
            .batches
            .partition_point(|batch| batch.header().last_offset() < offset);
        for batch in self.batches.range(from..) {
            let visible = batch.header().last_offset() < self.high_watermark;
            let fits = records.len() + batch.as_bytes().len() <= bytes_max;
            if !visible || !(fits || records.is_empty()) {
                break;
            }
            records.extend_from_slice(batch.as_bytes());
        }
        Ok(records.freeze())
    }

    /// The log start offset and the epoch of the records there.
    pub fn earliest(&self) -> (i64, Option<i32>) {
        let offset = self.log_start_offset;
        (offset, self.leader_epochs.earliest_at(offset))
    }

    /// The high watermark and the current leader epoch.
    pub fn latest(&self) -> (i64, i32) {
        (self.high_watermark, self.leader_epoch)
    }

    /// The first visible record that is not older than `timestamp_ms`: its offset, timestamp and
    /// leader epoch.
    pub fn first_at(&self, timestamp_ms: i64) -> Option<(i64, i64, i32)> {
        let new_enough = |batch: &&Batch| batch.header().max_timestamp_ms >= timestamp_ms;
        let batch = self.batches.iter().find(new_enough)?;
        let epoch = batch.header().partition_leader_epoch;
        let found = batch.records().flatten().find(|record| {
            record.timestamp_ms >= timestamp_ms && record.offset >= self.log_start_offset
        })?;
        (found.offset < self.high_watermark).then_some((found.offset, found.timestamp_ms, epoch))
    }

    /// Where the records of `leader_epoch` end; see
    /// [`EpochEnd`](crate::messages::offset_for_leader_epoch::EpochEnd).
    pub fn epoch_end(&self, leader_epoch: i32) -> Option<(i32, i64)> {
        self.leader_epochs.end_of(leader_epoch, self.log_end_offset)
    }
}

/// `batch` under `header` without its first record, or with it twice; `None` if nothing is left.
fn tampered(batch: &Batch, header: &BatchHeader, tampering: Tampering) -> Option<Batch> {
    let records: Vec<_> = batch.records().flatten().collect();
    let stored = match tampering {
        Tampering::DropRecord => records.get(1..)?,
        Tampering::DuplicateRecord => &records,
    };
    let twice = records
        .first()
        .filter(|_| tampering == Tampering::DuplicateRecord);
    let mut builder = record_batch::BatchBuilder::new(header.base_offset).with_producer(
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
    );
    for record in twice.into_iter().chain(stored) {
        let headers: Vec<_> = record.headers.iter().collect();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (&**name, value.as_deref()))
            .collect();
        builder
            .append(&record_batch::RecordFields {
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            })
            .ok()?;
    }
    let (rebuilt, _) = Batch::parse(builder.finish()).ok()?;
    let header = BatchHeader {
        partition_leader_epoch: header.partition_leader_epoch,
        attributes: header.attributes,
        max_timestamp_ms: header.max_timestamp_ms,
        ..rebuilt.header().clone()
    };
    rebuilt.with_header(&header).ok()
}
