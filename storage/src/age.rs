//! How old records are for retention, on a machine whose time service may answer wrongly once. Pure:
//! times come in, ages come out.
//!
//! Two clocks measure an age. The time since boot runs evenly and is never wrong, but knows only this
//! boot: the age of what was written since then is *certain*. What earlier boots wrote has only the
//! wall clock. It is certain to be at least as old as it was when the newest record of an earlier boot
//! was written, plus the time since boot. If the wall clock says more than an hour more than that, it
//! has made a *step*: the machine was switched off for long, or the time is wrong, and nobody can tell
//! which. So a step forward is believed only after it stood for 30 minutes of time since boot, and what
//! it alone makes old goes slowly: at most 5 % of the segments an hour, at least one. Whoever sets the
//! clock right meanwhile keeps the rest. A step back is believed at once: it only makes records younger.
//!
//! Normal ageing is never slowed down: what is old by the certain age goes at once, however much that
//! is, and in time everything of an earlier boot becomes old in that way, too.
//!
//! Nothing of this is stored. A new process in the same boot confirms a step anew.
//!
//! Invariants: an age that is used is never more than what the wall clock says; within any hour of time
//! since boot no more segments are released than the share allows.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::ids::SegmentId;

/// A forward change of the wall clock, against the time since boot, that must be confirmed.
pub(crate) const STEP_MS: i64 = 60 * 60 * 1000;
/// How long it must stand.
const CONFIRM_MS: i64 = 30 * 60 * 1000;
/// Share of the segments that may go in [`PACE_MS`] because of a step, in percent.
const PACE_PERCENT: usize = 5;
const PACE_MS: i64 = 60 * 60 * 1000;

/// What is believed of the wall clock. All its times are "the wall clock at boot", which a right clock
/// never changes.
#[derive(Debug, Default)]
pub(crate) struct AgeClock {
    /// What no step has a part in: the newest time of earlier boots, else the first time told.
    certain_ms: Option<i64>,
    believed_ms: Option<i64>,
    pending: Option<Pending>,
    /// Since boot, when a segment was released, for those of the last hour.
    releases: VecDeque<i64>,
    released: BTreeSet<SegmentId>,
}

/// A step that is not believed yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    boot_ms: i64,
    /// Since boot, when it was first seen.
    seen_ms: i64,
}

/// How old a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordAge {
    /// Without what a step added.
    pub(crate) certain: Duration,
    /// With it; never less.
    pub(crate) believed: Duration,
}

/// Ages at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    since_boot_ms: i64,
    certain_ms: i64,
    believed_ms: i64,
}

impl AgeClock {
    /// Looks at the clocks. `now_ms` is the wall clock; `newest_earlier_ms` the newest known time of a
    /// record of an earlier boot, asked for once.
    pub(crate) fn observe(
        &mut self,
        since_boot_ms: i64,
        now_ms: i64,
        newest_earlier_ms: impl FnOnce() -> Option<i64>,
    ) -> Ages {
        let boot_ms = now_ms.saturating_sub(since_boot_ms);
        let certain_ms = *self
            .certain_ms
            .get_or_insert_with(|| newest_earlier_ms().unwrap_or(boot_ms));
        let reference_ms = self.believed_ms.unwrap_or(certain_ms);
        let believed_ms = if boot_ms.saturating_sub(reference_ms) <= STEP_MS {
            self.pending = None;
            boot_ms
        } else if self.is_confirmed(boot_ms, since_boot_ms) {
            let hours = boot_ms.saturating_sub(reference_ms) / STEP_MS;
            tracing::warn!(
                hours,
                "Clock's step forward is believed; old records go slowly."
            );
            self.pending = None;
            boot_ms
        } else {
            reference_ms
        };
        self.believed_ms = Some(believed_ms);
        let has_stepped = believed_ms.saturating_sub(certain_ms) > STEP_MS;
        Ages {
            since_boot_ms,
            certain_ms: if has_stepped { certain_ms } else { believed_ms },
            believed_ms,
        }
    }

    fn is_confirmed(&mut self, boot_ms: i64, since_boot_ms: i64) -> bool {
        let same = self
            .pending
            .filter(|pending| pending.boot_ms.abs_diff(boot_ms) <= STEP_MS.unsigned_abs());
        let Some(pending) = same else {
            tracing::warn!(
                "Clock made a long step forward; retention by age waits for it to last."
            );
            self.pending = Some(Pending {
                boot_ms,
                seen_ms: since_boot_ms,
            });
            return false;
        };
        since_boot_ms.saturating_sub(pending.seen_ms) >= CONFIRM_MS
    }

    /// Of the segments that only a step made old, from old to new, those that may go now. `segments`:
    /// how many there are in all.
    pub(crate) fn release(
        &mut self,
        made_old: impl IntoIterator<Item = SegmentId>,
        segments: usize,
        since_boot_ms: i64,
    ) -> &BTreeSet<SegmentId> {
        let hour_ago = since_boot_ms.saturating_sub(PACE_MS);
        while self.releases.front().is_some_and(|at| *at <= hour_ago) {
            self.releases.pop_front();
        }
        let share = (segments.saturating_mul(PACE_PERCENT) / 100).max(1);
        let mut released = BTreeSet::new();
        for id in made_old {
            if !self.released.contains(&id) {
                if self.releases.len() >= share {
                    continue;
                }
                self.releases.push_back(since_boot_ms);
            }
            released.insert(id);
        }
        self.released = released;
        &self.released
    }
}

impl Ages {
    /// Of a record that was written `written_ms` after this boot.
    pub(crate) fn of_this_boot(&self, written_ms: i64) -> RecordAge {
        let age = between(written_ms, self.since_boot_ms);
        RecordAge {
            certain: age,
            believed: age,
        }
    }

