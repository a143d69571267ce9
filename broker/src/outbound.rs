//! What a session is owed: the messages that wait for a place in its client's window, those in
//! flight, and where in the log the rest begins (`rules.md` 3.1, 3.2, 3.4).
//!
//! ```text
//! LIVE:    log ─────────────────────────────────┤ worked off
//!          in flight │ bound │ mailbox           └── the router pushes what comes now
//!
//! BEHIND:  log ─────────────────────────────────┤ worked off
//!          in flight │ bound │ mailbox │ next ▸ what the log is read for
//! ```
//!
//! Messages of QoS 0 never come here, but for those of [`replays`](crate::replays). Of QoS 2, the packet
//! identifier of a message is on flash before the client hears of it ("bound"), so that it comes once, also
//! after a crash. One of QoS 1 behind it has its identifier, too, and waits for its turn: so a burst is
//! written down once, whatever the QoS of its messages.
//!
//! Invariants: what is before `next` was put in here or is none of the session's business, what is
//! at or behind it was not. The mailbox is in the order of the log, but for messages that are in
//! none. It never holds more bytes than it may ([`mailboxes`](crate::mailboxes)), unless that is one message,
//! or what has its identifier. What an earlier
//! connection sent is read and sent again before anything else is read.

mod connections;
mod of_groups;
mod reading;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use mqtt::server::InflightState;
use mqtt::{Message, PacketId, QoS, SubscriptionIdentifier};
use storage::CommitNumber;

use crate::group::GroupId;
use crate::mailboxes::Waiting;
use crate::missing::MissingReport;
use crate::place::Place;
use crate::publication::size_bytes;
use crate::rare::Rare;
use crate::replays::{ReplayNumber, Replays};

/// What a message in a mailbox costs beside its packet.
const ITEM_BYTES: usize = 128;

/// What a session without a client keeps of messages that are in no log, as long as there is room beside what
/// waits for others.
const OFFLINE_BYTES_MAX: usize = 131_072;

/// A message for one session.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) message: Arc<Message>,
    pub(crate) expires_at: Option<Instant>,
    /// 1 or 2; 0 from a replay alone.
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: Box<[SubscriptionIdentifier]>,
    /// Where it can be read again; `None` if it is in no log.
    pub(crate) place: Option<Place>,
    /// The identifier with which an earlier connection sent it.
    pub(crate) again: Option<PacketId>,
    /// The replay that has read it.
    pub(crate) replay: Option<ReplayNumber>,
    /// The group that has handed it to this session.
    pub(crate) group: Option<GroupId>,
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

/// What a scan reads for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scan {
    /// Only what an earlier connection sent.
    Again,
    /// What is at or behind `next`.
    New,
}

/// A message that was sent, or is about to be, and whose delivery is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) packet_id: PacketId,
    pub(crate) state: InflightState,
    pub(crate) place: Option<Place>,
    /// The replay that it is of: the main cursor knows nothing of it.
    pub(crate) replay: Option<ReplayNumber>,
    /// The group that it is of, likewise.
    pub(crate) group: Option<GroupId>,
}

impl InFlight {
    /// Whether the main cursor has sent it.
    fn is_main(&self) -> bool {
        self.replay.is_none() && self.group.is_none()
    }

    /// Whether the client has said that it has it.
    pub(crate) fn is_released(&self) -> bool {
        !self.is_published()
    }

    /// Whether PUBLISH is what an earlier connection sent last of it.
    fn is_published(&self) -> bool {
        matches!(
            self.state,
            InflightState::AwaitsPuback | InflightState::AwaitsPubrec
        )
    }

    pub(crate) fn is_qos2(&self) -> bool {
        self.state != InflightState::AwaitsPuback
    }
}

/// A message of QoS 2 that has its identifier, and is sent when that is on flash; or one of QoS 1 that
/// comes behind such a message and must not overtake it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Bound {
    pub(crate) packet_id: PacketId,
    pub(crate) item: Item,
    /// When that is durable; `None` before it is written.
    pub(crate) commit: Option<CommitNumber>,
}

