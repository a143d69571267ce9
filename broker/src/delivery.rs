//! Messages to subscribers: one copy for each, with all that its subscriptions ask for.
//!
//! A subscriber that reads too slowly misses messages of QoS 0, which is counted. When there is no
//! room for a message of QoS 1 either, it is disconnected: it must know that something is missing.
//! Nobody waits for it.

use std::rc::Rc;
use std::time::Instant;

use mqtt::server::{Outgoing, PublishOutcome, Reason};
use mqtt::{QoS, ReasonCode, Utf8String};

use crate::connection::Connection;
use crate::probe::DropCause;
use crate::publication::{Expired, Publication};
use crate::route::Route;
use crate::router::Router;

impl Router {
    /// Delivers to everybody on the route.
    pub(crate) fn deliver(&self, now: Instant, publication: &Publication, route: &Route) {
        if route.recipients.is_empty() {
            return;
        }
        let remaining = match publication.remaining_seconds(now) {
            Ok(remaining) => remaining,
            Err(Expired) => {
                self.counters.dropped.add(DropCause::Expired, 1);
                return;
            }
        };
        let message = &publication.message;
        for recipient in &route.recipients {
            let Some(grant) = recipient.grant_for(&publication.publisher) else {
                continue;
            };
            let outgoing = Outgoing {
                message,
                qos: grant.qos.min(message.qos),
                retain: message.retain && grant.retain_as_published,
                message_expiry_interval: remaining,
                subscription_identifiers: &grant.identifiers,
            };
            let connection = &recipient.session.connection;
            if self.hand_over(now, connection, outgoing) == PublishOutcome::DroppedFull {
                self.counters.dropped.add(DropCause::MailboxFull, 1);
            }
        }
    }

    /// Hands a message over to one subscriber's connection. What became of it is counted, but for
    /// QoS 0 without room, which some can try again.
    pub(crate) fn hand_over(
        &self,
        now: Instant,
        connection: &Rc<Connection>,
        outgoing: Outgoing<'_>,
    ) -> PublishOutcome {
        let qos = outgoing.qos;
        let outcome = connection.machine.borrow_mut().publish(now, outgoing);
        match outcome {
            PublishOutcome::Queued | PublishOutcome::Sent { .. } => {
                let delivered = match qos {
                    QoS::AtMostOnce => &self.counters.delivered_qos0,
                    _ => &self.counters.delivered_qos1,
                };
                delivered.increment();
                connection.signal.notify();
            }
            PublishOutcome::DroppedTooLarge => {
                self.counters.dropped.add(DropCause::PacketTooLarge, 1);
            }
            PublishOutcome::Overflow => {
                self.counters.dropped.add(DropCause::MailboxFull, 1);
                connection.disconnect(Reason {
                    code: ReasonCode::QuotaExceeded,
                    string: Utf8String::try_from("too many messages wait for you").ok(),
                });
            }
            PublishOutcome::DroppedFull
            | PublishOutcome::NoRoom
            | PublishOutcome::NotConnected
            | PublishOutcome::NotReserved => {}
        }
        outcome
    }
}
