//! A data folder that damage tests copy, and what must hold of each copy whatever was done to it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use storage::{
    CommitNumber, GapReason, JournalKey, JournalKind, LogOptions, LogPartition, Message, Offset,
    Read, RecoveryEvent, Store,
};

use super::{append, append_many, log_of, open};

/// 4 KiB: what a card or a file system loses at once.
pub(crate) const BLOCK: usize = 4096;

/// What must be free in memory so that copies are made there: many tests at once have a few each.
const SCRATCH_BYTES: u64 = 1 << 30;

/// Offsets and payloads of a partition.
pub(crate) type Records = BTreeMap<u64, String>;

/// See the module's documentation.
pub(crate) struct Template {
    folder: tempfile::TempDir,
    pub(crate) records: BTreeMap<LogPartition, Records>,
    retained: BTreeMap<String, String>,
    pub(crate) segments: Vec<Segment>,
}

/// A segment of it, oldest first; the last one is not sealed.
pub(crate) struct Segment {
    pub(crate) name: String,
    /// What it has of each partition.
    offsets: BTreeMap<LogPartition, Range<u64>>,
}

/// What was found in a damaged copy.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<RecoveryEvent>,
    /// Records that are missing.
    pub(crate) missing: u64,
    /// Whether offsets leapt.
    pub(crate) leapt: bool,
    /// Why readers cannot have what is missing.
    pub(crate) reasons: Vec<GapReason>,
    /// Records that the gap ledger has, but for those that it only has "at most".
    pub(crate) ledger: u64,
}

pub(crate) fn logs() -> [LogOptions; 2] {
    [LogOptions::new("a", 2), LogOptions::new("b", 1)]
}

fn position_key() -> JournalKey {
    JournalKey::new(JournalKind::BridgeRoute, b"position")
}

/// A partition as readers see it: what can be read, and the gaps between.
type Readable = (LogPartition, Records, Vec<(u64, u64)>);

/// An empty folder, in memory where there is room: hundreds of copies are started, each with many syncs,
/// and none of the tests takes the power away.
pub(crate) fn scratch() -> tempfile::TempDir {
    const MEMORY: &str = "/dev/shm";
    let free = |stat: rustix::fs::StatVfs| stat.f_bavail.saturating_mul(stat.f_frsize);
    let has_room = rustix::fs::statvfs(MEMORY).is_ok_and(|stat| free(stat) >= SCRATCH_BYTES);
    let in_memory = has_room
        .then(|| tempfile::tempdir_in(MEMORY).ok())
        .flatten();
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// Made once in a test process.
pub(crate) fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(Template::make)
}

impl Template {
    fn make() -> Self {
        // Not in memory: nothing removes it when the process ends.
        let folder = tempfile::tempdir().unwrap();
        let (store, threads) = open(folder.path(), &logs());
        retain(&store, "state", "old");
        retain(&store, "gone", "x");
        retain(&store, "lamp", "on");
        put_position(&store, b"begin");
        append_all(&store, "a", 0..900, 1000);
        append_all(&store, "b", 900..1400, 1000);
        retain(&store, "state", "new");
        retain(&store, "gone", "");
        append_all(&store, "a", 1400..2600, 1000);
        // So many that they fill no segment: in the last one, which is not sealed.
        append_all(&store, "b", 2600..2900, 1000);
        append_all(&store, "a", 2900..3300, 1000);
        put_position(&store, b"end");
        append_all(&store, "b", 3300..3310, 100);
        append_all(&store, "a", 3310..3350, 100);
        let logs = store.logs();
        let records = logs
            .iter()
            .flat_map(|log| log.partitions())
            .map(|partition| {
                let found = super::read_all(&store, partition);
                (partition, found.into_iter().collect())
            });
        let records = records.collect();
        let commits = commits(&store);
        threads.close();
        drop(store);
        let segments = segments(folder.path(), &commits);
        assert!(segments.len() >= 4, "{} segments", segments.len());
        let retained = [("state", "new"), ("lamp", "on")];
        let retained = retained.map(|(topic, payload)| (topic.to_owned(), payload.to_owned()));
        Self {
            folder,
            records,
            retained: retained.into(),
            segments,
        }
    }

    /// The last segment, which was written to.
    pub(crate) fn active(&self) -> usize {
        self.segments.len() - 1
    }

    /// What a segment has of each partition.
    pub(crate) fn offsets(&self, segment: usize) -> Vec<(LogPartition, Range<u64>)> {
        let offsets = &self.segments[segment].offsets;
        let offsets = offsets.iter();
        offsets.map(|(p, range)| (*p, range.clone())).collect()
    }

    /// A copy, to be damaged.
    pub(crate) fn copy(&self) -> Copy {
        let folder = scratch();
        copy_all(self.folder.path(), folder.path());
        Copy { folder }
    }
}

