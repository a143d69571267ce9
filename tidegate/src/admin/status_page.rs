//! `/status`: how the gateway stands, as JSON. The names are kept from version to version.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bridge::{PartitionStatus, RouteStatus};
use serde::{Deserialize, Serialize};
use storage::{DamagedSegments, Health, RecoveryEvent, Store};

use crate::admin::flash_page::FlashPage;
use crate::admin::oldest_segment_page::OldestSegmentPage;
use crate::admin::state::{AdminState, Degraded, LastStart};

/// What to do about a store that is not there.
const REMEDY: &str = "see whether the card is there, writable and has space (dmesg, df); the store is \
                      tried again by itself, and at once after SIGUSR1 or a restart";

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct StatusPage {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: u64,
    pub(crate) gateway_id: Option<String>,
    /// There when there is no store.
    #[serde(default)]
    pub(crate) degraded: Option<DegradedPage>,
    pub(crate) broker: BrokerPage,
    /// Null while the gateway is degraded.
    pub(crate) store: Option<StorePage>,
    /// Null until the store has been opened once.
    #[serde(default)]
    pub(crate) last_start: Option<LastStartPage>,
    pub(crate) bridge: Option<BridgePage>,
}

/// Why only QoS 0 is served.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct DegradedPage {
    pub(crate) reason: String,
    pub(crate) seconds: u64,
    /// When it began, milliseconds since 1970 by this machine's clock.
    pub(crate) since_ms: u64,
    /// How often it was tried to open the store since.
    pub(crate) attempts: u32,
    /// Until the next attempt; null while one is under way, or if there will be none.
    pub(crate) next_attempt_seconds: Option<u64>,
    /// Only another process can open the store.
    #[serde(default)]
    pub(crate) needs_new_process: bool,
    pub(crate) remedy: String,
}

