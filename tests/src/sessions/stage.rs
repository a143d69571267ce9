//! The product and a crowd of clients.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::books::Books;
use crate::broker_process::{BrokerProcess, Options};
use crate::deadline::PATIENCE;
use crate::mqtt::Version;
use crate::mqtt::crowd::{Crowd, allow_connections};
use crate::mqtt::kept::Kept;

/// How long to wait for sockets before looking around.
const NAP: Duration = Duration::from_millis(10);
/// Messages on their way from and to a client.
pub(super) const WINDOW: u16 = 64;
/// Nothing comes any more when nothing has come for so long.
pub(super) const QUIET: Duration = Duration::from_secs(20);
/// Sessions and connections beside those of a run.
const OTHERS: usize = 100;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) broker: BrokerProcess,
    pub(super) crowd: Crowd,
}

impl Stage {
    /// Starts the product with room for so many sessions, and small segments.
    pub(super) fn set(program: Option<PathBuf>, sessions: usize, tables: &str) -> Result<Self> {
        Self::with_segments(program, sessions, "1MiB", tables)
    }

    /// The same, with segments of another size.
    pub(super) fn with_segments(
        program: Option<PathBuf>,
        sessions: usize,
        segment_bytes: &str,
        tables: &str,
    ) -> Result<Self> {
        let room = sessions + OTHERS;
        allow_connections(room)?;
        let broker = BrokerProcess::start(Options {
            listener: format!("connections_max = {room}\n"),
            tables: format!(
                "[storage]\nsegment_bytes = \"{segment_bytes}\"\n[limits]\nsessions_max = {room}\n{tables}"
            ),
            program,
            ..Options::default()
        })?;
        let crowd = Crowd::new(broker.mqtt())?;
        Ok(Self { broker, crowd })
    }

    /// Lets the clients do what they can do at once.
    pub(super) fn turn(&mut self, limit: Duration, books: &mut impl Books) -> Result<u64> {
        let mut count = 0;
        let told = self.crowd.turn(limit, |kept, client, happened| {
            count += 1;
            books.note(kept, client, happened)
        });
        told.map_err(|error| self.explained(error))?;
        Ok(count)
    }

    /// Lets the clients go on until something is so. Gives up when nothing happens for long.
    pub(super) fn until<B: Books>(
        &mut self,
        what: &str,
        books: &mut B,
        is_so: impl FnMut(&mut Self, &mut B) -> Result<bool>,
    ) -> Result<()> {
        if self.until_quiet(PATIENCE, books, is_so)? {
            return Ok(());
        }
        let seconds = PATIENCE.as_secs();
        let error = anyhow!("nothing happened for {seconds} s before {what}");
        Err(self.explained(error))
    }

    /// Lets the clients go on until they must have everything, or nothing comes any more: what is
    /// missing then is told by whoever knows it.
    pub(super) fn until_quiet<B: Books>(
        &mut self,
        limit: Duration,
        books: &mut B,
        mut is_so: impl FnMut(&mut Self, &mut B) -> Result<bool>,
    ) -> Result<bool> {
        let mut last = Instant::now();
        while !is_so(self, books)? {
            if self.turn(NAP, books)? > 0 {
                last = Instant::now();
            }
            if last.elapsed() > limit {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        error.context(self.broker.log_tail())
    }

    /// SIGKILL; the clients know that it was one.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.broker.kill()?;
        self.crowd.server_is_dead()
    }

    /// Starts it again.
    pub(super) fn start(&mut self) -> Result<()> {
        self.broker.restart()
    }

    /// Adds a client.
    pub(super) fn add(&mut self, version: Version, name: &str) -> usize {
        self.crowd.add(Kept::new(version, name, WINDOW, WINDOW))
    }

    /// Connects clients again with their sessions, a few at a time, and waits until they are in.
    pub(super) fn connect<B: Books>(
        &mut self,
        clients: impl IntoIterator<Item = usize>,
        books: &mut B,
    ) -> Result<()> {
        let mut all = Vec::new();
        for client in clients {
            self.crowd.connect(client, false)?;
            self.turn(Duration::ZERO, books)?;
            all.push(client);
        }
        self.until("CONNACK", books, |stage, _| {
            for client in &all {
                if !stage.crowd.kept(*client)?.is_open() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Waits until the product has nothing more for these clients.
    pub(super) fn settle(&mut self, books: &mut impl Books, clients: &[usize]) -> Result<()> {
        self.until("nobody is behind", books, |stage, _| {
            Ok(stage.metric("tidegate_broker_sessions_behind")? == 0.0)
        })?;
        // What is not sent at once is still in flight: an answer brings the next.
        for _ in 0..2 {
            let before: Vec<u32> = clients.iter().map(|client| books.pongs(*client)).collect();
            for client in clients {
                self.crowd.kept(*client)?.ping();
                self.crowd.flush(*client)?;
            }
            self.until("PINGRESP", books, |_, books| {
                let mut pairs = clients.iter().zip(&before);
                Ok(pairs.all(|(client, before)| books.pongs(*client) > *before))
            })?;
        }
        let mut unfinished = Ok(());
        let finished = self.until("the end of all flows", books, |stage, _| {
            unfinished =
                (clients.iter()).try_for_each(|client| stage.crowd.kept(*client)?.check_finished());
            Ok(unfinished.is_ok())
        });
        unfinished?;
        finished
    }

    /// A counter or gauge of the product, 0 when there is none.
    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        Ok(self.broker.metrics()?.sum(name, &[]).unwrap_or(0.0))
    }

    /// Memory of the process now, in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        self.memory_bytes("VmRSS:")
    }

    /// The most that it had in memory since it was started.
    pub(super) fn resident_bytes_max(&self) -> Result<u64> {
        self.memory_bytes("VmHWM:")
    }

    fn memory_bytes(&self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.broker.pid()?);
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = kib
            .context("the figure")?
            .parse()
            .with_context(|| format!("{name} of {path}"))?;
        Ok(kib << 10)
    }
}
