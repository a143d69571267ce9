//! A segment: one small sled database that holds a run of commits, written once and removed whole.
//!
//! Inside it are small trees, the chunks, each a run of pieces: sled writes a page again when it
//! collects ten changes or splits, which a chunk that is full before that never does. What "full"
//! means was measured: docs/decisions/0003.
//!
//! Not for: which segments there are, see `crate::segments`.
//!
//! Invariants: a chunk's name is the key of its first piece; commit numbers in a segment are dense,
//! but for an evacuated one, in which they ascend (`crate::evacuated`).

use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use crate::commit::{Assembler, Commit, CommitError, PieceKey, for_each_piece};
use crate::database::{self, DatabaseError, Purpose};
use crate::evacuated;
use crate::ids::{CommitNumber, SegmentId};
use crate::segment_name::SegmentName;

/// A chunk is full with so many pieces if it has so many bytes for each chunk that there is. Every new
/// tree makes sled write the names of all trees again, so small chunks only pay while they are few; but
/// the tenth piece makes it write the other nine again, and the eighteenth all, split in two. So a chunk
/// that is too small at nine goes on to seventeen.
const CHUNK_FULL: [(usize, usize); 2] = [(9, 16), (17, 24)];
/// This much is enough, however many chunks there are.
const CHUNK_BYTES_MIN: usize = 32 * 1024;
/// A chunk of this size is full whatever its pieces: two pieces more and its page would be a blob.
const CHUNK_BYTES_MAX: usize = 128 * 1024;

/// The segment that commits go to.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    id: SegmentId,
    database: sled::Db,
    chunk: Option<Chunk>,
    chunks: usize,
    /// The chunk that the last commit begins in.
    begins_in: usize,
    /// For values, before sled has its own copy of them.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Chunk {
    tree: sled::Tree,
    pieces: usize,
    bytes: usize,
}

impl Chunk {
    fn is_full(&self, chunks: usize) -> bool {
        let [(first, per_chunk), (second, per_chunk_later)] = CHUNK_FULL;
        let has =
            |per_chunk: usize| self.bytes >= CHUNK_BYTES_MIN.min(per_chunk.saturating_mul(chunks));
        (self.pieces == first && has(per_chunk))
            || (self.pieces >= second && has(per_chunk_later))
            || self.bytes >= CHUNK_BYTES_MAX
    }
}

impl SegmentWriter {
    /// Makes the directory and the database in it, durably.
    pub(crate) fn create(folder: &Path, id: SegmentId) -> Result<Self, DatabaseError> {
        Self::create_at(&SegmentName::written(id).path(folder), id)
    }

    /// As [`Self::create`], the directory being `path`.
    pub(crate) fn create_at(path: &Path, id: SegmentId) -> Result<Self, DatabaseError> {
        let database = database::create(path, Purpose::Segment)?;
        Ok(Self {
            id,
            database,
            chunk: None,
            chunks: 0,
            begins_in: 0,
            buffer: Vec::new(),
        })
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    pub(crate) fn database(&self) -> &sled::Db {
        &self.database
    }

    /// Writes a commit and makes it durable.
    pub(crate) fn write(&mut self, commit: &Commit) -> Result<(), sled::Error> {
        self.write_unflushed(commit)?;
        self.flush()
    }

    /// Writes a commit, which is durable with the next flush.
    pub(crate) fn write_unflushed(&mut self, commit: &Commit) -> Result<(), sled::Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = for_each_piece(commit.number(), commit.body(), &mut buffer, |key, value| {
            self.insert(key, value)
        });
        self.buffer = buffer;
        written
    }

    /// The chunk, counted from 1, that the commit that was written last begins in.
    pub(crate) fn begins_in(&self) -> usize {
        self.begins_in
    }

    pub(crate) fn flush(&self) -> Result<(), sled::Error> {
        self.database.flush()?;
        Ok(())
    }