    /// Of a record of an earlier boot, whose time is `written_ms`. `None` if that is yet to come.
    pub(crate) fn of_earlier_boot(&self, written_ms: i64) -> Option<RecordAge> {
        let now_ms = |boot_ms: i64| boot_ms.saturating_add(self.since_boot_ms);
        (written_ms <= now_ms(self.believed_ms)).then(|| RecordAge {
            certain: between(written_ms, now_ms(self.certain_ms)),
            believed: between(written_ms, now_ms(self.believed_ms)),
        })
    }
}

fn between(from_ms: i64, to_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * 1000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    /// When the newest record of the boot before was written.
    const NEWEST: i64 = 1000 * DAY;

    fn duration(ms: i64) -> Duration {
        Duration::from_millis(ms.unsigned_abs())
    }

    /// Age of the newest record of the boot before, at `since_boot_ms`, by a wall clock that says
    /// `off_ms` passed in between.
    fn seen(clock: &mut AgeClock, since_boot_ms: i64, off_ms: i64) -> (i64, i64) {
        let ages = clock.observe(since_boot_ms, NEWEST + off_ms + since_boot_ms, || {
            Some(NEWEST)
        });
        let age = ages.of_earlier_boot(NEWEST).unwrap();
        let ms = |age: Duration| i64::try_from(age.as_millis()).unwrap();
        (ms(age.certain), ms(age.believed))
    }

    #[test]
    fn short_absence_is_believed_at_once() {
        let mut clock = AgeClock::default();
        assert_eq!(seen(&mut clock, MINUTE, HOUR), (61 * MINUTE, 61 * MINUTE));
    }

    #[test]
    fn step_counts_only_after_half_an_hour_since_boot() {
        let mut clock = AgeClock::default();
        let unbelieved = |minutes| (minutes * MINUTE, minutes * MINUTE);
        assert_eq!(seen(&mut clock, MINUTE, 30 * DAY), unbelieved(1));
        assert_eq!(seen(&mut clock, 30 * MINUTE, 30 * DAY), unbelieved(30));
        let (certain, believed) = seen(&mut clock, 31 * MINUTE, 30 * DAY);
        assert_eq!((certain, believed), (31 * MINUTE, 30 * DAY + 31 * MINUTE));
    }

    #[test]
    fn step_that_is_taken_back_in_time_never_counted() {
        let mut clock = AgeClock::default();
        seen(&mut clock, MINUTE, 3650 * DAY);
        seen(&mut clock, 29 * MINUTE, 3650 * DAY);
        let right = (30 * MINUTE + 5000, 30 * MINUTE + 5000);
        assert_eq!(seen(&mut clock, 30 * MINUTE, 5000), right);
        // The same wrong answer again is a new one.
        let (_, believed) = seen(&mut clock, 31 * MINUTE, 3650 * DAY);
        assert_eq!(believed, 31 * MINUTE + 5000);
        let (_, believed) = seen(&mut clock, 60 * MINUTE, 3650 * DAY);
        assert_eq!(believed, 60 * MINUTE + 5000);
    }

    #[test]
    fn another_step_is_confirmed_from_its_own_beginning() {
        let mut clock = AgeClock::default();
        seen(&mut clock, 0, 30 * DAY);
        seen(&mut clock, 20 * MINUTE, 300 * DAY);
        assert_eq!(seen(&mut clock, 40 * MINUTE, 300 * DAY).1, 40 * MINUTE);
        assert_eq!(
            seen(&mut clock, 50 * MINUTE, 300 * DAY).1,
            300 * DAY + 50 * MINUTE
        );
    }

    #[test]
    fn step_within_a_boot_is_confirmed_as_well() {
        let mut clock = AgeClock::default();
        seen(&mut clock, DAY, 0);
        assert_eq!(seen(&mut clock, DAY + 1, 30 * DAY).1, DAY + 1);
        let later = DAY + 1 + 30 * MINUTE;
        assert_eq!(seen(&mut clock, later, 30 * DAY), (later, 30 * DAY + later));
    }

    #[test]
    fn step_back_counts_at_once_also_for_what_was_certain() {
        let mut clock = AgeClock::default();
        seen(&mut clock, DAY, 0);
        let back = (DAY - 10 * HOUR, DAY - 10 * HOUR);
        assert_eq!(seen(&mut clock, DAY, -10 * HOUR), back);
        let ages = clock.observe(DAY, NEWEST - 5, || None);
        assert_eq!(ages.of_earlier_boot(NEWEST), None, "it is yet to come");
    }

    #[test]
    fn age_of_what_this_boot_wrote_needs_no_wall_clock() {
        let mut clock = AgeClock::default();
        for now_ms in [NEWEST, NEWEST + 3650 * DAY, 0] {
            let age = clock.observe(DAY, now_ms, || None).of_this_boot(HOUR);
            let expected = duration(23 * HOUR);
            assert_eq!((age.certain, age.believed), (expected, expected));
        }
    }

    #[test]
    fn what_a_step_made_old_goes_at_five_percent_an_hour() {
        let mut clock = AgeClock::default();
        let old = |from: u64| (from..100).map(SegmentId);
        let mut gone = 0;
        for (at_ms, expected) in [
            (0, 5),
            (59 * MINUTE, 5),
            (HOUR, 10),
            (HOUR + 1, 10),
            (10 * HOUR, 15),
        ] {
            let released = clock.release(old(gone), 100, at_ms);
            // What was released and is not gone yet does not count twice.
            assert_eq!(released.len() as u64, expected - gone, "{at_ms}");
            if at_ms != 0 {
                gone = expected;
            }
        }
        let few = AgeClock::default().release(old(0), 3, 0).len();
        assert_eq!(few, 1, "at least one");
    }
}
