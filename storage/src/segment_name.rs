//! What a segment's directory is called, which says what it stands for.
//!
//! ```text
//! 0000000012                  segment 12, as it was written
//! 0000000005-0000000009.1     what was live of segments 5 to 9, copied for the first time
//! *.new                       such a copy that is not complete
//! ```
//!
//! Invariant: the ranges of two directories lie one inside the other, or apart; of two that overlap
//! the one of the higher generation was made of the other.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ids::SegmentId;

/// Ending of a directory that is being filled.
const UNFINISHED: &str = ".new";

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// The first segment that it stands for; the index has it under this id.
    pub(crate) first: SegmentId,
    /// The last one.
    pub(crate) last: SegmentId,
    /// How often its oldest content was copied; 0: a segment as it was written.
    pub(crate) generation: u32,
}

impl SegmentName {
    /// A segment as it is written.
    pub(crate) fn written(id: SegmentId) -> Self {
        Self {
            first: id,
            last: id,
            generation: 0,
        }
    }

    /// Of a directory; `None` for every other name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let Some((ids, generation)) = name.split_once('.') else {
            return id(name).map(Self::written);
        };
        let (first, last) = ids.split_once('-')?;
        let found = Self {
            first: id(first)?,
            last: id(last)?,
            generation: generation.parse().ok()?,
        };
        // Only what we would write ourselves: two spellings must not be one segment.
        (found.generation > 0 && found.first <= found.last && found.to_string() == name)
            .then_some(found)
    }

    /// Of the directory of a copy that was not completed.
    pub(crate) fn parse_unfinished(name: &str) -> Option<Self> {
        Self::parse(name.strip_suffix(UNFINISHED)?).filter(|name| name.is_evacuated())
    }

    /// Whether it is a copy of what was live.
    pub(crate) fn is_evacuated(self) -> bool {
        self.generation > 0
    }

    /// Whether it stands for `id`.
    pub(crate) fn covers(self, id: SegmentId) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// Whether it was made of `other`, among others.
    pub(crate) fn supersedes(self, other: Self) -> bool {
        self.generation > other.generation && self.covers(other.first) && self.covers(other.last)
    }

    /// Its directory below `folder`.
    pub(crate) fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.to_string())
    }

    /// The directory in which it is made.
    pub(crate) fn path_unfinished(self, folder: &Path) -> PathBuf {
        folder.join(format!("{self}{UNFINISHED}"))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.first.0)?;
        if self.is_evacuated() {
            write!(f, "-{:010}.{}", self.last.0, self.generation)?;
        }
        Ok(())
    }
}

fn id(digits: &str) -> Option<SegmentId> {
    let plain = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(SegmentId)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evacuated(first: u64, last: u64, generation: u32) -> SegmentName {
        SegmentName {
            first: SegmentId(first),
            last: SegmentId(last),
            generation,
        }
    }

    #[test]
    fn names_of_directories_are_read_strictly() {
        assert_eq!(
            SegmentName::parse("0000000012"),
            Some(SegmentName::written(SegmentId(12)))
        );
        assert_eq!(
            SegmentName::parse("0000000005-0000000009.1"),
            Some(evacuated(5, 9, 1))
        );
        assert_eq!(
            SegmentName::parse_unfinished("0000000005-0000000009.1.new"),
            Some(evacuated(5, 9, 1))
        );
        for name in [
            "12",
            "000000001x",
            "",
            "0000000012.old",
            "99999999999999999999999",
            "0000000009-0000000005.1",
            "0000000005-0000000009.0",
            "0000000005-0000000009.01",
            "0000000005-0000000009.1.new",
            "0000000005-0000000009",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
        assert_eq!(SegmentName::parse_unfinished("0000000012.new"), None);
    }

    #[test]
    fn copy_supersedes_what_it_was_made_of() {
        let copy = evacuated(5, 9, 2);
        assert!(copy.supersedes(SegmentName::written(SegmentId(9))));
        assert!(copy.supersedes(evacuated(5, 7, 1)));
        assert!(!copy.supersedes(copy));
        assert!(!copy.supersedes(SegmentName::written(SegmentId(10))));
        assert!(!copy.supersedes(evacuated(9, 12, 1)));
    }
}
