//! Sessions on flash: what is written of them and when, and how they come back (`rules.md` 3.4).
//!
//! | when | what |
//! |---|---|
//! | a session begins, or its client comes back | its record, with the next commit |
//! | it subscribes or unsubscribes | its record; SUBACK and UNSUBACK follow the commit |
//! | its client goes | its record, with the place at which it goes on and all deliveries that are not over |
//! | while its client is there | one checkpoint for all: where those are that are not where all are |
//! | while its client is away | nothing |
//!
//! Invariant: no checkpoint speaks of a session that was attached after it: records name the newest
//! checkpoint of their time.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt::server::{PublishTicket, ReleaseTicket, SubscribeTicket, UnsubscribeTicket};
use mqtt::{PacketId, ProblemInformation, ReasonCode};
use serde::{Deserialize, Serialize};
use storage::{CommitNumber, EraId, JournalKey, JournalKind, RELEASE_TIME_MS, Store};

use crate::connection::Connection;
use crate::gathering::{bindings_of, delivery_key};
use crate::outbound::{Bound, Outbound};
use crate::place::Place;
use crate::received::client_and_id;
use crate::router::{Router, Stage};
use crate::session::{Lifetime, Session, SessionState};
use crate::session_record::{
    LastConnection, SessionRecord, StoredDeliveries, StoredPlace, place_of, stored_place,
};

/// How long a record that nobody waits for may wait for a commit of others.
pub(crate) const RECORD_WITHIN: Duration = Duration::from_secs(1);
/// The shortest time between two checkpoints, and how long one waits for a commit of others.
pub(crate) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// A checkpoint is at most this part of the payload that came since the last.
const CHECKPOINT_PART: u64 = 100;

const CHECKPOINT_VERSION: u8 = 1;

/// The checkpoint that was written last.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    number: u64,
    commit: CommitNumber,
    payload_bytes: u64,
    written_at: Option<Instant>,
}

/// A journal entry that is to be set, or with `None` removed.
pub(crate) type JournalEntry = (JournalKey, Option<Vec<u8>>);

/// What is done when a commit is durable.
#[derive(Debug)]
pub(crate) enum AfterCommit {
    /// A SUBSCRIBE is answered, with something to read if it is refused, and its replays begin.
    Subscribed(
        Rc<Session>,
        SubscribeTicket,
        Vec<ReasonCode>,
        ProblemInformation,
    ),
    /// An UNSUBSCRIBE is answered.
    Unsubscribed(Rc<Connection>, UnsubscribeTicket, Vec<ReasonCode>),
    /// A PUBLISH of QoS 2 is answered that was taken before.
    Received(Rc<Connection>, PublishTicket),
    /// A PUBREL is answered.
    Released(Rc<Connection>, ReleaseTicket, ReasonCode),
    /// Messages of QoS 2 are sent that have their identifiers.
    Bound(Rc<Session>),
    /// The client is told that it may forget the identifiers of messages of QoS 2.
    Release(Rc<Session>, Vec<PacketId>),
}

#[derive(Serialize, Deserialize)]
struct StoredCheckpoint {
    number: u64,
    /// Sessions that were attached then and are not named have everything up to this commit.
    commit: u64,
    /// Client identifiers, and where they are.
    exceptions: Vec<(Vec<u8>, StoredPlace)>,
}

impl StoredCheckpoint {
    fn to_stored(&self) -> Vec<u8> {
        // Nothing in it is of a kind that postcard refuses.
        postcard::to_extend(self, vec![CHECKPOINT_VERSION]).unwrap_or_default()
    }

    fn from_stored(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let is_known = *version == CHECKPOINT_VERSION;
        postcard::from_bytes(rest).ok().filter(|_| is_known)
    }
}

fn key_of(state: &SessionState) -> JournalKey {
    JournalKey::new(JournalKind::Session, state.client_id().as_bytes())
}

fn checkpoint_key() -> JournalKey {
    JournalKey::new(JournalKind::Checkpoint, b"")
}

