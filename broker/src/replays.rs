//! The replays of a session: second cursors, which read the log from further back and end where the
//! live messages begin (`rules.md` 3.7), and what they have read and was not sent yet.
//!
//! ```text
//! log ───────────────────────────────────────────────┤ worked off
//!       in flight │ waiting │ next ▸ what is read      └── live, when `next` has come here
//! ```
//!
//! What a replay reads stands in a queue of its own, beside the mailbox: it leaves the main cursor its
//! room, and counts neither for its order nor for its position.
//!
//! Invariants: a filter is never both that of a replay and of a subscription, but when what the replay
//! has sent is all that is left of it (`until`). The queue has the messages of each replay in the
//! order of the log, and holds no more bytes than it may, unless that is one message.

use std::collections::VecDeque;

use mqtt::{QoS, SubscriptionIdentifier, SubscriptionOptions, TopicFilter};
use storage::CommitNumber;

use crate::mailboxes::Waiting;
use crate::outbound::{InFlight, Item};
use crate::place::Place;
use crate::rare::Rare;

/// Replays of one session at a time.
pub(crate) const REPLAYS_MAX: usize = 4;

/// The queue has this part of the bytes that a mailbox has.
const WAITING_PART: usize = 4;

/// Names a replay among those of its session; never used again.
pub(crate) type ReplayNumber = u32;

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayAt {
    /// What is before this place was read.
    Place(Place),
    /// The beginning of this time, in milliseconds since 1970, is to be found.
    Time {
        /// The time.
        at_ms: i64,
    },
    /// The place is to be found behind which so many messages match.
    Last {
        /// How many.
        count: u32,
    },
}

/// One replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) number: ReplayNumber,
    pub(crate) filter: TopicFilter,
    /// With the granted QoS.
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<SubscriptionIdentifier>,
    pub(crate) at: ReplayAt,
    /// It begins here at the latest: what comes then is live, or was owed before it was asked for.
    pub(crate) at_latest: Place,
    /// From this commit on there is a subscription in its place.
    pub(crate) until: Option<CommitNumber>,
    /// Messages of QoS 2 before this place were bound.
    pub(crate) bound_before: Place,
    /// It is not yet told that it may begin.
    pub(crate) is_held: bool,
    /// Becomes live here even if messages of QoS 0 are on their way to the log.
    pub(crate) live_by: Option<CommitNumber>,
    /// How far the search for its beginning has come.
    pub(crate) counted: Option<Counted>,
}

/// How far the search for the last messages has come: all from a commit on were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Messages that match.
    pub(crate) messages: u32,
    /// The first commit that was looked at.
    pub(crate) from: CommitNumber,
    /// The oldest that there is.
    pub(crate) oldest: CommitNumber,
    /// How many commits are looked at next.
    pub(crate) commits: u64,
}

/// See the module's documentation.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Replays {
    replays: Vec<Replay>,
    waiting: Rare<VecDeque<Item>>,
    waits: Waiting,
    awaits_room: bool,
    /// The mailbox was served last.
    is_turn: bool,
    next_number: ReplayNumber,
}

impl Replays {
    /// None, of a session with this mailbox.
    pub(crate) fn new(mailbox: &Waiting) -> Self {
        Self {
            replays: Vec::new(),
            waiting: Rare::default(),
            waits: mailbox.part(WAITING_PART),
            awaits_room: false,
            is_turn: false,
            next_number: 0,
        }
    }

    /// Those of a session that comes back from flash, none of whose numbers was below `next_number`.
    pub(crate) fn restore(&mut self, replays: Vec<Replay>, next_number: ReplayNumber) {
        self.replays = replays;
        self.next_number = next_number;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.replays.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Replay> {
        self.replays.iter()
    }

    pub(crate) fn get(&self, number: ReplayNumber) -> Option<&Replay> {
        self.iter().find(|replay| replay.number == number)
    }

    pub(crate) fn get_mut(&mut self, number: ReplayNumber) -> Option<&mut Replay> {
        self.replays
            .iter_mut()
            .find(|replay| replay.number == number)
    }

    /// Those that are not live yet.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Replay> {
        self.iter().filter(|replay| replay.until.is_none())
    }

