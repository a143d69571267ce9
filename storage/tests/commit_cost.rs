//! What a commit costs: one sync, however many share it.
//!
//! Syncs are counted for the whole process, so these tests take turns.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};

use storage::{LogOptions, Store, StoreThreads, fence};
use support::{append, open, options};
use tempfile::TempDir;

/// The index entry of a segment is written when it is made and when it is sealed; sled's own segments
/// of 1 MiB end somewhere in a commit.
const SYNCS_OF_A_ROLL: u64 = 4;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn store() -> (TempDir, Store, StoreThreads) {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 4)]);
    (folder, store, threads)
}

fn publish_and_wait(store: &Store, payload: &str) {
    let appended = append(store, "a", "device", payload);
    store.wait_durable(appended.commit).unwrap();
}

#[test]
fn lone_publisher_pays_one_sync_a_message() {
    let _turn = turn();
    let (_folder, store, threads) = store();
    publish_and_wait(&store, "the first begins the segment");
    for number in 0..500 {
        let (syncs, commits) = (fence::calls(), store.counters().commits());
        publish_and_wait(&store, "21.5");
        let paid = (fence::calls() - syncs, store.counters().commits() - commits);
        assert_eq!(paid, (1, 1), "syncs and commits of message {number}");
    }
    threads.close();
}

/// Making the next segment, and sealing the last one, have syncs of their own.
#[test]
fn roll_costs_a_bounded_number_of_syncs() {
    let _turn = turn();
    let (_folder, store, threads) = store();
    let payload = "x".repeat(40_000);
    let (syncs, commits) = (fence::calls(), store.counters().commits());
    for _ in 0..200 {
        publish_and_wait(&store, &payload);
    }
    let (syncs, commits) = (fence::calls() - syncs, store.counters().commits() - commits);
    let rolls = store.status().segments as u64 - 1;
    // The last round of the keeper may still be on its way, hence nothing more exact.
    let others = syncs - commits;
    println!("{commits} commits, {rolls} rolls, {others} other syncs");
    assert!(
        rolls >= 5,
        "{rolls} rolls of {} bytes",
        options().segment_bytes
    );
    assert!(
        others <= rolls * SYNCS_OF_A_ROLL,
        "{others} syncs beside the commits in {rolls} rolls"
    );
    threads.close();
}

#[test]
fn publishers_share_the_sync_that_follows_the_one_that_runs() {
    let _turn = turn();
    let (_folder, store, threads) = store();
    let begun = Mutex::new(false);
    let publisher = store.clone();
    let last = std::sync::Arc::new(Mutex::new(None));
    let noted = std::sync::Arc::clone(&last);
    // The committer is held up here, as it would be by a sync; what comes meanwhile is one commit.
    store.subscribe(move || {
        let mut begun = begun.lock().unwrap();
        if !*begun {
            *begun = true;
            for number in 0..50 {
                let appended = append(&publisher, "a", &format!("device {number}"), "21.5");
                *noted.lock().unwrap() = Some(appended.commit);
            }
        }
    });
    let commits = store.counters().commits();
    publish_and_wait(&store, "the first");
    let syncs = fence::calls();
    let after_first = store.counters().commits();
    while last.lock().unwrap().is_none() {
        std::thread::yield_now();
    }
    let commit = last.lock().unwrap().unwrap();
    store.wait_durable(commit).unwrap();
    let paid = store.counters().commits() - commits;
    assert_eq!(paid, 2, "one for the first, one for fifty");
    assert!(fence::calls() - syncs <= store.counters().commits() - after_first);
    threads.close();
}
