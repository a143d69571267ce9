//! The devices: clients with sessions that are kept, which publish numbered messages, half of them with
//! QoS 1 and half with QoS 2, and what each of them was promised.
//!
//! After the power was cut they go on: what was not acknowledged is sent again, as the standard asks
//! for. They hold the server to the standard while they do it (`tests::mqtt::kept`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::chaos::payload;
use tests::mqtt::Version;
use tests::mqtt::crowd::{Crowd, Happened};
use tests::mqtt::kept::{Event, Kept};

use crate::machine::BOOT_PATIENCE;

/// Messages of a client that may be on their way.
const WINDOW: u16 = 16;
/// Topics of the suite's log begin so.
pub(crate) const TOPICS: &str = "suite";
/// Longest time to wait for something to happen before looking around.
const NAP: Duration = Duration::from_millis(20);
/// Between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Numbers of clients of one run of this program: those of the next one are others, because what
/// sessions know is not kept between runs.
const NUMBERS_OF_A_RUN: u16 = 32;

/// What is known of the messages of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promised {
    /// Messages before this number are acknowledged to the end.
    pub(crate) acknowledged: u64,
    /// Number of the first message that was never sent.
    pub(crate) next: u64,
    /// Whether each may be in the log only once.
    pub(crate) is_exactly_once: bool,
}

/// The clients.
#[derive(Debug)]
pub(crate) struct Publishers {
    crowd: Crowd,
    first: u16,
    promised: Vec<Promised>,
    /// When a client whose connection has ended is to try again.
    retry_at: Vec<Instant>,
    /// Who was let in on the present connection.
    is_let_in: Vec<bool>,
    refused: u64,
}

impl Publishers {
    /// Clients of the run with this number.
    pub(crate) fn new(server: SocketAddr, count: u16, run: u16) -> Result<Self> {
        let mut crowd = Crowd::new(server)?;
        let first = run.checked_mul(NUMBERS_OF_A_RUN).context("too many runs")?;
        for number in 0..count {
            let id = format!("device-{:04}", first + number);
            crowd.add(Kept::new(Version::V5, &id, WINDOW, WINDOW));
        }
        let promised = |number| Promised {
            is_exactly_once: number % 2 == 1,
            ..Promised::default()
        };
        Ok(Self {
            crowd,
            first,
            promised: (0..count).map(promised).collect(),
            retry_at: vec![Instant::now(); usize::from(count)],
            is_let_in: vec![false; usize::from(count)],
            refused: 0,
        })
    }

    /// What each client may count on, by its number. What the server has taken (PUBREC) counts as
    /// acknowledged.
    pub(crate) fn promised(&mut self) -> Result<BTreeMap<u16, Promised>> {
        let mut all = BTreeMap::new();
        for (index, number) in (0..self.promised.len()).zip(self.first..) {
            let mut promised = self.promised.get(index).context("a client")?.clone();
            let taken = self.crowd.kept(index)?.taken().max();
            promised.acknowledged = promised.acknowledged.max(taken.map_or(0, |tag| tag + 1));
            all.insert(number, promised);
        }
        Ok(all)
    }

    /// Messages that are on their way and may be in the log or not: if they are, they may be there
    /// again when they are sent again with QoS 1.
    pub(crate) fn on_their_way(&mut self) -> Result<Vec<(u16, u64)>> {
        let mut all = Vec::new();
        for (index, number) in (0..self.promised.len()).zip(self.first..) {
            let tags = self.crowd.kept(index)?.on_their_way();
            all.extend(tags.map(|tag| (number, tag)));
        }
        Ok(all)
    }

    /// Messages that were acknowledged, of all clients.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.promised.iter().map(|client| client.acknowledged).sum()
    }

    /// Connections that ended before the client was let in.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Until each has a connection and is let in.
    pub(crate) fn connect(&mut self, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        let end = Instant::now() + BOOT_PATIENCE;
        loop {
            self.turn(false)?;
            if self.is_let_in.iter().all(|is_let_in| *is_let_in) {
                return Ok(());
            }
            check()?;
            ensure!(Instant::now() < end, "not all clients were let in");
        }
    }

    /// Publishes for so long, with connections that come back when they end.
    pub(crate) fn publish_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(true)?;
        }
        Ok(())
    }

    /// Until everything is acknowledged.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let end = Instant::now() + BOOT_PATIENCE;
        loop {
            let waiting = self.on_their_way()?.len();
            if waiting == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{waiting} messages are not acknowledged"
            );
            self.turn(false)?;
        }
    }

    /// The server's power was cut.
    pub(crate) fn server_is_dead(&mut self) -> Result<()> {
        self.crowd.server_is_dead()
    }

    /// Reads what has come, without waiting for more: what had left the server before it died.
    pub(crate) fn take_last_words(&mut self) -> Result<()> {
        for _ in 0..20 {
            self.turn_with(Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// Connects who has no connection, publishes if asked to, and takes what comes.
    fn turn(&mut self, publishes: bool) -> Result<()> {
        let now = Instant::now();
        for index in 0..self.promised.len() {
            let retry_at = self.retry_at.get_mut(index).context("a client")?;
            if *retry_at <= now {
                // Far away, until the connection ends.
                *retry_at = now + BOOT_PATIENCE * 2;
                if self.crowd.connect(index, false).is_err() {
                    *self.retry_at.get_mut(index).context("a client")? = now + RECONNECT_PAUSE;
                }
            }
            while publishes && self.crowd.kept(index)?.has_room() {
                self.publish(index)?;
            }
            self.crowd.flush(index)?;
        }
        self.turn_with(NAP)
    }

    fn publish(&mut self, index: usize) -> Result<()> {
        let number = self.first + u16::try_from(index)?;
        let promised = self.promised.get_mut(index).context("a client")?;
        let (tag, qos) = (promised.next, 1 + u8::from(promised.is_exactly_once));
        promised.next += 1;
        let topic = format!("{TOPICS}/{number}");
        let kept = self.crowd.kept(index)?;
        kept.publish(&topic, payload(number, tag).as_bytes(), qos, tag)
    }

    fn turn_with(&mut self, limit: Duration) -> Result<()> {
        let Self {
            crowd,
            promised,
            retry_at,
            is_let_in,
            refused,
            ..
        } = self;
        crowd.turn(limit, |kept, index, happened| {
            let promised = promised.get_mut(index).context("a client")?;
            let is_let_in = is_let_in.get_mut(index).context("a client")?;
            match happened {
                Happened::Event(Event::Published { tag }) => {
                    ensure!(
                        tag == promised.acknowledged,
                        "{}: message {tag} acknowledged in the place of {}",
                        kept.client_id(),
                        promised.acknowledged
                    );
                    promised.acknowledged = tag + 1;
                }
                Happened::Event(Event::Connected { .. }) => {
                    *is_let_in = true;
                    *retry_at.get_mut(index).context("a client")? =
                        Instant::now() + BOOT_PATIENCE * 10;
                }
                Happened::Ended => {
                    *refused += u64::from(!std::mem::take(is_let_in));
                    *retry_at.get_mut(index).context("a client")? =
                        Instant::now() + RECONNECT_PAUSE;
                }
                Happened::Event(other) => bail!("{}: {other:?}", kept.client_id()),
            }
            Ok(())
        })
    }

    /// Connections are to be made anew after [`Publishers::server_is_dead`].
    pub(crate) fn begin_again(&mut self) {
        self.retry_at.fill(Instant::now());
        self.is_let_in.fill(false);
        self.refused = 0;
    }
}
