//! A subscriber of one rare topic comes back to a large log, and after it one that wants everything: what
//! it costs the product to serve them.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::books::Plain;
use super::load::{Load, Planned};
use super::stage::{QUIET, Stage};
use super::verdict;
use crate::mqtt::Version;

const PAYLOAD_BYTES: u32 = 1_000;
const TOPICS: u32 = 1_000;
const PUBLISHERS: usize = 8;
/// Messages of the rare topic, at equal distances.
const RARE: u32 = 20;
const RARE_TOPIC: &str = "plant/7/alarm";
const SEGMENT_BYTES: &str = "16MiB";
const MIB: f64 = 1024.0 * 1024.0;

const METRICS: [&str; 3] = [
    "tidegate_log_segments_opened_total",
    "tidegate_log_segments_passed_over_total",
    "tidegate_log_read_bytes_total",
];

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// MiB of payload in the log.
    pub log_mib: u32,
    /// The product; by default that of the tests.
    pub program: Option<PathBuf>,
}

/// What it cost to serve one subscriber.
#[derive(Debug, Clone)]
struct Cost {
    name: &'static str,
    messages: usize,
    time: Duration,
    /// Bytes that the process gave to `read` and `write` and their kin, sockets included.
    read: u64,
    written: u64,
    /// As [`METRICS`].
    metrics: [f64; 3],
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    costs: Vec<Cost>,
}

impl Report {
    /// Bytes of commits that were read out of segments for the rare topic, and for everything.
    pub fn bytes_read(&self) -> Option<(f64, f64)> {
        let [rare, everything] = self.costs.as_slice() else {
            return None;
        };
        Some((rare.metrics[2], everything.metrics[2]))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB of payload in messages of {PAYLOAD_BYTES} bytes, {TOPICS} topics, \
             {RARE} messages of a rare one, segments of {SEGMENT_BYTES}",
            self.options.log_mib
        )?;
        for cost in &self.costs {
            let [opened, passed_over, bytes] = cost.metrics;
            write!(
                f,
                "\n{:>10}: {} messages in {:.2} s, {:.1} MiB read, {:.1} MiB written, {opened} segments \
                 opened, {passed_over} passed over, {:.1} MiB of commits",
                cost.name,
                cost.messages,
                cost.time.as_secs_f64(),
                cost.read as f64 / MIB,
                cost.written as f64 / MIB,
                bytes / MIB,
            )?;
        }
        Ok(())
    }
}

/// A run while it runs.
struct Run {
    stage: Stage,
    books: Plain,
    load: Load,
    messages: u32,
}

fn is_rare(number: u32, messages: u32) -> bool {
    let distance = messages / RARE;
    number % distance == distance / 2 && number / distance < RARE
}

/// The number of its topic; the rare one has the last.
fn topic(number: u32, messages: u32) -> u32 {
    match is_rare(number, messages) {
        true => TOPICS,
        // As if drawn by lot.
        false => (number.wrapping_mul(0x9e37_79b9) >> 8) % TOPICS,
    }
}

fn message(number: u32, messages: u32) -> Planned {
    let topic = topic(number, messages);
    Planned {
        topic: match topic {
            TOPICS => RARE_TOPIC.to_owned(),
            topic => format!("plant/{topic}/value"),
        },
        qos: 1,
        bytes: PAYLOAD_BYTES as usize,
        publisher: topic as usize % PUBLISHERS,
    }
}

