//! `tidegate run`: opens the store, starts broker, admin server and bridge, and ends them in order.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use bridge::Bridge;
use broker::{AllowAll, Broker, RunError, StartError};
use firmware_config::{Config, LoadError};
use storage::{FolderError, OpenError, Store, StoreThreads};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;
use tracing_subscriber::EnvFilter;

use crate::addresses::AddressesFile;
use crate::admin::{Admin, AdminState};
use crate::cli::{LogFormat, RunOptions};
use crate::exit::{Failure, Status};
use crate::port_holder;
use crate::wiring;

/// Which log lines are printed: the names of `tracing-subscriber`'s filter.
const LOG_FILTER_VARIABLE: &str = "TIDEGATE_LOG";

/// How long an end waits for the uplink's answers. With what the broker may take before, it is less
/// than what `systemd/tidegate.service` allows (TimeoutStopSec).
const UPLINK_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs until SIGTERM or SIGINT, or until the store fails.
pub(crate) fn run(options: &RunOptions) -> Result<(), Failure> {
    start_logging(options.log_format)?;
    let config = load(options)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = options
            .config
            .as_ref()
            .map(|path| tracing::field::display(path.display())),
        "Starting."
    );
    let (store, threads) = open_store(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = LocalSet::new().block_on(&runtime, serve(&config, store));
    // A thread that still waits for the uplink must not hold up the end.
    runtime.shutdown_background();
    // Whatever was appended is written, also when serving failed.
    threads.close();
    match &result {
        Ok(()) => tracing::info!("Ended."),
        Err(failure) => tracing::error!("Ending: {failure}."),
    }
    result
}

fn start_logging(format: LogFormat) -> Result<(), Failure> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(log_filter()?)
        .with_writer(io::stderr)
        // Otherwise a log line that cannot be written (full disk, whoever reads has gone) is told to
        // standard error by a macro that then panics.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// What the environment asks for; a filter that is none is not passed over in silence.
fn log_filter() -> Result<EnvFilter, Failure> {
    let text = std::env::var_os(LOG_FILTER_VARIABLE).unwrap_or_default();
    if text.is_empty() {
        return Ok(EnvFilter::new("info"));
    }
    let text = text.to_string_lossy();
    EnvFilter::try_new(&text).map_err(|_| {
        let what = anyhow::anyhow!(
            "{LOG_FILTER_VARIABLE}: found \"{text}\"; allowed: a level (error, warn, info, debug, \
             trace, off) or a list such as broker=debug,info"
        );
        Failure::with(Status::Configuration, what)
    })
}

fn load(options: &RunOptions) -> Result<Config, Failure> {
    let mut config = match &options.config {
        Some(path) => load_config(path)?,
        None => Config::default(),
    };
    if let Some(data) = &options.data {
        config.data_dir.clone_from(data);
    }
    Ok(config)
}

/// Reads a configuration file; what is wrong with it ends the process for good.
pub(crate) fn load_config(path: &std::path::Path) -> Result<Config, Failure> {
    Config::from_file(path, &wiring::checks()).map_err(|error| match error {
        LoadError::Invalid(problems) => Failure::with(
            Status::Configuration,
            anyhow::anyhow!("the configuration has problems:\n{problems}"),
        ),
        error => Failure::with(Status::Configuration, error),
    })
}

fn open_store(config: &Config) -> Result<(Store, StoreThreads), Failure> {
    let options = wiring::store_options(config);
    let logs = wiring::log_options(config);
    let opened = Store::open(&config.data_dir, options, &logs).map_err(explain_open)?;
    tracing::info!(
        data_dir = %config.data_dir.display(),
        incarnation = %opened.0.incarnation(),
        durable = %opened.0.durable(),
        "Store is open."
    );
    Ok(opened)
}

