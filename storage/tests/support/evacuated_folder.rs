//! A folder in which segments were evacuated.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use storage::{LogId, LogOptions, Store, StoreOptions};

use super::{append_many, open, options, wait_for};

/// Id of `long`.
pub(crate) const LONG: LogId = LogId(2);
/// Records of `long` in each round.
pub(crate) const ROUND: usize = 50;
pub(crate) const ROUNDS: usize = 12;
/// As segments are made.
const SEGMENT_OF_SLED: usize = 1024 * 1024;
/// Bytes of every record of `long`.
pub(crate) const RECORD_BYTES: usize = 1000;

/// A log of which little is kept and one that is kept.
pub(crate) fn logs(retention_bytes: u64) -> [LogOptions; 2] {
    let short = LogOptions {
        retention_bytes,
        ..LogOptions::new("short", 1)
    };
    [short, LogOptions::new("long", 1)]
}

/// Segments that hold much of a log of which little is kept, and a little of one that is kept.
pub(crate) fn turn_over(store: &Store, rounds: Range<usize>) {
    for round in rounds {
        for number in (round * ROUND..(round + 1) * ROUND).step_by(5) {
            append_many(store, "long", number..number + 5, RECORD_BYTES);
        }
        append_many(store, "short", round * 1500..(round + 1) * 1500, 1000);
    }
}

/// The directories of complete evacuated segments.
pub(crate) fn evacuated(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("log")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.contains('.') && !name.ends_with(".new")
    });
    paths.sort();
    paths
}

fn is_written(path: &Path) -> bool {
    !path.file_name().unwrap().to_str().unwrap().contains('.')
}

/// The folder, and the evacuated segment that has most in it. Databases have whole snapshots, so
/// that sled does not take damage for their end.
pub(crate) fn filled() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let largest = fill(folder.path());
    (folder, largest)
}

/// As [`filled`], of a folder that may hold something before.
pub(crate) fn fill(folder: &Path) -> PathBuf {
    let without_evacuation = StoreOptions {
        evacuation_bytes_per_second: 0,
        ..options()
    };
    let logs = logs(2 << 20);
    let (store, threads) = Store::open(folder, without_evacuation, &logs).unwrap();
    turn_over(&store, 0..ROUNDS);
    let short = store.log("short").unwrap().partitions().next().unwrap();
    // Nearly all of it can go at once, into one.
    wait_for("retention", || {
        store.high_watermark(short).since(store.log_start(short)) < 4000
    });
    threads.close();
    drop(store);
    let (store, threads) = open(folder, &logs);
    wait_for("evacuation", || {
        let written = fs::read_dir(folder.join("log")).unwrap();
        let written = written.filter(|entry| is_written(&entry.as_ref().unwrap().path()));
        !evacuated(folder).is_empty() && written.count() <= 6
    });
    threads.close();
    drop(store);
    let size = |path: &PathBuf| fs::metadata(path.join("db")).unwrap().len();
    let largest = evacuated(folder).into_iter().max_by_key(size).unwrap();
    super::damage::with_snapshot(&largest, SEGMENT_OF_SLED);
    largest
}

/// What is done to a piece of a commit.
pub(crate) enum Harm {
    Remove,
    Damage,
}

/// Harms the piece of a segment that comes as number `number`.
pub(crate) fn harm_commit(segment: &Path, number: usize, harm: &Harm) {
    let config = super::template::sled(segment, SEGMENT_OF_SLED);
    // One of sled's threads may still hold what was open before.
    let mut opened = None;
    wait_for("the lock of the database", || {
        opened = config.open().ok();
        opened.is_some()
    });
    let database = opened.unwrap();
    let mut chunks = database.tree_names();
    // Keys of a piece: commit, piece.
    chunks.retain(|name| name.len() == 10);
    chunks.sort();
    let pieces = chunks.iter().flat_map(|name| {
        let tree = database.open_tree(name).unwrap();
        let keys: Vec<_> = tree.iter().keys().map(Result::unwrap).collect();
        keys.into_iter().map(move |key| (tree.clone(), key))
    });
    let (tree, key) = pieces.into_iter().nth(number).unwrap();
    let mut value = tree.remove(&key).unwrap().unwrap().to_vec();
    if matches!(harm, Harm::Damage) {
        *value.last_mut().unwrap() ^= 1;
        tree.insert(key, value).unwrap();
    }
    database.flush().unwrap();
}
