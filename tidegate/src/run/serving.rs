//! What a running gateway does, with a store and without one (docs/decisions/0010).
//!
//! ```text
//!   open ──ok──────────────> normal ──SIGTERM──> 0
//!    │                        │   ^
//!    │ trouble of the machine │   │ the store opens again
//!    v                        │   │
//!  degraded <──fails again────┘   │     (the first failure ends the process: 74)
//!    └────────────────────────────┘
//! ```
//!
//! Invariants: the process does not end because of the machine's flash twice in a row; the admin
//! server goes on through all of it, and the listeners keep their addresses.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bridge::Bridge;
use broker::{AllowAll, Broker, RunError};
use firmware_config::Config;
use storage::{Health, Store, StoreThreads};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::addresses::AddressesFile;
use crate::admin::{Admin, AdminState, Degraded, Kept, Serving};
use crate::exit::{Failure, Status};
use crate::run::binding::{explain_bind, explain_start};
use crate::run::opening::{Opened, Unopened, open_store};
use crate::run::passed_sockets::PassedSockets;
use crate::run::past_failure::{PROBATION, PastFailure};
use crate::run::signals::{EndSignals, RetrySignal, listen};
use crate::run::telling::Telling;
use crate::wiring;

/// How long an end waits for the uplink's answers. With what the broker may take before, it is less
/// than what `systemd/tidegate.service` allows (TimeoutStopSec).
const UPLINK_TIMEOUT: Duration = Duration::from_secs(15);
/// Pauses between attempts to open the store: the first, and the longest after doubling.
const ATTEMPT_FIRST: Duration = Duration::from_secs(10);
const ATTEMPT_LAST: Duration = Duration::from_secs(10 * 60);

/// What serves next.
enum Mode {
    Normal(Store, StoreThreads),
    Degraded(String),
}

type Begun = (Broker, Option<Bridge>, Rc<AdminState>);

/// How serving with a store ended.
enum End {
    Asked,
    StoreFailed(String),
}

/// What lasts while modes change.
struct Gateway<'c> {
    config: &'c Config,
    end: EndSignals,
    retry: RetrySignal,
    past: PastFailure,
    /// After which pause the store is tried next.
    pause: Duration,
    /// With the ports that the system chose at first.
    listeners: Vec<std::net::SocketAddr>,
    /// Those of the service manager, for each broker anew.
    sockets: PassedSockets,
    state: Option<Rc<AdminState>>,
    admin: Option<(std::net::SocketAddr, JoinHandle<()>)>,
    /// Tells the service manager how it goes.
    telling: Telling,
    addresses: Option<AddressesFile>,
}

/// Serves until it is asked to end, or until the store fails for the first time.
pub(super) async fn serve(
    config: &Config,
    opened: Result<Opened, Unopened>,
    sockets: PassedSockets,
) -> Result<(), Failure> {
    // Before anybody is told that we run, who may then tell us to end.
    let (end, retry) = listen()?;
    let mut gateway = Gateway {
        config,
        end,
        retry,
        past: PastFailure::look(&config.data_dir),
        pause: ATTEMPT_FIRST,
        listeners: Vec::new(),
        sockets,
        state: None,
        admin: None,
        telling: Telling::default(),
        addresses: None,
    };
    let mut mode = match opened {
        Ok((store, threads)) => Mode::Normal(store, threads),
        Err(Unopened::Trouble(reason)) => Mode::Degraded(reason),
        Err(Unopened::Broken(reason)) => {
            Mode::Degraded(gateway.after_failure(Duration::ZERO, reason)?)
        }
        Err(Unopened::Refused(failure)) => return Err(failure),
    };
    loop {
        mode = match mode {
            Mode::Normal(store, threads) => {
                let since = Instant::now();
                match gateway.serve_normally(store, threads).await? {
                    End::Asked => return Ok(()),
                    End::StoreFailed(problem) => {
                        Mode::Degraded(gateway.after_failure(since.elapsed(), problem)?)
                    }
                }
            }
            Mode::Degraded(reason) => match gateway.serve_degraded(reason).await? {
                Some((store, threads)) => Mode::Normal(store, threads),
                None => return Ok(()),
            },
        };
    }
}

