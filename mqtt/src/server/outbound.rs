//! Messages to the client: QoS 0, QoS 1 with the queue before its window, and what is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;

use super::client::Client;
use super::sent_aliases::SentAlias;
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
    /// [`Options::maximum_qos`](super::Options::maximum_qos), whatever stands here; and without
    /// meaning where the packet identifier says it.
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
    /// There is no room in the transmit buffer, or no place in the window for what is resent.
    /// Nothing has happened; it is to be given again later.
    NoRoom,
    /// No client is connected.
    NotConnected,
    /// It is QoS 2, and its packet identifier was not reserved, or does not wait to be resent.
    /// Nothing was sent.
    NotReserved,
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

/// Messages of QoS 1 that wait for a place in the window.
#[derive(Debug, Default)]
pub(super) struct Outbound {
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

impl Outbound {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn queued_messages(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue_bytes
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
    /// Sends a message of QoS 0 or 1 to the client, now or when there is room. QoS 0 overtakes
    /// messages of QoS 1 that wait; among those of one QoS the order is kept. QoS 2 goes by
    /// [`reserve`](Self::reserve).
    pub fn publish(&mut self, now: Instant, outgoing: Outgoing<'_>) -> PublishOutcome {
        let Phase::Connected(client) = self.phase else {
            return PublishOutcome::NotConnected;
        };
        let delivery = match outgoing.qos.min(self.options.maximum_qos) {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            // Any identifier has the same size.
            QoS::AtLeastOnce => at_least_once(PacketId::MIN),
            QoS::ExactlyOnce => return PublishOutcome::NotReserved,
        };
        let Some(bytes) = outgoing.packet_bytes(client, delivery) else {
            return PublishOutcome::DroppedTooLarge;
        };
        let has_room = self.has_room(bytes);
        match delivery {
            Delivery::AtMostOnce if !has_room => PublishOutcome::DroppedFull,
            Delivery::AtMostOnce => self.transmit_message(client, outgoing, delivery),
            _ => {
                let may_be_sent = has_room && self.outbound.queue.is_empty();
                match may_be_sent.then(|| self.inflight.take_place()).flatten() {
                    None => self.queue(now, outgoing, bytes),
                    Some(packet_id) => {
                        self.transmit_message(client, outgoing, at_least_once(packet_id))
                    }
                }
            }
        }
    }

    /// Sends messages that wait, as far as there is room. To be called when the window or the
    /// transmit buffer may have become emptier.
    pub(super) fn pump(&mut self, now: Instant) {
        let Phase::Connected(client) = self.phase else {
            return;
        };
        let mut expired = 0;
        while self.inflight.free_places() > 0
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
            if let Some(packet_id) = self.inflight.take_place() {
                self.transmit_message(client, outgoing, at_least_once(packet_id));
            }
        }
        if expired > 0 {
            self.report_expired(expired);
        }
    }

    /// The largest packet in bytes that the client takes (Maximum Packet Size), while it is
    /// connected.
    pub fn packet_bytes_max(&self) -> Option<usize> {
        match self.phase {
            Phase::Connected(client) => Some(client.packet_bytes_max),
            _ => None,
        }
    }

    /// Whether a packet of this size may be added to the transmit buffer.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.transmit.remaining();
        waiting == 0 || waiting.saturating_add(bytes) <= self.options.transmit_bytes_max
    }

    pub(super) fn transmit_message(
        &mut self,
        client: Client,
        outgoing: Outgoing<'_>,
        delivery: Delivery,
    ) -> PublishOutcome {
        let header = self.aliased(client, outgoing.header(delivery));
        match header.encode(client.version, self.transmit.tail()) {
            Ok(()) => {
                self.transmit.push_payload(&outgoing.message.payload);
                self.packet_counts.sent += 1;
                PublishOutcome::Sent {
                    packet_id: delivery.packet_id(),
                }
            }
            // Its size was measured before, so this does not happen.
            Err(_) => PublishOutcome::DroppedTooLarge,
        }
    }

    /// The header with the topic's alias in the place of its name, or beside it. The sizes by which a
    /// message was found to fit are those with its name alone: a new alias is set only where the
    /// packet fits with both.
    fn aliased<'m>(&mut self, client: Client, plain: PublishHeader<'m>) -> PublishHeader<'m> {
        let maximum = self.options.topic_alias_sent_max;
        let maximum = maximum.min(client.topic_alias_maximum);
        let Some(topic) = plain.topic else {
            return plain;
        };
        match self.sent_aliases.find(topic, maximum) {
            SentAlias::None => plain,
            SentAlias::Known(alias) => PublishHeader {
                topic: None,
                topic_alias: Some(alias),
                ..plain
            },
            SentAlias::New(alias) => {
                let with_both = PublishHeader {
                    topic_alias: Some(alias),
                    ..plain
                };
                let bytes = with_both.packet_bytes(client.version);
                if !bytes.is_ok_and(|n| n <= client.packet_bytes_max && self.has_room(n)) {
                    return plain;
                }
                self.sent_aliases.set(topic, alias);
                with_both
            }
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

fn at_least_once(packet_id: PacketId) -> Delivery {
    let dup = false;
    Delivery::AtLeastOnce { packet_id, dup }
}

impl<'m> Outgoing<'m> {
    /// Size of the packet; `None` when the client takes none of this size.
    pub(super) fn packet_bytes(&self, client: Client, delivery: Delivery) -> Option<usize> {
        let bytes = self.header(delivery).packet_bytes(client.version).ok()?;
        (bytes <= client.packet_bytes_max).then_some(bytes)
    }

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