/// A copy of the template.
pub(crate) struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn segment(&self, number: usize) -> PathBuf {
        self.path()
            .join("log")
            .join(&template().segments[number].name)
    }

    pub(crate) fn metadata(&self) -> PathBuf {
        self.path().join("meta")
    }

    pub(crate) fn quarantined(&self) -> Vec<String> {
        let mut names = names(&self.path().join("quarantine"));
        names.sort();
        names
    }

    /// Opens the damaged copy and checks everything that must hold whatever the damage:
    ///
    /// - it opens; no record is another one than was written; each that is missing is of one of the
    ///   segments `damaged` and in a gap that readers are told of;
    /// - offsets are never used again; if acknowledged records at the end are gone, offsets leap;
    /// - retained messages and the journal are there (unless `may_lose_state`);
    /// - the next start has nothing more to tell and finds the same.
    pub(crate) fn check(&self, damaged: &[usize], may_lose_state: bool) -> Outcome {
        let template = template();
        let (store, threads) = open(self.path(), &logs());
        let events = store.recovery_events().to_vec();
        let mut outcome = Outcome {
            events,
            missing: 0,
            leapt: false,
            reasons: Vec::new(),
            ledger: exact_losses(&store),
        };
        for (partition, written) in &template.records {
            let (found, gaps) = read_with_gaps(&store, *partition);
            compare(written, &found, &gaps, &mut outcome);
            for offset in written.keys().filter(|offset| !found.contains_key(offset)) {
                let of_damaged = damaged.iter().any(|number| {
                    let offsets = template.segments[*number].offsets.get(partition);
                    offsets.is_some_and(|range| range.contains(offset))
                });
                assert!(
                    of_damaged,
                    "{partition}: {offset} is missing; gaps {gaps:?}, {outcome:?}"
                );
            }
        }
        self.check_state(&store, damaged, may_lose_state);
        self.check_appends(&store, &mut outcome);
        let first = self.everything(&store);
        threads.close();
        drop(store);

        let (store, threads) = open(self.path(), &logs());
        assert_eq!(
            store.recovery_events(),
            [],
            "told once; at first {outcome:?}"
        );
        assert_eq!(
            self.everything(&store),
            first,
            "the second start finds the same"
        );
        threads.close();
        outcome
    }

    fn check_state(&self, store: &Store, damaged: &[usize], may_lose_state: bool) {
        let retained = store.take_recovered_retained().into_iter().map(|retained| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let message = retained.message;
            (text(&message.topic), text(&message.payload))
        });
        let retained: BTreeMap<_, _> = retained.collect();
        let position = store.journal_entry(&position_key());
        if may_lose_state {
            return;
        }
        assert_eq!(retained, template().retained);
        let expected: &[&[u8]] = match damaged.contains(&template().active()) {
            true => &[b"begin", b"end"],
            false => &[b"end"],
        };
        let position = position.unwrap();
        assert!(expected.contains(&position.as_slice()), "{position:?}");
    }

    /// No offset is used again, and the log goes on.
    fn check_appends(&self, store: &Store, outcome: &mut Outcome) {
        let first_free: BTreeMap<_, _> = template()
            .records
            .iter()
            .map(|(partition, records)| (*partition, *records.keys().next_back().unwrap() + 1))
            .collect();
        for number in 0..20 {
            for log in ["a", "b"] {
                let at = append(store, log, &format!("key {number}"), "after");
                let first = first_free[&at.partition];
                assert!(
                    at.offset.0 >= first,
                    "{} is used again: {outcome:?}",
                    at.offset
                );
                outcome.leapt |= at.offset.0 >= first + 1000;
                store.wait_durable(at.commit).unwrap();
            }
        }
    }

    fn everything(&self, store: &Store) -> Vec<Readable> {
        let partitions = store
            .logs()
            .into_iter()
            .flat_map(|log| log.partitions().collect::<Vec<_>>());
        let everything = partitions.map(|partition| {
            let (found, gaps) = read_with_gaps(store, partition);
            let gaps = gaps.into_iter().map(|(from, to, _)| (from, to));
            (partition, found, gaps.collect())
        });
        everything.collect()
    }
}

/// Records that the gap ledger says are gone for certain.
pub(crate) fn exact_losses(store: &Store) -> u64 {
    let gaps = store.gaps();
    let exact = gaps.iter().filter(|gap| !gap.at_most);
    exact.map(|gap| gap.records).sum()
}

/// Nothing wrong is shown, and nothing is missing without a word.
fn compare(
    written: &Records,
    found: &Records,
    gaps: &[(u64, u64, GapReason)],
    outcome: &mut Outcome,
) {
    for (offset, payload) in found {
        assert_eq!(
            written.get(offset),
            Some(payload),
            "offset {offset}: wrong data"
        );
    }
    for offset in written.keys().filter(|offset| !found.contains_key(offset)) {
        outcome.missing += 1;
        let told = gaps
            .iter()
            .find(|(from, to, _)| (from..to).contains(&offset));
        let Some((.., reason)) = told else {
            panic!("{offset} is missing without a word: {gaps:?}, {outcome:?}");
        };
        if !outcome.reasons.contains(reason) {
            outcome.reasons.push(*reason);
        }
    }
}

