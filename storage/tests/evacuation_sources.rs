//! What evacuation makes of its sources: a copy alone stands for the log up to its end, also one that
//! was made of a copy; and what the index does not agree with is not copied.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use storage::{
    JournalKey, JournalKind, LogOptions, Offset, RecoveryEvent, Store, StoreOptions, StoreThreads,
};
use support::damage::spoil_journal;
use support::evacuated_folder::{Harm, filled, harm_commit, logs};
use support::halves::{copies, directories, is_covered, partition, remove_empty};
use support::template::{names, read_with_gaps, sled};
use support::{append_many, options, wait_for};

/// Lives that each leave a segment of which little will be live.
const MIXED: usize = 6;
/// Records of `long` in each of them.
const LONG: usize = 40;

fn position_key() -> JournalKey {
    JournalKey::new(JournalKind::BridgeRoute, b"position")
}

/// `kept`: bytes that the logs `short` and `middle` keep.
fn open_with(folder: &Path, kept: [u64; 2], bytes_per_second: u64) -> (Store, StoreThreads) {
    let options = StoreOptions {
        evacuation_bytes_per_second: bytes_per_second,
        // All that is live goes into one copy.
        segment_bytes: 4 << 20,
        ..options()
    };
    let log = |name: &str, retention_bytes| LogOptions {
        retention_bytes,
        ..LogOptions::new(name, 1)
    };
    let logs = [
        log("short", kept[0]),
        log("middle", kept[1]),
        log("long", 1 << 30),
    ];
    Store::open(folder, options, &logs).unwrap()
}

/// Segments with much of `short`, some of `middle` and little of `long`, one for each life, and behind
/// them some with `long` alone, which no evacuation takes.
fn mixed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let keep_all = [1 << 30; 2];
    for life in 0..MIXED {
        let (store, threads) = open_with(folder.path(), keep_all, 0);
        append_many(&store, "short", 0..600, 1000);
        append_many(&store, "middle", 0..200, 1000);
        append_many(&store, "long", life * LONG..(life + 1) * LONG, 1000);
        let value = life.to_string().into_bytes();
        let put = store.put_journal_entry(position_key(), Some(value), Duration::ZERO);
        store.wait_durable(put.unwrap()).unwrap();
        threads.close();
    }
    let (store, threads) = open_with(folder.path(), keep_all, 0);
    append_many(&store, "long", MIXED * LONG..MIXED * LONG + 3000, 1000);
    // Of which nothing is kept either: its start lies behind the end of what is copied.
    append_many(&store, "short", 0..100, 1000);
    threads.close();
    drop(store);
    remove_empty(folder.path());
    folder
}

/// Opens it until a copy of this generation has taken the places of its sources; gives its name.
fn evacuate(folder: &Path, kept: [u64; 2], generation: &str) -> String {
    let (store, threads) = open_with(folder, kept, u64::MAX);
    let mut found = None;
    wait_for("a copy", || {
        let all = directories(folder);
        let is_alone = |copy: &&String| {
            !all.iter()
                .any(|name| name != *copy && is_covered(copy, name))
        };
        found = copies(folder)
            .iter()
            .find(|copy| copy.ends_with(generation) && is_alone(copy))
            .cloned();
        found.is_some()
    });
    threads.close();
    drop(store);
    found.unwrap()
}

/// Nothing but this copy is left of the log and the metadata.
fn check_alone(folder: &Path, copy: &str, has_middle: bool) {
    let alone = tempfile::tempdir().unwrap();
    support::template::copy_all(folder, alone.path());
    fs::remove_dir_all(alone.path().join("meta")).unwrap();
    for name in directories(alone.path())
        .iter()
        .filter(|name| *name != copy)
    {
        fs::remove_dir_all(alone.path().join("log").join(name)).unwrap();
    }
    let (store, threads) = open_with(alone.path(), [1 << 30; 2], 0);
    let events = store.recovery_events();
    let is_end = |event: &RecoveryEvent| matches!(event, RecoveryEvent::EndLost { .. });
    assert!(events.iter().any(is_end), "{events:?}");
    assert_eq!(events.len(), 2, "the metadata and the end: {events:?}");
    let last = (MIXED - 1).to_string().into_bytes();
    assert_eq!(store.journal_entry(&position_key()), Some(last));
    let written = MIXED as u64 * LONG as u64;
    let (found, _) = read_with_gaps(&store, partition(&store, "long"));
    assert_eq!(
        found.into_keys().collect::<Vec<_>>(),
        (0..written).collect::<Vec<_>>()
    );
    let middle = partition(&store, "middle");
    let (found, _) = read_with_gaps(&store, middle);
    assert_eq!(!found.is_empty(), has_middle);
    // What is at most lost begins where the copy ends, for each of them.
    for (log, records) in [("short", 600), ("middle", 200), ("long", LONG)] {
        let partition = partition(&store, log);
        let gaps = store.gaps().into_iter();
        let from: Vec<_> = gaps
            .filter(|gap| gap.partition == partition)
            .map(|gap| gap.from)
            .collect();
        let end = Offset((MIXED * records) as u64);
        assert_eq!(from, [end], "{log}");
        assert!(store.log_start(partition) <= end, "{log}");
    }
    threads.close();
}

