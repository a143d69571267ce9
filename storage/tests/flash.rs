//! The account of the flash as its readers see it: by days, across restarts, without a clock.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage::{FlashStatus, LogOptions, Store, StoreOptions, StoreThreads};
use support::{FakeClock, append_many, options};

const DAY: Duration = Duration::from_secs(86_400);

fn open(path: &Path, clock: &Arc<FakeClock>) -> (Store, StoreThreads) {
    let options = StoreOptions {
        clock: Arc::<FakeClock>::clone(clock),
        ..options()
    };
    Store::open(path, options, &[LogOptions::new("a", 1)]).unwrap()
}

/// Opens the folder, appends this many records of 100 bytes, and closes it.
fn session(path: &Path, clock: &Arc<FakeClock>, records: usize) -> FlashStatus {
    let (store, threads) = open(path, clock);
    if records > 0 {
        append_many(&store, "a", 0..records, 100);
    }
    let status = store.status().flash;
    threads.close();
    status
}

#[test]
fn account_is_kept_by_days_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    clock.set(|times| times.error_ms = Some(1));
    session(folder.path(), &clock, 10);
    let again = session(folder.path(), &clock, 5);
    assert_eq!(again.since_start.payload_bytes, 500);
    let today = again.today.unwrap();
    assert_eq!((today.records, today.payload_bytes), (15, 1500));
    assert_eq!((again.yesterday, again.average_day), (None, None));
    assert!(today.commit_bytes > today.payload_bytes);
    assert!(today.written_bytes > today.commit_bytes);
    assert!(today.syncs >= today.commits);

    clock.set(|times| times.pass(DAY));
    let next = session(folder.path(), &clock, 0);
    assert_eq!(next.today.unwrap().records, 0);
    assert_eq!(next.yesterday.unwrap().records, 15);
    assert_eq!(next.average_day.unwrap().payload_bytes, 1500);
}

#[test]
fn account_stands_under_no_day_while_the_clock_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    session(folder.path(), &clock, 4);
    let status = session(folder.path(), &clock, 3);
    assert_eq!((status.today, status.yesterday), (None, None));
    assert_eq!(status.unknown_day.records, 7);
}

#[test]
fn folder_that_is_only_looked_at_is_not_written_for_the_account() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    session(folder.path(), &clock, 4);
    let durable = || {
        let (store, threads) = open(folder.path(), &clock);
        let durable = store.durable();
        threads.close();
        durable
    };
    assert_eq!(durable(), durable());
}
