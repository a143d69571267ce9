//! Exit statuses that scripts and systemd can rely on.
//!
//! ```text
//! 0   done
//! 1   failed, see the message
//! 2   wrong command line (clap)
//! 74  the store failed: a write or sync did not succeed (EX_IOERR)
//! 75  something is in use that may be free later: the data folder, a port (EX_TEMPFAIL)
//! 78  the configuration is wrong; starting again does not help (EX_CONFIG)
//! ```

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// An error with the exit status that it deserves.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    error: anyhow::Error,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Failed = 1,
    StoreFailed = 74,
    InUse = 75,
    Configuration = 78,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            status: Status::Failed,
            error: error.into(),
        }
    }
}

impl Failure {
    /// `error`, ending the process with `status`.
    pub(crate) fn with(status: Status, error: impl Into<anyhow::Error>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// The same with words in front of it.
    pub(crate) fn context(self, words: &'static str) -> Self {
        Self {
            error: self.error.context(words),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With its causes, in one line.
        write!(f, "{:#}", self.error)
    }
}

/// Prints why the command failed.
pub(crate) fn tell(failure: &Failure) -> ExitCode {
    // `eprintln!` would panic when nobody reads there any more, and change the status.
    let _ = writeln!(io::stderr(), "tidegate: {failure}");
    ExitCode::from(failure.status as u8)
}
