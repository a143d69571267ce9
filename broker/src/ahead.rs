//! What a client's next message must not overtake: retained messages are delivered with their
//! commit, even where others under the same topic name are delivered at once.
//!
//! Invariant: no more topic names are kept than twice as many as have a message on its way, and a
//! few.

use std::collections::HashMap;

use bytes::Bytes;
use storage::{CommitNumber, LogPartition};

/// Topic names that are kept before those are looked for that have arrived.
const TOPICS_MIN: usize = 16;

/// Where the newest message of one client under a topic name waits, if it waits for a commit.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    places: HashMap<Bytes, Place>,
    /// No place is in a later commit.
    newest: CommitNumber,
    /// At so many topic names those that have arrived are forgotten.
    topics_max: usize,
}

/// A commit, and the partition there.
pub(crate) type Place = (CommitNumber, LogPartition);

impl Ahead {
    /// The newest message under this topic name waits there.
    pub(crate) fn set(&mut self, topic: &Bytes, place: Place, worked_off: CommitNumber) {
        if self.places.len() >= self.topics_max {
            self.places.retain(|_, place| place.0 > worked_off);
            self.topics_max = TOPICS_MIN.max(2 * self.places.len());
        }
        self.places.insert(topic.clone(), place);
        self.newest = self.newest.max(place.0);
    }

    /// Where the newest message under this topic name waits; `None` when it has arrived.
    pub(crate) fn place(&mut self, topic: &[u8], worked_off: CommitNumber) -> Option<Place> {
        if self.newest <= worked_off {
            if !self.places.is_empty() {
                self.places = HashMap::new();
            }
            return None;
        }
        let place = self.places.get(topic).copied();
        place.filter(|place| place.0 > worked_off)
    }
}

#[cfg(test)]
mod tests {
    use storage::{LogId, PartitionId};

    use super::*;

    fn place(commit: u64) -> Place {
        let partition = LogPartition {
            log: LogId(1),
            partition: PartitionId(0),
        };
        (CommitNumber(commit), partition)
    }

    #[test]
    fn place_is_known_until_its_commit_is_worked_off() {
        let mut ahead = Ahead::default();
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert_eq!(ahead.place(b"a", CommitNumber(0)), None);
        ahead.set(&a, place(7), CommitNumber(6));
        ahead.set(&b, place(8), CommitNumber(6));
        assert_eq!(ahead.place(b"a", CommitNumber(6)), Some(place(7)));
        assert_eq!(ahead.place(b"a", CommitNumber(7)), None);
        assert_eq!(ahead.place(b"b", CommitNumber(7)), Some(place(8)));
        assert_eq!(ahead.place(b"b", CommitNumber(8)), None);
        assert!(ahead.places.is_empty());
    }

    #[test]
    fn topic_names_that_have_arrived_do_not_pile_up() {
        let mut ahead = Ahead::default();
        for number in 0..10_000_u64 {
            // One hundred are on their way.
            let topic = Bytes::from(number.to_string());
            let worked_off = CommitNumber(number.saturating_sub(100));
            ahead.set(&topic, place(number), worked_off);
            assert!(ahead.places.len() <= 202, "{}", ahead.places.len());
        }
        let worked_off = CommitNumber(9_950);
        assert_eq!(ahead.place(b"9950", worked_off), None);
        assert_eq!(ahead.place(b"9951", worked_off), Some(place(9_951)));
    }
}
