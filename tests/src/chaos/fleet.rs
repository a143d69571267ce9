//! The clients: each publishes numbered messages with QoS 1, up to 16 at a time, keeps what is not
//! acknowledged, and sends that again, in order, on its next connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::stage::LOG;
use crate::deadline::{PATIENCE, wait_for};
use crate::mqtt::{Client, Connect, Packet, Received, SUCCESS, Version};

/// Bytes of a message.
pub(super) const PAYLOAD_BYTES: usize = 200;

/// Messages of a client that may be without an acknowledgement.
const WINDOW: usize = 16;

/// How long a client waits for something before it looks around.
const NAP: Duration = Duration::from_millis(20);

/// Between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// What the clients share.
#[derive(Debug, Default)]
struct Board {
    /// Messages that each client may send.
    allowed: AtomicU64,
    /// Messages of all clients that were acknowledged.
    acknowledged: AtomicU64,
    /// Messages that were sent again.
    resent: AtomicU64,
    /// Messages that were without an acknowledgement when their connection broke.
    lost: AtomicU64,
    /// Clients that have a connection.
    connected: AtomicU64,
    /// Set when the run is given up.
    stop: AtomicBool,
}

/// The running clients. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Fleet {
    board: Arc<Board>,
    clients: Vec<JoinHandle<Result<()>>>,
    per_client: u64,
}

/// What they did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Different messages.
    pub(super) messages: u64,
    /// Those that were acknowledged.
    pub(super) acknowledged: u64,
    /// Messages that were sent again.
    pub(super) resent: u64,
}

impl Fleet {
    pub(super) fn start(broker: SocketAddr, count: u16, per_client: u64) -> Self {
        let board = Arc::new(Board::default());
        let client = |number| {
            let board = Arc::clone(&board);
            let version = if number % 2 == 0 {
                Version::V311
            } else {
                Version::V5
            };
            let mut publisher = Publisher {
                board,
                broker,
                number,
                version,
                per_client,
                next: 0,
                unacknowledged: VecDeque::new(),
                packet_id: 0,
            };
            thread::spawn(move || publisher.run())
        };
        let clients = (0..count).map(client).collect();
        Self {
            board,
            clients,
            per_client,
        }
    }

    /// Lets each client send its messages before this number.
    pub(super) fn allow(&self, messages: u64) {
        let messages = messages.min(self.per_client);
        self.board.allowed.store(messages, Ordering::SeqCst);
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.board.acknowledged.load(Ordering::SeqCst)
    }

    /// Messages that were without an acknowledgement when their connection broke, so far.
    pub(super) fn lost(&self) -> u64 {
        self.board.lost.load(Ordering::SeqCst)
    }

