//! CONNECT and its answer.

use std::num::NonZeroU32;
use std::time::Instant;

use super::client::{Client, keep_alive_timeout};
use super::timers::Timer;
use super::{Accept, AcceptError, Connection, DisconnectCause, Event, Misbehaviour, Phase, Reason};
use crate::codec::DecodeError;
use crate::packet::{Connack, ConnackProperties, Connect, Packet, PacketType, ProtocolVersion};
use crate::qos::MaximumQos;
use crate::reason_code::ReasonCode;

impl Connection {
    /// Accepts the CONNECT.
    ///
    /// # Errors
    /// No CONNECT awaits an answer, or it wants an enhanced authentication. Nothing has happened
    /// then.
    pub fn accept(&mut self, now: Instant, mut accept: Accept) -> Result<(), AcceptError> {
        let Phase::AwaitingAccept(mut client) = self.phase else {
            return Err(AcceptError::NotAwaited);
        };
        if client.has_authentication_method {
            return Err(AcceptError::EnhancedAuthentication);
        }
        if client.version == ProtocolVersion::V5
            && let Some(seconds) = accept.server_keep_alive_seconds
        {
            client.keep_alive_timeout = keep_alive_timeout(seconds);
        }
        // MQTT 3.1 has no such flag; its clients may take the byte for reserved.
        accept.session_present &= !client.is_v31;
        let window = self.options.inflight_max.get().min(client.receive_maximum);
        self.inflight.open(window, &accept.inflight);
        if !self.send(client, Packet::Connack(Box::new(self.connack(accept)))) {
            let cause = DisconnectCause::Unanswerable {
                packet: PacketType::Connack,
            };
            self.close(cause);
            return Ok(());
        }
        self.phase = Phase::Connected(client);
        self.restart_keep_alive(now);
        self.look_after_timers(now);
        Ok(())
    }

    /// Refuses the CONNECT and ends the connection. The client is told with CONNACK, with
    /// [`ReasonCode::UnspecifiedError`] in the place of a code that CONNACK does not carry; a 3.1.1
    /// client only where 3.1.1 has a return code for it.
    ///
    /// # Errors
    /// No CONNECT awaits an answer. Nothing has happened then.
    pub fn refuse(&mut self, reason: impl Into<Reason>) -> Result<(), AcceptError> {
        if !matches!(self.phase, Phase::AwaitingAccept(_)) {
            return Err(AcceptError::NotAwaited);
        }
        let reason = reason.into();
        let cause = DisconnectCause::Refused(reason.code);
        self.tell(reason);
        self.end(cause);
        Ok(())
    }

    pub(super) fn handle_connect(&mut self, connect: Box<Connect>) {
        self.timers.stop(Timer::Connect);
        self.phase = Phase::AwaitingAccept(Client::new(&connect));
        match self.check_connect(&connect) {
            Ok(()) => self.events.push_back(Event::Connect(connect)),
            Err(misbehaviour) => self.close(DisconnectCause::Misbehaved(misbehaviour)),
        }
    }

    /// The first packet is no CONNECT that is served. The client is told where it can be.
    pub(super) fn handle_invalid_connect(&mut self, error: DecodeError) {
        if let Some(version) = error.version {
            let connack = refusal(error.reason_code().into());
            // In 3.1.1 most of what can be wrong has no return code, and is answered by nothing.
            let _told = Packet::Connack(connack).encode(version, self.transmit.tail());
        }
        self.end(DisconnectCause::Invalid(error));
    }

    pub(super) fn tell_refusal(&mut self, client: Client, reason: Reason) {
        let _told = self.send(client, Packet::Connack(refusal(reason)));
    }

    /// A will above Maximum QoS is refused to MQTT 5 clients only. A 3.1.1 client cannot be told;
    /// and as no subscription is granted more, its will is delivered with no more anyway.
    fn check_connect(&self, connect: &Connect) -> Result<(), Misbehaviour> {
        match connect.version {
            ProtocolVersion::V311 => {
                let may_be_nameless = connect.clean_start && !connect.is_v31;
                if connect.client_id.as_bytes().is_empty() && !may_be_nameless {
                    return Err(Misbehaviour::ClientIdentifierMissing);
                }
            }
            ProtocolVersion::V5 => {
                let qos = connect.will.as_ref().map(|will| will.message.qos);
                if let Some(qos) = qos.filter(|qos| *qos > self.options.maximum_qos) {
                    return Err(Misbehaviour::WillQosNotServed { qos });
                }
            }
        }
        Ok(())
    }

    fn connack(&self, accept: Accept) -> Connack {
        let options = &self.options;
        let unless = |available: bool| (!available).then_some(false);
        Connack {
            session_present: accept.session_present,
            reason_code: ReasonCode::Success,
            properties: ConnackProperties {
                session_expiry_interval: accept.session_expiry_interval,
                receive_maximum: Some(options.receive_maximum),
                maximum_qos: MaximumQos::of(options.maximum_qos),
                maximum_packet_size: NonZeroU32::new(options.limits.packet_bytes_max),
                assigned_client_identifier: accept.assigned_client_identifier,
                topic_alias_maximum: Some(options.topic_alias_maximum).filter(|max| *max > 0),
                wildcard_subscription_available: unless(accept.wildcard_subscription_available),
                shared_subscription_available: unless(accept.shared_subscription_available),
                server_keep_alive_seconds: accept.server_keep_alive_seconds,
                response_information: accept.response_information,
                problem: accept.problem,
                ..ConnackProperties::default()
            },
        }
    }
}

/// A CONNACK that says no.
fn refusal(reason: Reason) -> Box<Connack> {
    let reason_code = match reason.code {
        code if code.is_error() && code.allowed_in(PacketType::Connack) => code,
        _ => ReasonCode::UnspecifiedError,
    };
    let properties = ConnackProperties {
        problem: reason.into(),
        ..ConnackProperties::default()
    };
    Box::new(Connack {
        session_present: false,
        reason_code,
        properties,
    })
}
