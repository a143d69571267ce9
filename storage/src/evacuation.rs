//! Which segments are evacuated: what little is live in them is copied into one, and they go.
//! Pure decisions; `docs/decisions/0009` has what they rest on.
//!
//! Every byte that is copied is written to flash again, and every byte that is not freed is paid in
//! space. A run of segments is taken when it is nearly dead, and there is enough of it to fill a
//! segment; or, while the folder takes more than its share, the run that frees most for a byte.
//!
//! Invariant: what is copied is never more than 7/3 of what is freed.

use crate::ids::SegmentId;
use crate::segment_name::SegmentName;

/// What the smallest file of sled takes, and by what it grows.
const GRAIN_BYTES: u64 = 1024 * 1024;
/// In percent of a segment's bytes on flash: less live data than this is little.
const LITTLE_LIVE_PERCENT: u64 = 30;
/// … and this the most that is copied for what it frees while the folder takes too much.
const SOME_LIVE_PERCENT: u64 = 70;
/// In percent of the live bytes of sealed segments: the folder takes too much above this.
pub(crate) const DISK_PERCENT_MAX: u64 = 125;
/// Segments of a run at most.
const RUN_MAX: usize = 64;
/// What a run costs beside its bytes (each file of sled has some room to spare, and each opening
/// writes), counted as bytes copied: one long run is better than several short ones.
const RUN_COST_BYTES: u64 = 4 * 1024 * 1024;

/// A sealed segment as evacuation sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: SegmentName,
    /// Bytes of its commits.
    pub(crate) bytes: u64,
    /// Bytes of its batches that are not behind the starts of their partitions.
    pub(crate) live_bytes: u64,
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

/// About what a segment with commits of `bytes` takes on flash.
pub(crate) fn disk_bytes(bytes: u64) -> u64 {
    bytes
        .saturating_add(bytes / 32)
        .max(1)
        .div_ceil(GRAIN_BYTES)
        .saturating_mul(GRAIN_BYTES)
}

/// The run to evacuate next, if there is one. `candidates` go from old to new.
pub(crate) fn plan(candidates: &[Candidate], segment_bytes: u64) -> Option<Run> {
    let movable = || candidates.iter().filter(|candidate| candidate.may_move);
    let disk: u64 = movable().map(|c| disk_bytes(c.bytes)).sum();
    let live: u64 = movable().map(|c| c.live_bytes).sum();
    let takes_too_much = disk.saturating_mul(100) > live.saturating_mul(DISK_PERCENT_MAX);
    let limit = if takes_too_much {
        SOME_LIVE_PERCENT
    } else {
        LITTLE_LIVE_PERCENT
    };
    let mut best: Option<(u64, Run)> = None;
    for start in 0..candidates.len() {
        let (mut live, mut disk) = (0_u64, 0_u64);
        for end in start..candidates.len().min(start + RUN_MAX) {
            let Some(run) = candidates.get(start..=end) else {
                break;
            };
            let Some(last) = run.last().filter(|last| last.may_move) else {
                break;
            };
            live += last.live_bytes;
            disk += disk_bytes(last.bytes);
            let is_little = |live: u64, disk: u64| live.saturating_mul(100) < disk * limit;
            if live > segment_bytes || !is_little(last.live_bytes, disk_bytes(last.bytes)) {
                break;
            }
            let freed = disk.saturating_sub(disk_bytes(live));
            if freed == 0 || live == 0 || live.saturating_mul(3) > freed.saturating_mul(7) {
                continue;
            }
            // While there is room, it waits until the copy is worth a segment of its own.
            if !takes_too_much && live < segment_bytes / 2 && freed < 2 * segment_bytes {
                continue;
            }
            let score = freed.saturating_mul(1024) / (live + RUN_COST_BYTES);
            if best.as_ref().is_none_or(|(other, _)| *other < score) {
                best = Some((score, Run::of(run, live)?));
            }
        }
    }
    best.map(|(_, run)| run)
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
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Segments of these bytes and live bytes in MiB/10, and a newest one that stays.
    fn candidates(segments: &[(u64, u64)]) -> Vec<Candidate> {
        let count = segments.len();
        let all = segments.iter().enumerate();
        all.map(|(n, (bytes, live))| Candidate {
            name: SegmentName::written(SegmentId(n as u64)),
            bytes: bytes * MIB / 10,
            live_bytes: live * MIB / 10,
            may_move: n + 1 != count,
        })
        .collect()
    }

    fn planned(segments: &[(u64, u64)]) -> Option<(u64, u64)> {
        let run = plan(&candidates(segments), 16 * MIB)?;
        Some((run.target.first.0, run.target.last.0))
    }

    #[test]
    fn nearly_dead_neighbours_are_copied_into_one() {
        let segments = [
            (150, 150),
            (150, 20),
            (150, 30),
            (150, 10),
            (150, 150),
            (150, 0),
        ];
        assert_eq!(planned(&segments), Some((1, 3)));
    }

    #[test]
    fn what_frees_nothing_stays() {
        assert_eq!(
            planned(&[(5, 1), (150, 150)]),
            None,
            "smallest file there is"
        );
        assert_eq!(
            planned(&[(150, 120), (150, 120), (150, 0)]),
            None,
            "mostly live"
        );
        assert_eq!(planned(&[(150, 1)]), None, "the newest one");
    }

    #[test]
    fn small_copies_are_put_together() {
        assert_eq!(planned(&[(5, 5), (4, 4), (150, 150)]), Some((0, 1)));
    }

    #[test]
    fn it_waits_while_the_folder_takes_little_more_than_its_share() {
        let mut segments = vec![(150, 150); 20];
        segments.push((150, 30));
        segments.push((150, 150));
        assert_eq!(planned(&segments), None);
    }

    #[test]
    fn half_dead_ones_go_while_the_folder_takes_too_much() {
        let segments = [(150, 80), (150, 60), (150, 80), (150, 150)];
        let (first, last) = planned(&segments).unwrap();
        assert!(first <= 1 && last >= 1, "{first} to {last}");
    }

    #[test]
    fn copies_end() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let count = random(30) + 1;
            let mut segments: Vec<_> = (0..count)
                .map(|n| {
                    let bytes = random(160) * MIB / 10;
                    Candidate {
                        name: SegmentName::written(SegmentId(n)),
                        bytes,
                        live_bytes: random(101) * bytes / 100,
                        may_move: n + 1 != count,
                    }
                })
                .collect();
            let (mut copied, mut freed) = (0, 0);
            for round in 0.. {
                assert!(round < 1000, "it goes on and on");
                let Some(run) = plan(&segments, 16 * MIB) else {
                    break;
                };
                let at = segments
                    .iter()
                    .position(|c| c.name == run.sources[0])
                    .unwrap();
                let sources = segments.drain(at..at + run.sources.len());
                let disk: u64 = sources.map(|c| disk_bytes(c.bytes)).sum();
                copied += run.live_bytes;
                freed += disk - disk_bytes(run.live_bytes);
                let copy = Candidate {
                    name: run.target,
                    bytes: run.live_bytes,
                    live_bytes: run.live_bytes,
                    may_move: true,
                };
                segments.insert(at, copy);
            }
            assert!(copied * 3 <= freed * 7, "{copied} for {freed}");
        }
    }
}
