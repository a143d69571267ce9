//! Damage in the files of the folder itself, and what a data folder never opens in spite of.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::Path;

use storage::{FolderError, LogOptions, OpenError, RecoveryEvent, Store};
use support::damage::{Damage, cut};
use support::template::{logs, template};
use support::{append, open};

fn mark(commit: u64) -> Vec<u8> {
    let number = commit.to_be_bytes();
    [&number[..], &crc32c::crc32c(&number).to_be_bytes()].concat()
}

/// Without MARK nothing is lost, but nothing says that the log has not lost its end: no offset may be
/// used again.
#[test]
fn mark_that_tells_nothing_makes_offsets_leap() {
    const CASES: [Damage; 5] = [
        ("missing", |folder| {
            fs::remove_file(folder.join("MARK")).unwrap()
        }),
        ("empty", |folder| cut(&folder.join("MARK"), 0)),
        ("short", |folder| cut(&folder.join("MARK"), 7)),
        ("garbage", |folder| {
            fs::write(folder.join("MARK"), [0xa5; 12]).unwrap()
        }),
        ("a directory", |folder| {
            fs::remove_file(folder.join("MARK")).unwrap();
            fs::create_dir(folder.join("MARK")).unwrap();
        }),
    ];
    for (what, damage) in CASES {
        let copy = template().copy();
        damage(copy.path());
        let outcome = copy.check(&[], false);
        assert_eq!((outcome.missing, outcome.leapt), (0, true), "{what}");
        let [RecoveryEvent::EndNotProven { .. }] = &outcome.events[..] else {
            panic!("{what}: {outcome:?}");
        };
    }
}

#[test]
fn ends_that_are_not_proven_again_and_again_are_one_gap() {
    let copy = template().copy();
    let mut ends = Vec::new();
    for _ in 0..3 {
        fs::remove_file(copy.path().join("MARK")).unwrap();
        let (store, threads) = open(copy.path(), &logs());
        let gaps = store.gaps();
        assert_eq!(gaps.len(), template().records.len(), "{gaps:?}");
        assert!(
            gaps.iter()
                .all(|gap| gap.at_most && gap.records == gap.to.since(gap.from))
        );
        ends.push(gaps[0].to);
        threads.close();
    }
    assert!(ends.is_sorted_by(|a, b| a < b), "{ends:?}");
}

/// With MARK, the card has taken the end of the log that only it tells of.
#[test]
fn end_that_is_lost_with_mark_is_told() {
    let copy = template().copy();
    let active = template().active();
    let database = copy.segment(active).join("db");
    let length = fs::metadata(&database).unwrap().len();
    cut(&database, length - length / 10);
    fs::write(copy.path().join("MARK"), [0xa5; 12]).unwrap();
    let outcome = copy.check(&[active], false);
    assert!(outcome.missing > 0 && outcome.leapt, "{outcome:?}");
}

/// It lags behind: what could be read before the folder was opened is a witness, too.
#[test]
fn end_that_is_lost_behind_damage_is_told_while_mark_is_behind() {
    let copy = template().copy();
    let active = template().active();
    let database = copy.segment(active).join("db");
    let mut bytes = fs::read(&database).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[written / 2..written / 2 + 64].fill(0);
    fs::write(&database, bytes).unwrap();
    fs::write(copy.path().join("MARK"), mark(3)).unwrap();
    let outcome = copy.check(&[active], false);
    assert!(outcome.missing > 0 && outcome.leapt, "{outcome:?}");
    let cut = |event: &RecoveryEvent| matches!(event, RecoveryEvent::SegmentCut { .. });
    assert!(outcome.events.iter().any(cut), "{outcome:?}");
}

#[test]
fn mark_that_is_behind_costs_nothing() {
    let copy = template().copy();
    fs::write(copy.path().join("MARK"), mark(3)).unwrap();
    let outcome = copy.check(&[], false);
    assert_eq!((outcome.missing, outcome.leapt), (0, false));
    assert_eq!(outcome.events, []);
}