    /// The one with this filter that is not live yet.
    pub(crate) fn with_filter(&self, filter: &TopicFilter) -> Option<&Replay> {
        self.running().find(|replay| replay.filter == *filter)
    }

    /// A new one, which waits for [`Self::release`].
    pub(crate) fn begin(
        &mut self,
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<SubscriptionIdentifier>,
        (at, at_latest): (ReplayAt, Place),
    ) {
        let number = self.next_number;
        self.next_number += 1;
        self.replays.push(Replay {
            number,
            filter,
            options,
            identifier,
            at,
            at_latest,
            until: None,
            bound_before: Place::beginning_of(CommitNumber(0)),
            is_held: true,
            live_by: None,
            counted: None,
        });
    }

    /// They may begin.
    pub(crate) fn release(&mut self) {
        for replay in &mut self.replays {
            replay.is_held = false;
        }
    }

    /// The client has subscribed again to a filter that is replayed, without asking for more. `false`
    /// if it is not.
    pub(crate) fn change(
        &mut self,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<SubscriptionIdentifier>,
    ) -> bool {
        let mut replays = self.replays.iter_mut();
        let found = replays.find(|replay| replay.until.is_none() && replay.filter == *filter);
        found.is_some_and(|replay| {
            replay.options = options;
            replay.identifier = identifier;
            true
        })
    }

    /// Ends those with this filter; what was sent is still to be acknowledged. Whether there was one
    /// that was not live yet.
    pub(crate) fn end_with_filter(&mut self, filter: &TopicFilter) -> bool {
        let was_running = self.with_filter(filter).is_some();
        let ended = self.iter().filter(|replay| replay.filter == *filter);
        let ended: Vec<_> = ended.map(|replay| replay.number).collect();
        for number in ended {
            self.end(number);
        }
        was_running
    }

    /// Ends the one with this filter that is not live yet: another takes its place.
    pub(crate) fn end_running(&mut self, filter: &TopicFilter) {
        if let Some(number) = self.with_filter(filter).map(|replay| replay.number) {
            self.end(number);
        }
    }

    /// Ends one.
    pub(crate) fn end(&mut self, number: ReplayNumber) {
        self.replays.retain(|replay| replay.number != number);
        self.waiting.retain(|item| item.replay != Some(number));
        self.weigh();
        if self.replays.is_empty() {
            self.replays = Vec::new();
        }
    }

    /// The one that was served last comes last.
    pub(crate) fn rotate(&mut self, number: ReplayNumber) {
        if let Some(index) = self.replays.iter().position(|other| other.number == number) {
            let replay = self.replays.remove(index);
            self.replays.push(replay);
        }
    }

    fn weigh(&mut self) {
        let bytes = self.waiting.iter().map(Item::size_bytes).sum();
        self.waits.set(bytes);
        self.awaits_room = false;
        if self.waiting.is_empty() {
            // Its memory was for a burst.
            self.waiting.free();
        }
    }

    // The queue

    pub(crate) fn waiting_messages(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waits.bytes()
    }

    pub(crate) fn is_waiting(&self, number: ReplayNumber) -> bool {
        self.waiting.iter().any(|item| item.replay == Some(number))
    }

    /// Whether something is to be read for the queue.
    pub(crate) fn has_room(&self) -> bool {
        self.waits.is_half_empty() && !self.awaits_room
    }

    /// A message that was read at this place. `false` if there is no room, and it is to be read again.
    pub(crate) fn offer(&mut self, number: ReplayNumber, item: Item, place: Place) -> bool {
        let bytes = item.size_bytes();
        let fits = self.waits.fits(bytes);
        let Some(replay) = self.get_mut(number) else {
            return false;
        };
        replay.at = match fits {
            true => ReplayAt::Place(place.behind()),
            false => ReplayAt::Place(place),
        };
        self.awaits_room |= !fits;
        if fits {
            self.waits.add(bytes);
            self.waiting.push_back(Item {
                replay: Some(number),
                ..item
            });
        }
        fits
    }

    /// Everything before this place was read.
    pub(crate) fn read_to(&mut self, number: ReplayNumber, place: Place) {
        if let Some(replay) = self.get_mut(number) {
            replay.at = match replay.at {
                ReplayAt::Place(next) => ReplayAt::Place(next.max(place)),
                _ => ReplayAt::Place(place),
            };
        }
    }

