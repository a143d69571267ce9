//! What may wait for all clients together, and what that leaves for each.
//!
//! ```text
//! all mailboxes:   a a a b b b b b c ───────── free ─────────┤ bytes_max
//! each may hold:   a sixteenth of what is free, and never more than its own bound
//! ```
//!
//! So a few have room for long bursts, ten thousand that return at once share what there is, and whoever
//! comes last still finds some. What waits can be read again, if it is in a log: when little is free, those
//! that hold far more than their part give it back, so that clients that take nothing do not hold it for
//! ever.
//!
//! What counts: messages that wait for a place in a window or for flash, those that a replay has read, and
//! bytes that a socket has not taken yet. A message that waits for several clients counts for each of them.
//!
//! Invariant: all together hold no more than the bound, and [`PART_BYTES_MIN`] or one message for each
//! connection beyond it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::budget::{Budget, Share};
use crate::causes::Limit;
use crate::outbound::Outbound;
use crate::router::Router;
use crate::session::SessionState;

/// Each may hold this part of what is free.
const PART: usize = 16;

/// Each may hold so much, however little is free: some messages that go with one commit.
const PART_BYTES_MIN: usize = 4_096;

/// Who holds more than so many times its part gives it back, when less than this part of all is free.
const EXCESS: usize = 2;
const FREE_MIN: usize = 4;

/// Looking for those takes a while where there are many thousand.
const RELIEF_INTERVAL: Duration = Duration::from_millis(50);

/// What a client may have waiting now.
fn part_of(budget: &Budget) -> usize {
    (budget.free() / PART).max(PART_BYTES_MIN)
}

/// Whether so little is free that some are to give back what they hold.
pub(crate) fn is_tight(budget: &Budget) -> bool {
    budget.free() < budget.bytes_max() / FREE_MIN
}

/// The bytes of one queue of messages, which has a bound of its own.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Waiting {
    share: Share,
    bytes_max: usize,
}

impl Waiting {
    pub(crate) fn new(budget: &Budget, bytes_max: usize) -> Self {
        Self {
            share: budget.share(),
            bytes_max,
        }
    }

    /// The bytes of somebody who shares with nobody.
    #[cfg(test)]
    pub(crate) fn alone(bytes_max: usize) -> Self {
        Self::new(&Budget::new(usize::MAX), bytes_max)
    }

    /// Another queue of the same client, with this part of its bound.
    pub(crate) fn part(&self, part: usize) -> Self {
        Self::new(self.share.budget(), self.bytes_max / part)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.share.bytes()
    }

    fn limit(&self) -> usize {
        self.bytes_max.min(part_of(self.share.budget()))
    }

    /// Whether there is room for so many bytes more. For one message there always is.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.bytes() == 0 || self.bytes().saturating_add(bytes) <= self.limit()
    }

    /// Whether so many bytes more would be too many if nothing waited for others.
    pub(crate) fn exceeds_its_own_bound(&self, bytes: usize) -> bool {
        self.bytes().saturating_add(bytes) > self.bytes_max
    }

    /// Whether there is room for what cannot be read again: its client is lost otherwise.
    pub(crate) fn fits_what_is_in_no_log(&self, bytes: usize) -> bool {
        let is_there_room = bytes <= self.share.budget().free()
            && self.bytes().saturating_add(bytes) <= self.bytes_max;
        is_there_room || self.fits(bytes)
    }

    /// Whether the memory for others' clients would still be half empty with so much that waits for one who is
    /// not there.
    pub(crate) fn may_keep(&self, bytes: usize) -> bool {
        let budget = self.share.budget();
        let others = budget.taken().saturating_sub(self.bytes());
        others.saturating_add(bytes) <= budget.bytes_max() / 2
    }

    /// Whether it is worth while to read for it.
    pub(crate) fn is_half_empty(&self) -> bool {
        self.bytes() <= self.limit() / 2
    }

    /// Whether it holds far more than others could.
    pub(crate) fn is_excessive(&self) -> bool {
        self.bytes() > part_of(self.share.budget()).saturating_mul(EXCESS)
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.share.set(self.bytes().saturating_add(bytes));
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.share.set(self.bytes().saturating_sub(bytes));
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        self.share.set(bytes);
    }
}

/// Bytes that a socket has not taken yet.
#[derive(Debug)]
pub(crate) struct Transmitting(Share);

