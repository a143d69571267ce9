//! Segments whose places sled writes again: nothing is lost by it, with sled and without, and the guard
//! takes nothing for damage.
//!
//! sled frees one of its segments when no more than half of it is in use, and writes what is left of it
//! elsewhere. Dead in a segment of ours are the lists of trees, which are written again with each new
//! tree: many small commits are the worst case.
//!
//! `TIDEGATE_COMMITS=500000 cargo test -p storage --release --lib raw::written_again -- --nocapture` takes
//! so many commits instead of a few, and prints what sled does with them.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{RawLog, RawPieces};
use crate::commit::{BodyBuilder, Commit};
use crate::database::{self, Purpose};
use crate::evacuated;
use crate::guard::{DamageCopy, Extent, Keeping, Room};
use crate::ids::{CommitNumber, EraId, LogId, LogPartition, PartitionId, SegmentId};
use crate::segment::{self, SegmentWriter};

const COMMITS: u64 = 20_000;
/// How many times the process is killed.
const KILLS: u64 = 8;

fn commits() -> u64 {
    let wanted = std::env::var("TIDEGATE_COMMITS").ok();
    wanted.map_or(COMMITS, |wanted| wanted.parse().unwrap())
}

/// How a segment is filled.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// Of the journal of each commit.
    bytes: usize,
    commits_per_flush: u64,
    /// Of an evacuated segment the numbers are not dense.
    step: u64,
}

impl Case {
    fn commit(self, index: u64) -> Commit {
        let number = index * self.step;
        let mut body = BodyBuilder::new(EraId(1));
        let journal = LogPartition {
            log: LogId::JOURNAL,
            partition: PartitionId(0),
        };
        let first = number.to_le_bytes()[0];
        let content = (0..=u8::MAX).map(|at| at.wrapping_mul(31).wrapping_add(first) | 1);
        let content = content.cycle().take(self.bytes);
        body.entry(journal, |out| out.extend(content));
        Commit::parse(CommitNumber(number), body.finish()).unwrap()
    }

    /// The next one must be `commit`.
    fn check(self, found: &mut u64, commit: &Commit) {
        *found += 1;
        assert!(*commit.body() == *self.commit(*found).body(), "{found}");
        assert_eq!(commit.number().0, *found * self.step);
    }
}

/// A data folder; the segment in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["log", "quarantine"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("log/1");
    (folder, path)
}

/// Reads on and on in the segment that is written to, as a subscriber that is behind.
fn follow(database: &sled::Db, is_done: &AtomicBool) {
    let mut next = CommitNumber(0);
    while !is_done.load(Ordering::Relaxed) {
        let scanned = segment::scan(database, next, |commit| {
            next = commit.number().next();
            ControlFlow::Continue(())
        });
        scanned.unwrap();
        thread::yield_now();
    }
}

/// Ends the reader also when the test fails.
struct EndAtDrop<'a>(&'a AtomicBool);

impl Drop for EndAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn write(path: &Path, case: Case, commits: u64) {
    let mut writer = SegmentWriter::create_at(path, SegmentId(1)).unwrap();
    if case.step > 1 {
        evacuated::declare(writer.database()).unwrap();
    }
    let (reader, is_done) = (writer.database().clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| follow(&reader, &is_done));
        let _end = EndAtDrop(&is_done);
        for index in 1..=commits {
            writer.write_unflushed(&case.commit(index)).unwrap();
            if index % case.commits_per_flush == 0 {
                writer.flush().unwrap();
            }
            if index % (commits / KILLS) == 0 {
                writer.flush().unwrap();
                check_killed(path, case, index);
            }
        }
        writer.flush().unwrap();
    });
}

/// What another process would find if this one were killed now.
fn check_killed(path: &Path, case: Case, commits: u64) {
    let (_folder, copy) = folder();
    fs::create_dir(&copy).unwrap();
    for name in ["conf", "db"] {
        fs::copy(path.join(name), copy.join(name)).unwrap();
    }
    check_content(&copy, case, commits);
}

