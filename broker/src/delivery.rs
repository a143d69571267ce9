//! Messages to subscribers: one copy for each, with all that its subscriptions ask for.
//!
//! A message of QoS 0 goes at once, or is dropped and counted. One of QoS 1 goes through the mailbox of
//! its session. When that is full the session is behind: it gets from the log what it has room for
//! ([`catch_up`](crate::catch_up)). A subscriber is disconnected only when there is no room for a
//! message that is in no log: it must know that something is missing. Nobody waits for it.

use std::rc::Rc;
use std::time::Instant;

use mqtt::server::{Outgoing, PublishOutcome, Reason};
use mqtt::{QoS, ReasonCode, Utf8String};

use crate::connection::Connection;
use crate::outbound::{Item, Offered};
use crate::place::Place;
use crate::probe::DropCause;
use crate::publication::{Expired, Publication, remaining_seconds};
use crate::route::{Grant, Route};
use crate::router::Router;
use crate::session::Session;

/// More than the header and the properties' identifiers of a PUBLISH take.
const HEADER_BYTES_MAX: usize = 128;

impl Router {
    /// Delivers to everybody on the route. `place`: where the message lies, if it was stored.
    pub(crate) fn deliver(
        &self,
        now: Instant,
        publication: &Publication,
        route: &Route,
        place: Option<Place>,
    ) {
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
            let session = &recipient.session;
            let qos = grant.qos.min(message.qos);
            if qos == QoS::AtMostOnce {
                let outgoing = Outgoing {
                    message,
                    qos,
                    retain: message.retain && grant.retain_as_published,
                    message_expiry_interval: remaining,
                    subscription_identifiers: &grant.identifiers,
                };
                self.send_at_most_once(now, &session.connection, outgoing);
            } else {
                self.offer(now, session, publication.item(grant, place));
            }
        }
    }

    /// Puts a message into the mailbox of a session that has a connection, or finds that it is to be
    /// read from the log.
    pub(crate) fn offer(&self, now: Instant, session: &Rc<Session>, item: Item) {
        let state = &session.state;
        let offered = state.outbound.borrow_mut().offer_live(item);
        match offered {
            Offered::Taken => self.pump(now, session),
            Offered::NotWanted => {}
            Offered::FellBehind => self.read_for(state),
            Offered::NoRoom => {
                self.counters.dropped.add(DropCause::MailboxFull, 1);
                session.connection.disconnect(Reason {
                    code: ReasonCode::QuotaExceeded,
                    string: Utf8String::try_from("too many messages wait for you").ok(),
                });
            }
        }
    }

    /// Hands messages from the mailbox to the connection, as many as its client takes now.
    pub(crate) fn pump(&self, now: Instant, session: &Session) {
        let connection = &session.connection;
        let mut outbound = session.state.outbound.borrow_mut();
        let mut machine = connection.machine.borrow_mut();
        let mut has_sent = false;
        while machine.free_places() > 0
            && let Some(item) = outbound.front()
        {
            let waiting = machine.transmit_bytes();
            let bytes = item.size_bytes() + 5 * item.identifiers.len() + HEADER_BYTES_MAX;
            let max = self.machine_options.transmit_bytes_max;
            if waiting > 0 && waiting.saturating_add(bytes) > max {
                break;
            }
            let Some(item) = outbound.pop() else {
                break;
            };
            let Ok(remaining) = remaining_seconds(item.expires_at, now) else {
                self.counters.dropped.add(DropCause::Expired, 1);
                continue;
            };
            let outgoing = Outgoing {
                message: &item.message,
                qos: QoS::AtLeastOnce,
                retain: item.retain,
                message_expiry_interval: remaining,
                subscription_identifiers: &item.identifiers,
            };
            match machine.publish(now, outgoing) {
                PublishOutcome::Sent {
                    packet_id: Some(packet_id),
                } => {
                    outbound.sent(packet_id, item.place);
                    self.counters.delivered_qos1.increment();
                    has_sent = true;
                }
                PublishOutcome::DroppedTooLarge => {
                    self.counters.dropped.add(DropCause::PacketTooLarge, 1);
                }
                // The connection has ended: what was taken out is read again, or was never promised.
                outcome => {
                    debug_assert_eq!(outcome, PublishOutcome::NotConnected);
                    break;
                }
            }
        }
        drop(machine);
        let has_room = outbound.reads_from().is_some();
        drop(outbound);
        if has_room {
            self.behind_changed.notify_one();
        }
        if has_sent {
            connection.signal.notify();
        }
    }

    /// Hands a message of QoS 0 over to one subscriber's connection. What became of it is counted.
    /// `false` if there was no room.
    fn send_at_most_once(
        &self,
        now: Instant,
        connection: &Rc<Connection>,
        outgoing: Outgoing<'_>,
    ) -> bool {
        let has_room = self.try_send(now, connection, outgoing);
        if !has_room {
            self.counters.dropped.add(DropCause::MailboxFull, 1);
        }
        has_room
    }

    /// As [`Self::send_at_most_once`]; where there is no room, somebody tries again.
    pub(crate) fn try_send(
        &self,
        now: Instant,
        connection: &Rc<Connection>,
        outgoing: Outgoing<'_>,
    ) -> bool {
        let outcome = connection.machine.borrow_mut().publish(now, outgoing);
        match outcome {
            PublishOutcome::Sent { .. } => {
                self.counters.delivered_qos0.increment();
                connection.signal.notify();
            }
            PublishOutcome::DroppedTooLarge => {
                self.counters.dropped.add(DropCause::PacketTooLarge, 1);
            }
            PublishOutcome::DroppedFull => return false,
            _ => {}
        }
        true
    }
}

impl Publication {
    /// This message for one session.
    pub(crate) fn item(&self, grant: &Grant, place: Option<Place>) -> Item {
        Item {
            message: std::sync::Arc::clone(&self.message),
            expires_at: self.expires_at,
            retain: self.message.retain && grant.retain_as_published,
            identifiers: grant.identifiers.as_slice().into(),
            place,
        }
    }
}
