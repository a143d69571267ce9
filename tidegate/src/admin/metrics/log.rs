//! What the store counts, and whether there is one.

use std::fmt;

use storage::{GapReason, Health, OldestSegment, RecoveryEvent, Store, StoreStatus, TimeQuality};

use super::text::{Exposition, Kind, Plain, plain};
use crate::admin::state::AdminState;

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
pub(super) fn store(out: &mut Exposition, state: &AdminState) -> fmt::Result {
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
