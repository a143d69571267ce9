//! Reading only what is wanted, compared with reading everything, while segments come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::missing::MissingList;
use crate::gap::GapReason;
use crate::ids::{CommitNumber, LogId, SegmentId};
use crate::logs::LogOptions;
use crate::message::Message;
use crate::store::{AppendError, Store, StoreOptions, StoreThreads, topic_keeping};
use crate::topics::{TopicMatch, TopicNumber};

/// Commits and the topics in each.
type Content = Vec<(CommitNumber, BTreeSet<Vec<u8>>)>;

struct Folder {
    path: tempfile::TempDir,
    store: Option<(Store, StoreThreads)>,
    appended: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Records of a few topics from this one on, so many in each commit.
    Append(u8, u8),
    Restart,
    /// Removes what is stored of a segment, or all but its runs, or gives it that of another.
    Forget(u8, u8),
    /// Lets the keeper work.
    Wait,
    /// Reads what is wanted of these topics, from a commit on, while more is appended or not.
    Read(BTreeSet<u8>, u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..40_u8, 1..20_u8).prop_map(|(topic, each)| Step::Append(topic, each)),
        1 => Just(Step::Restart),
        1 => (any::<u8>(), 0..3_u8).prop_map(|(segment, how)| Step::Forget(segment, how)),
        2 => Just(Step::Wait),
        3 => (proptest::collection::btree_set(0..50_u8, 0..3), any::<u8>(), any::<bool>())
            .prop_map(|(wanted, from, meanwhile)| Step::Read(wanted, from, meanwhile)),
    ]
}

fn topic(number: u8) -> String {
    format!("topic {number}")
}

impl Folder {
    fn new() -> Self {
        let path = tempfile::tempdir().unwrap();
        let mut folder = Self {
            path,
            store: None,
            appended: 0,
        };
        folder.open();
        folder
    }

    fn open(&mut self) {
        let short = LogOptions {
            retention_bytes: 2 << 20,
            ..LogOptions::new("short", 2)
        };
        let options = StoreOptions {
            segment_bytes: 1 << 20,
            ring_bytes_max: 200_000,
            ..StoreOptions::default()
        };
        let logs = [short, LogOptions::new("long", 1)];
        self.store = Some(Store::open(self.path.path(), options, &logs).unwrap());
    }

    fn store(&self) -> &Store {
        &self.store.as_ref().unwrap().0
    }

    fn append(&mut self, first: u8, each: u8) {
        append(self.store(), self.appended, first, each);
        self.appended += 1;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(first, each) => self.append(first, each),
            Step::Restart => {
                let (_, threads) = self.store.take().unwrap();
                threads.close();
                self.open();
            }
            Step::Forget(segment, how) => self.forget(segment, how),
            Step::Wait => {
                self.store().shared.wake_keeper();
                std::thread::sleep(Duration::from_millis(30));
            }
            Step::Read(wanted, from, meanwhile) => self.compare(&wanted, from, meanwhile),
        }
    }

    fn forget(&self, segment: u8, how: u8) {
        let shared = &self.store().shared;
        let sealed: Vec<_> = {
            let index = shared.segments.index();
            let sealed = index.sealed.iter();
            sealed
                .map(|(id, record)| (*id, (**record).clone()))
                .collect()
        };
        let count = sealed.len();
        let Some((id, record)) = sealed.get(usize::from(segment) % count.max(1)) else {
            return;
        };
        match how {
            0 => shared.metadata.remove_topics_of(*id).unwrap(),
            1 => shared.metadata.remove_runs_of(*id).unwrap(),
            _ => {
                let other = crate::metadata::SegmentRecord {
                    bytes: record.bytes + 1,
                    ..record.clone()
                };
                shared
                    .metadata
                    .put_topics_of(*id, &other, Vec::new())
                    .unwrap();
            }
        }
    }

    fn compare(&mut self, wanted: &BTreeSet<u8>, from: u8, meanwhile: bool) {
        let wanted: BTreeSet<Vec<u8>> = wanted.iter().map(|n| topic(*n).into_bytes()).collect();
        let durable = self.store().durable().0;
        let from = CommitNumber(durable * u64::from(from) / 300);
        let before = everything(self.store(), from);
        let mut reader = self.store().commit_reader(from);
        let mut topics = TopicMatch::default();
        let mut found = Content::new();
        let end = self.store().durable();
        while reader.next_commit() <= end {
            let wants = &mut |name: &[u8]| wanted.contains(name);
            let commits = reader.read_matching(60_000, &mut topics, wants).unwrap();
            found.extend(commits.iter().map(content));
            if meanwhile {
                self.append(3, 15);
            }
        }
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b), "in order");
        let after = everything(self.store(), from);
        let is_wanted = |(commit, topics): &&(CommitNumber, BTreeSet<Vec<u8>>)| {
            *commit <= end && topics.iter().any(|topic| wanted.contains(topic))
        };
        let of = |content: &Content| -> BTreeSet<CommitNumber> {
            content
                .iter()
                .filter(is_wanted)
                .map(|(commit, _)| *commit)
                .collect()
        };
        let (before, found, after) = (of(&before), of(&found), of(&after));
        // What retention took meanwhile may be there or not.
        let passed_over: Vec<_> = after.difference(&found).collect();
        assert!(passed_over.is_empty(), "not given: {passed_over:?}");
        let invented: Vec<_> = found.difference(&before).collect();
        assert!(invented.is_empty(), "not there: {invented:?}");
    }
}

