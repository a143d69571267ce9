//! Sessions that are behind get from the log what the router did not push to them (`rules.md` 3.2,
//! 3.3): one scan after the other, each for all sessions whose place it passes.
//!
//! ```text
//! behind:   a ─ c ─── b ──────── d            their places in the log
//! a scan:   └─ commits ──┘                    for the one that waits longest, a; c gets its own, too
//! ```
//!
//! A scan reads some commits on another thread, hands them out, and ends; whoever is still behind is
//! read for again. A session that has read everything that was worked off is live: this is found
//! out and done on the I/O thread, between two messages, so that nothing is missed or comes twice.
//!
//! Invariants: at most one scan at a time, of a bounded size; a session gets the messages of the log
//! in its order, and none of a place before the one that it has read up to.

use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::{QoS, TopicName, Utf8String};
use storage::{Commit, CommitNumber, Store};

use crate::place::Place;
use crate::publication::Publication;
use crate::route::Route;
use crate::router::{Router, Stage, now};
use crate::session::{Session, SessionState};

/// Bytes of commits that are read at once.
const READ_BYTES: usize = 262_144;

/// How long to wait before what could not be read is read again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A part of the log that was read.
struct Chunk {
    commits: Vec<Commit>,
    /// Where it goes on.
    next: CommitNumber,
}

impl Router {
    /// From now on the log is read for this session, until it is live.
    pub(crate) fn read_for(&self, state: &Rc<SessionState>) {
        if !state.is_read_for.replace(true) {
            self.behind.borrow_mut().push_back(Rc::clone(state));
        }
        self.behind_changed.notify_one();
    }

    /// The session has subscribed: messages that nobody had wanted when they were published, and that
    /// it would get were they pushed, are read from the log.
    pub(crate) fn read_unwanted(&self, state: &Rc<SessionState>) {
        let (worked_off, unwanted) = (self.worked_off.get(), self.newest_unwanted.get());
        if unwanted > worked_off {
            state.outbound.borrow_mut().read_up_to(worked_off, unwanted);
            self.read_for(state);
        }
    }