fn check_content(path: &Path, case: Case, commits: u64) {
    let mut found = 0;
    let pieces = RawPieces::read(path).unwrap();
    pieces
        .commits(|commit| {
            case.check(&mut found, commit);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, commits, "without sled");
    let (mut found, mut kept) = (0, Keeping::default());
    let database = database::open(path, Purpose::Segment, &mut kept).unwrap();
    assert_eq!(kept.kept, [], "nothing is damaged");
    let scanned = segment::scan(&database, CommitNumber(0), |commit| {
        case.check(&mut found, &commit);
        ControlFlow::Continue(())
    });
    assert_eq!((scanned.unwrap(), found), (None, commits), "with sled");
    // sled has filled what is free with zeros now, and may have moved what is not: an old place holds what it
    // held, or nothing. (Who reads a file a second time compares: `Copy::source` of `store::evacuations`.)
    let moved = commits - still_there(&pieces, case);
    if moved > 0 {
        println!("{case:?}: sled has moved {moved} of {commits} commits");
    }
    let pieces = RawPieces::read(path).unwrap();
    assert!(pieces.is_whole(), "zeros");
    found = 0;
    let read = pieces.commits(|commit| {
        case.check(&mut found, commit);
        ControlFlow::Continue(())
    });
    read.unwrap();
    assert_eq!(
        found, commits,
        "without sled, after it; it has moved {moved}"
    );
    kept.keep(path, Extent::Whole).unwrap();
    assert_eq!(
        kept.kept,
        [],
        "nothing is damaged without a snapshot either"
    );
}

/// Commits that are whole.
fn readable(pieces: &RawPieces) -> u64 {
    let read = pieces.commits(|_| ControlFlow::Continue(()));
    read.unwrap().commits
}

/// How many commits are where they were.
fn still_there(pieces: &RawPieces, case: Case) -> u64 {
    let mut last = 0;
    let read = pieces.commits(|commit| {
        let number = commit.number().0;
        assert!(number > last && *commit.body() == *case.commit(number / case.step).body());
        last = number;
        ControlFlow::Continue(())
    });
    read.unwrap().commits
}

/// Where sled's segments are: position in the log, place in the file.
fn segments(path: &Path) -> BTreeSet<(i64, u64)> {
    let log = RawLog::open(&path.join("db"), Purpose::Segment.segment_bytes()).unwrap();
    let all = log.segments.iter();
    all.map(|segment| (segment.lsn, segment.at)).collect()
}

/// Sled's segments in the file, and those whose places had others before.
fn places(path: &Path) -> (usize, usize) {
    let all = segments(path);
    let again = all.iter().filter(|(lsn, at)| !is_first(*lsn, *at));
    (all.len(), again.count())
}

fn is_first(lsn: i64, at: u64) -> bool {
    u64::try_from(lsn).is_ok_and(|lsn| lsn == at)
}

#[test]
fn nothing_is_lost_in_a_segment_whose_places_are_written_again() {
    let mut sum = 0;
    for bytes in [150, 300] {
        for (commits_per_flush, step) in [(50, 1), (1500, 3)] {
            let case = Case {
                bytes,
                commits_per_flush,
                step,
            };
            let (_folder, path) = folder();
            write(&path, case, commits());
            let (all, again) = places(&path);
            println!("{case:?}: {all} MiB, {again} of them written again");
            sum += again;
            for _ in 0..3 {
                check_content(&path, case, commits());
            }
        }
    }
    assert!(sum > 0, "the case is not met");
}

/// The first write to a place is that of the commit that the power cut interrupts: of a longer one, the
/// first block can be the old one. The guard copies such a segment for nothing, most of the time.
#[test]
fn write_over_a_freed_place_that_a_power_cut_tears_costs_no_more_than_its_commit() {
    let sized = |index: u64| Case {
        bytes: if index.is_multiple_of(8) { 9000 } else { 150 },
        commits_per_flush: 1,
        step: 1,
    };
    let (_folder, path) = folder();
    let mut writer = SegmentWriter::create_at(&path, SegmentId(1)).unwrap();
    let (mut old, mut known, mut torn) = (Vec::new(), segments(&path), 0);
    for index in 1.. {
        writer.write_unflushed(&sized(index).commit(index)).unwrap();
        writer.flush().unwrap();
        if index.is_multiple_of(500) {
            old = fs::read(path.join("db")).unwrap();
        }
        let now = segments(&path);
        for (lsn, at) in now.difference(&known) {
            let block = usize::try_from(*at).unwrap()..usize::try_from(*at + 4096).unwrap();
            let Some(before) = old.get(block.clone()).filter(|_| !is_first(*lsn, *at)) else {
                continue;
            };
            let mut image = fs::read(path.join("db")).unwrap();
            image[block].copy_from_slice(before);
            let (_folder, copy) = folder();
            fs::create_dir(&copy).unwrap();
            fs::copy(path.join("conf"), copy.join("conf")).unwrap();
            fs::write(copy.join("db"), image).unwrap();
            let opened = database::open(&copy, Purpose::Segment, &mut Keeping::default()).unwrap();
            let mut found = 0;
            let scanned = segment::scan(&opened, CommitNumber(0), |commit| {
                sized(found + 1).check(&mut found, &commit);
                ControlFlow::Continue(())
            });
            scanned.unwrap();
            assert!(found >= index - 1, "{found} of {index}");
            torn += 1;
        }
        known = now;
        if torn == 4 {
            return;
        }
        assert!(index < 50_000, "the case is not met");
    }
}

/// A block is lost in each of sled's segments, and there is no room for a copy.
#[test]
fn what_is_before_damage_stays_when_sled_has_opened_a_file_whose_places_were_written_again() {
    let case = Case {
        bytes: 300,
        commits_per_flush: 50,
        step: 1,
    };
    let (_folder, path) = folder();
    let mut writer = SegmentWriter::create_at(&path, SegmentId(1)).unwrap();
    for index in 1..=COMMITS {
        writer.write_unflushed(&case.commit(index)).unwrap();
        if index % case.commits_per_flush == 0 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    drop(writer);
    let mut damaged = 0;
    for (lsn, at) in segments(&path) {
        let (_folder, copy) = folder();
        fs::create_dir(&copy).unwrap();
        fs::copy(path.join("conf"), copy.join("conf")).unwrap();
        let mut bytes = fs::read(path.join("db")).unwrap();
        let at = usize::try_from(at).unwrap() + 500_000;
        let Some(block) = bytes.get_mut(at..at + 4096) else {
            continue;
        };
        block.fill(0);
        fs::write(copy.join("db"), &bytes).unwrap();
        let before = readable(&RawPieces::read(&copy).unwrap());
        let mut keeping = Keeping::new(Room {
            reserve_bytes: 0,
            free_space: |_| Ok(0),
        });
        let opened = database::open(&copy, Purpose::Segment, &mut keeping);
        drop(opened);
        let after = readable(&RawPieces::read(&copy).unwrap());
        let behind = keeping.kept.first().map_or(0, |kept| {
            assert!(matches!(kept.copy, DamageCopy::Lost(_)), "{kept:?}");
            damaged += 1;
            kept.commits_behind
        });
        assert!(
            after + behind >= before,
            "{lsn}: {after} and {behind} of {before}"
        );
    }
    assert!(damaged > 5, "{damaged}");
}
