//! Telling damage from what a crash leaves.
//!
//! A crash leaves a commit half written, in any order of its blocks, and nothing behind it: the
//! committer begins a commit when all before it are durable. So damage that has a later commit behind
//! it is no crash, nor is damage before the place up to which sled says that its log was durable.

use std::io;
use std::ops::ControlFlow;

use crate::commit::is_intact;
use crate::database::Purpose;
use crate::ids::CommitNumber;
use crate::raw::{Found, RawLog};

/// Whether something that was durable is damaged, and something can be read behind it.
pub(super) fn is_damaged(log: &RawLog, purpose: Purpose, from: i64) -> io::Result<bool> {
    let (mut evidence, mut found) = (Evidence::default(), false);
    log.walk(from, |place| {
        match place {
            Found::Nothing { lsn } => evidence.nothing_at(lsn),
            // Segments of commits are never freed, those of the metadata are.
            Found::NoSegment { lsn } if purpose == Purpose::Segment => evidence.nothing_at(lsn),
            Found::NoSegment { .. } => {}
            Found::Message { message, .. } => {
                found |= evidence.damage.is_some_and(|lsn| lsn < log.stable_lsn());
                if purpose == Purpose::Segment {
                    message.pieces(|key, _, value| {
                        if let Some(is_last) = is_intact(key, value) {
                            found |= evidence.piece(key.commit, is_last);
                        }
                    });
                }
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
        if self.newest.is_none_or(|(newest, _)| newest <= commit) {
            self.newest = Some((commit, is_last));
        }
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
