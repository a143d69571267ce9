//! A data folder that nobody has open, looked at by means of temporary copies.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context as _;
use storage::{FolderError, OpenError, View};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;
use crate::run::explain_open;

/// What to do if a gateway has the folder, for those who only want to look.
pub(super) const LOOK_INSTEAD: &str =
    "look into the logs of a running gateway with --admin instead of --data";

/// Looks at the folder `path`, which stays as it is; the copies are removed again. `instead`: see
/// [`explain_in_use`].
pub(super) fn with_view<T>(
    path: &Path,
    instead: &'static str,
    look: impl FnOnce(&View) -> T,
) -> Result<T, Failure> {
    let copy = tempfile::Builder::new()
        .prefix("tidegate-look-")
        .tempdir()
        .context("create a temporary folder; TMPDIR says where")?;
    remove_when_ended(copy.path().to_owned());
    let view = View::open(path, copy.path()).map_err(|error| {
        let failure = explain_in_use(error, instead);
        match failure
            .to_string()
            .contains(&*copy.path().to_string_lossy())
        {
            true => failure
                .context("look at copies of what is in the folder; TMPDIR says where they go"),
            false => failure,
        }
    })?;
    let found = look(&view);
    view.close();
    Ok(found)
}

/// Why a folder cannot be opened, with what to do `instead` if a gateway has it.
pub(super) fn explain_in_use(error: OpenError, instead: &'static str) -> Failure {
    let is_in_use = matches!(error, OpenError::Folder(FolderError::Locked { .. }));
    let failure = explain_open(error);
    match is_in_use {
        true => failure.context(instead),
        false => failure,
    }
}

/// A signal ends the process, but not before the copies are gone: they may be in memory (tmpfs).
fn remove_when_ended(copy: PathBuf) {
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let status = runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            // A look over a connection that is cut.
            let mut hang_up = signal(SignalKind::hangup())?;
            let number = tokio::select! {
                _ = hang_up.recv() => SignalKind::hangup(),
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            };
            std::io::Result::Ok(128 + number.as_raw_value())
        })?;
        // Nothing more can be done about a copy that stays.
        let _ = std::fs::remove_dir_all(&copy);
        std::process::exit(status)
    };
    // Without the thread, a signal leaves the copies; that is no reason not to look.
    let _ = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let ended: std::io::Result<()> = wait();
            if let Err(error) = ended {
                tracing::debug!(%error, "Signals are not heard.");
            }
        });
}
