//! The keeper: one thread for everything that must not hold up a commit. It makes the next segment
//! ahead of time, seals full ones, applies retention, watches free space and the clock.
//!
//! Invariant: whatever it does, a crash in the middle leaves a folder that recovery understands.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::age::STEP_MS;
use crate::clock::{Correction, Era};
use crate::durable_file::remove_directory;
use crate::evacuation;
use crate::free_memory;
use crate::ids::{EraId, SegmentId};
use crate::io_threads;
use crate::mark::Mark;
use crate::metadata::{MetadataError, SegmentState};
use crate::segment_name::SegmentName;
use crate::store::candidates::candidates;
use crate::store::cold::move_cold;
use crate::store::committer::{RetainedOfSegment, poison};
use crate::store::evacuation_failures::{EvacuationFailures, Verdict};
use crate::store::evacuations::{Copied, Done};
use crate::store::retaining::{Retaining, retain};
use crate::store::topic_keeping::{self, Forgetting};
use crate::store::{Health, Shared, SyncProblem};
use crate::topics::Run;
use crate::verify::with_causes;

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
    pub(crate) topics: Vec<Run>,
}

/// What the keeper remembers from round to round.
#[derive(Debug, Default)]
struct Upkeep {
    retaining: Retaining,
    /// Segments that were copied elsewhere and that somebody may still read.
    replaced: Vec<SegmentName>,
    failures: EvacuationFailures,
    forgetting: Forgetting,
}

