//! Messages to subscribers: one copy for each, with all that its subscriptions ask for.
//!
//! A message of QoS 0 goes at once, or is dropped and counted. One of QoS 1 or 2 goes through the mailbox of
//! its session. When that is full the session is behind: it gets from the log what it has room for
//! ([`catch_up`](crate::catch_up)). A subscriber is disconnected only when there is no room for a
//! message that is in no log: it must know that something is missing. Nobody waits for it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mqtt::server::{Connection as StateMachine, Outgoing, PublishOutcome, Reason};
use mqtt::{Message, PacketId, ProtocolVersion, QoS, ReasonCode, Utf8String};
use storage::CommitNumber;

use crate::causes::{DropCause, Limit};
use crate::connection::Connection;
use crate::outbound::{Bound, Item, Offered, Outbound};
use crate::place::Place;
use crate::publication::{Expired, Publication, remaining_seconds, size_bytes};
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
                if let Some(group) = self.group_of(&session.state) {
                    self.share_at_most_once(now, &group, message, remaining);
                    continue;
                }
                let outgoing = Outgoing {
                    message,
                    qos,
                    retain: message.retain && grant.retain_as_published,
                    message_expiry_interval: remaining,
                    subscription_identifiers: &grant.identifiers,
                };
                self.send_at_most_once(now, &session.connection, outgoing);
            } else {
                self.offer(now, session, publication.item(grant, qos, place));
            }
        }
    }

    /// Puts a message into the mailbox of a session that has a connection, or finds that it is to be
    /// read from the log.
    pub(crate) fn offer(&self, now: Instant, session: &Rc<Session>, item: Item) {
        let state = &session.state;
        let mut outbound = state.outbound.borrow_mut();
        let is_own_bound = outbound.exceeds_its_own_bound(item.size_bytes());
        let offered = outbound.offer_live(item);
        drop(outbound);
        if matches!(offered, Offered::FellBehind | Offered::NoRoom) {
            self.count_full(is_own_bound);
        }
        match offered {
            Offered::Taken => self.pump(now, session),
            Offered::NotWanted => {}
            Offered::FellBehind => {
                tracing::trace!(client_id = state.client_id(), "Session falls behind.");
                self.read_for(state);
            }
            Offered::NoRoom => {
                self.counters.dropped.add(DropCause::MailboxFull, 1);
                if state.group.get().is_some() {
                    return;
                }
                session.connection.disconnect(Reason {
                    code: ReasonCode::QuotaExceeded,
                    string: Utf8String::try_from("too many messages wait for you").ok(),
                });
            }
        }
    }

    /// A mailbox is full, by its own bound or by that of all.
    fn count_full(&self, is_own_bound: bool) {
        let limit = match is_own_bound {
            true => Limit::MailboxBytesMax,
            false => Limit::AllMailboxesBytesMax,
        };
        self.counters.limits.add(limit, 1);
    }

    /// Hands messages from the mailbox to the connection, as many as its client takes now.
    pub(crate) fn pump(&self, now: Instant, session: &Rc<Session>) {
        if let Some(group) = self.group_of(&session.state) {
            return self.pump_group(now, &group);
        }
        let connection = &session.connection;
        let mut outbound = session.state.outbound.borrow_mut();
        let mut machine = connection.machine.borrow_mut();
        let durable = self.durable();
        let mut pumping = Pumping {
            router: self,
            now,
            is_kept: session.state.is_persistent(),
            may_resend: session.state.bindings_commit.get() <= durable,
            may_report: session.version == ProtocolVersion::V5,
            connection,
            machine: &mut machine,
            outbound: &mut outbound,
            has_sent: false,
            waits_for_window: false,
        };
        pumping.send_bound(durable);
        pumping.send_mailbox();
        // What ends with its connection waits for nothing.
        pumping.send_bound(durable);
        let (has_sent, waits_for_window) = (pumping.has_sent, pumping.waits_for_window);
        if has_sent && waits_for_window {
            self.counters.limits.add(Limit::InflightMax, 1);
        }
        drop(machine);
        if has_sent {
            connection.weigh();
        }
        let has_room = outbound.reads_from().is_some();
        let is_unwritten = outbound.bound().iter().any(Bound::is_unwritten);
        let has_replays = !outbound.replays.is_empty();
        drop(outbound);
        if is_unwritten {
            self.write_bindings(now, session);
        }
        if has_room {
            self.behind_changed.notify_one();
        }
        if has_replays {
            self.replays_changed.notify_one();
        }
        if has_sent {
            connection.signal.notify();
        }
        self.pump_groups(now, session);
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
            self.count_full(!self.mailboxes_are_tight());
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
        let mut machine = connection.machine.borrow_mut();
        let (waiting, max) = (
            machine.transmit_bytes(),
            self.machine_options.transmit_bytes_max,
        );
        let packet = size_bytes(outgoing.message) + HEADER_BYTES_MAX;
        if !connection.has_room(waiting, packet, max) {
            return false;
        }
        let outcome = machine.publish(now, outgoing);
        drop(machine);
        match outcome {
            PublishOutcome::Sent { .. } => {
                connection.weigh();
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

/// What is left of the expiry interval of a message that has expired since its delivery began: as little as
/// the interval can say that ends at all.
pub(crate) const EXPIRED_SECONDS: Option<u32> = Some(1);

/// The mailbox and the connection of one session, while messages go from one to the other.
struct Pumping<'p> {
    router: &'p Router,
    now: Instant,
    /// The session outlives its connection.
    is_kept: bool,
    /// What is in flight is on flash as far as it must be.
    may_resend: bool,
    /// Its client understands user properties.
    may_report: bool,
    connection: &'p Connection,
    machine: &'p mut StateMachine,
    outbound: &'p mut Outbound,
    has_sent: bool,
    /// More is there than the client's window has places for.
    waits_for_window: bool,
}

impl Pumping<'_> {
    /// Sends the messages whose identifiers are on flash, and those behind them that wait for nothing else.
    fn send_bound(&mut self, durable: CommitNumber) {
        while let Some(bound) = self.outbound.bound().front()
            && bound.commit.is_some_and(|commit| commit <= durable)
        {
            let remaining = remaining_seconds(bound.item.expires_at, self.now);
            let remaining = remaining.unwrap_or(EXPIRED_SECONDS);
            let reporting = self.reporting(&bound.item);
            let outgoing = reporting.as_ref().unwrap_or(&bound.item);
            let outgoing = outgoing.outgoing(remaining);
            match self
                .machine
                .publish_reserved(self.now, bound.packet_id, outgoing)
            {
                PublishOutcome::NoRoom => return,
                outcome => {
                    let packet_id = bound.packet_id;
                    if reporting.is_some() {
                        self.outbound.told_missing();
                    }
                    if outcome == PublishOutcome::DroppedTooLarge {
                        self.outbound.acknowledged(packet_id);
                    }
                    let sent = self.outbound.pop_bound();
                    self.count(sent.map_or(QoS::ExactlyOnce, |sent| sent.item.qos), outcome);
                }
            }
        }
    }

    /// Sends messages from the mailbox, in its order. One of QoS 2 is only bound, and those of QoS 1
    /// behind it are bound to wait until it is sent.
    fn send_mailbox(&mut self) {
        while let Some(item) = self.outbound.front() {
            let is_next = self.outbound.bound().is_empty();
            let may_be_sent = match item.again {
                Some(_) => self.may_resend,
                None if item.qos == QoS::AtMostOnce => is_next,
                None => self.machine.free_places() > 0,
            };
            if !may_be_sent {
                self.waits_for_window |= item.again.is_none() && self.machine.free_places() == 0;
                return;
            }
            if !self.has_room(item) {
                return;
            }
            let Some(item) = self.outbound.pop() else {
                return;
            };
            let remaining = match remaining_seconds(item.expires_at, self.now) {
                Ok(remaining) => remaining,
                // Its delivery has begun, and goes on.
                Err(Expired) if item.again.is_some() => EXPIRED_SECONDS,
                Err(Expired) => {
                    self.router.counters.dropped.add(DropCause::Expired, 1);
                    continue;
                }
            };
            let goes_on = match (item.again, item.qos) {
                (Some(packet_id), _) => self.resend(packet_id, item, remaining),
                (None, QoS::ExactlyOnce) => self.bind(item),
                (None, _) if is_next => self.send(item, remaining),
                (None, _) => self.bind(item),
            };
            if !goes_on {
                return;
            }
        }
    }

    fn has_room(&self, item: &Item) -> bool {
        let waiting = self.machine.transmit_bytes();
        let max = self.router.machine_options.transmit_bytes_max;
        self.connection.has_room(waiting, packet_bytes(item), max)
    }

    /// The message with what is missing before it, if its client can be told and has room for that.
    fn reporting(&self, item: &Item) -> Option<Item> {
        let report = self.outbound.missing().filter(|_| self.may_report)?;
        let mut message = Message::clone(&item.message);
        message.properties.user_properties.push(report.property()?);
        let item = Item {
            message: Arc::new(message),
            ..item.clone()
        };
        let fits = packet_bytes(&item) <= self.machine.packet_bytes_max()?;
        (fits && self.has_room(&item)).then_some(item)
    }

    fn send(&mut self, item: Item, remaining: Option<u32>) -> bool {
        let reporting = self.reporting(&item);
        let outgoing = reporting.as_ref().unwrap_or(&item).outgoing(remaining);
        let outcome = self.machine.publish(self.now, outgoing);
        self.count(item.qos, outcome);
        if reporting.is_some() && matches!(outcome, PublishOutcome::Sent { .. }) {
            self.outbound.told_missing();
        }
        match outcome {
            PublishOutcome::Sent {
                packet_id: Some(packet_id),
            } => self.outbound.sent(packet_id, &item),
            PublishOutcome::Sent { packet_id: None } | PublishOutcome::DroppedTooLarge => {}
            // The connection has ended.
            _ => {
                self.outbound.put_back(item);
                return false;
            }
        }
        true
    }

    fn bind(&mut self, item: Item) -> bool {
        let is_qos2 = item.qos == QoS::ExactlyOnce;
        let reserved = match is_qos2 {
            true => self.machine.reserve(),
            false => self.machine.reserve_at_least_once(),
        };
        let Some(packet_id) = reserved else {
            self.outbound.put_back(item);
            return false;
        };
        let is_to_be_written = is_qos2 && self.is_kept;
        let commit = (!is_to_be_written).then_some(CommitNumber(0));
        self.outbound.bind(packet_id, item, commit);
        true
    }

    /// What it was is in flight already.
    fn resend(&mut self, packet_id: PacketId, item: Item, remaining: Option<u32>) -> bool {
        let outcome = self
            .machine
            .resend(self.now, packet_id, item.outgoing(remaining));
        match outcome {
            PublishOutcome::NoRoom => {
                self.outbound.put_back(item);
                return false;
            }
            PublishOutcome::DroppedTooLarge => {
                self.outbound.acknowledged(packet_id);
            }
            // The client has acknowledged it meanwhile, or is gone.
            _ => {}
        }
        self.count(item.qos, outcome);
        true
    }

    fn count(&mut self, qos: QoS, outcome: PublishOutcome) {
        let counters = &self.router.counters;
        match outcome {
            PublishOutcome::Sent { .. } => {
                self.has_sent = true;
                match qos {
                    QoS::ExactlyOnce => counters.delivered_qos2.increment(),
                    QoS::AtLeastOnce => counters.delivered_qos1.increment(),
                    QoS::AtMostOnce => counters.delivered_qos0.increment(),
                }
            }
            PublishOutcome::DroppedTooLarge => counters.dropped.add(DropCause::PacketTooLarge, 1),
            _ => {}
        }
    }
}

/// As much as the packet of a message takes, or more.
pub(crate) fn packet_bytes(item: &Item) -> usize {
    item.size_bytes() + 5 * item.identifiers.len() + HEADER_BYTES_MAX
}

impl Item {
    pub(crate) fn outgoing(&self, remaining: Option<u32>) -> Outgoing<'_> {
        Outgoing {
            message: &self.message,
            qos: self.qos,
            retain: self.retain,
            message_expiry_interval: remaining,
            subscription_identifiers: &self.identifiers,
        }
    }
}

impl Publication {
    /// This message for one session.
    pub(crate) fn item(&self, grant: &Grant, qos: QoS, place: Option<Place>) -> Item {
        Item {
            message: Arc::clone(&self.message),
            expires_at: self.expires_at,
            qos,
            retain: self.message.retain && grant.retain_as_published,
            identifiers: grant.identifiers.as_slice().into(),
            place,
            again: None,
            replay: None,
            group: None,
        }
    }
}
