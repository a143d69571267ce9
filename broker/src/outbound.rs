//! What a session is owed: the messages that wait for a place in its client's window, those in
//! flight, and where in the log the rest begins (`rules.md` 3.1, 3.2).
//!
//! ```text
//! LIVE:    log ─────────────────────────────────┤ worked off
//!          in flight │ mailbox                   └── the router pushes what comes now
//!
//! BEHIND:  log ─────────────────────────────────┤ worked off
//!          in flight │ mailbox │ next ▸ what the log is read for
//! ```
//!
//! Only messages of QoS 1 wait here; the others are sent or dropped.
//!
//! Invariants: what is before `next` was put in here or is none of the session's business, what is
//! at or behind it was not. The mailbox is in the order of the log, but for messages that are in
//! none. It never holds more bytes than it may, unless that is one message.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use mqtt::{Message, PacketId, SubscriptionIdentifier};
use storage::CommitNumber;

use crate::place::Place;
use crate::publication::size_bytes;

/// What a message in a mailbox costs beside its packet.
const ITEM_BYTES: usize = 128;

/// What a session without a client keeps of messages that are in no log.
const OFFLINE_BYTES_MAX: usize = 4_096;

/// A message for one session.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) message: Arc<Message>,
    pub(crate) expires_at: Option<Instant>,
    pub(crate) retain: bool,
    pub(crate) identifiers: Box<[SubscriptionIdentifier]>,
    /// Where it can be read again; `None` if it is in no log.
    pub(crate) place: Option<Place>,
}

impl Item {
    /// What it costs in a mailbox: at least the bytes of its packet.
    pub(crate) fn size_bytes(&self) -> usize {
        size_bytes(&self.message) + 8 * self.message.properties.user_properties.len() + ITEM_BYTES
    }
}

/// Where new messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// From the router, when they are worked off.
    Live,
    /// From the log.
    Behind,
}

/// A message that was sent and not yet acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) packet_id: PacketId,
    pub(crate) place: Option<Place>,
}

/// A message that an earlier connection sent and that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unacknowledged {
    pub(crate) place: Place,
    pub(crate) packet_id: PacketId,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outbound {
    flow: Flow,
    next: Place,
    /// The flow is not live before the log was read up to this commit: messages of it may have come
    /// when nobody was there to push them to.
    live_behind: CommitNumber,
    mailbox: VecDeque<Item>,
    mailbox_bytes: usize,
    bytes_max: usize,
    in_flight: VecDeque<InFlight>,
    /// What was in flight when the connection was lost, ascending by place: to be sent again.
    again: VecDeque<Unacknowledged>,
}

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It waits in the mailbox.
    Taken,
    /// It is none of those that are missing.
    NotWanted,
    /// The mailbox is full, and the flow is behind now: it will be read from the log.
    FellBehind,
    /// The mailbox is full, and it is in no log.
    NoRoom,
}

impl Outbound {
    /// A session that begins after `worked_off`, with a mailbox of so many bytes.
    pub(crate) fn new(worked_off: CommitNumber, bytes_max: usize) -> Self {
        Self {
            flow: Flow::Live,
            next: Place::beginning_of(worked_off.next()),
            live_behind: CommitNumber(0),
            mailbox: VecDeque::new(),
            mailbox_bytes: 0,
            bytes_max,
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
        }
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.flow == Flow::Behind
    }

    pub(crate) fn mailbox_messages(&self) -> usize {
        self.mailbox.len()
    }

    pub(crate) fn mailbox_bytes(&self) -> usize {
        self.mailbox_bytes
    }

    /// The message that is sent next.
    pub(crate) fn front(&self) -> Option<&Item> {
        self.mailbox.front()
    }

    /// Takes it out.
    pub(crate) fn pop(&mut self) -> Option<Item> {
        let item = self.mailbox.pop_front()?;
        self.mailbox_bytes -= item.size_bytes();
        if self.mailbox.is_empty() {
            // Its memory was for a burst; an idle session is to be small.
            self.mailbox = VecDeque::new();
        }
        Some(item)
    }

    /// It was sent with this identifier.
    pub(crate) fn sent(&mut self, packet_id: PacketId, place: Option<Place>) {
        self.in_flight.push_back(InFlight { packet_id, place });
    }

    /// The client has it.
    pub(crate) fn acknowledged(&mut self, packet_id: PacketId) {
        // Clients acknowledge in order, so that the search is short.
        let mut in_flight = self.in_flight.iter();
        if let Some(index) = in_flight.position(|sent| sent.packet_id == packet_id) {
            self.in_flight.remove(index);
        }
        if self.in_flight.is_empty() {
            self.in_flight = VecDeque::new();
        }
    }

    fn fits(&self, item: &Item) -> bool {
        self.mailbox.is_empty()
            || self.mailbox_bytes.saturating_add(item.size_bytes()) <= self.bytes_max
    }

    fn push(&mut self, item: Item) {
        self.mailbox_bytes += item.size_bytes();
        self.mailbox.push_back(item);
    }

