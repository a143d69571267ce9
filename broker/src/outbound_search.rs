//! Every interleaving of a few messages, a router, a client that comes and goes, checkpoints and
//! crashes: an exhaustive search over the real [`Outbound`].
//!
//! What is around it (router, scans, records, journal, connection, client) is written again here as small as can
//! be, step by step as it can happen: between any two steps anything else may. In each state that is
//! found the client must not have got what it must not; and when from there on nothing more
//! goes wrong, it must get everything, QoS 2 once, in order for each QoS.
//!
//! All orders of steps are far too many. Some are usual; all orders are searched that deviate from
//! them a few times;
//! `TIDEGATE_SEARCH=4 cargo test --release -p broker --lib outbound_search` takes more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;
use std::sync::Arc;

use mqtt::server::{InflightEntry, InflightState};
use mqtt::{Message, MessageProperties, PacketId, QoS};
use storage::{CommitNumber, LogId, LogPartition, Offset, PartitionId};

use crate::outbound::{Bound, InFlight, Item, Offered, Outbound};
use crate::place::Place;

/// What is searched.
#[derive(Clone, Debug)]
struct Bounds {
    /// The QoS of the messages that are published.
    messages: &'static [u8],
    /// Messages that wait in the mailbox.
    mailbox: usize,
    /// Messages that the client takes before it answers.
    window: usize,
    disconnects: u8,
    crashes: u8,
    /// Somebody else wants the messages, too, so that they are pushed in any case.
    has_others: bool,
    /// Which of the [`ORDERS`].
    order: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// A message goes into the open commit.
    Publish,
    Commit,
    /// The router works off the next durable commit, and what waited for it.
    WorkOff,
    /// What the log is read for begins, goes on by a commit, or ends.
    Scan,
    Connect,
    Disconnect,
    /// The client takes what was sent.
    Receive,
    /// The server takes the oldest answer.
    Answer,
    /// The server takes the newest answer.
    AnswerLast,
    Checkpoint,
    Crash,
}

/// What can be done is done in one of these orders, as long as nothing deviates from it.
const ORDERS: [[Step; 7]; 3] = [
    [
        Step::WorkOff,
        Step::Scan,
        Step::Receive,
        Step::Answer,
        Step::Commit,
        Step::Connect,
        Step::Publish,
    ],
    // The router is slow.
    [
        Step::Scan,
        Step::Receive,
        Step::Answer,
        Step::Commit,
        Step::Connect,
        Step::Publish,
        Step::WorkOff,
    ],
    // The client is slow.
    [
        Step::Connect,
        Step::Publish,
        Step::Commit,
        Step::WorkOff,
        Step::Scan,
        Step::Receive,
        Step::Answer,
    ],
];

/// What goes against any order.
const EVENTS: [Step; 4] = [
    Step::AnswerLast,
    Step::Checkpoint,
    Step::Disconnect,
    Step::Crash,
];

/// What stands in the log of one message.
#[derive(Clone, Copy, Debug)]
struct Logged {
    place: Place,
    qos: QoS,
    /// Somebody subscribed when it was published.
    is_pushed: bool,
}

/// A chunk that was read.
#[derive(Clone, Debug)]
struct Chunk {
    from: u64,
    next: u64,
    /// The commit that is handed out next.
    at: u64,
    /// The connection that takes part, when it has begun.
    reader: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Reserved,
    Qos1,
    Qos2,
    /// PUBREC came, PUBREL was not sent.
    Received,
    Released,
    /// From an earlier connection, not sent on this one.
    HandedOver(InflightState),
}

#[derive(Clone, Debug)]
enum Record {
    Open {
        checkpoint: u64,
        next: Place,
    },
    Ended {
        next: Place,
        in_flight: Vec<InFlight>,
        deliveries: Option<(Place, Vec<InFlight>)>,
    },
}

