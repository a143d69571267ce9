//! Sessions and connections find each other: a client comes, comes again, goes, and stays away.
//!
//! A client that connects again takes its session over from its older connection (3.1.4), which is
//! closed, with DISCONNECT 0x8E in MQTT 5, and whose will is published: it did not say good-bye. What
//! it had published and is not yet acknowledged stays on its way to flash.
//!
//! Only sessions with a connection have their subscriptions in the tree: one that is away costs
//! nothing when messages come, and reads them from the log when it is back.
//!
//! Invariant: a session is attached to at most one connection.

use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::server::{DisconnectCause, InflightEntry, InflightState};
use mqtt::{Connect, Disconnect, PacketId, ProtocolVersion, ReasonCode};
use storage::CommitNumber;

use crate::causes::DropCause;
use crate::client::SessionCount;
use crate::outbound::Outbound;
use crate::router::{Router, Stage, now};
use crate::session::{Lifetime, Session, SessionState};
use crate::session_keeping::{AfterCommit, RECORD_WITHIN};
use crate::subscriptions::Entry;

/// How often it is looked whether a session's time has come.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Stands for no limit in a Session Expiry Interval (MQTT 5, 3.1.2.11.2).
const UNLIMITED: u32 = u32::MAX;

/// What there is of an earlier session of a client.
pub(crate) enum Earlier {
    None,
    GoesOn(Rc<SessionState>),
    /// It has ended, and is gone for good with this commit.
    GoneWith(CommitNumber),
}

impl Lifetime {
    /// So many seconds of a Session Expiry Interval.
    pub(crate) fn of_seconds(seconds: u32) -> Self {
        match seconds {
            0 => Self::Connection,
            UNLIMITED => Self::Unlimited,
            seconds => Self::For(Duration::from_secs(seconds.into())),
        }
    }

    /// As a Session Expiry Interval.
    pub(crate) fn seconds(self) -> u32 {
        match self {
            Self::Connection => 0,
            Self::For(time) => u32::try_from(time.as_secs()).unwrap_or(UNLIMITED),
            Self::Unlimited => UNLIMITED,
        }
    }

    /// How long a session lives without a connection; `None` if it ends with that.
    fn time(self) -> Option<Duration> {
        match self {
            Self::Connection => None,
            Self::For(time) => Some(time),
            Self::Unlimited => Some(Duration::MAX),
        }
    }

    fn at_most(self, max: Option<Duration>) -> Self {
        match (self, max) {
            (Self::For(time), Some(max)) => Self::For(time.min(max)),
            (Self::Unlimited, Some(max)) => Self::For(max),
            (lifetime, _) => lifetime,
        }
    }
}

impl Router {
    /// How long the session of this CONNECT is to live.
    pub(crate) fn lifetime_of(&self, connect: &Connect) -> Lifetime {
        let asked = match connect.version {
            ProtocolVersion::V311 if connect.clean_start => Lifetime::Connection,
            ProtocolVersion::V311 => Lifetime::Unlimited,
            ProtocolVersion::V5 => {
                let seconds = connect.properties.session_expiry_interval;
                Lifetime::of_seconds(seconds.unwrap_or(0))
            }
        };
        match self.store {
            Some(_) => asked.at_most(self.options.limits.session_expiry_max),
            None => Lifetime::Connection,
        }
    }

    /// The earlier session of this client: it goes on, or ends.
    pub(crate) fn earlier(&self, now: Instant, client_id: &str, clean_start: bool) -> Earlier {
        let find = || self.sessions.borrow().get(client_id);
        if let Some(older) = find().and_then(|earlier| earlier.session()) {
            self.take_over(now, &older);
        }
        match find() {
            // Its time may have come since it was looked last.
            Some(earlier) if !clean_start && !earlier.is_over(now) => {
                return Earlier::GoesOn(earlier);
            }
            Some(earlier) => self.end_session(now, &earlier, Duration::ZERO),
            None => {}
        }
        // It may have been another connection that has ended it.
        let gone = self.leaving.borrow().get(client_id).copied();
        match gone.filter(|commit| *commit > self.durable()) {
            Some(commit) => {
                // Until now nobody waited for it.
                if let Some(store) = &self.store {
                    store.hurry_commit(commit);
                }
                Earlier::GoneWith(commit)
            }
            None => Earlier::None,
        }
    }

    /// Whether a session may be kept for this client, in the place of an earlier one.
    pub(crate) fn has_room_for_session(&self, client_id: &str, lifetime: Lifetime) -> bool {
        let earlier = self.sessions.borrow().get(client_id);
        lifetime == Lifetime::Connection
            || earlier.is_some_and(|earlier| earlier.is_written.get())
            || self.kept_sessions.get() < self.options.limits.sessions_max
    }

    /// A session that has never had a connection.
    pub(crate) fn new_session(&self, client_id: &str) -> Rc<SessionState> {
        let outbound = Outbound::new(self.worked_off.get(), self.mailbox());
        let state = Rc::new(SessionState::new(
            client_id,
            Lifetime::Connection,
            outbound,
            &self.unreleased_bytes,
        ));
        self.sessions.borrow_mut().insert(&state);
        state
    }