    fn insert(&mut self, key: PieceKey, value: &[u8]) -> Result<(), sled::Error> {
        let full = self
            .chunk
            .as_ref()
            .is_none_or(|chunk| chunk.is_full(self.chunks));
        if full {
            let tree = self.database.open_tree(key.to_bytes())?;
            self.chunk = Some(Chunk {
                tree,
                pieces: 0,
                bytes: 0,
            });
            self.chunks += 1;
        }
        if key.piece == 0 {
            self.begins_in = self.chunks;
        }
        if let Some(chunk) = &mut self.chunk {
            chunk.pieces += 1;
            chunk.bytes += value.len();
            chunk.tree.insert(key.to_bytes(), value)?;
        }
        Ok(())
    }
}

/// A segment cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// What is stored is not a commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A commit is missing between two others.
    #[error("commit {found} follows commit {previous}")]
    Order {
        /// The one before.
        previous: CommitNumber,
        /// The one that came.
        found: CommitNumber,
    },
    /// The machine gives no answer; that says nothing of what is stored, and may pass.
    #[error("the segment's database cannot be read now: {0}")]
    Machine(String),
    /// sled cannot read its own pages.
    #[error("the segment's database cannot be read: {0}")]
    Database(String),
}

/// Hands the commits of an open segment from `from` on to `visit`, in order, until it breaks off.
/// A commit of which only the first pieces were written is left out and its number returned: it was
/// never flushed, hence never acknowledged.
pub(crate) fn scan(
    database: &sled::Db,
    from: CommitNumber,
    mut visit: impl FnMut(Commit) -> ControlFlow<()>,
) -> Result<Option<CommitNumber>, ScanError> {
    // sled panics on some damage instead of returning an error.
    panic::catch_unwind(AssertUnwindSafe(|| {
        scan_pieces(database, &chunks(database), from, &mut visit)
    }))
    .unwrap_or_else(|_| Err(ScanError::Database("sled panicked".to_owned())))
}

