//! Deliveries of QoS 1 and 2 that are not over: their packet identifiers, how far each has come,
//! and the window.
//!
//! ```text
//! QoS 1: ReservedQos1, SentQos1 --PUBACK--> over
//! QoS 2: Reserved, SentQos2 --PUBREC--> Received --release--> Granted --in turn--> Released
//!                                                                       --PUBCOMP--> over
//! handed over:    UnsentQos1 --resend--> SentQos1        Unreleased --release--> Released
//!                 UnsentQos2 --resend--> SentQos2
//! ```
//!
//! Invariants: an identifier is in one entry at most; the entries lie in the order in which their
//! PUBLISH packets were sent; an identifier is in `receipts` exactly while its entry is `Received`
//! or `Granted`; with nothing handed over there are no more entries than the window has places.

use std::collections::VecDeque;

use super::Misbehaviour;
use crate::packet::{Delivery, PacketId};

/// A delivery that was not over when its connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InflightEntry {
    /// What the client knows it by.
    pub packet_id: PacketId,
    /// How far it has come.
    pub state: InflightState,
}

/// How far a delivery has come (MQTT 5, 4.3.2 and 4.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InflightState {
    /// QoS 1: the identifier was reserved, or PUBLISH was sent. To be [resent](super::Connection::resend).
    AwaitsPuback,
    /// QoS 2: the identifier was reserved, or PUBLISH was sent. To be
    /// [resent](super::Connection::resend).
    AwaitsPubrec,
    /// QoS 2: PUBREC came. To be [released](super::Connection::release); PUBLISH must not be
    /// resent.
    OwesPubrel,
    /// QoS 2: PUBREL was sent, or was to be sent next. To be
    /// [released](super::Connection::release) again.
    AwaitsPubcomp,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Inflight {
    entries: VecDeque<Entry>,
    /// Entries whose PUBLISH waits to be resent.
    unsent: usize,
    /// PUBRECs whose PUBREL was not sent, in the order in which PUBRELs must leave (MQTT 5, 4.6).
    receipts: VecDeque<PacketId>,
    window: u16,
    next_id: PacketId,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    packet_id: PacketId,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// As `Reserved`.
    ReservedQos1,
    SentQos1,
    /// Handed over; its PUBLISH was not resent.
    UnsentQos1,
    /// The client has not heard of it.
    Reserved,
    SentQos2,
    /// As `UnsentQos1`.
    UnsentQos2,
    /// PUBREC came.
    Received,
    /// PUBREL may be sent when its turn comes.
    Granted,
    /// Handed over; its PUBREL was not resent.
    Unreleased,
    /// PUBREL was sent.
    Released,
}

/// What a PUBREC asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pubrec {
    /// Nothing: it says what is known.
    Known,
    /// The delivery is over.
    Over,
    /// The driver is to be told that the client has it.
    Received,
    /// PUBREL again.
    Released,
    /// There is no delivery with this identifier.
    Unknown,
}

impl Default for Inflight {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            unsent: 0,
            receipts: VecDeque::new(),
            window: 0,
            next_id: PacketId::MIN,
        }
    }
}

impl Inflight {
    /// Opens the window, with what an earlier connection has left. An identifier that comes twice
    /// is taken once. New identifiers follow the newest of these, so that none is used again while
    /// the driver has still to learn that it was acknowledged.
    pub(super) fn open(&mut self, window: u16, entries: &[InflightEntry]) {
        self.window = window;
        for entry in entries {
            let step = match entry.state {
                InflightState::AwaitsPuback => Step::UnsentQos1,
                InflightState::AwaitsPubrec => Step::UnsentQos2,
                InflightState::OwesPubrel => Step::Received,
                InflightState::AwaitsPubcomp => Step::Unreleased,
            };
            if self.position(entry.packet_id).is_none() {
                self.push(entry.packet_id, step);
                self.next_id = entry.packet_id.successor();
            }
        }
    }

    /// No more places. The entries stay, to be taken.
    pub(super) fn close(&mut self) {
        self.window = 0;
    }