/// A log that ends before MARK has lost its end, although all of it can be read.
#[test]
fn mark_ahead_of_the_log_makes_offsets_leap() {
    let copy = template().copy();
    fs::write(copy.path().join("MARK"), mark(1_000_000)).unwrap();
    let outcome = copy.check(&[], false);
    assert_eq!((outcome.missing, outcome.leapt), (0, true));
    let [RecoveryEvent::EndLost { durable, .. }] = &outcome.events[..] else {
        panic!("{outcome:?}");
    };
    assert_eq!(durable.0, 1_000_000);
}

#[test]
fn what_is_made_anew_costs_nothing() {
    const CASES: [Damage; 5] = [
        ("LOCK missing", |folder| {
            fs::remove_file(folder.join("LOCK")).unwrap()
        }),
        ("LOCK garbage", |folder| {
            fs::write(folder.join("LOCK"), [0xff; 9000]).unwrap()
        }),
        ("quarantine missing", |folder| {
            fs::remove_dir_all(folder.join("quarantine")).unwrap();
        }),
        ("foreign files", |folder| {
            fs::write(folder.join("log/notes.txt"), "mine").unwrap();
            fs::write(folder.join("log/12"), "mine").unwrap();
            fs::create_dir(folder.join("lost+found")).unwrap();
        }),
        ("an empty segment of nobody", |folder| {
            fs::create_dir(folder.join("log/0000000900")).unwrap();
        }),
    ];
    for (what, damage) in CASES {
        let copy = template().copy();
        damage(copy.path());
        let outcome = copy.check(&[], false);
        assert_eq!((outcome.missing, outcome.leapt), (0, false), "{what}");
        assert_eq!(outcome.events, [], "{what}");
    }
}

#[test]
fn folder_without_its_segments_goes_on_above_all_offsets() {
    let copy = template().copy();
    fs::remove_dir_all(copy.path().join("log")).unwrap();
    let all: Vec<usize> = (0..template().segments.len()).collect();
    let outcome = copy.check(&all, true);
    assert!(outcome.leapt, "{outcome:?}");
    let missing = |event: &&RecoveryEvent| matches!(event, RecoveryEvent::SegmentMissing { .. });
    assert!(
        outcome.events.iter().filter(missing).count() >= all.len(),
        "{outcome:?}"
    );
}

#[test]
fn quarantine_takes_what_has_a_name_that_is_there_already() {
    let copy = template().copy();
    let active = template().active();
    let name = &template().segments[active].name;
    let taken = copy.path().join("quarantine").join(name);
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("earlier"), "x").unwrap();
    fs::write(copy.segment(active).join("db"), vec![0xa5; 1 << 20]).unwrap();
    let outcome = copy.check(&[active], false);
    assert!(outcome.leapt, "{outcome:?}");
    assert_eq!(copy.quarantined(), [name.clone(), format!("{name}.1")]);
    assert!(taken.join("earlier").exists());
}

fn refusal(folder: &Path) -> OpenError {
    Store::open(folder, support::options(), &logs()).unwrap_err()
}

/// What a data folder is, and of which format, is not guessed.
#[test]
fn folder_with_a_damaged_format_file_is_refused_untouched() {
    const CASES: [Damage; 4] = [
        ("empty", |folder| cut(&folder.join("FORMAT"), 0)),
        ("zeroed", |folder| {
            fs::write(folder.join("FORMAT"), [0; 56]).unwrap()
        }),
        ("cut", |folder| cut(&folder.join("FORMAT"), 25)),
        ("missing", |folder| {
            fs::remove_file(folder.join("FORMAT")).unwrap()
        }),
    ];
    for (what, damage) in CASES {
        let copy = template().copy();
        damage(copy.path());
        let before = everything(copy.path());
        let error = refusal(copy.path());
        let is_named = match &error {
            OpenError::Folder(FolderError::Foreign { .. }) => what == "missing",
            OpenError::Folder(FolderError::FormatFile { .. }) => what != "missing",
            _ => false,
        };
        assert!(is_named, "{what}: {error}");
        assert!(
            everything(copy.path()) == before,
            "{what}: something was changed"
        );
    }
}

