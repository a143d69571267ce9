//! The commits of a segment as they stand in its file, before and behind what is damaged.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::{Found, RawLog};
use crate::commit::{Assembler, Commit, PieceKey, is_intact};
use crate::database::Purpose;
use crate::salvage::Salvaged;

/// All whole pieces of commits in a file.
#[derive(Debug)]
pub(crate) struct RawPieces {
    log: RawLog,
    /// Ascending by key, each key once.
    places: Vec<Place>,
    damaged_places: u64,
    /// Whether something was taken away, which is found here nevertheless.
    has_lost: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    key: PieceKey,
    at: u64,
    bytes: usize,
    /// Whether it is the last one of its commit.
    is_last: bool,
    /// Whether something is damaged before it.
    is_behind: bool,
}

/// Commits that are whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// All.
    pub(crate) commits: u64,
    /// Those of which not every piece stands before the first damage.
    pub(crate) behind: u64,
}

impl RawPieces {
    /// Reads the file of the segment in the directory `path` once.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        Self::read_with(path, |_, _| {})
    }

    /// As [`Self::read`]; what stands under other keys is handed to `other`, in the order in which it
    /// was written.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_with(path: &Path, mut other: impl FnMut(&[u8], &[u8])) -> io::Result<Self> {
        let log = RawLog::open(&path.join("db"), Purpose::Segment.segment_bytes())?;
        let (mut places, mut damaged_places, mut has_lost) = (Vec::new(), 0, false);
        let (mut is_pending, mut is_behind) = (false, false);
        log.walk(0, |found| {
            match found {
                Found::Nothing { .. } | Found::NoSegment { .. } => {
                    (is_pending, is_behind) = (true, true)
                }
                Found::Message { at, message } => {
                    damaged_places += u64::from(std::mem::take(&mut is_pending));
                    has_lost |= message.takes_away();
                    message.values(|key, place, value| {
                        let Some(key) = PieceKey::from_bytes(key) else {
                            other(key, value);
                            return;
                        };
                        if let Some(is_last) = is_intact(key, value) {
                            places.push(Place {
                                key,
                                at: at + place as u64,
                                bytes: value.len(),
                                is_last,
                                is_behind,
                            });
                        }
                    });
                }
            }
            ControlFlow::Continue(())
        })?;
        // What was written later comes later, and is the same.
        places.sort_by_key(|place| place.key);
        places.dedup_by_key(|place| place.key);
        Ok(Self {
            log,
            places,
            damaged_places,
            has_lost,
        })
    }

    /// Whether nothing is damaged before the end of what can be read, and all of it is what sled finds.
    pub(crate) fn is_whole(&self) -> bool {
        self.damaged_places == 0 && !self.has_lost
    }

    /// Which pieces there are.
    pub(crate) fn keys(&self) -> BTreeSet<PieceKey> {
        self.places.iter().map(|place| place.key).collect()
    }

    /// How many commits there are.
    pub(crate) fn count(&self) -> Counted {
        let mut counted = Counted::default();
        let commits = self.places.chunk_by(|a, b| a.key.commit == b.key.commit);
        for pieces in commits {
            let numbers = pieces.iter().map(|piece| piece.key.piece);
            let is_dense = numbers.eq(0..u16::try_from(pieces.len()).unwrap_or(u16::MAX));
            if is_dense && pieces.last().is_some_and(|piece| piece.is_last) {
                counted.commits += 1;
                counted.behind += u64::from(pieces.iter().any(|piece| piece.is_behind));
            }
        }
        counted
    }

    /// Hands every whole commit to `visit`, ascending, until that breaks off.
    ///
    /// # Errors
    /// If the file cannot be read any more.
    pub(crate) fn commits(
        &self,
        mut visit: impl FnMut(&Commit) -> ControlFlow<()>,
    ) -> io::Result<Salvaged> {
        let mut salvaged = Salvaged {
            commits: 0,
            damaged_places: self.damaged_places,
        };
        let (mut assembler, mut value) = (Assembler::default(), Vec::new());
        for place in &self.places {
            self.log.value(place.at, place.bytes, &mut value)?;
            let mut pushed = assembler.push(place.key, &value);
            if pushed.is_err() {
                assembler = Assembler::default();
                if place.key.piece == 0 {
                    // It came behind a commit that is not whole.
                    pushed = assembler.push(place.key, &value);
                }
            }
            // One that is not whole was damaged at a place that is counted, or never finished.
            if let Ok(Some(commit)) = pushed {
                salvaged.commits += 1;
                if visit(&commit).is_break() {
                    break;
                }
            }
        }
        Ok(salvaged)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::commit::BodyBuilder;
    use crate::ids::{CommitNumber, EraId, LogId, LogPartition, PartitionId, SegmentId};
    use crate::segment::SegmentWriter;

    const BLOCK: usize = 4096;

    /// A commit with a journal of `size` bytes that are its own.
    fn commit(number: u64, size: usize) -> Commit {
        let mut body = BodyBuilder::new(EraId(1));
        let journal = LogPartition {
            log: LogId::JOURNAL,
            partition: PartitionId(0),
        };
        let first = number.wrapping_mul(7).to_le_bytes()[0];
        let content = (0..=u8::MAX).map(|at| at.wrapping_mul(31).wrapping_add(first) | 1);
        let content = content.cycle().take(size);
        body.entry(journal, |out| out.extend(content));
        Commit::parse(CommitNumber(number), body.finish()).unwrap()
    }

    fn size(number: u64) -> usize {
        match number % 10 {
            0 => 150_000,
            n => 300 * usize::try_from(n).unwrap(),
        }
    }

    /// A closed segment of several of sled's segments: its directory, and the commits in it.
    fn written(commits: u64) -> (tempfile::TempDir, PathBuf, Vec<Commit>) {
        let folder = tempfile::tempdir().unwrap();
        let commits: Vec<_> = (1..=commits).map(|n| commit(n, size(n))).collect();
        let path = folder.path().join("1");
        let mut writer = SegmentWriter::create_at(&path, SegmentId(1)).unwrap();
        for commit in &commits {
            writer.write(commit).unwrap();
        }
        drop(writer);
        (folder, path, commits)
    }

    fn found(path: &Path) -> (Vec<(CommitNumber, bytes::Bytes)>, Salvaged) {
        let mut found = Vec::new();
        let pieces = RawPieces::read(path).unwrap();
        let salvaged = pieces.commits(|commit| {
            found.push((commit.number(), commit.body().clone()));
            ControlFlow::Continue(())
        });
        (found, salvaged.unwrap())
    }

    #[test]
    fn whole_file_gives_what_was_written() {
        let (_folder, path, commits) = written(150);
        let expected: Vec<_> = commits
            .iter()
            .map(|commit| (commit.number(), commit.body().clone()))
            .collect();
        let (found, salvaged) = found(&path);
        assert!(found == expected);
        assert_eq!((salvaged.commits, salvaged.damaged_places), (150, 0));
        let mut seen = 0;
        let stopped = RawPieces::read(&path).unwrap().commits(|_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert_eq!((stopped.unwrap().commits, seen), (1, 1), "told to stop");
    }

    /// Whatever block is lost, no commit is lost but those of which a piece was in it.
    #[test]
    fn lost_block_costs_only_the_commits_in_it() {
        let (_folder, path, commits) = written(150);
        let whole = fs::read(path.join("db")).unwrap();
        let places = RawPieces::read(&path).unwrap().places;
        let mut cases = 0;
        for block in (0..whole.len() / BLOCK).step_by(29) {
            let mut damaged = whole.clone();
            let range = block * BLOCK..(block + 1) * BLOCK;
            damaged[range.clone()].fill(0);
            fs::write(path.join("db"), &damaged).unwrap();
            let (found, salvaged) = found(&path);
            let lost = commits.len() - found.len();
            // The smallest have 300 bytes and their headers.
            assert!(lost <= BLOCK / 300 + 2, "block {block}: {lost} lost");
            assert!(salvaged.damaged_places <= 1, "block {block}: {salvaged:?}");
            let numbers: BTreeSet<_> = found.iter().map(|(number, _)| *number).collect();
            for place in &places {
                // Before a value stand its key and the headers.
                let at = usize::try_from(place.at).unwrap();
                let is_touched =
                    at.saturating_sub(60) < range.end && range.start < at + place.bytes;
                let number = place.key.commit;
                let is_lost_with_another = number.0.is_multiple_of(10);
                assert!(
                    numbers.contains(&number) || is_touched || is_lost_with_another,
                    "block {block}: {number}"
                );
            }
            cases += usize::from(lost > 0);
        }
        assert!(cases > 5, "{cases} blocks held something");
    }

    /// Small commits make many trees, whose list is written again with each: the worst case.
    #[test]
    fn segments_of_commits_are_never_freed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1");
        let mut writer = SegmentWriter::create_at(&path, SegmentId(1)).unwrap();
        for number in 1..=12_000 {
            writer.write_unflushed(&commit(number, 300)).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        let log = RawLog::open(&path.join("db"), Purpose::Segment.segment_bytes()).unwrap();
        let places = log.segments.iter().map(|segment| (segment.lsn, segment.at));
        let places: Vec<_> = places.collect();
        let size = Purpose::Segment.segment_bytes() as u64;
        let expected: Vec<_> = (0..places.len() as u64)
            .map(|n| (i64::try_from(n * size).unwrap(), n * size))
            .collect();
        assert!(places.len() > 4, "{} segments", places.len());
        assert_eq!(places, expected);
    }

    #[test]
    fn headers_of_all_segments_can_be_missing() {
        let (_folder, path, commits) = written(150);
        let mut damaged = fs::read(path.join("db")).unwrap();
        for at in (0..damaged.len()).step_by(1 << 20) {
            damaged[at..at + 20].fill(0xff);
        }
        fs::write(path.join("db"), &damaged).unwrap();
        assert_eq!(found(&path).0.len(), commits.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Nothing panics, and what is found is what was written.
        #[test]
        fn random_damage_never_makes_something_up(
            places in prop::collection::vec((any::<prop::sample::Index>(), 0..9000_usize, any::<u8>()), 1..40),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let (_folder, path, commits) = written(30);
            let mut bytes = fs::read(path.join("db")).unwrap();
            for (at, count, with) in places {
                let at = at.index(bytes.len());
                let end = (at + count).min(bytes.len());
                for (index, byte) in bytes[at..end].iter_mut().enumerate() {
                    *byte = match with {
                        0..100 => with,
                        _ => byte.wrapping_mul(with).wrapping_add(index.to_le_bytes()[0]),
                    };
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            fs::write(path.join("db"), &bytes).unwrap();
            for (number, body) in found(&path).0 {
                let written = commits.iter().find(|commit| commit.number() == number);
                prop_assert!(written.is_some_and(|commit| *commit.body() == body));
            }
        }

        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..3000),
            number in 0..3_u8,
        ) {
            // Much that looks like headers of messages.
            for at in (0..bytes.len().saturating_sub(8)).step_by(16) {
                (bytes[at + 4], bytes[at + 6]) = (bytes[at + 4] % 12, number);
            }
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("db"), &bytes).unwrap();
            prop_assert_eq!(found(folder.path()).0.len(), 0);
        }
    }
}
