//! Cold journal entries (sessions) as their owner sees them, whatever becomes of their home; and
//! entries that share the commit of a record.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use storage::{
    AppendError, Appended, Health, JOURNAL_ENTRIES_BYTES_MAX, JournalKey, JournalKind, LogId,
    LogOptions, Message, RecoveryEvent, Store, StoreOptions, StoreThreads, View,
};
use support::damage::{length, zero_block};
use support::template::{BLOCK, copy_all};
use support::{append, log_of, open, options, read_all, wait_for};

type Entries = Vec<(JournalKey, Option<Vec<u8>>)>;

fn logs() -> [LogOptions; 1] {
    [LogOptions::new("a", 1)]
}

fn session(name: &str) -> JournalKey {
    JournalKey::new(JournalKind::Session, name.as_bytes())
}

fn value(number: usize, version: u8, size: usize) -> Vec<u8> {
    let mut value = vec![version; size];
    let number = u64::try_from(number).unwrap();
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}

fn put(store: &Store, entries: Entries) {
    let commit = store.put_journal_entries(entries, Duration::ZERO).unwrap();
    store.wait_durable(commit).unwrap();
}

fn put_sessions(store: &Store, count: usize, version: u8, size: usize) {
    let entries = |number| {
        (
            session(&number_of(number)),
            Some(value(number, version, size)),
        )
    };
    put(store, (0..count).map(entries).collect());
}

fn number_of(number: usize) -> String {
    format!("client {number}")
}

fn sessions(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let entries = store.cold_entries(JournalKind::Session);
    let entries = entries.map(|entry| {
        let (name, value) = entry.unwrap();
        (String::from_utf8(name).unwrap(), value)
    });
    entries.collect()
}

/// What is moved leaves the journal with the next commit.
fn wait_until_moved(store: &Store) {
    wait_for("the move", || {
        let at = append(store, "a", "k", "takes it along");
        store.wait_durable(at.commit).unwrap();
        store.journal_entries(JournalKind::Session).is_empty()
    });
}

fn close(store: Store, threads: StoreThreads) {
    drop(store);
    threads.close();
}

/// A folder with these sessions in the metadata, none of them in the journal.
fn folder_of(count: usize, version: u8, size: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    put_sessions(&store, count, version, size);
    wait_until_moved(&store);
    close(store, threads);
    folder
}

fn lost(store: &Store) -> Option<(u64, u64)> {
    store
        .recovery_events()
        .iter()
        .find_map(|event| match event {
            RecoveryEvent::ColdEntriesLost { held, found } => Some((*held, *found)),
            _ => None,
        })
}

fn append_with(store: &Store, log: LogId, entries: Entries) -> Result<Appended, AppendError> {
    let message = Message {
        topic: "t".into(),
        payload: "of both".into(),
        ..Message::default()
    };
    store.append_with(log, b"k", &message, entries)
}

#[test]
fn entries_share_the_commit_of_their_record() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    let received = JournalKey::new(JournalKind::Received, b"c\0\x01");
    let entries = vec![
        (received.clone(), Some(vec![1])),
        (session("c"), Some(vec![1; 20])),
    ];
    let commits = store.counters().commits();
    let at = append_with(&store, log_of(&store, "a"), entries).unwrap();
    store.wait_durable(at.commit).unwrap();
    assert_eq!(store.counters().commits() - commits, 1);
    close(store, threads);
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(store.journal_entry(&received), Some(vec![1]));
    assert_eq!(store.journal_entry(&session("c")), Some(vec![1; 20]));
    assert_eq!(read_all(&store, at.partition), [(0, "of both".to_owned())]);
    put(&store, vec![(received.clone(), None)]);
    assert_eq!(store.journal_entry(&received), None);
    close(store, threads);
}

