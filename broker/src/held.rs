//! Publishes that were read and that the store does not take for now (`rules.md` 1.6).
//!
//! Two things keep a publish here:
//! - Too much is on its way to flash. The connection is paused: nothing more is read from it until
//!   the next commit.
//! - The disk or the retained budget is full, or there is no store, and a client of MQTT 3.1.1
//!   cannot be told. Its publishes are suspended: reading goes on, so that its other packets are
//!   answered, until 16 publishes or 64 KiB are unacknowledged; after 30 s of that the connection is
//!   closed. The bounds are those of the state machine.
//!
//! Invariant: publishes of QoS 1 leave here in the order in which they came. Nothing is acknowledged
//! past one that is here.

use std::collections::VecDeque;
use std::time::Instant;

use mqtt::server::PublishTicket;
use mqtt::{Message, PacketId, ProtocolVersion, QoS, ReasonCode};

use crate::causes::{Limit, RefusalCause};
use crate::client::Client;
use crate::publication::kept;
use crate::publish::Outcome;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct HeldPublishes {
    queue: VecDeque<HeldPublish>,
    /// The connection is paused for one of them.
    is_paused: bool,
    /// The announcement of the store after which they were tried last.
    tried: u64,
}

#[derive(Debug)]
struct HeldPublish {
    ticket: Option<PublishTicket>,
    packet_id: Option<PacketId>,
    message: Message,
}

/// What is to be done with a publish that was tried.
enum Verdict {
    Done,
    /// Keep it; the connection is to be paused.
    Pause,
    /// Keep it; it is suspended for this cause.
    Suspend(RefusalCause),
}

impl HeldPublishes {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing more may be taken from the client before the next commit.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }
}

impl Client {
    /// The client published a message.
    pub(crate) fn handle_publish(
        &mut self,
        now: Instant,
        ticket: Option<PublishTicket>,
        packet_id: Option<PacketId>,
        message: Message,
    ) {
        let session = self.session();
        let is_again = session.is_some_and(|session| session.has_received(packet_id, &message));
        if !is_again {
            self.router.count_received(message.qos);
        }
        // Behind those of QoS 1 that are here, whatever the store says now.
        let is_behind =
            ticket.is_some() && self.held.queue.iter().any(|held| held.ticket.is_some());
        if is_behind {
            self.suspend(now, ticket);
        } else {
            match self.try_publish(now, ticket, packet_id, &message) {
                Verdict::Done => return,
                Verdict::Pause => {
                    self.held.is_paused = true;
                    self.connection.machine.borrow_mut().pause(now);
                }
                Verdict::Suspend(cause) => {
                    self.suspend(now, ticket);
                    self.log_suspended(now, &message, cause);
                }
            }
        }
        let message = kept(&message, &message.topic.detach());
        self.held.queue.push_back(HeldPublish {
            ticket,
            packet_id,
            message,
        });
        self.held.tried = self.router.announcements.get();
        self.router.await_commit(&self.connection);
    }

    /// Tries those that are here again, once after each announcement of the store. Whether it did.
    pub(crate) fn retry_held(&mut self, now: Instant) -> bool {
        let announcement = self.router.announcements.get();
        if self.held.queue.is_empty() || self.held.tried == announcement {
            return false;
        }
        self.held.tried = announcement;
        let (mut is_paused, mut is_blocked) = (false, false);
        for _ in 0..self.held.queue.len() {
            let Some(held) = self.held.queue.pop_front() else {
                break;
            };
            if !(held.ticket.is_some() && is_blocked) {
                match self.try_publish(now, held.ticket, held.packet_id, &held.message) {
                    Verdict::Done => continue,
                    Verdict::Pause => is_paused = true,
                    Verdict::Suspend(_) => self.suspend(now, held.ticket),
                }
                is_blocked |= held.ticket.is_some();
            }
            self.held.queue.push_back(held);
        }
        if self.held.is_paused && !is_paused {
            self.connection.machine.borrow_mut().resume(now);
        }
        self.held.is_paused = is_paused;
        if !self.held.queue.is_empty() {
            self.router.await_commit(&self.connection);
        }
        true
    }