impl Transmitting {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self(budget.share())
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes != self.0.bytes() {
            self.0.set(bytes);
        }
    }

    /// Whether a packet may be added to so many that wait, of `bytes_max` at most.
    pub(crate) fn fits(&self, waiting: usize, packet: usize, bytes_max: usize) -> bool {
        let budget = self.0.budget();
        let limit = match is_tight(budget) {
            true => bytes_max.min(part_of(budget)),
            // Its socket may not have been tried yet.
            false => bytes_max,
        };
        waiting == 0 || waiting.saturating_add(packet) <= limit
    }
}

/// When it was looked last for those that hold too much.
#[derive(Debug, Default)]
pub(crate) struct Relief(Option<Instant>);

impl Relief {
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.0.is_none_or(|last| now >= last + RELIEF_INTERVAL);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

impl Router {
    /// An empty mailbox.
    pub(crate) fn mailbox(&self) -> Waiting {
        Waiting::new(&self.mailboxes, self.options.limits.mailbox_bytes_max)
    }

    /// Whether little is free for all of them.
    pub(crate) fn mailboxes_are_tight(&self) -> bool {
        is_tight(&self.mailboxes)
    }

    /// If little is free, lets those that hold far more than their part give it back. No scan is under
    /// way.
    pub(crate) fn relieve_mailboxes(&self, now: Instant, relief: &mut Relief) {
        if is_tight(&self.mailboxes) && relief.is_due(now) {
            self.relieve(Outbound::let_go_of_excess, |state| self.read_for(state));
        }
    }

    /// The same for what replays have read. None is being read.
    pub(crate) fn relieve_replays(&self, now: Instant, relief: &mut Relief) {
        if is_tight(&self.mailboxes) && relief.is_due(now) {
            let give_back = |outbound: &mut Outbound| outbound.replays.let_go_of_excess();
            self.relieve(give_back, |state| self.replay_for(state));
        }
    }

    fn relieve(
        &self,
        give_back: impl Fn(&mut Outbound) -> bool,
        read_again: impl Fn(&Rc<SessionState>),
    ) {
        let states: Vec<_> = {
            let sessions = self.sessions.borrow();
            let groups = self.groups.borrow();
            let groups = groups.iter().map(|group| &group.state);
            let attached = sessions.iter().filter(|state| state.is_attached());
            let all = attached.chain(groups);
            all.filter(|state| give_back(&mut state.outbound.borrow_mut()))
                .cloned()
                .collect()
        };
        for state in &states {
            tracing::trace!(client_id = state.client_id(), "Mailbox is given back.");
            read_again(state);
        }
        let count = states.len() as u64;
        self.counters.mailboxes_given_back.add(count);
        self.counters.limits.add(Limit::AllMailboxesBytesMax, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_may_have_a_part_of_what_is_free_and_a_little_in_any_case() {
        let all = Budget::new(1_600_000);
        let mut first = Waiting::new(&all, 1_000_000);
        assert!(
            first.fits(1_000_000),
            "one message there is always room for"
        );
        first.add(50_000);
        assert!(first.fits(40_000) && !first.fits(60_000));
        let mut hog = all.share();
        hog.set(1_500_000);
        let mut last = Waiting::new(&all, 1_000_000);
        last.add(1_000);
        assert!(last.fits(3_000) && !last.fits(4_000));
        assert!(is_tight(&all) && first.is_excessive() && !last.is_excessive());
        // What is in no log may take all there is.
        assert!(last.fits_what_is_in_no_log(40_000) && !last.fits_what_is_in_no_log(60_000));
        hog.set(0);
        assert!(!is_tight(&all) && !first.is_excessive());
    }

    #[test]
    fn ones_own_bound_counts_when_much_is_free() {
        let mut waiting = Waiting::new(&Budget::new(usize::MAX), 1_000);
        waiting.add(400);
        assert!(waiting.is_half_empty() && waiting.fits(600) && !waiting.fits(601));
        assert!(!waiting.fits_what_is_in_no_log(601));
        waiting.add(200);
        assert!(!waiting.is_half_empty());
        assert_eq!(waiting.part(4).limit(), 250);
    }

    #[test]
    fn socket_that_takes_nothing_is_given_little_while_little_is_free() {
        let all = Budget::new(160_000);
        let mut transmitting = Transmitting::new(&all);
        assert!(transmitting.fits(0, 1_000_000, 10), "one packet");
        assert!(transmitting.fits(5_000, 5_000, 20_000));
        transmitting.set(100_000);
        assert_eq!(all.taken(), 100_000);
        assert!(transmitting.fits(5_000, 5_000, 20_000), "much is free");
        transmitting.set(130_000);
        assert!(!transmitting.fits(5_000, 5_000, 20_000));
        assert!(transmitting.fits(2_000, 2_000, 20_000));
    }
}
