//! `tidegate run`: opens the store, starts broker, admin server and bridge, and ends them in order.

use std::future::Future;
use std::io::IsTerminal as _;
use std::rc::Rc;

use anyhow::Context as _;
use bridge::Bridge;
use broker::{AllowAll, Broker, RunError, StartError};
use firmware_config::{Config, LoadError};
use storage::{FolderError, OpenError, Store, StoreThreads};
use tokio::signal::unix::{SignalKind, signal};
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

/// Runs until SIGTERM or SIGINT, or until the store fails.
pub(crate) fn run(options: &RunOptions) -> Result<(), Failure> {
    start_logging(options.log_format);
    let config = load(options)?;
    let (store, threads) = open_store(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = LocalSet::new().block_on(&runtime, serve(&config, store));
    // Whatever was appended is written, also when serving failed.
    threads.close();
    match &result {
        Ok(()) => tracing::info!("Ended."),
        Err(failure) => tracing::error!("Ending: {failure}."),
    }
    result
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_env(LOG_FILTER_VARIABLE);
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
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
    let opened = Store::open(&config.data_dir, options, &logs).map_err(|error| match error {
        OpenError::Folder(FolderError::Locked { .. }) => Failure::with(Status::InUse, error),
        OpenError::Folder(FolderError::Foreign { .. } | FolderError::Newer { .. }) => {
            Failure::with(Status::Configuration, error)
        }
        error => Failure::with(
            Status::StoreFailed,
            anyhow::Error::from(error).context("open the store"),
        ),
    })?;
    tracing::info!(
        data_dir = %config.data_dir.display(),
        incarnation = %opened.0.incarnation(),
        durable = %opened.0.durable(),
        "Store is open."
    );
    Ok(opened)
}

async fn serve(config: &Config, store: Store) -> Result<(), Failure> {
    let options = wiring::broker_options(config, &store)?;
    let broker = Broker::start(options, store.clone(), Rc::new(AllowAll)).map_err(explain_start)?;
    let state = Rc::new(AdminState::new(
        config.clone(),
        store.clone(),
        broker.probe(),
    ));
    let admin = Admin::bind(&config.admin, Rc::clone(&state)).map_err(|(address, error)| {
        in_use(
            address,
            anyhow::Error::from(error).context(format!("listen for admin requests at {address}")),
        )
    })?;
    let admin_address = admin.as_ref().map(Admin::address);
    let _addresses = AddressesFile::write(&config.data_dir, &broker.addresses(), admin_address)
        .context("write run/addresses.json")?;
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
    let result = broker.run(shutdown_signal()?).await;
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    state.set_ready(false);
    if let Some(bridge) = bridge {
        // It waits for what is in flight, at most a request timeout.
        let stopped = tokio::task::spawn_blocking(move || bridge.stop()).await;
        stopped.context("stop the bridge")?;
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
        StartError::Bind { bind, .. } => in_use(*bind, error),
        _ => Failure::from(error),
    }
}

/// Names who has the port.
fn in_use(address: std::net::SocketAddr, error: impl Into<anyhow::Error>) -> Failure {
    let error = error.into();
    match port_holder::holder(address) {
        Some(holder) => Failure::with(
            Status::InUse,
            error.context(format!(
                "port {} is held by {holder}; stop that process or configure another port",
                address.port()
            )),
        ),
        None => Failure::from(error),
    }
}

/// Ready when the process is asked to end; a second SIGINT ends it at once, as usual.
fn shutdown_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending."),
            _ = interrupt.recv() => tracing::info!("SIGINT: ending."),
        }
    })
}

fn notify_systemd(state: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(state);
}
