//! How far a long command is, in one line on a terminal, rewritten in place; nothing elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(200);

/// The line.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
    shown_at: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            shown_at: None,
        }
    }

    /// Shows what `line` says, unless it was shown a moment ago.
    pub(super) fn show(&mut self, line: impl FnOnce() -> String) {
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() >= EVERY);
        if self.is_shown && is_due {
            self.shown_at = Some(Instant::now());
            // Nobody hangs on it.
            let _ = write!(io::stderr(), "\r\x1b[K{}", line());
        }
    }

    /// Makes room for a line of something else.
    pub(super) fn clear(&mut self) {
        if self.shown_at.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Bytes in MB, for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
