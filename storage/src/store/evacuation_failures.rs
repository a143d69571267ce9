//! What evacuation remembers of copies that failed, so that it neither tries the same for ever nor
//! gives up what only has to wait.
//!
//! What will always fail is not tried again until the next start; what may pass is, after pauses that
//! grow. A segment that cannot be read keeps no other from being copied.
//!
//! Invariant: no more is remembered than there are segments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::segment_name::SegmentName;

/// How long it waits after the first failure, and at most.
const PAUSE_MIN: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// What a failure says of the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What was planned is no longer so: the next plan is another.
    Changed,
    /// This segment can never be copied.
    Never(SegmentName),
    /// This segment cannot be read now.
    NotNow(SegmentName),
    /// Nothing can be copied now.
    NothingNow,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct EvacuationFailures {
    never: BTreeSet<SegmentName>,
    not_now: BTreeMap<SegmentName, Pause>,
    nothing_now: Option<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    from: Instant,
    length: Duration,
}

impl Pause {
    fn after(previous: Option<Self>, now: Instant) -> Self {
        let length = previous.map_or(PAUSE_MIN, |previous| previous.length.saturating_mul(2));
        Self {
            from: now,
            length: length.min(PAUSE_MAX),
        }
    }

    fn lasts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.from) < self.length
    }
}

impl EvacuationFailures {
    /// A run failed.
    pub(crate) fn note(&mut self, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Changed => self.nothing_now = Some(Pause::after(None, now)),
            Verdict::Never(segment) => {
                self.never.insert(segment);
            }
            Verdict::NotNow(segment) => {
                let pause = Pause::after(self.not_now.get(&segment).copied(), now);
                self.not_now.insert(segment, pause);
            }
            Verdict::NothingNow => self.nothing_now = Some(Pause::after(self.nothing_now, now)),
        }
    }

    /// A run was copied: whatever was wrong with copying is so no more.
    pub(crate) fn note_success(&mut self) {
        self.nothing_now = None;
    }

    /// Whether nothing is to be tried.
    pub(crate) fn wait(&self, now: Instant) -> bool {
        self.nothing_now.is_some_and(|pause| pause.lasts(now))
    }

    /// The segments that are not to be tried.
    pub(crate) fn barred(&self, now: Instant) -> BTreeSet<SegmentName> {
        let not_now = self.not_now.iter();
        let not_now = not_now.filter(|(_, pause)| pause.lasts(now));
        let not_now = not_now.map(|(segment, _)| *segment);
        self.never.iter().copied().chain(not_now).collect()
    }

    /// Forgets the segments that are gone.
    pub(crate) fn keep_only(&mut self, is_there: impl Fn(SegmentName) -> bool) {
        self.never.retain(|segment| is_there(*segment));
        self.not_now.retain(|segment, _| is_there(*segment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentId;

    const MINUTE: Duration = Duration::from_secs(60);

    fn segment(id: u64) -> SegmentName {
        SegmentName::written(SegmentId(id))
    }

    fn barred(failures: &EvacuationFailures, now: Instant) -> Vec<u64> {
        let barred = failures.barred(now).into_iter();
        barred.map(|segment| segment.first.0).collect()
    }

    #[test]
    fn what_always_fails_is_not_tried_again_and_holds_up_nothing() {
        let (mut failures, now) = (EvacuationFailures::default(), Instant::now());
        failures.note(Verdict::Never(segment(3)), now);
        assert!(!failures.wait(now));
        assert_eq!(barred(&failures, now), [3]);
        failures.note_success();
        assert_eq!(barred(&failures, now + MINUTE * 60 * 24 * 30), [3]);
    }

    #[test]
    fn what_may_pass_is_tried_again_after_pauses_that_grow_up_to_an_hour() {
        let mut now = Instant::now();
        let mut failures = EvacuationFailures::default();
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            failures.note(Verdict::NotNow(segment(3)), now);
            failures.note(Verdict::NothingNow, now);
            now += MINUTE * minutes - Duration::from_secs(1);
            assert_eq!(barred(&failures, now), [3], "{minutes} minutes");
            assert!(failures.wait(now), "{minutes} minutes");
            now += Duration::from_secs(1);
            assert_eq!(barred(&failures, now), [] as [u64; 0], "{minutes} minutes");
            assert!(!failures.wait(now), "{minutes} minutes");
        }
        // Copying works again; whether that segment can be read nobody knows.
        failures.note_success();
        failures.note(Verdict::NotNow(segment(3)), now);
        failures.note(Verdict::NothingNow, now);
        now += MINUTE;
        assert!(!failures.wait(now));
        assert_eq!(barred(&failures, now), [3]);
    }

    #[test]
    fn plan_that_was_overtaken_is_made_again_after_a_minute_each_time() {
        let mut now = Instant::now();
        let mut failures = EvacuationFailures::default();
        for _ in 0..5 {
            failures.note(Verdict::Changed, now);
            assert!(failures.wait(now));
            now += MINUTE;
            assert!(!failures.wait(now));
        }
    }

    #[test]
    fn segments_that_are_gone_are_forgotten() {
        let (mut failures, now) = (EvacuationFailures::default(), Instant::now());
        for id in 1..=4 {
            failures.note(Verdict::Never(segment(id)), now);
            failures.note(Verdict::NotNow(segment(id + 4)), now);
        }
        failures.keep_only(|name| [2, 7].contains(&name.first.0));
        assert_eq!(barred(&failures, now), [2, 7]);
        assert_eq!((failures.never.len(), failures.not_now.len()), (1, 1));
    }
}
