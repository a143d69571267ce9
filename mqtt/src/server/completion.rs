//! The driver's answers to PUBLISH, SUBSCRIBE and UNSUBSCRIBE.

use std::time::Instant;

use super::client::Client;
use super::{
    CompleteError, Connection, DisconnectCause, Phase, PublishTicket, Reason, SubscribeTicket,
    UnsubscribeTicket,
};
use crate::packet::{
    Acknowledgement, Packet, PacketType, ProblemInformation, ProtocolVersion, Suback, Unsuback,
};
use crate::reason_code::ReasonCode;

impl Connection {
    /// Says what became of a publication. Its PUBACK leaves when those of all earlier ones have.
    ///
    /// # Errors
    /// The ticket is not open, or this client cannot be told so: an MQTT 3.1.1 client has no
    /// negative PUBACK, there [`suspend`](Self::suspend) is the way. Nothing has happened then.
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
        check_reason_codes(PacketType::Puback, &[reason_code])?;
        if client.version == ProtocolVersion::V311 && reason_code.is_error() {
            return Err(CompleteError::NegativePuback { reason_code });
        }
        if !self.acknowledgements.complete(ticket, reason) {
            return Err(CompleteError::UnknownTicket {
                packet: PacketType::Puback,
            });
        }
        while let Some((packet_id, reason)) = self.acknowledgements.pop_done() {
            let reason_code = reason.code;
            let puback = Acknowledgement {
                packet_id,
                reason_code,
                problem: reason.into(),
            };
            self.answer(client, Packet::Puback(puback));
        }
        self.look_after_timers(now);
        Ok(())
    }

    /// Answers a SUBSCRIBE with a reason code for each of its subscriptions. What a 3.1.1 client
    /// cannot be told goes out as its one failure, 0x80.
    ///
    /// # Errors
    /// The ticket is not open, or the codes do not fit. Nothing has happened then.
    pub fn complete_subscribe(
        &mut self,
        now: Instant,
        ticket: SubscribeTicket,
        reason_codes: Vec<ReasonCode>,
    ) -> Result<(), CompleteError> {
        let Phase::Connected(client) = self.phase else {
            return Ok(());
        };
        check_reason_codes(PacketType::Suback, &reason_codes)?;
        let packet_id = self
            .requests
            .complete_subscribe(ticket, reason_codes.len())?;
        let problem = ProblemInformation::default();
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
