//! What is done to the store while its folder is recorded.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use storage::{CommitNumber, JournalKey, JournalKind, LogOptions, Store, StoreOptions};

use crate::check::{self, Finding};
use crate::cold::{self, Cold};
use crate::content;
use crate::expectation::{Acknowledgement, Expectation, LogShape, Partition, Retained, Written};
use crate::gateway::first_life;
use crate::random::Random;
use crate::recorder::{self, Control, Plan};
use crate::trace::Trace;

const MIB: u64 = 1024 * 1024;

/// Long enough for the keeper to come round by itself: it removes nothing while segments roll.
const PAUSE: Duration = Duration::from_millis(600);

/// A way to use the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// Few records a commit, one segment
    Gentle,
    /// Hundreds of records a commit, segments of 1 MiB
    Rough,
    /// Many small commits over many segments
    Rolling,
    /// Three logs that keep very different amounts
    Retention,
    /// Many partitions, topics and entries of the journal
    Metadata,
    /// Thousands of commits of one record in one segment, until sled writes over what it has freed of it
    Tiny,
    /// Cold entries of the journal, which move into the metadata and change meanwhile
    Sessions,
    /// The power goes while the folder recovers from the last cut, several times in a row
    Recovery,
    /// The whole broker, with clients that keep QoS 2, are slow, come and go, over several cuts
    Broker,
}

impl Workload {
    /// What it is called in tables and options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gentle => "gentle",
            Self::Rough => "rough",
            Self::Rolling => "rolling",
            Self::Retention => "retention",
            Self::Metadata => "metadata",
            Self::Tiny => "tiny",
            Self::Sessions => "sessions",
            Self::Recovery => "recovery",
            Self::Broker => "broker",
        }
    }
}

/// A workload in numbers.
#[derive(Debug)]
struct Shape {
    logs: Vec<LogOptions>,
    /// Records are appended in groups, each waited for as a whole.
    groups: usize,
    group_max: usize,
    payload_max: usize,
    /// Groups that wait at the same time.
    depth: usize,
    /// How many of 100 records are retained messages, and how many of those clear their topic.
    retained_percent: u8,
    cleared_percent: u8,
    topics: usize,
    /// Entries of the journal.
    entries: usize,
    /// Cold entries of the journal, how many change with a group, and the bytes of most.
    sessions: usize,
    sessions_max: usize,
    session_bytes: usize,
    commit_bytes_max: usize,
    segment_bytes: u64,
    /// Segments are closed when nothing was written for this long.
    quiet_after: Option<Duration>,
    sync_us_max: usize,
    /// How often it waits for [`PAUSE`].
    pauses: usize,
}

fn log(name: &str, partitions: u16, retention_bytes: u64) -> LogOptions {
    LogOptions {
        retention_bytes,
        ..LogOptions::new(name, partitions)
    }
}

impl Shape {
    fn small(random: &mut Random) -> Self {
        Self {
            logs: vec![log("a", 4, u64::MAX), log("b", 1, u64::MAX)],
            groups: 60 + random.below(60),
            group_max: 6,
            payload_max: 700,
            depth: random.below(2),
            retained_percent: 10,
            cleared_percent: 25,
            topics: 10,
            entries: 3,
            sessions: 5,
            sessions_max: 2,
            session_bytes: 400,
            commit_bytes_max: 256 * 1024,
            segment_bytes: storage::SEGMENT_BYTES_MIN,
            // At once, which is after most groups of those that write much.
            quiet_after: random.chance(30).then_some(Duration::ZERO),
            sync_us_max: 300,
            pauses: 0,
        }
    }

    fn new(workload: Workload, random: &mut Random) -> Self {
        let small = Self::small(random);
        match workload {
            Workload::Gentle => small,
            Workload::Rough => Self {
                groups: 12 + random.below(12),
                group_max: 800,
                depth: random.below(3),
                commit_bytes_max: (64 * 1024) << random.below(6),
                ..small
            },
            Workload::Rolling => Self {
                groups: 50 + random.below(100),
                group_max: 40,
                payload_max: 3000,
                depth: random.below(3),
                pauses: 1,
                ..small
            },
            Workload::Retention => Self {
                logs: vec![
                    log("hour", 2, MIB / 8),
                    log("day", 2, MIB / 4),
                    // So much that segments are evacuated for it.
                    log("weeks", 1, 3 * MIB),
                ],
                groups: 130 + random.below(60),
                group_max: 50,
                payload_max: 3000,
                pauses: 4,
                ..small
            },
            Workload::Metadata if random.chance(30) => small.of_large_retained(random),
            Workload::Metadata => Self {
                logs: vec![log("wide", 64, 2 * MIB), log("one", 1, u64::MAX)],
                groups: 60 + random.below(60),
                group_max: 60,
                payload_max: if random.chance(50) { 900 } else { 5000 },
                retained_percent: 90,
                cleared_percent: 40,
                topics: 150,
                entries: 40,
                pauses: 1,
                ..small
            },
            Workload::Tiny => Self {
                logs: vec![log("a", 1, u64::MAX)],
                // Nothing is freed of the first 12,000.
                groups: 14_000 + random.below(6000),
                group_max: 1,
                // One of a hundred has more than a block.
                payload_max: 200,
                retained_percent: 0,
                entries: 1,
                segment_bytes: 64 * MIB,
                sync_us_max: 0,
                ..small
            },
            Workload::Sessions => small.of_sessions(random),
            // What is done between two cuts; the first of them falls into another workload.
            // The broker writes as its clients want it.
            Workload::Recovery | Workload::Broker => Self {
                groups: random.below(10),
                group_max: 200,
                ..small
            },
        }
    }