#[test]
fn copy_and_copy_of_a_copy_alone_stand_for_the_log() {
    let folder = mixed();
    let first = evacuate(folder.path(), [1, 1 << 30], ".1");
    check_alone(folder.path(), &first, true);
    let second = evacuate(folder.path(), [1, 1], ".2");
    assert!(is_covered(&second, &first));
    let last = |name: &str| name.split_once('.').unwrap().0.to_owned();
    assert_eq!(last(&first), last(&second), "of the copy alone");
    check_alone(folder.path(), &second, false);
}

/// Its journal and its ends would be those of an earlier commit.
#[test]
fn segment_without_its_end_is_not_copied() {
    let folder = mixed();
    let sources = directories(folder.path());
    let harmed = folder.path().join("log").join(&sources[MIXED - 1]);
    let pieces = {
        let database = sled(&harmed, 1024 * 1024).open().unwrap();
        let trees = database
            .tree_names()
            .into_iter()
            .filter(|name| name.len() == 10);
        trees
            .map(|name| database.open_tree(name).unwrap().len())
            .sum::<usize>()
    };
    harm_commit(&harmed, pieces - 1, &Harm::Remove);
    // So slow that the copy is met before it is given up, or complete.
    let (store, threads) = open_with(folder.path(), [1, 1 << 30], 1 << 20);
    let has_unfinished = || {
        directories(folder.path())
            .iter()
            .any(|name| name.ends_with(".new"))
    };
    wait_for("a copy that is being made", has_unfinished);
    wait_for("its end", || !has_unfinished());
    let is_copy = |copy: &String| is_covered(copy, &sources[MIXED - 1]);
    let taken: Vec<_> = copies(folder.path()).into_iter().filter(is_copy).collect();
    assert_eq!(taken, [] as [&str; 0]);
    assert!(harmed.is_dir());
    let name = harmed.file_name().unwrap().to_str().unwrap();
    wait_for("it to be counted", || {
        store.status().damaged_segments.first == [name]
    });
    threads.close();
    drop(store);
}

/// Waits until those of `sources` are copied that come behind the one at `harmed`, which stays.
fn wait_for_others(folder: &Path, sources: &[String], harmed: usize) {
    wait_for("a copy of the others", || {
        let copies = copies(folder).into_iter();
        let mut copies = copies.filter(|copy| !copy.ends_with(".new"));
        copies.any(|copy| is_covered(&copy, &sources[MIXED - 1]))
    });
    let is_copied = |copy: &String| is_covered(copy, &sources[harmed]);
    assert!(!copies(folder).iter().any(is_copied));
}

/// A run that meets it fails, and would so again each time.
#[test]
fn segment_that_can_never_be_copied_keeps_no_other_from_it() {
    let folder = mixed();
    let sources = directories(folder.path());
    let harmed = folder.path().join("log").join(&sources[2]);
    spoil_journal(&harmed);
    let (store, threads) = open_with(folder.path(), [1, 1 << 30], u64::MAX);
    wait_for_others(folder.path(), &sources, 2);
    assert!(harmed.is_dir());
    threads.close();
    drop(store);
}

#[test]
fn segment_that_cannot_be_opened_now_keeps_no_other_from_being_copied() {
    let folder = mixed();
    let sources = directories(folder.path());
    let (store, threads) = open_with(folder.path(), [1, 1 << 30], u64::MAX);
    // Before the keeper looks around, as if the machine gave no answer.
    let (there, away) = (
        folder.path().join("log").join(&sources[2]),
        folder.path().join("away"),
    );
    fs::rename(&there, &away).unwrap();
    wait_for_others(folder.path(), &sources, 2);
    fs::rename(&away, &there).unwrap();
    let long = partition(&store, "long");
    assert_eq!(store.log_start(long), Offset(0));
    let (found, gaps) = read_with_gaps(&store, long);
    assert_eq!(gaps, []);
    assert_eq!(found.len() as u64, store.high_watermark(long).0);
    assert_eq!(
        store.status().damaged_segments.count,
        0,
        "it is not damaged"
    );
    threads.close();
}

#[test]
fn copy_under_the_name_of_another_is_put_aside() {
    let (folder, copy) = filled();
    let name = copy.file_name().unwrap().to_str().unwrap();
    let (ids, generation) = name.split_once('.').unwrap();
    let generation: u32 = generation.parse().unwrap();
    let other = format!("{ids}.{}", generation + 1);
    fs::rename(&copy, copy.with_file_name(&other)).unwrap();
    fs::remove_dir_all(folder.path().join("meta")).unwrap();
    let options = StoreOptions {
        evacuation_bytes_per_second: 0,
        ..options()
    };
    let (store, threads) = Store::open(folder.path(), options, &logs(1 << 30)).unwrap();
    let events = store.recovery_events();
    let told = "its manifest is of another segment";
    assert!(
        events.iter().any(|event| event.to_string().ends_with(told)),
        "{events:?}"
    );
    assert!(names(&folder.path().join("quarantine")).contains(&other));
    threads.close();
}
