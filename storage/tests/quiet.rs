//! What a gateway keeps in memory when nothing has come for a while.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use storage::{LogOptions, LogPartition, Store, StoreOptions, StoreThreads};
use support::halves::partition;
use support::{append_many, options, read_all, wait_for};

/// Bytes of records that make a segment large enough to be closed; segments have a mebibyte.
const MUCH: usize = 300 * 1000;

fn open(path: &Path, quiet_after: Option<Duration>) -> (Store, StoreThreads, LogPartition) {
    let options = StoreOptions {
        quiet_after,
        ..options()
    };
    let (store, threads) = Store::open(path, options, &[LogOptions::new("a", 1)]).unwrap();
    let partition = partition(&store, "a");
    (store, threads, partition)
}

fn append_of(store: &Store, first: usize, bytes: usize) -> usize {
    append_many(store, "a", first..first + bytes / 1000, 1000);
    first + bytes / 1000
}

/// Offsets are dense, and each record is the one that it was.
fn assert_has(store: &Store, partition: LogPartition, records: usize) {
    let found = read_all(store, partition);
    let numbers = found.iter().map(|(offset, text)| {
        let number: usize = text.trim().parse().unwrap();
        assert_eq!(*offset, number as u64);
        number
    });
    assert!(numbers.eq(0..records), "{} of {records}", found.len());
}

#[test]
fn segment_of_a_quiet_store_is_closed_and_nothing_of_it_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads, partition) = open(folder.path(), Some(Duration::from_millis(20)));
    let mut records = 0;
    for round in 1..=3 {
        let segments = store.status().segments;
        records = append_of(&store, records, MUCH);
        wait_for("a new segment", || store.status().segments > segments);
        wait_for("closed segments", || store.status().segments_open == 1);
        assert!(store.status().bytes >= (round * MUCH) as u64);
    }
    assert_has(&store, partition, records);
    threads.close();
    drop(store);

    let (store, threads, partition) = open(folder.path(), Some(Duration::from_millis(20)));
    assert_has(&store, partition, records);
    records = append_of(&store, records, MUCH);
    assert_has(&store, partition, records);
    threads.close();
}

/// Each would be looked into by readers for as long as it is kept.
#[test]
fn segment_with_little_in_it_is_gone_on_with_however_quiet_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads, partition) = open(folder.path(), Some(Duration::ZERO));
    let mut records = 0;
    for _ in 0..10 {
        records = append_of(&store, records, 10_000);
    }
    assert_eq!(store.status().segments, 1);
    assert_has(&store, partition, records);
    threads.close();
}

#[test]
fn segment_stays_open_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads, _) = open(folder.path(), None);
    let mut records = append_of(&store, 0, MUCH);
    // Each of these finds the committer with nothing to do.
    for _ in 0..10 {
        records = append_of(&store, records, 1000);
    }
    assert_eq!((store.status().segments, records), (1, 310));
    threads.close();
}