    /// So many that they move while others change.
    fn of_sessions(self, random: &mut Random) -> Self {
        Self {
            logs: vec![log("a", 2, 2 * MIB)],
            groups: 60 + random.below(60),
            group_max: 20,
            depth: random.below(3),
            sessions: if random.chance(50) { 12 } else { 150 },
            sessions_max: 12,
            session_bytes: if random.chance(50) { 300 } else { 3000 },
            pauses: 5,
            ..self
        }
    }

    /// They fill and free sled's segments of the metadata again and again.
    fn of_large_retained(self, random: &mut Random) -> Self {
        Self {
            groups: 30 + random.below(30),
            group_max: 12,
            payload_max: 60_000,
            retained_percent: 100,
            topics: 12,
            commit_bytes_max: 1024 * 1024,
            pauses: 1,
            ..self
        }
    }
}

/// What the first folder of a chain of recoveries is made by.
pub(crate) fn before_recovery(seed: u64) -> Workload {
    let all = [
        Workload::Gentle,
        Workload::Rough,
        Workload::Rolling,
        Workload::Retention,
        Workload::Metadata,
        Workload::Sessions,
    ];
    let chosen = Random::new(seed, 3).below(all.len());
    all.get(chosen).copied().unwrap_or(Workload::Rolling)
}

/// Which run of which workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) workload: Workload,
    pub(crate) seed: u64,
    pub(crate) control: Option<Control>,
}

/// What became of a recording.
#[derive(Debug)]
pub(crate) enum Recorded {
    Trace(Box<Trace>),
    /// The folder had lost something when it was opened.
    Bad(Vec<Finding>),
}

/// Opens the folder, uses it and closes it, and returns what happened to it meanwhile.
pub(crate) fn record(run: Run, folder: &Path, mut before: Expectation) -> Result<Recorded> {
    if run.workload == Workload::Broker {
        return first_life::record(run, folder, before);
    }
    let mut random = Random::new(run.seed, 2);
    let shape = Shape::new(run.workload, &mut random);
    let is_new = before.logs.is_empty();
    let logs = if is_new {
        let shape_of = |log: &LogOptions| LogShape {
            name: log.name.clone(),
            partitions: log.partitions,
        };
        before.logs = shape.logs.iter().map(shape_of).collect();
        shape.logs.clone()
    } else {
        check::kept(&before.logs)
    };
    recorder::begin(Plan {
        folder,
        seed: run.seed,
        control: run.control,
        sync_us_max: shape.sync_us_max,
        before: Expectation {
            in_flight: Vec::new(),
            ..before.clone()
        },
    })?;
    let options = StoreOptions {
        commit_bytes_max: shape.commit_bytes_max,
        segment_bytes: shape.segment_bytes,
        quiet_after: shape.quiet_after,
        ..check::options()
    };
    let opened = Store::open(folder, options, &logs);
    let (store, threads) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(Recorded::Bad(vec![check::does_not_open(error)])),
    };
    if !is_new {
        let examined = check::examine(&store, &before);
        if !examined.findings.is_empty() {
            return Ok(Recorded::Bad(examined.findings));
        }
        recorder::acknowledge(examined.shown);
    }
    let mut writer = Writer {
        store: &store,
        number: before.next_number(),
        pending: VecDeque::new(),
        random,
        shape,
        topic_prefix: run.workload.name(),
    };
    writer.write().context("write to the store")?;
    threads.close();
    // Retention may have moved on after the last promise.
    recorder::acknowledge(Acknowledgement {
        log_starts: log_starts(&store),
        ..Acknowledgement::default()
    });
    drop(store);
    Ok(Recorded::Trace(Box::new(recorder::finish()?)))
}