impl Bound {
    pub(crate) fn is_unwritten(&self) -> bool {
        self.commit.is_none()
    }
}

/// See the module's documentation.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Outbound {
    flow: Flow,
    next: Place,
    /// The flow is not live before the log was read up to this commit: messages of it may have come
    /// when nobody was there to push them to.
    live_behind: CommitNumber,
    /// What an earlier connection sent: before everything in the mailbox.
    resends: Rare<VecDeque<Item>>,
    mailbox: Rare<VecDeque<Item>>,
    /// Bytes of both, and of what is bound.
    waiting: Waiting,
    /// There was no room for a message that was read: nothing is read before some waits no more.
    awaits_room: bool,
    bound: Rare<VecDeque<Bound>>,
    in_flight: VecDeque<InFlight>,
    /// Places of what is in flight since an earlier connection and was not sent again, ascending.
    again: Rare<VecDeque<(Place, PacketId)>>,
    /// What of that is not there any more.
    gone: Rare<Vec<PacketId>>,
    /// What is in flight and in no log.
    unplaced: Rare<VecDeque<(PacketId, Item)>>,
    /// Places at or behind `next` whose deliveries of QoS 2 are over: a crash had taken `next` back.
    over: Rare<Vec<Place>>,
    /// Messages of QoS 2 before it were bound, or are none of the session's business.
    bound_before: Place,
    scan: Option<Scan>,
    pub(crate) replays: Replays,
    /// What the log has no more and its client was not told, and up to where it was told.
    missing: Option<Box<MissingReport>>,
    missing_told: CommitNumber,
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
    /// A session that begins after `worked_off`.
    pub(crate) fn new(worked_off: CommitNumber, waiting: Waiting) -> Self {
        Self {
            flow: Flow::Live,
            next: Place::beginning_of(worked_off.next()),
            live_behind: CommitNumber(0),
            resends: Rare::default(),
            mailbox: Rare::default(),
            awaits_room: false,
            bound: Rare::default(),
            in_flight: VecDeque::new(),
            again: Rare::default(),
            gone: Rare::default(),
            unplaced: Rare::default(),
            over: Rare::default(),
            bound_before: Place::beginning_of(CommitNumber(0)),
            scan: None,
            replays: Replays::new(&waiting),
            waiting,
            missing: None,
            missing_told: CommitNumber(0),
        }
    }

    /// The outbound side of a session as it was, without a connection.
    pub(crate) fn restored(
        next: Place,
        in_flight: Vec<InFlight>,
        bound_before: Place,
        waiting: Waiting,
    ) -> Self {
        Self {
            flow: Flow::Behind,
            next,
            in_flight: in_flight.into(),
            // What is in flight may lie before `next`, and delivery go on there after another crash.
            bound_before: bound_before.max(next),
            ..Self::new(CommitNumber(0), waiting)
        }
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.flow == Flow::Behind
    }

    /// Whether more is to come than what is under way, before that is under way no more.
    pub(crate) fn has_more(&self) -> bool {
        let is_read_for = self.is_behind() && self.waiting.is_half_empty();
        is_read_for || self.front().is_some()
    }

    pub(crate) fn mailbox_messages(&self) -> usize {
        let waiting = self.mailbox.len() + self.replays.waiting_messages();
        self.resends.len() + waiting + self.bound.len()
    }

    pub(crate) fn mailbox_bytes(&self) -> usize {
        self.waiting.bytes() + self.replays.waiting_bytes()
    }

    /// The message that is sent next.
    pub(crate) fn front(&self) -> Option<&Item> {
        let replayed = self.replays.front(!self.mailbox.is_empty());
        let others = replayed.or_else(|| self.mailbox.front());
        self.resends.front().or(others)
    }

    /// Takes it out.
    pub(crate) fn pop(&mut self) -> Option<Item> {
        if self.resends.is_empty()
            && let Some(item) = self.replays.pop(!self.mailbox.is_empty())
        {
            return Some(item);
        }
        let again = self.resends.pop_front();
        let item = again.or_else(|| self.mailbox.pop_front())?;
        self.replays.wait_no_more();
        self.waiting.remove(item.size_bytes());
        self.awaits_room = false;
        if self.mailbox.is_empty() {
            // Its memory was for a burst; an idle session is to be small.
            self.mailbox.free();
        }
        Some(item)
    }

    /// Whether this message, which is in no log, waits or is in flight.
    pub(crate) fn holds(&self, message: &Arc<Message>) -> bool {
        let unplaced = self.unplaced.iter().map(|(_, item)| item);
        let mut items = unplaced.chain(self.mailbox.iter());
        items.any(|item| Arc::ptr_eq(&item.message, message))
    }

    /// Puts back what was taken out last: there was no room for it.
    pub(crate) fn put_back(&mut self, item: Item) {
        if item.replay.is_some() && item.again.is_none() {
            return self.replays.put_back(item);
        }
        self.waiting.add(item.size_bytes());
        match item.again {
            Some(_) => self.resends.push_front(item),
            None => self.mailbox.push_front(item),
        }
    }

    /// It was sent, or is bound, with this identifier.
    pub(crate) fn sent(&mut self, packet_id: PacketId, item: &Item) {
        let state = match item.qos {
            QoS::ExactlyOnce => InflightState::AwaitsPubrec,
            _ => InflightState::AwaitsPuback,
        };
        if let (InflightState::AwaitsPubrec, Some(place)) = (state, item.place) {
            match (item.replay, item.group) {
                (Some(replay), _) => self.replays.bound(replay, place),
                (None, Some(_)) => {}
                (None, None) => self.bound_before = self.bound_before.max(place.behind()),
            }
        }
        if item.place.is_none() {
            self.unplaced.push_back((packet_id, item.clone()));
        }
        self.in_flight.push_back(InFlight {
            packet_id,
            state,
            place: item.place,
            replay: item.replay,
            group: item.group,
        });
    }

    /// It has its identifier, and waits for flash or behind what does.
    pub(crate) fn bind(&mut self, packet_id: PacketId, item: Item, commit: Option<CommitNumber>) {
        self.sent(packet_id, &item);
        self.waiting.add(item.size_bytes());
        self.bound.push_back(Bound {
            packet_id,
            item,
            commit,
        });
    }

    /// What is bound, in the order in which it is sent.
    pub(crate) fn bound(&self) -> &VecDeque<Bound> {
        &self.bound
    }

    /// Takes out what is bound and waits longest: it was sent.
    pub(crate) fn pop_bound(&mut self) -> Option<Bound> {
        let bound = self.bound.pop_front()?;
        self.waiting.remove(bound.item.size_bytes());
        self.awaits_room = false;
        if self.bound.is_empty() {
            self.bound.free();
        }
        Some(bound)
    }

    /// All that is bound is durable with this commit. Whether something was not written down before.
    pub(crate) fn bound_written(&mut self, commit: CommitNumber) -> bool {
        let mut is_new = false;
        for bound in self.bound.iter_mut() {
            is_new |= bound.is_unwritten();
            bound.commit.get_or_insert(commit);
        }
        is_new
    }

    /// The client has a message of QoS 2 (PUBREC). `false` if there is none with this identifier.
    pub(crate) fn received(&mut self, packet_id: PacketId) -> bool {
        let mut in_flight = self.in_flight.iter_mut();
        let found = in_flight.find(|sent| sent.packet_id == packet_id);
        let is_there = found.map(|sent| sent.state = InflightState::OwesPubrel);
        self.again.retain(|(_, again)| *again != packet_id);
        self.unplaced.retain(|(unplaced, _)| *unplaced != packet_id);
        is_there.is_some()
    }

    /// Its delivery is over. Whether it was one of QoS 2.
    pub(crate) fn acknowledged(&mut self, packet_id: PacketId) -> bool {
        // Clients acknowledge in order, so that the search is short.
        let mut in_flight = self.in_flight.iter();
        let index = in_flight.position(|sent| sent.packet_id == packet_id);
        let over = index.and_then(|index| self.in_flight.remove(index));
        self.again.retain(|(_, again)| *again != packet_id);
        self.unplaced.retain(|(unplaced, _)| *unplaced != packet_id);
        if self.in_flight.is_empty() {
            self.in_flight = VecDeque::new();
        }
        let Some(over) = over.filter(InFlight::is_qos2) else {
            return false;
        };
        if let (Some(place), true) = (over.place, over.is_main())
            && self.flow == Flow::Behind
            && place >= self.next
        {
            self.over.push(place);
        }
        true
    }

    /// It cannot be sent again: of QoS 1 it is over, of QoS 2 the client is asked to let it go.
    pub(crate) fn forgotten(&mut self, packet_id: PacketId) {
        let mut in_flight = self.in_flight.iter_mut();
        let found = in_flight.find(|sent| sent.packet_id == packet_id);
        match found.filter(|sent| sent.is_qos2()) {
            Some(sent) => sent.state = InflightState::AwaitsPubcomp,
            None => {
                self.acknowledged(packet_id);
            }
        }
    }

    /// Deliveries of QoS 2 that are not over, and the place before which all are known.
    pub(crate) fn bindings(&self) -> (Place, impl Iterator<Item = InFlight>) {
        let of_qos2 = self.in_flight.iter().copied().filter(InFlight::is_qos2);
        (self.bound_before, of_qos2)
    }

    /// Whether a session whose position is here needs nothing on flash about deliveries of QoS 2.
    pub(crate) fn needs_no_bindings(&self, position: Place) -> bool {
        position >= self.bound_before
            && self.bindings().1.next().is_none()
            && !self.replays.needs_bindings()
    }

    /// Deliveries of QoS 1 that are not over, and where delivery goes on.
    pub(crate) fn rest(&self) -> (Place, impl Iterator<Item = InFlight>) {
        let of_qos1 = self
            .in_flight
            .iter()
            .copied()
            .filter(|sent| !sent.is_qos2());
        (self.next, of_qos1)
    }

    fn fits(&self, item: &Item) -> bool {
        self.waiting.fits(item.size_bytes())
    }

    /// Whether so many bytes more would be too many if nothing waited for others.
    pub(crate) fn exceeds_its_own_bound(&self, bytes: usize) -> bool {
        self.waiting.exceeds_its_own_bound(bytes)
    }

    fn push(&mut self, item: Item) {
        self.waiting.add(item.size_bytes());
        self.mailbox.push_back(item);
    }

    /// A message that was just worked off, or that is in no log.
    pub(crate) fn offer_live(&mut self, item: Item) -> Offered {
        let Some(place) = item.place else {
            if !self.waiting.fits_what_is_in_no_log(item.size_bytes()) {
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

    fn weigh(&mut self) {
        let items = self.resends.iter().chain(self.mailbox.iter());
        let items = items.chain(self.bound.iter().map(|bound| &bound.item));
        self.waiting.set(items.map(Item::size_bytes).sum());
        self.awaits_room = false;
    }

    /// What an earlier connection sent was sent again: replays may go on.
    pub(crate) fn may_replay(&self) -> bool {
        self.again.is_empty() && self.resends.is_empty()
    }

    /// Deliveries of QoS 1 of replays that are not over.
    pub(crate) fn replayed_qos1(&self) -> Vec<InFlight> {
        let of_qos1 = self.rest().1;
        of_qos1.filter(|sent| sent.replay.is_some()).collect()
    }
}

#[cfg(test)]
mod tests;
