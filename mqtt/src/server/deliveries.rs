//! Deliveries that the driver makes durable first, and those of earlier connections.
//!
//! QoS 2 to the client, step by step:
//!
//! 1. [`reserve`](Connection::reserve) an identifier; make the binding of message and identifier
//!    durable; [`publish_reserved`](Connection::publish_reserved).
//! 2. [`Event::Received`](super::Event::Received): make that durable;
//!    [`release`](Connection::release).
//! 3. [`Event::Acknowledged`](super::Event::Acknowledged): forget the binding.
//!
//! After the end of the connection [`take_inflight`](Connection::take_inflight) gives what is not
//! over, for [`Accept::inflight`](super::Accept::inflight) of the next one.

use std::time::Instant;

use bytes::Buf;

use super::client::Client;
use super::{Connection, InflightEntry, Outgoing, Phase, PublishOutcome};
use crate::packet::{Delivery, PacketId};
use crate::qos::QoS;
use crate::reason_code::ReasonCode;

impl Connection {
    /// Messages of QoS 1 and 2 that may be sent or reserved now, as far as the window goes: the
    /// smaller of [`Options::inflight_max`](super::Options::inflight_max) and the client's Receive
    /// Maximum, less [`inflight`](Self::inflight). None while a message of an earlier connection
    /// waits to be [resent](Self::resend), so that nothing new overtakes it.
    pub fn free_places(&self) -> usize {
        self.inflight.free_places()
    }

    /// Bytes of messages that may be added to the transmit buffer. An empty buffer takes one
    /// message of any size.
    pub fn free_bytes(&self) -> usize {
        let waiting = self.transmit.remaining();
        self.options.transmit_bytes_max.saturating_sub(waiting)
    }

    /// Takes a packet identifier and a place of the window for a message of QoS 2 that is to be
    /// made durable before it is sent. `None` when there is no [free place](Self::free_places), no
    /// client, or QoS 2 is not served.
    ///
    /// The client hears nothing of the identifier before
    /// [`publish_reserved`](Self::publish_reserved).
    pub fn reserve(&mut self) -> Option<PacketId> {
        match self.options.maximum_qos {
            QoS::AtMostOnce | QoS::AtLeastOnce => None,
            QoS::ExactlyOnce => self.inflight.reserve(),
        }
    }

    /// As [`reserve`](Self::reserve), for a message of QoS 1 that must not overtake messages of QoS 2
    /// that are being made durable.
    pub fn reserve_at_least_once(&mut self) -> Option<PacketId> {
        match self.options.maximum_qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.inflight.reserve_qos1(),
        }
    }

    /// Gives back an identifier that was reserved and not sent. `false` when it is none.
    pub fn cancel(&mut self, now: Instant, packet_id: PacketId) -> bool {
        let is_cancelled = self.inflight.cancel(packet_id);
        self.pump(now);
        is_cancelled
    }

    /// Sends a message under the identifier that was reserved for it, and with the QoS for which it
    /// was; its own [`Outgoing::qos`] does not count. The driver does so in the order in which it wants them to
    /// arrive.
    ///
    /// When the client does not take a message of this size it is dropped, and the identifier is
    /// free: [`PublishOutcome::DroppedTooLarge`].
    pub fn publish_reserved(
        &mut self,
        now: Instant,
        packet_id: PacketId,
        outgoing: Outgoing<'_>,
    ) -> PublishOutcome {
        let Phase::Connected(client) = self.phase else {
            return PublishOutcome::NotConnected;
        };
        let Some(delivery) = self.inflight.reserved(packet_id) else {
            return PublishOutcome::NotReserved;
        };
        let Some(bytes) = outgoing.packet_bytes(client, delivery) else {
            self.cancel(now, packet_id);
            return PublishOutcome::DroppedTooLarge;
        };
        self.transmit_known(now, client, outgoing, delivery, bytes)
    }

    /// Sends a message of an earlier connection again, with DUP and with the QoS that it had then.
    /// The driver does so in the order of [`Accept::inflight`](super::Accept::inflight); before
    /// each of them was resent or [forgotten](Self::forget) nothing new is sent.
    ///
    /// [`PublishOutcome::NoRoom`] when there were more of them than this client's Receive Maximum
    /// allows, or the transmit buffer is full: then the same one again after
    /// [`Event::Acknowledged`](super::Event::Acknowledged) or when bytes were transmitted.
    /// [`PublishOutcome::DroppedTooLarge`] when this connection's Maximum Packet Size is smaller:
    /// the message is forgotten.
    pub fn resend(
        &mut self,
        now: Instant,
        packet_id: PacketId,
        outgoing: Outgoing<'_>,
    ) -> PublishOutcome {
        let Phase::Connected(client) = self.phase else {
            return PublishOutcome::NotConnected;
        };
        let Some(delivery) = self.inflight.resend(packet_id) else {
            return PublishOutcome::NotReserved;
        };
        let Some(bytes) = outgoing.packet_bytes(client, delivery) else {
            self.forget(now, packet_id);
            return PublishOutcome::DroppedTooLarge;
        };
        if !self.inflight.has_place_to_resend() {
            return PublishOutcome::NoRoom;
        }
        self.transmit_known(now, client, outgoing, delivery, bytes)
    }

    /// Gives up a message of an earlier connection that cannot be resent, because it is gone or has
    /// expired. `false` when no such message waits to be resent.
    ///
    /// With QoS 1 its identifier is free at once. With QoS 2 the client may have the message and
    /// take the next one under its identifier for the same; so PUBREL is sent, which a client
    /// answers whether it knows the identifier or not, and the identifier is free with
    /// [`Event::Acknowledged`](super::Event::Acknowledged).
    pub fn forget(&mut self, now: Instant, packet_id: PacketId) -> bool {
        let is_forgotten = self.inflight.forget(packet_id);
        self.send_granted(now);
        self.pump(now);
        is_forgotten
    }

    /// Sends the PUBREL of a message that the client has, when that is durable; for a message of an
    /// earlier connection, again. PUBRELs leave in the order of the PUBRECs (MQTT 5, 4.6), whatever
    /// the order of these calls. `false` when the PUBREL is not owed.
    pub fn release(&mut self, now: Instant, packet_id: PacketId) -> bool {
        let is_granted = self.inflight.grant(packet_id);
        self.send_granted(now);
        is_granted
    }

    /// Takes the deliveries that are not over, in the order in which they were sent. To be called
    /// when the connection has ended and its last event was taken, because what an event has yet to
    /// say is in here already: a delivery that it says is over is not in the list.
    pub fn take_inflight(&mut self) -> Vec<InflightEntry> {
        self.inflight.take()
    }

    fn send_granted(&mut self, now: Instant) {
        while let Phase::Connected(client) = self.phase
            && let Some(packet_id) = self.inflight.pop_granted()
        {
            self.send_pubrel(client, packet_id, ReasonCode::Success);
        }
        self.look_after_timers(now);
    }

    /// Sends a message that has its identifier and its place.
    fn transmit_known(
        &mut self,
        now: Instant,
        client: Client,
        outgoing: Outgoing<'_>,
        delivery: Delivery,
        bytes: usize,
    ) -> PublishOutcome {
        if !self.has_room(bytes) {
            return PublishOutcome::NoRoom;
        }
        if let Some(packet_id) = delivery.packet_id() {
            self.inflight.set_sent(packet_id);
        }
        let outcome = self.transmit_message(client, outgoing, delivery);
        self.pump(now);
        outcome
    }
}
