//! The connection as the standard wants it, beside the real one: which events come, what is sent,
//! and how it ends.
//!
//! It is told what the client sent and what the broker did, and compares. It knows nothing of how
//! `mqtt` does it: no buffers, no reading that stops.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use mqtt::codec::{DecodeError, InvalidPacket, Limits, decode};
use mqtt::server::{DisconnectCause, Misbehaviour, Options};
use mqtt::{
    Acknowledgement, Connack, Connect, Disconnect, Packet, PacketId, PacketType,
    ProblemInformation, ProtocolVersion, Publish, ReasonCode,
};

use super::client_packets::encode;
use super::deliveries::{Deliveries, Outcome};
use super::expected::Expected;
use super::inbound::Inbound;
use super::terms::Terms;
use crate::seen::Seen;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    AwaitingConnect,
    AwaitingAccept,
    Connected,
    Ended,
}

/// How the connection must end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ending {
    Cause(DisconnectCause),
    /// One of the deadlines has come.
    Timeout,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) options: Arc<Options>,
    pub(super) start: Instant,
    pub(super) phase: Phase,
    pub(super) terms: Option<Terms>,
    pub(super) ending: Option<Ending>,
    pub(super) was_connected: bool,
    pub(super) ended_at: Option<Instant>,
    pub(super) events: VecDeque<Expected>,
    pub(super) inbound: Inbound,
    pub(super) deliveries: Deliveries,
    /// Answers that must be sent, as bytes.
    answers: VecDeque<BytesMut>,
    pub(super) connack: Option<Connack>,
    pub(super) disconnect: Option<Disconnect>,
    pub(super) last_life: Instant,
    pub(super) suspended_since: Option<Instant>,
}