impl Router {
    /// Writes down how a session is, if it outlives its connection; forgets it on flash if not any
    /// more. The commit with which that is durable, if anything is to be written.
    pub(crate) fn write_session(
        &self,
        state: &SessionState,
        within: Duration,
    ) -> Option<CommitNumber> {
        let store = self.store.as_ref()?;
        let is_kept = state.outlives_its_connection();
        let was_kept = state.is_written.replace(is_kept);
        let kept = self.kept_sessions.get() + usize::from(is_kept) - usize::from(was_kept);
        self.kept_sessions.set(kept);
        let will = self.will_entry(state);
        if !is_kept && !was_kept && will.is_none() {
            return None;
        }
        let record = is_kept.then(|| self.record_of(store, state));
        // The place that is written may be one that deliveries of QoS 2 have passed. Those of a
        // session without a connection stand in its record.
        let outbound = state.outbound.borrow();
        let needs_entry = record
            .as_ref()
            .is_some_and(|record| state.is_attached() && !outbound.needs_no_bindings(record.next));
        // The record's replays are behind what has its identifier, also where that is still gathered.
        let has_unwritten = outbound.bound().iter().any(Bound::is_unwritten);
        drop(outbound);
        let had_entry = state.has_bindings.replace(needs_entry);
        let mut writes_bindings = record.as_ref().is_some_and(|r| r.deliveries.is_some());
        let mut entries = Vec::from_iter(will);
        if is_kept || was_kept {
            entries.push((key_of(state), record.map(|record| record.to_stored())));
        }
        if needs_entry && (!had_entry || has_unwritten) {
            entries.push((delivery_key(state), Some(bindings_of(state).to_stored())));
            writes_bindings = true;
        } else if had_entry && !needs_entry {
            entries.push((delivery_key(state), None));
        }
        // The next connection waits for these.
        let within = if writes_bindings {
            Duration::ZERO
        } else {
            within
        };
        let put = store.put_journal_entries(entries, within);
        if let Some(commit) = put.as_ref().ok().filter(|_| writes_bindings) {
            state.bindings_commit.set(*commit);
        }
        if let Ok(commit) = &put {
            self.will_is_written(state, *commit);
            if was_kept && !is_kept {
                let client_id = state.client_id().into();
                self.leaving.borrow_mut().insert(client_id, *commit);
            }
        }
        put.inspect_err(|error| tracing::debug!(%error, "Session is not written down."))
            .ok()
    }

    fn record_of(&self, store: &Store, state: &SessionState) -> SessionRecord {
        let outbound = state.outbound.borrow();
        let (connection, next, in_flight, deliveries) = match state.is_attached() {
            true => {
                let checkpoint = self.checkpoints.borrow().number;
                let position = outbound.position(self.worked_off.get());
                (
                    LastConnection::Open { checkpoint },
                    position,
                    Vec::new(),
                    None,
                )
            }
            false => {
                let (next, in_flight) = outbound.rest();
                let (at_ms, era) = (store.now_ms(), store.current_era().0);
                let ended = match state.was_closed.get() {
                    true => LastConnection::Closed { at_ms, era },
                    false => LastConnection::Ended { at_ms, era },
                };
                let needs_bindings = !outbound.needs_no_bindings(next);
                let deliveries = needs_bindings.then(|| bindings_of(state));
                (ended, next, in_flight.collect(), deliveries)
            }
        };
        let under_way = match state.is_attached() {
            true => outbound.replayed_qos1(),
            false => Vec::new(),
        };
        let replays = outbound.replays.positions(&under_way);
        let (filters, shared) = (state.filters.borrow(), state.shared.borrow());
        let subscriptions = filters
            .iter()
            .chain(shared.iter())
            .map(|(filter, subscribed)| (filter.clone(), *subscribed));
        SessionRecord {
            lifetime: state.lifetime.get(),
            connection,
            next,
            in_flight,
            deliveries,
            subscriptions: subscriptions.collect(),
            replays,
            retained: state.retained.borrow().owed(),
        }
    }

    /// Does this when the subscriptions of the session, as they are now, are on flash.
    pub(crate) fn when_written(&self, now: Instant, state: &SessionState, then: AfterCommit) {
        match self.write_session(state, Duration::ZERO) {
            Some(commit) => self.when_durable(now, commit, then),
            None if !state.outlives_its_connection() => self.after_commit(now, then),
            // It could not be written: the broker ends, and nothing was promised.
            None => {}
        }
    }

