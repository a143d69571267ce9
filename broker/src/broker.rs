//! The broker as a whole: starting, running, ending.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use storage::{LogId, Store, SyncProblem};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::authorizer::Authorizer;
use crate::listener::Listener;
use crate::options::BrokerOptions;
use crate::probe::{Counters, Probe};
use crate::router::{Router, Stage};

/// How long connections may take to say their last words when the broker closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A broker whose listeners are bound. Clients are served while it [runs](Self::run).
pub struct Broker {
    router: Rc<Router>,
    listeners: Vec<Listener>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// The broker cannot start. Nothing is left bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The network could reach a listener that asks nobody who they are.
    #[error(
        "listener {bind}: the network can reach this address and clients are not asked who they \
         are; bind it to a loopback address such as 127.0.0.1, or set allow_anonymous = true to \
         let everybody publish and subscribe"
    )]
    Anonymous {
        /// The address.
        bind: SocketAddr,
    },
    /// The address cannot be listened at.
    #[error("listen at {bind}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Random numbers are not to be had.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// Messages are to go to a log that the store was not opened with.
    #[error("messages are routed to log {log}, which the store does not have")]
    UnknownLog {
        /// The log.
        log: LogId,
    },
}

/// The broker had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The store was closed under it.
    #[error("the store was closed while the broker ran")]
    StoreClosed,
    /// Flash cannot be written any more: nothing can be acknowledged.
    #[error("the store has failed: {problem}")]
    StoreFailed {
        /// What failed.
        problem: SyncProblem,
    },
    /// A task that everything hangs on panicked.
    #[error("a task of the broker panicked")]
    Task(#[source] tokio::task::JoinError),
}

impl Broker {
    /// Binds all listeners, and takes up the retained messages that the store found.
    ///
    /// Without a store the broker is degraded: it keeps nothing and promises nothing. Messages of
    /// QoS 0, retained ones too, and wills go to the subscribers of the moment, those of QoS 1 that
    /// belong into a log are refused as those of a full disk are, and nothing is retained.
    ///
    /// # Errors
    /// See [`StartError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        options: BrokerOptions,
        store: impl Into<Option<Store>>,
        authorizer: Rc<dyn Authorizer>,
    ) -> Result<Self, StartError> {
        Self::start_on(Vec::new(), options, store, authorizer)
    }

    /// As [`Self::start`], with sockets that listen already: a listener takes the one with its address, if
    /// there is one, and binds none. The others are closed.
    ///
    /// # Errors
    /// See [`StartError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_on(
        mut bound: Vec<TcpListener>,
        options: BrokerOptions,
        store: impl Into<Option<Store>>,
        authorizer: Rc<dyn Authorizer>,
    ) -> Result<Self, StartError> {
        let store = store.into();
        if let Some(store) = &store {
            let logs = store.logs();
            let is_there = |id| logs.iter().any(|log| log.id == id && log.options.is_some());
            if let Some(stored) = options.routing.stored_logs().find(|s| !is_there(s.log)) {
                return Err(StartError::UnknownLog { log: stored.log });
            }
        }
        let client_id_base = getrandom::u64().map_err(StartError::Random)?;
        let listeners = options.listeners.iter().enumerate();
        let listeners = listeners
            .map(|(index, listener)| Listener::bind(index, *listener, &mut bound))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<_> = listeners.iter().map(Listener::address).collect();
        let counters = Arc::new(Counters::new(&addresses));
        let router = Router::new(options, store, authorizer, counters, client_id_base);
        Ok(Self {
            router: Rc::new(router),
            listeners,
        })
    }

    /// Addresses of the listeners, in the order of the options, with the ports that they really
    /// have.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// What is counted, now and while it runs.
    pub fn probe(&self) -> Probe {
        Probe::new(Arc::clone(&self.router.counters))
    }

    /// What else is told with the `$SYS` topics: names below `$SYS/broker/tidegate/`, and values. Asked
    /// for on the I/O thread, while somebody subscribes to them.
    pub fn tell_with_sys_topics(&self, figures: impl Fn() -> Vec<(String, String)> + 'static) {
        self.router.sys.set_others(Box::new(figures));
    }

    /// Serves clients until `shutdown` is ready or the store fails. Must run inside of a
    /// [`LocalSet`](tokio::task::LocalSet), on a current-thread runtime.
    ///
    /// A shutdown stops accepting and reading, waits a while for what is on its way to flash,
    /// acknowledges it, and tells MQTT 5 clients good-bye.
    ///
    /// # Errors
    /// See [`RunError`]. Connections are closed, and nothing was acknowledged that is not on flash.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let router = self.router;
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn_local(listener.serve(Rc::clone(&router)));
        }
        tasks.spawn_local(Rc::clone(&router).follow_store());
        tasks.spawn_local(Rc::clone(&router).serve_behind());
        tasks.spawn_local(Rc::clone(&router).serve_replays());
        tasks.spawn_local(Rc::clone(&router).write_gathered_in_time());
        tasks.spawn_local(Rc::clone(&router).watch_sessions());
        if let Some(interval) = router.options.sys_interval {
            tasks.spawn_local(Rc::clone(&router).serve_sys_topics(interval));
        }
        // It may have spoken before anybody listened.
        router.store_changed.notify_one();

        let mut panicked = None;
        tokio::select! {
            biased;
            () = router.reached(Stage::Closing) => {}
            Some(Err(error)) = tasks.join_next() => panicked = Some(RunError::Task(error)),
            () = shutdown => {
                tracing::info!("Shutting down.");
                router.enter(Stage::Draining);
                let limit = router.options.shutdown_timeout;
                if timeout(limit, router.drained()).await.is_err() {
                    let pending = router.pending.borrow().tickets();
                    tracing::warn!(pending, "Publishes are left unacknowledged.");
                }
            }
        }
        router.enter(Stage::Closing);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            tracing::warn!("Connections were cut off.");
        }
        tasks.shutdown().await;
        let wills = router.waiting_wills();
        if wills > 0 {
            tracing::warn!(wills, "Wills that the store did not take are lost.");
        }
        match panicked.or_else(|| router.take_failure()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