/// Errors of the machine are no damage: nothing is put aside for them.
#[test]
fn files_that_may_not_be_read_are_an_error_and_no_damage() {
    use std::os::unix::fs::PermissionsExt as _;
    let copy = template().copy();
    let file = copy.segment(template().active()).join("db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&file).is_ok() {
        return; // Root may read everything, so there is nothing to see.
    }
    let error = refusal(copy.path());
    assert!(matches!(error, OpenError::Recovery(_)), "{error}");
    assert_eq!(copy.quarantined(), [] as [&str; 0]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let outcome = copy.check(&[], false);
    assert_eq!((outcome.missing, outcome.leapt), (0, false));
}

/// Paths and contents of all files below.
fn everything(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

/// Nothing is left of the journal then: what was given out before is known from the index and MARK.
#[test]
fn folder_that_loses_all_its_segments_again_and_again_uses_no_offset_twice() {
    let folder = tempfile::tempdir().unwrap();
    let logs = [LogOptions::new("a", 1)];
    let mut last = None;
    for round in 0..4 {
        let (store, threads) = open(folder.path(), &logs);
        let first = append(&store, "a", "key", "one");
        let second = append(&store, "a", "key", "two");
        store.wait_durable(second.commit).unwrap();
        let (free, durable) = last.unwrap_or_default();
        assert!(
            first.offset >= free && first.commit > durable,
            "round {round}: offset {} and commit {} are used again: {free}, {durable}",
            first.offset,
            first.commit
        );
        last = Some((second.offset.advanced(1), second.commit));
        threads.close();
        fs::remove_dir_all(folder.path().join("log")).unwrap();
    }
}

/// What the index knows is an exact gap, and what was behind it up to the leap is one "at most".
#[test]
fn end_of_a_folder_without_its_segments_is_in_the_ledger() {
    let copy = template().copy();
    fs::remove_dir_all(copy.path().join("log")).unwrap();
    let (store, threads) = open(copy.path(), &logs());
    let gaps = store.gaps();
    for (partition, records) in &template().records {
        let mut ranges: Vec<_> = gaps
            .iter()
            .filter(|gap| gap.partition == *partition)
            .collect();
        ranges.sort_by_key(|gap| gap.from);
        let last = *records.keys().next_back().unwrap();
        let end = ranges.last().unwrap();
        assert!(
            end.at_most && end.from.0 <= last && last < end.to.0,
            "{partition}: the last offset was {last}, the last gap is {end:?}"
        );
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{partition}: {ranges:?}");
        }
        assert_eq!(store.high_watermark(*partition), end.to, "{partition}");
    }
    threads.close();
}

/// A file in the place of a folder of ours is damage, and no reason not to start.
#[test]
fn file_in_the_place_of_a_folder_is_put_aside() {
    let copy = template().copy();
    fs::remove_dir_all(copy.path().join("quarantine")).unwrap();
    fs::write(copy.path().join("quarantine"), "x").unwrap();
    let outcome = copy.check(&[], false);
    assert_eq!((outcome.missing, outcome.leapt), (0, false));
    assert_eq!(fs::read(copy.path().join("quarantine.1")).unwrap(), b"x");

    let copy = template().copy();
    fs::remove_dir_all(copy.path().join("log")).unwrap();
    fs::write(copy.path().join("log"), "x").unwrap();
    let all: Vec<usize> = (0..template().segments.len()).collect();
    let outcome = copy.check(&all, true);
    assert!(outcome.leapt, "{outcome:?}");
    assert_eq!(fs::read(copy.path().join("quarantine/log")).unwrap(), b"x");
}
