//! Exhaustive search: every order of events in a small world, not only the likely ones.
//!
//! The world is one stream and the model of a Kafka partition (`kafka::model`), with requests that
//! travel. Batches of three records' worth, two connections, one crash of ours, one refusal, one
//! loss of the leader's producer state. What an older connection still carries may arrive at any
//! later moment, or never, until the stream has waited for it to die.
//!
//! In every reachable state the remote log must hold the records in order and each once; every state
//! in which nothing can happen any more must be the end: all records there, all acknowledged.

use std::collections::HashSet;
use std::collections::VecDeque;

use bytes::Bytes;
use kafka::ErrorCode;
use kafka::model::partition::{Partition, PartitionOptions};
use record_batch::{BatchBuilder, RecordFields, batches};

use super::{Action, Producer, Refusal, Stream, StreamState};

/// First local offset, so that offsets and sequence numbers differ.
const FIRST: u64 = 10;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Request {
    from: u64,
    to: u64,
    producer: Producer,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Acknowledged(i64),
    Refused(Refusal),
}

/// A connection's requests that have not arrived, in order, and answers that were not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Connection {
    requests: VecDeque<Request>,
    answers: VecDeque<Answer>,
}

/// How much may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    cuts: u8,
    crashes: u8,
    refusals: u8,
    losses: u8,
}

/// How the leader may lose our state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Loss {
    /// It is forgotten while the leader lives, as aged batches make it; older requests live on.
    Expiry,
    /// The broker dies with it; connections and everything on the way die too.
    Restart,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    stream: Stream,
    durable: StreamState,
    remote: Partition,
    connection: Option<Connection>,
    /// Requests of connections that are gone.
    old: Vec<VecDeque<Request>>,
    budget: Budget,
    next_producer_id: i64,
    end: u64,
    batch_records: u64,
    /// Records that are missing in between.
    gap: Option<(u64, u64)>,
    loss: Loss,
}

fn batch(request: &Request) -> Bytes {
    let Producer { id, epoch, .. } = request.producer;
    let sequence = request.producer.sequence(request.from);
    let mut builder = BatchBuilder::new(0).with_producer(id, epoch, sequence);
    for offset in request.from..request.to {
        let value = offset.to_be_bytes();
        let fields = RecordFields {
            value: Some(&value),
            timestamp_ms: 1,
            ..Default::default()
        };
        builder.append(&fields).unwrap();
    }
    builder.finish()
}

impl World {
    fn new(batches: u64, batch_records: u64, budget: Budget, loss: Loss) -> Self {
        let state = StreamState {
            acknowledged: FIRST,
            ..StreamState::default()
        };
        let mut world = Self {
            stream: Stream::restore(state.clone()),
            durable: state,
            remote: Partition::new(PartitionOptions::default()),
            connection: None,
            old: Vec::new(),
            budget,
            next_producer_id: 1,
            end: FIRST + batches * batch_records,
            batch_records,
            gap: None,
            loss,
        };
        world.stream.handle_available(world.end);
        world.stream.set_aged(loss == Loss::Expiry);
        world
    }

    /// The local offsets in the remote log, in its order.
    fn remote_offsets(&self) -> Vec<u64> {
        let value = |record: record_batch::Record| {
            u64::from_be_bytes(record.value.unwrap().as_ref().try_into().unwrap())
        };
        self.remote.records().into_iter().map(value).collect()
    }

    /// The local offsets that there are.
    fn local_offsets(&self) -> impl Iterator<Item = u64> {
        let (at, resume) = self.gap.unwrap_or((self.end, self.end));
        (FIRST..at).chain(resume..self.end)
    }