    /// Waits until a commit is durable, or the broker ends.
    pub(crate) async fn committed(&self, commit: CommitNumber) {
        loop {
            let progress = self.progress.notified();
            if commit <= self.durable() || self.stage() >= Stage::Closing {
                return;
            }
            progress.await;
        }
    }

    /// Does this when a commit is durable.
    pub(crate) fn when_durable(&self, now: Instant, commit: CommitNumber, then: AfterCommit) {
        if commit <= self.durable() {
            return self.after_commit(now, then);
        }
        let mut waiting = self.after_commit.borrow_mut();
        // Most often it is the newest.
        let later = waiting
            .iter()
            .rev()
            .take_while(|(other, _)| *other > commit);
        let index = waiting.len() - later.count();
        waiting.insert(index, (commit, then));
    }

    /// Does what waited for commits up to `durable`.
    pub(crate) fn work_off_after(&self, now: Instant, durable: CommitNumber) {
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|_, commit| *commit > durable);
        drop(leaving);
        loop {
            let due = {
                let mut waiting = self.after_commit.borrow_mut();
                let is_due = waiting
                    .front()
                    .is_some_and(|(commit, _)| *commit <= durable);
                if is_due { waiting.pop_front() } else { None }
            };
            let Some((_, then)) = due else {
                return;
            };
            self.after_commit(now, then);
        }
    }

    pub(crate) fn after_commit(&self, now: Instant, then: AfterCommit) {
        let (connection, answered) = match then {
            AfterCommit::Subscribed(session, ticket, codes, problem) => {
                let connection = Rc::clone(&session.connection);
                let mut machine = connection.machine.borrow_mut();
                let answered = machine.complete_subscribe_with(now, ticket, codes, problem);
                drop(machine);
                self.begin_replays(&session.state);
                (connection, answered)
            }
            AfterCommit::Unsubscribed(connection, ticket, codes) => {
                let mut machine = connection.machine.borrow_mut();
                let answered = machine.complete_unsubscribe(now, ticket, codes);
                drop(machine);
                (connection, answered)
            }
            AfterCommit::Received(connection, ticket) => {
                let mut machine = connection.machine.borrow_mut();
                let answered = machine.complete_publish(now, ticket, ReasonCode::Success);
                drop(machine);
                (connection, answered)
            }
            AfterCommit::Released(connection, ticket, code) => {
                let mut machine = connection.machine.borrow_mut();
                let answered = machine.complete_release(now, ticket, code);
                drop(machine);
                (connection, answered)
            }
            AfterCommit::Bound(session) => {
                if !session.has_ended.get() {
                    self.pump(now, &session);
                }
                return;
            }
            AfterCommit::Release(session, ids) => {
                let mut machine = session.connection.machine.borrow_mut();
                for packet_id in ids {
                    machine.release(now, packet_id);
                }
                drop(machine);
                session.connection.signal.notify();
                return;
            }
        };
        if let Err(error) = answered {
            tracing::error!(connection = %connection.id, %error, "Client was not answered.");
        }
        connection.signal.notify();
    }

    /// Writes a checkpoint, if the last one is old enough and enough came since.
    pub(crate) fn write_checkpoint(&self, now: Instant) {
        let Some(store) = &self.store else {
            return;
        };
        self.write_changed_bindings();
        let mut checkpoints = self.checkpoints.borrow_mut();
        let commit = self.worked_off.get();
        let is_early = checkpoints
            .written_at
            .is_some_and(|at| now.saturating_duration_since(at) < CHECKPOINT_INTERVAL);
        if is_early || commit == checkpoints.commit {
            return;
        }
        let (mut attached, mut exceptions, mut over) = (0, Vec::new(), Vec::new());
        let worked_off = Place::beginning_of(commit.next());
        for state in self.sessions.borrow().iter() {
            if !state.is_persistent() || !state.is_attached() {
                continue;
            }
            attached += 1;
            let position = state.outbound.borrow().position(commit);
            if state.has_bindings.get() && state.outbound.borrow().needs_no_bindings(position) {
                over.push(Rc::clone(state));
            }
            if position < worked_off {
                let client_id = state.client_id().as_bytes().to_vec();
                exceptions.push((client_id, stored_place(position)));
            }
        }
        if attached == 0 {
            return;
        }
        let number = checkpoints.number + 1;
        let stored = StoredCheckpoint {
            number,
            commit: commit.0,
            exceptions,
        };
        let value = stored.to_stored();
        let payload_bytes = store.counters().payload_bytes();
        let came = payload_bytes.saturating_sub(checkpoints.payload_bytes);
        if came < CHECKPOINT_PART * value.len() as u64 {
            return;
        }
        // What the checkpoint says of a session, it need not say itself.
        let entries = over.iter().map(|state| (delivery_key(state), None));
        let entries = entries.chain([(checkpoint_key(), Some(value))]).collect();
        let put = store.put_journal_entries(entries, CHECKPOINT_INTERVAL);
        if put.is_ok() {
            tracing::trace!(number, "Checkpoint is written.");
            over.iter().for_each(|state| state.has_bindings.set(false));
            *checkpoints = Checkpoints {
                number,
                commit,
                payload_bytes,
                written_at: Some(now),
            };
        }
    }

    /// Takes up the sessions that the store has.
    pub(crate) fn restore_sessions(&self, now: Instant) {
        let Some(store) = &self.store else {
            return;
        };
        let checkpoint = store.journal_entry(&checkpoint_key());
        let checkpoint = checkpoint.and_then(|value| StoredCheckpoint::from_stored(&value));
        let mut checked: HashMap<Bytes, Place> = HashMap::new();
        let (mut number, mut everybody) = (0, Place::beginning_of(CommitNumber(0)));
        if let Some(checkpoint) = checkpoint {
            number = checkpoint.number;
            everybody = Place::beginning_of(CommitNumber(checkpoint.commit).next());
            let exceptions = checkpoint.exceptions.into_iter();
            checked = exceptions
                .map(|(client_id, place)| (Bytes::from(client_id), place_of(place)))
                .collect();
        }
        self.checkpoints.borrow_mut().number = number;
        let mut wills = self.find_wills(store);
        let (mut count, mut is_complete) = (0_usize, true);
        for entry in store.cold_entries(JournalKind::Session) {
            let (client_id, value) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "Some sessions cannot be read; they are left out.");
                    is_complete = false;
                    break;
                }
            };
            let record = match SessionRecord::from_stored(&value) {
                Ok(record) => record,
                Err(error) => {
                    let client_id = client_id.escape_ascii();
                    tracing::error!(%client_id, %error, "Session cannot be read; it is left out.");
                    is_complete = false;
                    continue;
                }
            };
            let Ok(client_id) = std::str::from_utf8(&client_id) else {
                continue;
            };
            let place = match record.connection {
                LastConnection::Open { checkpoint } if checkpoint < number => {
                    let place = checked.get(client_id.as_bytes()).copied();
                    record.next.max(place.unwrap_or(everybody))
                }
                _ => record.next,
            };
            self.restore_will(now, store, &mut wills, client_id, record.connection);
            self.restore_session(now, store, client_id, record, place);
            count += 1;
        }
        self.counters.sessions_offline.set(count);
        self.restore_other_wills(now, wills, is_complete);
        self.restore_received(store, is_complete);
        self.restore_groups(store, is_complete);
        if count > 0 {
            tracing::info!(count, "Sessions go on.");
        }
    }

    fn restore_session(
        &self,
        now: Instant,
        store: &Store,
        client_id: &str,
        record: SessionRecord,
        next: Place,
    ) {
        let key = JournalKey::new(JournalKind::Delivery, client_id.as_bytes());
        let entry = store.journal_entry(&key);
        let has_bindings = entry.is_some();
        let entry = entry.and_then(|value| StoredDeliveries::from_stored(&value));
        let deliveries = entry.or(record.deliveries).unwrap_or_default();
        let mut in_flight = record.in_flight;
        in_flight.extend(deliveries.bindings());
        let bound_before = deliveries.before();
        let mut replays = record.replays;
        let numbers = in_flight.iter().filter_map(|sent| sent.replay);
        let numbers = numbers.chain(replays.iter().map(|replay| replay.number));
        let newest = numbers.chain(deliveries.replays().numbers()).max();
        deliveries.replays().restore(&mut replays);
        let mut outbound = Outbound::restored(next, in_flight, bound_before, self.mailbox());
        let next_replay = newest.map_or(0, |newest| newest.saturating_add(1));
        outbound.replays.restore(replays, next_replay);
        let state = SessionState::new(client_id, record.lifetime, outbound, &self.unreleased_bytes);
        state.has_bindings.set(has_bindings);
        for (filter, from) in record.retained {
            let mut subscriptions = record.subscriptions.iter();
            let found = subscriptions.find(|(subscribed, _)| *subscribed == filter);
            if let Some((_, subscribed)) = found {
                let mut retained = state.retained.borrow_mut();
                retained.restore(filter, *subscribed, from);
            }
        }
        for (filter, subscribed) in record.subscriptions {
            match filter.share_name() {
                None => state.filters.borrow_mut().insert(filter, subscribed),
                Some(_) => state.shared.borrow_mut().insert(filter, subscribed),
            }
        }
        if let Lifetime::For(time) = record.lifetime {
            let away = time_since(store, record.connection);
            state
                .expires_at
                .set(now.checked_add(time.saturating_sub(away)));
        }
        state.is_offline.set(true);
        state.is_written.set(true);
        self.kept_sessions.set(self.kept_sessions.get() + 1);
        let was_open = matches!(record.connection, LastConnection::Open { .. });
        let was_closed = matches!(record.connection, LastConnection::Closed { .. });
        state.was_closed.set(was_open || was_closed);
        if was_open {
            // The next checkpoint does not speak of it.
            self.write_session(&state, RECORD_WITHIN);
        }
        self.sessions.borrow_mut().insert(&Rc::new(state));
    }
}

