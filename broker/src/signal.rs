//! Wakes one task of this thread: a connection that has something to send, or to try again.
//!
//! Invariant: after [`Signal::notify`] the task is polled at least once more, whether it had been
//! waiting or was just running.

use std::cell::RefCell;
use std::task::{Context, Waker};

/// The place where the task leaves its waker. It is empty once the task was woken, so a burst of
/// notifications costs one wake-up.
#[derive(Debug, Default)]
pub(crate) struct Signal(RefCell<Option<Waker>>);

impl Signal {
    /// Wakes the task.
    pub(crate) fn notify(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }

    /// The task will be polled after the next notification. To be called first in every poll.
    pub(crate) fn register(&self, context: &Context<'_>) {
        let waker = match self.0.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        *self.0.borrow_mut() = Some(waker);
    }
}
