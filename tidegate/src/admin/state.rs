//! What the admin server shows. It outlives the broker: a gateway may become degraded, and normal
//! again, while the server goes on.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use bridge::BridgeProbe;
use broker::Probe;
use firmware_config::Config;
use storage::{Health, RecoveryEvent, Store};

use crate::admin::stream::Streams;

/// Handles on everything that can be looked at.
#[derive(Debug)]
pub(crate) struct AdminState {
    pub(crate) config: Config,
    pub(crate) started: Instant,
    serving: RefCell<Serving>,
    last_start: RefCell<Option<LastStart>>,
    pub(crate) streams: Streams,
    ready: Cell<bool>,
}

/// What serves now.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) broker: Probe,
    pub(crate) bridge: Option<BridgeProbe>,
    pub(crate) store: Kept,
}

/// Where messages are kept.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    In(Store),
    /// Nowhere: the gateway is degraded.
    Nowhere(Rc<Degraded>),
}

/// Why there is no store, and what is done about it.
#[derive(Debug)]
pub(crate) struct Degraded {
    since: Instant,
    since_wall: SystemTime,
    reason: RefCell<String>,
    attempts: Cell<u32>,
    /// `None` while one is under way.
    next_attempt: Cell<Option<Instant>>,
    /// No attempt will be made any more: only another process can open the store.
    needs_new_process: Cell<bool>,
}

/// How the store was opened the last time that it was.
#[derive(Clone, Debug)]
pub(crate) struct LastStart {
    pub(crate) at: SystemTime,
    pub(crate) events: Vec<RecoveryEvent>,
}

impl Degraded {
    pub(crate) fn new(reason: String) -> Self {
        Self {
            since: Instant::now(),
            since_wall: SystemTime::now(),
            reason: RefCell::new(reason),
            attempts: Cell::new(0),
            next_attempt: Cell::new(None),
            needs_new_process: Cell::new(false),
        }
    }

    pub(crate) fn reason(&self) -> Ref<'_, str> {
        Ref::map(self.reason.borrow(), String::as_str)
    }

    pub(crate) fn since(&self) -> (Duration, SystemTime) {
        (self.since.elapsed(), self.since_wall)
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.get()
    }

    pub(crate) fn next_attempt(&self) -> Option<Duration> {
        let at = self.next_attempt.get()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn plan_attempt(&self, wait: Duration) {
        self.next_attempt.set(Instant::now().checked_add(wait));
    }

    pub(crate) fn begin_attempt(&self) {
        self.next_attempt.set(None);
        self.attempts.set(self.attempts.get().saturating_add(1));
    }

    /// Only another process can open the store.
    pub(crate) fn give_up(&self) {
        self.needs_new_process.set(true);
    }

    pub(crate) fn needs_new_process(&self) -> bool {
        self.needs_new_process.get()
    }

    pub(crate) fn set_reason(&self, reason: String) {
        *self.reason.borrow_mut() = reason;
    }
}

impl AdminState {
    pub(crate) fn new(config: Config, serving: Serving) -> Self {
        let state = Self {
            config,
            started: Instant::now(),
            streams: Streams::default(),
            serving: RefCell::new(serving.clone()),
            last_start: RefCell::new(None),
            ready: Cell::new(false),
        };
        state.set_serving(serving);
        state
    }

    /// Something else serves from now on.
    pub(crate) fn set_serving(&self, serving: Serving) {
        if let Kept::In(store) = &serving.store {
            *self.last_start.borrow_mut() = Some(LastStart {
                at: SystemTime::now(),
                events: store.recovery_events().to_vec(),
            });
        }
        *self.serving.borrow_mut() = serving;
    }

    pub(crate) fn bridge(&self) -> Option<BridgeProbe> {
        self.serving.borrow().bridge.clone()
    }

    pub(crate) fn broker(&self) -> Probe {
        self.serving.borrow().broker.clone()
    }

    /// The store, or why there is none.
    pub(crate) fn store(&self) -> Result<Store, Rc<Degraded>> {
        match &self.serving.borrow().store {
            Kept::In(store) => Ok(store.clone()),
            Kept::Nowhere(degraded) => Err(Rc::clone(degraded)),
        }
    }

    pub(crate) fn last_start(&self) -> Option<LastStart> {
        self.last_start.borrow().clone()
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(ready);
    }

    /// Whether messages are taken, or why not.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let store = self.store().map_err(|degraded| describe(&degraded))?;
        match store.health() {
            _ if !self.ready.get() => Err("starting or ending".to_owned()),
            Health::Ready => Ok(()),
            Health::Closing => Err("ending".to_owned()),
            Health::DiskFull {
                free_bytes,
                reserve_bytes,
            } => Err(format!(
                "disk is full: {free_bytes} bytes free, {reserve_bytes} reserved"
            )),
            Health::Poisoned(problem) => Err(format!("the store has failed: {problem}")),
        }
    }

    /// Whether the process does all of its work, or somebody must look.
    pub(crate) fn liveness(&self) -> Result<(), String> {
        let store = self.store().map_err(|degraded| describe(&degraded))?;
        match store.health() {
            Health::Poisoned(problem) => Err(format!("the store has failed: {problem}")),
            Health::Ready | Health::Closing | Health::DiskFull { .. } => Ok(()),
        }
    }
}

/// For whoever asks about a store that is not there.
pub(crate) fn describe(degraded: &Degraded) -> String {
    format!("degraded, only QoS 0 is served: {}", degraded.reason())
}