fn append(store: &Store, round: u64, first: u8, each: u8) {
    for number in 0..250_u64 {
        // Most are of the log that is kept short, the others of few topics.
        let (log, topics) = match number % 16 {
            0 => ("long", 2),
            _ => ("short", 6),
        };
        let topic = topic(first.wrapping_add(u8::try_from(number % topics).unwrap()) % 45);
        let size = usize::try_from((number * 7919 + round * 31) % 3000).unwrap();
        let message = Message {
            topic: topic.clone().into(),
            payload: vec![7; size].into(),
            qos: 1,
            ..Message::default()
        };
        let log: LogId = store.log(log).unwrap().id;
        let appended = loop {
            match store.append(log, topic.as_bytes(), &message) {
                Err(AppendError::QueueFull) => std::thread::sleep(Duration::from_millis(1)),
                appended => break appended.unwrap(),
            }
        };
        if number % u64::from(each) == 0 || number == 249 {
            store.wait_durable(appended.commit).unwrap();
        }
    }
}

fn content(commit: &crate::Commit) -> (CommitNumber, BTreeSet<Vec<u8>>) {
    let mut topics = BTreeSet::new();
    for batch in commit.batches() {
        let batch = commit.batch(batch.partition).unwrap().unwrap();
        for record in batch.records() {
            let message = Message::from_record(&record.unwrap()).unwrap();
            topics.insert(message.topic.to_vec());
        }
    }
    (commit.number(), topics)
}

fn everything(store: &Store, from: CommitNumber) -> Content {
    let mut reader = store.commit_reader(from);
    let mut found = Content::new();
    while !reader.is_at_end() {
        found.extend(reader.read(500_000).unwrap().iter().map(content));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 4, ..ProptestConfig::default() })]

    #[test]
    fn no_commit_with_a_wanted_topic_is_passed_over(
        steps in proptest::collection::vec(step(), 10..30),
    ) {
        let mut folder = Folder::new();
        for step in steps {
            folder.step(step);
        }
        folder.compare(&[3, 44].into(), 0, false);
        let (store, threads) = folder.store.take().unwrap();
        drop(store);
        threads.close();
    }
}

/// Three segments or more of common topics, the rare one in the first.
fn filled() -> Folder {
    fill(Folder::new())
}

fn fill(mut folder: Folder) -> Folder {
    append_rare(folder.store());
    for _ in 0..16 {
        folder.append(0, 10);
    }
    let shared = &folder.store().shared;
    let is_sealed = |id| {
        let index = shared.segments.index();
        let record = index.sealed.get(&SegmentId(id));
        record.is_none_or(|record| record.state == crate::metadata::SegmentState::Sealed)
    };
    let last = shared.segments.index().active.0.0;
    while !(1..last).all(is_sealed) {
        shared.wake_keeper();
        std::thread::sleep(Duration::from_millis(5));
    }
    folder
}

fn append_rare(store: &Store) {
    let message = Message {
        topic: "rare".into(),
        qos: 1,
        ..Message::default()
    };
    let log = store.log("long").unwrap().id;
    let appended = store.append(log, b"rare", &message).unwrap();
    store.wait_durable(appended.commit).unwrap();
}

/// How many commits came, and how many sealed segments were opened for it.
fn read_rare(folder: &Folder) -> (usize, u64) {
    let store = folder.store();
    let opened = store.counters().segments_opened();
    let mut reader = store.commit_reader(CommitNumber(1));
    let mut topics = TopicMatch::default();
    let mut found = 0;
    while !reader.is_at_end() {
        let wants = &mut |name: &[u8]| name == b"rare";
        let commits = reader.read_matching(1 << 20, &mut topics, wants).unwrap();
        let rare = |commit: &&crate::Commit| content(commit).1.contains(b"rare".as_slice());
        found += commits.iter().filter(rare).count();
    }
    (found, store.counters().segments_opened() - opened)
}

