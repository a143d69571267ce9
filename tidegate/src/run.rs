//! `tidegate run`: logging, configuration and the store; then it serves, see `serving`.

mod binding;
mod opening;
mod passed_sockets;
mod past_failure;
mod room_warning;
mod serving;
mod signals;
mod starting;
mod status_text;
mod sys;
mod telling;
mod watchdog;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use anyhow::Context as _;
use firmware_config::{Config, LoadError, Machine};
use storage::OpeningProgress;
use tokio::task::LocalSet;
use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, RunOptions};
use crate::exit::{Failure, Status};
use crate::{machine, wiring};

pub(crate) use opening::explain_open;
use passed_sockets::PassedSockets;
use starting::Starting;

/// Which log lines are printed: the names of `tracing-subscriber`'s filter.
const LOG_FILTER_VARIABLE: &str = "TIDEGATE_LOG";

/// Runs until SIGTERM or SIGINT, or until the store fails for the first time. Why it ends is told once:
/// by whoever prints the failure.
pub(crate) fn run(options: &RunOptions) -> Result<(), Failure> {
    // First: their numbers must not be taken for those of files that we open.
    let sockets = PassedSockets::take()?;
    start_logging(options.log_format)?;
    tracing::debug!(target: "start", step = "process", "Start goes on.");
    let config = load(options)?;
    tracing::debug!(target: "start", step = "configuration", "Start goes on.");
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = options
            .config
            .as_ref()
            .map(|path| tracing::field::display(path.display())),
        "Starting."
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    {
        let _within = runtime.enter();
        signals::survive_file_size_limit()?;
    }
    let binds: Vec<_> = config.listeners.iter().map(|each| *each.bind).collect();
    sockets.check(&binds)?;
    let progress = Arc::<OpeningProgress>::default();
    let starting = Starting::watch(Arc::clone(&progress));
    let opened = opening::open_store(&config, Some(progress));
    drop(starting);
    room_warning::warn_if_too_little(&config);
    let serving = serving::serve(&config, opened, sockets);
    let result = LocalSet::new().block_on(&runtime, serving);
    // A thread that still waits for the uplink must not hold up the end.
    runtime.shutdown_background();
    if result.is_ok() {
        tracing::info!("Ended.");
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
        Some(path) => load_config(path, &machine::detect())?,
        None => Config::without_file(&machine::detect()),
    };
    if let Some(data) = &options.data {
        config.data_dir.clone_from(data);
    }
    Ok(config)
}

/// Reads a configuration file for a machine; what is wrong with it ends the process for good.
pub(crate) fn load_config(path: &std::path::Path, machine: &Machine) -> Result<Config, Failure> {
    Config::from_file(path, &wiring::checks(), machine).map_err(|error| match error {
        LoadError::Invalid(problems) => Failure::with(
            Status::Configuration,
            anyhow::anyhow!("the configuration has problems:\n{problems}"),
        ),
        error => Failure::with(Status::Configuration, error),
    })
}

fn notify_systemd(state: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(state);
}
