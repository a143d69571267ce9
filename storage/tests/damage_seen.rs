//! Damage that somebody meets in a sealed segment while the gateway runs is counted as long as the
//! segment is there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use storage::{CommitNumber, LogOptions, Offset, Read, Store, StoreOptions, StoreThreads};
use support::damage::{Damage, cut, length, zero_block};
use support::evacuated_folder::{Harm, harm_commit};
use support::template::{BLOCK, read_with_gaps, snapshots, template};
use support::{append_many, options, wait_for};

const MIB: u64 = 1 << 20;

const DAMAGE: [Damage; 4] = [
    ("cut", |segment| {
        without_snapshot(segment);
        let file = segment.join("db");
        cut(&file, length(&file) / 2);
    }),
    ("a block zeroed", |segment| {
        without_snapshot(segment);
        let file = segment.join("db");
        let blocks = usize::try_from(length(&file)).unwrap() / BLOCK;
        zero_block(&file, blocks / 3);
    }),
    ("a piece spoiled", |segment| {
        harm_commit(segment, 10, &Harm::Damage)
    }),
    ("not to be opened", |segment| {
        // sled has a directory of this name.
        fs::remove_dir_all(segment.join("blobs")).unwrap();
        fs::write(segment.join("blobs"), b"").unwrap();
    }),
];

fn without_snapshot(segment: &Path) {
    for path in snapshots(segment) {
        fs::remove_file(path).unwrap();
    }
}

/// The template's logs, with room for what the template has and some more. Nobody reads but the test.
fn open(folder: &Path) -> (Store, StoreThreads) {
    let options = StoreOptions {
        evacuation_bytes_per_second: 0,
        ..options()
    };
    let log = |name: &str, partitions, mib: u64| LogOptions {
        retention_bytes: mib * MIB,
        ..LogOptions::new(name, partitions)
    };
    Store::open(folder, options, &[log("a", 2, 5), log("b", 1, 2)]).unwrap()
}

fn read_all(store: &Store) {
    for partition in store.logs().iter().flat_map(|log| log.partitions()) {
        read_with_gaps(store, partition);
    }
}

fn seen(store: &Store) -> (usize, Vec<String>) {
    let damaged = store.status().damaged_segments;
    (damaged.count, damaged.first)
}

#[test]
fn damaged_segment_is_counted_from_when_it_is_read_until_retention_takes_it() {
    for (what, damage) in DAMAGE {
        let copy = template().copy();
        damage(&copy.segment(1));
        let name = template().segments[1].name.clone();
        let (store, threads) = open(copy.path());
        assert_eq!(seen(&store), (0, vec![]), "{what}: nobody looked");
        for _ in 0..2 {
            read_all(&store);
            assert_eq!(seen(&store), (1, vec![name.clone()]), "{what}");
        }
        for first in (0..400).map(|round| round * 20) {
            append_many(&store, "a", first..first + 20, 1000);
            append_many(&store, "b", first..first + 20, 1000);
        }
        wait_for("retention", || !copy.segment(1).exists());
        assert_eq!(seen(&store), (0, vec![]), "{what}: it is gone");
        threads.close();
    }
}

#[test]
fn damaged_segment_is_counted_when_verify_finds_it() {
    for (what, damage) in DAMAGE {
        let copy = template().copy();
        damage(&copy.segment(1));
        let (store, threads) = open(copy.path());
        store.verify(None, |_| ControlFlow::Continue(()));
        assert_eq!(seen(&store).0, 1, "{what}");
        threads.close();
    }
}

/// The first commit in the template's segment 1 with records.
fn first_commit() -> CommitNumber {
    let copy = template().copy();
    let (store, threads) = open(copy.path());
    let commits = template().offsets(1).into_iter().map(|(partition, range)| {
        let mut reader = store.partition_reader(partition, Offset(range.start));
        match reader.read(1).unwrap() {
            Read::Batches(batches) => batches[0].commit,
            other => panic!("{other:?}"),
        }
    });
    let first = commits.min().unwrap();
    threads.close();
    first
}

#[test]
fn segment_is_counted_when_it_is_opened_though_nobody_reads_up_to_the_damage() {
    let copy = template().copy();
    DAMAGE[1].1(&copy.segment(1));
    let (store, threads) = open(copy.path());
    let first = first_commit();
    let read = store.commit_reader(first).read(1).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].number(), first);
    assert_eq!(seen(&store).0, 1);
    threads.close();
}

#[test]
fn nothing_is_counted_in_a_whole_folder() {
    let copy = template().copy();
    let (store, threads) = open(copy.path());
    read_all(&store);
    store.verify(None, |_| ControlFlow::Continue(()));
    assert_eq!(seen(&store), (0, vec![]));
    threads.close();
}
