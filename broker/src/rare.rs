//! What most sessions have nothing in, most of the time: one word where it is empty. There may be many
//! thousand sessions, and most of them wait for their client.
//!
//! Invariant: what is not there reads as an empty one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A list that may be missing.
pub(crate) trait Emptiable: Default + 'static {
    /// What a missing one reads as.
    const EMPTY: &'static Self;

    fn is_empty_list(&self) -> bool;
}

impl<T: 'static> Emptiable for Vec<T> {
    const EMPTY: &'static Self = &Self::new();

    fn is_empty_list(&self) -> bool {
        self.is_empty()
    }
}

impl<K: 'static, V: 'static> Emptiable for BTreeMap<K, V> {
    const EMPTY: &'static Self = &Self::new();

    fn is_empty_list(&self) -> bool {
        self.is_empty()
    }
}

impl<T: 'static> Emptiable for VecDeque<T> {
    const EMPTY: &'static Self = &Self::new();

    fn is_empty_list(&self) -> bool {
        self.is_empty()
    }
}

/// See the module's documentation.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Rare<T>(Option<Box<T>>);

impl<T: Emptiable> Rare<T> {
    /// Frees its memory, and all that is in it.
    pub(crate) fn free(&mut self) {
        self.0 = None;
    }

    /// Frees memory that it does not need.
    pub(crate) fn trim(&mut self) {
        if self.is_empty_list() {
            self.free();
        }
    }

    /// Takes all out.
    pub(crate) fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |list| *list)
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Emptiable> From<T> for Rare<T> {
    fn from(list: T) -> Self {
        Self((!list.is_empty_list()).then(|| Box::new(list)))
    }
}

impl<T: Emptiable> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }
}

impl<T: Emptiable> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

/// As what it reads as.
impl<T: Emptiable + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_that_is_empty_takes_one_word_and_reads_as_empty() {
        assert_eq!(size_of::<Rare<VecDeque<u8>>>(), size_of::<usize>());
        let mut list = Rare::<VecDeque<u8>>::default();
        assert_eq!(list.front(), None);
        list.push_back(7);
        list.trim();
        assert_eq!(*list, [7]);
        assert_eq!(format!("{list:?}"), "[7]");
        assert_eq!(list.pop_front(), Some(7));
        assert!(list.0.is_some());
        list.trim();
        assert!(list.0.is_none());
        assert_eq!(format!("{list:?}"), "[]");
        let mut list = Rare::from(vec![1, 2]);
        assert_eq!(list.take(), [1, 2]);
        assert!(list.0.is_none());
        assert!(Rare::from(Vec::<u8>::new()).0.is_none());
    }
}
