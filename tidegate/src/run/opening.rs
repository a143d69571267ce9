//! Opening the store, and what is to be done when that fails: end with a status that says whether to
//! try again, or serve without it.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use firmware_config::Config;
use storage::{
    DatabaseError, FolderError, OpenError, OpeningProgress, RecoveryError, Store, StoreOptions,
    StoreThreads, fence,
};

use crate::exit::{Failure, Status};
use crate::wiring;

/// An open store and its threads.
pub(super) type Opened = (Store, StoreThreads);

/// There is no store.
pub(super) enum Unopened {
    /// For a reason that only whoever configures the gateway can remove, or that makes the folder
    /// somebody else's: the process ends.
    Refused(Failure),
    /// For a reason of the machine, which may pass: why.
    Trouble(String),
    /// This process can open no store any more, whatever the folder is like; the next one can: why.
    Broken(String),
}

impl Unopened {
    /// Why, for people.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Refused(failure) => failure.to_string(),
            Self::Trouble(reason) | Self::Broken(reason) => reason,
        }
    }
}

/// Opens the store that `config` describes. Blocks, also for long; `progress` is told how far it is.
pub(super) fn open_store(
    config: &Config,
    progress: Option<Arc<OpeningProgress>>,
) -> Result<Opened, Unopened> {
    let options = StoreOptions {
        progress,
        ..wiring::store_options(config)
    };
    let logs = wiring::log_options(config);
    // sled panics on some damage. Whatever it is, it would be there at the next start, too.
    let opened = panic::catch_unwind(AssertUnwindSafe(|| {
        Store::open(&config.data_dir, options, &logs)
    }));
    let opened = opened.map_err(|_| trouble("opening the store panicked".to_owned()))?;
    let opened = opened.map_err(|error| {
        let failure = explain_open(error);
        match failure.status() {
            Status::StoreFailed => trouble(failure.to_string()),
            _ => Unopened::Refused(failure),
        }
    })?;
    tracing::info!(
        data_dir = %config.data_dir.display(),
        incarnation = %opened.0.incarnation(),
        durable = %opened.0.durable(),
        "Store is open."
    );
    Ok(opened)
}

/// What failed while sled's threads are gone says nothing of the folder.
fn trouble(reason: String) -> Unopened {
    match storage::io_threads_have_failed() {
        true => Unopened::Broken(reason),
        false => Unopened::Trouble(reason),
    }
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
        | OpenError::Recovery(RecoveryError::Newer(_) | RecoveryError::NewerJournal { .. })
        | OpenError::Database(DatabaseError::Fence(fence::FenceError::NotCalled))
        | OpenError::Recovery(RecoveryError::Database(DatabaseError::Fence(
            fence::FenceError::NotCalled,
        )))
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
            // LOCK or FORMAT.
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::PermissionDenied
    )
}