/// What the open commit changes on flash: the last word on each.
#[derive(Clone, Debug, Default)]
struct Writes {
    record: Option<Record>,
    entry: Option<Option<(Place, Vec<InFlight>)>>,
    checkpoint: Option<(u64, u64, Option<Place>)>,
}

impl Writes {
    fn is_empty(&self) -> bool {
        self.record.is_none() && self.entry.is_none() && self.checkpoint.is_none()
    }
}

#[derive(Clone, Debug)]
struct Flash {
    record: Record,
    entry: Option<(Place, Vec<InFlight>)>,
    /// Number, commit, exception.
    checkpoint: (u64, u64, Option<Place>),
}

#[derive(Clone, Copy, Debug)]
enum ToClient {
    Publish {
        id: PacketId,
        qos: QoS,
        place: Place,
        dup: bool,
    },
    Pubrel(PacketId),
}

#[derive(Clone, Copy, Debug)]
enum ToServer {
    Puback(PacketId),
    Pubrec(PacketId),
    Pubcomp(PacketId),
}

#[derive(Clone, Debug, Default)]
struct Client {
    /// When it came first: after so many crashes.
    seen: BTreeMap<Place, u8>,
    last: BTreeMap<u8, Place>,
    /// Messages of QoS 2 that were not released.
    held: BTreeMap<u16, Place>,
    inbox: Vec<ToClient>,
    answers: Vec<ToServer>,
}

#[derive(Clone, Debug)]
struct World {
    log: Vec<Logged>,
    durable: u64,
    worked_off: u64,
    outbound: Outbound,
    is_connected: bool,
    connection: u32,
    scan: Option<Chunk>,
    machine: Vec<(PacketId, Sent)>,
    has_entry: bool,
    bindings_commit: u64,
    bindings_changed: bool,
    writes: Writes,
    /// PUBRELs that wait for a commit.
    releases: Vec<(u64, u32, PacketId)>,
    flash: Flash,
    checkpoint: u64,
    client: Client,
    published: usize,
    disconnects: u8,
    crashes: u8,
}

fn place(commit: u64, offset: usize) -> Place {
    Place {
        commit: CommitNumber(commit),
        partition: LogPartition {
            log: LogId(1),
            partition: PartitionId(0),
        },
        offset: Offset(offset as u64),
    }
}

fn item(logged: Logged) -> Item {
    let message = Message {
        topic: "a".parse().unwrap(),
        payload: bytes::Bytes::new(),
        qos: logged.qos,
        retain: false,
        properties: MessageProperties::default(),
    };
    Item {
        message: Arc::new(message),
        expires_at: None,
        qos: logged.qos,
        retain: false,
        identifiers: Box::new([]),
        place: Some(logged.place),
        again: None,
        replay: None,
        group: None,
    }
}

impl World {
    fn new(bounds: &Bounds) -> Self {
        let next = Place::beginning_of(CommitNumber(1));
        let record = Record::Ended {
            next,
            in_flight: Vec::new(),
            deliveries: None,
        };
        let mut world = Self {
            log: Vec::new(),
            durable: 0,
            worked_off: 0,
            outbound: Outbound::new(CommitNumber(0), 1),
            is_connected: false,
            connection: 0,
            scan: None,
            machine: Vec::new(),
            has_entry: false,
            bindings_commit: 0,
            bindings_changed: false,
            writes: Writes::default(),
            releases: Vec::new(),
            flash: Flash {
                record,
                entry: None,
                checkpoint: (0, 0, None),
            },
            checkpoint: 0,
            client: Client::default(),
            published: 0,
            disconnects: 0,
            crashes: 0,
        };
        world.restore(bounds);
        world
    }

