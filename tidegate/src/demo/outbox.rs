//! What a device has measured and nobody has acknowledged yet: kept in order, handed to each
//! connection from the front, removed by acknowledgements.
//!
//! Not for: sockets, time, QoS 0.
//!
//! Invariants:
//! - Messages leave by acknowledgement only, the oldest first; MQTT acknowledges in order
//!   (MQTT 5 section 4.6, MQTT-4.6.0-2).
//! - At most [`CAPACITY`] messages: a device that is full measures nothing until there is room.

use std::collections::VecDeque;

use super::message::Kind;

/// Most messages that a device keeps.
pub(super) const CAPACITY: usize = 4096;

/// A message that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unacknowledged {
    pub(super) kind: Kind,
    pub(super) number: u64,
    /// Whether an earlier connection got it, so that it may have arrived.
    is_resend: bool,
}

/// An acknowledgement for something else than the oldest message on its way.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("acknowledgement of packet id {found}, expected {}", expected.map_or_else(|| "none".to_owned(), |id| id.to_string()))]
pub(super) struct OutOfOrder {
    pub(super) found: u16,
    pub(super) expected: Option<u16>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: VecDeque<Unacknowledged>,
    /// Messages at the front that the current connection has got.
    handed: usize,
    /// Their packet ids, as far as they are known.
    packet_ids: VecDeque<u16>,
    resends: u64,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= CAPACITY
    }

    /// Messages that were given to a second or later connection, and each time once more.
    pub(super) fn resends(&self) -> u64 {
        self.resends
    }

    pub(super) fn push(&mut self, kind: Kind, number: u64) {
        self.messages.push_back(Unacknowledged {
            kind,
            number,
            is_resend: false,
        });
    }

    /// The next message that the current connection has not got.
    pub(super) fn next(&self) -> Option<Unacknowledged> {
        self.messages.get(self.handed).copied()
    }

    /// The connection has got it.
    pub(super) fn handle_handed(&mut self) {
        if let Some(message) = self.messages.get_mut(self.handed) {
            self.resends += u64::from(message.is_resend);
            message.is_resend = true;
            self.handed += 1;
        }
    }

    /// The connection has given its packet id to the next message.
    pub(super) fn handle_sent(&mut self, packet_id: u16) {
        self.packet_ids.push_back(packet_id);
    }

    /// The message that is acknowledged by this.
    pub(super) fn handle_acknowledged(&mut self, found: u16) -> Result<Unacknowledged, OutOfOrder> {
        let expected = self.packet_ids.front().copied();
        match self.messages.front().copied() {
            Some(message) if expected == Some(found) => {
                self.packet_ids.pop_front();
                self.messages.pop_front();
                self.handed = self.handed.saturating_sub(1);
                Ok(message)
            }
            _ => Err(OutOfOrder { found, expected }),
        }
    }

    /// The connection is gone: everything is to be sent again.
    pub(super) fn handle_lost(&mut self) {
        self.handed = 0;
        self.packet_ids.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{OutOfOrder, Outbox};
    use crate::demo::message::Kind;

    fn hand_all(outbox: &mut Outbox) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(message) = outbox.next() {
            numbers.push(message.number);
            outbox.handle_handed();
        }
        numbers
    }

    #[test]
    fn messages_are_sent_again_in_order_when_the_connection_is_lost() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|number| outbox.push(Kind::Alarm, number));
        assert_eq!(hand_all(&mut outbox), [1, 2, 3]);
        outbox.handle_sent(10);
        outbox.handle_sent(11);
        assert_eq!(outbox.handle_acknowledged(10).unwrap().number, 1);
        assert_eq!(outbox.resends(), 0);

        outbox.handle_lost();
        outbox.push(Kind::Alarm, 4);
        assert_eq!(hand_all(&mut outbox), [2, 3, 4]);
        assert_eq!(outbox.resends(), 2);
        outbox.handle_sent(1);
        assert_eq!(outbox.handle_acknowledged(1).unwrap().number, 2);
        outbox.handle_lost();
        assert_eq!(hand_all(&mut outbox), [3, 4]);
    }

    #[test]
    fn acknowledgement_is_refused_when_it_is_not_the_oldest_message_s() {
        let mut outbox = Outbox::default();
        outbox.push(Kind::State, 1);
        outbox.push(Kind::State, 2);
        hand_all(&mut outbox);
        outbox.handle_sent(1);
        outbox.handle_sent(2);
        let expected = Some(1);
        let refused = outbox.handle_acknowledged(2);
        assert_eq!(refused, Err(OutOfOrder { found: 2, expected }));
        outbox.handle_lost();
        assert_eq!(hand_all(&mut outbox), [1, 2]);
    }
}
