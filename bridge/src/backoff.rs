//! How long to wait before the next attempt: twice as long each time, up to a limit, and a random
//! part of that, so that a thousand gateways do not come back in step ("full jitter").

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);

/// Attempts so far.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(max: Duration) -> Self {
        Self { attempts: 0, max }
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        // Without random numbers everybody waits the longest time: slow, not wrong.
        let part = getrandom::u32().unwrap_or(u32::MAX);
        ceiling.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }

    fn ceiling(&self) -> Duration {
        FIRST
            .saturating_mul(2_u32.saturating_pow(self.attempts.min(20)))
            .min(self.max)
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_stay_below_it() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let ceilings: Vec<_> = (0..8)
            .map(|_| {
                let ceiling = backoff.ceiling();
                assert!(backoff.next() <= ceiling);
                ceiling.as_millis()
            })
            .collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.ceiling(), FIRST);
    }
}
