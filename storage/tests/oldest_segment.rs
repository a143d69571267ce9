//! What is told of the oldest segment: which logs keep it, and why they may.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use storage::{
    KeptBy, LogInSegment, LogOptions, Offset, OldestSegment, Stage, Store, StoreOptions,
};
use support::full_log::{fill, reject};
use support::halves::{open_for, partition};
use support::{FakeClock, append_many, open, options, wait_for};

const MIB: u64 = 1 << 20;

fn log(name: &str, mib: u64) -> LogOptions {
    LogOptions {
        retention_bytes: mib * MIB,
        ..LogOptions::new(name, 1)
    }
}

fn rejecting(name: &str, mib: u64, pins: &[&str]) -> LogOptions {
    LogOptions {
        on_full: reject(pins),
        ..log(name, mib)
    }
}

fn oldest(store: &Store) -> OldestSegment {
    store.status().oldest_segment.unwrap()
}

fn only<'a>(oldest: &'a OldestSegment, name: &str) -> &'a LogInSegment {
    assert_eq!(oldest.logs.len(), 1, "{oldest:?}");
    assert_eq!(oldest.logs[0].name, name);
    &oldest.logs[0]
}

#[test]
fn segment_that_is_written_to_is_named_with_the_logs_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &[log("a", 4), log("b", 8)]);
    let empty = oldest(&store);
    assert_eq!(
        (empty.stage, empty.age, empty.live_bytes),
        (Stage::Written, None, 0)
    );
    assert_eq!(empty.logs, []);
    append_many(&store, "a", 0..30, 1000);
    append_many(&store, "b", 0..10, 1000);
    let found = oldest(&store);
    assert_eq!(found.stage, Stage::Written);
    assert!(found.live_bytes > 40_000 && found.live_bytes <= found.bytes);
    let names: Vec<_> = found.logs.iter().map(|log| log.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    for (log, (records, mib)) in found.logs.iter().zip([(30, 4), (10, 8)]) {
        assert!(log.live_bytes > records * 1000 && log.live_bytes < records * 1300);
        assert_eq!(
            (log.log_bytes, log.retention_bytes),
            (log.live_bytes, mib * MIB)
        );
        assert_eq!(
            (log.kept_by, log.pins.as_slice()),
            (KeptBy::Retention, &[][..])
        );
    }
    threads.close();
}

#[test]
fn log_within_its_retention_keeps_the_segments_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let logs = [log("small", 2), log("large", 1024)];
    let (store, threads) = open_for(folder.path(), &logs, false);
    append_many(&store, "large", 0..10, 1000);
    append_many(&store, "small", 0..6000, 1000);
    wait_for("retention", || {
        let found = oldest(&store);
        found.logs.len() == 1 && found.stage == Stage::Sealed
    });
    let found = oldest(&store);
    assert_eq!(found.id, found.last);
    // Ten records, alone in it if the next commit was too large for the rest of the segment.
    assert!((10_000..13_000).contains(&found.live_bytes), "{found:?}");
    let large = only(&found, "large");
    assert_eq!(large.kept_by, KeptBy::Retention);
    assert_eq!(large.live_bytes, found.live_bytes);
    threads.close();
}

#[test]
fn pin_that_keeps_it_is_named_with_what_it_still_needs() {
    let folder = tempfile::tempdir().unwrap();
    let logs = [rejecting("a", 2, &["ahead", "behind"]), log("beside", 64)];
    let (store, threads) = open_for(folder.path(), &logs, false);
    let a = partition(&store, "a");
    append_many(&store, "a", 0..900, 1000);
    // It has all there is.
    store.pin("ahead").set(a, store.high_watermark(a));
    let within = oldest(&store);
    let log = only(&within, "a");
    assert_eq!(log.kept_by, KeptBy::Retention);
    let names: Vec<_> = log.pins.iter().map(|pin| pin.name.as_str()).collect();
    assert_eq!(names, ["behind"]);
    store.pin("ahead").set(a, Offset(u64::MAX));
    let records = fill(&store, a);
    let behind = store.pin("behind");
    behind.set(a, Offset(100));
    let found = oldest(&store);
    let log = only(&found, "a");
    assert_eq!(log.kept_by, KeptBy::Pins);
    assert!(log.log_bytes > log.retention_bytes);
    assert_eq!(log.pins.len(), 1, "{log:?}");
    let pin = &log.pins[0];
    assert_eq!((pin.name.as_str(), pin.records), ("behind", records - 100));
    let about = log.log_bytes * (records - 100) / records;
    assert!(pin.bytes.abs_diff(about) < about / 50, "{pin:?} {about}");
    // It lets go of the first segment, which may have two commits of a MiB at most.
    behind.set(a, Offset(records - 100));
    wait_for("room", || store.full_logs().is_empty());
    // It is durable a commit after there is room.
    wait_for("the log start", || store.log_start(a) > Offset(0));
    threads.close();
}

