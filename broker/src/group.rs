//! How far a group of shared subscribers has come in the log (MQTT 5, 4.8.2; `rules.md` 3.6).
//!
//! ```text
//! log ──────────────────────────────────────────────────────┤
//!        r      o   r        o        high │ w  w  w
//!        returned   out: not acknowledged  │ not handed out yet
//! ```
//!
//! What lies before `high` and is neither out nor returned is done with: acknowledged, or of QoS 2 and
//! bound to its session for good. So what is kept is what is *not* acknowledged, of which there is
//! never more than the members' windows hold, however far one slow member holds back the lowest place.
//!
//! Invariants: nothing at or behind `high` was handed out; `out` and `returned` lie before it and have
//! no place in common; together they are bounded.

use std::collections::BTreeSet;

use crate::place::Place;

/// Messages of one group that are out or returned. With as many, nothing new is handed out.
pub(crate) const OUTSTANDING_MAX: usize = 1_024;

/// Names a group while the broker runs; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub(crate) u64);

impl GroupId {
    /// Some group of an earlier run of the broker.
    pub(crate) const EARLIER: Self = Self(0);
}

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupProgress {
    high: Place,
    returned: BTreeSet<Place>,
    out: BTreeSet<Place>,
}

impl GroupProgress {
    /// A group that nothing before `high` is owed, but for what is `returned`.
    pub(crate) fn new(high: Place, returned: impl IntoIterator<Item = Place>) -> Self {
        let returned = returned.into_iter().filter(|place| *place < high);
        Self {
            high,
            returned: returned.take(OUTSTANDING_MAX).collect(),
            out: BTreeSet::new(),
        }
    }

    /// Whether the message at this place is still to go to somebody.
    pub(crate) fn wants(&self, place: Place) -> bool {
        place >= self.high || self.returned.contains(&place)
    }

    /// Whether it may be handed out now.
    pub(crate) fn has_room_for(&self, place: Place) -> bool {
        let outstanding = self.out.len() + self.returned.len();
        outstanding < OUTSTANDING_MAX || self.returned.contains(&place)
    }

    /// It was handed to a member, whose acknowledgement of QoS 1 is waited for.
    pub(crate) fn handed_out(&mut self, place: Place) {
        self.settled(place);
        self.out.insert(place);
    }

    /// It was handed to a member for good, or nobody is to get it.
    pub(crate) fn settled(&mut self, place: Place) {
        self.high = self.high.max(place.behind());
        self.returned.remove(&place);
    }

    /// A member has it.
    pub(crate) fn acknowledged(&mut self, place: Place) {
        self.out.remove(&place);
    }

    /// The member that had not acknowledged it is lost. Whether it goes to another one.
    pub(crate) fn give_back(&mut self, place: Place) -> bool {
        self.out.remove(&place) && self.returned.insert(place)
    }

    /// Everything before this place was read, and nothing of it waits: what is returned from before it
    /// is not there any more.
    pub(crate) fn read_up_to(&mut self, place: Place) {
        self.returned = self.returned.split_off(&place);
    }

    /// The first that is returned.
    pub(crate) fn first_returned(&self) -> Option<Place> {
        self.returned.first().copied()
    }

    /// Nothing at or behind it was handed out.
    pub(crate) fn high(&self) -> Place {
        self.high
    }

