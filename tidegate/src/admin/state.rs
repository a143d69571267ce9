//! What the admin server shows.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use bridge::BridgeProbe;
use broker::Probe;
use firmware_config::Config;
use storage::{Health, Store};

use crate::admin::stream::Streams;

/// Handles on everything that can be looked at.
#[derive(Debug)]
pub(crate) struct AdminState {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) broker: Probe,
    pub(crate) started: Instant,
    pub(crate) streams: Streams,
    bridge: RefCell<Option<BridgeProbe>>,
    ready: Cell<bool>,
}

impl AdminState {
    pub(crate) fn new(config: Config, store: Store, broker: Probe) -> Self {
        Self {
            config,
            store,
            broker,
            started: Instant::now(),
            streams: Streams::default(),
            bridge: RefCell::new(None),
            ready: Cell::new(false),
        }
    }

    pub(crate) fn set_bridge(&self, probe: BridgeProbe) {
        *self.bridge.borrow_mut() = Some(probe);
    }

    pub(crate) fn bridge(&self) -> Option<BridgeProbe> {
        self.bridge.borrow().clone()
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(ready);
    }

    /// Whether messages are taken, or why not.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        match self.store.health() {
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

    /// Whether the process is of use, or should be started again.
    pub(crate) fn liveness(&self) -> Result<(), String> {
        match self.store.health() {
            Health::Poisoned(problem) => Err(format!("the store has failed: {problem}")),
            Health::Ready | Health::Closing | Health::DiskFull { .. } => Ok(()),
        }
    }
}
