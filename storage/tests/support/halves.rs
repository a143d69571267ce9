//! Folders in the middle of an evacuation, put together from states before and after it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use storage::{LogOptions, LogPartition, Message, Store, StoreOptions, StoreThreads};

use super::template::{copy_all, sled};
use super::{append_many, log_of, options, read_all, wait_for};

/// A log of which little is kept, one of which all is, one of which all is for now, and one that holds
/// retained messages.
pub(crate) fn logs() -> [LogOptions; 4] {
    let short = LogOptions {
        retention_bytes: 2 << 20,
        ..LogOptions::new("short", 1)
    };
    [
        short,
        LogOptions::new("long", 1),
        LogOptions::new("middle", 1),
        LogOptions::new("state", 1),
    ]
}

/// The same, and less is kept, so that the copies, too, take more than their share.
fn logs_later() -> [LogOptions; 4] {
    logs().map(|log| {
        let retention_bytes = match log.name.as_str() {
            "short" => 64 << 10,
            "middle" => 1,
            _ => log.retention_bytes,
        };
        LogOptions {
            retention_bytes,
            ..log
        }
    })
}

/// The same, and retention moves nothing while it is looked at.
pub(crate) fn logs_kept() -> [LogOptions; 4] {
    logs().map(|log| LogOptions {
        retention_bytes: 1 << 30,
        ..log
    })
}

pub(crate) fn partition(store: &Store, log: &str) -> LogPartition {
    store.log(log).unwrap().partitions().next().unwrap()
}

/// Names of the segments' directories, ascending.
pub(crate) fn directories(folder: &Path) -> Vec<String> {
    let mut names = super::template::names(&folder.join("log"));
    names.sort();
    names
}

/// Those of evacuated ones.
pub(crate) fn copies(folder: &Path) -> Vec<String> {
    let mut names = directories(folder);
    names.retain(|name| name.contains('.'));
    names
}

/// Whether `copy` stands for `name`, among others.
pub(crate) fn is_covered(copy: &str, name: &str) -> bool {
    let (first, rest) = copy.split_once('-').unwrap();
    let last = rest.split_once('.').unwrap().0;
    let (name, _) = name.split_once('-').unwrap_or((name, ""));
    (first..=last).contains(&name)
}

/// Segments that hold much of a log of which little is kept, and a little of one that is kept.
pub(crate) fn turn_over(store: &Store, rounds: std::ops::Range<usize>) {
    for round in rounds {
        append_many(store, "long", round * 50..(round + 1) * 50, 1000);
        append_many(store, "middle", round * 100..(round + 1) * 100, 1000);
        append_many(store, "short", round * 1500..(round + 1) * 1500, 1000);
    }
}

/// What `long` holds after so many rounds.
pub(crate) fn expected(rounds: usize) -> Vec<(u64, String)> {
    (0..rounds * 50)
        .map(|number| (number as u64, format!("{number:>1000}")))
        .collect()
}

/// Waits for a complete copy whose sources are gone. More may follow.
pub(crate) fn wait_for_copy(folder: &Path) {
    wait_for("evacuation", || {
        let (names, copies) = (directories(folder), copies(folder));
        let is_complete = |copy: &String| {
            let is_source = |name: &String| name != copy && is_covered(copy, name);
            !copy.ends_with(".new") && !names.iter().any(is_source)
        };
        copies.iter().any(is_complete)
    });
}

/// Finishes what an evacuation left when the store was closed, and begins no other.
pub(crate) fn settle(folder: &Path, logs: &[LogOptions]) {
    let (store, threads) = open_for(folder, logs, false);
    threads.close();
    drop(store);
}

/// Opens with or without evacuation.
pub(crate) fn open_for(
    folder: &Path,
    logs: &[LogOptions],
    evacuates: bool,
) -> (Store, StoreThreads) {
    let mut options = options();
    if !evacuates {
        options.evacuation_bytes_per_second = 0;
    }
    let options = StoreOptions { ..options };
    Store::open(folder, options, logs).unwrap()
}

/// What retained messages are there, by topic.
pub(crate) fn retained(store: &Store) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let retained = store.take_recovered_retained().into_iter();
    let retained = retained.map(|retained| retained.message);
    retained
        .map(|message| (text(&message.topic), text(&message.payload)))
        .collect()
}

