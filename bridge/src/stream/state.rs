//! What of a stream is durable.

use serde::{Deserialize, Serialize};

/// Position and producer id of a stream, as it stands in the journal behind a version byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct StreamState {
    /// Every record before this offset is in Kafka for good, or accounted for as lost.
    pub(crate) acknowledged: u64,
    /// The producer id under which it sends, once it has sent anything.
    pub(crate) producer: Option<Producer>,
    /// Version of the route's mapping that the producer id is of.
    pub(crate) mapping_version: u32,
    /// Records that are in Kafka.
    pub(crate) replicated: u64,
    /// Records that never will be; the gap ledger has them one by one.
    pub(crate) lost: u64,
}

/// An idempotent producer id of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Producer {
    /// The id.
    pub(crate) id: i64,
    /// Its epoch.
    pub(crate) epoch: i16,
    /// Offset of the record with sequence number 0.
    pub(crate) start: u64,
    /// Nothing of ours that is not acknowledged lies before this remote offset.
    pub(crate) remote_next: i64,
}

impl Producer {
    /// Sequence number of the record at `offset`.
    pub(crate) fn sequence(&self, offset: u64) -> i32 {
        // Less than 2^30 by the rule that ends a producer id.
        i32::try_from(offset.saturating_sub(self.start)).unwrap_or(i32::MAX)
    }

    /// Offset of the record with this sequence number; `None` for a negative one.
    pub(crate) fn offset(&self, sequence: i32) -> Option<u64> {
        u64::try_from(sequence)
            .ok()
            .and_then(|ordinal| self.start.checked_add(ordinal))
    }
}

impl StreamState {
    /// This state, after everything before `at` was acknowledged and nothing is to come before
    /// `resume`; `lost` records are missing in between.
    pub(crate) fn after_barrier(&self, at: u64, resume: u64, lost: u64) -> Self {
        debug_assert_eq!(
            self.acknowledged, at,
            "a barrier is passed when it is reached"
        );
        let lost = self.lost + lost;
        Self {
            acknowledged: resume,
            producer: None,
            lost,
            ..self.clone()
        }
    }
}
