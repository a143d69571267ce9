//! How far a measurement has come, on standard error: one line that changes on a terminal, else a
//! line at the beginning and one for each quarter.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two looks of a line on a terminal.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Progress {
    what: String,
    total: u64,
    is_terminal: bool,
    shown_quarter: u64,
    shown_at: Option<Instant>,
}

impl Progress {
    /// Begins something that is over at `total`.
    pub(super) fn begin(what: String, total: u64) -> Self {
        let progress = Self {
            what,
            total,
            is_terminal: std::io::stderr().is_terminal(),
            shown_quarter: 0,
            shown_at: None,
        };
        if !progress.is_terminal {
            say(&format!("{}\n", progress.what));
        }
        progress
    }

    /// It has come to `done`.
    pub(super) fn show(&mut self, done: u64) {
        let percent = percent(done, self.total);
        if self.is_terminal {
            if self.shown_at.is_none_or(|at| at.elapsed() >= SHOW_EVERY) {
                self.shown_at = Some(Instant::now());
                say(&format!("\r\x1b[K{}: {percent} %", self.what));
            }
        } else if percent / 25 > self.shown_quarter && percent < 100 {
            self.shown_quarter = percent / 25;
            say(&format!("{}: {percent} %\n", self.what));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal {
            say("\r\x1b[K");
        }
    }
}

fn percent(done: u64, total: u64) -> u64 {
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    u64::try_from(percent.min(100)).unwrap_or(100)
}

fn say(text: &str) {
    // If nobody can read it, the measurement goes on.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percent_stays_within_its_bounds() {
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(1, 3), 33);
        assert_eq!(percent(9, 3), 100);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
