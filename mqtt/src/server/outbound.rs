//! Messages to the client: the window of QoS 1, the queue before it, and what is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;

use super::client::Client;
use super::{Connection, Event, Phase};
use crate::message::Message;
use crate::packet::{Delivery, PacketId, PublishHeader, SubscriptionIdentifier};
use crate::qos::QoS;

/// A message to the client, with what is its own and not the publisher's.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'m> {
    /// The message. It is shared, because it may wait, and may go to many clients.
    pub message: &'m Arc<Message>,
    /// The QoS of this delivery: the smaller of the message's and the granted one. Never above
    /// [`Options::maximum_qos`](super::Options::maximum_qos), whatever stands here.
    pub qos: QoS,
    /// The RETAIN flag of this delivery.
    pub retain: bool,
    /// Seconds that are left of the message's expiry interval.
    pub message_expiry_interval: Option<u32>,
    /// The identifiers of all subscriptions that matched.
    pub subscription_identifiers: &'m [SubscriptionIdentifier],
}

/// What became of a message to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It is QoS 0 and the transmit buffer is full.
    DroppedFull,
    /// It exceeds the client's Maximum Packet Size. The standard has it dropped as if it had been
    /// sent (MQTT 5, 3.1.2.11.4).
    DroppedTooLarge,
    /// No client is connected.
    NotConnected,
    /// It is QoS 1 and the queue is full. The client gets nothing more in order: disconnect it
    /// with [`ReasonCode::QuotaExceeded`](crate::ReasonCode::QuotaExceeded).
    Overflow,
    /// It waits for a place in the window.
    Queued,
    /// It is in the transmit buffer.
    Sent {
        /// What [`Event::Acknowledged`] will name; `None` for QoS 0.
        packet_id: Option<PacketId>,
    },
}

/// The window and the queue.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Sent and not acknowledged, in the order of sending. It has the size of the window at most,
    /// and clients acknowledge in order, so that a search from the front is short.
    inflight: VecDeque<PacketId>,
    window: u16,
    next_id: PacketId,
    queue: VecDeque<Queued>,
    /// Bytes of `queue`.
    queue_bytes: usize,
}

#[derive(Debug)]
struct Queued {
    message: Arc<Message>,
    retain: bool,
    expiry: Option<Expiry>,
    subscription_identifiers: Box<[SubscriptionIdentifier]>,
    /// Size of the packet.
    bytes: usize,
}

/// How long a message may wait.
#[derive(Debug, Clone, Copy)]
struct Expiry {
    interval: u32,
    since: Instant,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            inflight: VecDeque::new(),
            window: 0,
            next_id: PacketId::MIN,
            queue: VecDeque::new(),
            queue_bytes: 0,
        }
    }
}

impl Outbound {
    pub(super) fn open(&mut self, window: u16) {
        self.window = window;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn inflight(&self) -> usize {
        self.inflight.len()
    }

    pub(super) fn free_places(&self) -> usize {
        usize::from(self.window).saturating_sub(self.inflight.len() + self.queue.len())
    }

    pub(super) fn queued_messages(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue_bytes
    }

    pub(super) fn is_inflight(&self, packet_id: PacketId) -> bool {
        self.inflight.contains(&packet_id)
    }

    /// Frees a place of the window. `false` when the identifier is not in use.
    pub(super) fn acknowledge(&mut self, packet_id: PacketId) -> bool {
        let position = self
            .inflight
            .iter()
            .position(|inflight| *inflight == packet_id);
        position
            .and_then(|position| self.inflight.remove(position))
            .is_some()
    }

    fn has_place(&self) -> bool {
        self.inflight.len() < usize::from(self.window)
    }

    /// The next free packet identifier. There is one, because the window has fewer places than
    /// there are identifiers, or is full.
    fn take_id(&mut self) -> PacketId {
        while self.is_inflight(self.next_id) {
            self.next_id = self.next_id.successor();
        }
        let packet_id = self.next_id;
        self.next_id = packet_id.successor();
        self.inflight.push_back(packet_id);
        packet_id
    }

    fn take_queued(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queue_bytes -= queued.bytes;
        if self.queue.is_empty() {
            // Its memory was for a burst; an idle connection is to be small.
            self.queue = VecDeque::new();
        }
        Some(queued)
    }
}

impl Expiry {
    /// Seconds that are left, `None` when the message has expired.
    fn remaining(self, now: Instant) -> Option<u32> {
        let waited = now.saturating_duration_since(self.since);
        let left = Duration::from_secs(self.interval.into()).checked_sub(waited)?;
        // Rounded up: a fraction of a second is not yet expired.
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
    }
}

impl Connection {
    /// Sends a message to the client, now or when there is room. QoS 0 overtakes messages of QoS 1
    /// that wait; among those of one QoS the order is kept.
    pub fn publish(&mut self, now: Instant, outgoing: Outgoing<'_>) -> PublishOutcome {
        let Phase::Connected(client) = self.phase else {
            return PublishOutcome::NotConnected;
        };
        let qos = outgoing.qos.min(self.options.maximum_qos.level());
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            // Any identifier has the same size.
            _ => Delivery::AtLeastOnce {
                packet_id: PacketId::MIN,
                dup: false,
            },
        };
        let bytes = match outgoing.header(delivery).packet_bytes(client.version) {
            Ok(bytes) if bytes <= client.packet_bytes_max => bytes,
            _ => return PublishOutcome::DroppedTooLarge,
        };
        let has_room = self.has_room(bytes);
        match delivery {
            Delivery::AtMostOnce if !has_room => PublishOutcome::DroppedFull,
            Delivery::AtMostOnce => self.transmit_message(client, outgoing, delivery),
            _ if has_room && self.outbound.queue.is_empty() && self.outbound.has_place() => {
                let delivery = Delivery::AtLeastOnce {
                    packet_id: self.outbound.take_id(),
                    dup: false,
                };
                self.transmit_message(client, outgoing, delivery)
            }
            _ => self.queue(now, outgoing, bytes),
        }
    }

