//! The signals that a running gateway listens for.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Those that ask the process to end: SIGTERM and SIGINT.
pub(super) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

/// The one that asks to open the store at once: SIGUSR1. Without a meaning while there is one.
pub(super) struct RetrySignal(Signal);

/// Catches SIGXFSZ, which would end the process without a word when a file has the size that
/// `RLIMIT_FSIZE` allows; a caught one leaves an error of the write. Called within a runtime.
pub(super) fn survive_file_size_limit() -> Result<(), Failure> {
    let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // Tokio never gives a signal back that it has once caught.
    drop(signal(too_large).context("listen for SIGXFSZ")?);
    Ok(())
}

/// Listens for all of them from now on.
pub(super) fn listen() -> Result<(EndSignals, RetrySignal), Failure> {
    let end = EndSignals {
        terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
    };
    let retry = signal(SignalKind::user_defined1()).context("listen for SIGUSR1")?;
    Ok((end, RetrySignal(retry)))
}

impl EndSignals {
    /// Ready when the next one has come.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: ending."),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: ending."),
        }
    }
}

impl RetrySignal {
    /// Ready when the next one has come.
    pub(super) async fn next(&mut self) {
        self.0.recv().await;
        tracing::info!("SIGUSR1: trying to open the store now.");
    }
}
