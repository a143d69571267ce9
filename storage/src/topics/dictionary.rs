//! The names of topics and their numbers, while the store is open.
//!
//! Invariants: bounded, whatever is published; numbers ascend and are never given out twice while the
//! store is open; a name that a commit uses is not forgotten before that commit's segment is sealed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ids::CommitNumber;

/// Most names, and bytes of names. With what the maps need that is about 12 MiB on a board that has
/// 512; ten times the topics of a large plant. A name that finds no room has no number: what holds it
/// is read by everybody.
const NAMES_MAX: usize = 65_536;
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Number of a topic; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicNumber(pub(crate) u32);

/// A name with its number.
pub(crate) type Named = (TopicNumber, Arc<[u8]>);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct TopicDictionary {
    numbers: HashMap<Arc<[u8]>, Used>,
    names: BTreeMap<TopicNumber, Arc<[u8]>>,
    /// The number of the next name.
    next: TopicNumber,
    /// All names below are durable.
    stored: TopicNumber,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Used {
    number: TopicNumber,
    /// The newest commit with it, of this process.
    last: CommitNumber,
}

impl Default for TopicDictionary {
    fn default() -> Self {
        Self::of_names(Vec::new(), TopicNumber(1))
    }
}

impl TopicDictionary {
    /// Begins with what was stored. Names for which there is no room are left out.
    pub(crate) fn of_names(names: Vec<(TopicNumber, Vec<u8>)>, next: TopicNumber) -> Self {
        let mut dictionary = Self {
            numbers: HashMap::new(),
            names: BTreeMap::new(),
            next,
            stored: next,
            bytes: 0,
        };
        for (number, name) in names {
            if dictionary.has_room(name.len()) && !dictionary.numbers.contains_key(&*name) {
                dictionary.insert(number, &name, CommitNumber(0));
            }
        }
        dictionary
    }

    /// The number of a topic of `commit`, a new one if it has none; `None` if there is no room.
    pub(crate) fn number_of(&mut self, name: &[u8], commit: CommitNumber) -> Option<TopicNumber> {
        if let Some(used) = self.numbers.get_mut(name) {
            used.last = commit;
            return Some(used.number);
        }
        let number = self.next;
        if !self.has_room(name.len()) || number.0 == u32::MAX {
            return None;
        }
        self.next = TopicNumber(number.0 + 1);
        self.insert(number, name, commit);
        Some(number)
    }

    fn insert(&mut self, number: TopicNumber, name: &[u8], last: CommitNumber) {
        let name: Arc<[u8]> = name.into();
        self.bytes += name.len();
        self.names.insert(number, Arc::clone(&name));
        self.numbers.insert(name, Used { number, last });
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.names.len() < NAMES_MAX && self.bytes + bytes <= BYTES_MAX
    }

    /// The number that the next name gets: all that were given out are below.
    pub(crate) fn next(&self) -> TopicNumber {
        self.next
    }

    /// At most `count` names from the number `from` on, ascending.
    pub(crate) fn names_from(&self, from: TopicNumber, count: usize) -> Vec<Named> {
        let names = self.names.range(from..).take(count);
        names
            .map(|(number, name)| (*number, Arc::clone(name)))
            .collect()
    }

    /// Names that are not known to be durable, and the number that the next name gets.
    pub(crate) fn unstored(&self) -> (Vec<Named>, TopicNumber) {
        (self.names_from(self.stored, usize::MAX), self.next)
    }

    /// All names below `next` are durable.
    pub(crate) fn note_stored(&mut self, next: TopicNumber) {
        self.stored = next;
    }

    /// Names of these numbers, as far as they have one.
    pub(crate) fn names_of(&self, numbers: &[TopicNumber]) -> Vec<Named> {
        let named = |number: &TopicNumber| Some((*number, Arc::clone(self.names.get(number)?)));
        numbers.iter().filter_map(named).collect()
    }

    /// Whether so little room is left that it is worth looking for names that can be forgotten.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.names.len() >= NAMES_MAX / 4 * 3 || self.bytes >= BYTES_MAX / 4 * 3
    }

    /// Forgets the names below `below` that `is_named` by no set, and that no commit behind `sealed`
    /// has used; returns their numbers.
    pub(crate) fn forget(
        &mut self,
        below: TopicNumber,
        sealed: CommitNumber,
        is_named: impl Fn(TopicNumber) -> bool,
    ) -> Vec<TopicNumber> {
        let mut forgotten = Vec::new();
        for (number, name) in self.names.range(..below) {
            let used = self.numbers.get(name);
            if used.is_some_and(|used| used.last <= sealed) && !is_named(*number) {
                forgotten.push(*number);
            }
        }
        for number in &forgotten {
            if let Some(name) = self.names.remove(number) {
                self.bytes -= name.len();
                self.numbers.remove(&name);
            }
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: CommitNumber = CommitNumber(1);

    #[test]
    fn name_keeps_its_number_and_full_dictionary_gives_none() {
        let mut dictionary = TopicDictionary::default();
        assert_eq!(dictionary.number_of(b"a", FIRST), Some(TopicNumber(1)));
        assert_eq!(dictionary.number_of(b"b", FIRST), Some(TopicNumber(2)));
        assert_eq!(dictionary.number_of(b"a", FIRST), Some(TopicNumber(1)));
        for number in 2..NAMES_MAX {
            let name = format!("topic {number}");
            assert!(dictionary.number_of(name.as_bytes(), FIRST).is_some());
        }
        assert_eq!(dictionary.number_of(b"one more", FIRST), None);
        assert_eq!(dictionary.number_of(b"b", FIRST), Some(TopicNumber(2)));
    }

    #[test]
    fn names_are_bounded_by_their_bytes() {
        let mut dictionary = TopicDictionary::default();
        let name = |number: usize| format!("{number:065535}").into_bytes();
        let fit = BYTES_MAX / 65_535;
        for number in 0..fit {
            assert!(dictionary.number_of(&name(number), FIRST).is_some());
        }
        assert_eq!(dictionary.number_of(&name(fit), FIRST), None);
        assert!(dictionary.number_of(b"short", FIRST).is_some());
    }

    #[test]
    fn only_what_no_set_names_and_no_later_commit_uses_is_forgotten() {
        let mut dictionary = TopicDictionary::default();
        for (name, commit) in [(b"a", 1), (b"b", 2), (b"c", 8), (b"d", 3), (b"e", 3)] {
            dictionary.number_of(name, CommitNumber(commit));
        }
        // a is named by a set, c was used behind what is sealed, e is newer than the look at the sets.
        let is_named = |number| number == TopicNumber(1);
        let forgotten = dictionary.forget(TopicNumber(5), CommitNumber(7), is_named);
        assert_eq!(forgotten, [TopicNumber(2), TopicNumber(4)]);
        // It comes back as another one.
        let again = dictionary.number_of(b"b", CommitNumber(9));
        assert_eq!(again, Some(TopicNumber(6)));
        let names = dictionary.names_from(TopicNumber(0), 10);
        let numbers: Vec<_> = names.iter().map(|(number, _)| number.0).collect();
        assert_eq!(numbers, [1, 3, 5, 6]);
    }
}
