//! The keeper: one thread for everything that must not hold up a commit. It makes the next segment
//! ahead of time, seals full ones, applies retention, watches free space and the clock.
//!
//! Invariant: whatever it does, a crash in the middle leaves a folder that recovery understands.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Era;
use crate::durable_file::remove_directory;
use crate::ids::{EraId, LogPartition, Offset, SegmentId};
use crate::journal::Operation;
use crate::mark::Mark;
use crate::metadata::{MetadataError, SegmentState};
use crate::retention::{self, Age, Need};
use crate::segment;
use crate::store::committer::RetainedOfSegment;
use crate::store::{Health, Shared};

/// How often it looks around when nobody wakes it.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often when nothing was committed since the last time: a quiet gateway is to sleep.
const INTERVAL_IDLE: Duration = Duration::from_secs(2);
/// Bytes of commits that end such a rest, far below what the reserve of free space can take.
const REST_BYTES: i64 = 64 * 1024;
/// How long a change of the clock may wait for a commit to ride on.
const ERA_WITHIN: Duration = Duration::from_secs(1);
/// How long forgetting may wait for one: nothing hangs on it.
const FORGET_WITHIN: Duration = Duration::from_secs(3600);

/// A segment that commits no longer go to.
#[derive(Debug)]
pub(crate) struct ToSeal {
    pub(crate) segment: SegmentId,
    pub(crate) retained: RetainedOfSegment,
}

/// Runs until the store is closed.
pub(crate) fn run(shared: &Arc<Shared>, mut mark: Mark) {
    let (mut interval, mut rest_bytes) = (INTERVAL, 0);
    while shared.wait_as_keeper(interval, rest_bytes) {
        let is_idle = mark.commit() == shared.counters.durable()
            && matches!(shared.state().health, Health::Ready);
        (interval, rest_bytes) = match is_idle {
            true => (INTERVAL_IDLE, REST_BYTES),
            false => (INTERVAL, 0),
        };
        note_durable(shared, &mut mark);
        // sled panics on some damage; upkeep must go on with what is not damaged.
        let round = panic::catch_unwind(AssertUnwindSafe(|| look_around(shared)));
        let Ok(round) = round else {
            tracing::error!("Upkeep of the store panicked; trying again.");
            continue;
        };
        if let Err(error) = round {
            // Nothing that was acknowledged hangs on this; the next round tries again.
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "Upkeep of the store failed; trying again.");
        }
    }
    // Saves the next start some reading; it can do without.
    if let Err(error) = seal_all(shared) {
        tracing::warn!(%error, "Segment could not be sealed.");
    }
    note_durable(shared, &mut mark);
    if let Err(error) = mark.sync() {
        tracing::warn!(%error, "Mark could not be synced.");
    }
}

fn note_durable(shared: &Shared, mark: &mut Mark) {
    if let Err(error) = mark.note(shared.counters.durable()) {
        tracing::warn!(%error, "Mark could not be written.");
    }
}

fn look_around(shared: &Arc<Shared>) -> Result<(), MetadataError> {
    watch_space(shared);
    watch_clock(shared);
    shared.keep_flash_account();
    seal_all(shared)?;
    retain(shared)?;
    forget_old_eras(shared);
    shared.prepare_segment();
    shared.segments.close_idle();
    Ok(())
}

