//! The deadlines of a connection, all in one table: the driver needs one timer for all of them.

use std::time::{Duration, Instant};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// CONNECT must have come.
    Connect,
    /// Some packet must have come.
    KeepAlive,
    /// Suspended publications must have been completed.
    Suspended,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    connect: Option<Instant>,
    keep_alive: Option<Instant>,
    suspended: Option<Instant>,
}

impl Timers {
    /// Starts the timer anew. A deadline beyond what an [`Instant`] can say never comes.
    pub(super) fn start(&mut self, timer: Timer, now: Instant, timeout: Duration) {
        *self.slot(timer) = now.checked_add(timeout);
    }

    /// Starts the timer unless it is running.
    pub(super) fn start_if_stopped(&mut self, timer: Timer, now: Instant, timeout: Duration) {
        if self.slot(timer).is_none() {
            self.start(timer, now, timeout);
        }
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        *self.slot(timer) = None;
    }

    pub(super) fn next(&self) -> Option<Instant> {
        [self.connect, self.keep_alive, self.suspended]
            .into_iter()
            .flatten()
            .min()
    }

    /// A timer whose deadline has come; it is stopped.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        [Timer::Connect, Timer::KeepAlive, Timer::Suspended]
            .into_iter()
            .find(|timer| {
                self.slot(*timer)
                    .take_if(|deadline| *deadline <= now)
                    .is_some()
            })
    }

    fn slot(&mut self, timer: Timer) -> &mut Option<Instant> {
        match timer {
            Timer::Connect => &mut self.connect,
            Timer::KeepAlive => &mut self.keep_alive,
            Timer::Suspended => &mut self.suspended,
        }
    }
}