/// As [`scan`], only of the commits from the first to the last of each range, which ascend. Whether
/// each range was read to its last commit, or `visit` broke off.
pub(crate) fn scan_ranges(
    database: &sled::Db,
    ranges: &[(CommitNumber, CommitNumber)],
    mut visit: impl FnMut(Commit) -> ControlFlow<()>,
) -> Result<bool, ScanError> {
    let scanned = panic::catch_unwind(AssertUnwindSafe(|| {
        let chunks = chunks(database);
        for (first, last) in ranges {
            let (mut is_at_last, mut is_broken_off) = (false, false);
            scan_pieces(database, &chunks, *first, &mut |commit| {
                // What comes next would be a page more that nobody wants.
                is_at_last = commit.number() >= *last;
                if commit.number() > *last {
                    return ControlFlow::Break(());
                }
                is_broken_off = visit(commit).is_break();
                match is_at_last || is_broken_off {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            if is_broken_off || !is_at_last {
                return Ok(is_broken_off);
            }
        }
        Ok(true)
    }));
    scanned.unwrap_or_else(|_| Err(ScanError::Database("sled panicked".to_owned())))
}

/// What an error of sled says of a segment. A block that the card cannot read is lost: whoever waited
/// for it would wait for ever.
fn unreadable(error: sled::Error) -> ScanError {
    let is_lost = match &error {
        sled::Error::Io(error) => error.raw_os_error() == Some(libc::EIO),
        _ => false,
    };
    match database::is_of_the_machine(&error) && !is_lost {
        true => ScanError::Machine(error.to_string()),
        false => ScanError::Database(error.to_string()),
    }
}

fn scan_pieces(
    database: &sled::Db,
    chunks: &[PieceKey],
    from: CommitNumber,
    visit: &mut dyn FnMut(Commit) -> ControlFlow<()>,
) -> Result<Option<CommitNumber>, ScanError> {
    let start = PieceKey {
        commit: from,
        piece: 0,
    };
    let is_dense = !evacuated::is_evacuated(database);
    let first = chunks
        .partition_point(|chunk| *chunk <= start)
        .saturating_sub(1);
    let mut assembler = Assembler::default();
    let mut previous = None;
    for chunk in chunks.get(first..).unwrap_or_default() {
        let tree = database.open_tree(chunk.to_bytes()).map_err(unreadable)?;
        for piece in tree.range(start.to_bytes()..) {
            let (key, value) = piece.map_err(unreadable)?;
            let damaged = || ScanError::Database("a key has the wrong size".to_owned());
            let key = PieceKey::from_bytes(&key).ok_or_else(damaged)?;
            let Some(commit) = assembler.push(key, &value)? else {
                continue;
            };
            let found = commit.number();
            let follows = |previous: CommitNumber| match is_dense {
                true => previous.next() == found,
                false => previous < found,
            };
            if let Some(previous) = previous.replace(found).filter(|p| !follows(*p)) {
                return Err(ScanError::Order { previous, found });
            }
            if visit(commit).is_break() {
                return Ok(None);
            }
        }
    }
    Ok(assembler.unfinished())
}

/// First pieces of the chunks, ascending.
pub(crate) fn chunks(database: &sled::Db) -> Vec<PieceKey> {
    let mut chunks: Vec<_> = database
        .tree_names()
        .iter()
        .filter_map(|name| PieceKey::from_bytes(name))
        .collect();
    chunks.sort_unstable();
    chunks
}

/// The first commit of each chunk that begins with one, ascending: where a search can start.
pub(crate) fn chunk_starts(database: &sled::Db) -> Vec<CommitNumber> {
    chunks(database).into_iter().map(|key| key.commit).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::commit::{BodyBuilder, pieces};
    use crate::guard::Keeping;
    use crate::ids::{EraId, LogId, LogPartition, Offset, PartitionId};
    use crate::metadata::SegmentRecord;
    use record_batch::{BatchBuilder, RecordFields};

    const P: LogPartition = LogPartition {
        log: LogId(1),
        partition: PartitionId(0),
    };

    /// A commit of one record of `size` bytes, at the offset of its number.
    pub(crate) fn commit(number: u64, size: usize) -> Commit {
        let mut body = BodyBuilder::new(EraId(1));
        let mut batch = BatchBuilder::new(i64::try_from(number).unwrap());
        let value = vec![7; size];
        let fields = RecordFields {
            timestamp_ms: 1000,
            value: Some(&value),
            ..Default::default()
        };
        batch.append(&fields).unwrap();
        body.entry(P, |out| batch.finish_into(out));
        Commit::parse(CommitNumber(number), body.finish()).unwrap()
    }

    fn read(database: &sled::Db, from: u64) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        let end = scan(database, CommitNumber(from), |commit| {
            let batch = commit.batch(P).unwrap().unwrap();
            let record = batch.records().next().unwrap().unwrap();
            found.push((commit.number().0, record.value.unwrap().len()));
            ControlFlow::Continue(())
        });
        assert_eq!(end.unwrap(), None);
        found
    }

    fn sizes() -> Vec<(u64, usize)> {
        (10..400_u64)
            .map(|n| {
                (
                    n,
                    if n % 97 == 0 {
                        200_000
                    } else {
                        usize::try_from(n).unwrap() * 37 % 3000
                    },
                )
            })
            .collect()
    }

    fn path(folder: &Path) -> PathBuf {
        SegmentName::written(SegmentId(1)).path(folder)
    }

    fn written(folder: &Path, commits: &[(u64, usize)]) -> SegmentRecord {
        let mut writer = SegmentWriter::create(folder, SegmentId(1)).unwrap();
        let mut record = SegmentRecord::created();
        for (number, size) in commits {
            let commit = commit(*number, *size);
            writer.write(&commit).unwrap();
            record.add(&commit);
        }
        record
    }

    #[test]
    fn commits_come_back_in_order_from_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let commits = sizes();
        let record = written(folder.path(), &commits);
        assert_eq!(
            (record.first_commit, record.last_commit),
            (CommitNumber(10), CommitNumber(399))
        );
        let part = record.part(P).unwrap();
        assert_eq!(
            (part.base_offset, part.next_offset),
            (Offset(10), Offset(400))
        );
        let database = database::open(
            &path(folder.path()),
            Purpose::Segment,
            &mut Keeping::default(),
        )
        .unwrap();
        for from in [0, 10, 11, 96, 97, 98, 300, 399] {
            let expected: Vec<_> = commits
                .iter()
                .copied()
                .filter(|(n, _)| *n >= from)
                .collect();
            assert_eq!(read(&database, from), expected, "from {from}");
        }
        assert!(chunk_starts(&database).is_sorted());
    }

    #[test]
    fn trouble_of_the_machine_may_pass_and_a_block_that_is_lost_does_not() {
        let of = |code| unreadable(sled::Error::Io(std::io::Error::from_raw_os_error(code)));
        for code in [libc::EMFILE, libc::ENOMEM, libc::EACCES] {
            assert!(matches!(of(code), ScanError::Machine(_)), "{code}");
        }
        assert!(matches!(of(libc::EIO), ScanError::Database(_)));
        let corrupt = sled::Error::Corruption { at: None, bt: () };
        assert!(matches!(unreadable(corrupt), ScanError::Database(_)));
    }

    /// What evacuation leaves of commits may be small. The limits are what was measured, and a little.
    #[test]
    fn small_commits_take_not_much_more_than_their_bytes() {
        for (size, segment_bytes, percent_max) in [(1000, 4 << 20, 135), (2000, 15 << 20, 133)] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = SegmentWriter::create(folder.path(), SegmentId(1)).unwrap();
            let (mut bytes, mut number, mut flushed) = (0, 0, 0);
            while bytes < segment_bytes {
                number += 1;
                let commit = commit(number, size);
                writer.write_unflushed(&commit).unwrap();
                bytes += commit.size_bytes();
                if bytes >= flushed + (512 << 10) {
                    flushed = bytes;
                    writer.flush().unwrap();
                }
            }
            writer.flush().unwrap();
            drop(writer);
            let file = std::fs::metadata(path(folder.path()).join("db")).unwrap();
            // The rest of the last MiB takes no room.
            let percent = file.blocks() * 512 * 100 / bytes as u64;
            assert!(percent <= percent_max, "{size} bytes: {percent} %");
        }
    }

    /// A blob is a file that sled never syncs: no layout may ever make one.
    #[test]
    fn no_value_becomes_a_blob() {
        let folder = tempfile::tempdir().unwrap();
        let mut commits = sizes();
        commits.extend((400..440).map(|n| (n, 65_470)));
        written(folder.path(), &commits);
        let blobs = path(folder.path()).join("blobs");
        assert_eq!(std::fs::read_dir(blobs).map_or(0, Iterator::count), 0);
    }

    #[test]
    fn missing_commit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), &[(1, 10), (2, 10), (4, 10)]);
        let database = database::open(
            &path(folder.path()),
            Purpose::Segment,
            &mut Keeping::default(),
        )
        .unwrap();
        let error = scan(&database, CommitNumber(1), |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.to_string(), "commit 4 follows commit 2");
    }

    #[test]
    fn commit_that_was_not_finished_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::create(folder.path(), SegmentId(1)).unwrap();
        writer.write(&commit(1, 10)).unwrap();
        let unfinished = commit(2, 200_000);
        for (key, value) in pieces(unfinished.number(), unfinished.body())
            .into_iter()
            .take(2)
        {
            writer.insert(key, &value).unwrap();
        }
        let mut seen = 0;
        let end = scan(writer.database(), CommitNumber(1), |_| {
            seen += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((end.unwrap(), seen), (Some(CommitNumber(2)), 1));
    }
}
