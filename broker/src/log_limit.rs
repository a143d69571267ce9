//! Keeps what clients can trigger from filling the system's log: a few lines of a kind are
//! written, then only how many were left out.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Lines of one kind within [`WINDOW`].
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    /// When the current window began.
    began: Cell<Option<Instant>>,
    /// Lines written in it.
    lines: Cell<u32>,
    /// Lines left out since the last one.
    left_out: Cell<u64>,
}

impl LogLimit {
    /// Whether a line may be written now; if so, how many were left out before it.
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        let is_over = |began| now.saturating_duration_since(began) >= WINDOW;
        if self.began.get().is_none_or(is_over) {
            self.began.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() >= LINES_MAX {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.lines.set(self.lines.get() + 1);
        Some(self.left_out.take())
    }
}

/// All kinds of lines that clients can trigger, but those of level debug.
#[derive(Debug, Default)]
pub(crate) struct LogLimits {
    pub(crate) accept: LogLimit,
    pub(crate) accept_rate: LogLimit,
    pub(crate) misbehaved: LogLimit,
    pub(crate) missing: LogLimit,
    pub(crate) not_read: LogLimit,
    pub(crate) not_stored: LogLimit,
    pub(crate) refused_connection: LogLimit,
    pub(crate) refused_publish: LogLimit,
    pub(crate) slow_subscriber: LogLimit,
    pub(crate) suspended: LogLimit,
    pub(crate) takeover: LogLimit,
    pub(crate) too_many_connections: LogLimit,
    pub(crate) will: LogLimit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_lines_are_counted_until_the_window_is_over() {
        let limit = LogLimit::default();
        let start = Instant::now();
        for _ in 0..LINES_MAX {
            assert_eq!(limit.pass(start), Some(0));
        }
        assert_eq!(limit.pass(start), None);
        assert_eq!(limit.pass(start + WINDOW - Duration::from_millis(1)), None);
        assert_eq!(limit.pass(start + WINDOW), Some(2));
        assert_eq!(limit.pass(start + WINDOW), Some(0));
    }
}
