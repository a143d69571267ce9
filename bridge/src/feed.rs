//! Reads a partition of the log and makes batches for Kafka of it. Blocks on flash: called from a
//! blocking thread.
//!
//! Invariants: a batch is dense in offsets and of one era; the record at a sequence number is the
//! same however often it is asked for (its time may differ, Kafka does not compare it).

use std::collections::VecDeque;

use bytes::Bytes;
use record_batch::{AppendError, BatchBuilder, BatchError, Record};
use storage::{
    CorrectedTime, Era, EraId, GapReason, Incarnation, LogPartition, Message, MessageError, Offset,
    PartitionReader, Read, ReadError, SpanId, Store, StoredBatch,
};

use crate::record::{Origin, Outgoing};
use crate::stream::Producer;

/// Bytes of stored batches that are read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Kafka keeps producer state for a day by the time in the records, and deletes by it: what is older
/// than this is sent with the time of the upload.
const RESTAMP_AFTER_MS: i64 = 12 * 60 * 60 * 1000;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Store,
    origin: Origin,
    partition: LogPartition,
    reader: PartitionReader,
    /// Records that were read and not yet asked for.
    ahead: VecDeque<Ahead>,
    next: u64,
}

#[derive(Debug)]
struct Ahead {
    record: Record,
    era: EraId,
    span: SpanId,
}

/// What batch is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Offset of the first record.
    pub(crate) from: u64,
    /// First offset that must not be in it.
    pub(crate) limit: u64,
    /// Size that it should not exceed; a single record may.
    pub(crate) bytes_max: usize,
    pub(crate) producer: Producer,
    /// Now, by the best clock there is.
    pub(crate) now: CorrectedTime,
    /// Whether every record is to bear the time of the upload.
    pub(crate) restamp: bool,
}

/// A batch for Kafka.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) to: u64,
    pub(crate) records: Bytes,
    /// When its first record was received.
    pub(crate) first_time_ms: i64,
}

/// What there is.
#[derive(Clone, Debug)]
pub(crate) enum Fed {
    Batch(Upload),
    /// The era's clock must be fixed for good before its times are told.
    Era(EraId),
    /// There is no record from `at` up to `resume`.
    Gap {
        at: u64,
        resume: u64,
        reason: GapReason,
    },
    /// Nothing yet.
    Nothing,
}

