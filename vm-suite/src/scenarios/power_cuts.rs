//! The power is cut at a random moment under load, the disk is left with what was flushed, and the machine
//! is switched on again: the product becomes ready by itself, and everything that was promised is in the
//! log, and in Kafka once.
//!
//! Each cut continues on the disk of the one before: a life of many cuts also shows what a recovery leaves
//! behind for the next one, which cuts that all begin on the same disk never see.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::chaos::seeded::Seeded;

use crate::stage::{Stage, copy, remove};
use crate::write_log::{self, Fate};

/// Load before the power is cut: at least and at most.
const LOAD_MIN_MS: u64 = 500;
const LOAD_MAX_MS: u64 = 12_000;
/// After so many cuts everything is read again, not only what is new.
const CUTS_BETWEEN_FULL_CHECKS: u64 = 10;

/// How the disk behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) fate: Fate,
    /// Whether everything is to be compared although few cuts were made.
    pub(crate) is_full: bool,
}

/// Makes the cut with this number, on a machine that runs with a log of writes or is off.
pub(crate) fn play(
    stage: &mut Stage,
    folder: &Path,
    number: u64,
    options: Options,
) -> Result<String> {
    // One for each cut, so that a run can begin with any of them.
    let mut random = Seeded::new(options.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9)));
    let (log, before) = (folder.join("writes"), folder.join("disk-before"));
    if stage.machine.is_none() {
        // What the disk was like when the log began.
        copy(&stage.disk, &before)?;
        stage.boot_to_service(Some(log.clone()), false)?;
    }
    let load = LOAD_MIN_MS + random.below(LOAD_MAX_MS - LOAD_MIN_MS);
    let sent = stage.devices.acknowledged();
    stage.devices.publish_for(Duration::from_millis(load))?;
    stage.machine.take().context("the machine is off")?.cut()?;
    // What it had sent before it died counts: a client may have it.
    stage.devices.take_last_words()?;
    let promised = stage.devices.acknowledged() - sent;
    stage.books.note_on_their_way(stage.devices.on_their_way()?);
    stage.devices.server_is_dead()?;
    let replayed = write_log::replay(&log, &before, options.fate, &mut random)?;
    fs::rename(&before, &stage.disk).context("put the disk in its place")?;
    remove(&log);

    copy(&stage.disk, &before)?;
    let boot = stage.boot_to_service(Some(log), false)?;
    let hole = if replayed.has_hole {
        ", the log of writes has a hole"
    } else {
        ""
    };
    let what = format!(
        "cut after {load} ms with {promised} acknowledged; {} writes up to flush {} are there, {} \
         after it are not{hole}",
        replayed.applied, replayed.flushes, replayed.dropped
    );
    let is_full = options.is_full || number.is_multiple_of(CUTS_BETWEEN_FULL_CHECKS);
    stage.devices.finish().with_context(|| what.clone())?;
    stage
        .check_everything(is_full)
        .with_context(|| what.clone())?;
    stage.check_journal(&[]).with_context(|| what.clone())?;
    Ok(format!("{what}; {boot}; {} records", stage.books.records()))
}