    /// Stands for all that matters for what can come.
    fn key(&self, bounds: &Bounds) -> u64 {
        let flash = (self.crashes < bounds.crashes).then_some((&self.flash, &self.writes));
        let releases = self
            .releases
            .iter()
            .filter(|(_, of, _)| *of == self.connection);
        let releases: Vec<_> = releases.map(|(commit, _, id)| (commit, id)).collect();
        let reader = self
            .scan
            .as_ref()
            .map(|scan| scan.reader == Some(self.connection));
        let state = (
            (&self.log, self.durable, self.worked_off, &self.outbound),
            (self.is_connected, &self.scan, reader, &self.machine),
            (
                self.has_entry,
                self.bindings_changed,
                self.checkpoint,
                &self.client,
            ),
            (self.bindings_commit.max(self.durable), releases, flash),
            (
                self.published,
                self.disconnects,
                self.crashes,
                self.writes.is_empty(),
            ),
        );
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        hasher.hash_one(format!("{state:?}"))
    }

    /// The number of the commit that is being filled.
    fn open(&self) -> u64 {
        self.durable + 1
    }

    fn is_open_empty(&self) -> bool {
        let last = self.log.last();
        self.writes.is_empty() && last.is_none_or(|last| last.place.commit.0 <= self.durable)
    }

    fn newest(&self) -> u64 {
        self.log.last().map_or(0, |last| last.place.commit.0)
    }

    fn may(&self, step: Step, bounds: &Bounds) -> bool {
        match step {
            Step::Publish => self.published < bounds.messages.len(),
            Step::Commit => !self.is_open_empty(),
            Step::WorkOff => {
                let is_due = |(commit, ..): &(u64, u32, PacketId)| *commit <= self.durable;
                self.worked_off < self.durable
                    || self.releases.iter().any(is_due)
                    || self.has_bound_to_send()
            }
            Step::Scan => {
                self.scan.is_some()
                    || self.is_connected
                        && self.outbound.is_behind()
                        && (self.can_catch_up() || self.reads_from().is_some())
            }
            Step::Connect => !self.is_connected,
            Step::Disconnect => self.is_connected && self.disconnects < bounds.disconnects,
            Step::Receive => !self.client.inbox.is_empty(),
            Step::Answer => !self.client.answers.is_empty(),
            Step::AnswerLast => self.client.answers.len() > 1,
            Step::Checkpoint => self.is_connected && self.checkpoint < 1,
            Step::Crash => self.crashes < bounds.crashes,
        }
    }

    fn has_bound_to_send(&self) -> bool {
        let is_durable = |bound: &Bound| bound.commit.is_some_and(|at| at.0 <= self.durable);
        let resends = self
            .outbound
            .front()
            .is_some_and(|item| item.again.is_some());
        self.is_connected
            && (self.outbound.bound.front().is_some_and(is_durable)
                || resends && self.bindings_commit <= self.durable)
    }

    fn can_catch_up(&self) -> bool {
        self.outbound
            .clone()
            .catch_up(CommitNumber(self.worked_off))
    }

    fn reads_from(&self) -> Option<u64> {
        let from = self.outbound.reads_from()?.0;
        (from <= self.durable).then_some(from)
    }

    fn take(&mut self, step: Step, bounds: &Bounds) {
        match step {
            Step::Publish => self.publish(bounds),
            Step::Commit => self.commit(),
            Step::WorkOff => self.work_off(bounds),
            Step::Scan => self.scan(bounds),
            Step::Connect => self.connect(bounds),
            Step::Disconnect => self.disconnect(),
            Step::Receive => self.receive(),
            Step::Answer => {
                let answer = self.client.answers.remove(0);
                self.answer(bounds, answer);
            }
            Step::AnswerLast => {
                let answer = self.client.answers.pop().unwrap();
                self.answer(bounds, answer);
            }
            Step::Checkpoint => self.write_checkpoint(),
            Step::Crash => self.crash(bounds),
        }
    }

    fn publish(&mut self, bounds: &Bounds) {
        let qos = QoS::from_bits(bounds.messages[self.published]).unwrap();
        self.log.push(Logged {
            place: place(self.open(), self.published),
            qos,
            is_pushed: bounds.has_others || self.is_connected,
        });
        self.published += 1;
    }