    /// What must not be.
    fn problem(&self, nothing_follows: bool) -> Option<String> {
        let found = self.remote_offsets();
        let expected: Vec<u64> = self.local_offsets().take(found.len()).collect();
        if found != expected {
            return Some(format!("the remote log is {found:?}"));
        }
        let acknowledged = self.stream.acknowledged();
        if self
            .local_offsets()
            .filter(|offset| *offset < acknowledged)
            .count()
            > found.len()
        {
            return Some(format!("acknowledged, but the remote log is {found:?}"));
        }
        if let Action::Halt(halt) = self.stream.next_action() {
            return Some(format!("halted: {halt:?}"));
        }
        (nothing_follows && !self.is_done()).then(|| "stuck".to_owned())
    }

    fn is_done(&self) -> bool {
        self.stream.acknowledged() == self.end && self.stream.next_action() == Action::Idle
    }

    /// Every world that one event makes of this one.
    fn successors(&self) -> Vec<(String, Self)> {
        let mut worlds = Vec::new();
        self.act(&mut worlds);
        self.arrive(&mut worlds);
        self.go_wrong(&mut worlds);
        worlds
    }

    fn with(&self, worlds: &mut Vec<(String, Self)>, event: &str, change: impl FnOnce(&mut Self)) {
        let mut world = self.clone();
        change(&mut world);
        worlds.push((event.to_owned(), world));
    }