/// Neither the record nor an entry.
#[test]
fn nothing_is_taken_of_an_append_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let small = StoreOptions {
        commit_bytes_max: 10_000,
        queue_bytes_max: 20_000,
        ..options()
    };
    let (store, threads) = Store::open(folder.path(), small, &logs()).unwrap();
    let log = log_of(&store, "a");
    let name = |number: usize| JournalKey::new(JournalKind::Received, number_of(number).as_bytes());
    let with = |number, size| vec![(name(number), Some(vec![1; size]))];
    let refused = append_with(&store, log, with(1, JOURNAL_ENTRIES_BYTES_MAX));
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })));
    let refused = append_with(&store, LogId(7), with(1, 10));
    assert_eq!(refused, Err(AppendError::UnknownLog { log: LogId(7) }));
    // Entries count for the queue, and each append has one commit for all that is its own.
    let mut taken = Vec::new();
    wait_for("a full queue", || {
        for number in 10..30 {
            match append_with(&store, log, with(number + taken.len() * 20, 6000)) {
                Ok(at) => taken.push((number + taken.len() * 20, at)),
                Err(error) => {
                    assert_eq!(error, AppendError::QueueFull);
                    return true;
                }
            }
        }
        false
    });
    let last = taken.last().unwrap().1;
    store.wait_durable(last.commit).unwrap();
    assert_eq!(store.high_watermark(last.partition).0, taken.len() as u64);
    let entries = store.journal_entries(JournalKind::Received);
    assert_eq!(entries.len(), taken.len());
    for (number, _) in &taken {
        assert!(entries.iter().any(|(key, _)| *key == name(*number)));
    }
    close(store, threads);
}

#[test]
fn sessions_come_back_changed_and_removed_ones_too() {
    let folder = folder_of(200, 1, 300);
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(lost(&store), None);
    assert_eq!(sessions(&store).len(), 200);
    put(&store, vec![(session("client 7"), Some(vec![7; 9]))]);
    put(&store, vec![(session("client 8"), None)]);
    let check = |store: &Store, what: &str| {
        let found = sessions(store);
        assert_eq!(found.len(), 199, "{what}");
        assert_eq!(found["client 7"], [7; 9], "{what}");
        assert_eq!(found["client 9"], value(9, 1, 300), "{what}");
        assert_eq!(store.journal_entry(&session("client 8")), None, "{what}");
    };
    check(&store, "at once");
    close(store, threads);
    let (store, threads) = open(folder.path(), &logs());
    check(&store, "again");
    // So much that all of it is moved.
    put(&store, vec![(session("client 9"), Some(vec![1; 30_000]))]);
    put(&store, vec![(session("client 9"), Some(value(9, 1, 300)))]);
    put(&store, vec![(session("large"), Some(vec![1; 30_000]))]);
    wait_until_moved(&store);
    put(&store, vec![(session("large"), None)]);
    check(&store, "moved");
    close(store, threads);
    let (store, threads) = open(folder.path(), &logs());
    check(&store, "moved and again");
    assert_eq!(lost(&store), None);
    close(store, threads);
}

#[test]
fn sessions_of_lost_metadata_are_told_and_those_in_the_journal_are_there() {
    let folder = folder_of(100, 1, 300);
    let (store, threads) = open(folder.path(), &logs());
    put(&store, vec![(session("client 3"), Some(vec![2; 9]))]);
    close(store, threads);
    fs::remove_dir_all(folder.path().join("meta")).unwrap();
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(lost(&store), Some((100, 0)));
    let expected = BTreeMap::from([("client 3".to_owned(), vec![2; 9])]);
    assert_eq!(sessions(&store), expected);
    append(&store, "a", "k", "whatever");
    close(store, threads);
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(store.recovery_events(), []);
    assert_eq!(sessions(&store), expected);
    close(store, threads);
}

#[test]
fn metadata_of_an_earlier_state_is_told() {
    let folder = folder_of(100, 1, 300);
    let earlier = tempfile::tempdir().unwrap();
    copy_all(&folder.path().join("meta"), earlier.path());
    let (store, threads) = open(folder.path(), &logs());
    put_sessions(&store, 100, 2, 300);
    wait_until_moved(&store);
    close(store, threads);
    fs::remove_dir_all(folder.path().join("meta")).unwrap();
    copy_all(earlier.path(), &folder.path().join("meta"));
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(lost(&store), Some((100, 100)));
    close(store, threads);
}

/// Whatever block is lost: every session is there as it was last, or it is told.
#[test]
fn zeroed_block_of_the_metadata_loses_no_session_silently() {
    let folder = folder_of(300, 1, 300);
    let (store, threads) = open(folder.path(), &logs());
    put_sessions(&store, 100, 2, 2000);
    wait_until_moved(&store);
    let expected = sessions(&store);
    close(store, threads);
    let bytes = usize::try_from(length(&folder.path().join("meta").join("db"))).unwrap();
    let blocks = bytes / BLOCK;
    let stride = match std::env::var("TIDEGATE_SWEEP") {
        Ok(stride) => stride.parse().unwrap(),
        Err(_) => 11,
    };
    let mut told = 0;
    for block in (0..blocks).step_by(stride) {
        let copy = tempfile::tempdir().unwrap();
        copy_all(folder.path(), copy.path());
        zero_block(&copy.path().join("meta").join("db"), block);
        let (store, threads) = open(copy.path(), &logs());
        if lost(&store).is_some() {
            told += 1;
        } else {
            assert_eq!(sessions(&store), expected, "block {block}");
        }
        close(store, threads);
    }
    println!("{blocks} blocks, told {told} times");
    assert!(told > 0);
}

