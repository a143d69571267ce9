//! Thousands of sessions that are away while messages come and the product is killed, and that all come
//! back at once: each gets exactly its messages, in order per topic.
//!
//! Before that, the same first half of the messages is published with a few sessions only, so that one
//! sees what a session that is away costs in flash: nothing.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::books::Plain;
use super::device;
use super::load::{Load, Planned};
use super::stage::{QUIET, Stage};
use super::verdict;
use super::world::{FILTERS, Topic, filter, message};
use crate::chaos::seeded::Seeded;
use crate::mqtt::Version;

/// Sessions of the comparison.
const FEW: usize = 100;
const PUBLISHERS: usize = 4;
/// Sessions that come at a time while they are made.
const WAVE: usize = 500;
/// Nothing is written for so long after the sessions were made, before it is measured.
const CALM: Duration = Duration::from_millis(1_500);
/// How long their records may take from the journal into the metadata.
const MOVED_WITHIN: Duration = Duration::from_secs(300);
const MOVING: &str = "tidegate_log_journal_cold_entries";
/// How long to wait before it is looked again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// One message of so many is not measured.
const WARM_UP_OF: u32 = 4;
/// Messages share commits by number and not by chance, so that figures can be compared.
const TABLES: &str =
    "[[log]]\nname = \"default\"\nfilters = [\"#\"]\npartitions = 4\nlinger = \"50ms\"\n";
const FLASH: &str = "tidegate_process_storage_written_bytes_total";
const LOG: &str = "tidegate_log_written_bytes_total";
const COMMITS: &str = "tidegate_log_commits_total";

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sessions; every other one speaks MQTT 5, every tenth has two filters.
    pub sessions: usize,
    /// Messages.
    pub messages: u32,
    /// 1, or 2 for messages of QoS 1 and 2.
    pub qos_max: u8,
    /// Whether what the sessions cost is looked at only when their records are where they stay, which
    /// takes two minutes.
    pub is_patient: bool,
    /// Decides about topics and times.
    pub seed: u64,
    /// The product; by default that of the tests.
    pub program: Option<PathBuf>,
}

/// What publishing cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    sessions: usize,
    messages: u32,
    flash_bytes: f64,
    log_bytes: f64,
    commits: f64,
    /// What the device was given meanwhile, by anybody.
    device_bytes: Option<u64>,
}

impl Cost {
    fn on_device(&self) -> String {
        let each = |bytes| bytes as f64 / f64::from(self.messages);
        let on_device = |bytes| format!("; {:.1} by the device, for anybody", each(bytes));
        self.device_bytes.map(on_device).unwrap_or_default()
    }
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    costs: [Cost; 2],
    resident_before: u64,
    resident_offline: u64,
    resident_started: u64,
    resident_returned_max: u64,
    resident_returned: u64,
    deliveries: u64,
    repeats: u64,
    returned_in: Duration,
    caught_up_in: Duration,
    /// Metrics of the return, by name.
    returned: Vec<(String, f64)>,
}

/// The filters of a session.
fn filters_of(session: usize) -> impl Iterator<Item = usize> {
    let second = session
        .is_multiple_of(10)
        .then_some((session + 1) % FILTERS);
    [session % FILTERS].into_iter().chain(second)
}

/// A run while it runs.
struct Run {
    stage: Stage,
    books: Plain,
    load: Load,
    sessions: Vec<usize>,
    seed: u64,
}

impl Run {
    /// Starts the product and makes so many sessions, which are away then.
    fn begin(options: &Options, sessions: usize) -> Result<(Self, [u64; 2])> {
        let mut stage = Stage::set(options.program.clone(), sessions, TABLES)?;
        let load = Load::new(&mut stage, PUBLISHERS);
        let add = |session: usize| {
            let version = Version::BOTH.into_iter().nth(session % 2);
            stage.add(
                version.unwrap_or(Version::V5),
                &format!("session-{session}"),
            )
        };
        let sessions: Vec<usize> = (0..sessions).map(add).collect();
        let books = Plain::new(stage.crowd.len());
        let mut run = Self {
            stage,
            books,
            load,
            sessions,
            seed: options.seed,
        };
        run.load.connect(&mut run.stage, &mut run.books)?;
        let before = run.stage.resident_bytes()?;
        run.make_sessions()?;
        if options.is_patient {
            run.wait_until_moved()?;
        }
        let offline = run.stage.resident_bytes()?;
        Ok((run, [before, offline]))
    }

    /// Waits until nothing of the sessions is in the journal, which each segment begins with.
    fn wait_until_moved(&mut self) -> Result<()> {
        let begin = Instant::now();
        while self.stage.metric(MOVING)? > 0.0 {
            let tail = || self.stage.broker.log_tail();
            ensure!(
                begin.elapsed() < MOVED_WITHIN,
                "records of sessions stay in the journal: {}",
                tail()
            );
            self.stage.turn(LOOK_AGAIN, &mut self.books)?;
        }
        Ok(())
    }

