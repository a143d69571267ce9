//! Gives memory that is free back to the system, now and then.
//!
//! A segment that is closed frees as much as it has bytes, and an allocator keeps that. To give it back
//! each time costs a store that is busy a good part of its processor time: the next segment has to fault
//! the same pages in again. So under load it is done once in a few seconds; what stays meanwhile is no
//! more than was in use a moment before.
//!
//! Invariant: what was asked for is done within [`PAUSE`] and a round of the keeper.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sys;

/// Between two times, at least.
const PAUSE: Duration = Duration::from_secs(5);

static RELEASES: Mutex<Releases> = Mutex::new(Releases {
    last: None,
    is_wanted: false,
});

#[derive(Debug)]
struct Releases {
    last: Option<Instant>,
    is_wanted: bool,
}

/// Much was freed: it is given back now or soon.
pub(crate) fn release() {
    look(true);
}

/// Gives back what [`release`] left for later, if it is time.
pub(crate) fn release_what_is_left() {
    look(false);
}

fn look(is_wanted: bool) {
    let is_due = {
        let mut releases = RELEASES.lock().unwrap_or_else(PoisonError::into_inner);
        releases.is_wanted |= is_wanted;
        releases.take_due(Instant::now())
    };
    if is_due {
        sys::release_free_memory();
    }
}

impl Releases {
    fn take_due(&mut self, now: Instant) -> bool {
        let is_time = |last| now.saturating_duration_since(last) >= PAUSE;
        if !self.is_wanted || !self.last.is_none_or(is_time) {
            return false;
        }
        self.is_wanted = false;
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_in_between_is_given_back_later() {
        let start = Instant::now();
        let mut releases = Releases {
            last: None,
            is_wanted: true,
        };
        assert!(releases.take_due(start), "the first time at once");
        assert!(!releases.take_due(start + PAUSE), "nobody wants it");
        releases.is_wanted = true;
        assert!(!releases.take_due(start + PAUSE / 2), "too soon");
        assert!(releases.take_due(start + PAUSE));
        assert!(!releases.take_due(start + PAUSE * 2), "once");
    }
}
