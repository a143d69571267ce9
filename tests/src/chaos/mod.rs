//! The promise of the product under fire: clients publish with QoS 1 while the product is killed,
//! Kafka is killed and the link between them fails, and at the end every acknowledged message is
//! in Kafka, in order per client, and no record is there twice.
//!
//! A run is a list of faults in an order that the seed decides. Before each of them the bridge has
//! found out what Kafka has and streams again, so that what is in flight is of now. The clients may
//! send a share of their messages for each fault, so that there is always something to lose; a
//! fault strikes when some of its share is acknowledged, and counts only if an append or a produce
//! was in flight then.
//! What happens at the same instant is up to the machine: a seed gives the same faults in the same
//! order, not the same bytes.

mod fault;
mod fleet;
pub mod seeded;
mod stage;
mod verdict;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use fault::{Fault, InFlight};
use fleet::{Fleet, Sent};
pub use fleet::{parse, payload};
use seeded::Seeded;
use stage::Stage;
pub use verdict::Verdict;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Messages of all clients together.
    pub messages: u64,
    /// Clients; every other one speaks MQTT 5, the others 3.1.1.
    pub clients: u16,
    /// Faults of each of the three kinds.
    pub kills: u32,
    /// Decides the order and the form of the faults.
    pub seed: u64,
    /// The product; by default that of the tests.
    pub program: Option<PathBuf>,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    /// The faults that counted, in their order.
    struck: Vec<Struck>,
    /// Faults that came when nothing was in flight.
    missed: u32,
    sent: Sent,
    verdict: Verdict,
    duration: Duration,
}

/// A fault, what was in flight, and when it came.
#[derive(Debug, Clone)]
struct Struck {
    fault: Fault,
    in_flight: InFlight,
    acknowledged: u64,
    at: Duration,
}

/// Runs. Every fault is told to `say` when it is over.
///
/// # Errors
/// When a part of the stage does not do what it should, for instance does not come up. What the
/// product did wrong is in the report.
pub fn run(options: &Options, mut say: impl FnMut(&str)) -> Result<Report> {
    ensure!(options.clients > 0, "no clients");
    let begin = Instant::now();
    let mut stage = Stage::set(options.program.clone())?;
    let mut random = Seeded::new(options.seed);
    let mut left = VecDeque::from(Fault::sequence(options.kills, &mut random));
    // Some more shares than faults: one that finds nothing in flight is done again. One share comes
    // before all faults, and one after.
    let misses_max = options.kills + 2;
    let shares = left.len() as u64 + u64::from(misses_max) + 2;
    let clients = u64::from(options.clients);
    let per_client = options.messages.div_ceil(clients).max(shares);
    let share = per_client / shares;

    let fleet = Fleet::start(stage.broker.mqtt(), options.clients, per_client);
    fleet.allow(share);
    fleet.wait_acknowledged(share * clients)?;
    stage.broker.wait_replicated(stage::LOG)?;
    let (mut struck, mut missed) = (Vec::new(), 0);
    while let Some(fault) = left.pop_front() {
        let number = struck.len() as u64 + u64::from(missed) + 1;
        stage.prepare()?;
        fleet.allow(share * (number + 1));
        // Somewhere in the first two thirds of the share.
        let part = random.below(share * clients * 2 / 3);
        fleet.wait_acknowledged(share * number * clients + part)?;
        let in_flight = fault.strike(&mut stage, &fleet, &mut random);
        let in_flight = in_flight.with_context(|| format!("{fault}, {:?}", begin.elapsed()))?;
        let one = Struck {
            fault,
            in_flight,
            acknowledged: fleet.acknowledged(),
            at: begin.elapsed(),
        };
        if in_flight.is_enough_for(fault) {
            say(&one.to_string());
            struck.push(one);
        } else {
            say(&format!("{one}: does not count"));
            missed += 1;
            ensure!(missed <= misses_max, "nothing was in flight {missed} times");
            left.push_back(fault);
        }
    }
    fleet.allow(per_client);
    let sent = fleet.finish()?;
    stage.broker.wait_replicated(stage::LOG)?;
    let verdict = Verdict::of(&stage, options.clients, per_client, &sent)?;
    Ok(Report {
        options: options.clone(),
        struck,
        missed,
        sent,
        verdict,
        duration: begin.elapsed(),
    })
}

impl Report {
    /// Fails when the product broke its promise.
    ///
    /// # Errors
    /// With everything that is wrong, and the whole report.
    pub fn check(&self) -> Result<()> {
        if self.verdict.problems.is_empty() {
            return Ok(());
        }
        bail!("{}\n\n{self}", self.verdict.problems.join("\n"))
    }
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fault,
            in_flight,
            acknowledged,
            at,
        } = self;
        let seconds = at.as_secs_f64();
        write!(
            f,
            "{seconds:6.1} s  {fault}: {in_flight} in flight; {acknowledged} acknowledged so far"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            options,
            struck,
            missed,
            sent,
            verdict,
            duration,
        } = self;
        writeln!(
            f,
            "seed {}: {} clients, {} messages of {} bytes, {:.0} s",
            options.seed,
            options.clients,
            sent.messages,
            fleet::PAYLOAD_BYTES,
            duration.as_secs_f64()
        )?;
        for kind in fault::Kind::ALL {
            let of_kind: Vec<&Struck> = struck.iter().filter(|s| s.fault.kind() == kind).collect();
            let sum = |count: fn(&InFlight) -> u64| -> u64 {
                of_kind.iter().map(|struck| count(&struck.in_flight)).sum()
            };
            writeln!(
                f,
                "{kind} {} times with {} appends and {} produced records in flight",
                of_kind.len(),
                sum(|in_flight| in_flight.appends),
                sum(|in_flight| in_flight.produced)
            )?;
        }
        writeln!(f, "not counted, because nothing was in flight: {missed}")?;
        writeln!(
            f,
            "clients: {} messages acknowledged, {} resent after a lost connection",
            sent.acknowledged, sent.resent
        )?;
        write!(f, "{verdict}")
    }
}