#[test]
fn log_that_rejects_without_a_pin_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let logs = [rejecting("a", 2, &[]), log("beside", 64)];
    let (store, threads) = open_for(folder.path(), &logs, false);
    fill(&store, partition(&store, "a"));
    let found = oldest(&store);
    let log = only(&found, "a");
    assert_eq!((log.kept_by, log.pins.len()), (KeptBy::OnFull, 0));
    threads.close();
}

#[test]
fn age_is_that_of_the_newest_record_and_counts_with_a_known_clock_only() {
    for known in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let clock = FakeClock::new();
        if known {
            clock.set(|times| times.error_ms = Some(5));
        }
        let options = StoreOptions {
            clock: clock.clone(),
            ..options()
        };
        let day = Duration::from_secs(86_400);
        let log = LogOptions {
            retention_age: Some(day),
            ..log("a", 64)
        };
        let (store, threads) = Store::open(folder.path(), options, &[log]).unwrap();
        append_many(&store, "a", 0..3000, 1000);
        clock.set(|times| times.pass(day / 2));
        let kept_by = if known {
            KeptBy::Retention
        } else {
            KeptBy::UnknownAge
        };
        wait_for("the clock", || {
            only(&oldest(&store), "a").kept_by == kept_by
        });
        let found = oldest(&store);
        assert_eq!(found.age, Some(day / 2), "known: {known}");
        assert_eq!(only(&found, "a").retention_age, Some(day));
        threads.close();
    }
}

#[test]
fn segment_that_is_being_copied_elsewhere_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // The copy waits after half a MiB until the store is closed.
    let options = StoreOptions {
        evacuation_bytes_per_second: 1,
        ..options()
    };
    let logs = [log("small", 2), log("large", 1024)];
    let (store, threads) = Store::open(folder.path(), options, &logs).unwrap();
    for round in 0..4 {
        append_many(&store, "large", round * 200..(round + 1) * 200, 1000);
        append_many(&store, "small", 0..750, 1000);
    }
    append_many(&store, "small", 0..6000, 1000);
    wait_for("evacuation", || oldest(&store).stage == Stage::Evacuating);
    assert_eq!(only(&oldest(&store), "large").kept_by, KeptBy::Retention);
    threads.close();
}

#[test]
fn newest_sealed_segment_says_so_until_another_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open_for(folder.path(), &[log("a", 64)], false);
    append_many(&store, "a", 0..100, 1000);
    threads.close();
    drop(store);
    let (store, threads) = open_for(folder.path(), &[log("a", 64)], false);
    let first = oldest(&store);
    assert_eq!(first.stage, Stage::NewestSealed);
    assert_eq!(only(&first, "a").kept_by, KeptBy::Retention);
    append_many(&store, "a", 0..10, 1000);
    threads.close();
    drop(store);
    let (store, threads) = open_for(folder.path(), &[log("a", 64)], false);
    let found = oldest(&store);
    assert_eq!((found.id, found.stage), (first.id, Stage::Sealed));
    threads.close();
}

#[test]
fn newest_sealed_segment_stays_also_when_no_log_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open_for(folder.path(), &[log("a", 64)], false);
    append_many(&store, "a", 0..100, 1000);
    threads.close();
    drop(store);
    let forgets = LogOptions {
        retention_bytes: 1,
        ..log("a", 64)
    };
    let (store, threads) = open_for(folder.path(), &[forgets], false);
    append_many(&store, "a", 0..10, 1000);
    wait_for("the log start", || oldest(&store).logs.is_empty());
    let found = oldest(&store);
    assert_eq!((found.stage, found.live_bytes), (Stage::NewestSealed, 0));
    append_many(&store, "a", 0..1500, 1000);
    wait_for("another one", || oldest(&store).id > found.id);
    threads.close();
}
