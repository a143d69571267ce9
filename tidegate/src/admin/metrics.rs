//! `/metrics`: Prometheus' text format, version 0.0.4. `docs/metrics.md` explains each.
//!
//! The numbers are kept where they arise; here they only get names. Labels are small closed sets.

use std::fmt::{self, Write as _};
use std::fs;

use bridge::{PartitionStatus, RouteStatus, StreamActivity};
use broker::{Counters, DropCause, EndCause, Limit, ListenerCounters, RefusalCause};
use storage::{GapReason, Health, OldestSegment, RecoveryEvent, Store, StoreStatus, TimeQuality};

use crate::admin::state::AdminState;

/// What kind of number it is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// Collects the text.
struct Exposition {
    text: String,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: Kind, help: &str) -> Result<Metric<'_>, fmt::Error> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        writeln!(self.text, "# HELP {name} {help}")?;
        writeln!(self.text, "# TYPE {name} {kind}")?;
        Ok(Metric {
            text: &mut self.text,
            name: name.to_owned(),
        })
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, Kind::Counter, help)?.sample(&[], value)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, Kind::Gauge, help)?.sample(&[], value)
    }
}

/// A metric that samples are added to.
struct Metric<'a> {
    text: &'a mut String,
    name: String,
}

impl Metric<'_> {
    fn sample(&mut self, labels: Labels<'_>, value: u64) -> fmt::Result {
        self.text.push_str(&self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            write!(self.text, "{before}{label}=\"{value}\"")?;
        }
        let after = if labels.is_empty() { "" } else { "}" };
        writeln!(self.text, "{after} {value}")
    }
}

/// All metrics, as they are now.
pub(crate) fn exposition(state: &AdminState) -> Result<String, fmt::Error> {
    let mut out = Exposition {
        text: String::with_capacity(16 * 1024),
    };
    out.metric(
        "tidegate_build_info",
        Kind::Gauge,
        "Version of the running program.",
    )?
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1)?;
    out.gauge(
        "tidegate_uptime_seconds",
        "Time since the start.",
        state.started.elapsed().as_secs(),
    )?;
    broker(&mut out, state)?;
    store(&mut out, state)?;
    bridge(&mut out, state)?;
    process(&mut out)?;
    Ok(out.text)
}

/// A metric without labels: name, kind, help, value.
type Plain<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

fn plain<T>(out: &mut Exposition, metrics: &[Plain<T>], of: &T) -> fmt::Result {
    for (name, kind, help, value) in metrics {
        out.metric(name, *kind, help)?.sample(&[], value(of))?;
    }
    Ok(())
}

const LISTENER: &[Plain<ListenerCounters>] = &[
    (
        "tidegate_broker_connections",
        Kind::Gauge,
        "Connections of clients.",
        |l| l.connections.get(),
    ),
    (
        "tidegate_broker_connections_accepted_total",
        Kind::Counter,
        "Connections that were accepted.",
        |l| l.accepted.get(),
    ),
    (
        "tidegate_broker_connections_refused_total",
        Kind::Counter,
        "Connections closed at once because the listener was full.",
        |l| l.refused.get(),
    ),
    (
        "tidegate_broker_accept_errors_total",
        Kind::Counter,
        "Connections that could not be accepted.",
        |l| l.accept_errors.get(),
    ),
];