#[test]
fn segment_without_a_wanted_topic_is_not_opened() {
    let mut folder = filled();
    // Whatever was open is closed.
    folder.step(Step::Restart);
    let segments = folder.store().status().segments;
    assert!(segments >= 4, "{segments}");
    let (found, opened) = read_rare(&folder);
    assert_eq!(found, 1);
    // The one that it is in, and the last one, which recovery sealed.
    assert!(opened <= 2, "{opened} of {segments} segments opened");
    let counters = folder.store().counters();
    assert!(counters.segments_passed_over() >= 1);
    assert!(counters.runs_passed_over() > counters.runs_read());
}

#[test]
fn segment_of_which_nothing_is_known_is_read() {
    let folder = filled();
    let shared = &folder.store().shared;
    let sealed: Vec<_> = shared.segments.index().sealed.keys().copied().collect();
    for id in &sealed {
        shared.metadata.remove_topics_of(*id).unwrap();
    }
    let (found, _) = read_rare(&folder);
    assert_eq!(found, 1);
    assert_eq!(folder.store().counters().segments_passed_over(), 0);
}

#[test]
fn topic_for_which_there_is_no_number_is_read() {
    let folder = Folder::new();
    {
        let mut state = folder.store().shared.state();
        let mut name = 0;
        let mut add = || {
            name += 1;
            let name = format!("{name:065535}");
            state.topics.number_of(name.as_bytes(), CommitNumber(0))
        };
        while add().is_some() {}
        // What room is left for short ones.
        let mut left = 0_u32;
        while state
            .topics
            .number_of(&left.to_be_bytes(), CommitNumber(0))
            .is_some()
        {
            left += 1;
        }
    }
    let folder = fill(folder);
    assert_eq!(read_rare(&folder).0, 1);
    // The keeper has made room meanwhile, since what fills the dictionary is nowhere in the log.
    assert!(!folder.store().shared.state().topics.is_nearly_full());
}

/// A number that the dictionary lost may be anything; one that was given out is not given again.
#[test]
fn topic_whose_name_was_lost_is_read_and_its_number_stays_taken() {
    let mut folder = filled();
    let number = {
        let state = folder.store().shared.state();
        let names = state.topics.names_from(TopicNumber(0), usize::MAX);
        names.iter().find(|(_, name)| **name == *b"rare").unwrap().0
    };
    let shared = &folder.store().shared;
    shared.metadata.remove_topics(&[number]).unwrap();
    folder.step(Step::Restart);
    let mut state = folder.store().shared.state();
    let next = state.topics.next();
    assert!(number < next, "{number:?} {next:?}");
    assert_eq!(
        state.topics.number_of(b"another", CommitNumber(1)),
        Some(next)
    );
    drop(state);
    assert_eq!(read_rare(&folder).0, 1);
}

#[test]
fn only_names_that_are_nowhere_in_the_log_are_forgotten() {
    let mut folder = filled();
    let unused = {
        let mut state = folder.store().shared.state();
        state
            .topics
            .number_of(b"never sealed", CommitNumber(0))
            .unwrap()
    };
    let names = |folder: &Folder| -> Vec<Vec<u8>> {
        let state = folder.store().shared.state();
        let names = state.topics.names_from(TopicNumber(0), usize::MAX);
        names.iter().map(|(_, name)| name.to_vec()).collect()
    };
    let before = names(&folder);
    topic_keeping::forget(&folder.store().shared).unwrap();
    let after = names(&folder);
    let gone: Vec<_> = before
        .iter()
        .filter(|name| !after.contains(*name))
        .collect();
    assert_eq!(gone, [b"never sealed"]);
    // Also for whoever opens the folder.
    folder.step(Step::Restart);
    let mut state = folder.store().shared.state();
    let again = state.topics.number_of(b"never sealed", CommitNumber(1));
    assert!(again.unwrap() >= unused);
    drop(state);
    assert_eq!(read_rare(&folder).0, 1);
}