    /// All entries, for the next connection.
    pub(super) fn take(&mut self) -> Vec<InflightEntry> {
        self.receipts = VecDeque::new();
        self.unsent = 0;
        let entries = std::mem::take(&mut self.entries).into_iter();
        entries
            .map(|entry| InflightEntry {
                packet_id: entry.packet_id,
                state: entry.step.state(),
            })
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Places for new messages: none while an earlier one waits to be resent.
    pub(super) fn free_places(&self) -> usize {
        match self.unsent {
            0 => usize::from(self.window).saturating_sub(self.entries.len()),
            _ => 0,
        }
    }

    /// Takes a place and an identifier for a message of QoS 1 that is sent now.
    pub(super) fn take_place(&mut self) -> Option<PacketId> {
        self.take_id(Step::SentQos1)
    }

    /// Takes a place and an identifier for a message of QoS 2 that is sent later.
    pub(super) fn reserve(&mut self) -> Option<PacketId> {
        self.take_id(Step::Reserved)
    }

    /// The same for one of QoS 1.
    pub(super) fn reserve_qos1(&mut self) -> Option<PacketId> {
        self.take_id(Step::ReservedQos1)
    }

    pub(super) fn is_reserved(&self, packet_id: PacketId) -> bool {
        self.reserved(packet_id).is_some()
    }

    /// How a reserved message is to be sent; `None` when it is none.
    pub(super) fn reserved(&self, packet_id: PacketId) -> Option<Delivery> {
        let dup = false;
        match self.step(packet_id)? {
            Step::ReservedQos1 => Some(Delivery::AtLeastOnce { packet_id, dup }),
            Step::Reserved => Some(Delivery::ExactlyOnce { packet_id, dup }),
            _ => None,
        }
    }

    /// Gives a reserved identifier back. `false` when it is none.
    pub(super) fn cancel(&mut self, packet_id: PacketId) -> bool {
        let position = self.position(packet_id);
        let reserved = position.filter(|_| self.is_reserved(packet_id));
        reserved.inspect(|index| self.remove(*index)).is_some()
    }

    /// How a handed over message is to be resent; `None` when it is not to be.
    pub(super) fn resend(&self, packet_id: PacketId) -> Option<Delivery> {
        let dup = true;
        match self.step(packet_id)? {
            Step::UnsentQos1 => Some(Delivery::AtLeastOnce { packet_id, dup }),
            Step::UnsentQos2 => Some(Delivery::ExactlyOnce { packet_id, dup }),
            _ => None,
        }
    }

    /// Whether there is a place for one more that is resent.
    pub(super) fn has_place_to_resend(&self) -> bool {
        self.entries.len() - self.unsent < usize::from(self.window)
    }

    /// Notes that the PUBLISH of a reserved or handed over entry was sent.
    pub(super) fn set_sent(&mut self, packet_id: PacketId) {
        let sent = match self.step(packet_id) {
            Some(Step::ReservedQos1 | Step::UnsentQos1) => Step::SentQos1,
            Some(Step::Reserved | Step::UnsentQos2) => Step::SentQos2,
            _ => return,
        };
        self.set(packet_id, sent);
    }

    /// Gives up a handed over message that cannot be resent. `false` when there is none.
    ///
    /// A client that has got it with QoS 2 takes its identifier for known until PUBREL, and would
    /// drop the next message under that identifier. So PUBREL is sent, which any client answers.
    pub(super) fn forget(&mut self, packet_id: PacketId) -> bool {
        match (self.position(packet_id), self.step(packet_id)) {
            (Some(index), Some(Step::UnsentQos1)) => self.remove(index),
            (_, Some(Step::UnsentQos2)) => self.grant_at_once(packet_id),
            _ => return false,
        }
        true
    }

    /// Allows the PUBREL of a message. `false` when its PUBREL is not to be sent, or was already.
    pub(super) fn grant(&mut self, packet_id: PacketId) -> bool {
        match self.step(packet_id) {
            Some(Step::Received) => self.set(packet_id, Step::Granted),
            Some(Step::Unreleased) => self.grant_at_once(packet_id),
            _ => return false,
        }
        true
    }

    /// The next PUBREL to send.
    pub(super) fn pop_granted(&mut self) -> Option<PacketId> {
        let packet_id = *self.receipts.front()?;
        if self.step(packet_id) != Some(Step::Granted) {
            return None;
        }
        self.receipts.pop_front();
        self.set(packet_id, Step::Released);
        Some(packet_id)
    }

    /// Whether a delivery is over with this PUBACK.
    pub(super) fn handle_puback(&mut self, packet_id: PacketId) -> Result<bool, Misbehaviour> {
        let Some(index) = self.known(packet_id) else {
            return Ok(false);
        };
        match self.step(packet_id) {
            Some(Step::SentQos1 | Step::UnsentQos1) => {
                self.remove(index);
                Ok(true)
            }
            _ => Err(Misbehaviour::PubackForQos2 { packet_id }),
        }
    }

    pub(super) fn handle_pubrec(
        &mut self,
        packet_id: PacketId,
        is_error: bool,
    ) -> Result<Pubrec, Misbehaviour> {
        let Some(index) = self.known(packet_id) else {
            return Ok(Pubrec::Unknown);
        };
        match self.step(packet_id) {
            Some(Step::SentQos1 | Step::UnsentQos1) => {
                Err(Misbehaviour::PubrecForQos1 { packet_id })
            }
            Some(Step::SentQos2 | Step::UnsentQos2) if is_error => {
                self.remove(index);
                Ok(Pubrec::Over)
            }
            Some(Step::SentQos2 | Step::UnsentQos2) => {
                self.set(packet_id, Step::Received);
                self.receipts.push_back(packet_id);
                Ok(Pubrec::Received)
            }
            Some(Step::Released | Step::Unreleased) if !is_error => {
                self.set(packet_id, Step::Released);
                Ok(Pubrec::Released)
            }
            // It stands what the first one said.
            _ => Ok(Pubrec::Known),
        }
    }

    /// Whether a delivery is over with this PUBCOMP.
    pub(super) fn handle_pubcomp(&mut self, packet_id: PacketId) -> Result<bool, Misbehaviour> {
        let Some(index) = self.known(packet_id) else {
            return Ok(false);
        };
        match self.step(packet_id) {
            Some(Step::Released | Step::Unreleased) => {
                self.remove(index);
                Ok(true)
            }
            _ => Err(Misbehaviour::PubcompWithoutPubrel { packet_id }),
        }
    }

    /// The next free packet identifier, when there is a place. Then there is one, because the
    /// window has no more places than there are identifiers.
    fn take_id(&mut self, step: Step) -> Option<PacketId> {
        if self.free_places() == 0 {
            return None;
        }
        while self.position(self.next_id).is_some() {
            self.next_id = self.next_id.successor();
        }
        let packet_id = self.next_id;
        self.next_id = packet_id.successor();
        self.push(packet_id, step);
        Some(packet_id)
    }

    /// PUBREL without a PUBREC of this connection: there is no turn to wait for.
    fn grant_at_once(&mut self, packet_id: PacketId) {
        self.set(packet_id, Step::Granted);
        self.receipts.push_front(packet_id);
    }

    /// Clients acknowledge in order, so that the search from the front is short.
    fn position(&self, packet_id: PacketId) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|entry| entry.packet_id == packet_id)
    }

    /// The position of an entry that the client has heard of.
    fn known(&self, packet_id: PacketId) -> Option<usize> {
        self.position(packet_id)
            .filter(|_| !self.is_reserved(packet_id))
    }

    fn step(&self, packet_id: PacketId) -> Option<Step> {
        let entry = self.entries.get(self.position(packet_id)?)?;
        Some(entry.step)
    }

    fn push(&mut self, packet_id: PacketId, step: Step) {
        self.unsent += usize::from(step.is_unsent());
        self.entries.push_back(Entry { packet_id, step });
        if step == Step::Received {
            self.receipts.push_back(packet_id);
        }
    }

    fn set(&mut self, packet_id: PacketId, step: Step) {
        let position = self.position(packet_id);
        if let Some(entry) = position.and_then(|index| self.entries.get_mut(index)) {
            self.unsent -= usize::from(entry.step.is_unsent());
            self.unsent += usize::from(step.is_unsent());
            entry.step = step;
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries.remove(index) {
            self.unsent -= usize::from(entry.step.is_unsent());
        }
    }
}

impl Step {
    const fn is_unsent(self) -> bool {
        matches!(self, Self::UnsentQos1 | Self::UnsentQos2)
    }

    const fn state(self) -> InflightState {
        match self {
            Self::ReservedQos1 | Self::SentQos1 | Self::UnsentQos1 => InflightState::AwaitsPuback,
            Self::Reserved | Self::SentQos2 | Self::UnsentQos2 => InflightState::AwaitsPubrec,
            Self::Received => InflightState::OwesPubrel,
            Self::Granted | Self::Unreleased | Self::Released => InflightState::AwaitsPubcomp,
        }
    }
}
