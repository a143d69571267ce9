//! The flash budget: what the card may take in a day, and what is done when it takes more.
//!
//! The rate at which the flash is worn is measured over a minute. While it is above the budget, the
//! linger grows step by step up to [`LINGER_MAX`]: more messages share a commit, and a page of the
//! card is dirtied for several of them. When the rate has fallen well below, it shrinks again. The
//! budget never refuses a message; if lingering is not enough, the status says so.
//!
//! Pure: times and sums come in.
//!
//! Invariant: the linger is 0 without a budget, and never above [`LINGER_MAX`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longest time that a record of a log with durability `commit` waits for company.
pub const LINGER_MAX: Duration = Duration::from_millis(50);
/// First step, and what it falls to 0 from.
const LINGER_STEP: Duration = Duration::from_millis(5);
/// The rate is that of this time.
const WINDOW: Duration = Duration::from_secs(60);
/// No rate is told of less time than this.
const WINDOW_MIN: Duration = Duration::from_secs(5);
/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// How the budget stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetStatus {
    /// Bytes that may be written to flash in a day.
    pub bytes_per_day: u64,
    /// What a day at the rate of the last minute would write; `None` in the first seconds.
    pub rate_bytes_per_day: Option<u64>,
    /// Whether that is more than the budget.
    pub exceeded: bool,
    /// What commits wait for company because of it.
    pub linger: Duration,
}

/// Measures the rate and decides the linger.
#[derive(Debug)]
pub(crate) struct FlashBudget {
    bytes_per_day: Option<u64>,
    /// Times and sums of wearing bytes, oldest first, those of the window.
    samples: VecDeque<(Instant, u64)>,
    linger: Duration,
}

impl FlashBudget {
    pub(crate) fn new(bytes_per_day: Option<u64>) -> Self {
        Self {
            bytes_per_day,
            samples: VecDeque::new(),
            linger: Duration::ZERO,
        }
    }

    /// Takes the sum of wearing bytes at `now`, some seconds after the last one; gives the linger.
    pub(crate) fn sample(&mut self, now: Instant, wearing_bytes: u64) -> Duration {
        let Some(budget) = self.bytes_per_day else {
            return Duration::ZERO;
        };
        self.samples.push_back((now, wearing_bytes));
        // One sample from before the window stays: the window begins there.
        while let Some((second, _)) = self.samples.get(1)
            && now.saturating_duration_since(*second) >= WINDOW
        {
            self.samples.pop_front();
        }
        let Some(rate) = self.rate() else {
            return self.linger;
        };
        if rate > budget {
            self.linger = (self.linger * 2).clamp(LINGER_STEP, LINGER_MAX);
        } else if rate < budget / 5 * 4 {
            // Not at once below the budget, or it would flutter.
            self.linger = match self.linger / 2 {
                less if less < LINGER_STEP => Duration::ZERO,
                less => less,
            };
        }
        self.linger
    }

    /// Bytes a day at the rate of the window.
    fn rate(&self) -> Option<u64> {
        let (from, before) = self.samples.front()?;
        let (to, after) = self.samples.back()?;
        let time = to.saturating_duration_since(*from);
        if time < WINDOW_MIN {
            return None;
        }
        let bytes = u128::from(after.saturating_sub(*before));
        let ms = time.as_millis().max(1);
        let rate = bytes * u128::from(DAY_SECONDS) * 1000 / ms;
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    pub(crate) fn status(&self) -> Option<BudgetStatus> {
        let bytes_per_day = self.bytes_per_day?;
        let rate_bytes_per_day = self.rate();
        Some(BudgetStatus {
            bytes_per_day,
            rate_bytes_per_day,
            exceeded: rate_bytes_per_day.is_some_and(|rate| rate > bytes_per_day),
            linger: self.linger,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day's budget of a byte per millisecond.
    const BUDGET: u64 = DAY_SECONDS * 1000;

    struct Run {
        budget: FlashBudget,
        now: Instant,
        bytes: u64,
    }

    impl Run {
        fn new(bytes_per_day: Option<u64>) -> Self {
            Self {
                budget: FlashBudget::new(bytes_per_day),
                now: Instant::now(),
                bytes: 0,
            }
        }

        /// Ten seconds at this many bytes per millisecond; the linger in ms afterwards.
        fn pass(&mut self, bytes_per_ms: u64) -> u128 {
            self.now += Duration::from_secs(10);
            self.bytes += bytes_per_ms * 10_000;
            self.budget.sample(self.now, self.bytes).as_millis()
        }
    }

    #[test]
    fn linger_grows_while_the_budget_is_exceeded_and_shrinks_afterwards() {
        let mut run = Run::new(Some(BUDGET));
        assert_eq!(run.pass(9), 0, "no rate yet");
        let grown: Vec<_> = (0..6).map(|_| run.pass(3)).collect();
        assert_eq!(grown, [5, 10, 20, 40, 50, 50]);
        let status = run.budget.status().unwrap();
        assert_eq!(status.rate_bytes_per_day, Some(3 * BUDGET));
        assert!(status.exceeded);
        let shrunk: Vec<_> = (0..10).map(|_| run.pass(0)).collect();
        assert_eq!(shrunk, [50, 50, 50, 50, 25, 12, 6, 0, 0, 0]);
        assert!(!run.budget.status().unwrap().exceeded);
    }

    #[test]
    fn linger_holds_just_below_the_budget() {
        let mut run = Run::new(Some(BUDGET));
        run.pass(0);
        run.pass(30);
        run.pass(1);
        let before = run.budget.linger;
        assert!(before > Duration::ZERO);
        for _ in 0..20 {
            run.now += Duration::from_secs(10);
            run.bytes += 9_000; // nine tenths
            run.budget.sample(run.now, run.bytes);
        }
        assert!(run.budget.linger >= before);
    }

    #[test]
    fn nothing_lingers_without_a_budget() {
        let mut run = Run::new(None);
        for _ in 0..9 {
            assert_eq!(run.pass(1_000_000), 0);
        }
        assert_eq!(run.budget.status(), None);
    }

    #[test]
    fn window_is_bounded() {
        let mut run = Run::new(Some(BUDGET));
        for _ in 0..1000 {
            run.pass(1);
        }
        assert!(
            run.budget.samples.len() <= 8,
            "{}",
            run.budget.samples.len()
        );
    }
}
