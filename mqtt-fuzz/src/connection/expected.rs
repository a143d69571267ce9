//! Events that must come, in their order, and how the connection must have ended.

use std::time::{Duration, Instant};

use mqtt::server::{
    DisconnectCause, Event, PublishTicket, ReleaseTicket, SubscribeTicket, UnsubscribeTicket,
};
use mqtt::{
    Connect, Delivery, Message, PacketId, PacketType, ProtocolVersion, Publish, ReasonCode,
    Subscribe, TopicName, Unsubscribe,
};

use super::model::{Ending, Model};
use crate::seen::{Seen, variant};

/// An event that was not taken yet. A number stands for what its ticket will stand for.
#[derive(Debug)]
pub(super) enum Expected {
    Acknowledged(PacketId, ReasonCode),
    Connect(Box<Connect>),
    Publish {
        topic: TopicName,
        number: Option<u64>,
        publish: Box<Publish>,
    },
    Received(PacketId, ReasonCode),
    Release {
        number: u64,
        packet_id: PacketId,
    },
    Subscribe(u64, Subscribe),
    Unsubscribe(u64, Unsubscribe),
}

/// A ticket with the number that the model knows it by.
#[derive(Debug)]
pub(super) enum Ticket {
    Publish(PublishTicket, u64),
    Release(ReleaseTicket, u64),
    Subscribe(SubscribeTicket, u64, usize),
    Unsubscribe(UnsubscribeTicket, u64, usize),
}

impl Model {
    /// Checks an event; `None` for one without a ticket.
    pub(super) fn check_event(&mut self, event: Event, seen: &mut Seen) -> Option<Ticket> {
        seen.note_variant("event", &event);
        match event {
            Event::Expired { messages } => {
                self.deliveries.told_of_expired(messages);
                None
            }
            Event::Disconnected {
                cause,
                publish_will,
            } => {
                assert!(self.events.is_empty(), "left out: {:?}", self.events);
                self.check_end(&cause, publish_will, seen);
                None
            }
            event => {
                let expected = self.events.pop_front();
                let expected = expected.unwrap_or_else(|| panic!("nothing was to come: {event:?}"));
                expected.check(event, seen)
            }
        }
    }

    /// The cause is the right one, the will is published when it must be, and the client was told.
    fn check_end(&self, cause: &DisconnectCause, publish_will: bool, seen: &mut Seen) {
        seen.note("reason", cause.reason_code());
        seen.note_end(|| match cause {
            DisconnectCause::Misbehaved(rule) => format!("ends Misbehaved {}", variant(rule)),
            DisconnectCause::Invalid(error) => format!("ends Invalid {}", variant(&error.rule)),
            other => format!("ends {}", variant(other)),
        });
        match &self.ending {
            Some(Ending::Cause(expected)) => assert_eq!(cause, expected),
            Some(Ending::Timeout) => self.check_timeout(cause),
            None => panic!("it ended without a cause: {cause}"),
        }
        let is_takeback = match cause {
            DisconnectCause::Client(disconnect) => {
                self.version() == ProtocolVersion::V311
                    || disconnect.reason_code == ReasonCode::Success
            }
            _ => false,
        };
        let has_will = self.terms.as_ref().is_some_and(|terms| terms.has_will);
        let expected = self.was_connected && has_will && !is_takeback;
        assert_eq!(publish_will, expected, "the will after: {cause}");
        self.check_farewell(cause);
    }

    /// No deadline comes early.
    fn check_timeout(&self, cause: &DisconnectCause) {
        let keep_alive = self.terms.as_ref().and_then(|terms| terms.keep_alive);
        let (since, timeout) = match cause {
            DisconnectCause::ConnectTimeout => {
                assert!(self.terms.is_none(), "CONNECT came");
                (Some(self.start), Some(self.options.connect_timeout))
            }
            DisconnectCause::KeepAliveTimeout => (Some(self.last_life), keep_alive),
            DisconnectCause::SuspendedTooLong => {
                (self.suspended_since, Some(self.options.suspended_timeout))
            }
            other => panic!("a deadline, and then: {other}"),
        };
        let waited = |since: Instant| -> Option<Duration> { Some(self.ended_at? - since) };
        let waited = since.and_then(waited);
        assert!(
            waited >= timeout && timeout.is_some(),
            "{cause} after {waited:?}"
        );
    }