impl Run {
    /// Makes the sessions, which are away then, and the log.
    fn begin(options: &Options) -> Result<(Self, [usize; 2])> {
        let tables =
            "[[log]]\nname = \"all\"\nfilters = [\"#\"]\nretention = { bytes = \"16GiB\" }\n";
        let mut stage = Stage::with_segments(options.program.clone(), 2, SEGMENT_BYTES, tables)?;
        let mut load = Load::new(&mut stage, PUBLISHERS);
        let clients = [
            stage.add(Version::V5, "of-a-rare-topic"),
            stage.add(Version::V5, "of-everything"),
        ];
        let mut books = Plain::new(stage.crowd.len());
        stage.connect(clients, &mut books)?;
        for (client, filter) in clients.into_iter().zip(["+/7/alarm", "#"]) {
            stage.crowd.kept(client)?.subscribe(filter, 1)?;
            stage.crowd.flush(client)?;
        }
        stage.until("SUBACK", &mut books, |_, books| {
            Ok(books.all(clients, |seen| seen.subscribed > 0))
        })?;
        for client in clients {
            stage.crowd.say_good_bye(client)?;
        }
        stage.until("the end of connections", &mut books, |_, books| {
            Ok(books.all(clients, |seen| !seen.is_connected))
        })?;
        let bytes = u64::from(options.log_mib) << 20;
        let messages = u32::try_from(bytes / u64::from(PAYLOAD_BYTES));
        let messages = messages.context("too large a log")?.max(RARE);
        let planned = |number| message(number, messages);
        load.connect(&mut stage, &mut books)?;
        load.plan(0..messages, planned);
        load.publish_until(&mut stage, &mut books, &planned, messages as usize)?;
        let run = Self {
            stage,
            books,
            load,
            messages,
        };
        Ok((run, clients))
    }

    /// A subscriber comes back and takes what is its.
    fn serve(&mut self, name: &'static str, client: usize, expected: &[u32]) -> Result<Cost> {
        // Nothing of the log is in memory then, and no segment is open.
        let messages = self.messages;
        let planned = |number| message(number, messages);
        self.load
            .kill_server(&mut self.stage, &mut self.books, &planned)?;
        let (before, begin) = (self.figures()?, Instant::now());
        let (stage, books) = (&mut self.stage, &mut self.books);
        stage.connect([client], books)?;
        stage.until_quiet(QUIET, books, |_, books| {
            Ok(books.all([client], |seen| seen.received.len() >= expected.len()))
        })?;
        let time = begin.elapsed();
        stage.settle(books, &[client])?;
        let after = self.figures()?;
        let seen = self.books.seen.get(client).context("a client")?;
        let topic = |number| topic(number, messages);
        verdict::check(expected, &seen.received, topic, |_| false)
            .with_context(|| self.stage.broker.log_tail())?;
        Ok(Cost {
            name,
            messages: seen.received.len(),
            time,
            read: after.0 - before.0,
            written: after.1 - before.1,
            metrics: std::array::from_fn(|i| {
                let of = |all: &[f64; 3]| all.get(i).copied().unwrap_or(0.0);
                of(&after.2) - of(&before.2)
            }),
        })
    }

    /// Bytes read and written, and the metrics.
    fn figures(&self) -> Result<(u64, u64, [f64; 3])> {
        let path = format!("/proc/{}/io", self.stage.broker.pid()?);
        let io = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| -> Result<u64> {
            let value = io.lines().find_map(|line| line.strip_prefix(name));
            let value = value.with_context(|| format!("no {name} in {path}"))?;
            value.trim().parse().context("a number of bytes")
        };
        let metrics = self.stage.broker.metrics()?;
        let metrics = METRICS.map(|name| metrics.sum(name, &[]).unwrap_or(0.0));
        Ok((field("rchar:")?, field("wchar:")?, metrics))
    }
}

/// Runs.
///
/// # Errors
/// When a subscriber did not get its messages, or the product cannot be started.
pub fn run(options: &Options) -> Result<Report> {
    ensure!(options.log_mib > 0, "a log of nothing");
    let (mut run, [rare, everything]) = Run::begin(options)?;
    let all: Vec<u32> = (0..run.messages).collect();
    let of_rare: Vec<u32> = all
        .iter()
        .copied()
        .filter(|n| is_rare(*n, run.messages))
        .collect();
    let costs = vec![
        run.serve("rare topic", rare, &of_rare)?,
        run.serve("everything", everything, &all)?,
    ];
    Ok(Report {
        options: options.clone(),
        costs,
    })
}
