//! The broker's answer to CONNECT, to the connection and to the model.

use mqtt::server::{Accept, DisconnectCause, InflightEntry, InflightState, Reason};
use mqtt::{PacketType, ProtocolVersion, ReasonCode};

use super::client_packets::{has_bit, packet_id, text};
use super::harness::Harness;
use super::model::Phase;
use super::operation::Kind;
use super::terms::keep_alive;

/// Deliveries that an earlier connection has left: more than the window has places.
const LEFT: u16 = 6;
/// A CONNACK with everything that `accept` says is shorter.
const CONNACK_BYTES_MAX: usize = 128;

impl Harness<'_> {
    pub(super) fn accept(&mut self, kind: Kind, argument: u8) {
        let accept = match kind {
            Kind::AcceptLeft => left(argument),
            _ => plain_accept(argument),
        };
        let result = self.connection.accept(self.now, accept.clone());
        let has_method = self
            .model
            .terms
            .as_ref()
            .is_some_and(|terms| terms.has_method);
        let is_awaited = self.model.phase == Phase::AwaitingAccept;
        assert_eq!(result.is_ok(), is_awaited && !has_method, "{result:?}");
        self.seen.note_variant("accept", &result);
        let Some(terms) = self.model.terms.as_mut().filter(|_| result.is_ok()) else {
            return;
        };
        let is_v5 = terms.version == ProtocolVersion::V5;
        if let Some(seconds) = accept.server_keep_alive_seconds.filter(|_| is_v5) {
            terms.keep_alive = keep_alive(seconds);
        }
        let (window, aliases) = (terms.window, terms.alias_maximum);
        let is_small = terms.packet_bytes_max < CONNACK_BYTES_MAX;
        let session_present = accept.session_present && !terms.is_v31;
        self.model
            .deliveries
            .open(window, aliases, &accept.inflight);
        if self.connection.is_closed() {
            assert!(is_small, "CONNACK was not sent");
            let packet = PacketType::Connack;
            let cause = DisconnectCause::Unanswerable { packet };
            self.model.end_because(cause, self.now);
            return self.observe();
        }
        self.model.phase = Phase::Connected;
        self.model.last_life = self.now;
        self.observe();
        let connack = self.model.connack.as_ref();
        let connack = connack.unwrap_or_else(|| panic!("accepted without CONNACK"));
        assert_eq!(connack.reason_code, ReasonCode::Success);
        assert_eq!(connack.session_present, session_present);
        if is_v5 {
            let options = &self.model.options;
            let told = &connack.properties;
            assert_eq!(told.receive_maximum, Some(options.receive_maximum));
            assert_eq!(
                told.topic_alias_maximum.unwrap_or(0),
                options.topic_alias_maximum
            );
            assert_eq!(
                told.maximum_packet_size.map(|max| max.get()),
                Some(options.limits.packet_bytes_max)
            );
            assert_eq!(
                told.server_keep_alive_seconds,
                accept.server_keep_alive_seconds
            );
        }
    }

    pub(super) fn refuse(&mut self, reason: Reason) {
        let code = reason.code;
        let result = self.connection.refuse(reason);
        let is_awaited = self.model.phase == Phase::AwaitingAccept;
        assert_eq!(result.is_ok(), is_awaited, "{result:?}");
        if result.is_ok() {
            let cause = DisconnectCause::Refused(code);
            self.model.end_because(cause, self.now);
        }
    }
}

fn plain_accept(argument: u8) -> Accept {
    let is = |bit| has_bit(argument, bit);
    let mut accept = Accept {
        session_present: is(0),
        server_keep_alive_seconds: is(1).then_some(3),
        assigned_client_identifier: is(2).then(|| text("assigned")),
        session_expiry_interval: is(3).then_some(60),
        response_information: is(5).then(|| text("answers/here")),
        ..Accept::default()
    };
    accept.problem.reason_string = is(4).then(|| text("welcome"));
    accept
}

/// What an earlier connection has left: a state for every two bits.
fn left(mut states: u8) -> Accept {
    let mut inflight = Vec::new();
    for number in 1..=LEFT {
        let state = match states & 3 {
            0 => InflightState::AwaitsPuback,
            1 => InflightState::AwaitsPubrec,
            2 => InflightState::OwesPubrel,
            _ => InflightState::AwaitsPubcomp,
        };
        states = states.rotate_right(2);
        let packet_id = packet_id(number);
        inflight.push(InflightEntry { packet_id, state });
    }
    Accept {
        session_present: true,
        inflight,
        ..Accept::default()
    }
}