    fn make_sessions(&mut self) -> Result<()> {
        let Self {
            stage,
            books,
            sessions,
            ..
        } = self;
        for (wave, clients) in sessions.chunks(WAVE).enumerate() {
            stage.connect(clients.iter().copied(), books)?;
            for (session, client) in (wave * WAVE..).zip(clients) {
                for number in filters_of(session) {
                    let kept = stage.crowd.kept(*client)?;
                    kept.subscribe(&filter(number), 2)?;
                }
                stage.crowd.flush(*client)?;
            }
            let asked = |session| u32::try_from(filters_of(session).count()).unwrap_or(0);
            stage.until("SUBACK", books, |_, books| {
                let mut pairs = (wave * WAVE..).zip(clients);
                Ok(pairs.all(|(session, client)| {
                    let seen = books.seen.get(*client);
                    seen.is_some_and(|seen| seen.subscribed == asked(session))
                }))
            })?;
            for client in clients {
                stage.crowd.say_good_bye(*client)?;
            }
            stage.until("the end of connections", books, |_, books| {
                Ok(books.all(clients.iter().copied(), |seen| !seen.is_connected))
            })?;
        }
        Ok(())
    }

    /// Publishes the first messages; what the later ones of them cost, when nothing is left to be
    /// written of the making of the sessions.
    fn publish_first(&mut self, end: u32, qos_max: u8) -> Result<Cost> {
        let (mut commits, mut since) = (f64::NAN, Instant::now());
        self.stage.until("calm", &mut self.books, |stage, _| {
            let now = stage.metric(COMMITS)?;
            if now != commits {
                (commits, since) = (now, Instant::now());
            }
            Ok(since.elapsed() > CALM)
        })?;
        self.publish(0..end / WARM_UP_OF, qos_max)?;
        self.publish(end / WARM_UP_OF..end, qos_max)
    }

    /// Publishes these messages; what it cost.
    fn publish(&mut self, numbers: std::ops::Range<u32>, qos_max: u8) -> Result<Cost> {
        let seed = self.seed;
        let message = |number| message(seed, number, qos_max);
        let (before, device_before) = (self.metrics()?, self.device_bytes());
        let (messages, end) = (numbers.end - numbers.start, numbers.end as usize);
        self.load.plan(numbers, message);
        let (stage, books) = (&mut self.stage, &mut self.books);
        self.load.publish_until(stage, books, &message, end)?;
        let after = self.metrics()?;
        let [flash_bytes, log_bytes, commits] =
            std::array::from_fn(|i| after.get(i).unwrap_or(&0.0) - before.get(i).unwrap_or(&0.0));
        Ok(Cost {
            sessions: self.sessions.len(),
            messages,
            flash_bytes,
            log_bytes,
            commits,
            device_bytes: device_before
                .zip(self.device_bytes())
                .map(|(a, b)| b.saturating_sub(a)),
        })
    }

    fn device_bytes(&self) -> Option<u64> {
        device::written_bytes(self.stage.broker.data_dir())
    }

    fn metrics(&self) -> Result<[f64; 3]> {
        let metrics = self.stage.broker.metrics()?;
        Ok([FLASH, LOG, COMMITS].map(|name| metrics.sum(name, &[]).unwrap_or(0.0)))
    }

    /// Publishes the rest; the product is killed in the middle, and at the end.
    fn publish_with_kills(&mut self, numbers: std::ops::Range<u32>, qos_max: u8) -> Result<()> {
        let seed = self.seed;
        let message = |number: u32| -> Planned { message(seed, number, qos_max) };
        let (start, end) = (numbers.start as usize, numbers.end as usize);
        let length = u64::from(numbers.end - numbers.start);
        let after = usize::try_from(Seeded::new(seed).below(length)).unwrap_or(0);
        self.load.plan(numbers, message);
        let (stage, books) = (&mut self.stage, &mut self.books);
        self.load
            .publish_until(stage, books, &message, start + after)?;
        self.load.kill_server(stage, books, &message)?;
        self.load.publish_until(stage, books, &message, end)?;
        self.load.kill_server(stage, books, &message)
    }

    /// All come back, and get what is theirs. How long until all were let in, and until all had it.
    fn come_back(&mut self, expected: &[Vec<u32>]) -> Result<(Duration, Duration)> {
        let begin = Instant::now();
        let sessions = &self.sessions;
        let (stage, books) = (&mut self.stage, &mut self.books);
        stage.connect(sessions.iter().copied(), books)?;
        let returned_in = begin.elapsed();
        let wanted: usize = expected.iter().map(Vec::len).sum();
        stage.until_quiet(QUIET, books, |_, books| {
            let has_all = |(client, expected): (&usize, &Vec<u32>)| {
                let seen = books.seen.get(*client);
                seen.is_some_and(|seen| seen.received.len() >= expected.len())
            };
            let is_possible = books.received >= wanted as u64;
            Ok(is_possible && sessions.iter().zip(expected).all(has_all))
        })?;
        let caught_up_in = begin.elapsed();
        stage.settle(books, sessions)?;
        Ok((returned_in, caught_up_in))
    }

