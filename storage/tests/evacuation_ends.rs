//! Copying comes to an end: what sled adds to a copy of small commits it would add to a copy of that
//! copy, too, so that a log may take much more than is live in it with nothing to be gained.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use std::path::Path;

use storage::{LogOptions, Store, StoreOptions, StoreThreads};
use support::{append, append_many, options, read_all, wait_for};

/// Segments, each with so many commits of a record of `long`.
const ROUNDS: usize = 4;
const LONG: usize = 1200;

fn open_with(folder: &Path, kept_of_short: u64, bytes_per_second: u64) -> (Store, StoreThreads) {
    let options = StoreOptions {
        evacuation_bytes_per_second: bytes_per_second,
        segment_bytes: 4 << 20,
        ..options()
    };
    let log = |name: &str, retention_bytes| LogOptions {
        retention_bytes,
        ..LogOptions::new(name, 1)
    };
    let logs = [log("short", kept_of_short), log("long", 1 << 30)];
    Store::open(folder, options, &logs).unwrap()
}

/// One commit for each.
fn append_alone(store: &Store, log: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let appended = append(store, log, "key", &format!("{number:>100}"));
        store.wait_durable(appended.commit).unwrap();
    }
}

#[test]
fn copy_of_small_commits_is_not_copied_again() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        // A life is a segment.
        let (store, threads) = open_with(folder.path(), 1 << 30, 0);
        append_many(&store, "short", 0..2500, 1000);
        append_alone(&store, "long", round * LONG..(round + 1) * LONG);
        threads.close();
    }
    let (store, threads) = open_with(folder.path(), 1, u64::MAX);
    wait_for("evacuation", || store.counters().evacuated_segments() > 0);
    // Time for a planner that never has enough.
    append_alone(&store, "long", ROUNDS * LONG..(ROUNDS + 1) * LONG);
    let long = store.log("long").unwrap().partitions().next().unwrap();
    let records = read_all(&store, long).len();
    assert_eq!(records, (ROUNDS + 1) * LONG);
    let copied = store.counters().evacuated_bytes();
    // A record has less than 250 bytes in its commit; one of two copies may be put to the other.
    let once = (ROUNDS * LONG * 250) as u64;
    assert!(copied <= once * 2, "{copied} bytes copied of {once}");
    threads.close();
}