impl Model {
    pub(super) fn new(options: Arc<Options>, start: Instant) -> Self {
        Self {
            options,
            start,
            phase: Phase::AwaitingConnect,
            terms: None,
            ending: None,
            was_connected: false,
            ended_at: None,
            events: VecDeque::new(),
            inbound: Inbound::default(),
            deliveries: Deliveries::default(),
            answers: VecDeque::new(),
            connack: None,
            disconnect: None,
            last_life: start,
            suspended_since: None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// The version of the client; 5 while none is known.
    pub(super) fn version(&self) -> ProtocolVersion {
        let terms = self.terms.as_ref();
        terms.map_or(ProtocolVersion::V5, |terms| terms.version)
    }

    /// Nothing more comes of the client and the broker.
    pub(super) fn end(&mut self, ending: Ending, now: Instant) {
        if self.phase != Phase::Ended {
            self.ending = Some(ending);
            self.was_connected = self.is_connected();
            self.phase = Phase::Ended;
            self.ended_at = Some(now);
            self.inbound = Inbound::default();
            self.deliveries.close();
        }
    }

    pub(super) fn end_because(&mut self, cause: DisconnectCause, now: Instant) {
        self.end(Ending::Cause(cause), now);
    }

    /// The connection took these bytes. They are whole packets, unless one of them ends it.
    pub(super) fn take(&mut self, taken: &[u8], now: Instant, seen: &mut Seen) {
        let mut src = BytesMut::from(taken);
        while self.phase != Phase::Ended && !src.is_empty() {
            let version = self.terms.as_ref().map(|terms| terms.version);
            if self.terms.as_ref().is_some_and(|terms| terms.is_v31) {
                take_dup_back(&mut src);
            }
            match decode(&mut src, version, &self.options.limits) {
                Ok(None) => panic!("half a packet was taken: {src:02x?}"),
                Ok(Some(packet)) => {
                    seen.note("client", (packet.packet_type(), version));
                    self.last_life = now;
                    if let Err(misbehaviour) = self.take_packet(packet, now) {
                        self.end_because(DisconnectCause::Misbehaved(misbehaviour), now);
                    }
                }
                Err(error) => {
                    let cause = cause_of(error, self.phase);
                    self.end_because(cause, now);
                }
            }
        }
    }

    fn take_packet(&mut self, packet: Packet, now: Instant) -> Result<(), Misbehaviour> {
        match (self.phase, packet) {
            (Phase::AwaitingConnect, Packet::Connect(connect)) => self.take_connect(*connect),
            (Phase::AwaitingConnect | Phase::AwaitingAccept, packet) => {
                panic!("{} was taken before CONNACK", packet.packet_type())
            }
            (_, packet) => self.take_connected(packet, now),
        }
    }

    fn take_connect(&mut self, connect: Connect) -> Result<(), Misbehaviour> {
        self.phase = Phase::AwaitingAccept;
        self.terms = Some(Terms::new(&connect, &self.options));
        let will_qos = connect.will.as_ref().map(|will| will.message.qos);
        let is_nameless = connect.client_id.is_empty();
        match (connect.version, will_qos) {
            (ProtocolVersion::V5, Some(qos)) if qos > self.options.maximum_qos => {
                return Err(Misbehaviour::WillQosNotServed { qos });
            }
            (ProtocolVersion::V311, _)
                if is_nameless && (connect.is_v31 || !connect.clean_start) =>
            {
                return Err(Misbehaviour::ClientIdentifierMissing);
            }
            _ => {}
        }
        self.events.push_back(Expected::Connect(Box::new(connect)));
        Ok(())
    }

    fn take_connected(&mut self, packet: Packet, now: Instant) -> Result<(), Misbehaviour> {
        match packet {
            Packet::Publish(publish) => self.take_publish(publish)?,
            Packet::Puback(ref it) | Packet::Pubrec(ref it) | Packet::Pubcomp(ref it) => {
                let outcome = self.deliveries.acknowledge(&packet)?;
                self.take_acknowledgement(it, outcome, now);
            }
            Packet::Pubrel(it) => {
                let packet_id = it.packet_id;
                if let Some(number) = self.inbound.pubrel(packet_id) {
                    self.events
                        .push_back(Expected::Release { number, packet_id });
                }
            }
            Packet::Subscribe(it) => {
                let filters = it.subscriptions.len();
                let answer = PacketType::Suback;
                let number = self.inbound.request(answer, it.packet_id, filters);
                self.events.push_back(Expected::Subscribe(number, it));
            }
            Packet::Unsubscribe(it) => {
                let answer = PacketType::Unsuback;
                let number = self.inbound.request(answer, it.packet_id, it.filters.len());
                self.events.push_back(Expected::Unsubscribe(number, it));
            }
            Packet::Pingreq => self.answer(Packet::Pingresp, now),
            Packet::Disconnect(disconnect) => {
                let terms = self.terms.as_ref();
                let had_expiry = terms.is_some_and(|terms| terms.session_expiry > 0);
                if disconnect.session_expiry_interval.unwrap_or(0) > 0 && !had_expiry {
                    return Err(Misbehaviour::SessionExpiryRaised);
                }
                self.end_because(DisconnectCause::Client(disconnect), now);
            }
            Packet::Connect(_) => return Err(Misbehaviour::SecondConnect),
            Packet::Auth(_) => return Err(Misbehaviour::AuthUnexpected),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                let packet = packet.packet_type();
                return Err(Misbehaviour::UnexpectedPacket { packet });
            }
        }
        Ok(())
    }

    fn take_publish(&mut self, publish: Publish) -> Result<(), Misbehaviour> {
        let version = self.version();
        let (topic, number) = self.inbound.publish(&publish, version, &self.options)?;
        self.events.push_back(Expected::Publish {
            topic,
            number,
            publish: Box::new(publish),
        });
        Ok(())
    }

    fn take_acknowledgement(&mut self, it: &Acknowledgement, outcome: Outcome, now: Instant) {
        let (packet_id, code) = (it.packet_id, it.reason_code);
        match outcome {
            Outcome::Nothing => {}
            Outcome::Acknowledged => {
                self.events
                    .push_back(Expected::Acknowledged(packet_id, code));
            }
            Outcome::Received => self.events.push_back(Expected::Received(packet_id, code)),
            Outcome::Pubrel(code) => self.pubrel(packet_id, code, now),
        }
    }

    fn pubrel(&mut self, packet_id: PacketId, code: ReasonCode, now: Instant) {
        self.answer(Packet::Pubrel(Acknowledgement::new(packet_id, code)), now);
    }

    /// These PUBRELs leave.
    pub(super) fn send_pubrels(&mut self, packet_ids: Vec<PacketId>, now: Instant) {
        for packet_id in packet_ids {
            self.pubrel(packet_id, ReasonCode::Success, now);
        }
    }

    /// This packet must be sent, without its problem information where the client takes none or has
    /// no room for it; a client that has no room for the packet is disconnected.
    pub(super) fn answer(&mut self, packet: Packet, now: Instant) {
        let Some(terms) = &self.terms else { return };
        let version = terms.version;
        let full = encode(&packet, version);
        let plain = encode(&without_problem(packet.clone()), version);
        let fits = |bytes: &BytesMut| bytes.len() <= terms.packet_bytes_max;
        if fits(&full) && terms.wants_problem_information {
            self.answers.push_back(full);
        } else if fits(&plain) {
            self.answers.push_back(plain);
        } else {
            let packet = packet.packet_type();
            self.end_because(DisconnectCause::Unanswerable { packet }, now);
        }
    }

    /// Checks what the connection put into its buffer. `waiting` bytes were there before.
    pub(super) fn transmitted(
        &mut self,
        bytes: &[u8],
        waiting: usize,
        now: Instant,
        seen: &mut Seen,
    ) {
        let limits = Limits {
            packet_bytes_max: u32::MAX,
            ..Limits::default()
        };
        let version = match (&self.terms, &self.ending) {
            (Some(terms), _) => terms.version,
            // The answer to an unserved CONNECT is in the shape that its sender understands.
            (None, Some(Ending::Cause(DisconnectCause::Invalid(error)))) => {
                let version = error.version;
                version.unwrap_or_else(|| panic!("sent to nobody knows whom: {bytes:02x?}"))
            }
            _ => panic!("sent before CONNECT: {bytes:02x?}"),
        };
        let mut src = BytesMut::from(bytes);
        while !src.is_empty() {
            let start = bytes.len() - src.len();
            let packet = decode(&mut src, Some(version), &limits)
                .unwrap_or_else(|error| panic!("sent what is no packet: {error}: {bytes:02x?}"))
                .unwrap_or_else(|| panic!("sent half a packet: {bytes:02x?}"));
            let end = bytes.len() - src.len();
            self.check_size(&packet, end - start, waiting + start, seen);
            let own = bytes.get(start..end).unwrap_or_default();
            self.check_packet(packet, own, version, now, seen);
        }
    }

    fn check_size(&self, packet: &Packet, bytes: usize, waiting: usize, seen: &mut Seen) {
        let terms = self.terms.as_ref();
        let max = terms.map_or(usize::MAX, |terms| terms.packet_bytes_max);
        let packet_type = packet.packet_type();
        assert!(
            bytes <= max,
            "{packet_type} of {bytes} bytes, the client takes {max}"
        );
        seen.note("room", (packet_type, (max - bytes).min(8)));
        if packet_type == PacketType::Publish {
            let max = self.options.transmit_bytes_max;
            assert!(
                waiting == 0 || waiting + bytes <= max,
                "PUBLISH of {bytes} bytes behind {waiting}, the buffer takes {max}"
            );
        }
    }

    fn check_packet(
        &mut self,
        packet: Packet,
        bytes: &[u8],
        version: ProtocolVersion,
        now: Instant,
        seen: &mut Seen,
    ) {
        let packet_type = packet.packet_type();
        assert!(self.disconnect.is_none(), "{packet_type} after DISCONNECT");
        let is_refused = self.connack.as_ref().map(|it| it.reason_code.is_error());
        match packet {
            Packet::Connack(connack) => {
                assert_eq!(is_refused, None, "a second CONNACK");
                seen.note("connack", (connack.reason_code, version));
                self.connack = Some(*connack);
            }
            other => {
                assert_eq!(is_refused, Some(false), "{packet_type} without a session");
                match other {
                    Packet::Publish(publish) => {
                        seen.note("publish", (publish.delivery.qos(), publish.topic.is_some()));
                        seen.note("alias", publish.topic_alias);
                        self.deliveries.transmitted(&publish, version, now);
                    }
                    Packet::Disconnect(disconnect) => {
                        assert_eq!(version, ProtocolVersion::V5, "DISCONNECT from a server");
                        seen.note("disconnect", disconnect.reason_code);
                        self.disconnect = Some(disconnect);
                    }
                    _ => {
                        let answer = self.answers.pop_front();
                        let answer = answer
                            .unwrap_or_else(|| panic!("nothing was to be sent: {bytes:02x?}"));
                        assert_eq!(bytes, answer, "another {packet_type} was to be sent");
                        seen.note("answer", (packet_type, bytes.get(4), version));
                    }
                }
            }
        }
    }

    /// After each operation: what must be sent was sent.
    pub(super) fn check_sent(&mut self) {
        if self.phase == Phase::Ended {
            self.answers.clear();
        }
        assert!(self.answers.is_empty(), "not sent: {:02x?}", self.answers);
        assert!(!self.deliveries.has_due(), "a message was not sent");
        if let Some(terms) = &self.terms {
            let unanswered = self.deliveries.unanswered();
            let max = terms.receive_maximum;
            assert!(unanswered <= max, "{unanswered} on their way, of {max}");
        }
    }
}

fn without_problem(mut packet: Packet) -> Packet {
    match &mut packet {
        Packet::Puback(it) | Packet::Pubrec(it) | Packet::Pubrel(it) | Packet::Pubcomp(it) => {
            it.problem = ProblemInformation::default();
        }
        Packet::Suback(it) => it.problem = ProblemInformation::default(),
        Packet::Unsuback(it) => it.problem = ProblemInformation::default(),
        _ => {}
    }
    packet
}

/// MQTT 3.1 has DUP where later versions have a reserved bit.
fn take_dup_back(src: &mut BytesMut) {
    if let Some(first) = src.first_mut()
        && matches!(*first >> 4, 6 | 8 | 10)
    {
        *first &= !8;
    }
}

/// A CONNECT of a version that is not served is, behind another one, a second CONNECT.
fn cause_of(error: DecodeError, phase: Phase) -> DisconnectCause {
    let names_a_version = matches!(
        error.rule,
        InvalidPacket::ProtocolName | InvalidPacket::ProtocolVersion { .. }
    );
    match names_a_version && phase != Phase::AwaitingConnect {
        true => DisconnectCause::Misbehaved(Misbehaviour::SecondConnect),
        false => DisconnectCause::Invalid(error),
    }
}
