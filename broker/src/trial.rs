//! A router on a store of its own, and sessions, for the tests of this crate.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use storage::{JournalKey, JournalKind, LogId, LogOptions, Store, StoreOptions};

use crate::authorizer::{AllowAll, Identity};
use crate::log_routing::{Durability, LogRouting, StoredLog, Unmapped};
use crate::options::BrokerOptions;
use crate::probe::Counters;
use crate::record_key::KeyTemplate;
use crate::router::Router;
use crate::session::{Lifetime, Session};

/// A time for which nothing waits.
pub(crate) const NEVER: Duration = Duration::from_secs(100_000);

/// The log that takes everything: its records wait until somebody has them committed.
pub(crate) const LOG: &str = "default";

/// With a router that nobody runs.
pub(crate) fn with_router(store: StoreOptions, then: impl FnOnce(&Router)) {
    let folder = tempfile::tempdir().unwrap();
    let logs = [LogOptions {
        commit_within: NEVER,
        ..LogOptions::new(LOG, 1)
    }];
    let (store, threads) = Store::open(folder.path(), store, &logs).unwrap();
    let router = router_on(Some(store));
    then(&router);
    threads.close();
}

/// A router with every option at its default, which nobody runs.
pub(crate) fn router_on(store: Option<Store>) -> Router {
    let log = store.as_ref().map(|store| store.log(LOG).unwrap().id);
    let routing = LogRouting {
        routes: Vec::new(),
        default_log: StoredLog {
            log: log.unwrap_or(LogId(1)),
            key: KeyTemplate::new(Vec::new()),
            durability: Durability::Commit,
        },
        unmapped: Unmapped::Default,
    };
    let options = BrokerOptions::new(Vec::new(), routing);
    let counters = Arc::new(Counters::new(&[]));
    Router::new(options, store, Rc::new(AllowAll), counters, 0)
}

/// A session that is kept; its connection has not seen a CONNECT.
pub(crate) fn kept_session(router: &Router, client_id: &str) -> Rc<Session> {
    let state = router.new_session(client_id);
    state.lifetime.set(Lifetime::Unlimited);
    let identity = Identity::new(client_id, Rc::new(()));
    let version = mqtt::ProtocolVersion::V5;
    let session = Session::new(router.open_connection(), version, identity, state);
    let session = Rc::new(session);
    router.attach(crate::router::now(), &session);
    session
}

/// Has what was put so far committed.
pub(crate) fn commit(router: &Router) {
    let store = router.store.as_ref().unwrap();
    let key = JournalKey::new(JournalKind::BridgeRoute, b"test");
    let commit = store.put_journal_entry(key, None, Duration::ZERO).unwrap();
    store.wait_durable(commit).unwrap();
}
