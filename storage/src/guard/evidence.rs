//! Telling damage from what a crash leaves.
//!
//! A crash leaves a commit half written, in any order of its blocks, and nothing behind it: the
//! committer begins a commit when all before it are durable. So damage that has a later commit behind
//! it is no crash, nor is damage before the place up to which sled says that its log was durable.
//! Both hold where places are written once, as in a segment of the log until it has thousands of small
//! commits; a copy too many is made if a crash tears the first commit over a freed place, which takes
//! room and does no other harm. Where sled writes places again all the time, as in the metadata, a crash
//! leaves the beginning of the new over the old anywhere.

use std::io;
use std::ops::ControlFlow;

use crate::commit::is_intact;
use crate::ids::CommitNumber;
use crate::raw::{Found, RawLog};

/// Whether something that was durable is damaged, and something can be read behind it.
pub(super) fn is_damaged(log: &RawLog, from: i64) -> io::Result<bool> {
    let (mut evidence, mut found) = (Evidence::default(), false);
    log.walk(from, |place| {
        match place {
            Found::Nothing { lsn } | Found::NoSegment { lsn } => evidence.nothing_at(lsn),
            Found::Message { message, .. } => {
                found |= evidence.damage.is_some_and(|lsn| lsn < log.stable_lsn());
                message.pieces(|key, _, value| {
                    if let Some(is_last) = is_intact(key, value) {
                        found |= evidence.piece(key.commit, is_last);
                    }
                });
            }
        }
        match found {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}

/// What tells damage from what a crash leaves: a commit is begun when all before it are durable.
#[derive(Debug, Default)]
struct Evidence {
    /// The first damaged place.
    damage: Option<i64>,
    /// The newest commit before it, or among what follows, and whether its last piece was there.
    newest: Option<(CommitNumber, bool)>,
    /// The newest one before it.
    before: Option<(CommitNumber, bool)>,
    /// The first one behind it.
    behind: Option<CommitNumber>,
}

impl Evidence {
    fn nothing_at(&mut self, lsn: i64) {
        if self.damage.is_none() {
            (self.damage, self.before) = (Some(lsn), self.newest);
        }
    }

    /// Whether this piece proves that what is damaged was durable.
    fn piece(&mut self, commit: CommitNumber, is_last: bool) -> bool {
        // sled writes pages anew: a piece of a commit may come once more behind the last of it.
        self.newest = match self.newest {
            Some((newest, was_last)) if newest == commit => Some((commit, was_last || is_last)),
            Some((newest, _)) if newest > commit => self.newest,
            _ => Some((commit, is_last)),
        };
        if self.damage.is_none() {
            return false;
        }
        match self.before {
            Some((before, true)) => commit.0 > before.0.saturating_add(1),
            Some((before, false)) => commit > before,
            None => commit > *self.behind.get_or_insert(commit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_is_whole_although_a_page_of_it_was_written_again() {
        let mut evidence = Evidence::default();
        for is_last in [false, true, false] {
            assert!(!evidence.piece(CommitNumber(7), is_last));
        }
        evidence.nothing_at(100);
        // What a crash left of the commit that was being written.
        assert!(!evidence.piece(CommitNumber(8), false));
        assert!(evidence.piece(CommitNumber(9), false));
    }
}