    /// What the stream asks for.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each action, none of them long"
    )]
    fn act(&self, worlds: &mut Vec<(String, Self)>) {
        let action = self.stream.next_action();
        let label = format!("{action:?}");
        match action {
            Action::Connect => self.with(worlds, &label, |w| {
                w.connection = Some(Connection::default());
                w.stream.handle_connected();
            }),
            Action::EpochEnd => {
                self.with(worlds, &label, |w| {
                    w.stream.handle_epoch_end(w.remote.log_end_offset())
                });
            }
            Action::Producers => self.with(worlds, &label, |w| {
                let producer = w.stream.state().producer.unwrap();
                let known = w.remote.producer(producer.id);
                let last = known
                    .filter(|k| k.epoch == producer.epoch)
                    .map(|k| k.last_sequence());
                w.stream.handle_producers(last);
            }),
            Action::HighWatermark => self.with(worlds, &label, |w| {
                w.stream
                    .handle_high_watermark(w.remote.high_watermark(), true);
            }),
            Action::Scan { from, to } => self.with(worlds, &label, |w| {
                let producer = w.stream.state().producer.unwrap();
                let bytes = w.remote.fetch(from, usize::MAX).unwrap();
                let (mut last, mut up_to) = (None, from);
                for batch in batches(bytes) {
                    let header = batch.unwrap().header().clone();
                    if header.producer_id == producer.id {
                        last = Some(header.last_sequence());
                    }
                    up_to = header.next_offset().min(to);
                }
                w.stream.handle_scanned(up_to, last);
            }),
            Action::InitProducerId => self.with(worlds, &label, |w| {
                w.next_producer_id += 1;
                w.stream.handle_producer_id(w.next_producer_id, 0);
            }),
            Action::Persist => self.with(worlds, &label, |w| {
                w.durable = w.stream.state_to_persist();
                w.stream.handle_persisted();
            }),
            Action::Send { from, limit } => self.with(worlds, &label, |w| {
                let mut to = limit.min(from + w.batch_records);
                if let Some((at, resume)) = w.gap {
                    if from == at {
                        w.stream.handle_barrier(at, resume, resume - at);
                        return;
                    }
                    if from < at {
                        to = to.min(at);
                    }
                }
                let producer = w.stream.state().producer.unwrap();
                let request = Request { from, to, producer };
                w.connection.as_mut().unwrap().requests.push_back(request);
                w.stream.handle_sent(to);
            }),
            Action::LetOldRequestsDie => self.with(worlds, &label, Self::old_requests_die),
            Action::Pause => self.with(worlds, &label, |w| w.stream.handle_pause_over()),
            Action::Answer | Action::Idle | Action::Halt(_) => {}
        }
        // More may be sent while an answer is waited for, and an answer may come before more is sent.
        let answered = self
            .connection
            .as_ref()
            .is_some_and(|c| !c.answers.is_empty());
        if answered {
            self.with(worlds, "the answer is read", |w| {
                match w.connection.as_mut().unwrap().answers.pop_front().unwrap() {
                    Answer::Acknowledged(base) => w.stream.handle_acknowledged(Some(base)),
                    Answer::Refused(refusal) => w.stream.handle_refused(refusal),
                }
                w.drop_connection_if_left();
            });
        }
    }

    fn drop_connection_if_left(&mut self) {
        if self.stream.next_action() == Action::Connect
            && let Some(connection) = self.connection.take()
        {
            self.old.push(connection.requests);
        }
    }

    fn old_requests_die(&mut self) {
        self.old.clear();
        self.stream.handle_old_requests_dead();
    }

    /// A request reaches the leader.
    fn arrive(&self, worlds: &mut Vec<(String, Self)>) {
        if self
            .connection
            .as_ref()
            .is_some_and(|c| !c.requests.is_empty())
        {
            self.with(worlds, "the request arrives", |w| {
                let request = w.connection.as_mut().unwrap().requests.pop_front().unwrap();
                let answer = match w.remote.append(&batch(&request), 1) {
                    Ok(appended) => Answer::Acknowledged(appended.base_offset),
                    Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) => {
                        Answer::Refused(Refusal::OutOfOrder)
                    }
                    Err(code) => panic!("{code}"),
                };
                w.connection.as_mut().unwrap().answers.push_back(answer);
            });
        }
        for index in 0..self.old.len() {
            self.with(worlds, "an old request arrives", |w| {
                if let Some(request) = w.old[index].pop_front() {
                    // Whatever the leader says, nobody hears it.
                    let _ = w.remote.append(&batch(&request), 1);
                }
                w.old.retain(|requests| !requests.is_empty());
            });
        }
    }

    /// What need not happen.
    fn go_wrong(&self, worlds: &mut Vec<(String, Self)>) {
        let Budget {
            cuts,
            crashes,
            losses,
            ..
        } = self.budget;
        if cuts > 0 && self.connection.is_some() {
            self.with(worlds, "cut", |w| {
                w.budget.cuts -= 1;
                w.old
                    .extend(w.connection.take().map(|connection| connection.requests));
                w.stream.handle_disconnected();
            });
        }
        if crashes > 0 {
            self.with(worlds, "crash", |w| {
                w.budget.crashes -= 1;
                w.old
                    .extend(w.connection.take().map(|connection| connection.requests));
                w.stream = Stream::restore(w.durable.clone());
                w.stream.handle_available(w.end);
                w.stream.set_aged(w.loss == Loss::Expiry);
            });
        }
        // The checkpoint, at whatever moment it was last written.
        if self.durable != *self.stream.state()
            && self.durable.producer == self.stream.state().producer
        {
            self.with(worlds, "checkpoint", |w| {
                w.durable = w.stream.state().clone()
            });
        }
        self.refuse(worlds);
        if losses > 0 {
            self.with(worlds, "the leader forgets us", |w| {
                w.budget.losses -= 1;
                w.remote.lose_producer_state();
                if w.loss == Loss::Restart {
                    w.remote.new_leader_epoch(None);
                    w.old.clear();
                    if w.connection.take().is_some() {
                        w.stream.handle_disconnected();
                    }
                }
            });
        }
    }

    /// The leader refuses a request, whether it appends it or not.
    fn refuse(&self, worlds: &mut Vec<(String, Self)>) {
        let refusals = self.budget.refusals;
        let waiting = self
            .connection
            .as_ref()
            .is_some_and(|c| !c.requests.is_empty());
        if refusals > 0 && waiting {
            for refusal in [
                Refusal::Definite,
                Refusal::NotLeader,
                Refusal::Reshape,
                Refusal::Doubtful,
            ] {
                self.with(worlds, &format!("{refusal:?} refusal"), |w| {
                    w.budget.refusals -= 1;
                    let connection = w.connection.as_mut().unwrap();
                    connection.requests.pop_front();
                    connection.answers.push_back(Answer::Refused(refusal));
                });
            }
            // Refused to our face, but appended.
            for refusal in [Refusal::NotLeader, Refusal::Doubtful] {
                self.with(worlds, &format!("{refusal:?} refusal, but appended"), |w| {
                    w.budget.refusals -= 1;
                    let connection = w.connection.as_mut().unwrap();
                    let request = connection.requests.pop_front().unwrap();
                    connection.answers.push_back(Answer::Refused(refusal));
                    let _ = w.remote.append(&batch(&request), 1);
                });
            }
        }
    }
}

