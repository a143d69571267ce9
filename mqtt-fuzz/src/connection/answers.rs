//! The broker's answers to PUBLISH, PUBREL, SUBSCRIBE and UNSUBSCRIBE, to the connection and to the
//! model.

use std::time::Instant;

use mqtt::server::{
    DisconnectCause, Misbehaviour, PublishTicket, Reason, ReleaseTicket, SubscribeTicket,
    UnsubscribeTicket,
};
use mqtt::{
    Acknowledgement, Packet, PacketId, PacketType, ProblemInformation, ProtocolVersion, ReasonCode,
    Suback, Unsuback,
};

use super::client_packets::{has_bit, text};
use super::expected::{Expected, Ticket};
use super::harness::{Harness, reason};
use super::inbound::Answer;
use super::model::Model;
use super::operation::Kind;

impl Harness<'_> {
    /// `false` when the operation is no answer.
    pub(super) fn answer(&mut self, kind: Kind, argument: u8) -> bool {
        match kind {
            Kind::CompletePublish => {
                let string = has_bit(argument, 7).then(|| text("kept, and that is all there is"));
                let code = ReasonCode::Success;
                let ticket = pick(self.publish_tickets(), argument & 0x7f);
                self.complete_publish(ticket, Reason { code, string });
            }
            Kind::FailPublish => {
                let inbound = &mut self.model.inbound;
                let mut tickets = self.tickets.iter().filter_map(publish_ticket);
                let oldest =
                    tickets.find(|(_, number)| inbound.open_publication(*number).is_some());
                self.complete_publish(oldest, reason(argument));
            }
            Kind::Suspend => {
                let ticket = pick(self.publish_tickets(), argument);
                self.suspend(ticket);
            }
            Kind::CompleteRelease => self.complete_release(argument),
            Kind::CompleteSubscribe => self.complete_subscribe(argument),
            Kind::CompleteUnsubscribe => self.complete_unsubscribe(argument),
            _ => return false,
        }
        true
    }

    fn publish_tickets(&self) -> Vec<(PublishTicket, u64)> {
        self.tickets.iter().filter_map(publish_ticket).collect()
    }

    fn complete_publish(&mut self, ticket: Option<(PublishTicket, u64)>, reason: Reason) {
        let Some((ticket, number)) = ticket else {
            return;
        };
        let expected = self.model.complete_publish(number, &reason);
        let result = self.connection.complete_publish(self.now, ticket, reason);
        assert_eq!(result.is_ok(), expected, "{result:?}");
        self.seen.note_variant("complete publish", &result);
        if expected {
            self.model.send_answers(self.now);
        }
    }

    fn suspend(&mut self, ticket: Option<(PublishTicket, u64)>) {
        let Some((ticket, number)) = ticket else {
            return;
        };
        let result = self.connection.suspend(self.now, ticket);
        let expected = match self.model.inbound.open_publication(number) {
            Some(publication) => {
                publication.answer = Answer::Suspended;
                true
            }
            None => !self.model.is_connected(),
        };
        assert_eq!(result.is_ok(), expected, "{result:?}");
        self.seen.note_variant("suspend", &result);
    }

    fn complete_release(&mut self, argument: u8) {
        let tickets = self.tickets.iter().filter_map(release_ticket);
        let Some((ticket, number)) = pick(tickets.collect(), argument & 0x3f) else {
            return;
        };
        let code = match argument >> 6 {
            0 => ReasonCode::Success,
            // Which PUBCOMP does not carry.
            1 => ReasonCode::QuotaExceeded,
            _ => ReasonCode::PacketIdentifierNotFound,
        };
        let expected = self.model.complete_release(number, code);
        let result = self.connection.complete_release(self.now, ticket, code);
        assert_eq!(result.is_ok(), expected, "{result:?}");
        self.seen.note_variant("complete release", &result);
        if expected {
            self.model.send_releases(self.now);
        }
    }

    fn complete_subscribe(&mut self, argument: u8) {
        let tickets = self.tickets.iter().filter_map(subscribe_ticket);
        let Some((ticket, number, filters)) = pick(tickets.collect(), argument & 0xf) else {
            return;
        };
        let codes = reason_codes(filters, argument, ReasonCode::GrantedQos1);
        let string = has_bit(argument, 7).then(|| text("granted, and that is all there is"));
        let problem = ProblemInformation {
            reason_string: string,
            user_properties: Vec::new(),
        };
        let id = self
            .model
            .complete_request(PacketType::Suback, number, &codes);
        let result = self.connection.complete_subscribe_with(
            self.now,
            ticket,
            codes.clone(),
            problem.clone(),
        );
        let expected = id.is_some() || !self.model.is_connected();
        assert_eq!(result.is_ok(), expected, "{result:?}");
        self.seen.note_variant("complete subscribe", &result);
        if let Some(packet_id) = id {
            self.model.suback(packet_id, codes, problem, self.now);
        }
    }

    fn complete_unsubscribe(&mut self, argument: u8) {
        let tickets = self.tickets.iter().filter_map(unsubscribe_ticket);
        let Some((ticket, number, filters)) = pick(tickets.collect(), argument & 0xf) else {
            return;
        };
        let codes = reason_codes(filters, argument, ReasonCode::Success);
        let id = self
            .model
            .complete_request(PacketType::Unsuback, number, &codes);
        let result = self
            .connection
            .complete_unsubscribe(self.now, ticket, codes.clone());
        let expected = id.is_some() || !self.model.is_connected();
        assert_eq!(result.is_ok(), expected, "{result:?}");
        self.seen.note_variant("complete unsubscribe", &result);
        if let Some(packet_id) = id {
            let unsuback = Unsuback {
                packet_id,
                reason_codes: codes,
                problem: ProblemInformation::default(),
            };
            self.model.answer(Packet::Unsuback(unsuback), self.now);
        }
    }
}

