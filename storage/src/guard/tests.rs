//! What is copied, what is not, and what is left to read of a segment that sled had.

use std::ops::ControlFlow;

use super::copy::Bounds;
use super::*;
use crate::commit::{BodyBuilder, Commit};
use crate::database;
use crate::ids::{EraId, LogId, LogPartition, PartitionId, SegmentId};
use crate::segment::SegmentWriter;

const COMMITS: u64 = 30;
const ROOM: Room = Room {
    reserve_bytes: 0,
    free_space: |_| Ok(u64::MAX),
};

/// What comes of keeping it.
fn keep(path: &Path, extent: Extent, room: &Room) -> io::Result<Option<Kept>> {
    let mut keeping = Keeping::new(*room);
    keeping.keep(path, extent)?;
    Ok(keeping.kept.pop())
}

fn commit(number: u64) -> Commit {
    // The last one has pieces enough to be torn.
    commit_of(number, if number == COMMITS { 250_000 } else { 9_000 })
}

fn commit_of(number: u64, size: usize) -> Commit {
    let mut body = BodyBuilder::new(EraId(1));
    let journal = LogPartition {
        log: LogId::JOURNAL,
        partition: PartitionId(0),
    };
    body.entry(journal, |out| out.resize(out.len() + size, 7));
    Commit::parse(CommitNumber(number), body.finish()).unwrap()
}

/// A data folder with a segment; the places at which its commits begin.
fn folder() -> (tempfile::TempDir, PathBuf, Vec<usize>) {
    folder_with(COMMITS)
}

