//! The newest commits, in memory: whoever keeps up reads from here and costs the flash nothing.
//!
//! Invariants: commits are dense and durable; together they have at most the bytes asked for, but
//! for the newest one, which is always here.

use std::collections::VecDeque;

use crate::commit::Commit;
use crate::ids::CommitNumber;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Ring {
    commits: VecDeque<Commit>,
    bytes: usize,
    bytes_max: usize,
}

impl Ring {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            commits: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Takes the commit after the newest one.
    pub(crate) fn push(&mut self, commit: Commit) {
        self.bytes += commit.size_bytes();
        self.commits.push_back(commit);
        while self.bytes > self.bytes_max && self.commits.len() > 1 {
            self.bytes -= self
                .commits
                .pop_front()
                .map_or(0, |oldest| oldest.size_bytes());
        }
    }

    /// Keeps the newest commit alone.
    pub(crate) fn let_go(&mut self) {
        let newest = self.commits.pop_back();
        self.bytes = newest.as_ref().map_or(0, Commit::size_bytes);
        self.commits = newest.into_iter().collect();
    }

    /// The commits from `from` on, oldest first; `None` if `from` is no longer here.
    pub(crate) fn from(&self, from: CommitNumber) -> Option<impl Iterator<Item = &Commit>> {
        let first = self.commits.front()?.number();
        let skip = usize::try_from(from.0.checked_sub(first.0)?).ok()?;
        Some(self.commits.iter().skip(skip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::BodyBuilder;
    use crate::ids::EraId;

    fn numbers(ring: &Ring, from: u64) -> Option<Vec<u64>> {
        ring.from(CommitNumber(from))
            .map(|commits| commits.map(|c| c.number().0).collect())
    }

    #[test]
    fn oldest_commits_leave_when_it_is_full() {
        let mut ring = Ring::new(10);
        assert_eq!(numbers(&ring, 1), None);
        for number in 5..9 {
            let commit = Commit::parse(CommitNumber(number), BodyBuilder::new(EraId(1)).finish());
            ring.push(commit.unwrap());
        }
        assert_eq!(numbers(&ring, 7), Some(vec![7, 8]));
        assert_eq!(numbers(&ring, 8), Some(vec![8]));
        assert_eq!(numbers(&ring, 9), Some(vec![]));
        assert_eq!(numbers(&ring, 6), None);
        ring.let_go();
        assert_eq!(numbers(&ring, 7), None);
        assert_eq!(numbers(&ring, 8), Some(vec![8]));
        assert_eq!(
            ring.bytes,
            ring.commits.iter().map(Commit::size_bytes).sum()
        );
    }
}