    /// The message that waits longest, if it is its turn; `others`: whether the mailbox has one.
    pub(crate) fn front(&self, others: bool) -> Option<&Item> {
        let is_turn = self.is_turn || !others;
        self.waiting.front().filter(|_| is_turn)
    }

    /// Takes it out.
    pub(crate) fn pop(&mut self, others: bool) -> Option<Item> {
        self.front(others)?;
        let item = self.waiting.pop_front()?;
        self.waits.remove(item.size_bytes());
        self.is_turn = false;
        self.awaits_room = false;
        if self.waiting.is_empty() {
            self.waiting.free();
        }
        Some(item)
    }

    /// The mailbox was served.
    pub(crate) fn wait_no_more(&mut self) {
        self.is_turn = true;
    }

    /// There was no room for what was taken out last.
    pub(crate) fn put_back(&mut self, item: Item) {
        self.waits.add(item.size_bytes());
        self.waiting.push_front(item);
        self.is_turn = true;
    }

    /// A message of it is bound.
    pub(crate) fn bound(&mut self, number: ReplayNumber, place: Place) {
        if let Some(replay) = self.get_mut(number) {
            replay.bound_before = replay.bound_before.max(place.behind());
        }
    }

    /// The client is gone: what waits is read again.
    pub(crate) fn detach(&mut self) {
        let waiting = self.waiting.take();
        self.read_again(waiting);
        self.weigh();
        self.release();
    }

    /// If the queue holds far more than others could, all but one message of it are read again when that
    /// one waits no more. Whether it was so. None is being read.
    pub(crate) fn let_go_of_excess(&mut self) -> bool {
        if !self.waits.is_excessive() || self.waiting.len() < 2 {
            return false;
        }
        let given_back = self.waiting.split_off(1);
        self.read_again(given_back);
        self.weigh();
        self.awaits_room = true;
        true
    }

    fn read_again(&mut self, items: VecDeque<Item>) {
        for item in items {
            let replay = item.replay.and_then(|number| self.get_mut(number));
            if let (Some(replay), Some(place)) = (replay, item.place)
                && let ReplayAt::Place(next) = replay.at
            {
                replay.at = ReplayAt::Place(next.min(place));
            }
        }
    }

    // What is to be remembered

    /// Whether one has bound a message of QoS 2: this must be on flash as long as the replay is.
    pub(crate) fn needs_bindings(&self) -> bool {
        let none = Place::beginning_of(CommitNumber(0));
        self.iter().any(|replay| replay.bound_before > none)
    }

    /// Whether messages are to be read that come before the live ones of their subscription: so it is
    /// after a crash.
    pub(crate) fn holds_up(&self) -> bool {
        self.iter().any(|replay| {
            let has_read = |until| match replay.at {
                ReplayAt::Place(next) => next >= Place::beginning_of(until),
                _ => false,
            };
            let goes_on = |until| !has_read(until) || self.is_waiting(replay.number);
            replay.until.is_some_and(goes_on)
        })
    }

    /// Where each would go on if all were forgotten that is under way; `in_flight`: of QoS 1.
    pub(crate) fn positions(&self, in_flight: &[InFlight]) -> Vec<Replay> {
        let position = |replay: &Replay| {
            let ReplayAt::Place(next) = replay.at else {
                return replay.at;
            };
            let of_it = |number| number == Some(replay.number);
            let sent = in_flight.iter().filter(|sent| of_it(sent.replay));
            let sent = sent.filter_map(|sent| sent.place);
            let waiting = self.waiting.iter().filter(|item| of_it(item.replay));
            let waiting = waiting.filter_map(|item| item.place);
            ReplayAt::Place(sent.chain(waiting).fold(next, Place::min))
        };
        let replays = self.iter().map(|replay| Replay {
            at: position(replay),
            ..replay.clone()
        });
        replays.collect()
    }
}

impl Replay {
    /// What a message gets that was published with this QoS.
    pub(crate) fn qos(&self, published: QoS) -> QoS {
        self.options.qos.min(published)
    }
}