    fn commit(&mut self) {
        self.durable += 1;
        let writes = std::mem::take(&mut self.writes);
        let flash = &mut self.flash;
        flash.record = writes.record.unwrap_or_else(|| flash.record.clone());
        flash.entry = writes.entry.unwrap_or_else(|| flash.entry.clone());
        flash.checkpoint = writes.checkpoint.unwrap_or(flash.checkpoint);
    }

    fn work_off(&mut self, bounds: &Bounds) {
        if self.worked_off < self.durable {
            let commit = self.worked_off + 1;
            for logged in self.of_commit(commit) {
                if logged.is_pushed && self.is_connected {
                    let offered = self.outbound.offer_live(item(logged));
                    assert!(offered != Offered::NoRoom);
                    self.pump(bounds);
                }
            }
            self.worked_off = commit;
            if commit < self.durable {
                return;
            }
        }
        let durable = self.durable;
        let (due, later) = (self.releases.drain(..)).partition(|(commit, ..)| *commit <= durable);
        self.releases = later;
        let due: Vec<(u64, u32, PacketId)> = due;
        for (_, connection, id) in due {
            if connection == self.connection && self.is_connected {
                self.release(id);
            }
        }
        if self.is_connected {
            self.pump(bounds);
        }
    }

    fn of_commit(&self, commit: u64) -> Vec<Logged> {
        let of_it = |logged: &&Logged| logged.place.commit.0 == commit;
        self.log.iter().filter(of_it).copied().collect()
    }

    fn scan(&mut self, bounds: &Bounds) {
        let Some(mut chunk) = self.scan.take() else {
            if self.outbound.catch_up(CommitNumber(self.worked_off)) {
                return;
            }
            if let Some(from) = self.reads_from() {
                self.scan = Some(Chunk {
                    from,
                    next: self.durable.min(from + 1) + 1,
                    at: from,
                    reader: None,
                });
            }
            return;
        };
        if chunk.at == chunk.from {
            let takes_part = self.is_connected
                && (self.outbound.reads_from())
                    .is_some_and(|at| chunk.from <= at.0 && at.0 < chunk.next);
            if takes_part {
                self.outbound.begin_scan();
                chunk.reader = Some(self.connection);
            }
        }
        let takes_part = chunk.reader == Some(self.connection) && self.is_connected;
        if chunk.at == chunk.next {
            if takes_part {
                let end = Place::beginning_of(CommitNumber(chunk.next));
                let gone = self.outbound.end_scan(end);
                assert_eq!(gone, [], "everything is in the log");
            }
            return;
        }
        for logged in self.of_commit(chunk.at) {
            if !takes_part {
                break;
            }
            if self.outbound.wants_again(logged.place)
                || self.outbound.wants(logged.place, logged.qos)
            {
                self.outbound.offer_read(item(logged), logged.place);
                self.pump(bounds);
            }
        }
        chunk.at += 1;
        self.scan = Some(chunk);
    }

    // The connection

    fn free_places(&self, bounds: &Bounds) -> usize {
        let is_unsent = |(_, sent): &(PacketId, Sent)| matches!(sent, Sent::HandedOver(_));
        match self.machine.iter().any(is_unsent) {
            true => 0,
            false => bounds.window.saturating_sub(self.machine.len()),
        }
    }

    fn free_id(&self) -> PacketId {
        let is_free = |id: &PacketId| self.machine.iter().all(|(used, _)| used != id);
        (1..=u16::MAX)
            .filter_map(PacketId::new)
            .find(is_free)
            .unwrap()
    }