    /// The session has a connection.
    pub(crate) fn attach(&self, now: Instant, session: &Rc<Session>) {
        let state = &session.state;
        state.expires_at.set(None);
        state.was_closed.set(false);
        if state.is_offline.take() {
            self.counters.sessions_offline.replace(1, 0);
        }
        state.newest_connection.set(Some(session.connection.id));
        *state.attached.borrow_mut() = Some(Rc::clone(session));
        self.write_session(state, RECORD_WITHIN);
        let filters = state.filters.borrow();
        let mut subscriptions = self.subscriptions.borrow_mut();
        for (filter, subscribed) in filters.iter() {
            let entry = Entry {
                connection: session.connection.id,
                subscriber: Rc::clone(session),
                options: subscribed.options,
                identifier: subscribed.identifier,
            };
            subscriptions.insert(filter, entry);
        }
        drop(subscriptions);
        if !filters.is_empty() {
            self.forget_routes();
        }
        drop(filters);
        self.come_to_groups(session);
        self.go_on(now, session);
    }

    /// Delivery goes on where the earlier connection left it.
    fn go_on(&self, now: Instant, session: &Rc<Session>) {
        let state = &session.state;
        let mut outbound = state.outbound.borrow_mut();
        let gone = outbound.attach(self.newest_appended.get());
        if state.filters.borrow().is_empty() && outbound.left().is_empty() {
            outbound.begin_live(self.worked_off.get());
        }
        let ids = |state| {
            let bindings = outbound.bindings().1.filter(|sent| sent.state == state);
            bindings.map(|sent| sent.packet_id).collect::<Vec<_>>()
        };
        let written = ids(InflightState::AwaitsPubcomp);
        let owed = ids(InflightState::OwesPubrel);
        drop(outbound);
        self.forget(now, session, &gone);
        self.after_commit(now, AfterCommit::Release(Rc::clone(session), written));
        self.release_when_written(now, session, owed);
        self.read_for(state);
        self.replay_for(state);
        let bound = AfterCommit::Bound(Rc::clone(session));
        self.when_durable(now, state.bindings_commit.get(), bound);
    }

    /// These messages are not there any more, and cannot be sent again.
    pub(crate) fn forget(&self, now: Instant, session: &Rc<Session>, gone: &[PacketId]) {
        if gone.is_empty() {
            return;
        }
        self.counters
            .dropped
            .add(DropCause::Retention, gone.len() as u64);
        for packet_id in gone {
            let mut machine = session.connection.machine.borrow_mut();
            machine.forget(now, *packet_id);
            drop(machine);
            let mut outbound = session.state.outbound.borrow_mut();
            outbound.forgotten(*packet_id);
        }
        session.connection.signal.notify();
    }

    /// The client said with its good-bye how long its session is to live.
    pub(crate) fn change_lifetime(&self, session: &Session, seconds: u32) {
        // One that is to end with its connection cannot be prolonged, and without a store all are.
        if session.state.is_persistent() {
            let max = self.options.limits.session_expiry_max;
            let lifetime = Lifetime::of_seconds(seconds).at_most(max);
            session.state.lifetime.set(lifetime);
        }
    }

    /// Ends the connection of a session whose client has come again. Its task does the rest.
    fn take_over(&self, now: Instant, older: &Rc<Session>) {
        if let Some(left_out) = self.log_limits.takeover.pass(now) {
            let client_id = older.client().client_id;
            let older = older.connection.id;
            tracing::info!(client_id, %older, left_out, "Client connected again: taken over.");
        }
        // It may have ended by itself, and even said good-bye, and its task have come no further than to
        // what came before.
        let unheard = {
            let machine = older.connection.machine.borrow();
            let unheard = machine.unheard_end();
            unheard.map(|(cause, publish_will)| (cause.clone(), publish_will))
        };
        let taken_over = DisconnectCause::Server(ReasonCode::SessionTakenOver);
        let (cause, publish_will) = unheard.unwrap_or((taken_over, true));
        self.end_connection(now, older, &cause, publish_will);
        older.connection.disconnect(ReasonCode::SessionTakenOver);
    }

    /// The session loses its connection, with what its client has said about that. Once is enough.
    pub(crate) fn end_connection(
        &self,
        now: Instant,
        session: &Rc<Session>,
        cause: &DisconnectCause,
        publish_will: bool,
    ) {
        if let DisconnectCause::Client(Disconnect {
            session_expiry_interval: Some(seconds),
            ..
        }) = cause
            && !session.has_ended.get()
        {
            self.change_lifetime(session, *seconds);
        }
        let will = session.will.take();
        if let Some(will) = will.as_ref().filter(|_| !publish_will) {
            self.forget_will(session, will.number);
        }
        self.detach(now, session);
        if let Some(will) = will.filter(|_| publish_will) {
            self.publish_will_in_time(now, session, *will);
        }
    }

