//! The whole broker on its store, with clients that keep their sessions: what the power takes of both.
//!
//! While the folder is recorded, so is everything that a client does and sees, in the same order. At a
//! cut, the state of each client follows from what came before it ([`player`]). The image is opened
//! with the broker again, and the clients come back and finish what they had begun ([`second_life`]).
//!
//! Invariant: what a client will remember is in the record before the broker can see it, and what it
//! has seen is in the record after the broker has sent it.

pub(crate) mod first_life;
pub(crate) mod history;
pub(crate) mod judge;
pub(crate) mod link;
pub(crate) mod player;
pub(crate) mod second_life;
pub(crate) mod step;
pub(crate) mod who;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use broker::{
    AllowAll, Broker, BrokerOptions, Durability, KeyPart, KeyTemplate, Limits, ListenerOptions,
    LogRoute, LogRouting, LogTarget, StoredLog, Unmapped,
};
use storage::{LogOptions, OpenError, Store, StoreThreads};
use tokio::sync::{mpsc as async_mpsc, oneshot};
use tokio::task::LocalSet;

use crate::check;

/// No client is to lose its connection because our clock leaps.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);
/// So few that they are full all the time.
const IN_FLIGHT_MAX: NonZeroU16 = NonZeroU16::MIN.saturating_add(3);
/// So little that whoever is slow falls behind.
const MAILBOX_BYTES: usize = 4096;

/// Moves of the clock that the broker has not come to; then whoever moves it waits.
const CLOCK_QUEUE: usize = 16;

/// A broker that runs on a thread of its own.
pub(crate) struct Running {
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    threads: StoreThreads,
    thread: JoinHandle<Result<()>>,
    shutdown: oneshot::Sender<()>,
    clock: async_mpsc::Sender<Duration>,
    /// While it is there, time does not leap by itself.
    hold: mpsc::SyncSender<()>,
}

/// The folder with its store open.
pub(crate) fn open(folder: &Path) -> Result<(Store, StoreThreads), OpenError> {
    let logs = [LogOptions::new("a", 2), LogOptions::new("default", 1)];
    let logs = logs.map(|log| LogOptions {
        retention_bytes: u64::MAX,
        ..log
    });
    Store::open(folder, check::options(), &logs)
}

fn options(store: &Store) -> Result<BrokerOptions> {
    let stored = |name: &str| {
        let log = store.log(name).with_context(|| format!("no log {name}"))?;
        Ok::<_, anyhow::Error>(StoredLog {
            log: log.id,
            key: KeyTemplate::new(vec![KeyPart::ClientId]),
            durability: Durability::Commit,
        })
    };
    let route = LogRoute {
        filters: vec!["a/#".parse().map_err(|error| anyhow!("filter: {error}"))?],
        target: LogTarget::Stored(stored("a")?),
    };
    let routing = LogRouting {
        routes: vec![route],
        default_log: stored("default")?,
        unmapped: Unmapped::Default,
    };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = BrokerOptions::new(vec![ListenerOptions::new(loopback)], routing);
    options.limits = Limits {
        inflight_max: IN_FLIGHT_MAX,
        mailbox_bytes_max: MAILBOX_BYTES,
        connect_timeout: A_YEAR,
        session_expiry_max: None,
        ..Limits::default()
    };
    Ok(options)
}

impl Running {
    /// Starts a broker on an open store. Its clock stands still but for [`Self::advance`].
    pub(crate) fn start((store, threads): (Store, StoreThreads)) -> Result<Self> {
        let options = options(&store)?;
        let (started, starting) = mpsc::sync_channel(1);
        let (shutdown, shut) = oneshot::channel();
        let (clock, mut moves) = async_mpsc::channel(CLOCK_QUEUE);
        let (hold, held) = mpsc::sync_channel(1);
        let of_broker = store.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .context("start a runtime")?;
            LocalSet::new().block_on(&runtime, async move {
                // A blocking task that runs keeps the clock from leaping.
                tokio::task::spawn_blocking(move || held.recv());
                tokio::task::spawn_local(async move {
                    while let Some(time) = moves.recv().await {
                        tokio::time::advance(time).await;
                    }
                });
                let broker = Broker::start(options, of_broker, Rc::new(AllowAll))?;
                let address = broker.addresses().first().copied();
                started.send(address.context("no listener")?)?;
                broker.run(async { drop(shut.await) }).await?;
                Ok(())
            })
        });
        let Ok(address) = starting.recv() else {
            let ended = thread.join();
            threads.close();
            let error = ended.map_err(|_| anyhow!("the broker panicked"))?.err();
            return Err(error.unwrap_or_else(|| anyhow!("the broker has ended at once")));
        };
        Ok(Self {
            store,
            address,
            threads,
            thread,
            shutdown,
            clock,
            hold,
        })
    }

    /// Lets the broker's clock move on, when it comes to it.
    pub(crate) fn advance(&self, time: Duration) {
        // Without a broker there is no clock; the clients notice that.
        let _ = self.clock.blocking_send(time);
    }

    /// Tells the broker to end, lets `meanwhile` end the connections, and closes the store.
    pub(crate) fn stop(self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        // It may have ended already.
        let _ = self.shutdown.send(());
        let done = meanwhile();
        drop(self.hold);
        let ended = self.thread.join();
        self.threads.close();
        done?;
        ended.map_err(|_| anyhow!("the broker panicked"))?
    }
}