/// As [`folder`], with so many commits.
fn folder_with(commits: u64) -> (tempfile::TempDir, PathBuf, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["log", "quarantine"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("log/1");
    let mut writer = SegmentWriter::create_at(&path, SegmentId(1)).unwrap();
    let mut begins = Vec::new();
    for number in 1..=commits {
        begins.push(usize::try_from(end_of_log(&path)).unwrap());
        writer.write(&commit(number)).unwrap();
    }
    drop(writer);
    (folder, path, begins)
}

/// Where the first commits are not yet.
fn end_of_log(path: &Path) -> u64 {
    fs::metadata(path.join("db")).unwrap().len()
}

fn zero(path: &Path, at: usize, count: usize) {
    let mut bytes = fs::read(path.join("db")).unwrap();
    let end = (at + count).min(bytes.len());
    bytes[at..end].fill(0);
    fs::write(path.join("db"), bytes).unwrap();
}

fn quarantined(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("quarantine")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn what_is_whole_or_torn_at_its_end_is_not_copied() {
    let (folder, path, begins) = folder();
    let last = begins[usize::try_from(COMMITS).unwrap() - 1];
    let end = usize::try_from(end_of_log(&path)).unwrap();
    // Nothing; the beginning, the middle and the end of the commit that was being written.
    for (at, count) in [
        (0, 0),
        (last + 10, 4096),
        (last + 90_000, 4096),
        (end - 9000, 9000),
    ] {
        zero(&path, at, count);
        keep(&path, Extent::Tail, &ROOM).unwrap();
        assert_eq!(
            quarantined(folder.path()),
            [] as [&str; 0],
            "{count} at {at}"
        );
        assert!(!cut_behind(&path).unwrap(), "{count} at {at}");
    }
}

/// A commit in two of sled's segments: the first part did not get to the flash, the other did.
#[test]
fn what_a_crash_left_is_not_cut_off() {
    let (folder, path, _) = folder_with(0);
    fs::remove_dir_all(&path).unwrap();
    let mut writer = SegmentWriter::create_at(&path, SegmentId(1)).unwrap();
    for number in 1..=80 {
        writer.write(&commit_of(number, 9_000)).unwrap();
    }
    let begin = usize::try_from(end_of_log(&path)).unwrap();
    writer.write(&commit_of(81, 900_000)).unwrap();
    drop(writer);
    assert!(end_of_log(&path) > 1 << 20, "two of sled's segments");
    zero(&path, begin + 10, 100_000);
    let torn = fs::read(path.join("db")).unwrap();
    assert_eq!(keep(&path, Extent::Whole, &ROOM).unwrap(), None);
    assert!(!cut_behind(&path).unwrap());
    assert!(fs::read(path.join("db")).unwrap() == torn);
    assert_eq!(quarantined(folder.path()), [] as [&str; 0]);
}

#[test]
fn what_is_damaged_before_its_end_is_copied_once_as_it_is() {
    for number in [0, 1, 12, 27, 28] {
        let (folder, path, begins) = folder();
        zero(&path, begins[number] + 100, 4096);
        let damaged = fs::read(path.join("db")).unwrap();
        keep(&path, Extent::Tail, &ROOM).unwrap();
        assert_eq!(
            quarantined(folder.path()),
            ["1.damaged"],
            "commit {}",
            number + 1
        );
        let copy = fs::read(folder.path().join("quarantine/1.damaged/db")).unwrap();
        assert!(copy == damaged);
        // Even when sled has been at it.
        for _ in 0..2 {
            keep(&path, Extent::Whole, &ROOM).unwrap();
            assert_eq!(quarantined(folder.path()), ["1.damaged"]);
            let end = usize::try_from(end_of_log(&path)).unwrap();
            zero(&path, begins[number] + 20_000, end);
        }
    }
}

#[test]
fn other_damage_is_copied_under_another_name() {
    let (folder, path, begins) = folder();
    let whole = fs::read(path.join("db")).unwrap();
    for number in [9, 3] {
        fs::write(path.join("db"), &whole).unwrap();
        zero(&path, begins[number] + 100, 4096);
        keep(&path, Extent::Tail, &ROOM).unwrap();
    }
    assert_eq!(quarantined(folder.path()), ["1.damaged", "1.damaged.1"]);
    // All that is behind damage further on is in the second one.
    fs::write(path.join("db"), &whole).unwrap();
    zero(&path, begins[20] + 100, 4096);
    assert_eq!(keep(&path, Extent::Tail, &ROOM).unwrap(), None);
}

#[test]
fn database_outside_of_a_data_folder_is_left_alone() {
    let (folder, path, begins) = folder();
    zero(&path, begins[3] + 100, 4096);
    let elsewhere = folder.path().join("aside");
    fs::create_dir(&elsewhere).unwrap();
    let copy = elsewhere.join("1");
    view::copy_all(&path, &copy).unwrap();
    keep(&copy, Extent::Whole, &ROOM).unwrap();
    assert_eq!(quarantined(folder.path()), [] as [&str; 0]);
}

#[test]
fn later_generation_of_a_segment_is_no_copy_of_it() {
    let quarantine = tempfile::tempdir().unwrap();
    let of_it = [
        "1-5.1",
        "1-5.1.1",
        "1-5.1.behind",
        "1-5.1.damaged",
        "1-5.1.damaged.2",
    ];
    let others = ["1-5.12", "1-5.12.damaged", "1-5.1.copy", "1-5.1.x"];
    for name in of_it.into_iter().chain(others) {
        fs::create_dir(quarantine.path().join(name)).unwrap();
    }
    let mut found = copies(Path::new("log/1-5.1"), quarantine.path()).unwrap();
    found.sort();
    let expected = of_it.map(|name| quarantine.path().join(name));
    assert_eq!(found, expected);
}

const MIB: u64 = 1 << 20;

#[test]
fn copy_leaves_the_reserve_and_has_its_share_of_the_disk() {
    let whole = Bounds {
        reserve: 64 * MIB,
        free: u64::MAX,
        disk: 4096 * MIB,
        in_quarantine: 0,
        segment: 16 * MIB,
    };
    let check = |bounds: Bounds| bounds.check(16 * MIB, 32 * MIB);
    let with_free = |free| check(Bounds { free, ..whole });
    assert_eq!(with_free(128 * MIB), Ok(()), "80 + 16 + 32");
    assert_eq!(with_free(128 * MIB - 1), Err(NoCopy::Full));
    let with = |disk, in_quarantine| {
        check(Bounds {
            disk,
            in_quarantine,
            ..whole
        })
    };
    assert_eq!(with(4096 * MIB, 496 * MIB), Ok(()));
    assert_eq!(with(4096 * MIB, 496 * MIB + 1), Err(NoCopy::Share));
    assert_eq!(with(64 * MIB, 16 * MIB), Ok(()), "two segments");
    assert_eq!(with(64 * MIB, 16 * MIB + 1), Err(NoCopy::Share));
    let reserve = u64::MAX;
    assert_eq!(
        check(Bounds {
            reserve,
            free: u64::MAX - 1,
            ..whole
        }),
        Err(NoCopy::Full)
    );
}

/// What sled destroys can be read in the copy of a part, in a segment of several of sled's.
#[test]
fn only_what_lies_behind_the_damage_is_copied_where_there_is_no_room_for_all() {
    let (folder, path, begins) = folder_with(350);
    zero(&path, begins[240] + 100, 4096);
    let before = RawPieces::read(&path).unwrap();
    let room = Room {
        // Less than the segment and two more, enough for what is behind.
        free_space: |_| Ok(4 * MIB),
        ..ROOM
    };
    let kept = keep(&path, Extent::Whole, &room).unwrap().unwrap();
    assert_eq!(kept.copy, DamageCopy::Behind("1.behind".to_owned()));
    let copy = folder.path().join("quarantine/1.behind");
    let copied = RawPieces::read(&copy).unwrap();
    assert!(copied.has_all_behind_of(&before));
    let (behind, all) = (kept.commits_behind, copied.count().commits);
    assert!(
        behind > 100 && (behind..behind + 120).contains(&all),
        "{behind} of {all}"
    );
    let bytes = fs::metadata(copy.join("db")).unwrap().len();
    assert!(bytes < end_of_log(&path) * 2 / 3, "{bytes}");
    assert_eq!(keep(&path, Extent::Whole, &ROOM).unwrap(), None, "once");
}

#[test]
fn what_cannot_be_copied_is_told_and_left_to_sled() {
    let (folder, path, begins) = folder();
    zero(&path, begins[9] + 100, 4096);
    let behind = COMMITS - 10;
    let full = Room {
        reserve_bytes: 100 * MIB,
        free_space: |_| Ok(100 * MIB),
    };
    let kept = keep(&path, Extent::Whole, &full).unwrap().unwrap();
    assert_eq!(kept.copy, DamageCopy::Lost(NoCopy::Full));
    assert_eq!(
        kept.to_string(),
        format!(
            "{behind} commits behind the damage could be read and are lost without a copy: the disk \
             has no room for a copy beside the reserve"
        )
    );
    assert_eq!(quarantined(folder.path()), [] as [&str; 0]);
    let mut keeping = Keeping::new(full);
    let database = database::open(&path, Purpose::Segment, &mut keeping).unwrap();
    assert_eq!(keeping.kept, [kept]);
    let mut read = 0;
    let scanned = crate::segment::scan(&database, CommitNumber(0), |_| {
        read += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((scanned.is_ok(), read), (true, 9), "what is before it");
}

#[test]
fn segment_is_not_cut_off_in_a_folder_whose_quarantine_was_removed() {
    let (folder, path, begins) = folder_with(150);
    zero(&path, begins[20] + 100, 4096);
    fs::remove_dir(folder.path().join("quarantine")).unwrap();
    assert!(!cut_behind(&path).unwrap());
    fs::create_dir(folder.path().join("quarantine")).unwrap();
    assert!(cut_behind(&path).unwrap());
    assert_eq!(end_of_log(&path), 1 << 20);
}

#[test]
fn copies_that_a_process_left_unfinished_are_removed() {
    let quarantine = tempfile::tempdir().unwrap();
    let left = ["0000000001", "0000000001.behind", "notes.copy"];
    for name in left
        .into_iter()
        .chain(["0000000001.copy", "0000000001-0000000005.1.copy"])
    {
        fs::create_dir(quarantine.path().join(name)).unwrap();
        fs::write(quarantine.path().join(name).join("db"), "x").unwrap();
    }
    remove_unfinished(quarantine.path()).unwrap();
    let names = fs::read_dir(quarantine.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, left);
}

#[test]
fn no_more_copies_are_made_than_enough_and_that_is_told() {
    let (folder, path, begins) = folder();
    let whole = fs::read(path.join("db")).unwrap();
    let mut refused = 0;
    for begin in begins[2..12].iter().rev() {
        fs::write(path.join("db"), &whole).unwrap();
        zero(&path, begin + 100, 4096);
        let kept = keep(&path, Extent::Tail, &ROOM).unwrap().unwrap();
        refused += usize::from(kept.copy == DamageCopy::Lost(NoCopy::Count));
    }
    assert_eq!(quarantined(folder.path()).len(), COPIES_MAX);
    assert_eq!(refused, 10 - COPIES_MAX);
}

#[test]
fn folder_that_is_only_looked_at_gets_no_copy() {
    let (folder, path, begins) = folder();
    fs::write(folder.path().join("VIEW"), b"").unwrap();
    zero(&path, begins[9] + 100, 4096);
    let kept = keep(&path, Extent::Tail, &ROOM).unwrap();
    let kept = kept.unwrap();
    assert_eq!(kept.copy, DamageCopy::Planned);
    assert_eq!(kept.commits_behind, COMMITS - 10);
    assert_eq!(quarantined(folder.path()), [] as [&str; 0]);
}

/// What a look costs: the file once if sled has no snapshot of it, else little more than its end.
#[test]
fn segment_is_read_once_and_afterwards_only_at_its_end() {
    let (_folder, path, _) = folder();
    let sled_segment = Purpose::Segment.segment_bytes() as u64;
    let read = || {
        let log = RawLog::open(&path.join("db"), Purpose::Segment.segment_bytes()).unwrap();
        assert!(!is_damaged(&log, snapshot_lsn(&path)).unwrap());
        log.bytes_read()
    };
    let headers = 20 * end_of_log(&path).div_ceil(sled_segment);
    remove_snapshots(&path);
    assert_eq!(read(), end_of_log(&path) + headers);
    drop(database::open(&path, Purpose::Segment, &mut Keeping::default()).unwrap());
    let read = read();
    assert!(read <= 2 * sled_segment + headers, "{read}");
}

#[test]
fn unfinished_copy_is_begun_again() {
    let (folder, path, begins) = folder();
    fs::create_dir(folder.path().join("quarantine/1.copy")).unwrap();
    zero(&path, begins[3] + 100, 4096);
    keep(&path, Extent::Whole, &ROOM).unwrap();
    assert_eq!(quarantined(folder.path()), ["1.damaged"]);
}

/// A segment of several of sled's: what can be read of it can be read when sled has had it, whether
/// sled has a snapshot of all, of a beginning, or none.
#[test]
fn nothing_readable_is_gone_when_sled_has_opened_it() {
    let (folder, path, begins) = folder_with(350);
    let early = kept_as(&path, folder.path(), "early");
    drop(database::open(&path, Purpose::Segment, &mut Keeping::default()).unwrap());
    let whole = kept_as(&path, folder.path(), "whole");
    let (mut copies, mut cases) = (0, 0);
    for snapshots in [Some(whole), Some(early), None] {
        for number in [40, 170, 340] {
            fs::remove_dir_all(folder.path().join("log")).unwrap();
            fs::remove_dir_all(folder.path().join("quarantine")).unwrap();
            for name in ["log", "quarantine"] {
                fs::create_dir(folder.path().join(name)).unwrap();
            }
            let from = snapshots
                .clone()
                .unwrap_or_else(|| folder.path().join("whole"));
            view::copy_all(&from, &path).unwrap();
            if snapshots.is_none() {
                remove_snapshots(&path);
            }
            zero(&path, begins[number] + 100, 4096);
            let before = RawPieces::read(&path).unwrap().keys();
            assert!(before.len() > 340, "{} pieces", before.len());
            let database =
                database::open(&path, Purpose::Segment, &mut Keeping::default()).unwrap();
            let mut read = 0;
            let _ = crate::segment::scan(&database, CommitNumber(0), |_| {
                read += 1;
                ControlFlow::Continue(())
            });
            drop(database);
            assert!(
                snapshots.is_some() || read == number,
                "{read} of {number} before the damage"
            );
            let mut after = RawPieces::read(&path).unwrap().keys();
            for name in quarantined(folder.path()) {
                let copy = folder.path().join("quarantine").join(name);
                after.extend(RawPieces::read(&copy).unwrap().keys());
                copies += 1;
            }
            assert!(
                after.is_superset(&before),
                "{snapshots:?}, commit {}",
                number + 1
            );
            cases += 1;
        }
    }
    // sled destroys nothing of what a snapshot covers, but for its end.
    assert!(
        (4..cases).contains(&copies),
        "{copies} copies in {cases} cases"
    );
}

/// A copy of a segment under another name in the folder.
fn kept_as(path: &Path, folder: &Path, name: &str) -> PathBuf {
    view::copy_all(path, &folder.join(name)).unwrap();
    folder.join(name)
}

fn remove_snapshots(path: &Path) {
    for name in fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if name.to_string_lossy().contains("snap.") {
            fs::remove_file(name).unwrap();
        }
    }
}

/// `cargo test -p storage --release --lib guard::tests::look_costs -- --nocapture` prints how much.
#[test]
fn look_costs_one_reading_and_little_with_a_snapshot() {
    // 16 MiB, the size of a segment by default.
    let (_folder, path, _) = folder_with(1800);
    let look = |what: &str| {
        let log = RawLog::open(&path.join("db"), Purpose::Segment.segment_bytes()).unwrap();
        let begin = std::time::Instant::now();
        assert!(!is_damaged(&log, snapshot_lsn(&path)).unwrap());
        let (took, read, all) = (begin.elapsed(), log.bytes_read(), end_of_log(&path));
        println!("{what}: {read} of {all} bytes read, {took:.1?}");
        (read, all)
    };
    let (read, all) = look("as it was written");
    assert!(read <= all + Purpose::Segment.segment_bytes() as u64);
    drop(database::open(&path, Purpose::Segment, &mut Keeping::default()).unwrap());
    let (read, all) = look("with sled's snapshot");
    assert!(read * 4 < all, "{read} of {all}");
}