/// How the store was opened the last time that it was; kept while the process lives.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LastStartPage {
    /// Milliseconds since 1970 by this machine's clock.
    pub(crate) at_ms: u64,
    pub(crate) events: Vec<RecoveryEventPage>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RecoveryEventPage {
    pub(crate) kind: String,
    pub(crate) what: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct BrokerPage {
    pub(crate) listeners: Vec<ListenerPage>,
    pub(crate) sessions: u64,
    /// Sessions without a connection.
    #[serde(default)]
    pub(crate) sessions_offline: u64,
    /// Sessions that get from the log what they did not take when it came.
    #[serde(default)]
    pub(crate) sessions_behind: u64,
    pub(crate) subscriptions: u64,
    pub(crate) retained_messages: u64,
    pub(crate) retained_bytes: u64,
    pub(crate) published: u64,
    pub(crate) live_only: u64,
    pub(crate) refused: u64,
    pub(crate) pending_publishes: u64,
    pub(crate) held_publishes: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ListenerPage {
    pub(crate) address: String,
    pub(crate) connections: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct StorePage {
    pub(crate) data_dir: String,
    pub(crate) incarnation: String,
    pub(crate) health: String,
    /// What sealing, retention or the metadata fail of now.
    #[serde(default)]
    pub(crate) upkeep_trouble: Option<String>,
    pub(crate) durable_commit: u64,
    pub(crate) commits: u64,
    pub(crate) syncs: u64,
    pub(crate) segments: usize,
    pub(crate) segments_open: usize,
    /// Found damaged since the start, and still part of the log.
    #[serde(default)]
    pub(crate) damaged_segments: DamagedSegmentsPage,
    pub(crate) bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) flash: FlashPage,
    /// The logs that refuse records now, because nothing of theirs may go.
    #[serde(default)]
    pub(crate) full_logs: Vec<String>,
    /// The logs whose records keep the oldest segment.
    pub(crate) oldest_segment_kept_by: Vec<String>,
    #[serde(default)]
    pub(crate) oldest_segment: Option<OldestSegmentPage>,
    /// Segments whose live data was copied elsewhere since the start, and its bytes.
    #[serde(default)]
    pub(crate) evacuated_segments: u64,
    #[serde(default)]
    pub(crate) evacuated_bytes: u64,
    pub(crate) clock: String,
    pub(crate) recovery: Vec<String>,
    pub(crate) gaps: Vec<GapPage>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct DamagedSegmentsPage {
    pub(crate) count: usize,
    /// The oldest of them, a few.
    pub(crate) first: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct GapPage {
    pub(crate) log: String,
    pub(crate) partition: u16,
    pub(crate) route: Option<String>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) records: u64,
    pub(crate) at_most: bool,
    pub(crate) reason: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct BridgePage {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) routes: BTreeMap<String, RoutePage>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RoutePage {
    pub(crate) log: String,
    pub(crate) topic: String,
    /// What is promised: see docs/operating.md.
    pub(crate) mode: String,
    pub(crate) topic_partitions: u16,
    pub(crate) agrees_with_kafka_partitioner: bool,
    pub(crate) lag_records: u64,
    pub(crate) lag_seconds: Option<u64>,
    pub(crate) in_doubt: u64,
    pub(crate) replicated: u64,
    pub(crate) lost: u64,
    pub(crate) trouble: Option<String>,
    pub(crate) remedy: Option<String>,
    pub(crate) partitions: Vec<RoutePartitionPage>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RoutePartitionPage {
    pub(crate) partition: u16,
    pub(crate) target: i32,
    pub(crate) activity: String,
    pub(crate) acknowledged: u64,
    pub(crate) high_watermark: u64,
    pub(crate) lag_records: u64,
    pub(crate) in_doubt: u64,
    pub(crate) replicated: u64,
    pub(crate) lost: u64,
}

impl StatusPage {
    pub(crate) fn of(state: &AdminState) -> Self {
        let store = state.store();
        let now_ms = store.as_ref().map_or(0, |store| store.now().ms);
        let bridge = state
            .bridge()
            .zip(state.config.bridge.as_ref())
            .map(|(probe, config)| BridgePage {
                bootstrap: config.bootstrap.iter().map(ToString::to_string).collect(),
                routes: probe
                    .routes()
                    .into_iter()
                    .map(|(name, route)| (name, RoutePage::of(&route, now_ms)))
                    .collect(),
            });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: state.started.elapsed().as_secs(),
            gateway_id: state.config.gateway_id.as_ref().map(ToString::to_string),
            degraded: store.as_ref().err().map(|d| DegradedPage::of(d)),
            broker: BrokerPage::of(state),
            store: store.as_ref().ok().map(|store| StorePage::of(state, store)),
            last_start: state.last_start().map(|start| LastStartPage::of(&start)),
            bridge,
        }
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl DegradedPage {
    fn of(degraded: &Degraded) -> Self {
        let (lasts, since) = degraded.since();
        let next = degraded.next_attempt();
        Self {
            reason: degraded.reason().to_owned(),
            seconds: lasts.as_secs(),
            since_ms: milliseconds(since),
            attempts: degraded.attempts(),
            next_attempt_seconds: next.map(|wait| wait.as_secs()),
            needs_new_process: degraded.needs_new_process(),
            remedy: REMEDY.to_owned(),
        }
    }
}

impl LastStartPage {
    fn of(start: &LastStart) -> Self {
        let event = |event: &RecoveryEvent| RecoveryEventPage {
            kind: event.kind().to_owned(),
            what: event.to_string(),
        };
        Self {
            at_ms: milliseconds(start.at),
            events: start.events.iter().map(event).collect(),
        }
    }
}

impl BrokerPage {
    fn of(state: &AdminState) -> Self {
        let broker = state.broker();
        let status = broker.status();
        let counters = broker.counters();
        let listeners = status.listeners.iter().map(|listener| ListenerPage {
            address: listener.address.to_string(),
            connections: listener.connections,
        });
        Self {
            listeners: listeners.collect(),
            sessions: status.sessions_v311 + status.sessions_v5,
            sessions_offline: status.sessions_offline,
            sessions_behind: status.sessions_behind,
            subscriptions: status.subscriptions,
            retained_messages: status.retained_messages,
            retained_bytes: status.retained_bytes,
            published: counters.published.get(),
            live_only: counters.live_only.get(),
            refused: broker::RefusalCause::ALL
                .iter()
                .map(|cause| counters.refused.get(*cause))
                .sum(),
            pending_publishes: status.pending_publishes,
            held_publishes: status.held_publishes,
        }
    }
}

impl StorePage {
    fn of(state: &AdminState, store: &Store) -> Self {
        let status = store.status();
        let health = match &status.health {
            Health::Ready => "ready".to_owned(),
            Health::Closing => "closing".to_owned(),
            Health::DiskFull { .. } => "disk full".to_owned(),
            Health::Poisoned(problem) => format!("failed: {problem}"),
        };
        let logs = store.logs();
        let name = |id: storage::LogId| {
            let log = logs.iter().find(|log| log.id == id);
            log.map_or_else(|| id.to_string(), |log| log.name.clone())
        };
        let gap = |gap: storage::Gap| GapPage {
            log: name(gap.partition.log),
            partition: gap.partition.partition.0,
            route: gap.route,
            from: gap.from.0,
            to: gap.to.0,
            records: gap.records,
            at_most: gap.at_most,
            reason: gap.reason.as_str().to_owned(),
        };
        Self {
            // Absolute: who asks may stand elsewhere.
            data_dir: std::path::absolute(store.path())
                .unwrap_or_else(|_| store.path().to_owned())
                .display()
                .to_string(),
            incarnation: store.incarnation().to_string(),
            health,
            upkeep_trouble: status.upkeep_trouble,
            durable_commit: status.durable.0,
            commits: store.counters().commits(),
            syncs: storage::fence::calls(),
            segments: status.segments,
            segments_open: status.segments_open,
            damaged_segments: DamagedSegmentsPage::of(status.damaged_segments),
            bytes: status.bytes,
            free_bytes: store.counters().free_bytes(),
            flash: FlashPage::of(
                &status.flash,
                state
                    .config
                    .storage
                    .card_endurance
                    .map(firmware_config::ByteCount::get),
            ),
            full_logs: store
                .full_logs()
                .into_iter()
                .map(|(id, _)| name(id))
                .collect(),
            evacuated_segments: store.counters().evacuated_segments(),
            evacuated_bytes: store.counters().evacuated_bytes(),
            oldest_segment_kept_by: status
                .oldest_segment
                .iter()
                .flat_map(|oldest| &oldest.logs)
                .map(|log| log.name.clone())
                .collect(),
            oldest_segment: status.oldest_segment.as_ref().map(OldestSegmentPage::of),
            clock: store.now().quality.as_str().to_owned(),
            recovery: store
                .recovery_events()
                .iter()
                .map(ToString::to_string)
                .collect(),
            gaps: store.gaps().into_iter().map(gap).collect(),
        }
    }
}

impl DamagedSegmentsPage {
    fn of(damaged: DamagedSegments) -> Self {
        let DamagedSegments { count, first } = damaged;
        Self { count, first }
    }
}

impl RoutePage {
    fn of(route: &RouteStatus, now_ms: i64) -> Self {
        let sum = |field: fn(&PartitionStatus) -> u64| route.partitions.values().map(field).sum();
        let oldest_ms = route
            .partitions
            .values()
            .filter_map(|partition| partition.oldest_ms)
            .min();
        let age = |ms: i64| u64::try_from(now_ms.saturating_sub(ms)).unwrap_or(0) / 1000;
        Self {
            log: route.log.clone(),
            topic: route.topic.clone(),
            mode: "exactly once (resumable idempotent)".to_owned(),
            topic_partitions: route.topic_partitions,
            agrees_with_kafka_partitioner: route.agrees_with_kafka_partitioner,
            lag_records: sum(|partition| partition.lag_records),
            lag_seconds: oldest_ms.map(age),
            in_doubt: sum(|partition| partition.in_doubt),
            replicated: sum(|partition| partition.replicated),
            lost: sum(|partition| partition.lost),
            trouble: route.trouble.as_ref().map(|trouble| trouble.what.clone()),
            remedy: route
                .trouble
                .as_ref()
                .and_then(|trouble| trouble.remedy.clone()),
            partitions: route
                .partitions
                .iter()
                .map(|(number, partition)| RoutePartitionPage::of(*number, partition))
                .collect(),
        }
    }
}

impl RoutePartitionPage {
    fn of(partition: u16, status: &PartitionStatus) -> Self {
        Self {
            partition,
            target: status.target,
            activity: status.activity.as_str().to_owned(),
            acknowledged: status.acknowledged,
            high_watermark: status.high_watermark,
            lag_records: status.lag_records,
            in_doubt: status.in_doubt,
            replicated: status.replicated,
            lost: status.lost,
        }
    }
}