impl Gateway<'_> {
    async fn serve_normally(
        &mut self,
        store: Store,
        threads: StoreThreads,
    ) -> Result<End, Failure> {
        let (broker, bridge, state) = match self.begin_normally(&store) {
            Ok(begun) => begun,
            Err(failure) => {
                threads.close();
                return Err(failure);
            }
        };
        state.set_ready(true);
        tracing::debug!(target: "start", step = "listeners", "Start goes on.");
        self.telling.ready(&state);
        let asked = Cell::new(false);
        let shutdown = async {
            self.end.next().await;
            asked.set(true);
        };
        let probation = async {
            tokio::time::sleep(PROBATION).await;
            self.past.forget();
            std::future::pending().await
        };
        let result = tokio::select! {
            result = broker.run(shutdown) => result,
            result = probation => result,
        };
        state.set_ready(false);
        if let (Err(RunError::StoreFailed { problem }), false) = (&result, asked.get()) {
            // Whatever hangs there holds nobody up.
            thread::spawn(move || {
                if let Some(bridge) = bridge {
                    bridge.stop();
                }
                threads.close();
            });
            return Ok(End::StoreFailed(problem.to_string()));
        }
        self.telling.stopping();
        if let Some(bridge) = bridge {
            stop(bridge, &mut self.end).await?;
        }
        self.close_admin();
        // Whatever was appended is written, also when serving failed.
        threads.close();
        match (result, store.health()) {
            // Asked to end, so there is no loop to fear; but not all was written.
            (_, Health::Poisoned(problem)) => {
                let what = anyhow::anyhow!("the store failed while it was closed: {problem}");
                Err(Failure::with(Status::StoreFailed, what))
            }
            (result, _) => Ok(result.map(|()| End::Asked)?),
        }
    }

    fn begin_normally(&mut self, store: &Store) -> Result<Begun, Failure> {
        let options = wiring::broker_options(self.config, Some(store))?;
        let broker = self.start_broker(options, Some(store.clone()))?;
        let bridge = match wiring::bridge_options(self.config) {
            Some(options) => Some(Bridge::start(options, store).context("start the bridge")?),
            None => None,
        };
        if let Some(bridge) = &bridge {
            broker.tell_with_sys_topics(wiring::bridge_figures(bridge.probe()));
        }
        let state = self.show(Serving {
            broker: broker.probe(),
            bridge: bridge.as_ref().map(Bridge::probe),
            store: Kept::In(store.clone()),
        })?;
        Ok((broker, bridge, state))
    }

    /// What a failure of the store leads to: the end of the process, or degraded mode for the reason
    /// that is returned.
    fn after_failure(&mut self, worked: Duration, problem: String) -> Result<String, Failure> {
        self.pause = ATTEMPT_LAST;
        if worked < PROBATION && self.past.is_noted() {
            return Ok(format!(
                "the store failed again soon after a restart: {problem}"
            ));
        }
        match self.past.note(&problem) {
            Ok(()) => {
                self.telling.stopping();
                Err(store_failed(&problem))
            }
            Err(error) => {
                tracing::error!(%error, "The failure cannot be noted for the next start: no restart.");
                Ok(format!("the store has failed: {problem}"))
            }
        }
    }

    /// Serves what needs no store until there is one, which is returned, or until it is asked to end.
    ///
    /// # Errors
    /// Also when only another process can open the store, and the end of this one was noted for it.
    async fn serve_degraded(&mut self, reason: String) -> Result<Option<Opened>, Failure> {
        let options = wiring::broker_options(self.config, None)?;
        let broker = self.start_broker(options, None)?;
        let degraded = Rc::new(Degraded::new(reason));
        let state = self.show(Serving {
            broker: broker.probe(),
            bridge: None,
            store: Kept::Nowhere(Rc::clone(&degraded)),
        })?;
        self.telling.ready(&state);
        let (finish, finished) = oneshot::channel::<()>();
        let mut running = tokio::task::spawn_local(broker.run(async { drop(finished.await) }));
        let (retry, pause, past) = (&mut self.retry, &mut self.pause, &mut self.past);
        let result = tokio::select! {
            () = self.end.next() => Ok(None),
            result = attempts(self.config, &degraded, retry, pause, past) => result.map(Some),
            ended = &mut running => {
                ended.context("serve without a store")??;
                Ok(None)
            }
        };
        drop(finish);
        let is_opened = matches!(result, Ok(Some(_)));
        if !is_opened {
            self.telling.stopping();
        }
        if !running.is_finished() {
            running.await.context("serve without a store")??;
        }
        if is_opened {
            tracing::info!("No longer degraded: the store is open.");
        } else {
            self.close_admin();
        }
        result
    }

    /// Starts a broker on the configured addresses, or where the one before it was.
    fn start_broker(
        &mut self,
        mut options: broker::BrokerOptions,
        store: Option<Store>,
    ) -> Result<Broker, Failure> {
        for (listener, address) in options.listeners.iter_mut().zip(&self.listeners) {
            listener.bind = *address;
        }
        let bound = self
            .sockets
            .listening()
            .context("take up a passed socket")?;
        let broker = Broker::start_on(bound, options, store, Rc::new(AllowAll));
        let broker = broker.map_err(explain_start)?;
        self.listeners = broker.addresses();
        Ok(broker)
    }

    /// Shows what serves now; the admin server is begun with the first.
    fn show(&mut self, serving: Serving) -> Result<Rc<AdminState>, Failure> {
        let state = match &self.state {
            Some(state) => {
                state.set_serving(serving);
                Rc::clone(state)
            }
            None => {
                let state = Rc::new(AdminState::new(self.config.clone(), serving));
                self.state = Some(Rc::clone(&state));
                self.bind_admin(&state)?;
                state
            }
        };
        // For scripts; devices are served without it. The old one is removed first, not afterwards.
        self.addresses = None;
        let admin = self.admin.as_ref().map(|(address, _)| *address);
        self.addresses = AddressesFile::write(&self.config.data_dir, &self.listeners, admin)
            .inspect_err(|error| tracing::warn!(%error, "run/addresses.json cannot be written."))
            .ok();
        Ok(state)
    }

    fn bind_admin(&mut self, state: &Rc<AdminState>) -> Result<(), Failure> {
        let bound = Admin::bind(&self.config.admin, Rc::clone(state));
        let admin = bound.map_err(|(address, error)| {
            let kind = error.kind();
            let what = format!("listen for admin requests at {address}");
            explain_bind(address, kind, anyhow::Error::from(error).context(what))
        })?;
        self.admin = admin.map(|admin| {
            let address = admin.address();
            (address, tokio::task::spawn_local(admin.serve()))
        });
        Ok(())
    }

    fn close_admin(&mut self) {
        if let Some((_, task)) = self.admin.take() {
            task.abort();
        }
    }
}

