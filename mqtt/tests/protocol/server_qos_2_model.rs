//! A model of the server's side of QoS 1 and 2, for `server_qos_2_random`.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;

use mqtt::server::{Event, InflightEntry, InflightState, PublishTicket, ReleaseTicket};
use mqtt::{Packet, PacketType, ProtocolVersion, QoS, ReasonCode};
use proptest::sample::Index;

use crate::raw::*;

pub(crate) const RECEIVE_MAXIMUM: NonZeroU16 = NonZeroU16::new(3).unwrap();
pub(crate) const WINDOW: NonZeroU16 = NonZeroU16::new(3).unwrap();
pub(crate) const SUCCESS: ReasonCode = ReasonCode::Success;

fn receive_maximum() -> usize {
    usize::from(RECEIVE_MAXIMUM.get())
}

/// What the client is told: the packet, its identifier and its code; of a PUBLISH whether it says
/// DUP.
pub(crate) type Sent = (PacketType, u16, ReasonCode, bool);

/// What the broker is told: the packet of the client that it is told of.
pub(crate) type Told = (PacketType, u16);

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) answer: PacketType,
    pub(crate) number: u16,
    pub(crate) ticket: Option<PublishTicket>,
    pub(crate) code: Option<ReasonCode>,
}

#[derive(Debug)]
pub(crate) struct Releasing {
    pub(crate) number: u16,
    /// How many PUBLISHes of the connection must be answered before.
    pub(crate) after: usize,
    pub(crate) is_told: bool,
    pub(crate) ticket: Option<ReleaseTicket>,
    pub(crate) is_done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    Qos1,
    UnsentQos1,
    Reserved,
    Qos2,
    UnsentQos2,
    Received,
    Granted,
    Unreleased,
    Released,
}

/// The model, and what it expects of one operation.
pub(crate) struct Model {
    pub(crate) version: ProtocolVersion,
    pub(crate) opens: VecDeque<Open>,
    pub(crate) answered: usize,
    pub(crate) releases: VecDeque<Releasing>,
    pub(crate) unreleased: BTreeSet<u16>,
    pub(crate) credit: usize,
    pub(crate) deliveries: Vec<(u16, State)>,
    pub(crate) pubrecs: VecDeque<u16>,
    pub(crate) next: u16,
    pub(crate) sent: Vec<Sent>,
    pub(crate) told: Vec<Told>,
    pub(crate) is_misbehaviour: bool,
}