    fn pump(&mut self, bounds: &Bounds) {
        self.send_bound();
        self.send_mailbox(bounds);
        self.send_bound();
        if self
            .outbound
            .bound
            .iter()
            .any(|bound| bound.commit.is_none())
        {
            let commit = self.put_bindings(true);
            for bound in &mut self.outbound.bound {
                bound.commit.get_or_insert(CommitNumber(commit));
            }
        }
    }

    fn send_bound(&mut self) {
        while let Some(bound) = self.outbound.bound.front()
            && bound.commit.is_some_and(|at| at.0 <= self.durable)
        {
            let (id, place) = (bound.packet_id, bound.item.place.unwrap());
            self.outbound.bound.pop_front();
            self.set(id, Sent::Qos2);
            self.send(id, QoS::ExactlyOnce, place, false);
        }
    }

    fn send_mailbox(&mut self, bounds: &Bounds) {
        while let Some(front) = self.outbound.front() {
            let is_next = front.qos == QoS::ExactlyOnce || self.outbound.bound.is_empty();
            let may_be_sent = match front.again {
                Some(_) => self.bindings_commit <= self.durable,
                None => self.free_places(bounds) > 0 && is_next,
            };
            if !may_be_sent {
                return;
            }
            let item = self.outbound.pop().unwrap();
            let place = item.place.unwrap();
            match (item.again, item.qos) {
                (Some(id), qos) => {
                    let found = self.machine.iter().find(|(known, _)| *known == id);
                    if let Some((_, Sent::HandedOver(state))) = found {
                        let is_qos2 = *state == InflightState::AwaitsPubrec;
                        assert_eq!(is_qos2, qos == QoS::ExactlyOnce);
                        self.set(id, if is_qos2 { Sent::Qos2 } else { Sent::Qos1 });
                        self.send(id, qos, place, true);
                    }
                }
                (None, QoS::ExactlyOnce) => {
                    let packet_id = self.free_id();
                    self.machine.push((packet_id, Sent::Reserved));
                    self.outbound.sent(packet_id, &item);
                    let commit = None;
                    self.outbound.bound.push_back(Bound {
                        packet_id,
                        item,
                        commit,
                    });
                }
                (None, qos) => {
                    let packet_id = self.free_id();
                    self.machine.push((packet_id, Sent::Qos1));
                    self.outbound.sent(packet_id, &item);
                    self.send(packet_id, qos, place, false);
                }
            }
        }
    }

    fn set(&mut self, id: PacketId, sent: Sent) {
        let found = self.machine.iter_mut().find(|(known, _)| *known == id);
        found.unwrap().1 = sent;
    }

    fn send(&mut self, id: PacketId, qos: QoS, place: Place, dup: bool) {
        let publish = ToClient::Publish {
            id,
            qos,
            place,
            dup,
        };
        self.client.inbox.push(publish);
    }

    fn release(&mut self, id: PacketId) {
        self.set(id, Sent::Released);
        self.client.inbox.push(ToClient::Pubrel(id));
    }

    fn answer(&mut self, bounds: &Bounds, answer: ToServer) {
        match answer {
            ToServer::Puback(id) | ToServer::Pubcomp(id) => self.over(id),
            ToServer::Pubrec(id) => {
                self.set(id, Sent::Received);
                assert!(self.outbound.received(id));
                let commit = self.put_bindings(true);
                self.releases.push((commit, self.connection, id));
            }
        }
        self.pump(bounds);
    }

    fn over(&mut self, id: PacketId) {
        self.machine.retain(|(known, _)| *known != id);
        self.bindings_changed |= self.outbound.acknowledged(id);
    }

