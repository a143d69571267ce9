//! Reading only what is wanted, compared with reading everything, while segments come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::ids::{CommitNumber, LogId, SegmentId};
use crate::logs::LogOptions;
use crate::message::Message;
use crate::store::{AppendError, Store, StoreOptions, StoreThreads};
use crate::topics::TopicMatch;

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
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, ..ProptestConfig::default() })]

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
    let mut folder = Folder::new();
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
