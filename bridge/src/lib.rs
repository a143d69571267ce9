//! The uplink: replicates logs of the gateway to topics of a Kafka-compatible cluster, every record
//! exactly once and in the order of its partition, through crashes and outages on either side.
//!
//! A route is a log on its way to a topic; each partition of it is a stream with a Kafka producer id
//! of its own, a cursor over the log and a state that survives. There is no buffer beside the log:
//! offline means that the cursors stand still. Retries never end and nothing is dropped; what the
//! log itself lost before it was sent is written into the gap ledger.
//!
//! The bridge has a thread of its own. If it panics, it is begun anew from what is durable; the
//! broker does not notice.
//!
//! Code map: `stream` decides (no I/O, searched exhaustively), `driver` does, `feed` and `record` make
//! batches, `link` finds leaders, `route` maps and supervises, `checkpoint` is what is durable.

mod backoff;
mod checkpoint;
mod driver;
mod feed;
mod link;
mod options;
mod record;
mod refusal;
mod route;
mod status;
mod stream;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use storage::Store;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, LocalSet};

pub use options::{BridgeOptions, RouteOptions, Start};
pub use status::{BridgeProbe, PartitionStatus, RouteStatus, StreamActivity, Trouble};

use crate::driver::{Shared, with_causes};
use crate::route::Route;

/// Between a panic and the next beginning.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// The running bridge.
#[derive(Debug)]
pub struct Bridge {
    thread: Option<JoinHandle<()>>,
    shutdown: watch::Sender<bool>,
    probe: BridgeProbe,
}

/// The bridge cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A route names a log that the store does not have.
    #[error("route `{route}` is of log `{log}`, which there is not")]
    UnknownLog {
        /// The route.
        route: String,
        /// What it names.
        log: String,
    },
    /// The thread cannot be started.
    #[error("start the bridge's thread")]
    Thread(#[source] std::io::Error),
}

impl Bridge {
    /// Starts the bridge on `store`. It needs no cluster to start, and tries for ever to reach it.
    ///
    /// # Errors
    /// A route without a log, or no thread to be had.
    pub fn start(options: BridgeOptions, store: &Store) -> Result<Self, BridgeError> {
        for route in &options.routes {
            let Some(log) = store.log(&route.log) else {
                let (route, log) = (route.name.clone(), route.log.clone());
                return Err(BridgeError::UnknownLog { route, log });
            };
            // Before anything else: a log that rejects keeps everything until its routes have told.
            checkpoint::set_pins(store, &route.name, &log);
        }
        let (shutdown, ending) = watch::channel(false);
        let (progress, progressed) = watch::channel(0_u64);
        // Without the store in it: a listener of the store must not keep the store alive.
        store.subscribe(move || progress.send_modify(|changes| *changes = changes.wrapping_add(1)));
        let probe = BridgeProbe::default();
        let budget_units = (options.in_flight_bytes_max / 1024).max(1);
        let shared = Shared {
            store: store.clone(),
            probe: probe.clone(),
            budget: Arc::new(Semaphore::new(budget_units)),
            budget_units,
            progress: progressed,
            shutdown: ending,
            request_timeout: options.request_timeout,
            backoff_max: options.backoff_max,
            checkpoint_within: options.checkpoint_within,
            batch_bytes_max: options.batch_bytes_max,
        };
        let run = move || supervise(&options, &shared);
        let thread = thread::Builder::new().name("bridge".to_owned()).spawn(run);
        let thread = Some(thread.map_err(BridgeError::Thread)?);
        Ok(Self {
            thread,
            shutdown,
            probe,
        })
    }

    /// What it is doing.
    pub fn probe(&self) -> BridgeProbe {
        self.probe.clone()
    }

    /// Waits for what is in flight, makes the positions durable, and ends. Blocks for up to a request
    /// timeout.
    pub fn stop(mut self) {
        self.shutdown.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic was told when it happened.
            let _ = thread.join();
        }
    }
}

/// Runs the bridge until it is told to end, also through panics.
fn supervise(options: &BridgeOptions, shared: &Shared) {
    loop {
        let run = panic::catch_unwind(AssertUnwindSafe(|| run(options, shared)));
        if matches!(run, Ok(Ok(()))) || *shared.shutdown.borrow() {
            return;
        }
        if let Ok(Err(error)) = run {
            tracing::error!(error = %error, "Bridge cannot have a runtime.");
        } else {
            tracing::error!("Bridge panicked; beginning anew from what is durable.");
        }
        thread::sleep(RESTART_AFTER);
    }
}

fn run(options: &BridgeOptions, shared: &Shared) -> Result<(), std::io::Error> {
    // One blocking thread: it reads the log for all streams, one after the other.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut routes = JoinSet::new();
        for route in &options.routes {
            let Some(log) = shared.store.log(&route.log) else {
                continue;
            };
            let route = Route::new(shared.clone(), options, route.clone(), log);
            routes.spawn_local(route.run());
        }
        while let Some(ended) = routes.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(error = with_causes(&error), "Route ended.");
                }
                Err(failure) if failure.is_panic() => panic::resume_unwind(failure.into_panic()),
                Err(_) => {}
            }
        }
        Ok(())
    })
}
