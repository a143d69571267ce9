//! The commits of a segment as they stand in its file, before and behind what is damaged.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::{Found, RawLog};
use crate::commit::{Assembler, Commit, PieceKey, is_intact};
use crate::database::Purpose;
use crate::ids::CommitNumber;
use crate::salvage::Salvaged;

/// All whole pieces of commits in a file.
#[derive(Debug)]
pub(crate) struct RawPieces {
    log: RawLog,
    /// Ascending by key, each key once.
    places: Vec<Place>,
    /// Where in the log the first damage is, or its end.
    damage: Option<i64>,
    damaged_places: u64,
    /// Whether something was taken away, which is found here nevertheless.
    has_lost: bool,
}

/// Where a piece is, in 16 bytes: a large segment of small commits has a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The number of the commit, then in 16 bits that of the piece.
    key: u64,
    /// Where its value begins, in 22 bits how many bytes that has, and the two flags.
    value: u64,
}

/// The piece is the last one of its commit.
const IS_LAST: u64 = 1;
/// Something is damaged before the piece.
const IS_BEHIND: u64 = 2;
const FLAG_BITS: u32 = 2;
/// More than one of sled's segments has.
const LENGTH_BITS: u32 = 22;

impl Place {
    /// `None` for numbers that no file of ours has.
    fn new(key: PieceKey, at: u64, bytes: usize, flags: u64) -> Option<Self> {
        let bytes = u64::try_from(bytes).ok()?;
        let in_bits = |number: u64, bits: u32| (number >> bits == 0).then_some(number);
        let commit = in_bits(key.commit.0, u64::BITS - u16::BITS)?;
        let at = in_bits(at, u64::BITS - LENGTH_BITS - FLAG_BITS)?;
        let bytes = in_bits(bytes, LENGTH_BITS)?;
        Some(Self {
            key: commit << u16::BITS | u64::from(key.piece),
            value: (at << LENGTH_BITS | bytes) << FLAG_BITS | flags,
        })
    }

    fn key(self) -> PieceKey {
        let [.., high, low] = self.key.to_be_bytes();
        PieceKey {
            commit: CommitNumber(self.key >> u16::BITS),
            piece: u16::from_be_bytes([high, low]),
        }
    }

    fn at(self) -> u64 {
        self.value >> (LENGTH_BITS + FLAG_BITS)
    }

