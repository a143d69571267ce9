//! What a reader wants of the topics: worked out once for each name, and again for those that come.

use super::{TopicNumber, TopicSet};
use crate::store::Shared;

/// Names that are looked at without the store's lock between.
const AT_ONCE: usize = 256;

/// Which topics of the dictionary a reader wants; see [`crate::CommitReader::read_matching`].
///
/// It remembers how far in the dictionary it has looked, so that each name is asked for once. It takes
/// four bytes for each name, some 256 KiB at most, and belongs to one store from opening to closing.
#[derive(Clone, Debug, Default)]
pub struct TopicMatch {
    /// Names that are not wanted, ascending. What is neither here nor looked at is wanted.
    others: Vec<TopicNumber>,
    /// All names below were looked at.
    next: Option<TopicNumber>,
}

impl TopicMatch {
    /// Asks `wants` for the names that came since the last time.
    pub(crate) fn look(&mut self, shared: &Shared, wants: &mut dyn FnMut(&[u8]) -> bool) {
        loop {
            let from = self.next.unwrap_or(TopicNumber(0));
            let (names, next) = {
                let state = shared.state();
                let next = state.topics.next();
                if next == from {
                    return;
                }
                (state.topics.names_from(from, AT_ONCE), next)
            };
            for (number, name) in &names {
                if !wants(name) {
                    self.others.push(*number);
                }
            }
            let last = names.last().filter(|_| names.len() == AT_ONCE);
            self.next = Some(last.map_or(next, |(last, _)| TopicNumber(last.0 + 1)));
        }
    }

    /// Adds what `wants` says to what is wanted: it is asked for each name that was looked at and not
    /// wanted so far.
    pub(crate) fn widen(&mut self, shared: &Shared, wants: &mut dyn FnMut(&[u8]) -> bool) {
        let mut others = Vec::with_capacity(self.others.len());
        for numbers in self.others.chunks(AT_ONCE) {
            let names = shared.state().topics.names_of(numbers);
            // A name that was forgotten is named by no set.
            let unwanted = names.into_iter().filter(|(_, name)| !wants(name));
            others.extend(unwanted.map(|(number, _)| number));
        }
        self.others = others;
    }

    /// For each of the numbers whether it may be wanted.
    pub(crate) fn wanted(&self, topics: &TopicSet) -> Vec<bool> {
        let is = |number| self.others.binary_search(number).is_err();
        topics.numbers.iter().map(is).collect()
    }
}
