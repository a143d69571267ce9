//! The router: what all connections share. Messages come in from connections and go out to the
//! store and to subscribers.
//!
//! Everything here is on the I/O thread. Invariant: no cell is borrowed across an await, nor while
//! another part of the router is called that may borrow the same one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use mqtt::TopicName;
use mqtt::server::{Connection as StateMachine, Options as MachineOptions};
use storage::{CommitNumber, Store};
use tokio::sync::Notify;

use crate::authorizer::Authorizer;
use crate::broker::RunError;
use crate::budget::Budget;
use crate::connection::{Connection, ConnectionId};
use crate::gathering::Gathered;
use crate::groups::Groups;
use crate::kept_wills::KeptWills;
use crate::log_limit::LogLimits;
use crate::options::BrokerOptions;
use crate::pending::PendingPublishes;
use crate::probe::Counters;
use crate::publication::Publication;
use crate::received::unreleased_budget;
use crate::replay_keeping::WrittenReplays;
use crate::retained::RetainedMessages;
use crate::route::{Route, RouteCache, recipients};
use crate::session::{Session, SessionState, Sessions};
use crate::session_keeping::{AfterCommit, Checkpoints};
use crate::subscriptions::Subscriptions;
use crate::sys_topics::SysTopics;
use crate::will::WaitingWills;

/// See the module's documentation.
pub(crate) struct Router {
    pub(crate) options: BrokerOptions,
    pub(crate) machine_options: Arc<MachineOptions>,
    /// Where messages are kept; without it the broker is degraded and keeps none.
    pub(crate) store: Option<Store>,
    pub(crate) authorizer: Rc<dyn Authorizer>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log_limits: LogLimits,
    pub(crate) sessions: RefCell<Sessions>,
    /// How many of them outlive their connection.
    pub(crate) kept_sessions: Cell<usize>,
    pub(crate) unreleased_bytes: Budget,
    /// What waits for all clients together.
    pub(crate) mailboxes: Budget,
    pub(crate) subscriptions: RefCell<Subscriptions<Rc<Session>>>,
    pub(crate) routes: RefCell<RouteCache>,
    /// How often subscriptions changed.
    pub(crate) changes: Cell<u64>,
    pub(crate) retained: RefCell<RetainedMessages>,
    pub(crate) pending: RefCell<PendingPublishes>,
    pub(crate) wills: RefCell<WaitingWills>,
    pub(crate) kept_wills: RefCell<KeptWills>,
    /// Of one record at a time; kept for its memory.
    pub(crate) key: RefCell<Vec<u8>>,
    /// What sockets are read into, one at a time. Messages are slices of it, and small ones of many
    /// connections lie side by side.
    pub(crate) read_buffer: RefCell<BytesMut>,
    /// Every commit up to here was worked off.
    pub(crate) worked_off: Cell<CommitNumber>,
    /// The newest commit that something was appended to.
    pub(crate) newest_appended: Cell<CommitNumber>,
    /// The newest commit with a message that nobody subscribed to when it was published: it is not
    /// pushed to anybody.
    pub(crate) newest_unwanted: Cell<CommitNumber>,
    /// What waits for commits that nobody publishes with.
    pub(crate) after_commit: RefCell<VecDeque<(CommitNumber, AfterCommit)>>,
    /// Sessions that have ended, by client identifier: with which commit they are gone for good, until it
    /// is durable.
    pub(crate) leaving: RefCell<HashMap<Box<str>, CommitNumber>>,
    pub(crate) checkpoints: RefCell<Checkpoints>,
    pub(crate) groups: RefCell<Groups>,
    pub(crate) gathered: Gathered,
    /// Sessions that are read for.
    pub(crate) behind: RefCell<VecDeque<Rc<SessionState>>>,
    /// There may be something to read for one of them.
    pub(crate) behind_changed: Notify,
    /// The newest commit with a message that went to its subscribers at once, QoS 0.
    pub(crate) newest_at_once: Cell<CommitNumber>,
    /// Sessions with replays.
    pub(crate) replaying: RefCell<VecDeque<Rc<SessionState>>>,
    /// There may be something to do for one of them.
    pub(crate) replays_changed: Notify,
    pub(crate) written_replays: RefCell<WrittenReplays>,
    pub(crate) sys: SysTopics,
    /// How often the store had something to say.
    pub(crate) announcements: Cell<u64>,
    /// The store has something to say; from its threads.
    pub(crate) store_changed: Arc<Notify>,
    /// Commits were worked off.
    pub(crate) progress: Notify,
    stage_changed: Notify,
    connections: RefCell<BTreeMap<ConnectionId, Rc<Connection>>>,
    awaiting_commit: RefCell<Vec<Rc<Connection>>>,
    stage: Cell<Stage>,
    failure: RefCell<Option<RunError>>,
    next_connection: Cell<u64>,
    /// What assigned client identifiers have in common; another number after each start.
    client_id_base: u64,
    /// Makes of their numbers what nobody can guess.
    client_id_secret: RandomState,
    next_client_id: Cell<u64>,
}

