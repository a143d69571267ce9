//! The order of PUBACKs and PUBRECs: they leave as the PUBLISH packets came (MQTT 5, 4.6), in
//! whatever order the driver completes them. QoS 1 and 2 have one order, which is more than the
//! standard asks for.
//!
//! ```text
//!        front                                  back
//! place    n        n+1        n+2        n+3
//!       waiting   done 0x00  suspended  waiting     nothing leaves before n is done
//! ```

use std::collections::VecDeque;

use super::Reason;
use crate::packet::{PacketId, PacketType};

/// Stands for a PUBLISH of QoS 1 or 2 until it is answered with PUBACK or PUBREC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishTicket(u64);

/// Publications that wait for their PUBACK or PUBREC, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements {
    /// The place of the front entry, counted from the first PUBLISH of the connection.
    front: u64,
    entries: VecDeque<Entry>,
    /// Bytes of the messages of all entries.
    bytes: usize,
    suspended: usize,
}

#[derive(Debug)]
struct Entry {
    /// PUBACK or PUBREC.
    answer: PacketType,
    packet_id: PacketId,
    bytes: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    Suspended,
    Done(Reason),
}

impl Acknowledgements {
    /// Takes the next place for a message of this size.
    pub(super) fn open(
        &mut self,
        answer: PacketType,
        packet_id: PacketId,
        bytes: usize,
    ) -> PublishTicket {
        let ticket = PublishTicket(self.front + self.entries.len() as u64);
        self.entries.push_back(Entry {
            answer,
            packet_id,
            bytes,
            state: State::Waiting,
        });
        self.bytes += bytes;
        ticket
    }

    /// What answers an open ticket: PUBACK or PUBREC.
    pub(super) fn answer_of(&self, ticket: PublishTicket) -> Option<PacketType> {
        let entry = self.entries.get(self.index(ticket)?)?;
        (!matches!(entry.state, State::Done(_))).then_some(entry.answer)
    }

    /// The newest publication with this identifier that was not answered.
    pub(super) fn newest(&self, packet_id: PacketId) -> Option<PublishTicket> {
        let mut entries = self.entries.iter();
        let index = entries.rposition(|entry| entry.packet_id == packet_id)?;
        Some(PublishTicket(self.front + index as u64))
    }

    /// Whether the answer has left.
    pub(super) fn is_answered(&self, ticket: PublishTicket) -> bool {
        ticket.0 < self.front
    }

    /// Sets the reason with which the publication is acknowledged when its turn comes. `false`
    /// when the ticket does not wait for that.
    pub(super) fn complete(&mut self, ticket: PublishTicket, reason: Reason) -> bool {
        match self.open_state(ticket) {
            None => false,
            Some(state) => {
                let was_suspended = matches!(state, State::Suspended);
                *state = State::Done(reason);
                self.suspended -= usize::from(was_suspended);
                true
            }
        }
    }

    /// Notes that the publication was refused for now. `false` as in `complete`.
    pub(super) fn suspend(&mut self, ticket: PublishTicket) -> bool {
        match self.open_state(ticket) {
            None => false,
            Some(state) => {
                let was_waiting = matches!(state, State::Waiting);
                *state = State::Suspended;
                self.suspended += usize::from(was_waiting);
                true
            }
        }
    }

    /// The next acknowledgement that may leave.
    pub(super) fn pop_done(&mut self) -> Option<(PacketType, PacketId, Reason)> {
        let entry = self.entries.front_mut()?;
        let State::Done(reason) = &mut entry.state else {
            return None;
        };
        let acknowledgement = (entry.answer, entry.packet_id, std::mem::take(reason));
        self.front += 1;
        self.bytes -= entry.bytes;
        self.entries.pop_front();
        Some(acknowledgement)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended > 0
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn open_state(&mut self, ticket: PublishTicket) -> Option<&mut State> {
        let index = self.index(ticket)?;
        let state = &mut self.entries.get_mut(index)?.state;
        (!matches!(state, State::Done(_))).then_some(state)
    }

    fn index(&self, ticket: PublishTicket) -> Option<usize> {
        usize::try_from(ticket.0.checked_sub(self.front)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason_code::ReasonCode;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn popped(acknowledgements: &mut Acknowledgements) -> Vec<(u16, ReasonCode)> {
        std::iter::from_fn(|| acknowledgements.pop_done())
            .map(|(_, packet_id, reason)| (packet_id.get(), reason.code))
            .collect()
    }

    #[test]
    fn a_completed_ticket_waits_for_those_before_it() {
        let mut acknowledgements = Acknowledgements::default();
        let [first, second, third] = [(id(9), 1), (id(4), 10), (id(7), 100)]
            .map(|(id, bytes)| acknowledgements.open(PacketType::Puback, id, bytes));

        assert!(acknowledgements.complete(third, ReasonCode::Success.into()));
        assert!(acknowledgements.complete(second, ReasonCode::QuotaExceeded.into()));
        assert_eq!(popped(&mut acknowledgements), []);
        assert!(acknowledgements.complete(first, ReasonCode::Success.into()));
        assert_eq!(
            popped(&mut acknowledgements),
            [
                (9, ReasonCode::Success),
                (4, ReasonCode::QuotaExceeded),
                (7, ReasonCode::Success)
            ],
        );
        assert_eq!((acknowledgements.len(), acknowledgements.bytes()), (0, 0));
    }

    #[test]
    fn a_ticket_is_completed_once() {
        let mut acknowledgements = Acknowledgements::default();
        let first = acknowledgements.open(PacketType::Puback, id(1), 0);
        let second = acknowledgements.open(PacketType::Puback, id(2), 0);
        assert!(acknowledgements.complete(second, ReasonCode::Success.into()));
        assert!(
            !acknowledgements.complete(second, ReasonCode::Success.into()),
            "done already"
        );
        assert!(!acknowledgements.suspend(second), "done already");
        assert!(acknowledgements.complete(first, ReasonCode::Success.into()));
        assert_eq!(popped(&mut acknowledgements).len(), 2);
        assert!(
            !acknowledgements.complete(first, ReasonCode::Success.into()),
            "gone"
        );
        assert!(
            !acknowledgements.complete(PublishTicket(2), ReasonCode::Success.into()),
            "not yet"
        );
    }

    #[test]
    fn suspension_ends_with_the_last_suspended_ticket() {
        let mut acknowledgements = Acknowledgements::default();
        let first = acknowledgements.open(PacketType::Puback, id(1), 0);
        let second = acknowledgements.open(PacketType::Puback, id(2), 0);
        assert!(!acknowledgements.is_suspended());
        assert!(acknowledgements.suspend(first));
        assert!(acknowledgements.suspend(first));
        assert!(acknowledgements.suspend(second));
        assert!(acknowledgements.complete(first, ReasonCode::Success.into()));
        assert!(acknowledgements.is_suspended());
        assert!(acknowledgements.complete(second, ReasonCode::Success.into()));
        assert!(!acknowledgements.is_suspended());
    }
}
