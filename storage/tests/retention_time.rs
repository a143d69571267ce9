//! Retention by age on a machine whose clock may be wrong; and removal under load.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use storage::{ClockSource, LogOptions, Offset, Store, StoreOptions, StoreThreads};
use support::{FakeClock, Times, append, append_many, options, wait_for};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A clock that tests set, and that counts the keeper's rounds: each asks once how wrong it is.
#[derive(Debug)]
struct CountingClock {
    clock: Arc<FakeClock>,
    rounds: AtomicU64,
}

impl CountingClock {
    fn new() -> Arc<Self> {
        let clock = FakeClock::new();
        clock.set(|times| times.error_ms = Some(5));
        Arc::new(Self {
            clock,
            rounds: AtomicU64::new(0),
        })
    }

    /// Sets the clock and lets the keeper look around, so often that all that comes of it is durable.
    fn set_and_wait(&self, change: impl FnOnce(&mut Times)) {
        self.clock.set(change);
        let from = self.rounds.load(Ordering::SeqCst);
        wait_for("three rounds of the keeper", || {
            self.rounds.load(Ordering::SeqCst) >= from + 3
        });
    }

    fn boot(&self, number: u8, off: Duration) {
        self.clock.set(|times| {
            times.pass(off);
            times.boot = number;
            times.since_boot_ms = 5000;
        });
    }
}

impl ClockSource for CountingClock {
    fn boot_id(&self) -> [u8; 16] {
        self.clock.boot_id()
    }

    fn since_boot_ms(&self) -> i64 {
        self.clock.since_boot_ms()
    }

    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn wall_error_ms(&self) -> Option<u64> {
        self.rounds.fetch_add(1, Ordering::SeqCst);
        self.clock.wall_error_ms()
    }
}

fn open(path: &Path, clock: &Arc<CountingClock>) -> (Store, StoreThreads) {
    let options = StoreOptions {
        clock: Arc::clone(clock) as Arc<dyn ClockSource>,
        ..options()
    };
    let log = LogOptions {
        retention_age: Some(DAY),
        ..LogOptions::new("a", 1)
    };
    Store::open(path, options, &[log]).unwrap()
}

/// A folder with five segments of an earlier boot.
fn boot_with_records(clock: &Arc<CountingClock>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), clock);
    append_many(&store, "a", 0..5000, 1000);
    threads.close();
    folder
}

fn start(store: &Store) -> Offset {
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    store.log_start(partition)
}

#[test]
fn after_a_month_switched_off_old_segments_go_one_an_hour_and_not_at_once() {
    let clock = CountingClock::new();
    let folder = boot_with_records(&clock);
    clock.boot(2, 30 * DAY);
    let (store, threads) = open(folder.path(), &clock);
    append_many(&store, "a", 0..10, 10);
    clock.set_and_wait(|_| {});
    clock.set_and_wait(|times| times.pass(29 * MINUTE));
    assert_eq!(start(&store), Offset(0), "not confirmed");
    clock.set_and_wait(|times| times.pass(2 * MINUTE));
    let first = start(&store);
    assert!(
        first > Offset(0) && first < Offset(2000),
        "one segment of 1000 records: {first}"
    );
    clock.set_and_wait(|times| times.pass(30 * MINUTE));
    assert_eq!(start(&store), first, "within the hour");
    clock.set_and_wait(|times| times.pass(31 * MINUTE));
    let second = start(&store);
    assert!(second > first && second < Offset(3000), "{second}");
    // A day after the boot they are old by any clock.
    clock.set_and_wait(|times| times.pass(DAY));
    assert!(start(&store) >= Offset(4000), "{}", start(&store));
    threads.close();
}

