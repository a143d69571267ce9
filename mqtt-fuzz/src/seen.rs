//! What an input has reached: packets, errors, reason codes, events. It stands in for the coverage
//! that only an instrumented build can count, so that plain tests, too, keep the inputs that lead
//! to something new.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Everything that was reached, each as a hash of its words.
#[derive(Debug, Default)]
pub struct Seen {
    reached: HashSet<u64>,
    is_ignored: bool,
}

impl Seen {
    /// Takes no notes: libFuzzer has its own way to know.
    pub fn ignored() -> Self {
        Self {
            reached: HashSet::new(),
            is_ignored: true,
        }
    }

    /// Notes something of a kind.
    pub(crate) fn note(&mut self, kind: &str, what: impl Hash) {
        if !self.is_ignored {
            self.reached.insert(hash(kind, what));
        }
    }

    /// Notes how an input ended, in the words of a seed's last line.
    pub(crate) fn note_end(&mut self, words: impl FnOnce() -> String) {
        if !self.is_ignored {
            self.note("end", words());
        }
    }

    /// Whether an input ended in this way.
    pub fn has_note(&self, words: &str) -> bool {
        self.reached.contains(&hash("end", words))
    }

    /// Notes the name of a variant, without what it holds.
    pub(crate) fn note_variant(&mut self, kind: &str, what: &impl Debug) {
        if !self.is_ignored {
            self.note(kind, variant(what));
        }
    }

    /// Adds what another input has reached, and says how much of it was new.
    pub fn merge(&mut self, other: &Self) -> usize {
        let before = self.reached.len();
        self.reached.extend(&other.reached);
        self.reached.len() - before
    }

    /// How many things were reached.
    pub fn count(&self) -> usize {
        self.reached.len()
    }
}

/// The name of a variant, without what it holds.
pub(crate) fn variant(what: &impl Debug) -> String {
    let text = format!("{what:?}");
    let name = text.split([' ', '(', '{']).next();
    name.unwrap_or_default().to_owned()
}

fn hash(kind: &str, what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, what).hash(&mut hasher);
    hasher.finish()
}
