//! The driver's answers to PUBLISH, PUBREL, SUBSCRIBE and UNSUBSCRIBE.

use std::time::Instant;

use super::client::Client;
use super::{
    CompleteError, Connection, DisconnectCause, Event, Misbehaviour, Phase, PublishTicket, Reason,
    ReleaseTicket, SubscribeTicket, UnsubscribeTicket,
};
use crate::packet::{
    Acknowledgement, Packet, PacketId, PacketType, ProblemInformation, ProtocolVersion, Suback,
    Unsuback,
};
use crate::reason_code::ReasonCode;

impl Connection {
    /// Says what became of a publication. Its PUBACK (QoS 1) or PUBREC (QoS 2) leaves when those
    /// of all earlier ones have. A PUBREC that says no ends the use of the packet identifier: no
    /// PUBREL follows, and the next PUBLISH with it is a new message.
    ///
    /// # Errors
    /// The ticket is not open, or this client cannot be told so: MQTT 3.1.1 has no negative PUBACK
    /// and PUBREC, there [`suspend`](Self::suspend) is the way. Nothing has happened then.
    pub fn complete_publish(
        &mut self,
        now: Instant,
        ticket: PublishTicket,
        reason: impl Into<Reason>,
    ) -> Result<(), CompleteError> {
        let Phase::Connected(client) = self.phase else {
            return Ok(());
        };
        let reason = reason.into();
        let reason_code = reason.code;
        // PUBACK and PUBREC carry the same codes.
        let packet = self.acknowledgements.answer_of(ticket);
        let packet = packet.unwrap_or(PacketType::Puback);
        check_reason_codes(packet, &[reason_code])?;
        if client.version == ProtocolVersion::V311 && reason_code.is_error() {
            return Err(CompleteError::Negative {
                packet,
                reason_code,
            });
        }
        if !self.acknowledgements.complete(ticket, reason) {
            return Err(CompleteError::UnknownTicket { packet });
        }
        while let Some((packet, packet_id, reason)) = self.acknowledgements.pop_done() {
            self.acknowledge(client, packet, acknowledgement(packet_id, reason));
        }
        while let Some((ticket, packet_id)) = self.releases.pop_due(&self.acknowledgements) {
            self.events.push_back(Event::Release { ticket, packet_id });
        }
        self.look_after_timers(now);
        Ok(())
    }

    fn acknowledge(&mut self, client: Client, packet: PacketType, answer: Acknowledgement) {
        let is_unreleased = packet == PacketType::Pubrec && !answer.reason_code.is_error();
        if client.version == ProtocolVersion::V5 {
            self.receive_window.answer(answer.packet_id, is_unreleased);
        }
        self.answer(
            client,
            match packet {
                PacketType::Pubrec => Packet::Pubrec(answer),
                _ => Packet::Puback(answer),
            },
        );
    }

    /// Answers a PUBREL, when its release is durable. Its PUBCOMP leaves when those of all earlier
    /// ones have. For an identifier that is not known the code is
    /// [`ReasonCode::PacketIdentifierNotFound`]; a 3.1.1 client is told no code.
    ///
    /// # Errors
    /// The ticket is not open, or PUBCOMP does not carry the code. Nothing has happened then.
    pub fn complete_release(
        &mut self,
        now: Instant,
        ticket: ReleaseTicket,
        reason: impl Into<Reason>,
    ) -> Result<(), CompleteError> {
        let Phase::Connected(client) = self.phase else {
            return Ok(());
        };
        let reason = reason.into();
        let packet = PacketType::Pubcomp;
        check_reason_codes(packet, &[reason.code])?;
        if !self.releases.complete(ticket, reason) {
            return Err(CompleteError::UnknownTicket { packet });
        }
        while let Some((packet_id, reason)) = self.releases.pop_done() {
            if client.version == ProtocolVersion::V5 {
                let maximum = self.options.receive_maximum.get();
                self.receive_window.release(packet_id, maximum);
            }
            let pubcomp = acknowledgement(packet_id, reason);
            self.answer(client, Packet::Pubcomp(pubcomp));
        }
        self.look_after_timers(now);
        Ok(())
    }

