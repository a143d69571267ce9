//! What a partition's leader remembers about idempotent producers, and how it judges their batches.
//!
//! The rules, as Apache Kafka applies them (the classes `ProducerStateEntry` and
//! `ProducerAppendInfo`, [KIP-98], [KIP-360]):
//!
//! - Epoch and exact range of sequences equal one of the last five batches: a duplicate, answered
//!   with that batch's offset.
//! - No state for the producer id: any epoch and any sequence are accepted.
//! - A lower epoch is refused with 47, a higher one must begin at sequence 0 (else 45).
//! - The same epoch must go on at the sequence after the last (else 45); 2^31-1 is followed by 0.
//! - State expires by the max timestamp of the producer's last batch, not by when it was written.
//!
//! [KIP-98]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging
//! [KIP-360]: https://cwiki.apache.org/confluence/pages/viewpage.action?pageId=89068820

use std::collections::{BTreeMap, VecDeque};

use record_batch::BatchHeader;

use crate::error_code::ErrorCode;

/// Batches that are remembered for each producer.
const WINDOW_BATCHES: usize = 5;

/// A producer that names no epoch has none to be measured by; the broker lets it write anything.
const NO_EPOCH: i16 = -1;

/// A remembered batch.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct WindowBatch {
    /// Sequence of its first record.
    pub first_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Its max timestamp.
    pub max_timestamp_ms: i64,
}

/// What is remembered about one producer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Producer {
    /// Epoch of its last batch.
    pub epoch: i16,
    /// Max timestamp of its last batch.
    pub last_timestamp_ms: i64,
    /// Its last batches, oldest first; at least one, at most five.
    window: VecDeque<WindowBatch>,
}

impl Producer {
    /// Sequence of its last record.
    pub fn last_sequence(&self) -> i32 {
        self.window.back().map_or(-1, |batch| batch.last_sequence)
    }

    /// Its last batches, oldest first.
    pub fn window(&self) -> impl Iterator<Item = &WindowBatch> {
        self.window.iter()
    }
}

/// The judgement of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// To be appended.
    New,
    /// One of the remembered batches, sent again.
    Duplicate(WindowBatch),
}

/// All producers of a partition, by id.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Producers(BTreeMap<i64, Producer>);

impl Producers {
    pub(super) fn get(&self, producer_id: i64) -> Option<&Producer> {
        self.0.get(&producer_id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.0.iter().map(|(id, producer)| (*id, producer))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Judges a batch by its header; changes nothing.
    pub(super) fn judge(&self, header: &BatchHeader) -> Result<Verdict, ErrorCode> {
        if header.producer_id < 0 {
            return Ok(Verdict::New);
        }
        let Some(known) = self.0.get(&header.producer_id) else {
            // As if it were known without an epoch: only what is below that is too low.
            let too_low = header.producer_epoch < NO_EPOCH;
            return if too_low {
                Err(ErrorCode::INVALID_PRODUCER_EPOCH)
            } else {
                Ok(Verdict::New)
            };
        };
        let first = header.base_sequence;
        let last = header.last_sequence();
        let unfenced = known.epoch == NO_EPOCH;
        if header.producer_epoch == known.epoch {
            let same =
                |batch: &&WindowBatch| batch.first_sequence == first && batch.last_sequence == last;
            if let Some(batch) = known.window.iter().find(same) {
                return Ok(Verdict::Duplicate(*batch));
            }
            let expected = i64::from(known.last_sequence()) + 1;
            let wrapped = known.last_sequence() == i32::MAX && first == 0;
            if i64::from(first) != expected && !wrapped && !unfenced {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
        } else if header.producer_epoch < known.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        } else if first != 0 && !unfenced {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        Ok(Verdict::New)
    }

    /// Remembers a batch that was appended; `header` is the one it was stored with.
    pub(super) fn remember(&mut self, header: &BatchHeader) {
        if header.producer_id < 0 {
            return;
        }
        let producer = self
            .0
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                epoch: header.producer_epoch,
                last_timestamp_ms: header.max_timestamp_ms,
                window: VecDeque::new(),
            });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.window.clear();
        }
        if producer.window.len() == WINDOW_BATCHES {
            producer.window.pop_front();
        }
        producer.last_timestamp_ms = header.max_timestamp_ms;
        producer.window.push_back(WindowBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp_ms: header.max_timestamp_ms,
        });
    }

    /// Forgets producers whose last batch is older than `expiration_ms` by its own timestamp.
    pub(super) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.0.retain(|_, producer| {
            now_ms.saturating_sub(producer.last_timestamp_ms) < expiration_ms
        });
    }

    /// Forgets all but each producer's last batch: what a snapshot of this state keeps.
    pub(super) fn keep_last_batches(&mut self) {
        for producer in self.0.values_mut() {
            let surplus = producer.window.len().saturating_sub(1);
            producer.window.drain(..surplus);
        }
    }
}
