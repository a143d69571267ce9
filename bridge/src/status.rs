//! What the bridge is doing, for people, programs and metrics. Written by the bridge's thread, read
//! by anybody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared between the bridge and whoever looks.
#[derive(Clone, Debug, Default)]
pub struct BridgeProbe {
    routes: Arc<Mutex<BTreeMap<String, RouteStatus>>>,
}

/// A route.
#[derive(Clone, Debug, Default)]
pub struct RouteStatus {
    /// Name of the log.
    pub log: String,
    /// Name of the topic.
    pub topic: String,
    /// Partitions of the topic that are sent to; 0 while that is not known.
    pub topic_partitions: u16,
    /// Whether partitions are those that Kafka's own clients choose for the same key.
    pub agrees_with_kafka_partitioner: bool,
    /// Last trouble, until records flow again.
    pub trouble: Option<Trouble>,
    /// Its partitions, by number.
    pub partitions: BTreeMap<u16, PartitionStatus>,
    /// Batches acknowledged since the process started.
    pub batches: u64,
    /// Bytes of those batches.
    pub batch_bytes: u64,
}

/// Why records do not flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What happened, with its causes.
    pub what: String,
    /// What an operator can do, where there is something.
    pub remedy: Option<String>,
}

/// What a partition's stream is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamActivity {
    /// Trying to reach the leader.
    #[default]
    Connecting,
    /// Finding out what the cluster has.
    Resolving,
    /// Sending, or ready to.
    Streaming,
    /// Waiting, because the cluster refuses.
    Paused,
    /// Standing still until an operator has looked.
    Halted,
}

impl StreamActivity {
    /// The word in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Resolving => "resolving",
            Self::Streaming => "streaming",
            Self::Paused => "paused",
            Self::Halted => "halted",
        }
    }
}

/// A partition of a route.
#[derive(Clone, Debug, Default)]
pub struct PartitionStatus {
    /// Partition of the topic.
    pub target: i32,
    /// What its stream is doing.
    pub activity: StreamActivity,
    /// Next offset to acknowledge.
    pub acknowledged: u64,
    /// First offset that is not yet durable here.
    pub high_watermark: u64,
    /// Records that wait, without those that are known never to have been there.
    pub lag_records: u64,
    /// Records of which it is not known whether the cluster has them.
    pub in_doubt: u64,
    /// Records in the cluster, ever.
    pub replicated: u64,
    /// Records lost for this route, ever; the gap ledger has them.
    pub lost: u64,
    /// When the oldest record that waits was received, milliseconds since 1970, if it is known.
    pub oldest_ms: Option<i64>,
}

impl BridgeProbe {
    /// All routes by name.
    pub fn routes(&self) -> BTreeMap<String, RouteStatus> {
        self.lock().clone()
    }

    pub(crate) fn update(&self, route: &str, change: impl FnOnce(&mut RouteStatus)) {
        change(self.lock().entry(route.to_owned()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, RouteStatus>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