#[test]
fn name_that_comes_while_it_is_read_is_asked_for() {
    let folder = filled();
    let store = folder.store();
    let (mut reader, mut topics) = (store.commit_reader(CommitNumber(1)), TopicMatch::default());
    let mut asked = Vec::new();
    for name in ["new", "newer"] {
        let message = Message {
            topic: name.into(),
            ..Message::default()
        };
        let log = store.log("long").unwrap().id;
        let appended = store.append(log, b"key", &message).unwrap();
        store.wait_durable(appended.commit).unwrap();
        let before = asked.len();
        while !reader.is_at_end() {
            let wants = &mut |name: &[u8]| {
                asked.push(name.to_vec());
                name.starts_with(b"new")
            };
            reader.read_matching(1 << 20, &mut topics, wants).unwrap();
        }
        let asked = &asked[before..];
        assert!(asked.contains(&name.as_bytes().to_vec()), "{asked:?}");
    }
    let names = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), names, "asked once for each");
    // More is wanted: only what was not so far is asked for.
    let mut asked_again = Vec::new();
    store.widen_match(&mut topics, |name| {
        asked_again.push(name.to_vec());
        name == b"rare"
    });
    assert_eq!(asked_again.len(), names - 2);
    let mut reader = store.commit_reader(CommitNumber(1));
    let commits = reader
        .read_matching(1, &mut topics, &mut |_| false)
        .unwrap();
    assert!(content(&commits[0]).1.contains(b"rare".as_slice()));
}

#[test]
fn what_retention_took_is_told_of_its_log_alone() {
    let mut folder = filled();
    let short = folder.store().log("short").unwrap().id;
    let is_removed = |folder: &Folder| {
        let index = folder.store().shared.segments.index();
        !index.sealed.contains_key(&SegmentId(2))
    };
    while !is_removed(&folder) {
        folder.step(Step::Append(0, 50));
        folder.step(Step::Wait);
    }
    let first = {
        let index = folder.store().shared.segments.index();
        index.sealed.values().next().unwrap().first_commit
    };
    for is_matching in [false, true] {
        let mut reader = folder.store().commit_reader(CommitNumber(1));
        let mut topics = TopicMatch::default();
        while !reader.is_at_end() {
            match is_matching {
                true => reader.read_matching(1 << 20, &mut topics, &mut |_| false),
                false => reader.read(1 << 20),
            }
            .unwrap();
        }
        let missing = reader.take_missing();
        assert!(!missing.is_empty());
        for missing in &missing {
            assert_eq!(
                (missing.log, missing.reason),
                (Some(short), GapReason::Retention)
            );
        }
        assert_eq!(missing[0].from.max(first), first, "{missing:?}");
        assert!(reader.take_missing().is_empty());
    }
    let shared = &folder.store().shared;
    let told = |from: CommitNumber| {
        let mut missing = MissingList::default();
        missing.push_retention(shared, from, from.next());
        missing.take().len()
    };
    // Behind segments with older records of a log nothing of it can be missing.
    let behind = {
        let index = shared.segments.index();
        index.active.1.last_commit
    };
    assert_eq!((told(CommitNumber(1)), told(behind)), (1, 0));
    // Whoever begins where all is there misses nothing.
    let durable = folder.store().durable();
    let mut reader = folder.store().commit_reader(durable);
    assert_eq!(reader.read(1 << 20).unwrap().len(), 1);
    assert!(reader.take_missing().is_empty());
}

#[test]
fn what_lies_behind_damage_is_told_exactly() {
    let mut folder = filled();
    let (id, record) = {
        let index = folder.store().shared.segments.index();
        let (id, record) = index.sealed.iter().next().unwrap();
        (*id, record.clone())
    };
    let (_, threads) = folder.store.take().unwrap();
    threads.close();
    let name = record.name(id);
    let file = name.path(&folder.path.path().join("log")).join("db");
    let bytes = std::fs::metadata(&file).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 60_000], bytes / 2).unwrap();
    folder.open();
    let mut reader = folder.store().commit_reader(record.first_commit);
    let mut found = Vec::new();
    while reader.next_commit() <= record.last_commit {
        let commits = reader.read(100_000).unwrap();
        found.extend(commits.iter().map(crate::Commit::number));
    }
    let missing = reader.take_missing();
    let lost: Vec<_> = missing
        .iter()
        .filter(|missing| missing.log.is_none())
        .collect();
    assert_eq!(lost.len(), 1, "{missing:?}");
    assert_eq!(lost[0].reason, GapReason::Quarantine);
    assert_eq!(lost[0].to, record.last_commit.next());
    let in_segment = found.iter().filter(|number| **number <= record.last_commit);
    assert_eq!(in_segment.max().unwrap().next(), lost[0].from);
}
