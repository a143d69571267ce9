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

use mqtt::QoS;
use storage::{Commit, CommitNumber, GapReason, Missing, Store};

use crate::log_reading::{Turn, for_each_message, next_part};
use crate::mailboxes::Relief;
use crate::place::Place;
use crate::publication::Publication;
use crate::router::{Router, Stage, now};
use crate::scan::Scan;
use crate::session::{Session, SessionState};
use crate::wishes::{KnownWishes, Wishes};

/// Bytes of commits that are read at once.
const READ_BYTES: usize = 262_144;

/// So many messages of a scan go to a session together, because all deliveries of QoS 2 of one that are under
/// way are written down each time when there are more.
const BURST_MESSAGES: usize = 32;

/// How long to wait before what could not be read is read again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A part of the log that was read.
struct Chunk {
    commits: Vec<Commit>,
    /// Where it goes on.
    next: CommitNumber,
    /// What is not there any more.
    missing: Vec<Missing>,
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
        let (mut known, mut relief) = (KnownWishes::default(), Relief::default());
        while self.stage() < Stage::Closing {
            self.relieve_mailboxes(now(), &mut relief);
            let Some(scan) = self.next_scan(store.durable()) else {
                tokio::select! {
                    () = self.behind_changed.notified() => {}
                    () = self.reached(Stage::Closing) => {}
                }
                continue;
            };
            let wishes = scan.wishes();
            let turn = Turn::begin(&store);
            match read(&store, (scan.from, scan.until), wishes, known).await {
                Ok((chunk, still_known)) => {
                    known = still_known;
                    self.hand_out(&store, scan, chunk).await;
                    self.give_way(&store, turn).await;
                }
                Err(error) => {
                    known = KnownWishes::default();
                    scan.give_up();
                    if let Some(left_out) = self.log_limits.not_read.pass(now()) {
                        tracing::error!(error, left_out, "Messages cannot be read.");
                    }
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    /// The next scan begins at the session that has waited longest, of those that have room and
    /// something to read. Those that have nothing to wait for any more are live, or forgotten.
    fn next_scan(&self, durable: CommitNumber) -> Option<Scan> {
        let mut behind = self.behind.borrow_mut();
        let worked_off = self.worked_off.get();
        behind.retain(|state| {
            let is_gone = state.attached.borrow().is_none();
            let is_live = !is_gone && state.outbound.borrow_mut().catch_up(worked_off);
            if is_live {
                tracing::trace!(client_id = state.client_id(), "Session is live.");
                state.wake_for_retained();
            }
            let stays = !is_gone && !is_live && state.outbound.borrow().is_behind();
            state.is_read_for.set(stays);
            stays
        });
        let groups = behind.iter().filter(|state| state.group.get().is_some());
        let groups = groups.count();
        self.counters.groups_behind.set(groups);
        self.counters.sessions_behind.set(behind.len() - groups);
        let can_read = |state: &Rc<SessionState>| {
            let from = state.outbound.borrow().reads_from();
            from.filter(|from| *from <= durable)
        };
        let (index, from) = behind
            .iter()
            .enumerate()
            .find_map(|(index, state)| Some((index, can_read(state)?)))?;
        let first = behind.remove(index)?;
        behind.push_back(Rc::clone(&first));
        Some(Scan::begin(self, from, &first, behind.iter().cloned()))
    }

    /// Gives the sessions that take part what they want of a chunk that was read for them.
    async fn hand_out(&self, store: &Store, mut scan: Scan, chunk: Chunk) {
        self.report_missing(now(), &scan, &chunk.missing);
        for commit in &chunk.commits {
            scan.come_to(self, commit.number());
            self.hand_out_commit(store, commit, &mut scan);
            tokio::task::yield_now().await;
        }
        scan.end(self, chunk.next);
    }

    fn hand_out_commit(&self, store: &Store, commit: &Commit, scan: &mut Scan) {
        let now = now();
        for_each_message(commit, |place, message| {
            self.send_again(now, store, commit, place, &message, &scan.again);
            self.hand_out_message(now, store, commit, scan, (place, &message));
        });
    }

    fn hand_out_message(
        &self,
        now: Instant,
        store: &Store,
        commit: &Commit,
        scan: &mut Scan,
        (place, stored): (Place, &storage::Message),
    ) {
        let published = QoS::from_bits(stored.qos).unwrap_or_default();
        if published == QoS::AtMostOnce {
            return;
        }
        let Some(route) = scan.route(self, &stored.topic) else {
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
            let group = self.group_of(&session.state);
            let is_wanted = session.state.outbound.borrow().wants(place, qos)
                && group.is_none_or(|group| group.progress.borrow().wants(place));
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
            let mut outbound = session.state.outbound.borrow_mut();
            outbound.offer_read(item, place);
            // The rest goes at the end of the scan.
            let is_burst = outbound.mailbox_messages() >= BURST_MESSAGES || !outbound.takes_new();
            drop(outbound);
            if is_burst {
                self.pump(now, session);
            }
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
                let publication = Publication::stored_and_sent(now, store, commit.era(), stored);
                let publication = match publication {
                    Ok(publication) => publication,
                    // The scan passes over it.
                    Err(error) => {
                        tracing::error!(error, "Message cannot be sent.");
                        return;
                    }
                };
                let is_own = session.client_id() == &stored.client_id;
                let filters = session.state.filters.borrow();
                let grant = filters.grant(&publication.message.topic, commit.number(), is_own);
                let replayed = || session.grant_of_replayed(&filters, &publication.message.topic);
                let grant = match session.state.outbound.borrow().again_is_of_group() {
                    true => {
                        let shared = session.state.shared.borrow();
                        shared.grant(&publication.message.topic, commit.number(), is_own)
                    }
                    false => grant.or_else(replayed),
                };
                let grant = grant.unwrap_or_default();
                drop(filters);
                let item = publication.item(&grant, publication.message.qos, Some(place));
                session.state.outbound.borrow_mut().offer_read(item, place);
                self.pump(now, session);
            }
        }
    }
}

/// Reads commits from `from` on, on another thread: those with what is wished for, before `until`.
async fn read(
    store: &Store,
    (from, until): (CommitNumber, Option<CommitNumber>),
    wishes: Wishes,
    mut known: KnownWishes,
) -> Result<(Chunk, KnownWishes), String> {
    let store = store.clone();
    let read = tokio::task::spawn_blocking(move || {
        known.change_to(wishes, &store);
        let mut reader = store.commit_reader(from);
        let part = next_part(&store, &mut reader, |reader| known.read(reader, READ_BYTES))?;
        let (mut commits, next) = (part.commits, part.next);
        let mut missing = reader.take_missing();
        if part.is_gone {
            missing.push(all_taken(from, next));
        }
        let until = until.unwrap_or(next);
        commits.retain(|commit| commit.number() < until);
        missing.retain(|missing| missing.from < until);
        let chunk = Chunk {
            commits,
            next: next.min(until),
            missing,
        };
        Ok::<_, storage::ReadError>((chunk, known))
    });
    match read.await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the reader panicked".to_owned()),
    }
}

fn all_taken(from: CommitNumber, to: CommitNumber) -> Missing {
    Missing {
        from,
        to,
        reason: GapReason::Retention,
        log: None,
        at_most: true,
    }
}