    /// What lies before `high` and is not acknowledged, ascending.
    pub(crate) fn outstanding(&self) -> Vec<Place> {
        self.returned.union(&self.out).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;
    use storage::CommitNumber;

    use super::*;

    fn place(commit: u64) -> Place {
        Place::beginning_of(CommitNumber(commit))
    }

    #[test]
    fn message_of_a_lost_member_goes_to_another_and_no_other_comes_again() {
        let mut progress = GroupProgress::new(place(1), []);
        for commit in 1..=3 {
            assert!(progress.wants(place(commit)));
            progress.handed_out(place(commit));
        }
        progress.acknowledged(place(1));
        assert!(progress.give_back(place(2)));
        assert!(!progress.give_back(place(2)), "twice");
        assert!(!progress.give_back(place(1)), "it was acknowledged");
        let wanted: Vec<_> = (1..=4).filter(|c| progress.wants(place(*c))).collect();
        assert_eq!(wanted, [2, 4]);
        assert_eq!(progress.outstanding(), [place(2), place(3)]);
        progress.handed_out(place(2));
        assert!(!progress.wants(place(2)));
    }

    /// As a crash sees it: what was out comes again, what was acknowledged or bound does not.
    #[test]
    fn group_that_is_restored_wants_what_was_outstanding() {
        let mut progress = GroupProgress::new(place(1), []);
        (1..=4).for_each(|commit| progress.handed_out(place(commit)));
        progress.settled(place(5));
        progress.acknowledged(place(2));
        progress.give_back(place(3));
        let restored = GroupProgress::new(progress.high(), progress.outstanding());
        let wanted: Vec<_> = (1..=6).filter(|c| restored.wants(place(*c))).collect();
        assert_eq!(wanted, [1, 3, 4, 6]);
    }

    #[test]
    fn what_is_not_there_any_more_is_waited_for_no_longer() {
        let mut progress = GroupProgress::new(place(9), [place(2), place(5)]);
        progress.read_up_to(place(5));
        assert_eq!(progress.first_returned(), Some(place(5)));
    }

    #[test]
    fn nothing_new_is_handed_out_when_too_much_is_outstanding() {
        let mut progress = GroupProgress::new(place(1), []);
        let max = OUTSTANDING_MAX as u64;
        (1..=max).for_each(|commit| progress.handed_out(place(commit)));
        assert!(!progress.has_room_for(place(max + 1)));
        progress.give_back(place(7));
        assert!(!progress.has_room_for(place(max + 1)));
        assert!(progress.has_room_for(place(7)), "it is none more");
        progress.acknowledged(place(1));
        assert!(progress.has_room_for(place(max + 1)));
    }

    proptest! {
        /// A log is read, members take, acknowledge and are lost, in any order; in the end each
        /// message was acknowledged by one member, or more than one had it because one was lost.
        #[test]
        fn every_message_is_acknowledged_in_the_end(
            steps in proptest::collection::vec((0..3_u8, 0..3_usize), 0..120),
        ) {
            const MESSAGES: u64 = 20;
            let mut progress = GroupProgress::new(place(0), []);
            let mut windows: [VecDeque<u64>; 3] = Default::default();
            let mut acknowledged = BTreeMap::<u64, u32>::new();
            let next = |progress: &GroupProgress| {
                (0..MESSAGES).find(|commit| progress.wants(place(*commit)))
            };
            let mut acknowledge = |progress: &mut GroupProgress, commit| {
                progress.acknowledged(place(commit));
                *acknowledged.entry(commit).or_default() += 1;
            };
            for (step, member) in steps {
                match step {
                    0 => if let Some(commit) = next(&progress) {
                        progress.handed_out(place(commit));
                        windows[member].push_back(commit);
                    },
                    1 => if let Some(commit) = windows[member].pop_front() {
                        acknowledge(&mut progress, commit);
                    },
                    _ => for commit in windows[member].drain(..) {
                        prop_assert!(progress.give_back(place(commit)));
                    },
                }
            }
            for commit in windows.iter_mut().flat_map(|window| window.drain(..)) {
                acknowledge(&mut progress, commit);
            }
            while let Some(commit) = next(&progress) {
                progress.handed_out(place(commit));
                acknowledge(&mut progress, commit);
            }
            prop_assert!(progress.outstanding().is_empty());
            prop_assert_eq!(acknowledged.len() as u64, MESSAGES);
            prop_assert!(acknowledged.values().all(|times| *times == 1));
        }
    }
}
