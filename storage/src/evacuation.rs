//! Which segments are evacuated: what is live in them is copied into one, and they go.
//! Pure decisions; `docs/decisions/0009` has what they rest on.
//!
//! Every byte that is copied is written to flash again, and every byte that is not freed is paid in
//! space. So nothing is copied while the log takes no more than its share of the disk; above it, the
//! run of segments goes whose copy frees most space for the longest time for a byte that is written.
//! What is about to be given up anyway is left to retention.
//!
//! Invariant: what is copied is never more than 7/3 of what is freed.

use std::time::Duration;

use crate::ids::SegmentId;
use crate::segment_name::SegmentName;

/// What a segment counts for at least: many small ones are to become few.
const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// In percent of what is live: the log takes too much above this. 130 is promised; the metadata and
/// what is copied at the moment are not counted here, and a copy frees more than was asked for.
pub(crate) const DISK_PERCENT_MAX: u64 = 129;
/// Segments of a run at most.
const RUN_MAX: usize = 64;
/// What a copy costs beside its bytes: one long run is better than several short ones.
const COPY_COST_BYTES: u64 = 256 * 1024;
/// How long what is live is taken to stay, if that is not known, and at most; and at least, since a
/// pin may keep what is too old.
const STAY_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
const STAY_MIN: Duration = Duration::from_secs(600);

/// A sealed segment as evacuation sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: SegmentName,
    /// Bytes that it takes on flash by [`disk_bytes`], as a copy of it would.
    pub(crate) disk_bytes: u64,
    /// Bytes of its batches that are not behind the starts of their partitions.
    pub(crate) live_bytes: u64,
    /// How long they stay, see [`stay`].
    pub(crate) stay: Duration,
    /// Whether it may be copied: not the newest one, and not one that could not be read.
    pub(crate) may_move: bool,
}

/// What is to be copied into what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) sources: Vec<SegmentName>,
    pub(crate) target: SegmentName,
    pub(crate) live_bytes: u64,
}

/// The bytes of the log that cannot be moved, whatever is planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) disk_bytes: u64,
    pub(crate) live_bytes: u64,
}

/// About what a segment with commits of `bytes` takes on flash.
pub(crate) fn disk_bytes(bytes: u64) -> u64 {
    bytes
        .saturating_add(bytes / 32)
        .saturating_add(SEGMENT_BYTES_MIN / 16)
        .max(SEGMENT_BYTES_MIN)
}

/// How long a segment stays about as live as it is, if its `parts` have so many live bytes, each for
/// so long, if that is known: until a quarter of them is gone.
pub(crate) fn stay(parts: impl IntoIterator<Item = (u64, Option<Duration>)>) -> Duration {
    let known = |(bytes, stay): (u64, Option<Duration>)| (stay.unwrap_or(STAY_MAX), bytes);
    let mut parts: Vec<_> = parts.into_iter().map(known).collect();
    parts.sort_unstable();
    let live: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let mut gone = 0;
    let until = parts.into_iter().find_map(|(stay, bytes)| {
        gone += bytes;
        (gone >= live / 4).then_some(stay)
    });
    until.unwrap_or(STAY_MAX).clamp(STAY_MIN, STAY_MAX)
}

/// The run to evacuate next, if there is one. `candidates` go from old to new.
pub(crate) fn plan(candidates: &[Candidate], fixed: Fixed, segment_bytes: u64) -> Option<Run> {
    plan_within(candidates, fixed, segment_bytes, DISK_PERCENT_MAX)
}

fn plan_within(
    candidates: &[Candidate],
    fixed: Fixed,
    segment_bytes: u64,
    percent_max: u64,
) -> Option<Run> {
    let disk: u64 = candidates.iter().map(|c| c.disk_bytes).sum();
    let live: u64 = candidates.iter().map(|c| c.live_bytes).sum();
    let (disk, live) = (disk + fixed.disk_bytes, live + fixed.live_bytes);
    if disk.saturating_mul(100) <= live.saturating_mul(percent_max) {
        return None;
    }
    let mut best: Option<(u128, Run)> = None;
    for start in 0..candidates.len() {
        let mut sum = Sum::default();
        for end in start..candidates.len().min(start + RUN_MAX) {
            let Some(run) = candidates.get(start..=end) else {
                break;
            };
            let Some(last) = run.last().filter(|last| last.may_move) else {
                break;
            };
            sum.add(last);
            if sum.live_bytes > segment_bytes {
                break;
            }
            let score = sum.score();
            if score > 0 && best.as_ref().is_none_or(|(other, _)| *other < score) {
                best = Some((score, Run::of(run, sum.live_bytes)?));
            }
        }
    }
    best.map(|(_, run)| run)
}

/// What a run adds up to.
#[derive(Debug, Default)]
struct Sum {
    disk_bytes: u64,
    live_bytes: u64,
    /// What is dead in each, for as long as the rest stays; in bytes by seconds.
    dead_for: u128,
}

impl Sum {
    fn add(&mut self, candidate: &Candidate) {
        self.disk_bytes += candidate.disk_bytes;
        self.live_bytes += candidate.live_bytes;
        let dead = candidate.disk_bytes.saturating_sub(candidate.live_bytes);
        self.dead_for += u128::from(dead) * u128::from(candidate.stay.as_secs());
    }

    /// What its copy is worth for a byte that is written; 0: not to be copied.
    fn score(&self) -> u128 {
        let freed = self.disk_bytes.saturating_sub(disk_bytes(self.live_bytes));
        let is_dear = self.live_bytes.saturating_mul(3) > freed.saturating_mul(7);
        // What is dead goes without a copy.
        if freed == 0 || self.live_bytes == 0 || is_dear {
            return 0;
        }
        let cost = self.live_bytes + COPY_COST_BYTES;
        self.dead_for * 1024 / u128::from(cost)
    }
}

impl Run {
    fn of(run: &[Candidate], live_bytes: u64) -> Option<Self> {
        let generation = run.iter().map(|c| c.name.generation).max()?;
        Some(Self {
            sources: run.iter().map(|candidate| candidate.name).collect(),
            target: SegmentName {
                first: run.first()?.name.first,
                last: run.last()?.name.last,
                generation: generation.checked_add(1)?,
            },
            live_bytes,
        })
    }

    /// Whether it stands for `id`.
    pub(crate) fn covers(&self, id: SegmentId) -> bool {
        self.target.covers(id)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