const BROKER: &[Plain<Counters>] = &[
    (
        "tidegate_broker_messages_published_total",
        Kind::Counter,
        "Messages that got an offset in a log.",
        |c| c.published.get(),
    ),
    (
        "tidegate_broker_messages_live_only_total",
        Kind::Counter,
        "Messages that went to subscribers only.",
        |c| c.live_only.get(),
    ),
    (
        "tidegate_broker_missing_total",
        Kind::Counter,
        "Ranges of the log that are gone and may have held messages for a session.",
        |c| c.missing_reports.get(),
    ),
    (
        "tidegate_broker_catch_up_pauses_total",
        Kind::Counter,
        "Pauses of reading for sessions that are behind, for live traffic and the uplink.",
        |c| c.catch_up_pauses.get(),
    ),
    (
        "tidegate_broker_mailboxes_given_back_total",
        Kind::Counter,
        "Mailboxes that were given back, to be read again from the log, because others needed the room.",
        |c| c.mailboxes_given_back.get(),
    ),
    (
        "tidegate_broker_wills_total",
        Kind::Counter,
        "Wills that were published.",
        |c| c.wills.get(),
    ),
    (
        "tidegate_broker_wills_kept",
        Kind::Gauge,
        "Wills of sessions that outlive their connections: they are on flash.",
        |c| c.wills_kept.get(),
    ),
    (
        "tidegate_broker_wills_kept_bytes",
        Kind::Gauge,
        "Their bytes, and 256 for each.",
        |c| c.wills_kept_bytes.get(),
    ),
    (
        "tidegate_broker_received_bytes_total",
        Kind::Counter,
        "Bytes read from clients.",
        |c| c.bytes_received.get(),
    ),
    (
        "tidegate_broker_sent_bytes_total",
        Kind::Counter,
        "Bytes written to clients.",
        |c| c.bytes_sent.get(),
    ),
    (
        "tidegate_broker_received_packets_total",
        Kind::Counter,
        "Packets of all types from clients.",
        |c| c.packets_received.get(),
    ),
    (
        "tidegate_broker_sent_packets_total",
        Kind::Counter,
        "Packets of all types to clients.",
        |c| c.packets_sent.get(),
    ),
    (
        "tidegate_broker_sessions_offline",
        Kind::Gauge,
        "Sessions without a connection.",
        |c| c.sessions_offline.get(),
    ),
    (
        "tidegate_broker_sessions_behind",
        Kind::Gauge,
        "Sessions that get from the log what they did not take when it came.",
        |c| c.sessions_behind.get(),
    ),
    (
        "tidegate_broker_replays",
        Kind::Gauge,
        "Replays that have not come to the live messages.",
        |c| c.replays.get(),
    ),
    (
        "tidegate_broker_groups",
        Kind::Gauge,
        "Groups of shared subscribers.",
        |c| c.groups.get(),
    ),
    (
        "tidegate_broker_groups_behind",
        Kind::Gauge,
        "Groups that get from the log what no member had room for when it came.",
        |c| c.groups_behind.get(),
    ),
    (
        "tidegate_broker_subscriptions",
        Kind::Gauge,
        "Subscriptions.",
        |c| c.subscriptions.get(),
    ),
    (
        "tidegate_broker_retained_messages",
        Kind::Gauge,
        "Retained messages.",
        |c| c.retained_messages.get(),
    ),
    (
        "tidegate_broker_retained_bytes",
        Kind::Gauge,
        "Bytes of retained messages.",
        |c| c.retained_bytes.get(),
    ),
    (
        "tidegate_broker_pending_publishes",
        Kind::Gauge,
        "Publishes that wait for a commit.",
        |c| c.pending_publishes.get(),
    ),
    (
        "tidegate_broker_held_publishes",
        Kind::Gauge,
        "Publishes that were read and that the store does not take for now.",
        |c| c.held_publishes.get(),
    ),
    (
        "tidegate_broker_mailboxes_bytes",
        Kind::Gauge,
        "Bytes that wait for all subscribers together, with what their sockets have not taken yet.",
        |c| c.mailboxes_bytes.get(),
    ),
    (
        "tidegate_broker_queued_messages",
        Kind::Gauge,
        "Messages of QoS 1 that wait for a slow subscriber.",
        |c| c.queued_messages.get(),
    ),
    (
        "tidegate_broker_queued_bytes",
        Kind::Gauge,
        "Bytes of the messages that wait for a slow subscriber.",
        |c| c.queued_bytes.get(),
    ),
];

fn broker(out: &mut Exposition, state: &AdminState) -> fmt::Result {
    let broker = state.broker();
    let counters = broker.counters();
    for (name, kind, help, value) in LISTENER {
        let mut metric = out.metric(name, *kind, help)?;
        for listener in &counters.listeners {
            metric.sample(
                &[("listener", &listener.address.to_string())],
                value(listener),
            )?;
        }
    }
    plain(out, BROKER, counters)?;
    let mut metric = out.metric(
        "tidegate_broker_sessions",
        Kind::Gauge,
        "Sessions with a connection by protocol version.",
    )?;
    let v31 = counters.sessions_v31.get();
    let v311 = counters.sessions_v311.get().saturating_sub(v31);
    metric.sample(&[("version", "3.1")], v31)?;
    metric.sample(&[("version", "3.1.1")], v311)?;
    metric.sample(&[("version", "5")], counters.sessions_v5.get())?;
    let name = "tidegate_broker_messages_received_total";
    let help = "Messages from clients, wills included, by QoS.";
    let mut metric = out.metric(name, Kind::Counter, help)?;
    metric.sample(&[("qos", "0")], counters.received_qos0.get())?;
    metric.sample(&[("qos", "1")], counters.received_qos1.get())?;
    metric.sample(&[("qos", "2")], counters.received_qos2.get())?;
    let name = "tidegate_broker_messages_delivered_total";
    let mut metric = out.metric(
        name,
        Kind::Counter,
        "Messages handed to subscribers, by QoS.",
    )?;
    metric.sample(&[("qos", "0")], counters.delivered_qos0.get())?;
    metric.sample(&[("qos", "1")], counters.delivered_qos1.get())?;
    metric.sample(&[("qos", "2")], counters.delivered_qos2.get())?;
    by_reason(out, counters)
}