impl Model {
    /// Whether the answer can be given: the ticket is open and the client can be told so.
    fn complete_publish(&mut self, number: u64, reason: &Reason) -> bool {
        if !self.is_connected() {
            return true;
        }
        let is_error = reason.code.is_error();
        let is_said = reason.code.allowed_in(PacketType::Puback)
            && (self.version() == ProtocolVersion::V5 || !is_error);
        let publication = self.inbound.open_publication(number);
        match publication.filter(|_| is_said) {
            Some(publication) => {
                publication.answer = Answer::Given(reason.clone());
                true
            }
            None => false,
        }
    }

    fn send_answers(&mut self, now: Instant) {
        let version = self.version();
        while let Some((packet, packet_id, reason)) = self.inbound.pop_answered(version) {
            let answer = acknowledgement(packet_id, reason);
            self.answer(
                match packet {
                    PacketType::Pubrec => Packet::Pubrec(answer),
                    _ => Packet::Puback(answer),
                },
                now,
            );
        }
        while let Some((number, packet_id)) = self.inbound.pop_due() {
            let release = Expected::Release { number, packet_id };
            self.events.push_back(release);
        }
    }

    fn complete_release(&mut self, number: u64, code: ReasonCode) -> bool {
        if !self.is_connected() {
            return true;
        }
        let release = self.inbound.open_release(number);
        match release.filter(|_| code.allowed_in(PacketType::Pubcomp)) {
            Some(release) => {
                release.answer = Answer::Given(code.into());
                true
            }
            None => false,
        }
    }

    fn send_releases(&mut self, now: Instant) {
        let version = self.version();
        let maximum = self.options.receive_maximum.get();
        while let Some((packet_id, reason)) = self.inbound.pop_released(version, maximum) {
            self.answer(Packet::Pubcomp(acknowledgement(packet_id, reason)), now);
        }
    }

    /// The identifier of an open request which these codes answer.
    fn complete_request(
        &mut self,
        packet: PacketType,
        number: u64,
        codes: &[ReasonCode],
    ) -> Option<PacketId> {
        let are_carried = codes.iter().all(|code| code.allowed_in(packet));
        if !are_carried || !self.is_connected() {
            return None;
        }
        self.inbound.complete_request(packet, number, codes.len())
    }

    /// MQTT 3.1 has no failure in its SUBACK.
    fn suback(
        &mut self,
        packet_id: PacketId,
        reason_codes: Vec<ReasonCode>,
        problem: ProblemInformation,
        now: Instant,
    ) {
        let is_v31 = self.terms.as_ref().is_some_and(|terms| terms.is_v31);
        let refused = reason_codes.iter().find(|code| code.is_error());
        if let Some(&reason_code) = refused.filter(|_| is_v31) {
            let misbehaviour = Misbehaviour::SubscriptionRefused { reason_code };
            self.end_because(DisconnectCause::Misbehaved(misbehaviour), now);
            return;
        }
        let suback = Suback {
            packet_id,
            reason_codes,
            problem,
        };
        self.answer(Packet::Suback(suback), now);
    }
}

fn acknowledgement(packet_id: PacketId, reason: Reason) -> Acknowledgement {
    Acknowledgement {
        packet_id,
        reason_code: reason.code,
        problem: reason.into(),
    }
}

/// Bits 4 and 5: all granted, the first one refused, one too few, one that no answer carries.
fn reason_codes(filters: usize, argument: u8, granted: ReasonCode) -> Vec<ReasonCode> {
    let mut codes = vec![granted; filters];
    match (argument >> 4 & 3, codes.first_mut()) {
        (1, Some(first)) => *first = ReasonCode::NotAuthorized,
        (2, Some(_)) => drop(codes.pop()),
        (3, Some(first)) => *first = ReasonCode::KeepAliveTimeout,
        _ => {}
    }
    codes
}

fn publish_ticket(ticket: &Ticket) -> Option<(PublishTicket, u64)> {
    match ticket {
        Ticket::Publish(ticket, number) => Some((*ticket, *number)),
        _ => None,
    }
}

fn release_ticket(ticket: &Ticket) -> Option<(ReleaseTicket, u64)> {
    match ticket {
        Ticket::Release(ticket, number) => Some((*ticket, *number)),
        _ => None,
    }
}

fn subscribe_ticket(ticket: &Ticket) -> Option<(SubscribeTicket, u64, usize)> {
    match ticket {
        Ticket::Subscribe(ticket, number, filters) => Some((*ticket, *number, *filters)),
        _ => None,
    }
}

fn unsubscribe_ticket(ticket: &Ticket) -> Option<(UnsubscribeTicket, u64, usize)> {
    match ticket {
        Ticket::Unsubscribe(ticket, number, filters) => Some((*ticket, *number, *filters)),
        _ => None,
    }
}

fn pick<T: Copy>(tickets: Vec<T>, which: u8) -> Option<T> {
    let index = usize::from(which).checked_rem(tickets.len())?;
    tickets.get(index).copied()
}