/// A world and how it came about: the place of the one before it, and what happened.
struct Visited {
    world: World,
    before: usize,
    event: String,
}

/// Visits every world that can come of `start`; returns how many there are.
fn search(start: World) -> usize {
    let mut seen = HashSet::new();
    let mut visited = vec![Visited {
        world: start,
        before: 0,
        event: "start".to_owned(),
    }];
    let (mut at, mut ends) = (0, 0_usize);
    // Breadth first, so that what is found has the shortest story.
    while let Some(Visited { world, .. }) = visited.get(at) {
        let world = world.clone();
        if seen.insert(world.clone()) {
            let successors = world.successors();
            let problem = world.problem(successors.is_empty());
            assert!(
                problem.is_none(),
                "{}:\n{}",
                problem.unwrap(),
                story(&visited, at)
            );
            ends += usize::from(world.is_done());
            let successors = successors.into_iter();
            visited.extend(successors.map(|(event, world)| Visited {
                world,
                before: at,
                event,
            }));
        }
        at += 1;
    }
    assert!(ends > 0, "the end is reached");
    seen.len()
}

fn story(visited: &[Visited], mut at: usize) -> String {
    let mut events = Vec::new();
    while at != 0 {
        events.push(format!(
            "{}\n    {:?}",
            visited[at].event, visited[at].world.stream
        ));
        at = visited[at].before;
    }
    events.reverse();
    events.join("\n")
}

const ALL: Budget = Budget {
    cuts: 1,
    crashes: 1,
    refusals: 1,
    losses: 1,
};

#[test]
fn nothing_is_lost_doubled_or_reordered_when_the_broker_dies_with_our_state() {
    let worlds = search(World::new(3, 1, ALL, Loss::Restart));
    println!("{worlds} worlds");
}

#[test]
fn nothing_is_lost_doubled_or_reordered_when_our_state_expires() {
    let worlds = search(World::new(3, 1, ALL, Loss::Expiry));
    println!("{worlds} worlds");
}

/// A batch is refused, an older copy of it arrives, the batch behind it is right again: that is no
/// disorder. It takes a fourth batch: the first makes the leader known, the second again after the cut.
#[test]
fn older_request_may_fill_in_for_a_refused_one() {
    let budget = Budget {
        crashes: 0,
        losses: 0,
        ..ALL
    };
    println!("{} worlds", search(World::new(4, 1, budget, Loss::Restart)));
}

#[test]
fn bounds_of_batches_do_not_matter() {
    // Four records in batches of two; after a refusal or a cut the bounds are others.
    let mut start = World::new(2, 2, Budget { refusals: 0, ..ALL }, Loss::Restart);
    start.end += 1;
    start.stream.handle_available(start.end);
    println!("{} worlds", search(start));
}

#[test]
fn records_go_on_behind_a_gap() {
    for loss in [Loss::Restart, Loss::Expiry] {
        let mut start = World::new(2, 1, ALL, loss);
        start.end = FIRST + 12;
        start.gap = Some((FIRST + 2, FIRST + 11));
        start.stream.handle_available(start.end);
        println!("{} worlds", search(start));
    }
}