    fn connect(&mut self, bounds: &Bounds) {
        self.is_connected = true;
        self.connection += 1;
        let left = self.outbound.left();
        let handed_over = left.iter().map(|entry| match entry.state {
            InflightState::OwesPubrel => (entry.packet_id, Sent::Received),
            InflightState::AwaitsPubcomp => (entry.packet_id, Sent::Released),
            state => (entry.packet_id, Sent::HandedOver(state)),
        });
        self.machine = handed_over.collect();
        self.write_session();
        let gone = self.outbound.attach(CommitNumber(self.newest()));
        assert_eq!(gone, []);
        let ids = |state| {
            let entries = left.iter().filter(move |entry| entry.state == state);
            entries.map(|entry| entry.packet_id).collect::<Vec<_>>()
        };
        for id in ids(InflightState::AwaitsPubcomp) {
            self.release(id);
        }
        let owed = ids(InflightState::OwesPubrel);
        if !owed.is_empty() {
            let commit = self.put_bindings(true);
            let connection = self.connection;
            let owed = owed.into_iter().map(|id| (commit, connection, id));
            self.releases.extend(owed);
        }
        self.pump(bounds);
    }

    fn disconnect(&mut self) {
        self.disconnects += 1;
        self.is_connected = false;
        self.client.inbox.clear();
        self.client.answers.clear();
        let left = self
            .machine
            .drain(..)
            .map(|(packet_id, sent)| InflightEntry {
                packet_id,
                state: match sent {
                    Sent::Qos1 => InflightState::AwaitsPuback,
                    Sent::Reserved | Sent::Qos2 => InflightState::AwaitsPubrec,
                    Sent::Received => InflightState::OwesPubrel,
                    Sent::Released => InflightState::AwaitsPubcomp,
                    Sent::HandedOver(state) => state,
                },
            });
        let left: Vec<_> = left.collect();
        let lost = self.outbound.detach(CommitNumber(self.worked_off), &left);
        assert_eq!(lost, 0);
        self.write_session();
    }

    // Flash

    fn bindings(&self) -> (Place, Vec<InFlight>) {
        let (before, bindings) = self.outbound.bindings();
        (before, bindings.collect())
    }

    fn put_bindings(&mut self, somebody_waits: bool) -> u64 {
        let bindings = self.bindings();
        self.writes.entry = Some(Some(bindings));
        self.has_entry = true;
        self.bindings_changed = false;
        if somebody_waits {
            self.bindings_commit = self.open();
        }
        self.open()
    }

    fn write_session(&mut self) {
        let mut writes_bindings = false;
        let mut needs_entry = false;
        let record = if self.is_connected {
            let next = self.outbound.position(CommitNumber(self.worked_off));
            needs_entry = !self.outbound.needs_no_bindings(next);
            let checkpoint = self.checkpoint;
            Record::Open { checkpoint, next }
        } else {
            let (next, in_flight) = self.outbound.rest();
            let in_flight = in_flight.collect();
            let deliveries = (!self.outbound.needs_no_bindings(next)).then(|| self.bindings());
            writes_bindings = deliveries.is_some();
            Record::Ended {
                next,
                in_flight,
                deliveries,
            }
        };
        self.writes.record = Some(record);
        let had_entry = std::mem::replace(&mut self.has_entry, needs_entry);
        if needs_entry && !had_entry {
            let bindings = self.bindings();
            self.writes.entry = Some(Some(bindings));
            writes_bindings = true;
        } else if had_entry && !needs_entry {
            self.writes.entry = Some(None);
        }
        if writes_bindings {
            self.bindings_commit = self.open();
        }
    }

    fn write_checkpoint(&mut self) {
        if self.bindings_changed {
            self.put_bindings(false);
        }
        let worked_off = CommitNumber(self.worked_off);
        let position = self.outbound.position(worked_off);
        if self.has_entry && self.outbound.needs_no_bindings(position) {
            self.writes.entry = Some(None);
            self.has_entry = false;
        }
        let is_exception = position < Place::beginning_of(worked_off.next());
        self.checkpoint += 1;
        let exception = is_exception.then_some(position);
        self.writes.checkpoint = Some((self.checkpoint, self.worked_off, exception));
    }