    /// The session has lost its connection, and ends if it does not outlive it. Once is enough.
    pub(crate) fn detach(&self, now: Instant, session: &Rc<Session>) {
        if session.has_ended.replace(true) {
            return;
        }
        let state = &session.state;
        *state.attached.borrow_mut() = None;
        self.count_session(session.version, SessionCount::Ended);
        let filters = state.filters.borrow();
        let mut subscriptions = self.subscriptions.borrow_mut();
        for (filter, _) in filters.iter() {
            subscriptions.remove(filter, session.connection.id);
        }
        drop(subscriptions);
        if !filters.is_empty() {
            self.forget_routes();
        }
        drop(filters);
        let mut left = session.connection.machine.borrow_mut().take_inflight();
        self.note_unheard(state, &left);
        let mut outbound = state.outbound.borrow_mut();
        let given_back = outbound.give_back(&mut left);
        state.retained.borrow_mut().before_detach(&outbound);
        let lost = outbound.detach(self.worked_off.get(), &left);
        state.retained.borrow_mut().after_detach(&outbound);
        drop(outbound);
        self.go_from_groups(session, &given_back);
        let Some(time) = state.lifetime.get().time() else {
            self.end_session(now, state, RECORD_WITHIN);
            return;
        };
        self.counters
            .dropped
            .add(DropCause::MailboxFull, lost as u64);
        state.expires_at.set(now.checked_add(time));
        state.is_offline.set(true);
        state.was_closed.set(self.stage() != Stage::Running);
        self.write_session(state, RECORD_WITHIN);
        self.counters.sessions_offline.replace(0, 1);
    }

    /// The task of the connection may be waiting, with events that it has not taken: what the client has
    /// said of its deliveries is in what the state machine has `left` of them.
    fn note_unheard(&self, state: &SessionState, left: &[InflightEntry]) {
        let mut outbound = state.outbound.borrow_mut();
        let known: Vec<_> = outbound.bindings().1.chain(outbound.rest().1).collect();
        let mut of_groups = Vec::new();
        for packet_id in known.into_iter().map(|sent| sent.packet_id) {
            let entry = left.iter().find(|entry| entry.packet_id == packet_id);
            match entry.map(|entry| entry.state) {
                None => {
                    of_groups.extend(outbound.of_group(packet_id));
                    outbound.acknowledged(packet_id);
                }
                Some(InflightState::OwesPubrel | InflightState::AwaitsPubcomp) => {
                    outbound.received(packet_id);
                }
                Some(InflightState::AwaitsPuback | InflightState::AwaitsPubrec) => {}
            }
        }
        drop(outbound);
        for of_group in of_groups {
            self.settle_for_group(of_group);
        }
    }

    /// Ends a session that has no connection: nothing is left of it, on flash after a commit that
    /// comes `within` this time. Its client hears of that when it is durable.
    pub(crate) fn end_session(&self, now: Instant, state: &Rc<SessionState>, within: Duration) {
        self.sessions.borrow_mut().remove(state);
        state.has_ended.set(true);
        self.end_wait_of_will(now, state);
        self.forget_received(state);
        self.leave_groups(state);
        self.write_session(state, within);
        state.expires_at.set(None);
        if state.is_offline.take() {
            self.counters.sessions_offline.replace(1, 0);
        }
    }

    /// Looks after sessions without a connection until the broker ends.
    pub(crate) async fn watch_sessions(self: Rc<Self>) {
        while self.stage() < Stage::Closing {
            tokio::select! {
                () = tokio::time::sleep(EXPIRY_INTERVAL) => {
                    self.expire_sessions(now());
                    self.write_checkpoint(now());
                    self.write_groups(now());
                    self.write_replays(now());
                }
                () = self.reached(Stage::Closing) => {}
            }
        }
    }

    /// Ends the sessions whose time has come.
    fn expire_sessions(&self, now: Instant) {
        let sessions = self.sessions.borrow();
        let expired = sessions.iter().filter(|state| state.is_over(now));
        let expired: Vec<_> = expired.cloned().collect();
        drop(sessions);
        self.publish_due_wills(now);
        for state in &expired {
            let client_id = state.client_id();
            tracing::debug!(client_id, "Session has expired.");
            self.end_session(now, state, RECORD_WITHIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::StoreOptions;

    use super::*;
    use crate::trial::{NEVER, commit, kept_session, with_router};

    #[test]
    fn client_that_comes_again_at_once_has_the_end_of_its_session_written_at_once() {
        with_router(StoreOptions::default(), |router| {
            let session = kept_session(router, "client");
            commit(router);
            router.end_session(now(), &session.state, NEVER);
            let Earlier::GoneWith(gone) = router.earlier(now(), "client", false) else {
                panic!("the earlier session is not waited for");
            };
            let store = router.store.as_ref().unwrap();
            let end = Instant::now() + Duration::from_secs(30);
            while store.durable() < gone {
                assert!(Instant::now() < end, "waited in vain for the commit");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }
}
