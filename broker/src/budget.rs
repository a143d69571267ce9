//! A bound on what many take together.
//!
//! Invariant: what has been taken is the sum of all [`Share`]s that there are.

use std::cell::Cell;
use std::rc::Rc;

/// So many bytes for all together.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Rc<Total>);

#[derive(Debug)]
struct Total {
    bytes_max: usize,
    taken: Cell<usize>,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let taken = Cell::new(0);
        Self(Rc::new(Total { bytes_max, taken }))
    }

    /// The share of somebody who has taken nothing yet.
    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.taken.get()
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// What nobody has taken.
    pub(crate) fn free(&self) -> usize {
        self.bytes_max().saturating_sub(self.taken())
    }
}

/// What one has taken; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        let taken = &self.budget.0.taken;
        taken.set(taken.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
impl Clone for Share {
    fn clone(&self) -> Self {
        let mut share = self.budget.share();
        share.set(self.bytes);
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.set(30);
        other.set(50);
        one.set(20);
        assert_eq!((budget.taken(), budget.free()), (70, 30));
        other.set(200);
        assert_eq!(budget.free(), 0);
        drop(other);
        assert_eq!((budget.taken(), one.bytes()), (20, 20));
        drop(one);
        assert_eq!(budget.taken(), 0);
    }
}