    /// Sends messages that wait, as far as there is room. To be called when the window or the
    /// transmit buffer may have become emptier.
    pub(super) fn pump(&mut self, now: Instant) {
        let Phase::Connected(client) = self.phase else {
            return;
        };
        let mut expired = 0;
        while self.outbound.has_place()
            && self
                .outbound
                .queue
                .front()
                .is_some_and(|next| self.has_room(next.bytes))
            && let Some(queued) = self.outbound.take_queued()
        {
            let left = queued.expiry.map(|expiry| expiry.remaining(now));
            if left == Some(None) {
                expired += 1;
                continue;
            }
            let outgoing = Outgoing {
                message: &queued.message,
                qos: QoS::AtLeastOnce,
                retain: queued.retain,
                message_expiry_interval: left.flatten(),
                subscription_identifiers: &queued.subscription_identifiers,
            };
            let delivery = Delivery::AtLeastOnce {
                packet_id: self.outbound.take_id(),
                dup: false,
            };
            self.transmit_message(client, outgoing, delivery);
        }
        if expired > 0 {
            self.report_expired(expired);
        }
    }

    /// Whether a packet of this size may be added to the transmit buffer.
    fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.transmit.remaining();
        waiting == 0 || waiting.saturating_add(bytes) <= self.options.transmit_bytes_max
    }

    fn transmit_message(
        &mut self,
        client: Client,
        outgoing: Outgoing<'_>,
        delivery: Delivery,
    ) -> PublishOutcome {
        match outgoing
            .header(delivery)
            .encode(client.version, self.transmit.tail())
        {
            Ok(()) => {
                self.transmit.push_payload(&outgoing.message.payload);
                PublishOutcome::Sent {
                    packet_id: delivery.packet_id(),
                }
            }
            // Its size was measured before, so this does not happen.
            Err(_) => PublishOutcome::DroppedTooLarge,
        }
    }

    fn queue(&mut self, now: Instant, outgoing: Outgoing<'_>, bytes: usize) -> PublishOutcome {
        let outbound = &mut self.outbound;
        let is_full = outbound.queue.len() >= self.options.queue_messages_max
            || outbound.queue_bytes.saturating_add(bytes) > self.options.queue_bytes_max;
        if is_full && !outbound.queue.is_empty() {
            return PublishOutcome::Overflow;
        }
        outbound.queue_bytes += bytes;
        outbound.queue.push_back(Queued {
            message: Arc::clone(outgoing.message),
            retain: outgoing.retain,
            expiry: outgoing.message_expiry_interval.map(|interval| Expiry {
                interval,
                since: now,
            }),
            subscription_identifiers: outgoing.subscription_identifiers.into(),
            bytes,
        });
        PublishOutcome::Queued
    }

    /// Adds to the last event where that is of the same kind, so that a driver that polls late
    /// finds one and not many.
    fn report_expired(&mut self, expired: usize) {
        match self.events.back_mut() {
            Some(Event::Expired { messages }) => *messages += expired,
            _ => self.events.push_back(Event::Expired { messages: expired }),
        }
    }
}

impl<'m> Outgoing<'m> {
    fn header(&self, delivery: Delivery) -> PublishHeader<'m> {
        let message: &'m Message = self.message;
        PublishHeader {
            delivery,
            retain: self.retain,
            topic: Some(&message.topic),
            topic_alias: None,
            message_expiry_interval: self.message_expiry_interval,
            subscription_identifiers: self.subscription_identifiers,
            properties: &message.properties,
            payload_bytes: message.payload.len(),
        }
    }
}