    /// A message that was just worked off, or that is in no log.
    pub(crate) fn offer_live(&mut self, item: Item) -> Offered {
        let Some(place) = item.place else {
            if !self.fits(&item) {
                return Offered::NoRoom;
            }
            self.push(item);
            return Offered::Taken;
        };
        if self.flow == Flow::Behind || place < self.next {
            return Offered::NotWanted;
        }
        if !self.fits(&item) {
            self.fall_behind(place);
            return Offered::FellBehind;
        }
        self.push(item);
        Offered::Taken
    }

    /// A message that was read from the log for this session, which is behind. `false` if there is no
    /// room for it: nothing that comes after it may be offered then.
    pub(crate) fn offer_read(&mut self, item: Item, place: Place) -> bool {
        if !self.fits(&item) {
            self.stopped_at(place);
            return false;
        }
        self.push(item);
        self.read_up_to(place.behind());
        true
    }

    /// Whether what is at this place is wanted from the log.
    pub(crate) fn wants(&self, place: Place) -> bool {
        self.flow == Flow::Behind && (place >= self.next || self.is_again(place))
    }

    fn is_again(&self, place: Place) -> bool {
        self.again.front().is_some_and(|again| again.place == place)
    }

    /// Everything before `place` was read.
    pub(crate) fn read_up_to(&mut self, place: Place) {
        while self.again.front().is_some_and(|again| again.place < place) {
            self.again.pop_front();
        }
        self.next = self.next.max(place);
    }

    /// What waits and can be read again does not wait any more: it is read again when there is room.
    fn fall_behind(&mut self, place: Place) {
        self.flow = Flow::Behind;
        let mut next = place;
        self.mailbox.retain(|item| {
            if let Some(place) = item.place {
                next = next.min(place);
            }
            item.place.is_none()
        });
        self.mailbox_bytes = self.mailbox.iter().map(Item::size_bytes).sum();
        self.next = next;
    }

    fn stopped_at(&mut self, place: Place) {
        if place >= self.next {
            self.next = place;
        }
    }

    /// From which commit on the log is to be read, if the session is behind and has room.
    pub(crate) fn reads_from(&self) -> Option<CommitNumber> {
        let has_room = self.mailbox_bytes <= self.bytes_max / 2;
        (self.flow == Flow::Behind && has_room).then(|| {
            let again = self.again.front();
            again.map_or(self.next.commit, |again| again.place.commit)
        })
    }

    /// Becomes live if everything was read that was worked off, and that nobody pushed.
    pub(crate) fn catch_up(&mut self, worked_off: CommitNumber) -> bool {
        let is_behind = self.flow == Flow::Behind;
        let has_all = self.again.is_empty()
            && self.next >= Place::beginning_of(worked_off.max(self.live_behind).next());
        if is_behind && has_all {
            self.flow = Flow::Live;
        }
        is_behind && has_all
    }

    /// The client is gone. What was not acknowledged is to be sent again, what waited is to be read
    /// again; of what is in no log a little is kept. `worked_off`: up to where the router had pushed.
    /// How many messages are lost.
    pub(crate) fn detach(&mut self, worked_off: CommitNumber) -> usize {
        let next = match self.flow {
            Flow::Live => self.next.max(Place::beginning_of(worked_off.next())),
            Flow::Behind => self.next,
        };
        self.fall_behind(next);
        let (in_flight, before) = (std::mem::take(&mut self.in_flight), self.again.len());
        let sent = in_flight.len();
        let in_flight = in_flight.into_iter().filter_map(|sent| {
            let InFlight { packet_id, place } = sent;
            place.map(|place| Unacknowledged { place, packet_id })
        });
        let mut again: Vec<_> = self.again.drain(..).chain(in_flight).collect();
        again.sort_unstable();
        let mut lost = before + sent - again.len();
        self.again = again.into();
        while self.mailbox_bytes > OFFLINE_BYTES_MAX
            && let Some(item) = self.mailbox.pop_back()
        {
            self.mailbox_bytes -= item.size_bytes();
            lost += 1;
        }
        self.mailbox.shrink_to_fit();
        lost
    }

    /// A client is there again. `newest`: the newest commit that something was appended to.
    pub(crate) fn attach(&mut self, newest: CommitNumber) {
        self.flow = Flow::Behind;
        self.live_behind = newest;
    }

    /// Everything before this place is done with.
    pub(crate) fn position(&self, worked_off: CommitNumber) -> Place {
        let sent = self.in_flight.iter().filter_map(|sent| sent.place);
        let waiting = self.mailbox.iter().filter_map(|item| item.place);
        let next = match self.flow {
            Flow::Live => self.next.max(Place::beginning_of(worked_off.next())),
            Flow::Behind => self.next,
        };
        let again = self.again.iter().map(|again| again.place);
        let places = sent.chain(waiting).chain(again);
        places.fold(next, Place::min)
    }

    /// What is to be known of a session without a connection: where it goes on, and what comes again.
    pub(crate) fn rest(&self) -> (Place, impl Iterator<Item = Unacknowledged>) {
        (self.next, self.again.iter().copied())
    }

    /// The outbound side of a session as it was, without a connection.
    pub(crate) fn restored(next: Place, again: Vec<Unacknowledged>, bytes_max: usize) -> Self {
        Self {
            flow: Flow::Behind,
            next,
            again: again.into(),
            ..Self::new(CommitNumber(0), bytes_max)
        }
    }
}
