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

mod client;
mod connection;
mod flash;
mod router;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;
use std::sync::Arc;

use mqtt::server::{InflightEntry, InflightState};
use mqtt::{Message, MessageProperties, PacketId, QoS};
use storage::{CommitNumber, LogId, LogPartition, Offset, PartitionId};

use crate::mailboxes::Waiting;
use crate::outbound::{Bound, InFlight, Item, Offered, Outbound};
use crate::place::Place;

/// What is searched.
#[derive(Clone, Debug)]
struct Bounds {
    /// The QoS of the messages that are published.
    messages: &'static [u8],
    /// Messages that wait in the mailbox, or are bound.
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
    /// What was gathered of deliveries of QoS 2 goes into the open commit.
    Write,
    Checkpoint,
    /// Others need the room in its mailbox.
    GiveBack,
    Crash,
}

/// What can be done is done in one of these orders, as long as nothing deviates from it.
const ORDERS: [[Step; 8]; 3] = [
    [
        Step::Write,
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
        Step::Write,
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
        // As much as can be is gathered.
        Step::Write,
    ],
];

/// What goes against any order.
const EVENTS: [Step; 5] = [
    Step::AnswerLast,
    Step::Checkpoint,
    Step::GiveBack,
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
    ReservedQos1,
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
    /// The newest of any QoS.
    newest: Option<Place>,
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
    /// What the client has, as is not written down.
    gathered: Vec<PacketId>,
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
