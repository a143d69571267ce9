//! Faults on demand: what a broker does wrong, to which partition's batches, how many times.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::partition::Tampering;
use crate::error_code::ErrorCode;

/// Kinds of faults that may wait for one partition; more replace the oldest.
const QUEUE_MAX: usize = 1024;

/// What happens to a batch that is produced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProduceFault {
    /// It is appended, but the answer comes this much later, and everything behind it on the same
    /// connection as well.
    AnswerLate(Duration),
    /// It is appended, and the connection is cut instead of answering.
    CutAfterAppend,
    /// The connection is cut before anything is appended.
    CutBeforeAppend,
    /// It is refused with this code, and nothing is appended.
    Refuse(ErrorCode),
    /// It is appended and yet refused with this code, as for `NOT_ENOUGH_REPLICAS_AFTER_APPEND`.
    RefuseAfterAppend(ErrorCode),
    /// It is acknowledged, but something else is stored. No client can notice by the protocol; only
    /// counting what is there can.
    Tamper(Tampering),
}

/// Faults waiting for their batch, first in first out for each partition.
#[derive(Debug, Default)]
pub(super) struct Faults(BTreeMap<(String, i32), VecDeque<(ProduceFault, u32)>>);

impl Faults {
    /// The next `count` batches for the partition suffer `fault`.
    pub(super) fn inject(&mut self, topic: &str, partition: i32, fault: ProduceFault, count: u32) {
        let queue = self.0.entry((topic.to_owned(), partition)).or_default();
        if count == 0 {
            return;
        }
        if queue.len() == QUEUE_MAX {
            queue.pop_front();
        }
        queue.push_back((fault, count));
    }

    /// The fault for a batch that has come for the partition.
    pub(super) fn take(&mut self, topic: &str, partition: i32) -> Option<ProduceFault> {
        let queue = self.0.get_mut(&(topic.to_owned(), partition))?;
        let (fault, count) = queue.front_mut()?;
        let fault = *fault;
        *count -= 1;
        if *count == 0 {
            queue.pop_front();
        }
        Some(fault)
    }

    /// Gives back a fault that could not strike.
    pub(super) fn put_back(&mut self, topic: &str, partition: i32, fault: ProduceFault) {
        let queue = self.0.entry((topic.to_owned(), partition)).or_default();
        queue.push_front((fault, 1));
    }

    /// Faults that have not struck yet.
    pub(super) fn waiting(&self) -> u64 {
        self.0
            .values()
            .flatten()
            .map(|(_, count)| u64::from(*count))
            .sum()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