/// The log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("read the log")]
    Read(#[from] ReadError),
    #[error("read a stored batch")]
    Batch(#[from] BatchError),
    #[error("read a stored record")]
    Message(#[from] MessageError),
    #[error("build a batch for kafka")]
    Append(#[from] AppendError),
}

impl Feed {
    pub(crate) fn new(store: Store, origin: Origin, partition: LogPartition, from: u64) -> Self {
        let reader = store.partition_reader(partition, Offset(from));
        Self {
            store,
            origin,
            partition,
            reader,
            ahead: VecDeque::new(),
            next: from,
        }
    }

    /// Makes the batch that is wanted.
    pub(crate) fn batch(&mut self, wanted: &Wanted) -> Result<Fed, FeedError> {
        if self.next != wanted.from {
            self.ahead.clear();
            self.reader.seek(Offset(wanted.from));
            self.next = wanted.from;
        }
        if self.ahead.is_empty()
            && let Some(other) = self.read_ahead()?
        {
            return Ok(other);
        }
        self.build(wanted)
    }

    /// Reads records; or says why there are none.
    fn read_ahead(&mut self) -> Result<Option<Fed>, FeedError> {
        match self.reader.read(READ_BYTES)? {
            Read::UpToDate => Ok(Some(Fed::Nothing)),
            Read::Gap { from, to, reason } => {
                // Asked again, it says so again: the stream may have to settle things first.
                self.reader.seek(from);
                Ok(Some(Fed::Gap {
                    at: from.0,
                    resume: to.0,
                    reason,
                }))
            }
            Read::Batches(batches) => {
                for StoredBatch {
                    era, span, batch, ..
                } in batches
                {
                    for record in batch.records() {
                        let record = record?;
                        if record.offset >= Offset(self.next).as_i64() {
                            self.ahead.push_back(Ahead { record, era, span });
                        }
                    }
                }
                Ok(self.ahead.is_empty().then_some(Fed::Nothing))
            }
        }
    }

    fn build(&mut self, wanted: &Wanted) -> Result<Fed, FeedError> {
        let Some(first) = self.ahead.front() else {
            return Ok(Fed::Nothing);
        };
        let (era_id, span) = (first.era, first.span);
        let era = self.store.era(era_id);
        if era.is_some_and(|era| !era.frozen) {
            return Ok(Fed::Era(era_id));
        }
        let incarnation = self
            .store
            .span_of(span)
            .map_or(Incarnation(0), |span| span.incarnation);
        let Producer { id, epoch, .. } = wanted.producer;
        let sequence = wanted.producer.sequence(wanted.from);
        let mut batch = BatchBuilder::new(0).with_producer(id, epoch, sequence);
        let mut upload = Upload {
            to: self.next,
            records: Bytes::new(),
            first_time_ms: 0,
        };
        while let Some(ahead) = self.ahead.front() {
            let offset = u64::try_from(ahead.record.offset).unwrap_or(0);
            let fits = offset == self.next && offset < wanted.limit;
            if !fits || ahead.era != era_id || ahead.span != span {
                break;
            }
            let outgoing = outgoing(&ahead.record, era, incarnation, wanted)?;
            let bytes = self.origin.record_bytes(&outgoing, &batch);
            if !batch.is_empty() && batch.len_bytes() + bytes > wanted.bytes_max {
                break;
            }
            if batch.is_empty() {
                upload.first_time_ms = outgoing.time.ms;
            }
            self.origin.append(&outgoing, &mut batch)?;
            self.next += 1;
            self.ahead.pop_front();
        }
        if batch.is_empty() {
            return Ok(Fed::Nothing);
        }
        upload.to = self.next;
        upload.records = batch.finish();
        Ok(Fed::Batch(upload))
    }

    /// The offsets of this partition at which a span begins, ascending.
    pub(crate) fn span_starts(&self) -> Vec<u64> {
        let current = self.store.span().0;
        let starts = (0..=current).filter_map(|span| {
            let span = self.store.span_of(SpanId(span))?;
            let start = span
                .starts
                .iter()
                .find(|(partition, _)| *partition == self.partition)?;
            Some(start.1.0)
        });
        starts.collect()
    }
}

/// A time of an era as well as it is known.
fn corrected(era: Option<Era>, ms: i64) -> CorrectedTime {
    let as_it_is = CorrectedTime {
        ms,
        quality: storage::TimeQuality::Estimated,
    };
    era.map_or(as_it_is, |era| era.corrected(ms))
}

/// When the first record from `from` on was received; `None` if there is none that can be read.
/// Blocks: it may open a segment.
pub(crate) fn oldest_ms(store: &Store, partition: LogPartition, from: u64) -> Option<i64> {
    let from = Offset(from);
    let Ok(Read::Batches(batches)) = store.partition_reader(partition, from).read(1) else {
        return None;
    };
    batches.iter().find_map(|stored| {
        let mut records = stored.batch.records().filter_map(Result::ok);
        let record = records.find(|record| record.offset >= from.as_i64())?;
        Some(corrected(store.era(stored.era), record.timestamp_ms).ms)
    })
}

fn outgoing(
    record: &Record,
    era: Option<Era>,
    incarnation: Incarnation,
    wanted: &Wanted,
) -> Result<Outgoing, MessageError> {
    let message = Message::from_record(record)?;
    let time = corrected(era, record.timestamp_ms);
    let now_ms = wanted.now.ms;
    let out_of_range = time.ms > now_ms || time.ms < now_ms - RESTAMP_AFTER_MS;
    Ok(Outgoing {
        key: record.key.clone().unwrap_or_default(),
        expires_ms: message.expires_at_ms.map(|ms| corrected(era, ms).ms),
        create_time_ms: if wanted.restamp || out_of_range {
            now_ms
        } else {
            time.ms
        },
        message,
        time,
        offset: Offset::from_i64(record.offset).unwrap_or_default(),
        incarnation,
    })
}