/// Refuses publishes before the disk is full, and takes them again when there is room.
fn watch_space(shared: &Shared) {
    let Ok(stat) = rustix::fs::statvfs(shared.folder_path()) else {
        return;
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    shared.counters.set_free_bytes(free);
    let reserve = shared.options.free_space_reserve_bytes;
    let full = matches!(shared.state().health, Health::DiskFull { .. });
    // A quarter more than the reserve before it opens again, so that it does not flutter.
    if !full && free < reserve {
        tracing::error!(
            free_bytes = free,
            reserve_bytes = reserve,
            "Disk is full: publishes are refused."
        );
        shared.set_health(Health::DiskFull {
            free_bytes: free,
            reserve_bytes: reserve,
        });
    } else if full && free >= reserve + reserve / 4 {
        tracing::info!(
            free_bytes = free,
            "Disk has room again: publishes are taken."
        );
        shared.set_health(Health::Ready);
    }
}

/// Writes down how wrong the provisional clock is as soon as a time service has set the real one.
fn watch_clock(shared: &Shared) {
    let clock = shared.options.clock.as_ref();
    let now = Instant::now();
    let mut state = shared.state();
    let Some((id, era)) = state.current_era() else {
        return;
    };
    if era.correction.is_some() {
        return;
    }
    let Some(correction) = era.measured_correction(clock) else {
        return;
    };
    if era.frozen {
        // Times of this era were sent upstream as they are; what comes now gets a better clock.
        let next = Era::begin(clock, era.provisional_ms(clock));
        state.set_era(EraId(id.0 + 1), next, now, ERA_WITHIN);
    } else {
        let known = Era {
            correction: Some(correction),
            ..*era
        };
        state.set_era(id, known, now, ERA_WITHIN);
    }
    drop(state);
    let (offset_ms, uncertainty_ms) = (correction.offset_ms, correction.uncertainty_ms);
    tracing::info!(offset_ms, uncertainty_ms, "Clock is known.");
    shared.wake_committer();
}

fn seal_all(shared: &Shared) -> Result<(), MetadataError> {
    while let Some(to_seal) = shared.next_to_seal() {
        if let Err(error) = seal(shared, &to_seal) {
            shared.seal_first(to_seal);
            return Err(error);
        }
    }
    Ok(())
}

fn seal(shared: &Shared, to_seal: &ToSeal) -> Result<(), MetadataError> {
    for (topic, record) in &to_seal.retained {
        shared.metadata.put_retained(topic, record.kept())?;
    }
    let record = shared
        .segments
        .index()
        .sealed
        .get(&to_seal.segment)
        .cloned();
    if let Some(mut record) = record {
        record.state = SegmentState::Sealed;
        shared.metadata.put_segment(to_seal.segment, &record)?;
        shared.metadata.flush()?;
        shared.segments.sealed(to_seal.segment);
        tracing::debug!(segment = %to_seal.segment, bytes = record.bytes, "Segment sealed.");
    }
    Ok(())
}

fn retain(shared: &Shared) -> Result<(), MetadataError> {
    let (starts, removable) = plan(shared);
    let now = Instant::now();
    if !starts.is_empty() {
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
        // The segments go in a later round, when the new starts are on flash.
        return Ok(());
    }
    for id in removable {
        remove(shared, id)?;
    }
    Ok(())
}

/// Eras of which no record is left; a gateway that is switched on every morning has one a day.
fn forget_old_eras(shared: &Shared) {
    let mut state = shared.state();
    let oldest = {
        let index = shared.segments.index();
        let kept = index.all().filter(|(_, record)| !record.is_empty());
        kept.map(|(_, record)| record.first_era).min()
    };
    if let Some(oldest) = oldest {
        state.forget_eras_before(oldest, Instant::now(), FORGET_WITHIN);
    }
}

fn plan(shared: &Shared) -> (Vec<(LogPartition, Offset)>, Vec<SegmentId>) {
    let clock = shared.options.clock.as_ref();
    let state = shared.state();
    let index = shared.segments.index();
    let now_ms = state.current_era().and_then(|(_, era)| {
        let corrected = era.correction.is_some();
        corrected.then(|| era.corrected(era.provisional_ms(clock)).ms)
    });
    let age_of = |segment: &crate::metadata::SegmentRecord| {
        let era = state.eras.get(&segment.last_era)?;
        era.correction?;
        let newest_ms = era.corrected(segment.max_timestamp_ms).ms;
        Some(Duration::from_millis(
            u64::try_from(now_ms?.saturating_sub(newest_ms)).ok()?,
        ))
    };
    let segments: Vec<_> = index
        .all()
        .map(|(id, record)| {
            let age = age_of(record).map_or(Age::Unknown, Age::Known);
            let sealed = record.state == SegmentState::Sealed;
            retention::Segment {
                id,
                age,
                sealed,
                parts: &record.partitions,
            }
        })
        .collect();
    let is_any_configured = state.logs.values().any(|log| log.options.is_some());
    let needs = |log| {
        let options = state.logs.get(&log).and_then(|log| log.options.as_ref());
        Need::of(options, is_any_configured)
    };
    let starts = |partition| state.journal.ends(partition).log_start;
    retention::plan(&segments, needs, starts)
}

fn remove(shared: &Shared, id: SegmentId) -> Result<(), MetadataError> {
    let Some(mut record) = shared.segments.index().sealed.get(&id).cloned() else {
        return Ok(());
    };
    if !shared.segments.take_out(id) {
        return Ok(()); // Somebody reads it; it goes in a later round.
    }
    record.state = SegmentState::Deleting;
    shared.metadata.put_segment(id, &record)?;
    shared.metadata.flush()?;
    let path = segment::path(&shared.segments_path(), id);
    if let Err(error) = remove_directory(&path) {
        // The index says that it goes; the next start tries again.
        tracing::warn!(segment = %id, %error, "Segment could not be removed yet.");
        return Ok(());
    }
    shared.metadata.remove_segment(id)?;
    tracing::info!(segment = %id, bytes = record.bytes, "Segment removed.");
    Ok(())
}
