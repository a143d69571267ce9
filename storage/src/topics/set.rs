//! The topics of some commits.

use super::TopicNumber;

/// See the module's documentation. Collecting leaves repetitions in; [`Self::settled`] takes them out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicSet {
    /// There may be any others, too.
    pub(crate) any: bool,
    pub(crate) numbers: Vec<TopicNumber>,
}

impl TopicSet {
    /// Of what nothing is known.
    pub(crate) fn any() -> Self {
        Self {
            any: true,
            numbers: Vec::new(),
        }
    }

    /// Adds the topic of a record; `None`: it has no number.
    pub(crate) fn add(&mut self, topic: Option<TopicNumber>) {
        match topic {
            None => self.any = true,
            // Whoever publishes much does so to one topic.
            Some(topic) if self.numbers.last() == Some(&topic) => {}
            Some(topic) => self.numbers.push(topic),
        }
    }

    /// Adds those of another one.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.any |= other.any;
        self.numbers.extend(&other.numbers);
    }

    /// The same, ascending and each number once.
    pub(crate) fn settled(mut self) -> Self {
        self.numbers.sort_unstable();
        self.numbers.dedup();
        self.numbers.shrink_to_fit();
        self
    }
}
