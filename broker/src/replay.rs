//! Replays are read and become live (`rules.md` 3.7): one step of one of them after the other.
//!
//! A replay reads the log from its beginning on, up to what the router has worked off, and offers what
//! matches to its session, whose own cursor goes on meanwhile. While its filter is not in the tree of
//! subscriptions, nothing of it comes in another way. When it has come to the end and everything of it
//! was sent, the filter becomes a subscription that begins with the next commit: on the I/O thread,
//! with nothing in between, so that nothing is missed or comes twice.
//!
//! Messages of QoS 0 go to live subscribers before they are in the log. For a moment in which none is on
//! its way a replay waits for some commits; if there is none, the few of that moment do not come.
//!
//! Invariants: at most one part of the log of a bounded size is read at once, for one replay; a replay
//! gets the messages of the log in its order, each once, and none that retention has taken.

use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::{QoS, TopicName, Utf8String};
use storage::{Commit, CommitNumber, LogPartition, Offset, Store};

use crate::log_reading::{Part, Turn, for_each_message, next_part};
use crate::mailboxes::Relief;
use crate::outbound::Outbound;
use crate::place::Place;
use crate::publication::Publication;
use crate::replay_start::Found;
use crate::replays::{Replay, ReplayAt, ReplayNumber};
use crate::route::Grant;
use crate::router::{Router, Stage, now};
use crate::session::{Filters, Session, SessionState, Subscribed};
use crate::session_keeping::RECORD_WITHIN;
use crate::subscriptions::Entry;

/// Bytes of commits that are read at once.
const READ_BYTES: usize = 65_536;

/// How long to wait before what could not be read is read again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// For how many commits a moment is waited for in which no message of QoS 0 is on its way.
const QUIET_WITHIN: u64 = 64;

/// What is to be done next.
enum Step {
    /// Its beginning is looked for.
    Find,
    /// It is read from here on.
    Read(Place),
}

impl Router {
    /// Its replays are served from now on.
    pub(crate) fn replay_for(&self, state: &Rc<SessionState>) {
        if state.outbound.borrow().replays.is_empty() {
            return;
        }
        if !state.is_replaying.replace(true) {
            self.replaying.borrow_mut().push_back(Rc::clone(state));
        }
        self.replays_changed.notify_one();
    }

    /// Its client has been told that they begin.
    pub(crate) fn begin_replays(&self, state: &Rc<SessionState>) {
        state.outbound.borrow_mut().replays.release();
        self.replay_for(state);
    }