/// A group that was appended.
struct Pending {
    commit: CommitNumber,
    promise: Acknowledgement,
}

struct Writer<'a> {
    store: &'a Store,
    number: u64,
    pending: VecDeque<Pending>,
    random: Random,
    shape: Shape,
    topic_prefix: &'static str,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<()> {
        let pause_every = self.shape.groups / (self.shape.pauses + 1) + 1;
        for number in 1..=self.shape.groups {
            if number % pause_every == 0 {
                thread::sleep(PAUSE);
            }
            let group = self.append_group()?;
            self.pending.push_back(group);
            while self.pending.len() > self.shape.depth {
                self.wait_for_oldest()?;
            }
        }
        while !self.pending.is_empty() {
            self.wait_for_oldest()?;
        }
        Ok(())
    }

    fn append_group(&mut self) -> Result<Pending> {
        let mut promise = Acknowledgement {
            incarnation: Some(self.store.incarnation().0),
            ..Acknowledgement::default()
        };
        let mut commit = CommitNumber(0);
        let logs: Vec<_> = self.store.logs();
        for _ in 0..=self.random.below(self.shape.group_max) {
            let number = self.number;
            self.number += 1;
            let retained = self.random.chance(self.shape.retained_percent);
            let cleared = retained && self.random.chance(self.shape.cleared_percent);
            let topic = format!(
                "{}/{}",
                self.topic_prefix,
                self.random.below(self.shape.topics)
            );
            // Without a payload it would clear its topic.
            let bytes = 1 + self.random.below(self.shape.payload_max);
            // A few large ones, which are cut into pieces.
            let bytes = if self.random.chance(1) {
                bytes * 40
            } else {
                bytes
            };
            let mut message = content::message(&topic, number, bytes, cleared);
            message.retain = retained;
            // A topic has one log, or nobody could say which of its retained messages is the newest.
            let of_topic = topic.bytes().map(usize::from).sum::<usize>() % logs.len().max(1);
            let log = logs.get(of_topic).context("the store has no log")?;
            let appended = check::append(self.store, log.id, &topic, &message)?;
            commit = commit.max(appended.commit);
            promise.records.push(Written {
                partition: check::partition_of(&appended),
                offset: appended.offset.0,
                number,
            });
            if retained {
                promise.retained.push(Retained {
                    topic,
                    number,
                    cleared,
                });
            }
        }
        for _ in 0..self.random.below(self.shape.entries) {
            let name = format!("entry {}", self.random.below(self.shape.entries));
            let value = self.number - 1;
            let key = JournalKey::new(JournalKind::BridgeRoute, name.as_bytes());
            let stored = Some(value.to_be_bytes().to_vec());
            let put = self.store.put_journal_entry(key, stored, Duration::ZERO)?;
            commit = commit.max(put);
            promise.entries.push((name, value));
        }
        commit = commit.max(self.change_sessions(&mut promise)?);
        Ok(Pending { commit, promise })
    }

    /// Changes a few cold entries, with one commit.
    fn change_sessions(&mut self, promise: &mut Acknowledgement) -> Result<CommitNumber> {
        let number = cold::newest(&promise.records);
        let mut entries = Vec::new();
        for _ in 0..self.random.below(self.shape.sessions_max) {
            let name = format!("session {}", self.random.below(self.shape.sessions));
            if promise.cold.iter().any(|cold| cold.name == name) {
                continue;
            }
            let removed = self.random.chance(25);
            let bytes = self.random.below(self.shape.session_bytes);
            // A few are cut into pieces.
            let bytes = if self.random.chance(4) {
                bytes * 40
            } else {
                bytes
            };
            let change = Cold {
                name,
                number,
                removed,
            };
            entries.push(change.entry(bytes));
            promise.cold.push(change);
        }
        if entries.is_empty() {
            return Ok(CommitNumber(0));
        }
        let commit = self.store.put_journal_entries(entries, Duration::ZERO);
        commit.context("put cold entries")
    }

    fn wait_for_oldest(&mut self) -> Result<()> {
        if let Some(Pending { commit, promise }) = self.pending.pop_front() {
            self.store.wait_durable(commit)?;
            recorder::acknowledge(Acknowledgement {
                log_starts: log_starts(self.store),
                ..promise
            });
        }
        Ok(())
    }
}

fn log_starts(store: &Store) -> Vec<(Partition, u64)> {
    let logs = store.logs();
    let partitions = logs.iter().flat_map(storage::Log::partitions);
    let starts = partitions.map(|place| {
        let partition = (place.log.0, place.partition.0);
        (partition, store.log_start(place).0)
    });
    let moved: BTreeMap<_, _> = starts.filter(|(_, start)| *start > 0).collect();
    moved.into_iter().collect()
}
