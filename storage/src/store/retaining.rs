//! Retention at work: what the keeper does each round so that logs keep what they were asked to keep.
//!
//! The decisions are pure and elsewhere ([`retention`], [`crate::age`]); here they meet the index, the
//! journal and the folder.
//!
//! Invariants: a segment is removed only by log starts that are on flash; a round in which nothing
//! changed that matters to retention does not look at the segments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::age::{AgeClock, Ages, RecordAge};
use crate::clock::Era;
use crate::durable_file::remove_directory;
use crate::ids::{EraId, LogId, LogPartition, Offset, SegmentId};
use crate::journal::Operation;
use crate::logs::OnFull;
use crate::metadata::{MetadataError, SegmentRecord, SegmentState};
use crate::retention::{self, Age, Need, Plan};
use crate::store::Shared;

/// A plan is made again after this time since boot though nothing else changed: records grow older.
const AGAIN_MS: i64 = 10_000;
/// And when the active segment grew by this part of a segment: logs grow over their bytes.
const GROWTH: u64 = 16;

/// What retention remembers from round to round.
#[derive(Debug, Default)]
pub(crate) struct Retaining {
    clock: AgeClock,
    planned: Option<Planned>,
}

/// What the last plan that had nothing to do was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Planned {
    index_version: u64,
    active_growth: u64,
    ages: Option<i64>,
    pins_version: u64,
}

/// Moves log starts and removes segments of which nothing is left.
pub(crate) fn retain(shared: &Shared, retaining: &mut Retaining) -> Result<(), MetadataError> {
    let ages = ages(shared, &mut retaining.clock);
    let now = planned_of(shared, ages);
    if retaining.planned == Some(now) {
        return Ok(());
    }
    let Plan {
        starts,
        removable,
        full,
    } = plan(shared, ages, &mut retaining.clock);
    let has_nothing = starts.is_empty() && removable.is_empty() && full.is_empty();
    retaining.planned = has_nothing.then_some(now);
    if !full.is_empty() {
        // A position that would make room must not wait for a commit that nobody may bring.
        shared.hurry_open_commit();
    }
    tell_full(shared, &full);
    shared.set_full_logs(full);
    if !starts.is_empty() {
        let now = Instant::now();
        let mut state = shared.state();
        for (partition, offset) in starts {
            tracing::info!(%partition, log_start_offset = %offset, "Retention moved the log start.");
            state.operate(
                Operation::LogStart { partition, offset },
                now,
                Duration::ZERO,
            );
        }
        drop(state);
        shared.wake_committer();
    }
    // What the new starts leave nothing of goes in a later round, when they are on flash; this is what
    // earlier ones left.
    for id in removable {
        remove(shared, id)?;
    }
    Ok(())
}

fn tell_full(shared: &Shared, full: &BTreeMap<LogId, u64>) {
    let state = shared.state();
    let name = |id| state.logs.get(id).map_or("", |log| log.name.as_str());
    for (id, bytes) in full.iter().filter(|(id, _)| !state.full.contains_key(id)) {
        tracing::error!(
            log = name(id),
            bytes,
            "Log is full: its publishes are refused."
        );
    }
    for id in state.full.keys().filter(|id| !full.contains_key(id)) {
        tracing::info!(log = name(id), "Log has room again: publishes are taken.");
    }
}

fn planned_of(shared: &Shared, ages: Option<Ages>) -> Planned {
    let index = shared.segments.index();
    Planned {
        index_version: index.version,
        active_growth: index.active.1.bytes / (shared.options.segment_bytes / GROWTH).max(1),
        ages: ages.map(|_| shared.options.clock.since_boot_ms() / AGAIN_MS),
        pins_version: shared.pins.version(),
    }
}

/// The ages of now, if the clock is known.
fn ages(shared: &Shared, clock: &mut AgeClock) -> Option<Ages> {
    let source = shared.options.clock.as_ref();
    let state = shared.state();
    let (_, era) = state.current_era()?;
    era.correction?;
    let now_ms = era.corrected(era.provisional_ms(source)).ms;
    let newest_earlier_ms = || {
        let index = shared.segments.index();
        let times = index.all().filter_map(|(_, record)| {
            let era = known_era(&state.eras, record)?;
            let is_earlier = !is_of_this_boot(&state.eras, record.last_era, source.boot_id());
            is_earlier.then(|| era.corrected(record.max_timestamp_ms).ms)
        });
        times.max()
    };
    Some(clock.observe(source.since_boot_ms(), now_ms, newest_earlier_ms))
}

/// The era by whose clock the newest time of a segment is, if that clock is known.
fn known_era<'a>(eras: &'a BTreeMap<EraId, Era>, record: &SegmentRecord) -> Option<&'a Era> {
    let era = eras.get(&record.last_era)?;
    let is_known = era.correction.is_some() && !record.is_empty();
    is_known.then_some(era)
}

/// The newest era always is, also on a machine that has no boot ids.
fn is_of_this_boot(eras: &BTreeMap<EraId, Era>, id: EraId, boot_id: [u8; 16]) -> bool {
    let is_newest = eras
        .last_key_value()
        .is_some_and(|(newest, _)| *newest == id);
    is_newest || eras.get(&id).is_some_and(|era| era.is_of_boot(boot_id))
}

