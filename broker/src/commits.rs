//! What happens when a commit is durable: its messages are delivered, retained and acknowledged, in
//! the canonical order of the log, and those who wait for room try again.

use std::rc::Rc;
use std::time::Instant;

use mqtt::ReasonCode;
use mqtt::server::PublishTicket;
use storage::{CommitNumber, Health};

use crate::broker::RunError;
use crate::pending::PendingPublish;
use crate::router::{Router, Stage, now};
use crate::session::Session;

impl Router {
    /// Follows the store until the broker ends; without one there is nothing to follow.
    pub(crate) async fn follow_store(self: Rc<Self>) {
        let Some(store) = self.store.clone() else {
            return self.reached(Stage::Closing).await;
        };
        while self.stage() < Stage::Closing {
            self.store_changed.notified().await;
            self.work_off_commits(store.durable()).await;
            self.work_off_after(now(), store.durable());
            self.announcements.set(self.announcements.get() + 1);
            self.behind_changed.notify_one();
            self.replays_changed.notify_one();
            match store.health() {
                Health::Poisoned(problem) => self.fail(RunError::StoreFailed { problem }),
                Health::Closing => self.fail(RunError::StoreClosed),
                Health::Ready | Health::DiskFull { .. } => {
                    if self.stage() == Stage::Running {
                        self.retry_wills(now());
                    }
                    self.wake_waiting();
                }
            }
            self.progress.notify_waiters();
        }
    }

    /// One commit at a time; between two of them others have their turn.
    async fn work_off_commits(&self, durable: CommitNumber) {
        loop {
            let taken = self.pending.borrow_mut().take_commit(durable);
            let Some((commit, mut taken)) = taken else {
                break;
            };
            let now = now();
            for pending in taken.drain(..) {
                self.work_off(now, pending);
            }
            self.worked_off.set(commit);
            self.pending.borrow_mut().give_back(taken);
            self.count_pending();
            tokio::task::yield_now().await;
        }
        self.worked_off.set(durable);
    }

    /// Brings the gauge into line.
    pub(crate) fn count_pending(&self) {
        let count = self.pending.borrow().len();
        self.counters.pending_publishes.set(count);
    }

    fn work_off(&self, now: Instant, pending: PendingPublish) {
        if let Some(publication) = pending.publication {
            let route = self.route(&publication.message.topic);
            self.deliver(now, &publication, &route, pending.place);
            if publication.message.retain {
                let mut retained = self.retained.borrow_mut();
                retained.settle(publication);
                self.count_retained(&retained);
            }
        }
        if let Some((session, ticket)) = pending.acknowledge {
            self.acknowledge(now, &session, ticket);
        }
    }

    fn acknowledge(&self, now: Instant, session: &Session, ticket: PublishTicket) {
        let connection = &session.connection;
        let mut machine = connection.machine.borrow_mut();
        let completed = machine.complete_publish(now, ticket, ReasonCode::Success);
        drop(machine);
        if let Err(error) = completed {
            tracing::error!(connection = %connection.id, %error, "Publish was not acknowledged.");
        }
        connection.signal.notify();
    }
}