impl Model {
    pub(crate) fn new(version: ProtocolVersion, left: &[InflightEntry]) -> Self {
        let deliveries = left.iter().map(|entry| {
            let state = match entry.state {
                InflightState::AwaitsPuback => State::UnsentQos1,
                InflightState::AwaitsPubrec => State::UnsentQos2,
                InflightState::OwesPubrel => State::Received,
                InflightState::AwaitsPubcomp => State::Unreleased,
            };
            (entry.packet_id.get(), state)
        });
        let deliveries: Vec<_> = deliveries.collect();
        let received = deliveries
            .iter()
            .filter(|(_, state)| *state == State::Received);
        Self {
            version,
            opens: VecDeque::new(),
            answered: 0,
            releases: VecDeque::new(),
            unreleased: BTreeSet::new(),
            credit: 0,
            pubrecs: received.map(|(number, _)| *number).collect(),
            next: (1..).nth(deliveries.len()).unwrap(),
            deliveries,
            sent: Vec::new(),
            told: Vec::new(),
            is_misbehaviour: false,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        let max = match self.version {
            V311 => receive_maximum(),
            V5 => 2 * receive_maximum(),
        };
        self.opens.len() >= max || self.releases.len() >= receive_maximum()
    }

    pub(crate) fn free_places(&self) -> usize {
        let unsent = [State::UnsentQos1, State::UnsentQos2];
        match self
            .deliveries
            .iter()
            .any(|(_, state)| unsent.contains(state))
        {
            true => 0,
            false => usize::from(WINDOW.get()).saturating_sub(self.deliveries.len()),
        }
    }

    pub(crate) fn code(&self, code: ReasonCode) -> ReasonCode {
        match self.version {
            V311 => SUCCESS,
            V5 => code,
        }
    }

    /// Whether a PUBLISH with this identifier is one too many.
    pub(crate) fn is_exceeded(&self, number: u16) -> bool {
        let mut used: BTreeSet<_> = self.opens.iter().map(|open| open.number).collect();
        used.extend(&self.unreleased);
        let is_full = used.len() >= receive_maximum() + self.credit;
        self.version == V5 && is_full && !used.contains(&number)
    }

    /// Whether an acknowledgement that is no failure breaks the protocol.
    pub(crate) fn is_wrong(&self, packet: PacketType, number: u16) -> bool {
        let mut deliveries = self.deliveries.iter();
        let found = deliveries.find(|delivery| delivery.0 == number);
        let is_qos_1 = |state| matches!(state, State::Qos1 | State::UnsentQos1);
        found.is_some_and(|(_, state)| match packet {
            _ if *state == State::Reserved => false,
            PacketType::Puback => !is_qos_1(*state),
            PacketType::Pubrec => is_qos_1(*state),
            _ => !matches!(state, State::Unreleased | State::Released),
        })
    }

    pub(crate) fn publish(&mut self, number: u16, qos: QoS) {
        if self.is_exceeded(number) {
            self.is_misbehaviour = true;
            return;
        }
        let answer = match qos {
            QoS::ExactlyOnce => PacketType::Pubrec,
            _ => PacketType::Puback,
        };
        self.opens.push_back(Open {
            answer,
            number,
            ticket: None,
            code: None,
        });
        self.told.push((PacketType::Publish, number));
    }

    pub(crate) fn complete(&mut self, index: usize, code: ReasonCode) {
        self.opens[index].code = Some(code);
        while let Some(code) = self.opens.front().and_then(|open| open.code) {
            let open = self.opens.pop_front().unwrap();
            self.answered += 1;
            self.sent.push((open.answer, open.number, code, false));
            match open.answer == PacketType::Pubrec && code == SUCCESS {
                true => self.unreleased.insert(open.number),
                false => self.unreleased.remove(&open.number),
            };
        }
        self.tell_releases();
    }

    pub(crate) fn pubrel(&mut self, number: u16) {
        let newest = self.opens.iter().rposition(|open| open.number == number);
        self.releases.push_back(Releasing {
            number,
            after: newest.map_or(0, |index| self.answered + index + 1),
            is_told: false,
            ticket: None,
            is_done: false,
        });
        self.tell_releases();
    }

    pub(crate) fn tell_releases(&mut self) {
        for release in &mut self.releases {
            if !release.is_told && self.answered >= release.after {
                release.is_told = true;
                self.told.push((PacketType::Pubrel, release.number));
            }
        }
    }

    pub(crate) fn complete_release(&mut self, index: usize) {
        self.releases[index].is_done = true;
        while self.releases.front().is_some_and(|release| release.is_done) {
            let number = self.releases.pop_front().unwrap().number;
            self.sent
                .push((PacketType::Pubcomp, number, SUCCESS, false));
            let is_open = self.opens.iter().any(|open| open.number == number);
            if !self.unreleased.remove(&number) && !is_open {
                self.credit = receive_maximum().min(self.credit + 1);
            }
        }
    }

    pub(crate) fn set(&mut self, number: u16, state: State) {
        let mut deliveries = self.deliveries.iter_mut();
        deliveries.find(|delivery| delivery.0 == number).unwrap().1 = state;
    }

    pub(crate) fn end(&mut self, number: u16) {
        self.deliveries.retain(|delivery| delivery.0 != number);
    }

    pub(crate) fn take(&mut self, state: State) -> u16 {
        while self
            .deliveries
            .iter()
            .any(|delivery| delivery.0 == self.next)
        {
            self.next += 1;
        }
        self.deliveries.push((self.next, state));
        self.next += 1;
        self.next - 1
    }

    /// PUBACK, PUBREC or PUBCOMP.
    pub(crate) fn say(&mut self, packet: PacketType, number: u16, is_failure: bool) {
        let mut deliveries = self.deliveries.iter();
        let found = deliveries.find(|delivery| delivery.0 == number);
        let state = found
            .map(|found| found.1)
            .filter(|state| *state != State::Reserved);
        let Some(state) = state else {
            if packet == PacketType::Pubrec && !is_failure {
                let code = self.code(ReasonCode::PacketIdentifierNotFound);
                self.sent.push((PacketType::Pubrel, number, code, false));
            }
            return;
        };
        let is_qos_1 = matches!(state, State::Qos1 | State::UnsentQos1);
        let awaits_pubrec = matches!(state, State::Qos2 | State::UnsentQos2);
        let is_released = matches!(state, State::Unreleased | State::Released);
        let is_over = match packet {
            PacketType::Puback => is_qos_1,
            PacketType::Pubrec => awaits_pubrec && is_failure,
            _ => is_released,
        };
        if is_over {
            self.end(number);
            self.told.push((PacketType::Pubcomp, number));
        } else if self.is_wrong(packet, number) {
            self.is_misbehaviour = true;
        } else if awaits_pubrec {
            self.set(number, State::Received);
            self.pubrecs.push_back(number);
            self.told.push((PacketType::Pubrec, number));
        } else if is_released && !is_failure {
            self.set(number, State::Released);
            self.sent.push((PacketType::Pubrel, number, SUCCESS, false));
        }
    }

    pub(crate) fn release(&mut self, number: u16) {
        let state = self
            .deliveries
            .iter()
            .find(|delivery| delivery.0 == number)
            .unwrap()
            .1;
        match state {
            State::Unreleased => {
                self.set(number, State::Released);
                self.sent.push((PacketType::Pubrel, number, SUCCESS, false));
            }
            State::Received => self.set(number, State::Granted),
            _ => {}
        }
        while let Some(&first) = self.pubrecs.front()
            && self.deliveries.contains(&(first, State::Granted))
        {
            self.pubrecs.pop_front();
            self.set(first, State::Released);
            self.sent.push((PacketType::Pubrel, first, SUCCESS, false));
        }
    }

    /// A delivery in this state.
    pub(crate) fn pick(&self, which: Index, states: &[State]) -> Option<u16> {
        let deliveries = self.deliveries.iter();
        let found = deliveries.filter(|(_, state)| states.contains(state));
        let found: Vec<_> = found.map(|(number, _)| *number).collect();
        (!found.is_empty()).then(|| found[which.index(found.len())])
    }
}

impl Model {
    /// Notes the ticket of an event.
    pub(crate) fn tell(&mut self, event: Event) -> Told {
        match event {
            Event::Publish {
                ticket, packet_id, ..
            } => {
                let mut opens = self.opens.iter_mut();
                opens.find(|open| open.ticket.is_none()).unwrap().ticket = ticket;
                (PacketType::Publish, packet_id.unwrap().get())
            }
            Event::Release { ticket, packet_id } => {
                let mut releases = self.releases.iter_mut();
                let release = releases.find(|release| release.is_told && release.ticket.is_none());
                release.unwrap().ticket = Some(ticket);
                (PacketType::Pubrel, packet_id.get())
            }
            Event::Received { packet_id, .. } => (PacketType::Pubrec, packet_id.get()),
            Event::Acknowledged { packet_id, .. } => (PacketType::Pubcomp, packet_id.get()),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn sent_of(packet: &Packet) -> Sent {
    let packet_type = packet.packet_type();
    match packet {
        Packet::Publish(publish) => {
            let dup = match publish.delivery {
                mqtt::Delivery::AtMostOnce => panic!("QoS 0"),
                mqtt::Delivery::AtLeastOnce { dup, .. } => dup,
                mqtt::Delivery::ExactlyOnce { dup, .. } => dup,
            };
            let number = publish.delivery.packet_id().unwrap().get();
            (packet_type, number, SUCCESS, dup)
        }
        Packet::Puback(answer)
        | Packet::Pubrec(answer)
        | Packet::Pubrel(answer)
        | Packet::Pubcomp(answer) => (
            packet_type,
            answer.packet_id.get(),
            answer.reason_code,
            false,
        ),
        other => panic!("{other:?}"),
    }
}