    /// Waits until so many messages are acknowledged.
    pub(super) fn wait_acknowledged(&self, count: u64) -> Result<()> {
        let (mut seen, mut since) = (self.acknowledged(), Instant::now());
        loop {
            let now = self.acknowledged();
            if now >= count {
                return Ok(());
            }
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
            let silence = since.elapsed();
            ensure!(
                silence < PATIENCE,
                "{now} of {count} messages acknowledged, and no more for {silence:?}"
            );
            self.check_clients()?;
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until every client has seen that its connection is gone. The broker must be dead.
    pub(super) fn wait_disconnected(&self) -> Result<()> {
        wait_for(
            "the clients to see that the broker is dead",
            PATIENCE,
            || {
                let connected = self.board.connected.load(Ordering::SeqCst);
                Ok((connected == 0).then_some(()))
            },
        )
    }

    /// Waits until every message is acknowledged.
    pub(super) fn finish(mut self) -> Result<Sent> {
        let messages = self.clients.len() as u64 * self.per_client;
        self.wait_acknowledged(messages)?;
        for client in std::mem::take(&mut self.clients) {
            let ended = client.join();
            ended.map_err(|_| anyhow!("a client panicked"))??;
        }
        Ok(Sent {
            messages,
            acknowledged: self.acknowledged(),
            resent: self.board.resent.load(Ordering::SeqCst),
        })
    }

    /// Fails when a client has given up.
    fn check_clients(&self) -> Result<()> {
        // One that has ended well has nothing more to send.
        let stopped = self.board.stop.load(Ordering::SeqCst);
        ensure!(
            !stopped,
            "a client saw something that may not be; see above"
        );
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.board.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            // Its result is of no interest any more.
            let _ = client.join();
        }
    }
}

/// Name of the client with this number; also the key of its records.
pub(super) fn client_id(number: u16) -> String {
    format!("client-{number:03}")
}

/// The topic that it publishes to.
pub(super) fn topic(number: u16) -> String {
    format!("{LOG}/{number}")
}

/// A message: who, which, and a rest that is different for each.
#[must_use]
pub fn payload(client: u16, message: u64) -> String {
    let mut payload = format!("{client} {message} ");
    let mut filler = message.wrapping_mul(50).wrapping_add(client.into());
    while payload.len() < PAYLOAD_BYTES {
        filler = filler
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        payload.push_str(&format!("{filler:016x}"));
    }
    payload.truncate(PAYLOAD_BYTES);
    payload
}

/// Client and number of a payload; `None` when no client ever sent it.
#[must_use]
pub fn parse(text: &str) -> Option<(u16, u64)> {
    let mut words = text.split(' ');
    let (client, message) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (payload(client, message) == text).then_some((client, message))
}

/// One client.
struct Publisher {
    board: Arc<Board>,
    broker: SocketAddr,
    number: u16,
    version: Version,
    per_client: u64,
    /// Number of its next message.
    next: u64,
    /// Numbers and packet identifiers of those that were sent, oldest first.
    unacknowledged: VecDeque<(u64, u16)>,
    packet_id: u16,
}

impl Publisher {
    fn run(&mut self) -> Result<()> {
        let result = self.publish_all();
        if let Err(error) = &result
            && !self.board.stop.swap(true, Ordering::SeqCst)
        {
            #[expect(
                clippy::print_stderr,
                reason = "the run ends because of it, and says no more than that"
            )]
            {
                eprintln!("{}: {error:#}", client_id(self.number));
            }
        }
        result
    }

    fn publish_all(&mut self) -> Result<()> {
        while !self.is_done() {
            let connect = Connect::new(self.version, &client_id(self.number));
            match Client::connect(self.broker, &connect) {
                Ok(mut client) => {
                    self.board.connected.fetch_add(1, Ordering::SeqCst);
                    let result = self.publish_on(&mut client);
                    let unacknowledged = self.unacknowledged.len() as u64;
                    self.board.lost.fetch_add(unacknowledged, Ordering::SeqCst);
                    self.board.connected.fetch_sub(1, Ordering::SeqCst);
                    result?;
                }
                // Whatever keeps it from connecting: the run gives up when it lasts.
                Err(_) => thread::sleep(RECONNECT_PAUSE),
            }
            if self.board.stop.load(Ordering::SeqCst) {
                bail!("the run was given up");
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.next >= self.per_client && self.unacknowledged.is_empty()
    }

    /// Publishes until everything is done or the connection is gone.
    fn publish_on(&mut self, client: &mut Client) -> Result<()> {
        let again: Vec<u64> = self
            .unacknowledged
            .drain(..)
            .map(|(number, _)| number)
            .collect();
        self.board
            .resent
            .fetch_add(again.len() as u64, Ordering::SeqCst);
        let mut is_lost = false;
        for number in again {
            // All of them stay noted, also when the connection is gone in the middle.
            is_lost |= !self.send(client, number, is_lost);
        }
        while !is_lost && !self.is_done() && !self.board.stop.load(Ordering::SeqCst) {
            let allowed = self.board.allowed.load(Ordering::SeqCst);
            while !is_lost && self.unacknowledged.len() < WINDOW && self.next < allowed {
                self.next += 1;
                is_lost = !self.send(client, self.next - 1, false);
            }
            if !is_lost {
                is_lost = !self.take_answer(client)?;
            }
        }
        Ok(())
    }

    /// Notes a message and sends it; whether the connection is still there.
    fn send(&mut self, client: &mut Client, number: u64, is_lost: bool) -> bool {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.unacknowledged.push_back((number, self.packet_id));
        let payload = payload(self.number, number);
        !is_lost
            && client
                .publish(
                    &topic(self.number),
                    payload.as_bytes(),
                    Some(self.packet_id),
                )
                .is_ok()
    }

    /// Waits a moment for an acknowledgement; whether the connection is still there.
    fn take_answer(&mut self, client: &mut Client) -> Result<bool> {
        match client.receive_within(NAP)? {
            Received::Nothing => Ok(true),
            Received::End => Ok(false),
            Received::Packet(Packet::Puback { packet_id, code }) => {
                let front = self.unacknowledged.pop_front();
                let (number, expected) = front.context("PUBACK for nothing")?;
                ensure!(
                    (packet_id, code) == (expected, SUCCESS),
                    "PUBACK {packet_id} with code {code:#04x} in the place of {expected} for \
                     message {number}"
                );
                self.board.acknowledged.fetch_add(1, Ordering::SeqCst);
                Ok(true)
            }
            Received::Packet(other) => bail!("{other:?} from the broker"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PAYLOAD_BYTES, parse, payload};

    #[test]
    fn payload_is_known_again_and_a_changed_one_is_not() {
        let text = payload(49, 3_999);
        assert_eq!(text.len(), PAYLOAD_BYTES);
        assert_eq!(parse(&text), Some((49, 3_999)));
        assert_eq!(parse(&text.replace("3999", "3998")), None);
        assert_eq!(parse(&text[..PAYLOAD_BYTES - 1]), None);
    }
}
