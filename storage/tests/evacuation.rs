//! Segments with little live data are copied together: nothing that is live changes for a reader,
//! whatever a crash leaves, and the space comes back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use storage::{LogOptions, LogPartition, Offset, RecoveryEvent, Store, StoreOptions, StoreThreads};
use support::halves::{open_for, remove_empty, settle, wait_for_copy};
use support::{append_many, open, read_all, wait_for};

fn logs() -> [LogOptions; 2] {
    let short = LogOptions {
        retention_bytes: 2 << 20,
        ..LogOptions::new("short", 1)
    };
    [short, LogOptions::new("long", 1)]
}

fn partition(store: &Store, log: &str) -> LogPartition {
    store.log(log).unwrap().partitions().next().unwrap()
}

/// Names of the segments' directories.
fn directories(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("log")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn evacuated(folder: &Path) -> Vec<String> {
    let mut names = directories(folder);
    names.retain(|name| name.contains('.'));
    names
}

/// Segments that hold much of a log of which little is kept, and a little of one that is kept.
fn turn_over(store: &Store, rounds: std::ops::Range<usize>) {
    for round in rounds {
        append_many(store, "long", round * 50..(round + 1) * 50, 1000);
        append_many(store, "short", round * 1500..(round + 1) * 1500, 1000);
    }
}

fn expected(rounds: usize) -> Vec<(u64, String)> {
    (0..rounds * 50)
        .map(|number| (number as u64, format!("{number:>1000}")))
        .collect()
}

fn filled(rounds: usize) -> (tempfile::TempDir, Store, StoreThreads) {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    turn_over(&store, 0..rounds);
    (folder, store, threads)
}

fn wait_for_few(folder: &Path, segments: usize) {
    wait_for("evacuation", || {
        !evacuated(folder).is_empty() && directories(folder).len() <= segments
    });
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Looks without evacuating: a copy that is begun anew may have its sources beside it when the store is closed.
fn check(folder: &Path, rounds: usize) {
    let kept = logs().map(|log| LogOptions {
        retention_bytes: 1 << 30,
        ..log
    });
    let has_metadata = folder.join("meta").exists();
    let (store, threads) = open_for(folder, &kept, false);
    let told = match has_metadata {
        true => vec![],
        false => vec![RecoveryEvent::MetadataMissing],
    };
    assert_eq!(store.recovery_events(), told);
    assert_eq!(store.gaps(), []);
    let long = partition(&store, "long");
    assert_eq!(store.log_start(long), Offset(0));
    assert_eq!(read_all(&store, long), expected(rounds));
    let short = partition(&store, "short");
    let read = read_all(&store, short);
    assert_eq!(
        read.len() as u64,
        store.high_watermark(short).since(store.log_start(short))
    );
    threads.close();
}

#[test]
fn live_records_stay_where_they_are_and_the_space_comes_back() {
    let (folder, store, threads) = filled(12);
    let long = partition(&store, "long");
    wait_for_few(folder.path(), 8);
    assert_eq!(read_all(&store, long), expected(12));
    assert!(store.counters().evacuated_segments() >= 8);
    // Copies of copies.
    turn_over(&store, 12..24);
    wait_for("a copy of a copy", || {
        let names = evacuated(folder.path());
        names
            .iter()
            .any(|name| !name.ends_with(".1") && !name.ends_with(".new"))
    });
    assert_eq!(read_all(&store, long), expected(24));
    threads.close();
    drop(store);
    check(folder.path(), 24);
}

#[test]
fn reader_inside_an_evacuated_segment_goes_on() {
    let (folder, store, threads) = filled(4);
    let long = partition(&store, "long");
    let mut reader = store.partition_reader(long, Offset(0));
    let mut found = Vec::new();
    let mut step = |reader: &mut storage::PartitionReader| {
        let storage::Read::Batches(batches) = reader.read(1).unwrap() else {
            return false;
        };
        for batch in batches {
            let header = batch.batch.header();
            let (base, next) = (header.base_offset, header.next_offset());
            found.extend((base..next).map(|offset| u64::try_from(offset).unwrap()));
        }
        true
    };
    assert!(step(&mut reader));
    turn_over(&store, 4..12);
    wait_for_copy(folder.path());
    while step(&mut reader) {}
    assert_eq!(found, (0..600).collect::<Vec<_>>());
    threads.close();
}

/// A folder as a crash may leave it: the copy and what it was made of, the index before or after.
fn half_state() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let (before, after) = (parent.path().join("before"), parent.path().join("after"));
    let folder = tempfile::tempdir().unwrap();
    let without = StoreOptions {
        evacuation_bytes_per_second: 0,
        ..support::options()
    };
    let (store, threads) = Store::open(folder.path(), without, &logs()).unwrap();
    turn_over(&store, 0..12);
    threads.close();
    drop(store);
    assert_eq!(evacuated(folder.path()), [] as [String; 0]);
    copy_tree(folder.path(), &before);
    remove_empty(&before);
    let (store, threads) = open(folder.path(), &logs());
    wait_for_copy(folder.path());
    threads.close();
    drop(store);
    settle(folder.path(), &logs());
    copy_tree(folder.path(), &after);
    (parent, before, after)
}

#[test]
fn every_step_of_an_evacuation_can_be_the_last_before_a_crash() {
    let (_parent, before, after) = half_state();
    let copies = evacuated(&after);
    assert!(!copies.is_empty());
    let add_copies = |folder: &Path, ending: &str| {
        for name in &copies {
            let from = after.join("log").join(name);
            copy_tree(&from, &folder.join("log").join(format!("{name}{ending}")));
        }
    };
    let case = |name: &str, base: &Path, change: &dyn Fn(&Path)| {
        println!("{name}");
        let folder = tempfile::tempdir().unwrap();
        copy_tree(base, folder.path());
        change(folder.path());
        check(folder.path(), 12);
        let left = directories(folder.path());
        assert!(left.iter().all(|name| !name.ends_with(".new")), "{left:?}");
        for copy in left.iter().filter(|name| name.contains('.')) {
            let written = left.iter().filter(|name| !name.contains('.'));
            let twice: Vec<_> = written.filter(|name| is_covered(copy, name)).collect();
            assert_eq!(twice, [] as [&String; 0], "{name}: {copy} is there");
        }
    };
    let add_old = |folder: &Path| {
        for name in directories(&before) {
            let is_covered = copies.iter().any(|copy| is_covered(copy, &name));
            if is_covered && !folder.join("log").join(&name).exists() {
                copy_tree(
                    &before.join("log").join(&name),
                    &folder.join("log").join(&name),
                );
            }
        }
    };
    let no_metadata = |folder: &Path| fs::remove_dir_all(folder.join("meta")).unwrap();
    case("copy not complete", &before, &|f| add_copies(f, ".new"));
    case("switched, old ones there", &after, &add_old);
    case("metadata lost", &after, &no_metadata);
    case("metadata lost, old ones there", &after, &|f| {
        add_old(f);
        no_metadata(f);
    });
    // Of `before`, which is whole: of a later folder the index of `before` knows too little.
    case(
        "old ones removed, the index not switched",
        &before,
        &|folder| {
            add_copies(folder, "");
            for name in directories(&before) {
                if copies.iter().any(|copy| is_covered(copy, &name)) {
                    fs::remove_dir_all(folder.join("log").join(&name)).unwrap();
                }
            }
        },
    );
}

fn is_covered(copy: &str, name: &str) -> bool {
    let (first, rest) = copy.split_once('-').unwrap();
    (first..=rest.split_once('.').unwrap().0).contains(&name)
}