    /// A client of MQTT 5 is told why, where there is room, and nobody else is told anything.
    fn check_farewell(&self, cause: &DisconnectCause) {
        const DISCONNECT_BYTES: usize = 4;
        const CONNACK_BYTES: usize = 5;
        let Some(terms) = &self.terms else { return };
        let is_silent = matches!(
            cause,
            DisconnectCause::Client(_) | DisconnectCause::EndOfStream
        );
        let is_told = terms.version == ProtocolVersion::V5 && !is_silent;
        if !self.was_connected {
            let code = carried(cause.reason_code(), PacketType::Connack);
            let told = self.connack.as_ref().map(|connack| connack.reason_code);
            assert!(
                told.is_none_or(|told| answers(told, code)),
                "{told:?} for {cause}"
            );
            let must = is_told && terms.packet_bytes_max >= CONNACK_BYTES;
            assert!(told.is_some() || !must, "no CONNACK for {cause}");
            return;
        }
        let told = self
            .disconnect
            .as_ref()
            .map(|disconnect| disconnect.reason_code);
        let code = carried(cause.reason_code(), PacketType::Disconnect);
        if is_told && terms.packet_bytes_max >= DISCONNECT_BYTES {
            assert_eq!(told, Some(code), "DISCONNECT for {cause}");
        } else {
            assert!(!is_silent || told.is_none(), "DISCONNECT for {cause}");
        }
    }
}

impl Expected {
    /// The event that comes is this one.
    fn check(self, event: Event, seen: &mut Seen) -> Option<Ticket> {
        match (self, event) {
            (Self::Connect(sent), Event::Connect(connect)) => {
                assert_eq!(connect, sent);
                None
            }
            (
                Self::Received(sent, code),
                Event::Received {
                    packet_id,
                    reason_code,
                },
            )
            | (
                Self::Acknowledged(sent, code),
                Event::Acknowledged {
                    packet_id,
                    reason_code,
                },
            ) => {
                assert_eq!((packet_id, reason_code), (sent, code));
                seen.note("outcome", code);
                None
            }
            (
                Self::Release {
                    number,
                    packet_id: sent,
                },
                Event::Release { ticket, packet_id },
            ) => {
                assert_eq!(packet_id, sent);
                Some(Ticket::Release(ticket, number))
            }
            (publish @ Self::Publish { .. }, event) => publish.check_publish(event),
            (request, event) => request.check_request(event),
        }
    }

    fn check_publish(self, event: Event) -> Option<Ticket> {
        match (self, event) {
            (
                Self::Publish {
                    topic,
                    number,
                    publish,
                },
                Event::Publish {
                    ticket,
                    packet_id,
                    dup,
                    message,
                },
            ) => {
                assert_eq!((packet_id, dup), id_and_dup(publish.delivery));
                assert_eq!(message, message_of(*publish, topic));
                assert_eq!(ticket.is_some(), number.is_some());
                Some(Ticket::Publish(ticket?, number?))
            }
            (expected, event) => panic!("{event:?} came, {expected:?} was to come"),
        }
    }

    fn check_request(self, event: Event) -> Option<Ticket> {
        match (self, event) {
            (
                Self::Subscribe(number, sent),
                Event::Subscribe {
                    ticket,
                    subscriptions,
                    subscription_identifier,
                    user_properties,
                },
            ) => {
                assert_eq!(subscriptions, sent.subscriptions);
                assert_eq!(subscription_identifier, sent.subscription_identifier);
                assert_eq!(user_properties, sent.user_properties);
                Some(Ticket::Subscribe(ticket, number, subscriptions.len()))
            }
            (
                Self::Unsubscribe(number, sent),
                Event::Unsubscribe {
                    ticket,
                    filters,
                    user_properties,
                },
            ) => {
                assert_eq!(filters, sent.filters);
                assert_eq!(user_properties, sent.user_properties);
                Some(Ticket::Unsubscribe(ticket, number, filters.len()))
            }
            (expected, event) => panic!("{event:?} came, {expected:?} was to come"),
        }
    }
}

/// What is said where the packet does not carry the code.
fn carried(code: ReasonCode, packet: PacketType) -> ReasonCode {
    let is_carried = match packet {
        PacketType::Connack => code.is_error() && code.allowed_in(packet),
        _ => code.allowed_in(packet) && code != ReasonCode::DisconnectWithWillMessage,
    };
    match is_carried {
        true => code,
        false => ReasonCode::UnspecifiedError,
    }
}

/// Whether a CONNACK says this code; versions before 5 have fewer.
fn answers(told: ReasonCode, code: ReasonCode) -> bool {
    use ReasonCode as Code;
    told == code
        || matches!(
            (told, code),
            (Code::ServerUnavailable, Code::ServerBusy) | (Code::NotAuthorized, Code::Banned)
        )
}

fn id_and_dup(delivery: Delivery) -> (Option<PacketId>, bool) {
    match delivery {
        Delivery::AtMostOnce => (None, false),
        Delivery::AtLeastOnce { packet_id, dup } | Delivery::ExactlyOnce { packet_id, dup } => {
            (Some(packet_id), dup)
        }
    }
}

fn message_of(publish: Publish, topic: TopicName) -> Message {
    Message {
        topic,
        payload: publish.payload,
        qos: publish.delivery.qos(),
        retain: publish.retain,
        properties: publish.properties,
    }
}
