//! Subscribers at a tenth of the rate at which is published: nothing is lost, and the product's memory
//! does not grow with what they have not taken.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::books::{Plain, Seen};
use super::load::{Load, Planned};
use super::stage::{QUIET, Stage};
use super::verdict;
use crate::mqtt::Version;

/// Slower than the publisher by this factor.
const SLOWER: u32 = 10;
const SAMPLES: u32 = 20;
/// Samples before memory is compared: buffers and caches have been filled by then.
const SAMPLES_TO_WARM_UP: usize = 5;
/// Bytes by which memory may grow after that; what is published is many times as much in the long form.
const GROWTH_MAX: u64 = 32 << 20;
const PAYLOAD_BYTES: usize = 500;
const TOPICS: u32 = 5;
/// How long to wait for sockets before looking at the clock.
const TURN: Duration = Duration::from_millis(5);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long is published.
    pub time: Duration,
    /// Messages in a second.
    pub rate: u32,
    /// QoS of the messages and the subscriptions.
    pub qos: u8,
    /// The product; by default that of the tests.
    pub program: Option<PathBuf>,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    messages: u32,
    /// What the subscribers had when publishing ended.
    behind: Vec<usize>,
    /// Memory of the product, in bytes.
    samples: Vec<u64>,
    rest_in: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} messages of QoS {} and {PAYLOAD_BYTES} bytes in {} s; when it ended, the subscribers \
             had {:?}; they had the rest {:.1} s later, in order, nothing lost or twice",
            self.messages,
            self.options.qos,
            self.options.time.as_secs(),
            self.behind,
            self.rest_in.as_secs_f64()
        )?;
        let samples = self.samples.iter().map(|bytes| bytes >> 20);
        write!(f, "memory in MiB: {:?}", samples.collect::<Vec<_>>())
    }
}

/// A run while it runs.
struct Run {
    stage: Stage,
    books: Plain,
    load: Load,
    /// One of each version that answers slowly, and one that reads slowly.
    clients: [usize; 3],
    qos: u8,
}

impl Run {
    fn begin(options: &Options) -> Result<Self> {
        let qos = options.qos;
        let mut stage = Stage::set(options.program.clone(), 3, "")?;
        let load = Load::new(&mut stage, 1);
        let clients = [
            stage.add(Version::V5, "answers-slowly-5"),
            stage.add(Version::V311, "answers-slowly-3.1.1"),
            stage.add(Version::V311, "reads-slowly"),
        ];
        let mut books = Plain::new(stage.crowd.len());
        load.connect(&mut stage, &mut books)?;
        stage.connect(clients, &mut books)?;
        for client in clients {
            stage.crowd.kept(client)?.subscribe("a/#", qos)?;
            stage.crowd.flush(client)?;
        }
        stage.until("SUBACK", &mut books, |_, books| {
            Ok(books.all(clients, |seen| seen.subscribed > 0))
        })?;
        for client in clients.iter().take(2) {
            stage.crowd.kept(*client)?.answer_at_once(false);
        }
        Ok(Self {
            stage,
            books,
            load,
            clients,
            qos,
        })
    }

    fn received(&self, client: usize) -> usize {
        let seen = self.books.seen.get(client);
        seen.map_or(0, |seen| seen.received.len())
    }

    /// Publishes as long as it is to; how many messages, and the product's memory meanwhile.
    fn publish(&mut self, options: &Options, mut say: impl FnMut(&str)) -> Result<(u32, Vec<u64>)> {
        let qos = self.qos;
        let message = |number| message(number, qos);
        let (begin, mut published, mut samples) = (Instant::now(), 0, Vec::new());
        while begin.elapsed() < options.time {
            let seconds = begin.elapsed().as_secs_f64();
            let due = Duration::from_secs_f64(seconds * f64::from(options.rate));
            let due = u32::try_from(due.as_secs()).context("a number of messages")?;
            self.load.plan(published..due, message);
            let answers = due / SLOWER - published / SLOWER;
            published = due;
            self.load.publish(&mut self.stage, &message)?;
            for client in self.clients.into_iter().take(2) {
                self.stage.crowd.kept(client)?.answer(answers as usize);
                self.stage.crowd.flush(client)?;
            }
            let [.., reader] = self.clients;
            let reads = self.received(reader) <= (due / SLOWER) as usize;
            self.stage.crowd.set_reading(reader, reads)?;
            self.stage.turn(TURN, &mut self.books)?;
            let part = seconds / options.time.as_secs_f64() * f64::from(SAMPLES);
            if part >= samples.len() as f64 {
                samples.push(self.stage.resident_bytes()?);
                let mib = samples.last().map_or(0, |bytes| bytes >> 20);
                say(&format!("{seconds:6.1} s  {published} messages, {mib} MiB"));
            }
        }
        let (stage, books) = (&mut self.stage, &mut self.books);
        self.load
            .publish_until(stage, books, &message, published as usize)?;
        samples.push(self.stage.resident_bytes()?);
        Ok((published, samples))
    }

    /// Takes the rest as fast as it comes.
    fn take_rest(&mut self, messages: u32) -> Result<()> {
        let clients = self.clients;
        for client in clients {
            self.stage.crowd.kept(client)?.answer_at_once(true);
            self.stage.crowd.flush(client)?;
            self.stage.crowd.set_reading(client, true)?;
        }
        let (stage, books) = (&mut self.stage, &mut self.books);
        stage.until_quiet(QUIET, books, |_, books| {
            Ok(books.all(clients, |seen| seen.received.len() >= messages as usize))
        })?;
        stage.settle(books, &clients)
    }

    fn check(&mut self, messages: u32) -> Result<()> {
        let expected: Vec<u32> = (0..messages).collect();
        for client in self.clients {
            let seen: &Seen = self.books.seen.get(client).context("a client")?;
            let kept = self.stage.crowd.kept(client)?;
            verdict::check(
                &expected,
                &seen.received,
                |number| number % TOPICS,
                |_| false,
            )
            .with_context(|| kept.client_id().to_owned())
            .with_context(|| self.stage.broker.log_tail())?;
        }
        Ok(())
    }
}

fn message(number: u32, qos: u8) -> Planned {
    Planned {
        topic: format!("a/{}", number % TOPICS),
        qos,
        bytes: PAYLOAD_BYTES,
        publisher: 0,
    }
}

/// Runs. Samples of the memory are told to `say`.
///
/// # Errors
/// When a message was lost, memory has grown, or the product cannot be started.
pub fn run(options: &Options, say: impl FnMut(&str)) -> Result<Report> {
    let mut run = Run::begin(options)?;
    let (messages, samples) = run.publish(options, say)?;
    let behind = run.clients.map(|client| run.received(client)).to_vec();
    let begin = Instant::now();
    run.take_rest(messages)?;
    let rest_in = begin.elapsed();
    run.check(messages)?;
    let warm = samples.get(..SAMPLES_TO_WARM_UP).unwrap_or_default();
    let warm = warm.iter().max().copied().unwrap_or(0);
    let most = samples.iter().max().copied().unwrap_or(0);
    ensure!(
        most <= warm + GROWTH_MAX,
        "memory has grown from {warm} to {most} bytes: {samples:?}"
    );
    Ok(Report {
        options: options.clone(),
        messages,
        behind,
        samples,
        rest_in,
    })
}
