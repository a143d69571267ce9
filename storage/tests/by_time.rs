//! Finding where a time begins in the log.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage::{
    ClockSource, CommitNumber, LogOptions, RELEASE_TIME_MS, Store, StoreOptions, StoreThreads,
};
use support::{FakeClock, append, options};

const MINUTE: Duration = Duration::from_secs(60);

fn open(path: &Path, clock: &Arc<FakeClock>) -> (Store, StoreThreads) {
    let options = StoreOptions {
        clock: Arc::clone(clock) as Arc<dyn ClockSource>,
        ring_bytes_max: 1,
        ..options()
    };
    Store::open(path, options, &[LogOptions::new("a", 1)]).unwrap()
}

fn found(store: &Store, at_ms: i64) -> CommitNumber {
    let mut reader = store.commit_reader(CommitNumber(0));
    reader.seek_to_time(at_ms).unwrap();
    reader.next_commit()
}

/// Appends records with a minute between two of them; their times and commits.
fn append_by_minutes(store: &Store, clock: &FakeClock, count: u64) -> Vec<(i64, CommitNumber)> {
    let appended = (0..count).map(|number| {
        clock.set(|times| times.pass(MINUTE));
        let payload = format!("{number:020000}");
        let appended = append(store, "a", "key", &payload);
        store.wait_durable(appended.commit).unwrap();
        (store.now().ms, appended.commit)
    });
    appended.collect()
}

fn expect_found(store: &Store, appended: &[(i64, CommitNumber)]) {
    let mut before = CommitNumber(0);
    for (at_ms, commit) in appended {
        assert_eq!(found(store, *at_ms), *commit);
        let between = found(store, at_ms - 1);
        assert!(
            before < between && between <= *commit,
            "{between} for {commit}"
        );
        before = *commit;
    }
    let end = store.durable().next();
    assert_eq!(found(store, appended.last().unwrap().0 + 1), end);
    assert_eq!(found(store, i64::MAX), end);
    let first = store.commit_reader(CommitNumber(0)).read(1).unwrap();
    let first = first.first().unwrap().number();
    assert!(found(store, i64::MIN) >= first);
    assert!(found(store, i64::MIN) <= appended.first().unwrap().1);
}

#[test]
fn time_is_found_in_every_segment_and_after_a_restart() {
    let clock = FakeClock::new();
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &clock);
    let mut appended = append_by_minutes(&store, &clock, 300);
    assert!(store.status().segments > 3, "{}", store.status().segments);
    expect_found(&store, &appended);
    threads.close();
    drop(store);
    clock.set(|times| {
        times.boot = 2;
        times.since_boot_ms = 5_000;
    });
    let (store, threads) = open(folder.path(), &clock);
    appended.extend(append_by_minutes(&store, &clock, 20));
    expect_found(&store, &appended);
    threads.close();
}

/// What was written with a clock of 1970 is put right when the time is known.
#[test]
fn times_are_those_that_are_known_later() {
    let clock = FakeClock::new();
    clock.set(|times| {
        times.wall_ms = 4_000;
        times.error_ms = None;
    });
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &clock);
    let before = append_by_minutes(&store, &clock, 5);
    assert!(
        before
            .iter()
            .all(|(ms, _)| *ms < RELEASE_TIME_MS + 3_600_000)
    );
    let real_ms = RELEASE_TIME_MS + 500 * 86_400_000;
    clock.set(|times| {
        times.wall_ms = real_ms;
        times.error_ms = Some(5);
    });
    support::wait_for("a known time", || store.now().ms >= real_ms);
    let off_ms = store.now().ms - before.last().unwrap().0;
    let appended: Vec<_> = before
        .iter()
        .map(|(ms, commit)| (ms + off_ms, *commit))
        .collect();
    assert_eq!(found(&store, before.last().unwrap().0 + 1), appended[0].1);
    expect_found(&store, &appended);
    threads.close();
}