    /// Serves replays until the broker ends.
    pub(crate) async fn serve_replays(self: Rc<Self>) {
        let Some(store) = self.store.clone() else {
            return self.reached(Stage::Closing).await;
        };
        let mut relief = Relief::default();
        while self.stage() < Stage::Closing {
            self.relieve_replays(now(), &mut relief);
            let Some((session, replay, step)) = self.next_replay() else {
                tokio::select! {
                    () = self.replays_changed.notified() => {}
                    () = self.reached(Stage::Closing) => {}
                }
                continue;
            };
            let turn = Turn::begin(&store);
            let done = match step {
                Step::Find => {
                    let found = crate::replay_start::find(&store, &replay).await;
                    found.map(|found| self.take_beginning(&session, &replay, found))
                }
                Step::Read(from) => match read(&store, from.commit).await {
                    Ok(part) => {
                        self.replay_part(&store, &session, replay.number, part)
                            .await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = done {
                if let Some(left_out) = self.log_limits.not_read.pass(now()) {
                    tracing::error!(error, left_out, "Messages to replay cannot be read.");
                }
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            self.give_way(&store, turn).await;
        }
    }

    /// Lets live become what is there, and says what to do next for whom.
    fn next_replay(&self) -> Option<(Rc<Session>, Replay, Step)> {
        let sessions = self.replaying.take();
        let (mut stay, mut running) = (std::collections::VecDeque::new(), 0);
        for state in sessions {
            let session = state.session();
            if let Some(session) = &session {
                self.finish_replays(session);
            }
            let outbound = state.outbound.borrow();
            let stays = session.is_some() && !outbound.replays.is_empty();
            running += outbound.replays.running().count();
            drop(outbound);
            state.is_replaying.set(stays);
            if stays {
                stay.push_back(state);
            }
        }
        self.counters.replays.set(running);
        let worked_off = self.worked_off.get();
        let next = stay.iter().enumerate().find_map(|(index, state)| {
            let (replay, step) = next_step(&state.outbound.borrow(), worked_off)?;
            Some((index, state.session()?, replay, step))
        });
        let found = next.map(|(index, session, replay, step)| {
            if let Some(state) = stay.remove(index) {
                stay.push_back(state);
            }
            let mut outbound = session.state.outbound.borrow_mut();
            outbound.replays.rotate(replay.number);
            drop(outbound);
            (session, replay, step)
        });
        let mut replaying = self.replaying.borrow_mut();
        replaying.append(&mut stay);
        found
    }

    /// Those that have come to the end become live; of those that are live and have nothing under
    /// way any more, nothing is left.
    fn finish_replays(&self, session: &Rc<Session>) {
        let state = &session.state;
        let worked_off = self.worked_off.get();
        let (mut at_end, mut over) = (Vec::new(), Vec::new());
        let mut outbound = state.outbound.borrow_mut();
        let under_way = outbound.replayed_qos1();
        for replay in outbound.replays.iter() {
            let ReplayAt::Place(next) = replay.at else {
                continue;
            };
            let end = replay.until.unwrap_or_else(|| worked_off.next());
            let is_sent = !replay.is_held && !outbound.replays.is_waiting(replay.number);
            if next < Place::beginning_of(end) || !is_sent || !outbound.may_replay() {
                continue;
            }
            let of_it = Some(replay.number);
            let is_acknowledged = !under_way.iter().any(|sent| sent.replay == of_it);
            match replay.until {
                None => at_end.push((replay.number, is_acknowledged)),
                Some(_) if is_acknowledged => over.push(replay.number),
                Some(_) => {}
            }
        }
        for number in &over {
            outbound.replays.end(*number);
        }
        at_end.retain(|(number, _)| {
            let is_quiet = self.newest_at_once.get() <= worked_off;
            let replay = outbound.replays.get_mut(*number);
            let live_by = replay.map(|replay| {
                let within = CommitNumber(worked_off.0.saturating_add(QUIET_WITHIN));
                *replay.live_by.get_or_insert(within)
            });
            is_quiet || live_by.is_none_or(|by| by <= worked_off)
        });
        drop(outbound);
        for (number, is_acknowledged) in &at_end {
            self.make_live(session, *number, *is_acknowledged);
        }
        if !at_end.is_empty() || !over.is_empty() {
            self.write_session(state, RECORD_WITHIN);
            self.behind_changed.notify_one();
        }
    }

    /// From the next commit on there is a subscription in the place of a replay.
    fn make_live(&self, session: &Rc<Session>, number: ReplayNumber, is_acknowledged: bool) {
        let state = &session.state;
        let from = self.worked_off.get().next();
        let mut outbound = state.outbound.borrow_mut();
        let Some(replay) = outbound.replays.get_mut(number) else {
            return;
        };
        replay.until = Some(from);
        let replay = replay.clone();
        if is_acknowledged || !state.is_persistent() {
            outbound.replays.end(number);
        }
        drop(outbound);
        let entry = Entry {
            connection: session.connection.id,
            subscriber: Rc::clone(session),
            options: replay.options,
            identifier: replay.identifier,
        };
        self.subscriptions
            .borrow_mut()
            .insert(&replay.filter, entry);
        let subscribed = Subscribed {
            options: replay.options,
            identifier: replay.identifier,
            from,
            earlier: None,
        };
        state.filters.borrow_mut().insert(replay.filter, subscribed);
        self.forget_routes();
        self.read_unwanted(state);
    }

    fn take_beginning(&self, session: &Session, replay: &Replay, found: Found) {
        let mut outbound = session.state.outbound.borrow_mut();
        // It may have ended meanwhile.
        if let Some(replay) = outbound.replays.get_mut(replay.number) {
            match found {
                Found::Counted(counted) => replay.counted = Some(counted),
                Found::Place(place) => {
                    replay.counted = None;
                    replay.at = ReplayAt::Place(place.min(replay.at_latest));
                }
            }
        }
    }

    /// Gives a replay what it wants of a part of the log.
    async fn replay_part(
        &self,
        store: &Store,
        session: &Rc<Session>,
        number: ReplayNumber,
        part: Part,
    ) {
        // Who went while it was read has said where it was.
        if session.has_ended.get() {
            return;
        }
        for commit in &part.commits {
            if commit.number() >= self.end_of(session, number) {
                break;
            }
            if !self.replay_commit(store, session, number, commit) {
                return;
            }
            tokio::task::yield_now().await;
            if session.has_ended.get() {
                return;
            }
        }
        let end = part.next.min(self.end_of(session, number));
        let mut outbound = session.state.outbound.borrow_mut();
        let place = Place::beginning_of(end);
        outbound.replays.read_to(number, place);
    }

    /// The first commit that a replay does not read, as it is now.
    fn end_of(&self, session: &Session, number: ReplayNumber) -> CommitNumber {
        let outbound = session.state.outbound.borrow();
        let replay = outbound.replays.get(number);
        let worked_off = self.worked_off.get().next();
        let until = replay.and_then(|replay| replay.until);
        until.unwrap_or(worked_off).min(worked_off)
    }

    /// `false` if it takes no more.
    fn replay_commit(
        &self,
        store: &Store,
        session: &Rc<Session>,
        number: ReplayNumber,
        commit: &Commit,
    ) -> bool {
        let now = now();
        let replay = session.state.outbound.borrow().replays.get(number).cloned();
        let Some(replay) = replay.filter(|_| !session.has_ended.get()) else {
            return false;
        };
        for (place, message) in messages(store, commit) {
            let is_read = matches!(replay.at, ReplayAt::Place(next) if place < next);
            if is_read || !matches(&replay, &message) {
                continue;
            }
            let found = (place, &message);
            let Some(item) = self.replayed(now, store, session, &replay, commit, found) else {
                continue;
            };
            let mut outbound = session.state.outbound.borrow_mut();
            let has_room = outbound.replays.offer(number, item, place);
            drop(outbound);
            self.pump(now, session);
            if !has_room {
                return false;
            }
        }
        true
    }

    /// A message as this session gets it, if it may and wants to have it.
    fn replayed(
        &self,
        now: Instant,
        store: &Store,
        session: &Session,
        replay: &Replay,
        commit: &Commit,
        (place, message): (Place, &storage::Message),
    ) -> Option<crate::outbound::Item> {
        let is_own = session.client_id() == &message.client_id;
        let qos = replay.qos(QoS::from_bits(message.qos).unwrap_or_default());
        // A message of QoS 2 that was bound already, as a crash did not let the record say.
        let is_bound = qos == QoS::ExactlyOnce && place < replay.bound_before;
        if is_bound || (is_own && replay.options.no_local) {
            return None;
        }
        let publication = match Publication::stored(now, store, commit.era(), message) {
            Ok(publication) => publication?,
            Err(error) => {
                tracing::error!(error, "Message cannot be sent.");
                return None;
            }
        };
        let topic = &publication.message.topic;
        if !self.authorizer.may_receive(session.client(), topic) {
            return None;
        }
        Some(publication.item(&replay.grant(qos), qos, Some(place)))
    }
}

/// What is to be done for one of the replays of a session, if it takes anything.
fn next_step(outbound: &Outbound, worked_off: CommitNumber) -> Option<(Replay, Step)> {
    if !outbound.may_replay() || !outbound.replays.has_room() {
        return None;
    }
    outbound.replays.iter().find_map(|replay| {
        let end = replay.until.unwrap_or_else(|| worked_off.next());
        let step = match replay.at {
            _ if replay.is_held => None,
            ReplayAt::Place(next) => (next < Place::beginning_of(end)).then_some(Step::Read(next)),
            ReplayAt::Time { .. } | ReplayAt::Last { .. } => Some(Step::Find),
        };
        Some((replay.clone(), step?))
    })
}

/// The messages of a commit that retention has not taken, with their places. Those that cannot be
/// read are told in the log.
pub(crate) fn messages(store: &Store, commit: &Commit) -> Vec<(Place, storage::Message)> {
    let mut messages = Vec::new();
    let mut start: Option<(LogPartition, Offset)> = None;
    for_each_message(commit, |place, message| {
        let known = start.filter(|(partition, _)| *partition == place.partition);
        let (_, first) =
            known.unwrap_or_else(|| (place.partition, store.log_start(place.partition)));
        start = Some((place.partition, first));
        if place.offset >= first {
            messages.push((place, message));
        }
    });
    messages
}

/// Whether the filter of a replay matches the topic name of a message.
pub(crate) fn matches(replay: &Replay, message: &storage::Message) -> bool {
    let topic = Utf8String::try_from(message.topic.clone()).ok();
    let topic = topic.and_then(|topic| TopicName::new(topic).ok());
    topic.is_some_and(|topic| replay.filter.matches(&topic))
}

/// Reads commits from `from` on, on another thread.
async fn read(store: &Store, from: CommitNumber) -> Result<Part, String> {
    let mut reader = store.commit_reader(from);
    let store = store.clone();
    let read = tokio::task::spawn_blocking(move || {
        next_part(&store, &mut reader, |reader| reader.read(READ_BYTES))
    });
    match read.await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the reader panicked".to_owned()),
    }
}

impl Replay {
    fn grant(&self, qos: QoS) -> Grant {
        Grant {
            qos,
            retain_as_published: self.options.retain_as_published,
            identifiers: self.identifier.into_iter().collect(),
        }
    }
}

impl Session {
    /// How a message is sent again that came from a replay, or before its subscription began.
    pub(crate) fn grant_of_replayed(&self, filters: &Filters, topic: &TopicName) -> Option<Grant> {
        let outbound = self.state.outbound.borrow();
        let mut replays = outbound.replays.running();
        let replay = replays.find(|replay| replay.filter.matches(topic));
        let of_replay = replay.map(|replay| replay.grant(replay.options.qos));
        of_replay.or_else(|| filters.grant(topic, CommitNumber(u64::MAX), false))
    }
}