    fn crash(&mut self, bounds: &Bounds) {
        self.crashes += 1;
        let durable = self.durable;
        self.log.retain(|logged| logged.place.commit.0 <= durable);
        self.client.inbox.clear();
        self.client.answers.clear();
        self.restore(bounds);
    }

    fn restore(&mut self, bounds: &Bounds) {
        self.worked_off = self.durable;
        self.is_connected = false;
        self.scan = None;
        self.machine.clear();
        self.writes = Writes::default();
        self.releases.clear();
        self.bindings_commit = 0;
        self.bindings_changed = false;
        let (number, commit, exception) = self.flash.checkpoint;
        self.checkpoint = number;
        let everybody = Place::beginning_of(CommitNumber(commit).next());
        let record = self.flash.record.clone();
        let (next, mut in_flight, of_record, was_open) = match record {
            Record::Open { checkpoint, next } if checkpoint < number => {
                let next = next.max(exception.unwrap_or(everybody));
                (next, Vec::new(), None, true)
            }
            Record::Open { next, .. } => (next, Vec::new(), None, true),
            Record::Ended {
                next,
                in_flight,
                deliveries,
            } => (next, in_flight, deliveries, false),
        };
        self.has_entry = self.flash.entry.is_some();
        let deliveries = self.flash.entry.clone().or(of_record);
        let beginning = Place::beginning_of(CommitNumber(0));
        let (before, bindings) = deliveries.unwrap_or((beginning, Vec::new()));
        in_flight.extend(bindings.into_iter().map(|binding| InFlight {
            state: match binding.is_released() {
                true => InflightState::AwaitsPubcomp,
                false => InflightState::AwaitsPubrec,
            },
            ..binding
        }));
        let bytes_max = bounds.mailbox * item_bytes();
        self.outbound = Outbound::restored(next, in_flight, before, bytes_max);
        if was_open {
            self.write_session();
        }
    }

    // The client

    fn receive(&mut self) {
        for packet in std::mem::take(&mut self.client.inbox) {
            match packet {
                ToClient::Publish {
                    id,
                    qos,
                    place,
                    dup,
                } => self.take_publish(id, qos, place, dup),
                ToClient::Pubrel(id) => {
                    self.client.held.remove(&id.get());
                    self.client.answers.push(ToServer::Pubcomp(id));
                }
            }
        }
    }

    fn take_publish(&mut self, id: PacketId, qos: QoS, place: Place, dup: bool) {
        let crashes = self.crashes;
        let client = &mut self.client;
        let is_qos2 = qos == QoS::ExactlyOnce;
        let answer = if is_qos2 {
            ToServer::Pubrec(id)
        } else {
            ToServer::Puback(id)
        };
        client.answers.push(answer);
        if is_qos2 && let Some(held) = client.held.get(&id.get()) {
            assert_eq!(*held, place, "identifier {id:?} is in use");
            assert!(dup, "{id:?} comes again without DUP");
            return;
        }
        match client.seen.get(&place) {
            Some(_) if is_qos2 => panic!("{place:?} comes twice"),
            Some(at) => assert!(dup || *at < crashes, "{place:?} comes again"),
            None => {
                let before = client.last.insert(qos as u8, place);
                assert!(before < Some(place), "{place:?} comes behind {before:?}");
                client.seen.insert(place, crashes);
            }
        }
        if is_qos2 {
            client.held.insert(id.get(), place);
        }
    }

    /// Nothing goes wrong any more: the client gets what is missing.
    fn finish(mut self, bounds: &Bounds) {
        for _ in 0..1_000 {
            let mut steps = ORDERS[bounds.order].into_iter();
            let next = steps.find(|step| *step != Step::Publish && self.may(*step, bounds));
            let Some(step) = next else {
                break;
            };
            self.take(step, bounds);
        }
        let seen: BTreeSet<Place> = self.client.seen.keys().copied().collect();
        let log: BTreeSet<Place> = self.log.iter().map(|logged| logged.place).collect();
        assert!(log.is_subset(&seen), "of {log:?} came {seen:?}");
        assert_eq!(self.machine, [], "all flows end");
        assert!(self.client.held.is_empty());
    }
}