/// Everything that a reader gets of a partition, and what it is told is not there.
pub(crate) fn read_with_gaps(
    store: &Store,
    partition: LogPartition,
) -> (Records, Vec<(u64, u64, GapReason)>) {
    let mut reader = store.partition_reader(partition, Offset(0));
    let (mut records, mut gaps) = (Records::new(), Vec::new());
    let (mut empty, mut last) = (0, None);
    loop {
        assert!(empty < 1000, "the reader goes on: {reader:?}");
        match reader.read(100_000).unwrap() {
            Read::Batches(batches) if batches.is_empty() => empty += 1,
            Read::UpToDate => return (records, gaps),
            Read::Gap { from, to, reason } => {
                assert!(from < to, "gap {from}..{to}");
                gaps.push((from.0, to.0, reason));
            }
            Read::Batches(batches) => {
                for record in batches.iter().flat_map(|stored| stored.batch.records()) {
                    let record = record.unwrap();
                    let offset = u64::try_from(record.offset).unwrap();
                    assert!(last < Some(offset), "{offset} after {last:?}");
                    last = Some(offset);
                    let message = Message::from_record(&record).unwrap();
                    let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                    records.insert(offset, payload);
                }
            }
        }
    }
}

/// Appends, twenty records a commit.
fn append_all(store: &Store, log: &str, numbers: Range<usize>, size: usize) {
    for first in numbers.clone().step_by(20) {
        append_many(store, log, first..(first + 20).min(numbers.end), size);
    }
}

fn retain(store: &Store, topic: &'static str, payload: &'static str) {
    let message = Message {
        topic: topic.into(),
        client_id: "c".into(),
        payload: payload.into(),
        retain: true,
        ..Message::default()
    };
    let at = store.append(log_of(store, "a"), b"c", &message).unwrap();
    store.wait_durable(at.commit).unwrap();
}

fn put_position(store: &Store, value: &[u8]) {
    let within = std::time::Duration::ZERO;
    let commit = store.put_journal_entry(position_key(), Some(value.to_vec()), within);
    store.wait_durable(commit.unwrap()).unwrap();
}

/// Commits, and the offsets that each has of each partition.
type Commits = BTreeMap<CommitNumber, Vec<(LogPartition, Range<u64>)>>;

fn commits(store: &Store) -> Commits {
    let mut reader = store.commit_reader(CommitNumber(1));
    let mut all = Commits::new();
    loop {
        let commits = reader.read(100_000).unwrap();
        if commits.is_empty() {
            return all;
        }
        for commit in commits {
            let batches = commit.batches();
            let batches = batches.map(|b| (b.partition, b.base_offset.0..b.next_offset.0));
            all.insert(commit.number(), batches.collect());
        }
    }
}

/// The segments that hold something: the names of their trees say where each begins.
fn segments(folder: &Path, commits: &Commits) -> Vec<Segment> {
    let mut begins = BTreeMap::new();
    for name in names(&folder.join("log")) {
        // On a copy: opening changes files.
        let copy = tempfile::tempdir().unwrap();
        copy_all(&folder.join("log").join(&name), copy.path());
        let database = sled(copy.path(), 1024 * 1024).open().unwrap();
        let trees = database.tree_names();
        let firsts = trees.iter().filter(|tree| tree.len() == 10);
        let first = firsts.map(|tree| u64::from_be_bytes(tree[..8].try_into().unwrap()));
        if let Some(first) = first.min() {
            begins.insert(CommitNumber(first), name);
        }
    }
    let mut segments: Vec<Segment> = Vec::new();
    for (commit, batches) in commits {
        if let Some(name) = begins.remove(commit) {
            let offsets = BTreeMap::new();
            segments.push(Segment { name, offsets });
        }
        for (partition, range) in batches {
            let offsets = &mut segments.last_mut().unwrap().offsets;
            let known = offsets.entry(*partition).or_insert_with(|| range.clone());
            known.end = range.end;
        }
    }
    segments
}

/// A database of this size of sled's own segments, as storage opens it.
pub(crate) fn sled(path: &Path, segment_size: usize) -> sled::Config {
    let config = sled::Config::new().path(path);
    config.segment_size(segment_size).flush_every_ms(None)
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

pub(crate) fn snapshots(database: &Path) -> Vec<PathBuf> {
    let names = names(database).into_iter();
    let names = names.filter(|name| name.starts_with("snap."));
    names.map(|name| database.join(name)).collect()
}

pub(crate) fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            copy_all(&source, &target);
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}