fn by_reason(out: &mut Exposition, counters: &Counters) -> fmt::Result {
    let name = "tidegate_broker_messages_dropped_total";
    let help = "Messages that did not reach a subscriber, or of QoS 0 their log, by reason.";
    let mut metric = out.metric(name, Kind::Counter, help)?;
    for cause in DropCause::ALL {
        metric.sample(&[("reason", cause.label())], counters.dropped.get(*cause))?;
    }
    let name = "tidegate_broker_publishes_refused_total";
    let help = "Publishes that were not taken and not acknowledged, by reason.";
    let mut metric = out.metric(name, Kind::Counter, help)?;
    for cause in RefusalCause::ALL {
        metric.sample(&[("reason", cause.label())], counters.refused.get(*cause))?;
    }
    let name = "tidegate_broker_connections_ended_total";
    let mut metric = out.metric(name, Kind::Counter, "Connections that ended, by reason.")?;
    for cause in EndCause::ALL {
        metric.sample(&[("reason", cause.label())], counters.ended.get(*cause))?;
    }
    let name = "tidegate_broker_limit_hits_total";
    let help = "How often each limit of the configuration counted, by its key.";
    let mut metric = out.metric(name, Kind::Counter, help)?;
    for limit in Limit::ALL {
        metric.sample(&[("limit", limit.label())], counters.limits.get(*limit))?;
    }
    Ok(())
}

const LOG: &[Plain<Store>] = &[
    (
        "tidegate_log_records_total",
        Kind::Counter,
        "Records committed.",
        |s| s.counters().records(),
    ),
    (
        "tidegate_log_commits_total",
        Kind::Counter,
        "Group commits.",
        |s| s.counters().commits(),
    ),
    (
        "tidegate_log_commit_bytes_total",
        Kind::Counter,
        "Bytes of commits, before the database adds its own.",
        |s| s.counters().commit_bytes(),
    ),
    (
        "tidegate_log_payload_bytes_total",
        Kind::Counter,
        "Bytes of the payloads of the records committed.",
        |s| s.counters().payload_bytes(),
    ),
    (
        "tidegate_log_written_bytes_total",
        Kind::Counter,
        "Bytes that the databases of log and metadata wrote.",
        |_| storage::fence::written_bytes(),
    ),
    (
        "tidegate_log_syncs_total",
        Kind::Counter,
        "Syncs of the log and the metadata.",
        |_| storage::fence::calls(),
    ),
    (
        "tidegate_log_segments_opened_total",
        Kind::Counter,
        "Sealed segments that were opened for reading.",
        |s| s.counters().segments_opened(),
    ),
    (
        "tidegate_log_segments_passed_over_total",
        Kind::Counter,
        "Sealed segments that held nothing for a reader and were not opened for it.",
        |s| s.counters().segments_passed_over(),
    ),
    (
        "tidegate_log_read_bytes_total",
        Kind::Counter,
        "Bytes of commits that readers took from segments.",
        |s| s.counters().bytes_read(),
    ),
    (
        "tidegate_log_evacuated_segments_total",
        Kind::Counter,
        "Segments whose live data was copied elsewhere, so that they could go.",
        |s| s.counters().evacuated_segments(),
    ),
    (
        "tidegate_log_evacuated_bytes_total",
        Kind::Counter,
        "Bytes of commits that evacuation copied.",
        |s| s.counters().evacuated_bytes(),
    ),
    (
        "tidegate_log_upkeep_failures_total",
        Kind::Counter,
        "Rounds of sealing, retention and metadata that failed and are tried again.",
        |s| s.counters().upkeep_failures(),
    ),
    (
        "tidegate_log_free_bytes",
        Kind::Gauge,
        "Free bytes of the data folder's file system.",
        |s| s.counters().free_bytes(),
    ),
    (
        "tidegate_log_clock_synced",
        Kind::Gauge,
        "Whether a time service has set the clock.",
        |s| u64::from(s.now().quality == TimeQuality::Synced),
    ),
];

