//! The soak of `storage-bench turnover` in figures only: three logs with ages of an hour, a day and two
//! weeks fill segments, retention and evacuation act on them, and bytes are counted. Hours of the soak
//! take milliseconds here, so that the rule can be tuned, and guarded.
//!
//! `cargo test -p storage --lib --release simulation -- --nocapture` prints what docs/decisions/0009 shows.

use super::*;

const MIB: u64 = 1 << 20;
const AGES: [f64; 3] = [1.0, 24.0, 336.0];
const SHORT_HEAVY: [f64; 3] = [0.70, 0.20, 0.10];
const EQUAL: [f64; 3] = [0.34, 0.33, 0.33];
/// A segment grows in so many steps.
const STEPS: u64 = 16;
/// What the records take in commits beside their payload of 1 KiB, and commits in sled's file.
const FRAMING: f64 = 1.06;
const FILE: f64 = 1.02;

#[derive(Clone, Copy, Debug)]
struct Segment {
    name: SegmentName,
    /// Of each log.
    live: [f64; 3],
    /// Of its commits.
    bytes: f64,
    /// Hours since the start, of its newest record.
    newest: f64,
}

#[derive(Debug)]
struct Turnover {
    shares: [f64; 3],
    segment_bytes: u64,
    percent_max: u64,
    hours: f64,
    /// From old to new; the last one grows.
    segments: Vec<Segment>,
    copied: f64,
}

/// What came out, from when the oldest log was full.
#[derive(Debug)]
struct Outcome {
    /// Bytes copied for a byte of commits.
    copied: f64,
    /// Bytes written for a byte of payload.
    written: f64,
    disk_median: f64,
    disk_most: f64,
    segments: usize,
}

impl Segment {
    fn new(id: u64) -> Self {
        Self {
            name: SegmentName::written(SegmentId(id)),
            live: [0.0; 3],
            bytes: 0.0,
            newest: 0.0,
        }
    }

    fn live_bytes(&self) -> f64 {
        self.live.iter().sum()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some GiB"
)]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

#[expect(clippy::cast_precision_loss, reason = "some GiB")]
fn figure(bytes: u64) -> f64 {
    bytes as f64
}

impl Turnover {
    fn grow(&mut self, bytes: f64) {
        let hours = self.hours;
        let shares = self.shares;
        let segment = self.segments.last_mut().unwrap();
        for (live, share) in segment.live.iter_mut().zip(shares) {
            *live += bytes * share;
        }
        segment.bytes += bytes;
        segment.newest = hours;
        if segment.bytes + bytes / 2.0 > figure(self.segment_bytes) {
            let next = segment.name.last.0 + 1;
            self.segments.push(Segment::new(next));
        }
    }

    fn retain(&mut self) {
        let (hours, sealed) = (self.hours, self.segments.len() - 1);
        for (log, age) in AGES.into_iter().enumerate() {
            let segments = self.segments.iter_mut().take(sealed);
            let old = segments.filter(|s| s.live[log] > 0.0);
            for segment in old.take_while(|s| hours - s.newest > age) {
                segment.live[log] = 0.0;
            }
        }
        let mut at = 0;
        self.segments.retain(|segment| {
            at += 1;
            at >= sealed || segment.live_bytes() > 0.0
        });
    }

    fn candidate(&self, segment: &Segment, may_move: bool) -> Candidate {
        let left = |age: f64| (age - (self.hours - segment.newest)).max(0.0);
        let parts = segment.live.into_iter().zip(AGES).filter(|(b, _)| *b > 0.0);
        let parts = parts.map(|(bytes, age)| {
            let stay = Duration::from_secs_f64(left(age) * 3600.0);
            (whole(bytes), Some(stay))
        });
        Candidate {
            name: segment.name,
            disk_bytes: disk_bytes(whole(segment.bytes)),
            live_bytes: whole(segment.live_bytes()),
            stay: stay(parts),
            may_move,
        }
    }