fn item_bytes() -> usize {
    let logged = Logged {
        place: place(1, 0),
        qos: QoS::AtLeastOnce,
        is_pushed: true,
    };
    item(logged).size_bytes()
}

/// The steps to a state, the last one first.
struct Path {
    step: Step,
    before: Option<Rc<Self>>,
}

/// Goes through all states that are found when at most so many steps are others than the first one that is
/// possible; how many there are.
fn search(bounds: &Bounds, deviations: u8) -> usize {
    let mut known: HashMap<u64, u8> = HashMap::new();
    let mut ahead: Vec<(World, u8, Option<Rc<Path>>)> =
        vec![(World::new(bounds), deviations, None)];
    while let Some((world, left, path)) = ahead.pop() {
        let steps = ORDERS[bounds.order].into_iter().chain(EVENTS);
        let steps = steps.filter(|step| world.may(*step, bounds));
        for (index, step) in steps.enumerate() {
            let is_first = index == 0 && !EVENTS.contains(&step);
            let Some(left) = left.checked_sub(u8::from(!is_first)) else {
                break;
            };
            let before = path.clone();
            let path = Rc::new(Path { step, before });
            let told = Told {
                bounds,
                path: &path,
            };
            let mut next = world.clone();
            next.take(step, bounds);
            let key = next.key(bounds);
            let is_known = known.get(&key).is_some_and(|before| *before >= left);
            if !is_known {
                if known.insert(key, left).is_none() {
                    next.clone().finish(bounds);
                }
                ahead.push((next, left, Some(Rc::clone(&path))));
            }
            drop(told);
        }
    }
    known.len()
}

/// Says on a failure how it was come by.
struct Told<'b> {
    bounds: &'b Bounds,
    path: &'b Rc<Path>,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let steps = std::iter::successors(Some(self.path), |path| path.before.as_ref());
            let mut steps: Vec<_> = steps.map(|path| path.step).collect();
            steps.reverse();
            eprintln!("{:?}: {steps:?}", self.bounds);
        }
    }
}

/// So many deviations from the usual order of steps are tried, more with `TIDEGATE_SEARCH`.
fn deviations() -> u8 {
    let asked = std::env::var("TIDEGATE_SEARCH").ok();
    asked.map_or(2, |asked| asked.parse().unwrap())
}

fn search_all(bounds: &Bounds, deviations: u8) {
    for (messages, order) in [
        (&[1, 2][..], 0),
        (&[2, 1], 1),
        (&[2, 2], 2),
        (&[1, 1, 1], 1),
        (&[1, 2], 2),
        (&[2, 1], 2),
    ] {
        let bounds = Bounds {
            messages,
            order,
            ..bounds.clone()
        };
        let states = search(&bounds, deviations);
        println!("{bounds:?}, {deviations} deviations: {states} states");
        assert!(states > 100);
    }
}

const SMALL: Bounds = Bounds {
    messages: &[],
    mailbox: 1,
    window: 1,
    disconnects: 1,
    crashes: 1,
    has_others: false,
    order: 0,
};

#[test]
fn everything_comes_once_and_in_order_whatever_happens_when() {
    search_all(&SMALL, deviations());
    let bounds = Bounds {
        has_others: true,
        disconnects: 2,
        crashes: 0,
        ..SMALL
    };
    search_all(&bounds, deviations());
}

#[test]
fn everything_comes_once_and_in_order_also_through_two_crashes() {
    let bounds = Bounds {
        mailbox: 2,
        window: 2,
        crashes: 2,
        ..SMALL
    };
    search_all(&bounds, deviations());
    let bounds = Bounds {
        messages: &[1, 2],
        order: 2,
        ..bounds
    };
    search(&bounds, deviations() + 1);
}