impl Router {
    /// Takes up the messages of QoS 2 that were not released; those of sessions that are gone go, if all
    /// others are known.
    fn restore_received(&self, store: &Store, is_complete: bool) {
        let sessions = self.sessions.borrow();
        let mut removals = Vec::new();
        for (key, _) in store.journal_entries(JournalKind::Received) {
            let known = client_and_id(&key).and_then(|(client_id, packet_id)| {
                let client_id = std::str::from_utf8(client_id).ok()?;
                Some((sessions.get(client_id)?, packet_id))
            });
            match known {
                Some((state, packet_id)) => {
                    let mut received = state.received.borrow_mut();
                    received.insert(packet_id, CommitNumber(0), true);
                }
                None => removals.push((key, None)),
            }
        }
        for (key, _) in store.journal_entries(JournalKind::Delivery) {
            let client_id = std::str::from_utf8(key.rest()).ok();
            if client_id.is_none_or(|client_id| sessions.get(client_id).is_none()) {
                removals.push((key, None));
            }
        }
        if is_complete && !removals.is_empty() {
            let put = store.put_journal_entries(removals, RECORD_WITHIN);
            if let Err(error) = put {
                tracing::debug!(%error, "Leftovers of sessions stay.");
            }
        }
    }
}

/// How long ago a connection ended, as far as it is known: by clocks that cannot be right nothing ends
/// early.
pub(crate) fn time_since(store: &Store, connection: LastConnection) -> Duration {
    let (at_ms, era) = match connection {
        LastConnection::Open { .. } => return Duration::ZERO,
        LastConnection::Ended { at_ms, era } | LastConnection::Closed { at_ms, era } => {
            (at_ms, era)
        }
    };
    let ended_ms = match store.era(EraId(era)) {
        Some(era) => era.corrected(at_ms).ms,
        None => at_ms,
    };
    let now_ms = store.now().ms;
    if ended_ms < RELEASE_TIME_MS || !store.clock_is_plausible() {
        return Duration::ZERO;
    }
    Duration::from_millis(u64::try_from(now_ms - ended_ms).unwrap_or(0))
}