    /// Answers a SUBSCRIBE with a reason code for each of its subscriptions. What a 3.1.1 client
    /// cannot be told goes out as its one failure, 0x80; MQTT 3.1 has none, and a client that would
    /// believe itself subscribed is disconnected.
    ///
    /// # Errors
    /// The ticket is not open, or the codes do not fit. Nothing has happened then.
    pub fn complete_subscribe(
        &mut self,
        now: Instant,
        ticket: SubscribeTicket,
        reason_codes: Vec<ReasonCode>,
    ) -> Result<(), CompleteError> {
        let problem = ProblemInformation::default();
        self.complete_subscribe_with(now, ticket, reason_codes, problem)
    }

    /// As [`complete_subscribe`](Self::complete_subscribe), with something to read about it: left
    /// out where the client does not want it or has no room for it, and in MQTT 3.1.1.
    ///
    /// # Errors
    /// The same.
    pub fn complete_subscribe_with(
        &mut self,
        now: Instant,
        ticket: SubscribeTicket,
        reason_codes: Vec<ReasonCode>,
        problem: ProblemInformation,
    ) -> Result<(), CompleteError> {
        let Phase::Connected(client) = self.phase else {
            return Ok(());
        };
        check_reason_codes(PacketType::Suback, &reason_codes)?;
        let packet_id = self
            .requests
            .complete_subscribe(ticket, reason_codes.len())?;
        let refused = reason_codes.iter().find(|code| code.is_error());
        if let Some(&reason_code) = refused.filter(|_| client.is_v31) {
            let misbehaviour = Misbehaviour::SubscriptionRefused { reason_code };
            self.close(DisconnectCause::Misbehaved(misbehaviour));
            return Ok(());
        }
        self.answer(
            client,
            Packet::Suback(Suback {
                packet_id,
                reason_codes,
                problem,
            }),
        );
        self.look_after_timers(now);
        Ok(())
    }

    /// Answers an UNSUBSCRIBE with a reason code for each of its filters, which a 3.1.1 client is
    /// not told.
    ///
    /// # Errors
    /// The ticket is not open, or the codes do not fit. Nothing has happened then.
    pub fn complete_unsubscribe(
        &mut self,
        now: Instant,
        ticket: UnsubscribeTicket,
        reason_codes: Vec<ReasonCode>,
    ) -> Result<(), CompleteError> {
        let Phase::Connected(client) = self.phase else {
            return Ok(());
        };
        check_reason_codes(PacketType::Unsuback, &reason_codes)?;
        let packet_id = self
            .requests
            .complete_unsubscribe(ticket, reason_codes.len())?;
        let problem = ProblemInformation::default();
        self.answer(
            client,
            Packet::Unsuback(Unsuback {
                packet_id,
                reason_codes,
                problem,
            }),
        );
        self.look_after_timers(now);
        Ok(())
    }

    /// Sends what the client must get; a client that does not take it is disconnected.
    pub(super) fn answer(&mut self, client: Client, packet: Packet) {
        let packet_type = packet.packet_type();
        if !self.send(client, packet) {
            self.close(DisconnectCause::Unanswerable {
                packet: packet_type,
            });
        }
    }
}

fn acknowledgement(packet_id: PacketId, reason: Reason) -> Acknowledgement {
    Acknowledgement {
        packet_id,
        reason_code: reason.code,
        problem: reason.into(),
    }
}

fn check_reason_codes(
    packet: PacketType,
    reason_codes: &[ReasonCode],
) -> Result<(), CompleteError> {
    match reason_codes
        .iter()
        .find(|reason_code| !reason_code.allowed_in(packet))
    {
        Some(&reason_code) => Err(CompleteError::ReasonCode {
            packet,
            reason_code,
        }),
        None => Ok(()),
    }
}
