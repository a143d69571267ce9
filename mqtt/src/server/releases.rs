//! PUBREL packets that wait for their PUBCOMP, which leaves in the order of the PUBRELs.
//!
//! Invariant: the driver learns of a PUBREL only when every PUBLISH with its packet identifier that
//! came before it was answered. Else a late PUBREC could reach a client that uses the identifier
//! for its next message by then.

use std::collections::VecDeque;

use super::Reason;
use super::acknowledgements::{Acknowledgements, PublishTicket};
use crate::packet::PacketId;

/// Stands for a PUBREL until it is answered with PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseTicket(u64);

/// The unanswered ones, in the order in which they came. The connection stops reading before there
/// are many.
#[derive(Debug, Default)]
pub(super) struct Releases {
    /// The place of the front entry, counted from the first PUBREL of the connection.
    front: u64,
    entries: VecDeque<Entry>,
    /// Entries that the driver does not know of.
    deferred: usize,
}

#[derive(Debug)]
struct Entry {
    packet_id: PacketId,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not before this PUBLISH was answered.
    Deferred(PublishTicket),
    Waiting,
    Done(Reason),
}

impl Releases {
    /// Takes the next place. Gives no ticket while the driver is not to know of it.
    pub(super) fn open(
        &mut self,
        packet_id: PacketId,
        after: Option<PublishTicket>,
    ) -> Option<ReleaseTicket> {
        let ticket = ReleaseTicket(self.front + self.entries.len() as u64);
        let state = after.map_or(State::Waiting, State::Deferred);
        self.entries.push_back(Entry { packet_id, state });
        self.deferred += usize::from(after.is_some());
        after.is_none().then_some(ticket)
    }

    /// One that was deferred and that the driver is to know of now.
    pub(super) fn pop_due(
        &mut self,
        acknowledgements: &Acknowledgements,
    ) -> Option<(ReleaseTicket, PacketId)> {
        if self.deferred == 0 {
            return None;
        }
        let mut entries = (self.front..).zip(&mut self.entries);
        let (place, entry) = entries.find(|(_, entry)| match entry.state {
            State::Deferred(after) => acknowledgements.is_answered(after),
            State::Waiting | State::Done(_) => false,
        })?;
        entry.state = State::Waiting;
        self.deferred -= 1;
        Some((ReleaseTicket(place), entry.packet_id))
    }

    /// Sets the reason of the PUBCOMP. `false` when the ticket does not wait for that.
    pub(super) fn complete(&mut self, ticket: ReleaseTicket, reason: Reason) -> bool {
        let index = ticket.0.checked_sub(self.front).map(usize::try_from);
        let Some(Ok(index)) = index else {
            return false;
        };
        match self.entries.get_mut(index) {
            Some(entry) if matches!(entry.state, State::Waiting) => {
                entry.state = State::Done(reason);
                true
            }
            _ => false,
        }
    }

    /// The next PUBCOMP that may leave.
    pub(super) fn pop_done(&mut self) -> Option<(PacketId, Reason)> {
        let entry = self.entries.front_mut()?;
        let State::Done(reason) = &mut entry.state else {
            return None;
        };
        let release = (entry.packet_id, std::mem::take(reason));
        self.front += 1;
        self.entries.pop_front();
        Some(release)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::PacketType;
    use crate::reason_code::ReasonCode;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    #[test]
    fn a_completed_release_waits_for_those_before_it() {
        let mut releases = Releases::default();
        let [first, second] = [7, 3].map(|number| releases.open(id(number), None).unwrap());
        assert!(releases.complete(second, ReasonCode::Success.into()));
        assert!(!releases.complete(second, ReasonCode::Success.into()));
        assert_eq!(releases.pop_done(), None);
        assert!(releases.complete(first, ReasonCode::PacketIdentifierNotFound.into()));
        let popped = std::iter::from_fn(|| releases.pop_done());
        let popped: Vec<_> = popped.map(|(id, reason)| (id.get(), reason.code)).collect();
        let not_found = ReasonCode::PacketIdentifierNotFound;
        assert_eq!(popped, [(7, not_found), (3, ReasonCode::Success)]);
        assert!(
            !releases.complete(first, ReasonCode::Success.into()),
            "gone"
        );
    }

    #[test]
    fn a_deferred_release_is_due_when_its_publish_was_answered() {
        let mut acknowledgements = Acknowledgements::default();
        let mut releases = Releases::default();
        let publish = acknowledgements.open(PacketType::Pubrec, id(1), 0);
        assert_eq!(releases.open(id(1), Some(publish)), None);
        assert_eq!(releases.pop_due(&acknowledgements), None);
        let unknown = ReleaseTicket(0);
        assert!(!releases.complete(unknown, ReasonCode::Success.into()));

        assert!(acknowledgements.complete(publish, ReasonCode::Success.into()));
        assert_eq!(
            releases.pop_due(&acknowledgements),
            None,
            "not before it left"
        );
        assert!(acknowledgements.pop_done().is_some());
        let (ticket, packet_id) = releases.pop_due(&acknowledgements).unwrap();
        assert_eq!(packet_id, id(1));
        assert_eq!(releases.pop_due(&acknowledgements), None);
        assert!(releases.complete(ticket, ReasonCode::Success.into()));
    }
}