/// The exit status that a data folder deserves that cannot be opened.
pub(crate) fn explain_open(error: OpenError) -> Failure {
    match error {
        OpenError::Folder(FolderError::Locked { .. }) => Failure::with(Status::InUse, error),
        OpenError::Folder(
            FolderError::Foreign { .. }
            | FolderError::FormatFile { .. }
            | FolderError::Missing { .. }
            | FolderError::Newer { .. },
        )
        | OpenError::Journal { .. }
        | OpenError::Options(_) => Failure::with(Status::Configuration, error),
        OpenError::Folder(FolderError::Io { ref source, .. }) if is_wrong_place(source) => {
            let what = "the data folder has to be a folder that this user may write";
            Failure::with(
                Status::Configuration,
                anyhow::Error::from(error).context(what),
            )
        }
        error => Failure::with(
            Status::StoreFailed,
            anyhow::Error::from(error).context("open the store"),
        ),
    }
}

/// Whether a path cannot be a data folder, whatever the state of the disk: a file, a link to
/// nothing, somebody else's.
fn is_wrong_place(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::PermissionDenied
    )
}

async fn serve(config: &Config, store: Store) -> Result<(), Failure> {
    // Before anybody is told that we run, who may then tell us to end.
    let mut signals = Signals::new()?;
    let options = wiring::broker_options(config, &store)?;
    let broker = Broker::start(options, store.clone(), Rc::new(AllowAll)).map_err(explain_start)?;
    let state = Rc::new(AdminState::new(
        config.clone(),
        store.clone(),
        broker.probe(),
    ));
    let admin = Admin::bind(&config.admin, Rc::clone(&state)).map_err(|(address, error)| {
        explain_bind(
            address,
            error.kind(),
            anyhow::Error::from(error).context(format!("listen for admin requests at {address}")),
        )
    })?;
    let admin_address = admin.as_ref().map(Admin::address);
    // For scripts; devices are served without it.
    let _addresses = AddressesFile::write(&config.data_dir, &broker.addresses(), admin_address)
        .inspect_err(|error| tracing::warn!(%error, "run/addresses.json cannot be written."));
    let admin = admin.map(|admin| tokio::task::spawn_local(admin.serve()));

    let bridge = match wiring::bridge_options(config) {
        Some(options) => {
            let bridge = Bridge::start(options, &store).context("start the bridge")?;
            state.set_bridge(bridge.probe());
            Some(bridge)
        }
        None => None,
    };
    state.set_ready(true);
    notify_systemd(&[sd_notify::NotifyState::Ready]);
    let result = broker.run(signals.next()).await;
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    state.set_ready(false);
    if let Some(bridge) = bridge {
        stop(bridge, &mut signals).await?;
    }
    if let Some(admin) = admin {
        admin.abort();
    }
    result.map_err(|error| match error {
        RunError::StoreFailed { .. } => Failure::with(Status::StoreFailed, error),
        error => Failure::from(error),
    })
}

fn explain_start(error: StartError) -> Failure {
    match &error {
        StartError::Anonymous { .. } => Failure::with(Status::Configuration, error),
        StartError::Bind { bind, source } => explain_bind(*bind, source.kind(), error),
        _ => Failure::from(error),
    }
}

/// Names who has the port, if that is why it cannot be listened at.
fn explain_bind(
    address: SocketAddr,
    kind: io::ErrorKind,
    error: impl Into<anyhow::Error>,
) -> Failure {
    if kind != io::ErrorKind::AddrInUse {
        return Failure::from(error);
    }
    let holder = port_holder::holder(address)
        .unwrap_or_else(|| String::from("a process that cannot be seen from here"));
    let port = address.port();
    let what =
        format!("port {port} is held by {holder}; stop that process or configure another port");
    Failure::with(Status::InUse, error.into().context(what))
}

/// Waits for the answers to what is in flight, but not for ever, and not for somebody who is in a
/// hurry: without them the cluster is asked at the next start.
async fn stop(bridge: Bridge, signals: &mut Signals) -> Result<(), Failure> {
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

/// The signals that ask the process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
        })
    }

    /// Ready when the next one has come.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: ending."),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: ending."),
        }
    }
}

fn notify_systemd(state: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(state);
}