/// Tries to open the store, again and again, on a thread of its own.
///
/// When sled's threads are gone, no attempt of this process can succeed: it fails, so that the next
/// one begins, unless the last one has ended by a failure of the store, too. Then it waits for ever.
async fn attempts(
    config: &Config,
    degraded: &Degraded,
    retry: &mut RetrySignal,
    pause: &mut Duration,
    past: &mut PastFailure,
) -> Result<Opened, Failure> {
    loop {
        let next_seconds = pause.as_secs();
        let reason = degraded.reason().to_owned();
        if storage::io_threads_have_failed() {
            tracing::error!(
                reason,
                "DEGRADED: only QoS 0 is served, live; nothing is stored. This process cannot open \
                 the store any more: start it again."
            );
            degraded.give_up();
            return std::future::pending().await;
        }
        tracing::error!(
            reason,
            next_seconds,
            "DEGRADED: only QoS 0 is served, live; nothing is stored. The store will be tried again."
        );
        degraded.plan_attempt(*pause);
        tokio::select! {
            () = tokio::time::sleep(*pause) => {}
            () = retry.next() => {}
        }
        degraded.begin_attempt();
        *pause = (*pause * 2).min(ATTEMPT_LAST);
        match attempt(config.clone()).await {
            Ok(opened) => return Ok(opened),
            Err(unopened) => {
                let is_broken = matches!(unopened, Unopened::Broken(_));
                let reason = unopened.reason();
                if is_broken && !past.is_noted() && past.note(&reason).is_ok() {
                    return Err(store_failed(&reason));
                }
                degraded.set_reason(reason);
            }
        }
    }
}

fn store_failed(problem: &str) -> Failure {
    let what = anyhow::anyhow!("the store has failed: {problem}");
    Failure::with(Status::StoreFailed, what)
}

fn attempt(config: Config) -> impl Future<Output = Result<Opened, Unopened>> {
    let (tell, told) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("opening".to_owned())
        .spawn(move || {
            let opened = open_store(&config, None);
            if let Err(Ok((_, threads))) = tell.send(opened) {
                // Nobody waits any more: the process ends.
                threads.close();
            }
        });
    async move {
        let trouble = |what| Err(Unopened::Trouble(what));
        if let Err(error) = thread {
            return trouble(format!("start a thread: {error}"));
        }
        let opened = told.await;
        opened.unwrap_or_else(|_| trouble("the thread that opens the store ended".to_owned()))
    }
}

/// Waits for the answers to what is in flight, but not for ever, and not for somebody who is in a
/// hurry: without them the cluster is asked at the next start.
async fn stop(bridge: Bridge, signals: &mut EndSignals) -> Result<(), Failure> {
    let stopping = tokio::task::spawn_blocking(move || bridge.stop());
    tokio::select! {
        stopped = stopping => stopped.context("stop the bridge")?,
        () = signals.next() => tracing::warn!("Not waiting for the uplink."),
        () = tokio::time::sleep(UPLINK_TIMEOUT) => {
            tracing::warn!(waited = ?UPLINK_TIMEOUT, "The uplink does not answer: not waiting.");
        }
    }
    Ok(())
}
