//! Commits that are missing inside an evacuated segment, whose commits are not dense: whoever reads it
//! is told to the record, and so is the ledger as soon as a start reads it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use storage::{GapReason, LogPartition, RecoveryEvent, Store, StoreOptions, StoreThreads};
use support::evacuated_folder::{Harm, fill, filled, harm_commit, logs};
use support::template::{copy_all, read_with_gaps, sled};
use support::{append_many, options};

/// Nothing moves while it is looked at.
fn open_still(folder: &Path) -> (Store, StoreThreads) {
    let options = StoreOptions {
        evacuation_bytes_per_second: 0,
        ..options()
    };
    Store::open(folder, options, &logs(1 << 30)).unwrap()
}

fn partitions(store: &Store) -> Vec<LogPartition> {
    let logs = store.logs();
    logs.iter().flat_map(|log| log.partitions()).collect()
}

/// Records that cannot be read; readers must have been told of each, and of no others, and why.
fn missing(store: &Store) -> BTreeSet<(LogPartition, u64)> {
    let mut missing = BTreeSet::new();
    for partition in partitions(store) {
        let (found, gaps) = read_with_gaps(store, partition);
        let taken = gaps.iter().filter(|gap| gap.2 == GapReason::Retention);
        let start = taken.map(|gap| gap.1).max().unwrap_or(0);
        let range = start..store.high_watermark(partition).0;
        let gone = range.filter(|offset| !found.contains_key(offset));
        let gone: BTreeSet<_> = gone.map(|offset| (partition, offset)).collect();
        let told = gaps.iter().filter(|gap| gap.2 == GapReason::Quarantine);
        let told = told.flat_map(|(from, to, _)| *from..*to);
        assert_eq!(
            told.map(|offset| (partition, offset))
                .collect::<BTreeSet<_>>(),
            gone,
            "{gaps:?}"
        );
        missing.extend(gone);
    }
    missing
}

/// Records that the ledger has, each of them once.
fn ledger(store: &Store) -> BTreeSet<(LogPartition, u64)> {
    let mut all = BTreeSet::new();
    for gap in store.gaps() {
        assert!(
            !gap.at_most && gap.reason == GapReason::Quarantine,
            "{gap:?}"
        );
        assert_eq!(gap.records, gap.to.0 - gap.from.0, "{gap:?}");
        for offset in gap.from.0..gap.to.0 {
            assert!(all.insert((gap.partition, offset)), "{offset} twice");
        }
    }
    all
}

fn pieces(segment: &Path) -> usize {
    let copy = tempfile::tempdir().unwrap();
    copy_all(segment, copy.path());
    let database = sled(copy.path(), 1024 * 1024).open().unwrap();
    let names = database.tree_names().into_iter();
    let chunks = names.filter(|name| name.len() == 10);
    chunks
        .map(|name| database.open_tree(name).unwrap().len())
        .sum()
}

#[test]
fn hole_in_a_copy_is_told_to_readers_and_noted_when_a_start_reads_it() {
    let (folder, copy) = filled();
    let (count, name) = (pieces(&copy), copy.file_name().unwrap());
    assert!(count > 20, "{count} pieces");
    for (what, numbers, harm) in [
        ("first", &[0][..], Harm::Remove),
        ("in the middle", &[count / 2], Harm::Remove),
        // From behind, so that the numbers stay the same.
        ("two", &[count - 3, count / 3], Harm::Remove),
        ("damaged", &[count / 2], Harm::Damage),
    ] {
        println!("{what}");
        let case = tempfile::tempdir().unwrap();
        copy_all(folder.path(), case.path());
        for number in numbers {
            harm_commit(&case.path().join("log").join(name), *number, &harm);
        }
        // A sealed segment is not read by a start.
        let (store, threads) = open_still(case.path());
        assert_eq!(store.recovery_events(), [], "{what}");
        let gone = missing(&store);
        assert!(!gone.is_empty(), "{what}");
        assert_eq!(ledger(&store), BTreeSet::new(), "{what}");
        threads.close();
        drop(store);

        fs::remove_dir_all(case.path().join("meta")).unwrap();
        let (store, threads) = open_still(case.path());
        let is_cut = |event: &RecoveryEvent| matches!(event, RecoveryEvent::SegmentCut { .. });
        let events = store.recovery_events();
        assert_eq!(
            events.iter().filter(|event| is_cut(event)).count(),
            1,
            "{what}: {events:?}"
        );
        assert_eq!(missing(&store), gone, "{what}");
        assert_eq!(ledger(&store), gone, "{what}");
        threads.close();
        drop(store);

        let (store, threads) = open_still(case.path());
        assert_eq!(store.recovery_events(), [], "{what}: told once");
        assert_eq!(missing(&store), gone, "{what}");
        assert_eq!(ledger(&store), gone, "{what}: noted once");
        threads.close();
        drop(store);

        // It is read once more.
        fs::remove_dir_all(case.path().join("meta")).unwrap();
        let (store, threads) = open_still(case.path());
        assert_eq!(missing(&store), gone, "{what}");
        assert_eq!(ledger(&store), gone, "{what}: noted once");
        threads.close();
    }
}

/// A leap is told as the loss of an end, a hole behind it is not.
#[test]
fn hole_in_a_copy_behind_a_leap_is_not_taken_for_a_lost_end() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (store, threads) = open_still(folder.path());
        append_many(&store, "long", 0..5, 100);
        threads.close();
    }
    // The end that the segment before it knows of.
    fs::remove_dir_all(folder.path().join("log/0000000002")).unwrap();
    let copy = fill(folder.path());
    let count = pieces(&copy);
    harm_commit(&copy, count / 2, &Harm::Remove);
    let (store, threads) = open_still(folder.path());
    let long = partitions(&store)[1];
    let leapt = store.gaps()[0].clone();
    let (_, gaps) = read_with_gaps(&store, long);
    let reasons: Vec<_> = gaps.iter().map(|gap| gap.2).collect();
    assert!(leapt.at_most && leapt.reason == GapReason::LostEnd);
    assert_eq!(
        reasons,
        [GapReason::LostEnd, GapReason::Quarantine],
        "{gaps:?}"
    );
    threads.close();
}
