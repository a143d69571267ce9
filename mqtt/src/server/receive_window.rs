//! Receive Maximum of the server: how many publications an MQTT 5 client has on their way (MQTT 5,
//! 3.3.4 and 4.9).
//!
//! A packet identifier counts from its PUBLISH to PUBACK, PUBCOMP or a PUBREC that says no, and
//! once, however often its PUBLISH comes. A PUBCOMP for an identifier of an earlier connection
//! raises the client's quota all the same (4.9), even where the quota was full when its PUBREL was
//! sent; so it raises the bound here. Without that, a client that keeps to the standard could be
//! told that it does not.

use std::collections::HashMap;

use crate::packet::PacketId;

/// A table with more room than this is given back when it is empty, so that a burst does not leave an
/// idle connection with a large one.
const IDLE_CAPACITY_MAX: usize = 16;

/// See the module's documentation. It never holds more than twice Receive Maximum.
#[derive(Debug, Default)]
pub(super) struct ReceiveWindow {
    uses: HashMap<PacketId, Use>,
    /// PUBCOMPs for identifiers that did not count.
    credit: u16,
}

#[derive(Debug, Default)]
struct Use {
    /// PUBLISH packets that were not answered.
    publishes: u32,
    is_unreleased: bool,
}

impl ReceiveWindow {
    /// A PUBLISH came. `false` when it is one too many.
    #[must_use]
    pub(super) fn open(&mut self, packet_id: PacketId, maximum: u16) -> bool {
        let max = usize::from(maximum) + usize::from(self.credit);
        if self.uses.len() >= max && !self.uses.contains_key(&packet_id) {
            return false;
        }
        self.uses.entry(packet_id).or_default().publishes += 1;
        true
    }

    /// The answer to a PUBLISH leaves: PUBREC that says yes, after which PUBREL is to come, or one
    /// after which nothing comes.
    pub(super) fn answer(&mut self, packet_id: PacketId, is_unreleased: bool) {
        if let Some(use_) = self.uses.get_mut(&packet_id) {
            use_.publishes = use_.publishes.saturating_sub(1);
            use_.is_unreleased = is_unreleased;
        }
        self.remove_unused(packet_id);
    }

    /// PUBCOMP leaves.
    pub(super) fn release(&mut self, packet_id: PacketId, maximum: u16) {
        match self.uses.get_mut(&packet_id) {
            Some(use_) => use_.is_unreleased = false,
            None => self.credit = self.credit.saturating_add(1).min(maximum),
        }
        self.remove_unused(packet_id);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove_unused(&mut self, packet_id: PacketId) {
        let found = self.uses.get(&packet_id);
        if found.is_some_and(|found| found.publishes == 0 && !found.is_unreleased) {
            self.uses.remove(&packet_id);
        }
        if self.uses.is_empty() && self.uses.capacity() > IDLE_CAPACITY_MAX {
            self.uses = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    #[test]
    fn an_identifier_counts_once_and_until_its_last_answer() {
        let mut window = ReceiveWindow::default();
        assert!(window.open(id(1), 1));
        assert!(window.open(id(1), 1), "the same again");
        assert!(!window.open(id(2), 1));
        window.answer(id(1), false);
        assert!(!window.open(id(2), 1), "one is not answered");
        window.answer(id(1), true);
        assert!(!window.open(id(2), 1), "not released");
        window.release(id(1), 1);
        assert!(window.open(id(2), 1));
    }

    #[test]
    fn a_release_of_an_earlier_connection_raises_the_bound_but_not_for_ever() {
        let mut window = ReceiveWindow::default();
        for number in 10..20 {
            window.release(id(number), 2);
        }
        let taken = (1..10).filter(|number| window.open(id(*number), 2)).count();
        assert_eq!(taken, 4);
    }
}