/// Runs until the store is closed.
pub(crate) fn run(shared: &Arc<Shared>, mut mark: Mark) {
    let mut upkeep = Upkeep::default();
    let (mut interval, mut rest_bytes) = (INTERVAL, 0);
    while shared.wait_as_keeper(interval, rest_bytes) {
        let is_idle = mark.commit() == shared.counters.durable()
            && matches!(shared.state().health, Health::Ready)
            && shared.evacuations.is_idle();
        (interval, rest_bytes) = match is_idle {
            true => (INTERVAL_IDLE, REST_BYTES),
            false => (INTERVAL, 0),
        };
        watch_for_failure(shared);
        note_durable(shared, &mut mark);
        // sled panics on some damage; upkeep must go on with what is not damaged.
        let round = panic::catch_unwind(AssertUnwindSafe(|| look_around(shared, &mut upkeep)));
        let trouble = match round {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(SyncProblem::of(&error).to_string()),
            Err(_) => Some("upkeep panicked".to_owned()),
        };
        tell_upkeep(shared, trouble);
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

/// What no commit would notice, or none would ever come back from. A folder that is no longer where
/// it was (removed, unmounted, mounted over) would go on taking what nobody will find again; a commit
/// that hangs on one of sled's threads would wait for ever.
fn watch_for_failure(shared: &Shared) {
    if matches!(shared.state().health, Health::Poisoned(_)) {
        return;
    }
    if io_threads::have_failed() {
        let what = "an I/O thread of the databases panicked";
        poison(shared, SyncProblem::new(what));
    } else if let Err(error) = shared.folder.check_place() {
        poison(shared, SyncProblem::of(&error));
    }
}

/// Nothing that was acknowledged hangs on upkeep, and the next round tries again; but it must be seen.
/// Told once for each kind of trouble: a round comes twice a second.
fn tell_upkeep(shared: &Shared, trouble: Option<String>) {
    if trouble.is_some() {
        shared.counters.count_upkeep_failure();
    }
    let what = trouble.clone();
    if !shared.note_upkeep(trouble) {
        return;
    }
    match what {
        Some(what) => tracing::error!(what, "Upkeep of the store fails; trying again."),
        None => tracing::info!("Upkeep of the store works again."),
    }
}

fn note_durable(shared: &Shared, mark: &mut Mark) {
    if let Err(error) = mark.note(shared.counters.durable()) {
        tracing::warn!(%error, "Mark could not be written.");
    }
}

fn look_around(shared: &Arc<Shared>, upkeep: &mut Upkeep) -> Result<(), MetadataError> {
    watch_space(shared);
    watch_clock(shared);
    shared.keep_flash_account();
    seal_all(shared)?;
    switch_evacuated(shared, upkeep)?;
    remove_replaced(shared, upkeep);
    retain(shared, &mut upkeep.retaining)?;
    order_evacuation(shared, upkeep);
    forget_old_eras(shared);
    upkeep.forgetting.look(shared)?;
    shared.prepare_segment();
    shared.segments.close_idle();
    free_memory::release_what_is_left();
    // Last: whatever keeps it from it, the journal has the entries, and the rest must go on.
    move_cold(shared)
}

/// Refuses publishes before the disk is full, and takes them again when there is room.
pub(crate) fn watch_space(shared: &Shared) {
    let Ok(free) = (shared.options.free_space)(shared.folder_path()) else {
        return;
    };
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

/// Whether the wall clock says something quite different from what it said before: a time service had
/// set it wrong, or does now. What it says last is most likely right.
fn is_step(known: Correction, measured: Correction) -> bool {
    known.offset_ms.abs_diff(measured.offset_ms) > STEP_MS.unsigned_abs()
}

/// Writes down how wrong the provisional clock is as soon as a time service has set the real one, and
/// again when it sets another.
fn watch_clock(shared: &Shared) {
    let clock = shared.options.clock.as_ref();
    let now = Instant::now();
    let mut state = shared.state();
    let Some((id, era)) = state.current_era() else {
        return;
    };
    let Some(correction) = era.measured_correction(clock) else {
        return;
    };
    if era
        .correction
        .is_some_and(|known| !is_step(known, correction))
    {
        return;
    }
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
    if let Some(mut record) = record.map(Arc::unwrap_or_clone) {
        record.state = SegmentState::Sealed;
        let topics = to_seal.topics.clone();
        topic_keeping::store(shared, to_seal.segment, &record, topics)?;
        shared.metadata.put_segment(to_seal.segment, &record)?;
        shared.metadata.flush()?;
        shared.segments.sealed(to_seal.segment);
        tracing::debug!(segment = %to_seal.segment, bytes = record.bytes, "Segment sealed.");
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

/// Puts a finished copy into the index, in the place of what it was made of.
fn switch_evacuated(shared: &Shared, upkeep: &mut Upkeep) -> Result<(), MetadataError> {
    let Some(Done { run, outcome }) = shared.evacuations.take_done() else {
        return Ok(());
    };
    let Copied { record, topics } = match outcome {
        Ok(copied) => copied,
        Err(error) => {
            let verdict = error.verdict();
            upkeep.failures.note(verdict, Instant::now());
            if let Verdict::Never(segment) = verdict {
                let what = format!("it cannot be evacuated: {}", with_causes(&error));
                shared.segments.note_damage(segment, &what);
            }
            let error: &dyn std::error::Error = &error;
            tracing::warn!(segment = %run.target, error, "Segments were not evacuated.");
            return Ok(());
        }
    };
    upkeep.failures.note_success();
    let (first, bytes) = (run.target.first, record.bytes);
    // From here on the index says it, too; if this fails, the next start finds the directory.
    let replaced = shared.segments.replace(first, record.clone());
    shared.counters.evacuated(replaced.len(), bytes);
    let count = replaced.len();
    tracing::info!(segment = %run.target, count, bytes, "Segments evacuated.");
    upkeep.replaced.extend(&replaced);
    topic_keeping::store(shared, first, &record, topics)?;
    shared.metadata.put_segment(first, &record)?;
    shared.metadata.flush()?;
    for other in replaced.iter().filter(|name| name.first != first) {
        shared.metadata.remove_segment(other.first)?;
    }
    shared.metadata.flush()
}

/// Removes the directories of what was evacuated, as soon as nobody reads it.
fn remove_replaced(shared: &Shared, upkeep: &mut Upkeep) {
    upkeep.replaced.retain(|name| {
        if !shared.segments.take_out(*name) {
            return true;
        }
        let removed = remove_directory(&name.path(&shared.segments_path()));
        if let Err(error) = &removed {
            tracing::warn!(segment = %name, %error, "Segment could not be removed yet.");
        }
        removed.is_err()
    });
}

/// Has the run copied that is worth it most, if there is one and room for the copy.
fn order_evacuation(shared: &Shared, upkeep: &mut Upkeep) {
    let now = Instant::now();
    let is_off = shared.options.evacuation_bytes_per_second == 0;
    if is_off
        || upkeep.failures.wait(now)
        || !upkeep.replaced.is_empty()
        || !shared.evacuations.is_idle()
    {
        return;
    }
    let is_any_configured = {
        let state = shared.state();
        state.logs.values().any(|log| log.options.is_some())
    };
    if !is_any_configured {
        return; // Somebody only looks at the folder.
    }
    {
        let index = shared.segments.index();
        upkeep.failures.keep_only(|name| index.has(name));
    }
    let barred = upkeep.failures.barred(now);
    let (candidates, fixed) = candidates(shared, &mut upkeep.retaining, &barred);
    let Some(run) = evacuation::plan(&candidates, fixed, shared.options.segment_bytes) else {
        return;
    };
    // Half of the reserve is left for the journal and for what sled needs to open segments.
    let reserve = shared.options.free_space_reserve_bytes;
    let needed = evacuation::disk_bytes(run.live_bytes).saturating_add(reserve / 2);
    if shared.counters.free_bytes() >= needed {
        shared.evacuations.order(run);
    }
}