#[test]
fn wrong_answer_of_a_time_service_removes_nothing_if_it_is_put_right_in_time() {
    let clock = CountingClock::new();
    let folder = boot_with_records(&clock);
    clock.boot(2, 3650 * DAY);
    let (store, threads) = open(folder.path(), &clock);
    append_many(&store, "a", 0..10, 10);
    clock.set_and_wait(|times| times.pass(20 * MINUTE));
    assert!(store.now().ms > storage::RELEASE_TIME_MS + 3000 * 86_400_000);
    clock.set_and_wait(|times| times.wall_ms -= 3649 * 86_400_000 + 86_400_000 / 2);
    assert!(
        store.now().ms < storage::RELEASE_TIME_MS + 2 * 86_400_000,
        "the store follows"
    );
    clock.set_and_wait(|times| times.pass(5 * 60 * MINUTE));
    assert_eq!(start(&store), Offset(0));
    threads.close();
}

#[test]
fn step_of_the_clock_makes_nothing_of_this_boot_older() {
    let clock = CountingClock::new();
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &clock);
    append_many(&store, "a", 0..5000, 1000);
    for frozen in [false, true] {
        if frozen {
            let partition = store.log("a").unwrap().partitions().next().unwrap();
            let era = *support::eras(&store, partition).last().unwrap();
            store.wait_durable(store.freeze_era(era).unwrap()).unwrap();
        }
        clock.set_and_wait(|times| times.wall_ms += 3650 * 86_400_000);
        append_many(&store, "a", 0..10, 10);
        clock.set_and_wait(|times| times.pass(60 * MINUTE));
        clock.set_and_wait(|times| times.pass(60 * MINUTE));
        assert_eq!(start(&store), Offset(0));
    }
    clock.set_and_wait(|times| times.pass(DAY));
    // All but the newest segment, of which a MiB holds a thousand of these records.
    assert!(
        start(&store) >= Offset(3900),
        "really old: {}",
        start(&store)
    );
    threads.close();
}

#[test]
fn segments_are_removed_while_others_are_filled() {
    let folder = tempfile::tempdir().unwrap();
    let log = LogOptions {
        retention_bytes: 2 << 20,
        ..LogOptions::new("a", 1)
    };
    let (store, threads) = Store::open(folder.path(), options(), &[log]).unwrap();
    let payload = "x".repeat(64 * 1024);
    let mut most = 0;
    for _ in 0..60 {
        let before = start(&store);
        for _ in 0..17 {
            append(&store, "a", "k", &payload);
        }
        // No round of the keeper is without a start that moves.
        if most > 3 {
            wait_for("retention", || start(&store) > before);
        }
        most = most.max(store.status().segments);
    }
    assert!(most < 20, "there were {most} segments at a time");
    threads.close();
}

/// What is known of the boot before says nothing of now.
#[test]
fn nothing_is_too_old_while_the_clock_is_not_known() {
    let clock = CountingClock::new();
    let folder = boot_with_records(&clock);
    clock.boot(2, 30 * DAY);
    clock.clock.set(|times| times.error_ms = None);
    let (store, threads) = open(folder.path(), &clock);
    append_many(&store, "a", 0..10, 10);
    clock.set_and_wait(|times| times.pass(5 * DAY));
    assert_eq!(start(&store), Offset(0));
    clock.set_and_wait(|times| times.error_ms = Some(5));
    assert!(start(&store) >= Offset(4000), "{}", start(&store));
    threads.close();
}

/// Two boots look like one there; its time since boot has nothing to do with the other's.
#[test]
fn machine_without_boot_ids_takes_what_it_finds_for_that_of_an_earlier_boot() {
    let clock = CountingClock::new();
    clock.boot(0, Duration::ZERO);
    let folder = boot_with_records(&clock);
    clock.boot(0, 30 * DAY);
    let (store, threads) = open(folder.path(), &clock);
    append_many(&store, "a", 0..10, 10);
    clock.set_and_wait(|_| {});
    clock.set_and_wait(|times| times.pass(31 * MINUTE));
    let first = start(&store);
    assert!(first > Offset(0) && first < Offset(2000), "{first}");
    threads.close();
}