    /// Serves sessions that are behind until the broker ends.
    pub(crate) async fn serve_behind(self: Rc<Self>) {
        let Some(store) = self.store.clone() else {
            return self.reached(Stage::Closing).await;
        };
        while self.stage() < Stage::Closing {
            let Some(from) = self.next_scan(store.durable()) else {
                tokio::select! {
                    () = self.behind_changed.notified() => {}
                    () = self.reached(Stage::Closing) => {}
                }
                continue;
            };
            let durable = store.durable();
            match read(&store, from, durable).await {
                Ok(chunk) => self.hand_out(&store, from, chunk).await,
                Err(error) => {
                    if let Some(left_out) = self.log_limits.not_read.pass(now()) {
                        tracing::error!(error, left_out, "Messages cannot be read.");
                    }
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    /// Where the next scan begins: at the session that has waited longest, of those that have room
    /// and something to read. Those that have nothing to wait for any more are live, or forgotten.
    fn next_scan(&self, durable: CommitNumber) -> Option<CommitNumber> {
        let mut behind = self.behind.borrow_mut();
        let worked_off = self.worked_off.get();
        behind.retain(|state| {
            let is_gone = state.attached.borrow().is_none();
            let stays = !is_gone && !state.outbound.borrow_mut().catch_up(worked_off) && {
                state.outbound.borrow().is_behind()
            };
            state.is_read_for.set(stays);
            stays
        });
        self.counters.sessions_behind.set(behind.len());
        let can_read = |state: &Rc<SessionState>| {
            let from = state.outbound.borrow().reads_from();
            from.filter(|from| *from <= durable)
        };
        let (index, from) = behind
            .iter()
            .enumerate()
            .find_map(|(index, state)| Some((index, can_read(state)?)))?;
        if let Some(state) = behind.remove(index) {
            behind.push_back(state);
        }
        Some(from)
    }

    /// Gives the sessions that are behind what they want of a chunk that was read from `from` on.
    async fn hand_out(&self, store: &Store, from: CommitNumber, chunk: Chunk) {
        let takes_part = |state: &&Rc<SessionState>| {
            let reads_from = state.outbound.borrow().reads_from();
            reads_from.is_some_and(|at| from <= at && at < chunk.next)
        };
        let readers: Vec<_> = {
            let behind = self.behind.borrow();
            let readers = behind.iter().filter(takes_part);
            readers.filter_map(|state| state.session()).collect()
        };
        let mut again = Vec::new();
        for reader in &readers {
            if reader.state.outbound.borrow_mut().begin_scan() {
                again.push(Rc::clone(reader));
            }
        }
        for commit in &chunk.commits {
            self.hand_out_commit(store, commit, &again);
            tokio::task::yield_now().await;
        }
        // Who has no room any more goes on where it stopped; who went has said where that was.
        for reader in readers.iter().filter(|reader| !reader.has_ended.get()) {
            let end = Place::beginning_of(chunk.next);
            let gone = reader.state.outbound.borrow_mut().end_scan(end);
            self.forget(now(), reader, &gone);
        }
    }

    /// `again`: those that get only what an earlier connection sent.
    fn hand_out_commit(&self, store: &Store, commit: &Commit, again: &[Rc<Session>]) {
        let now = now();
        for in_commit in commit.batches() {
            let partition = in_commit.partition;
            let batch = match commit.batch(partition) {
                Ok(Some(batch)) => batch,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(%error, "Messages of a batch are left out.");
                    continue;
                }
            };
            for (record, index) in batch.records().zip(0..) {
                let place = Place {
                    commit: commit.number(),
                    partition,
                    offset: in_commit.base_offset.advanced(index),
                };
                let message = record
                    .map_err(|error| error.to_string())
                    .and_then(|record| {
                        storage::Message::from_record(&record).map_err(|error| error.to_string())
                    });
                match message {
                    Ok(message) => {
                        self.send_again(now, store, commit, place, &message, again);
                        self.hand_out_message(now, store, commit, place, &message);
                    }
                    Err(error) => tracing::error!(error, "Message cannot be read; left out."),
                }
            }
        }
    }

    fn hand_out_message(
        &self,
        now: Instant,
        store: &Store,
        commit: &Commit,
        place: Place,
        stored: &storage::Message,
    ) {
        let published = QoS::from_bits(stored.qos).unwrap_or_default();
        if published == QoS::AtMostOnce {
            return;
        }
        let Some(route) = self.route_of_stored(&stored.topic) else {
            return;
        };
        let mut publication = None;
        for recipient in &route.recipients {
            let session = &recipient.session;
            let filters = session.state.filters.borrow();
            let is_own = session.client_id() == &stored.client_id;
            let evaluated;
            let grant = match filters.all_ask_for(commit.number()) {
                true => recipient.grant_for(&stored.client_id),
                false => {
                    evaluated = filters.grant(&route.topic, commit.number(), is_own);
                    evaluated.as_ref()
                }
            };
            let Some(grant) = grant else {
                continue;
            };
            let qos = grant.qos.min(published);
            let is_wanted = session.state.outbound.borrow().wants(place, qos);
            if qos == QoS::AtMostOnce || !is_wanted {
                continue;
            }
            let publication = publication.get_or_insert_with(|| {
                Publication::stored(now, store, commit.era(), stored)
                    .inspect_err(|error| tracing::error!(error, "Message cannot be sent."))
                    .ok()
                    .flatten()
            });
            let Some(publication) = publication else {
                return; // It has expired, or is none.
            };
            let item = publication.item(grant, qos, Some(place));
            drop(filters);
            session.state.outbound.borrow_mut().offer_read(item, place);
            self.pump(now, session);
        }
    }

    /// What an earlier connection sent goes to its session again, whatever it subscribes to now.
    fn send_again(
        &self,
        now: Instant,
        store: &Store,
        commit: &Commit,
        place: Place,
        stored: &storage::Message,
        again: &[Rc<Session>],
    ) {
        for session in again {
            // The main cursor and a replay may have sent it.
            while session.state.outbound.borrow_mut().wants_again(place) {
                let publication = match Publication::stored(now, store, commit.era(), stored) {
                    Ok(Some(publication)) => publication,
                    // It has expired, or is none: the scan passes over it.
                    Ok(None) => return,
                    Err(error) => {
                        tracing::error!(error, "Message cannot be sent.");
                        return;
                    }
                };
                let is_own = session.client_id() == &stored.client_id;
                let filters = session.state.filters.borrow();
                let grant = filters.grant(&publication.message.topic, commit.number(), is_own);
                let replayed = || session.grant_of_replayed(&filters, &publication.message.topic);
                let grant = grant.or_else(replayed).unwrap_or_default();
                drop(filters);
                let item = publication.item(&grant, publication.message.qos, Some(place));
                session.state.outbound.borrow_mut().offer_read(item, place);
                self.pump(now, session);
            }
        }
    }

    /// The way of messages with the topic name of a record.
    fn route_of_stored(&self, topic: &bytes::Bytes) -> Option<Rc<Route>> {
        let generation = self.authorizer.generation();
        let known = self.routes.borrow_mut().get_bytes(topic, generation);
        known.or_else(|| {
            let topic = Utf8String::try_from(topic.clone()).ok()?;
            let topic = TopicName::new(topic).ok()?;
            Some(self.route(&topic))
        })
    }
}

/// Reads commits from `from` on, on another thread.
async fn read(store: &Store, from: CommitNumber, durable: CommitNumber) -> Result<Chunk, String> {
    let mut reader = store.commit_reader(from);
    let read = tokio::task::spawn_blocking(move || {
        let commits = reader.read(READ_BYTES)?;
        let next = match reader.next_commit() {
            // Retention took everything from there on.
            next if commits.is_empty() && next == from => durable.next(),
            next => next,
        };
        Ok::<_, storage::ReadError>(Chunk { commits, next })
    });
    match read.await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the reader panicked".to_owned()),
    }
}
