//! What gives way when a log has its bytes: its oldest records, or new ones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use storage::{
    AppendError, GapReason, JournalKey, JournalKind, LogOptions, LogPartition, Offset, OnFull,
    Read, Store, StoreThreads,
};
use support::full_log::{fill, reject, try_append};
use support::halves::{open_for, partition};
use support::{append_many, read_from, wait_for};

/// Log `a` of 2 MiB, and a log beside it that drops its oldest records.
fn open(path: &Path, on_full: &OnFull) -> (Store, StoreThreads, LogPartition) {
    let small = |name, on_full| LogOptions {
        retention_bytes: 2 << 20,
        on_full,
        ..LogOptions::new(name, 1)
    };
    let logs = [small("a", on_full.clone()), small("b", OnFull::DropOldest)];
    // A copy of several segments goes whole or not at all; this is about what may go.
    let (store, threads) = open_for(path, &logs, false);
    let partition = partition(&store, "a");
    (store, threads, partition)
}

#[test]
fn log_that_rejects_keeps_what_a_route_has_not_replicated_also_through_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let on_full = reject(&["route", "other route"]);
    let (store, threads, partition) = open(folder.path(), &on_full);
    let route = store.pin("route");
    route.set(partition, Offset(u64::MAX));
    let end = fill(&store, partition);
    assert_eq!(
        store.log_start(partition),
        Offset(0),
        "other route is missing"
    );
    append_many(&store, "b", 0..10, 100);
    threads.close();
    drop((store, route));

    let (store, threads, partition) = open(folder.path(), &on_full);
    wait_for("a full log", || {
        matches!(try_append(&store), Err(AppendError::LogFull { .. }))
    });
    let route = store.pin("route");
    route.set(partition, Offset(u64::MAX));
    let other = store.pin("other route");
    // Two segments hold the log; the first has a little more or less than half of it.
    let replicated = Offset(end * 3 / 4);
    other.set(partition, replicated);
    wait_for("room", || try_append(&store).is_ok());
    // Publishes are let in when it is decided what goes, which is a moment before it is gone.
    wait_for("a log start", || store.log_start(partition) > Offset(0));
    let start = store.log_start(partition);
    assert!(start <= replicated, "{start}");
    assert!(read_from(&store, partition, start.0).len() as u64 >= end - start.0);
    threads.close();
}

#[test]
fn log_that_rejects_without_a_route_refuses_when_it_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads, partition) = open(folder.path(), &reject(&[]));
    let end = fill(&store, partition);
    store.pin("nobody's").set(partition, Offset(u64::MAX));
    append_many(&store, "b", 0..3000, 1000);
    assert_eq!(store.log_start(partition), Offset(0));
    assert!(matches!(
        try_append(&store),
        Err(AppendError::LogFull { .. })
    ));
    assert_eq!(read_from(&store, partition, 0).len() as u64, end);
    threads.close();
}

/// A route moves its pin when its position is durable; publishers, who are refused, bring no commit that
/// it could ride on.
#[test]
fn position_of_a_route_waits_for_no_company_while_the_log_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads, partition) = open(folder.path(), &reject(&["route"]));
    fill(&store, partition);
    let key = JournalKey::new(JournalKind::BridgeRoute, b"position");
    let within = Duration::from_secs(3600);
    let put = store.put_journal_entry(key, Some(vec![1]), within).unwrap();
    wait_for("the position", || store.durable() >= put);
    threads.close();
}

#[test]
fn log_that_drops_its_oldest_tells_exactly_which_are_gone_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads, partition) = open(folder.path(), &OnFull::DropOldest);
    let (mut begun, mut start) = (0, Offset(0));
    while start == Offset(0) {
        append_many(&store, "a", begun..begun + 1000, 1000);
        begun += 1000;
        start = store.log_start(partition);
    }
    threads.close();
    drop(store);
    let (store, threads, partition) = open(folder.path(), &OnFull::DropOldest);
    let mut reader = store.partition_reader(partition, Offset(0));
    let Read::Gap { from, to, reason } = reader.read(1000).unwrap() else {
        panic!("no gap")
    };
    assert_eq!((from, reason), (Offset(0), GapReason::Retention));
    assert_eq!(to, store.log_start(partition));
    let kept = read_from(&store, partition, to.0);
    let offsets: Vec<_> = kept.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (to.0..begun as u64).collect::<Vec<_>>());
    let numbers = kept
        .iter()
        .map(|(_, text)| text.trim().parse::<u64>().unwrap());
    assert!(numbers.eq(to.0..begun as u64), "each is the one it was");
    threads.close();
}
