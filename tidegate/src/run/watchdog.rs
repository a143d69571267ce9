//! Whether systemd's watchdog is to be fed (docs/decisions/0028).
//!
//! Invariant: after commits have stopped coming to an end, it is fed once more at most. That the I/O
//! thread answers is proven by who asks: a task of that thread.

use std::time::{Duration, Instant};

use storage::CommitNumber;

/// What the committer is seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Committing {
    /// Whether a commit is being written, or one that is due lies there.
    pub(super) is_awaited: bool,
    /// The newest commit that is durable.
    pub(super) durable: CommitNumber,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// After which time without food the process is killed.
    limit: Duration,
    fed: Option<Instant>,
    durable: Option<CommitNumber>,
    /// Whether the committer was seen to be well since it was fed.
    was_well: bool,
}

impl Watchdog {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            fed: None,
            durable: None,
            was_well: false,
        }
    }

    /// How often it wants to be asked.
    pub(super) fn interval(&self) -> Duration {
        self.limit / 8
    }

    /// Takes a look; `None`: there is no store, which is dealt with elsewhere. Whether to feed it now.
    pub(super) fn look(&mut self, committing: Option<Committing>, now: Instant) -> bool {
        let is_well = committing.is_none_or(|committing| {
            !committing.is_awaited || self.durable != Some(committing.durable)
        });
        self.durable = committing.map(|committing| committing.durable);
        self.was_well |= is_well;
        // The last look before half of its time is over.
        let is_time = self.fed.is_none_or(|fed| {
            now.saturating_duration_since(fed) + self.interval() >= self.limit / 2
        });
        if is_time && self.was_well {
            self.fed = Some(now);
            self.was_well = false;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(80);

    fn committing(is_awaited: bool, durable: u64) -> Option<Committing> {
        Some(Committing {
            is_awaited,
            durable: CommitNumber(durable),
        })
    }

    /// At which looks, one every tenth second, it was fed.
    fn fed_at(looks: impl Iterator<Item = Option<Committing>>) -> Vec<usize> {
        let (mut watchdog, begin) = (Watchdog::new(LIMIT), Instant::now());
        assert_eq!(watchdog.interval(), Duration::from_secs(10));
        let mut now = begin;
        let mut looked = looks.enumerate();
        let fed = looked.by_ref().filter_map(|(number, committing)| {
            let is_fed = watchdog.look(committing, now);
            now += watchdog.interval();
            is_fed.then_some(number)
        });
        fed.collect()
    }

    #[test]
    fn it_is_fed_before_half_of_its_time_while_nothing_waits_or_commits_end() {
        let every_third = [0, 3, 6, 9];
        assert_eq!(fed_at((0..10).map(|_| committing(false, 7))), every_third);
        assert_eq!(fed_at((0..10).map(|n| committing(true, n))), every_third);
        // Without a store, too.
        assert_eq!(fed_at((0..10).map(|_| None)), every_third);
    }

    #[test]
    fn it_is_fed_once_more_at_most_when_commits_end_no_more() {
        let hangs_from = |from: u64| (0..20).map(move |n| committing(n >= from, 7));
        assert_eq!(fed_at(hangs_from(1)), [0]);
        // The look after a meal is the first of the next: it was well then.
        assert_eq!(fed_at(hangs_from(2)), [0, 3]);
        assert_eq!(fed_at(hangs_from(9)), [0, 3, 6, 9]);
        let busy_until = |until: u64| (0..20).map(move |n| committing(true, n.min(until)));
        assert_eq!(fed_at(busy_until(4)), [0, 3, 6]);
    }

    #[test]
    fn it_is_fed_at_once_when_a_slow_commit_has_ended() {
        // Almost 70 s in one commit, from right after a meal on.
        let looks = (0..20_u64).map(|n| match n {
            0..=3 => committing(false, 7),
            4..=9 => committing(true, 7),
            _ => committing(true, n),
        });
        let fed = fed_at(looks);
        assert_eq!(fed, [0, 3, 10, 13, 16, 19]);
        // Eight looks are its limit.
        let gaps = fed.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() < 8, "{fed:?}");
    }
}