/// How far the broker's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Clients are served.
    Running,
    /// Nothing more is read; what was read is worked off.
    Draining,
    /// Connections are closed.
    Closing,
}

/// The time, as the runtime sees it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Router {
    pub(crate) fn new(
        options: BrokerOptions,
        store: Option<Store>,
        authorizer: Rc<dyn Authorizer>,
        counters: Arc<Counters>,
        client_id_base: u64,
    ) -> Self {
        let limits = &options.limits;
        let retained = RetainedMessages::new(limits.retained_bytes_max, limits.retained_count_max);
        let window = usize::from(limits.receive_maximum.get());
        let mailboxes = Budget::new(limits.all_mailboxes_bytes_max);
        let store_changed = Arc::new(Notify::new());
        if let Some(store) = &store {
            let notify = Arc::clone(&store_changed);
            store.subscribe(move || notify.notify_one());
        }
        let durable = store.as_ref().map(Store::durable);
        let router = Self {
            machine_options: Arc::new(limits.machine_options()),
            worked_off: Cell::new(durable.unwrap_or_default()),
            newest_appended: Cell::new(durable.unwrap_or_default()),
            newest_unwanted: Cell::default(),
            after_commit: RefCell::default(),
            leaving: RefCell::default(),
            checkpoints: RefCell::default(),
            groups: RefCell::default(),
            gathered: Gathered::default(),
            behind: RefCell::default(),
            behind_changed: Notify::new(),
            newest_at_once: Cell::default(),
            replaying: RefCell::default(),
            replays_changed: Notify::new(),
            written_replays: RefCell::default(),
            retained: RefCell::new(retained),
            store_changed,
            options,
            store,
            authorizer,
            counters,
            log_limits: LogLimits::default(),
            sessions: RefCell::default(),
            kept_sessions: Cell::new(0),
            unreleased_bytes: unreleased_budget(),
            mailboxes,
            subscriptions: RefCell::default(),
            routes: RefCell::default(),
            changes: Cell::new(0),
            pending: RefCell::new(PendingPublishes::new(window)),
            wills: RefCell::default(),
            kept_wills: RefCell::default(),
            key: RefCell::default(),
            read_buffer: RefCell::default(),
            sys: SysTopics::new(now()),
            announcements: Cell::new(0),
            progress: Notify::new(),
            stage_changed: Notify::new(),
            connections: RefCell::default(),
            awaiting_commit: RefCell::default(),
            stage: Cell::new(Stage::Running),
            failure: RefCell::default(),
            next_connection: Cell::new(1),
            client_id_base,
            client_id_secret: RandomState::new(),
            next_client_id: Cell::new(1),
        };
        router.restore_retained();
        router.restore_sessions(now());
        router
    }

    fn restore_retained(&self) {
        let Some(store) = &self.store else {
            return;
        };
        let now = now();
        let mut retained = self.retained.borrow_mut();
        for recovered in store.take_recovered_retained() {
            match Publication::stored(now, store, recovered.era, &recovered.message) {
                Ok(Some(publication)) => retained.restore(publication),
                Ok(None) => {}
                Err(error) => tracing::error!(error, "Retained message cannot be sent; left out."),
            }
        }
        self.count_retained(&retained);
    }

    pub(crate) fn count_retained(&self, retained: &RetainedMessages) {
        self.counters.retained_messages.set(retained.count());
        self.counters.retained_bytes.set(retained.bytes());
    }

    // Connections

    /// A new connection, which awaits CONNECT.
    pub(crate) fn open_connection(&self) -> Rc<Connection> {
        let id = ConnectionId(self.next_connection.get());
        self.next_connection.set(id.0 + 1);
        let machine = StateMachine::new(Arc::clone(&self.machine_options), now());
        let connection = Rc::new(Connection::new(id, machine, &self.mailboxes));
        self.connections
            .borrow_mut()
            .insert(id, Rc::clone(&connection));
        connection
    }

    /// A connection is over. It waits for nothing any more: while a disk is full, connections may
    /// come and go for days without a commit.
    pub(crate) fn close_connection(&self, id: ConnectionId) {
        let closed = self.connections.borrow_mut().remove(&id);
        if closed.is_some_and(|connection| connection.awaits_commit.get()) {
            let mut awaiting = self.awaiting_commit.borrow_mut();
            awaiting.retain(|connection| connection.id != id);
        }
    }

    fn wake_all(&self) {
        for connection in self.connections.borrow().values() {
            connection.signal.notify();
        }
    }

    /// Wakes this connection when the store has something to say.
    pub(crate) fn await_commit(&self, connection: &Rc<Connection>) {
        if !connection.awaits_commit.replace(true) {
            self.awaiting_commit
                .borrow_mut()
                .push(Rc::clone(connection));
        }
    }

    /// Wakes those that wait for it, in the order in which they began to.
    pub(crate) fn wake_waiting(&self) {
        for connection in self.awaiting_commit.take() {
            connection.awaits_commit.set(false);
            connection.signal.notify();
        }
    }

    /// A client identifier for a client that has none, and that nobody else has: not by chance, and not
    /// because it was guessed from others, of which a will may be left when the session is gone.
    pub(crate) fn assign_client_id(&self) -> String {
        loop {
            let number = self.next_client_id.get();
            self.next_client_id.set(number + 1);
            let secret = self.client_id_secret.hash_one(number);
            let client_id = format!("tidegate-{:016x}-{secret}", self.client_id_base);
            let is_leaving = self.leaving.borrow().contains_key(client_id.as_str());
            if !is_leaving && self.sessions.borrow().get(&client_id).is_none() {
                return client_id;
            }
        }
    }

    /// The newest commit that is durable.
    pub(crate) fn durable(&self) -> CommitNumber {
        let durable = self.store.as_ref().map(Store::durable);
        durable.unwrap_or_default()
    }

    // Routes

    /// The way of messages with this topic name.
    pub(crate) fn route(&self, topic: &TopicName) -> Rc<Route> {
        let generation = self.authorizer.generation();
        let mut routes = self.routes.borrow_mut();
        if let Some(route) = routes.get(topic, generation) {
            return route;
        }
        let levels_max = self.options.limits.topic_levels();
        let class = self.options.routing.class(topic, levels_max);
        let subscriptions = self.subscriptions.borrow();
        let recipients = recipients(&subscriptions, topic, |session| {
            // Of a group its members are asked for.
            session.state.group.get().is_some()
                || self.authorizer.may_receive(session.client(), topic)
        });
        let route = Rc::new(Route::new(topic, class, recipients));
        routes.insert(&route);
        route
    }

    /// Subscriptions changed.
    pub(crate) fn forget_routes(&self) {
        self.routes.borrow_mut().clear();
        self.changes.set(self.changes.get() + 1);
        let count = self.subscriptions.borrow().len();
        self.counters.subscriptions.set(count);
    }

    // The end

    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Goes on to this stage; there is no way back.
    pub(crate) fn enter(&self, stage: Stage) {
        if stage > self.stage.get() {
            self.stage.set(stage);
            self.wake_all();
            self.stage_changed.notify_waiters();
            // The task that follows the store is to see it, too.
            self.store_changed.notify_one();
        }
    }

    /// Waits for this stage or a later one.
    pub(crate) async fn reached(&self, stage: Stage) {
        loop {
            let changed = self.stage_changed.notified();
            if self.stage() >= stage {
                return;
            }
            changed.await;
        }
    }

    /// Waits until nobody waits to be acknowledged.
    pub(crate) async fn drained(&self) {
        loop {
            let progress = self.progress.notified();
            if self.pending.borrow().tickets() == 0 && self.after_commit.borrow().is_empty() {
                return;
            }
            progress.await;
        }
    }

    /// The store takes nothing any more: the broker ends.
    pub(crate) fn fail(&self, error: RunError) {
        let mut failure = self.failure.borrow_mut();
        if failure.is_none() && self.stage.get() < Stage::Closing {
            *failure = Some(error);
        }
        drop(failure);
        self.enter(Stage::Closing);
    }

    pub(crate) fn take_failure(&self) -> Option<RunError> {
        self.failure.borrow_mut().take()
    }
}

#[cfg(test)]
mod tests {
    use storage::StoreOptions;

    use crate::trial::with_router;

    #[test]
    fn connection_that_is_over_waits_for_no_commit() {
        with_router(StoreOptions::default(), |router| {
            let [first, second] = [(); 2].map(|()| router.open_connection());
            for connection in [&first, &second, &first] {
                router.await_commit(connection);
            }
            router.close_connection(first.id);
            let awaiting: Vec<_> = router.awaiting_commit.take().iter().map(|c| c.id).collect();
            assert_eq!(awaiting, [second.id]);
        });
    }
}