fn retain(store: &Store, payload: &'static str) {
    let message = Message {
        topic: "topic".into(),
        client_id: "c".into(),
        payload: payload.into(),
        retain: true,
        ..Message::default()
    };
    let log = log_of(store, "state");
    let at = store.append(log, b"c", &message).unwrap();
    store.wait_durable(at.commit).unwrap();
}

/// Copies of one folder over time.
pub(crate) struct Halves {
    _parent: tempfile::TempDir,
    /// Twelve rounds, nothing evacuated.
    pub(crate) before: PathBuf,
    /// The same, evacuated.
    pub(crate) after: PathBuf,
    /// Twenty-four rounds, and copies of copies.
    pub(crate) later: PathBuf,
}

pub(crate) const ROUNDS: usize = 12;
pub(crate) const ROUNDS_LATER: usize = 24;

/// Made once in a test process.
pub(crate) fn halves() -> &'static Halves {
    static HALVES: OnceLock<Halves> = OnceLock::new();
    HALVES.get_or_init(Halves::make)
}

impl Halves {
    fn make() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let folder = at("folder");
        let (store, threads) = open_for(&folder, &logs(), false);
        retain(&store, "old");
        turn_over(&store, 0..ROUNDS - 2);
        retain(&store, "new");
        turn_over(&store, ROUNDS - 2..ROUNDS);
        let short = partition(&store, "short");
        // Retention has done what it will: the copies leave out nothing that is live before them.
        wait_for("retention", || {
            store.high_watermark(short).since(store.log_start(short)) < 4000
        });
        threads.close();
        drop(store);
        copy_all(&folder, &at("before"));
        remove_empty(&at("before"));
        let (store, threads) = open_for(&folder, &logs(), true);
        wait_for_copy(&folder);
        threads.close();
        drop(store);
        settle(&folder, &logs());
        copy_all(&folder, &at("after"));
        remove_empty(&at("after"));
        let (store, threads) = open_for(&folder, &logs_later(), true);
        turn_over(&store, ROUNDS..ROUNDS + 3);
        wait_for("a copy of a copy", || {
            let later = copies(&folder);
            let is_of_later = |name: &String| {
                let covers = |copy: &String| copy != name && is_covered(copy, name);
                later.iter().any(covers)
            };
            copies(&at("after")).iter().any(is_of_later)
                && later.iter().all(|name| !name.ends_with(".new"))
        });
        turn_over(&store, ROUNDS + 3..ROUNDS_LATER);
        assert_eq!(
            read_all(&store, partition(&store, "long")),
            expected(ROUNDS_LATER)
        );
        threads.close();
        drop(store);
        settle(&folder, &logs_later());
        copy_all(&folder, &at("later"));
        Self {
            before: at("before"),
            after: at("after"),
            later: at("later"),
            _parent: parent,
        }
    }

    /// Adds to `folder` the segments that the copies of `after` were made of, but for the first
    /// `but` of each.
    pub(crate) fn add_sources(&self, folder: &Path, but: usize) {
        for copy in copies(&self.after) {
            let sources = directories(&self.before).into_iter();
            let sources = sources.filter(|name| is_covered(&copy, name));
            for name in sources.skip(but) {
                add(&self.before, folder, &name, "");
            }
        }
    }
}

/// Removes the segments that stood ready when the folder was closed, as the next start does before it
/// writes anything: so that the folder can be mixed with what that start made of it.
pub(crate) fn remove_empty(folder: &Path) {
    let mut empty = Vec::new();
    for name in directories(folder) {
        // On a copy: opening changes files.
        let (path, copy) = (folder.join("log").join(&name), tempfile::tempdir().unwrap());
        copy_all(&path, copy.path());
        let database = sled(copy.path(), 1024 * 1024).open().unwrap();
        if !database.tree_names().iter().any(|name| name.len() == 10) {
            std::fs::remove_dir_all(path).unwrap();
            empty.push(name.parse::<u64>().unwrap());
        }
    }
    let database = sled(&folder.join("meta"), 512 * 1024).open().unwrap();
    let index = database.open_tree("segments").unwrap();
    for id in empty {
        for key in index.scan_prefix(id.to_be_bytes()).keys() {
            index.remove(key.unwrap()).unwrap();
        }
    }
    database.flush().unwrap();
}

/// Copies the segment `name` from one folder to another, if it is not there.
pub(crate) fn add(from: &Path, to: &Path, name: &str, ending: &str) {
    let target = to.join("log").join(format!("{name}{ending}"));
    if !target.exists() {
        copy_all(&from.join("log").join(name), &target);
    }
}
