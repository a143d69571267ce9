//! What the broker gives to the client: messages, and the steps of deliveries.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use mqtt::server::{Outgoing, PublishOutcome};
use mqtt::{
    Delivery, Message, MessageProperties, Packet, PacketId, Publish, QoS, SubscriptionIdentifier,
};

use super::client_packets::{encode, has_bit, topic};
use super::deliveries::{Due, Given, Step};
use super::harness::Harness;
use super::operation::Kind;

/// Topics with an alias and without: `t` is too short for one.
const TOPICS: [&str; 4] = ["sport/tennis", "t", "a/longer/topic/of/five", "$SYS/broker"];
/// The largest message: longer than the transmit buffer takes beside others.
const LARGE_BYTES: usize = 2_100;

impl Harness<'_> {
    pub(super) fn give(&mut self, kind: Kind, argument: u8) {
        let id = self.delivery_id(argument & 0x7f, has_bit(argument, 7));
        let now = self.now;
        match kind {
            Kind::Publish0 => self.publish(argument, QoS::AtMostOnce),
            Kind::Publish1 => self.publish(argument, QoS::AtLeastOnce),
            Kind::Reserve => self.reserve(has_bit(argument, 0)),
            Kind::PublishReserved => self.publish_reserved(id, argument),
            Kind::Resend => self.resend(id, argument),
            Kind::Cancel => {
                let expected = self.model.deliveries.cancel(id);
                assert_eq!(self.connection.cancel(now, id), expected, "cancel {id}");
            }
            Kind::Release => {
                let pubrels = self.model.deliveries.release(id);
                let is_done = self.connection.release(now, id);
                assert_eq!(is_done, pubrels.is_some(), "release {id}");
                self.model.send_pubrels(pubrels.unwrap_or_default(), now);
            }
            Kind::Forget => {
                let pubrels = self.model.deliveries.forget(id);
                let is_done = self.connection.forget(now, id);
                assert_eq!(is_done, pubrels.is_some(), "forget {id}");
                self.model.send_pubrels(pubrels.unwrap_or_default(), now);
            }
            other => panic!("{other:?} belongs elsewhere"),
        }
    }

    /// A message with the next number, and how it is to be sent.
    fn message(&mut self, argument: u8, qos: QoS) -> (usize, Arc<Message>, Given) {
        let number = self.model.deliveries.given.len();
        let name = TOPICS.get(usize::from(argument & 3)).copied();
        let bytes = match usize::from(argument >> 2 & 7) {
            7 => LARGE_BYTES,
            size => 4 + 16 * size,
        };
        let mut payload = BytesMut::new();
        payload.put_u32(u32::try_from(number).unwrap_or(u32::MAX));
        payload.resize(bytes, argument);
        let message = Message {
            topic: topic(name.unwrap_or("t")),
            payload: payload.freeze(),
            qos,
            retain: false,
            properties: MessageProperties::default(),
        };
        let given = Given {
            topic: message.topic.clone(),
            retain: has_bit(argument, 6),
            expiry: has_bit(argument, 5).then_some(5),
            at: self.now,
            identifiers: if has_bit(argument, 7) {
                vec![1, 200]
            } else {
                Vec::new()
            },
            payload_bytes: bytes,
        };
        self.model.deliveries.given.push(given.clone());
        (number, Arc::new(message), given)
    }

    /// Whether the client takes no packet of this size, as the packet would be with its name.
    fn is_too_large(&self, message: &Message, given: &Given, delivery: Delivery) -> bool {
        let Some(terms) = &self.model.terms else {
            return false;
        };
        let plain = Publish {
            delivery,
            retain: given.retain,
            topic: Some(given.topic.clone()),
            topic_alias: None,
            subscription_identifiers: identifiers(given),
            properties: MessageProperties {
                message_expiry_interval: given.expiry,
                ..MessageProperties::default()
            },
            payload: Bytes::clone(&message.payload),
        };
        encode(&Packet::Publish(plain), terms.version).len() > terms.packet_bytes_max
    }

    fn publish(&mut self, argument: u8, qos: QoS) {
        let (number, message, given) = self.message(argument, qos);
        let qos = qos.min(self.model.options.maximum_qos);
        let any_id = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            _ => delivery(PacketId::MIN, QoS::AtLeastOnce, false),
        };
        let is_too_large = self.is_too_large(&message, &given, any_id);
        let waiting = self.connection.transmit_bytes();
        let identifiers = identifiers(&given);
        let outgoing = outgoing(&message, &given, &identifiers);
        let outcome = self.connection.publish(self.now, outgoing);
        self.seen.note_variant("publish", &outcome);
        self.check_outcome(outcome, is_too_large);
        match outcome {
            PublishOutcome::Sent { packet_id: None } => {
                assert_eq!(qos, QoS::AtMostOnce, "message {number}");
                self.send_due(number, Delivery::AtMostOnce);
            }
            PublishOutcome::Sent {
                packet_id: Some(id),
            } => {
                assert_eq!(self.model.deliveries.queued(), 0, "{number} overtakes");
                let step = Step::Reserved(QoS::AtLeastOnce);
                self.model.deliveries.take(id, step);
                self.send_due(number, delivery(id, QoS::AtLeastOnce, false));
            }
            PublishOutcome::Queued => {
                assert_eq!(qos, QoS::AtLeastOnce, "message {number}");
                self.model.deliveries.queue(number);
            }
            PublishOutcome::DroppedFull => assert!(waiting > 0, "an empty buffer is full"),
            PublishOutcome::Overflow => assert!(self.model.deliveries.queued() > 0),
            PublishOutcome::DroppedTooLarge | PublishOutcome::NotConnected => {}
            PublishOutcome::NoRoom | PublishOutcome::NotReserved => panic!("{outcome:?}"),
        }
    }

    fn check_outcome(&self, outcome: PublishOutcome, is_too_large: bool) {
        let is_connected = self.model.is_connected();
        assert_eq!(outcome == PublishOutcome::NotConnected, !is_connected);
        assert_eq!(
            outcome == PublishOutcome::DroppedTooLarge,
            is_connected && is_too_large
        );
    }

    fn reserve(&mut self, is_qos_1: bool) {
        let (reserved, qos) = match is_qos_1 {
            true => (self.connection.reserve_at_least_once(), QoS::AtLeastOnce),
            false => (self.connection.reserve(), QoS::ExactlyOnce),
        };
        let is_served = qos <= self.model.options.maximum_qos;
        let is_free = self.model.deliveries.free_places() > 0;
        assert_eq!(reserved.is_some(), is_served && is_free, "{reserved:?}");
        if let Some(id) = reserved {
            self.model.deliveries.take(id, Step::Reserved(qos));
        }
    }

    fn publish_reserved(&mut self, id: PacketId, argument: u8) {
        let expected = match self.model.deliveries.step(id) {
            Some(Step::Reserved(qos)) => Some(delivery(id, qos, false)),
            _ => None,
        };
        let (number, message, given) = self.message(argument, QoS::ExactlyOnce);
        let identifiers = identifiers(&given);
        let outgoing = outgoing(&message, &given, &identifiers);
        let outcome = self.connection.publish_reserved(self.now, id, outgoing);
        if outcome == PublishOutcome::DroppedTooLarge {
            assert!(self.model.deliveries.cancel(id), "{id} was not reserved");
        }
        self.take_outcome(outcome, expected, number, &message);
    }

    fn resend(&mut self, id: PacketId, argument: u8) {
        let expected = match self.model.deliveries.step(id) {
            Some(Step::Unsent(qos)) => Some(delivery(id, qos, true)),
            _ => None,
        };
        let (number, message, given) = self.message(argument, QoS::ExactlyOnce);
        let identifiers = identifiers(&given);
        let outgoing = outgoing(&message, &given, &identifiers);
        let has_place = self.model.deliveries.has_place_to_resend();
        let outcome = self.connection.resend(self.now, id, outgoing);
        if let PublishOutcome::Sent { .. } = outcome {
            assert!(has_place, "{id} was resent without a place");
        }
        if outcome == PublishOutcome::DroppedTooLarge {
            let pubrels = self.model.deliveries.forget(id);
            let pubrels = pubrels.unwrap_or_else(|| panic!("{id} was not unsent"));
            self.model.send_pubrels(pubrels, self.now);
        }
        self.take_outcome(outcome, expected, number, &message);
    }

    /// The outcome of a message that has its identifier; `expected` is `None` where it has not.
    fn take_outcome(
        &mut self,
        outcome: PublishOutcome,
        expected: Option<Delivery>,
        number: usize,
        message: &Message,
    ) {
        self.seen.note_variant("delivery", &outcome);
        let Some(given) = self.model.deliveries.given.get(number) else {
            return;
        };
        let is_too_large =
            expected.is_some_and(|delivery| self.is_too_large(message, given, delivery));
        self.check_outcome(outcome, is_too_large);
        match (outcome, expected) {
            (PublishOutcome::Sent { packet_id }, Some(delivery)) => {
                assert_eq!(packet_id, delivery.packet_id());
                self.send_due(number, delivery);
            }
            (PublishOutcome::NoRoom | PublishOutcome::DroppedTooLarge, Some(_))
            | (PublishOutcome::NotReserved, None)
            | (PublishOutcome::NotConnected, _) => {}
            (outcome, expected) => panic!("{outcome:?} for {expected:?}"),
        }
    }

    fn send_due(&mut self, number: usize, delivery: Delivery) {
        self.model.deliveries.send(Due { number, delivery });
    }
}

fn delivery(packet_id: PacketId, qos: QoS, dup: bool) -> Delivery {
    match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { packet_id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup },
    }
}

fn identifiers(given: &Given) -> Vec<SubscriptionIdentifier> {
    let numbers = given.identifiers.iter();
    numbers
        .filter_map(|number| SubscriptionIdentifier::new(*number))
        .collect()
}

fn outgoing<'m>(
    message: &'m Arc<Message>,
    given: &Given,
    subscription_identifiers: &'m [SubscriptionIdentifier],
) -> Outgoing<'m> {
    Outgoing {
        message,
        qos: message.qos,
        retain: given.retain,
        message_expiry_interval: given.expiry,
        subscription_identifiers,
    }
}
