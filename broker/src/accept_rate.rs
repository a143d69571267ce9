//! How many connections a listener accepts in a second; those beyond wait in the system's queue.
//!
//! A fleet that comes back all at once comes in one by one that way, instead of being refused, and those
//! who are in already are served meanwhile.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// After a quiet time as many may come at once as otherwise in this time.
const BURST: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct AcceptRate {
    /// Time for each.
    each: Duration,
    /// When all that have come would have come one after the other.
    spent_until: Option<Instant>,
}

impl AcceptRate {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self {
            each: BURST / per_second.get(),
            spent_until: None,
        }
    }

    /// One more was accepted.
    pub(crate) fn accepted(&mut self, now: Instant) {
        let from = self.spent_until.map_or(now, |until| until.max(now));
        self.spent_until = Some(from + self.each);
    }

    /// When the next one may be accepted, if it has to wait.
    pub(crate) fn waits_until(&self, now: Instant) -> Option<Instant> {
        let ahead = BURST.saturating_sub(self.each);
        let next = self.spent_until?.checked_sub(ahead)?;
        (next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_let_in_at_once_and_the_rest_at_the_rate() {
        let mut rate = AcceptRate::new(NonZeroU32::new(10).unwrap());
        let start = Instant::now() + Duration::from_secs(60);
        let mut now = start;
        for number in 0..30 {
            if let Some(until) = rate.waits_until(now) {
                now = until;
            }
            assert_eq!(rate.waits_until(now), None);
            rate.accepted(now);
            let waited = (number + 1_u64).saturating_sub(10) * 100;
            assert_eq!(now - start, Duration::from_millis(waited), "{number}");
        }
        // A pause gives the burst back, and no more.
        now += Duration::from_secs(100);
        for _ in 0..10 {
            assert_eq!(rate.waits_until(now), None);
            rate.accepted(now);
        }
        assert_eq!(
            rate.waits_until(now),
            Some(now + Duration::from_millis(100))
        );
    }

    #[test]
    fn one_in_a_second_and_very_many_are_kept_as_well() {
        let mut rate = AcceptRate::new(NonZeroU32::MIN);
        let now = Instant::now() + Duration::from_secs(60);
        rate.accepted(now);
        assert_eq!(rate.waits_until(now), Some(now + Duration::from_secs(1)));
        let mut rate = AcceptRate::new(NonZeroU32::new(100_000).unwrap());
        for _ in 0..100_000 {
            assert_eq!(rate.waits_until(now), None);
            rate.accepted(now);
        }
        assert!(rate.waits_until(now).is_some());
    }
}