/// With the reserve nearly gone, sessions wait in the journal.
#[test]
fn sessions_wait_in_the_journal_while_the_reserve_runs_out() {
    static FREE: AtomicU64 = AtomicU64::new(u64::MAX);
    let options = StoreOptions {
        free_space: |_| Ok(FREE.load(Ordering::Relaxed)),
        free_space_reserve_bytes: 1 << 20,
        ..options()
    };
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = Store::open(folder.path(), options, &logs()).unwrap();
    let free = |bytes| {
        FREE.store(bytes, Ordering::Relaxed);
        wait_for("the keeper", || store.counters().free_bytes() == bytes);
    };
    free(1000);
    wait_for("refusals", || {
        matches!(store.health(), Health::DiskFull { .. })
    });
    put_sessions(&store, 100, 1, 300);
    let refused = append_with(
        &store,
        log_of(&store, "a"),
        vec![(session("x"), Some(vec![1]))],
    );
    assert!(matches!(refused, Err(AppendError::DiskFull { .. })));
    // Two rounds of the keeper have seen it.
    free(1001);
    free(1002);
    let at_home = || store.verify(None, |_| ControlFlow::Continue(())).cold;
    assert_eq!(at_home(), 0);
    free((1 << 19) + 1);
    wait_for("the move", || {
        put(
            &store,
            vec![(JournalKey::new(JournalKind::Received, b"c"), None)],
        );
        store.journal_entries(JournalKind::Session).is_empty()
    });
    assert_eq!(sessions(&store).len(), 100);
    close(store, threads);
}

#[test]
fn folder_that_is_looked_at_keeps_its_sessions_where_they_are() {
    let folder = folder_of(50, 1, 400);
    let (store, threads) = open(folder.path(), &logs());
    let verified = store.verify(None, |_| ControlFlow::Continue(()));
    assert!(verified.is_clean());
    assert_eq!(verified.cold, 50);
    // So large that the next round of the keeper would move it.
    put(
        &store,
        vec![(session("in the journal"), Some(vec![1; 100_000]))],
    );
    close(store, threads);
    let database = || fs::read(folder.path().join("meta").join("db")).unwrap();
    let before = database();
    let copy = tempfile::tempdir().unwrap();
    let view = View::open(folder.path(), copy.path()).unwrap();
    let verify = || view.verify(None, |_| ControlFlow::Continue(()));
    let verified = verify();
    assert!(verified.is_clean());
    assert_eq!(sessions(view.store()).len(), 51);
    // Rounds of the keeper, if it had anything to do.
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(verify().cold, verified.cold);
    view.close();
    assert!(database() == before);
}

/// Bytes of commits that rolls take beside the records, and bytes written for `count` sessions.
fn cost(folder: &Path, count: usize) -> (u64, u64) {
    let (store, threads) = open(folder, &logs());
    append(&store, "a", "k", "begins");
    let written = || store.status().flash.since_start.written_bytes;
    let before = written();
    for first in (0..count).step_by(50) {
        let entry = |number| (session(&number_of(number)), Some(value(number, 1, 300)));
        put(&store, (first..first + 50).map(entry).collect());
    }
    wait_until_moved(&store);
    let once = written() - before;
    let payload = "x".repeat(40_000);
    let (commits, segments) = (store.counters().commit_bytes(), store.status().segments);
    for _ in 0..200 {
        let at = append(&store, "a", "k", &payload);
        store.wait_durable(at.commit).unwrap();
    }
    assert!(store.status().segments >= segments + 5);
    let rolls = store.counters().commit_bytes() - commits;
    close(store, threads);
    (rolls, once)
}

/// The figures of docs/decisions/0019:
/// `cargo test --release -p storage --test cold cost -- --nocapture`
#[test]
fn sessions_that_do_not_change_cost_nothing_when_segments_roll() {
    let folders = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let (few, _) = cost(folders[0].path(), 100);
    let (many, once) = cost(folders[1].path(), 10_000);
    println!(
        "10,000 sessions of 300 bytes: {once} bytes written once; commits of 8 MB of records in seven \
         segments: {few} bytes with 100 sessions, {many} with 10,000"
    );
    assert!(
        many.abs_diff(few) < 1000,
        "{many} bytes, {few} without them"
    );
}