const LOG_STATUS: &[Plain<StoreStatus>] = &[
    (
        "tidegate_log_segments",
        Kind::Gauge,
        "Segments on flash.",
        |s| s.segments as u64,
    ),
    (
        "tidegate_log_segments_open",
        Kind::Gauge,
        "Segments whose databases are open.",
        |s| s.segments_open as u64,
    ),
    (
        "tidegate_log_journal_cold_entries",
        Kind::Gauge,
        "Entries of sessions and groups that changed last and are still in the journal.",
        |s| s.cold_in_journal as u64,
    ),
    (
        "tidegate_log_damage_copies",
        Kind::Gauge,
        "Sealed segments found damaged when they were read, and copied into quarantine, since the start.",
        |s| s.damage_copies as u64,
    ),
    (
        "tidegate_log_damaged_segments",
        Kind::Gauge,
        "Sealed segments that were found damaged since the start and are still part of the log.",
        |s| s.damaged_segments.count as u64,
    ),
    (
        "tidegate_log_bytes",
        Kind::Gauge,
        "Bytes of the commits that are kept.",
        |s| s.bytes,
    ),
    (
        "tidegate_log_flash_budget_exceeded",
        Kind::Gauge,
        "Whether the flash is written faster than its budget allows (1).",
        |s| {
            s.flash
                .budget
                .map_or(0, |budget| u64::from(budget.exceeded))
        },
    ),
    (
        "tidegate_log_queued_bytes",
        Kind::Gauge,
        "Bytes that wait for the committer.",
        |s| s.queued_bytes as u64,
    ),
    (
        "tidegate_log_takes_messages",
        Kind::Gauge,
        "Whether the store takes messages (1) or refuses them (0).",
        |s| u64::from(s.health == Health::Ready),
    ),
];

/// Whether there is a store, and what it says of itself.
fn store(out: &mut Exposition, state: &AdminState) -> fmt::Result {
    let store = state.store();
    out.gauge(
        "tidegate_degraded",
        "Whether there is no store and only QoS 0 is served (1).",
        u64::from(store.is_err()),
    )?;
    let name = "tidegate_log_recovery_events";
    let help = "What was out of the ordinary when the store was last opened, by kind.";
    let events = state.last_start().map(|start| start.events);
    let events = events.unwrap_or_default();
    let mut metric = out.metric(name, Kind::Gauge, help)?;
    for kind in RecoveryEvent::KINDS {
        let count = events.iter().filter(|event| event.kind() == kind).count();
        metric.sample(&[("kind", kind)], count as u64)?;
    }
    match store {
        Ok(store) => log(out, &store),
        // Alerts hang on this one.
        Err(_) => out.gauge(
            "tidegate_log_takes_messages",
            "Whether the store takes messages (1) or refuses them (0).",
            0,
        ),
    }
}

fn log(out: &mut Exposition, store: &Store) -> fmt::Result {
    plain(out, LOG, store)?;
    let status = store.status();
    plain(out, LOG_STATUS, &status)?;
    if let Some(oldest) = &status.oldest_segment {
        oldest_segment(out, oldest)?;
    }
    let name = "tidegate_log_high_watermark";
    let help = "First offset that is not yet durable.";
    per_partition(out, name, help, store, |partition| {
        store.high_watermark(partition).0
    })?;
    let name = "tidegate_log_start_offset";
    let help = "First offset that is kept.";
    per_partition(out, name, help, store, |partition| {
        store.log_start(partition).0
    })?;
    let gaps = store.gaps();
    let name = "tidegate_log_lost_records";
    let help = "Records in the gap ledger, by reason; those at most lost count in full.";
    let mut metric = out.metric(name, Kind::Gauge, help)?;
    // Zeros too: an alert on an increase needs the value before.
    for reason in GapReason::ALL {
        let records = gaps
            .iter()
            .filter(|gap| gap.reason == reason)
            .map(|gap| gap.records)
            .sum();
        metric.sample(&[("reason", reason.as_str())], records)?;
    }
    Ok(())
}

fn oldest_segment(out: &mut Exposition, oldest: &OldestSegment) -> fmt::Result {
    out.gauge(
        "tidegate_log_oldest_segment_bytes",
        "Bytes of the commits in the oldest segment.",
        oldest.bytes,
    )?;
    out.gauge(
        "tidegate_log_oldest_segment_live_bytes",
        "Bytes of records in the oldest segment that a log still keeps.",
        oldest.live_bytes,
    )?;
    // Left out if nothing tells it: 0 would be an age.
    oldest.age.map_or(Ok(()), |age| {
        out.gauge(
            "tidegate_log_oldest_segment_age_seconds",
            "Age of the newest record in the oldest segment.",
            age.as_secs(),
        )
    })
}

