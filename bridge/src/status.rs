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
    /// Trouble of the route, or of one of its partitions: the last one told of those that still are.
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
    /// Its last trouble, until its records flow again or none wait.
    pub trouble: Option<Trouble>,
    /// Whether the lag was ever told.
    is_lag_known: bool,
}

impl PartitionStatus {
    /// Brings the lag into line with this high watermark. The first record that waits has come since
    /// the last time that this was called, so `now_ms` is its time until a better one is known.
    pub(crate) fn note_high_watermark(&mut self, high_watermark: u64, now_ms: i64) {
        let nobody_waited = self.is_lag_known && self.lag_records == 0;
        self.is_lag_known = true;
        self.high_watermark = high_watermark;
        self.lag_records = high_watermark.saturating_sub(self.acknowledged);
        if self.lag_records == 0 {
            self.oldest_ms = None;
        } else if nobody_waited {
            self.oldest_ms = Some(now_ms);
        }
    }
}

impl RouteStatus {
    /// Notes a partition's trouble; whether it is news.
    pub(crate) fn note_trouble(&mut self, partition: u16, trouble: Trouble) -> bool {
        let mut known = self.partitions.values().map(|status| &status.trouble);
        let is_told = |told: &Option<Trouble>| told.as_ref() == Some(&trouble);
        let is_news = !is_told(&self.trouble) && !known.any(is_told);
        self.partitions.entry(partition).or_default().trouble = Some(trouble.clone());
        self.trouble = Some(trouble);
        is_news
    }

    /// A partition is well; what is told now is the trouble of another, if there is one.
    pub(crate) fn end_trouble(&mut self, partition: u16) {
        self.partitions.entry(partition).or_default().trouble = None;
        let mut others = self.partitions.values();
        if others.all(|status| status.trouble != self.trouble) {
            self.trouble = self
                .partitions
                .values()
                .find_map(|status| status.trouble.clone());
        }
    }
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

#[cfg(test)]
mod tests {
    use super::{PartitionStatus, RouteStatus, Trouble};

    #[test]
    fn age_of_the_lag_is_that_of_the_first_record_that_waits() {
        let mut partition = PartitionStatus::default();
        let mut note = |acknowledged, high_watermark, now_ms| {
            partition.acknowledged = acknowledged;
            partition.note_high_watermark(high_watermark, now_ms);
            (partition.lag_records, partition.oldest_ms)
        };
        // What lies there since an earlier life came at a time that is not known here.
        assert_eq!(note(2, 5, 100), (3, None));
        assert_eq!(note(5, 5, 200), (0, None));
        assert_eq!(note(5, 7, 300), (2, Some(300)));
        assert_eq!(note(5, 9, 400), (4, Some(300)));
        assert_eq!(note(9, 9, 500), (0, None));
        let mut fresh = PartitionStatus::default();
        fresh.note_high_watermark(0, 100);
        fresh.note_high_watermark(1, 200);
        assert_eq!(fresh.oldest_ms, Some(200));
    }

    fn trouble(what: &str) -> Trouble {
        Trouble {
            what: what.to_owned(),
            remedy: None,
        }
    }

    #[test]
    fn trouble_of_a_partition_is_told_until_that_partition_is_well() {
        let mut route = RouteStatus::default();
        assert!(route.note_trouble(0, trouble("too large")));
        route.end_trouble(1);
        assert_eq!(route.trouble, Some(trouble("too large")));
        assert!(!route.note_trouble(0, trouble("too large")));
        assert!(route.note_trouble(1, trouble("no leader")));
        assert_eq!(route.trouble, Some(trouble("no leader")));
        assert!(!route.note_trouble(0, trouble("too large")));
        route.end_trouble(0);
        assert_eq!(route.trouble, Some(trouble("no leader")));
        route.end_trouble(1);
        assert_eq!(route.trouble, None);
    }

    #[test]
    fn trouble_of_the_whole_route_ends_when_a_partition_is_well() {
        let mut route = RouteStatus {
            trouble: Some(trouble("no topic")),
            ..RouteStatus::default()
        };
        route.end_trouble(0);
        assert_eq!(route.trouble, None);
    }
}