    /// Whether everybody has what is theirs; how many came twice.
    fn check(&mut self, expected: &[Vec<u32>], qos_max: u8) -> Result<u64> {
        let mut repeats = 0;
        for (client, expected) in self.sessions.iter().zip(expected) {
            let seen = self.books.seen.get(*client).context("a session")?;
            let sent_again = &self.load.sent_again;
            let seed = self.seed;
            let verdict = verdict::check(
                expected,
                &seen.received,
                |number| Topic::of(seed, number).index(),
                |number| sent_again.contains(&number),
            );
            let kept = self.stage.crowd.kept(*client)?;
            repeats += verdict
                .with_context(|| format!("seed {seed}: {}, QoS {qos_max}", kept.client_id()))
                .with_context(|| self.stage.broker.log_tail())?;
        }
        Ok(repeats)
    }
}

/// Runs. What has been done is told to `say`.
///
/// # Errors
/// When a session did not get what it must, or the product cannot be started.
pub fn run(options: &Options, mut say: impl FnMut(&str)) -> Result<Report> {
    let begin = Instant::now();
    let mut say = |text: &str| say(&format!("{:6.1} s  {text}", begin.elapsed().as_secs_f64()));
    let qos_max = options.qos_max;
    let half = options.messages / 2;
    let (mut few, _) = Run::begin(options, FEW.min(options.sessions))?;
    let cost_of_few = few.publish_first(half, qos_max)?;
    drop(few);
    say("published the first half with few sessions");
    let (mut run, [resident_before, resident_offline]) = Run::begin(options, options.sessions)?;
    say("made all sessions; they are away");
    let costs = [cost_of_few, run.publish_first(half, qos_max)?];
    say("published the first half with all sessions");
    run.publish_with_kills(half..options.messages, qos_max)?;
    say("published the second half, killed within it and behind it");
    let expected = expected(options);
    let resident_started = run.stage.resident_bytes()?;
    let (returned_in, caught_up_in) = run.come_back(&expected)?;
    say("all are back and have their messages");
    let repeats = run.check(&expected, qos_max)?;
    let metrics = run.stage.broker.metrics()?;
    let names = [
        FLASH,
        LOG,
        COMMITS,
        "tidegate_log_segments",
        "tidegate_log_segments_open",
    ];
    let returned = names.map(|name| (name.to_owned(), metrics.sum(name, &[]).unwrap_or(0.0)));
    Ok(Report {
        options: options.clone(),
        costs,
        resident_before,
        resident_offline,
        resident_started,
        resident_returned_max: run.stage.resident_bytes_max()?,
        resident_returned: run.stage.resident_bytes()?,
        deliveries: run.books.received,
        repeats,
        returned_in,
        caught_up_in,
        returned: returned.to_vec(),
    })
}

/// What each session must get.
fn expected(options: &Options) -> Vec<Vec<u32>> {
    let mut by_filter = vec![Vec::new(); FILTERS];
    for number in 0..options.messages {
        let topic = Topic::of(options.seed, number);
        for (index, list) in by_filter.iter_mut().enumerate() {
            if topic.matches(index) {
                list.push(number);
            }
        }
    }
    let of_session = |session| {
        let lists = filters_of(session).filter_map(|filter| by_filter.get(filter));
        let mut numbers: Vec<u32> = lists.flatten().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    (0..options.sessions).map(of_session).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            sessions,
            messages,
            seed,
            ..
        } = &self.options;
        writeln!(
            f,
            "seed {seed}: {sessions} sessions over {FILTERS} filters, {messages} messages; 2 kills",
        )?;
        writeln!(
            f,
            "{} deliveries, each session exactly its own, in order per topic; {} twice that the \
             publisher had sent again",
            self.deliveries, self.repeats
        )?;
        for cost in self.costs {
            writeln!(
                f,
                "with {} sessions: {:.1} bytes to flash for each of {} messages ({:.1} by the \
                 databases; {} commits{})",
                cost.sessions,
                cost.flash_bytes / f64::from(cost.messages),
                cost.messages,
                cost.log_bytes / f64::from(cost.messages),
                cost.commits,
                cost.on_device(),
            )?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let count = (*sessions).max(1) as f64;
        let each = |bytes: u64| bytes.saturating_sub(self.resident_before) as f64 / count;
        writeln!(
            f,
            "memory: {:.1} MiB without sessions, {:.1} with them away ({:.0} bytes each), {:.1} after \
             a start ({:.0} bytes each), {:.1} at most during the return, {:.1} after it",
            mib(self.resident_before),
            mib(self.resident_offline),
            each(self.resident_offline),
            mib(self.resident_started),
            each(self.resident_started),
            mib(self.resident_returned_max),
            mib(self.resident_returned),
        )?;
        write!(
            f,
            "the return: all let in after {:.1} s, all caught up after {:.1} s; since the start:",
            self.returned_in.as_secs_f64(),
            self.caught_up_in.as_secs_f64()
        )?;
        for (name, value) in &self.returned {
            write!(f, "\n  {name} {value}")?;
        }
        Ok(())
    }
}