fn per_partition(
    out: &mut Exposition,
    name: &str,
    help: &str,
    store: &Store,
    value: impl Fn(storage::LogPartition) -> u64,
) -> fmt::Result {
    let mut metric = out.metric(name, Kind::Gauge, help)?;
    for log in store.logs() {
        for partition in log.partitions() {
            let number = partition.partition.to_string();
            let labels = [("log", log.name.as_str()), ("partition", number.as_str())];
            metric.sample(&labels, value(partition))?;
        }
    }
    Ok(())
}

const ROUTE: &[Plain<RouteStatus>] = &[
    (
        "tidegate_bridge_lag_records",
        Kind::Gauge,
        "Records that wait for the cluster.",
        |route| sum(route, |partition| partition.lag_records),
    ),
    (
        "tidegate_bridge_in_doubt_records",
        Kind::Gauge,
        "Records of which it is not known whether the cluster has them.",
        |route| sum(route, |partition| partition.in_doubt),
    ),
    (
        "tidegate_bridge_replicated_records_total",
        Kind::Counter,
        "Records in the cluster, since the route began.",
        |route| sum(route, |partition| partition.replicated),
    ),
    (
        "tidegate_bridge_lost_records_total",
        Kind::Counter,
        "Records lost for the route, since it began; the gap ledger has them.",
        |route| sum(route, |partition| partition.lost),
    ),
    (
        "tidegate_bridge_batches_total",
        Kind::Counter,
        "Batches acknowledged since the start.",
        |route| route.batches,
    ),
    (
        "tidegate_bridge_batch_bytes_total",
        Kind::Counter,
        "Bytes of those batches.",
        |route| route.batch_bytes,
    ),
    (
        "tidegate_bridge_streaming_partitions",
        Kind::Gauge,
        "Partitions whose records flow, or would if there were any.",
        |route| {
            sum(route, |partition| {
                u64::from(partition.activity == StreamActivity::Streaming)
            })
        },
    ),
    (
        "tidegate_bridge_trouble",
        Kind::Gauge,
        "Whether something keeps records from flowing (1); the status says what.",
        |route| u64::from(route.trouble.is_some()),
    ),
];

fn sum(route: &RouteStatus, field: fn(&PartitionStatus) -> u64) -> u64 {
    route.partitions.values().map(field).sum()
}

fn bridge(out: &mut Exposition, state: &AdminState) -> fmt::Result {
    let routes = state
        .bridge()
        .map(|probe| probe.routes())
        .unwrap_or_default();
    for (name, kind, help, value) in ROUTE {
        let mut metric = out.metric(name, *kind, help)?;
        for (route, status) in &routes {
            metric.sample(&[("route", route)], value(status))?;
        }
    }
    // Without a store there is no bridge.
    let now_ms = state.store().map_or(0, |store| store.now().ms);
    let name = "tidegate_bridge_lag_seconds";
    let mut metric = out.metric(name, Kind::Gauge, "Age of the oldest record that waits.")?;
    for (route, status) in &routes {
        let oldest = status
            .partitions
            .values()
            .filter_map(|partition| partition.oldest_ms)
            .min();
        if oldest.is_none() && sum(status, |partition| partition.lag_records) > 0 {
            // Not known, which is not 0.
            continue;
        }
        let age_ms = oldest.map_or(0, |ms| now_ms.saturating_sub(ms));
        metric.sample(
            &[("route", route)],
            u64::try_from(age_ms).unwrap_or(0) / 1000,
        )?;
    }
    Ok(())
}

/// What the kernel counts for this process; left out where it does not say.
fn process(out: &mut Exposition) -> fmt::Result {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(kib) = field(&status, "VmRSS:") {
        let name = "tidegate_process_resident_memory_bytes";
        out.gauge(name, "Memory of the process.", kib * 1024)?;
    }
    if let Some(bytes) = field(&io, "wchar:") {
        let name = "tidegate_process_written_bytes_total";
        out.counter(
            name,
            "Bytes passed to write calls, sockets included.",
            bytes,
        )?;
    }
    if let Some(bytes) = field(&io, "write_bytes:") {
        let name = "tidegate_process_storage_written_bytes_total";
        out.counter(
            name,
            "Bytes of dirtied pages: what goes to the flash.",
            bytes,
        )?;
    }
    Ok(())
}
