//! The requests that were sent and not yet answered, oldest first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::api::Api;

/// Why a request gets no answer; the connection's `lost` has the rest.
#[derive(Debug)]
pub(crate) enum Unanswered {
    Lost { sent: bool },
    Timeout(Duration),
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) correlation_id: i32,
    pub(crate) api: Api,
    pub(crate) deadline: Instant,
    pub(crate) timeout: Duration,
    pub(crate) reply: oneshot::Sender<Result<Bytes, Unanswered>>,
    /// Gives the place to the next request when this one is done.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// The queue, shared by the writing and the reading half of a connection's task.
#[derive(Debug, Default)]
pub(crate) struct InFlightQueue {
    queue: Mutex<VecDeque<InFlight>>,
    pushed: Notify,
}

impl InFlightQueue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<InFlight>> {
        // Nothing under the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, inflight: InFlight) {
        self.lock().push_back(inflight);
        self.pushed.notify_one();
    }

    /// Takes the oldest request if it has this correlation id; otherwise tells which one it has.
    pub(crate) fn pop(&self, correlation_id: i32) -> Result<InFlight, Option<i32>> {
        let mut queue = self.lock();
        match queue.pop_front() {
            Some(oldest) if oldest.correlation_id == correlation_id => Ok(oldest),
            Some(other) => {
                let expected = other.correlation_id;
                queue.push_front(other);
                Err(Some(expected))
            }
            None => Err(None),
        }
    }

    /// Waits until a request is overdue; gives its request type and the time it had, and answers
    /// it.
    pub(crate) async fn overdue(&self) -> (Api, Duration) {
        loop {
            let next = self.lock().iter().map(|inflight| inflight.deadline).min();
            let Some(deadline) = next else {
                self.pushed.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                // A later request may have less time than those before it.
                () = self.pushed.notified() => continue,
                () = sleep_until(deadline) => {}
            }
            // None if it was answered meanwhile.
            if let Some(overdue) = self.take_overdue(Instant::now()) {
                let timeout = overdue.timeout;
                let _ = overdue.reply.send(Err(Unanswered::Timeout(timeout)));
                return (overdue.api, timeout);
            }
        }
    }

    fn take_overdue(&self, now: Instant) -> Option<InFlight> {
        let mut queue = self.lock();
        let index = queue.iter().position(|inflight| inflight.deadline <= now)?;
        queue.remove(index)
    }

    /// Answers whatever is left with the loss of the connection.
    pub(crate) fn fail_all(&self) {
        for inflight in self.lock().drain(..) {
            // Whoever dropped the other end does not want to know.
            let _ = inflight.reply.send(Err(Unanswered::Lost { sent: true }));
        }
    }
}