    /// Evacuates once; whether there was something to evacuate.
    fn evacuate(&mut self) -> bool {
        let Some((active, sealed)) = self.segments.split_last() else {
            return false;
        };
        let newest = sealed.last().map(|segment| segment.name);
        let candidates: Vec<_> = sealed
            .iter()
            .map(|segment| self.candidate(segment, Some(segment.name) != newest))
            .collect();
        let fixed = Fixed {
            disk_bytes: whole(active.bytes),
            live_bytes: whole(active.bytes),
        };
        let plan = plan_within(&candidates, fixed, self.segment_bytes, self.percent_max);
        let Some(run) = plan else {
            return false;
        };
        let is_first = |s: &Segment| Some(&s.name) == run.sources.first();
        let at = self.segments.iter().position(is_first).unwrap();
        let mut copy = Segment {
            name: run.target,
            ..Segment::new(0)
        };
        for source in self.segments.drain(at..at + run.sources.len()) {
            for (sum, live) in copy.live.iter_mut().zip(source.live) {
                *sum += live;
            }
            if source.live_bytes() > 0.0 {
                copy.newest = source.newest;
            }
        }
        copy.bytes = copy.live_bytes();
        self.copied += copy.bytes;
        self.segments.insert(at, copy);
        true
    }

    fn disk_per_live(&self) -> f64 {
        let disk: f64 = self.segments.iter().map(|s| s.bytes * FILE + 5e4).sum();
        let live: f64 = self.segments.iter().map(Segment::live_bytes).sum();
        // The metadata.
        (disk + 1e6) / live
    }
}

/// So many MiB of payload are retained, and written 16 times.
fn turned_over(shares: [f64; 3], retained_mib: u64, segment_mib: u64, percent: u64) -> Outcome {
    let kept: f64 = shares.iter().zip(AGES).map(|(s, age)| s * age).sum();
    let retained = figure(retained_mib * MIB);
    let mut turnover = Turnover {
        shares,
        segment_bytes: segment_mib * MIB,
        percent_max: percent,
        hours: 0.0,
        segments: vec![Segment::new(1)],
        copied: 0.0,
    };
    let step = figure(segment_mib * MIB / STEPS);
    let (mut payload, mut ratios) = (0.0, Vec::new());
    let mut before = None;
    while payload < retained * 16.0 {
        payload += step / FRAMING;
        turnover.hours = payload * kept / retained;
        turnover.grow(step);
        turnover.retain();
        while turnover.evacuate() {
            turnover.retain();
        }
        if turnover.hours > 450.0 {
            before.get_or_insert((payload, turnover.copied));
            ratios.push(turnover.disk_per_live());
        }
    }
    ratios.sort_by(f64::total_cmp);
    let (payload_before, copied) = before.unwrap();
    let commits = (payload - payload_before) * FRAMING;
    let copied = turnover.copied - copied;
    Outcome {
        copied: copied / commits,
        written: (1.0 + copied / commits) * FILE * FRAMING,
        disk_median: ratios[ratios.len() / 2],
        disk_most: *ratios.last().unwrap(),
        segments: turnover.segments.len(),
    }
}

#[test]
fn logs_of_different_age_take_their_share_and_are_copied_little() {
    // Shape, MiB that are kept and of a segment, and what may be copied for a byte.
    let shapes = [
        ("short-heavy", SHORT_HEAVY, 200, 16, 0.28),
        ("short-heavy", SHORT_HEAVY, 200, 8, 0.32),
        ("short-heavy", SHORT_HEAVY, 96, 16, 0.31),
        ("equal", EQUAL, 200, 16, 0.32),
        ("equal", EQUAL, 200, 8, 0.32),
        ("equal", EQUAL, 96, 16, 0.32),
    ];
    println!("shape        retained  segment  limit  disk/live    most  copied  written  segments");
    for (name, shares, retained, segment_mib, copied_most) in shapes {
        for percent in [110, 120, DISK_PERCENT_MAX, 140, 150] {
            let found = turned_over(shares, retained, segment_mib, percent);
            println!(
                "{name:<12} {retained:>8} {segment_mib:>8} {percent:>6} {:>10.3} {:>7.3} {:>7.3} {:>8.3} {:>9}",
                found.disk_median, found.disk_most, found.copied, found.written, found.segments
            );
            if percent == DISK_PERCENT_MAX {
                assert!(found.disk_most <= 1.3, "{name}: {found:?}");
                assert!(found.copied <= copied_most, "{name}: {found:?}");
            }
        }
    }
}