    /// Gives those up that are here: the connection has ended, and nothing was acknowledged.
    pub(crate) fn drop_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        let count = held.queue.len() as u64;
        let cause = RefusalCause::ConnectionEnded;
        self.router.counters.refused.add(cause, count);
    }

    fn try_publish(
        &mut self,
        now: Instant,
        ticket: Option<PublishTicket>,
        packet_id: Option<PacketId>,
        message: &Message,
    ) -> Verdict {
        let Some(session) = self.session() else {
            return Verdict::Done;
        };
        if session.has_ended.get() {
            // It was taken over, and its will is published.
            self.count_refused(RefusalCause::ConnectionEnded);
            return Verdict::Done;
        }
        let received = packet_id.filter(|_| message.qos == QoS::ExactlyOnce);
        if let (Some(packet_id), Some(ticket)) = (received, ticket)
            && self
                .router
                .is_received_again(now, &session, packet_id, ticket)
        {
            return Verdict::Done;
        }
        let router = &self.router;
        let held_up = router.behind_own_will(now, &session, message);
        let publish = || router.publish(now, &session, ticket, received, message);
        match held_up.unwrap_or_else(publish) {
            Outcome::Pending => {
                self.router.note_received(&session, received);
                Verdict::Done
            }
            Outcome::Taken => {
                self.router.note_received(&session, received);
                self.complete(now, ticket, ReasonCode::Success);
                Verdict::Done
            }
            // Nobody is there any more to try again; the client was not acknowledged.
            Outcome::Later if self.connection.is_cut() => {
                self.count_refused(RefusalCause::ConnectionEnded);
                Verdict::Done
            }
            Outcome::Later => {
                let hits = &self.router.counters.limits;
                hits.add(Limit::CommitQueueBytesMax, 1);
                Verdict::Pause
            }
            Outcome::Refused(cause) => self.refuse(now, ticket, message, cause),
            Outcome::Failed => {
                self.count_refused(RefusalCause::StoreFailed);
                Verdict::Done
            }
        }
    }

    fn refuse(
        &mut self,
        now: Instant,
        ticket: Option<PublishTicket>,
        message: &Message,
        cause: RefusalCause,
    ) -> Verdict {
        let (is_closed, version) = {
            let machine = self.connection.machine.borrow();
            (machine.is_closed(), machine.version())
        };
        let can_be_told = version == Some(ProtocolVersion::V5);
        if ticket.is_some() && !can_be_told && cause.is_for_now() && !is_closed {
            return Verdict::Suspend(cause);
        }
        self.count_refused(cause);
        self.log_refused(now, message, cause);
        match ticket {
            Some(_) if can_be_told => self.complete(now, ticket, cause.reason()),
            None if !cause.ends_connection() => {}
            _ => self.connection.refuse(cause.reason()),
        }
        Verdict::Done
    }

    fn suspend(&self, now: Instant, ticket: Option<PublishTicket>) {
        let Some(ticket) = ticket else {
            return;
        };
        let suspended = self.connection.machine.borrow_mut().suspend(now, ticket);
        if let Err(error) = suspended {
            tracing::error!(%error, "Publish was not suspended.");
        }
    }

    fn complete(
        &self,
        now: Instant,
        ticket: Option<PublishTicket>,
        reason: impl Into<mqtt::server::Reason>,
    ) {
        let Some(ticket) = ticket else {
            return;
        };
        let mut machine = self.connection.machine.borrow_mut();
        if let Err(error) = machine.complete_publish(now, ticket, reason) {
            tracing::error!(%error, "Publish was not answered.");
        }
    }

    fn count_refused(&self, cause: RefusalCause) {
        self.router.counters.refused.add(cause, 1);
    }

    fn log_refused(&self, now: Instant, message: &Message, cause: RefusalCause) {
        if let Some(left_out) = self.router.log_limits.refused_publish.pass(now) {
            let (topic, qos, cause) = (&message.topic, message.qos, cause.label());
            tracing::info!(%topic, %qos, cause, left_out, "Publish was refused.");
        }
    }

    fn log_suspended(&self, now: Instant, message: &Message, cause: RefusalCause) {
        if let Some(left_out) = self.router.log_limits.suspended.pass(now) {
            let (topic, cause) = (&message.topic, cause.label());
            tracing::info!(%topic, cause, left_out, "Publish waits until it can be stored.");
        }
    }
}