fn age_of(
    record: &SegmentRecord,
    eras: &BTreeMap<EraId, Era>,
    boot_id: [u8; 16],
    ages: Option<Ages>,
) -> Option<RecordAge> {
    let (ages, era) = (ages?, known_era(eras, record)?);
    if is_of_this_boot(eras, record.last_era, boot_id) {
        let written_ms = record.max_timestamp_ms.saturating_sub(era.base_ms);
        return Some(ages.of_this_boot(written_ms));
    }
    ages.of_earlier_boot(era.corrected(record.max_timestamp_ms).ms)
}

/// How old the newest record of each segment is for certain, if that is known.
pub(crate) fn certain_ages<'a>(
    shared: &Shared,
    retaining: &mut Retaining,
    records: impl IntoIterator<Item = &'a SegmentRecord>,
) -> Vec<Option<Duration>> {
    let ages = ages(shared, &mut retaining.clock);
    let boot_id = shared.options.clock.boot_id();
    let state = shared.state();
    let certain = |record| Some(age_of(record, &state.eras, boot_id, ages)?.certain);
    records.into_iter().map(certain).collect()
}

fn plan(shared: &Shared, ages: Option<Ages>, clock: &mut AgeClock) -> Plan {
    let source = shared.options.clock.as_ref();
    let starts = starts_of(shared);
    let (sealed, active) = {
        let index = shared.segments.index();
        (index.sealed.clone(), index.active.clone())
    };
    let state = shared.state();
    let is_any_configured = state.logs.values().any(|log| log.options.is_some());
    let needs: BTreeMap<_, _> = state
        .logs
        .iter()
        .map(|(id, log)| (*id, Need::of(log.options.as_ref(), is_any_configured)))
        .collect();
    let pins: BTreeMap<_, _> = state
        .logs
        .iter()
        .filter_map(|(id, log)| match &log.options.as_ref()?.on_full {
            OnFull::Reject { pins } => Some((*id, pins.clone())),
            OnFull::DropOldest => None,
        })
        .collect();
    let all = sealed.iter().map(|(id, record)| (*id, record.as_ref()));
    let records: Vec<_> = all.chain([(active.0, &active.1)]).collect();
    let boot_id = source.boot_id();
    let record_ages: Vec<_> = records
        .iter()
        .map(|(_, record)| age_of(record, &state.eras, boot_id, ages))
        .collect();
    // Appenders go on while it is worked out.
    drop(state);
    let needs = |log: LogId| {
        let unknown = || Need::of(None, is_any_configured);
        needs.get(&log).copied().unwrap_or_else(unknown)
    };
    let start = |partition| starts.get(&partition).copied().unwrap_or_default();
    let made_old = records
        .iter()
        .zip(&record_ages)
        .filter(|((_, record), age)| {
            let sealed = record.state == SegmentState::Sealed;
            sealed && age.is_some_and(|age| is_made_old(record, age, needs, start))
        })
        .map(|((id, _), _)| *id);
    let released = clock.release(made_old, records.len(), source.since_boot_ms());
    let segments: Vec<_> = records
        .iter()
        .zip(&record_ages)
        .map(|((id, record), age)| retention::Segment {
            id: *id,
            age: match age {
                None => Age::Unknown,
                Some(age) if released.contains(id) => Age::Known(age.believed),
                Some(age) => Age::Known(age.certain),
            },
            sealed: record.state == SegmentState::Sealed,
            parts: &record.partitions,
        })
        .collect();
    let replicated = |partition: LogPartition| {
        let pins = pins.get(&partition.log).map_or(&[][..], Vec::as_slice);
        shared.pins.floor(pins, partition)
    };
    retention::plan(&segments, needs, start, replicated)
}

/// Whether a log has records there that are too old only because the clock made a step.
fn is_made_old(
    record: &SegmentRecord,
    age: RecordAge,
    needs: impl Fn(LogId) -> Need,
    start: impl Fn(LogPartition) -> Offset,
) -> bool {
    age.certain != age.believed
        && record.partitions.iter().any(|part| {
            let is_live = start(part.partition) < part.next_offset;
            let limit = needs(part.partition.log).age;
            is_live && limit.is_some_and(|limit| age.certain <= limit && limit < age.believed)
        })
}

/// The log starts that are on flash.
pub(crate) fn starts_of(shared: &Shared) -> BTreeMap<LogPartition, Offset> {
    let states = shared.state().journal.partition_states();
    states.iter().map(|s| (s.partition, s.log_start)).collect()
}

fn remove(shared: &Shared, id: SegmentId) -> Result<(), MetadataError> {
    let record = shared.segments.index().sealed.get(&id).cloned();
    let Some(mut record) = record.map(Arc::unwrap_or_clone) else {
        return Ok(());
    };
    let name = record.name(id);
    if shared.evacuations.holds(id) || !shared.segments.take_out(name) {
        return Ok(()); // Somebody reads it; it goes in a later round.
    }
    record.state = SegmentState::Deleting;
    shared.metadata.put_segment(id, &record)?;
    shared.metadata.flush()?;
    let path = name.path(&shared.segments_path());
    if let Err(error) = remove_directory(&path) {
        // The index says that it goes; the next start tries again.
        tracing::warn!(segment = %id, %error, "Segment could not be removed yet.");
        return Ok(());
    }
    shared.metadata.remove_segment(id)?;
    tracing::info!(segment = %id, bytes = record.bytes, "Segment removed.");
    Ok(())
}

#[cfg(test)]
mod tests;
