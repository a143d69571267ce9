//! The promise of the product alone under SIGKILL: clients publish with QoS 1, the process is killed
//! at any moment, also while it starts, and afterwards every acknowledged message is there, in order
//! per client, at dense offsets, and no offset ever shows two contents.
//!
//! A round is: clients publish, SIGKILL, in every third round a start that is killed, too, a start,
//! and a look at everything new. One log is small, so that segments roll and are removed all the
//! time, another keeps what it gets, so that the two differ in what they need of a segment.
//! A seed gives the same times and the same messages; what the process was doing is up to the
//! machine.

mod books;
mod publisher;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::broker_process::{BrokerProcess, Options as BrokerOptions};
use crate::chaos::seeded::Seeded;
use books::Books;
use publisher::Publisher;

/// Longest time from the first publish of a round to the kill.
const LOAD_MAX_MS: u64 = 300;
/// Longest time from a start that is not to succeed to its kill: somewhat more than a start takes.
const START_MAX_MS: u64 = 60;
/// After so many rounds everything that is kept is read again, not only what is new.
const ROUNDS_BETWEEN_FULL_READS: u32 = 50;

/// The logs. All messages of a round fit into the retention of the smaller one twice, so that
/// nothing goes before it was looked at.
fn tables(durability: &str) -> String {
    let log = |name: &str, retention: &str| {
        format!(
            "[[log]]\nname = \"{name}\"\nfilters = [\"{name}/#\"]\npartitions = 2\n\
             durability = \"{durability}\"\nretention = {{ bytes = \"{retention}\" }}\n"
        )
    };
    let (small, kept) = (log("small", "4MiB"), log("kept", "64MiB"));
    format!("[storage]\nsegment_bytes = \"1MiB\"\n{small}{kept}")
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kills under load.
    pub rounds: u32,
    /// MQTT clients; every other one speaks MQTT 5, the others 3.1.1.
    pub clients: u16,
    /// Decides when it is killed.
    pub seed: u64,
    /// The control: the logs acknowledge before they commit (`durability = "interval:1s"`), so that
    /// what is looked for happens. Such a run must fail.
    pub acknowledge_early: bool,
    /// The product; by default that of the tests.
    pub program: Option<PathBuf>,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    /// Kills of a process that had not yet said that it is ready.
    kills_in_start: u32,
    /// Starts that were to be killed and were faster.
    starts_too_fast: u32,
    acknowledged: u64,
    resent: u64,
    records: u64,
    repeated: u64,
    shown: u64,
    unfinished_commits: u64,
    sizes: String,
    duration: Duration,
}

/// Runs. Every tenth round is told to `say`.
///
/// # Errors
/// When the product broke its promise, with the round and the end of its log, or when it cannot be
/// started or asked.
pub fn run(options: &Options, mut say: impl FnMut(&str)) -> Result<Report> {
    let begin = Instant::now();
    let mut random = Seeded::new(options.seed);
    let durability = match options.acknowledge_early {
        true => "interval:1s",
        false => "commit",
    };
    let mut broker = BrokerProcess::start(BrokerOptions {
        tables: tables(durability),
        program: options.program.clone(),
        ..BrokerOptions::default()
    })?;
    let mut publishers: Vec<Publisher> = (0..options.clients).map(Publisher::new).collect();
    let mut books = Books::default();
    let (mut kills_in_start, mut starts_too_fast) = (0, 0);
    for round in 1..=options.rounds {
        let killed = kill_under_load(&mut broker, &mut publishers, &mut books, &mut random);
        killed.with_context(|| format!("round {round}, {}", broker.log_tail()))?;
        if random.below(3) == 0 {
            let after = Duration::from_millis(random.below(START_MAX_MS));
            if broker.start_and_kill(after)? {
                starts_too_fast += 1;
            } else {
                kills_in_start += 1;
            }
        }
        broker
            .restart()
            .with_context(|| format!("start after round {round}"))?;
        let is_full = round % ROUNDS_BETWEEN_FULL_READS == 0 || round == options.rounds;
        let right = books.check(&broker, &publishers, is_full);
        right.with_context(|| format!("round {round}, {}", broker.log_tail()))?;
        if round % 10 == 0 {
            let seconds = begin.elapsed().as_secs_f64();
            say(&format!(
                "{seconds:6.1} s  {round} rounds, {} messages acknowledged, {} records",
                acknowledged(&publishers),
                books.records()
            ));
        }
    }
    Ok(Report {
        options: options.clone(),
        kills_in_start,
        starts_too_fast,
        acknowledged: acknowledged(&publishers),
        resent: publishers.iter().map(Publisher::resent).sum(),
        records: books.records(),
        repeated: books.repeated,
        shown: books.shown,
        unfinished_commits: books.unfinished_commits,
        sizes: books.sizes(&broker)?,
        duration: begin.elapsed(),
    })
}

fn acknowledged(publishers: &[Publisher]) -> u64 {
    publishers.iter().map(Publisher::acknowledged).sum()
}

/// Lets all clients publish, and one reader look on, until the process is killed.
fn kill_under_load(
    broker: &mut BrokerProcess,
    publishers: &mut [Publisher],
    books: &mut Books,
    random: &mut Seeded,
) -> Result<()> {
    let after = Duration::from_millis(random.below(LOAD_MAX_MS));
    let (mqtt, admin) = (broker.mqtt(), broker.admin());
    let from = books.next_of_witness();
    let is_dead = AtomicBool::new(false);
    let shown = thread::scope(|scope| {
        let clients: Vec<_> = publishers
            .iter_mut()
            .map(|publisher| scope.spawn(|| publisher.publish(mqtt, &is_dead)))
            .collect();
        let witness = scope.spawn(|| books::watch(admin, from, &is_dead));
        thread::sleep(after);
        let killed = broker.kill();
        is_dead.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        killed?;
        witness.join().map_err(|_| anyhow!("the reader panicked"))
    })?;
    books.note_shown(shown)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            options,
            kills_in_start,
            starts_too_fast,
            acknowledged,
            resent,
            records,
            repeated,
            shown,
            unfinished_commits,
            sizes,
            duration,
        } = self;
        writeln!(
            f,
            "seed {}: {} rounds with {} clients in {:.0} s",
            options.seed,
            options.rounds,
            options.clients,
            duration.as_secs_f64()
        )?;
        writeln!(
            f,
            "SIGKILL under load {} times, during a start {kills_in_start} times ({starts_too_fast} \
             more starts were faster than the kill)",
            options.rounds
        )?;
        writeln!(
            f,
            "{acknowledged} messages acknowledged, all of them there; {resent} resent after a kill"
        )?;
        writeln!(
            f,
            "{records} records at dense offsets, each with one content; {repeated} of them repeat a \
             resent message; {shown} were read before a kill and were the same after it"
        )?;
        writeln!(
            f,
            "{unfinished_commits} commits were cut off in the middle by a kill and left out"
        )?;
        write!(f, "at the end: {sizes}")
    }
}