    fn bytes(self) -> usize {
        let bytes = (self.value >> FLAG_BITS) & ((1 << LENGTH_BITS) - 1);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn has(self, flag: u64) -> bool {
        self.value & flag != 0
    }
}

/// Notes a place. sled writes pages again: of a piece that comes often one place is kept.
fn note(places: &mut Vec<Place>, place: Place) {
    if places.len() == places.capacity() {
        settle(places);
        places.reserve(places.len().max(64));
    }
    places.push(place);
}

/// Sorts, and keeps the place of each piece that is last in the log, in whose order they come: all have the
/// same in them, but those before may be freed, and sled fills these with zeros when it opens the file.
fn settle(places: &mut Vec<Place>) {
    places.sort_by_key(|place| place.key);
    places.dedup_by(|later, kept| {
        let is_again = later.key == kept.key;
        if is_again {
            *kept = *later;
        }
        is_again
    });
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
        let (mut is_pending, mut damage) = (false, None);
        log.walk(0, |found| {
            match found {
                Found::Nothing { lsn } | Found::NoSegment { lsn } => {
                    is_pending = true;
                    damage.get_or_insert(lsn);
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
                            let flags = if is_last { IS_LAST } else { 0 }
                                | if damage.is_some() { IS_BEHIND } else { 0 };
                            let place = Place::new(key, at + place as u64, value.len(), flags);
                            if let Some(place) = place {
                                note(&mut places, place);
                            }
                        }
                    });
                }
            }
            ControlFlow::Continue(())
        })?;
        settle(&mut places);
        Ok(Self {
            log,
            places,
            damage,
            damaged_places,
            has_lost,
        })
    }

    /// Whether each piece that `other` has behind its first damage is here, too.
    pub(crate) fn has_all_behind_of(&self, other: &Self) -> bool {
        let mut own = self.places.iter().map(|place| place.key);
        let wanted = other.places.iter().filter(|place| place.has(IS_BEHIND));
        let mut wanted = wanted.map(|place| place.key);
        wanted.all(|wanted| own.find(|key| *key >= wanted) == Some(wanted))
    }

    /// Whether nothing is damaged before the end of what can be read, and all of it is what sled finds.
    pub(crate) fn is_whole(&self) -> bool {
        self.damaged_places == 0 && !self.has_lost
    }

    /// Bytes that [`Self::copy_behind`] writes.
    pub(crate) fn bytes_behind(&self) -> u64 {
        self.log.bytes_from(self.damage.unwrap_or(i64::MAX))
    }

    /// Bytes of the file up to the end of that of sled's segments in which the first damage is, if no
    /// place was written again.
    pub(crate) fn bytes_up_to_damage(&self) -> Option<u64> {
        self.log.bytes_up_to(self.damage?)
    }

    /// Writes sled's segments from that of the first damage on to a new file, which can be read as this
    /// one.
    ///
    /// # Errors
    /// If one of the files cannot be read or written.
    pub(crate) fn copy_behind(&self, to: &File) -> io::Result<()> {
        self.log.copy_from(self.damage.unwrap_or(i64::MAX), to)
    }

    /// How many commits there are.
    pub(crate) fn count(&self) -> Counted {
        let mut counted = Counted::default();
        for pieces in self.whole_commits() {
            counted.commits += 1;
            let is_behind = pieces.iter().any(|place| place.has(IS_BEHIND));
            counted.behind += u64::from(is_behind);
        }
        counted
    }

    /// The newest commit; 0 if there is none.
    pub(crate) fn newest(&self) -> CommitNumber {
        let last = self.whole_commits().last();
        let last = last.and_then(|pieces| pieces.last());
        last.map_or(CommitNumber(0), |place| place.key().commit)
    }

    /// The pieces of each commit that is whole.
    fn whole_commits(&self) -> impl Iterator<Item = &[Place]> {
        let commits = self
            .places
            .chunk_by(|a, b| a.key().commit == b.key().commit);
        commits.filter(|pieces| {
            let numbers = pieces.iter().map(|place| place.key().piece);
            let is_dense = numbers.eq(0..u16::try_from(pieces.len()).unwrap_or(u16::MAX));
            is_dense && pieces.last().is_some_and(|place| place.has(IS_LAST))
        })
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
            let key = place.key();
            self.log.value(place.at(), place.bytes(), &mut value)?;
            let mut pushed = assembler.push(key, &value);
            if pushed.is_err() {
                assembler = Assembler::default();
                if key.piece == 0 {
                    // It came behind a commit that is not whole.
                    pushed = assembler.push(key, &value);
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
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::commit::BodyBuilder;
    use crate::ids::{EraId, LogId, LogPartition, PartitionId, SegmentId};
    use crate::segment::SegmentWriter;

    const BLOCK: usize = 4096;

    impl RawPieces {
        /// Reads from `file` from now on.
        pub(crate) fn read_from(&mut self, file: File) {
            self.log.file = file;
        }

        /// Which pieces there are.
        pub(crate) fn keys(&self) -> BTreeSet<PieceKey> {
            self.places.iter().map(|place| place.key()).collect()
        }

        /// Bytes that the list of the places takes.
        pub(crate) fn list_bytes(&self) -> usize {
            self.places.capacity() * size_of::<Place>()
        }
    }

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
                let at = usize::try_from(place.at()).unwrap();
                let is_touched =
                    at.saturating_sub(60) < range.end && range.start < at + place.bytes();
                let number = place.key().commit;
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
