//! Topic aliases of the server (MQTT 5, 3.3.2.3.4): names that the client was sent with a number, which
//! stands for them from then on.
//!
//! Every topic gets one when it is first sent, and when all are taken that of the topic whose last
//! message is the longest ago. So retained messages, which come once when a client subscribes, do not
//! keep the places for ever from topics that come again and again; and where more topics take turns than
//! there are places, all that is lost is the alias beside each name, three bytes a message.
//!
//! Invariants: no alias above the bound; no name twice; nothing is allocated before the first alias.

use crate::packet::TopicAlias;
use crate::topic::TopicName;

/// A shorter name is no longer than the property that would stand for it.
const NAME_BYTES_MIN: usize = 4;
/// A longer name gets no alias: it is held for as long as the connection, and sixteen of the longest
/// would be a mebibyte for each subscriber.
const NAME_BYTES_MAX: usize = 1_024;

/// The topics of one connection that have an alias; the alias is the place, counted from 1.
#[derive(Debug, Default)]
pub(super) struct SentAliases {
    places: Vec<Place>,
    /// Messages that had an alias.
    uses: u64,
}

#[derive(Debug)]
struct Place {
    topic: TopicName,
    /// Number of the use that was the last one.
    last_use: u64,
}

/// What a topic is sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SentAlias {
    /// The client knows it: the name is left out.
    Known(TopicAlias),
    /// It may be set beside the name, and is then to be [set](SentAliases::set).
    New(TopicAlias),
    /// There is none for this topic.
    None,
}

impl SentAliases {
    /// What a topic is to be sent with; counts as its use. `maximum` is the bound.
    pub(super) fn find(&mut self, topic: &TopicName, maximum: u16) -> SentAlias {
        let bytes = topic.as_bytes().len();
        if maximum == 0 || !(NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&bytes) {
            return SentAlias::None;
        }
        self.uses += 1;
        // There are few, and names that differ mostly differ in length or first bytes.
        let mut places = self.places.iter_mut().zip(1..);
        if let Some((place, number)) = places.find(|(place, _)| place.topic == *topic) {
            place.last_use = self.uses;
            return TopicAlias::new(number).map_or(SentAlias::None, SentAlias::Known);
        }
        TopicAlias::new(self.free(maximum)).map_or(SentAlias::None, SentAlias::New)
    }

    /// The topic was sent with this new alias.
    pub(super) fn set(&mut self, topic: &TopicName, alias: TopicAlias) {
        let place = Place {
            // It outlives the message, so it must not keep the buffer that this came in.
            topic: topic.detach(),
            last_use: self.uses,
        };
        match self.places.get_mut(usize::from(alias.get()) - 1) {
            Some(oldest) => *oldest = place,
            None => self.places.push(place),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next alias that nothing has, else the one that was not used for longest.
    fn free(&self, maximum: u16) -> u16 {
        let taken = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
        if taken < maximum {
            return taken + 1;
        }
        let oldest = self
            .places
            .iter()
            .zip(1..)
            .min_by_key(|(place, _)| place.last_use);
        oldest.map_or(0, |(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::{NAME_BYTES_MAX, SentAlias, SentAliases};
    use crate::packet::TopicAlias;
    use crate::topic::TopicName;

    /// Sends to a topic: its alias, 0 for none, and whether the name was sent.
    fn send(aliases: &mut SentAliases, name: &str, maximum: u16) -> (u16, bool) {
        let topic: TopicName = name.parse().unwrap();
        match aliases.find(&topic, maximum) {
            SentAlias::Known(alias) => (alias.get(), false),
            SentAlias::New(alias) => {
                aliases.set(&topic, alias);
                (alias.get(), true)
            }
            SentAlias::None => (0, true),
        }
    }

    #[test]
    fn alias_stands_for_its_topic_until_it_is_the_one_used_longest_ago() {
        let mut aliases = SentAliases::default();
        let mut send = |name| send(&mut aliases, name, 2);
        assert_eq!(send("one/a"), (1, true));
        assert_eq!(send("two/a"), (2, true));
        assert_eq!(send("one/a"), (1, false));
        assert_eq!(send("three"), (2, true), "in the place of two/a");
        assert_eq!(send("one/a"), (1, false));
        assert_eq!(send("two/a"), (2, true), "in the place of three");
        assert_eq!(send("three"), (1, true), "in the place of one/a");
    }

    #[test]
    fn alias_that_was_not_set_is_offered_again() {
        let mut aliases = SentAliases::default();
        let topic: TopicName = "topic".parse().unwrap();
        for _ in 0..2 {
            let offered = SentAlias::New(TopicAlias::new(1).unwrap());
            assert_eq!(aliases.find(&topic, 1), offered);
        }
    }

    #[test]
    fn names_that_gain_nothing_or_cost_much_have_none() {
        let mut aliases = SentAliases::default();
        assert_eq!(send(&mut aliases, "a/b", 16), (0, true));
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(send(&mut aliases, &long, 16), (0, true));
        assert_eq!(send(&mut aliases, "abcd", 0), (0, true));
        assert_eq!(aliases.places.capacity(), 0, "nothing is allocated");
        assert_eq!(send(&mut aliases, &long[1..], 16), (1, true));
        assert_eq!(send(&mut aliases, "abcd", 16), (2, true));
        aliases.clear();
        assert_eq!(send(&mut aliases, "abcd", 16), (1, true));
    }
}
