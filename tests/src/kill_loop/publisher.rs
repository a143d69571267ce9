//! A client that publishes numbered messages with QoS 1 until its connection is gone, and sends what
//! was not acknowledged again, in order, on its next one.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::mqtt::{Client, Connect, Packet, Received, SUCCESS, Version};

/// Messages that may be without an acknowledgement.
const WINDOW: usize = 16;
/// How long it waits for something before it looks around.
const NAP: Duration = Duration::from_millis(5);
/// The log that removes much, and the one that keeps much.
const SMALL: &str = "small";
const KEPT: &str = "kept";
/// New messages of a round: those of all clients of the smaller log are far less than it keeps.
const NEW_IN_ROUND_MAX: u64 = 500;
/// … and of a client of the other log, so that the smaller one fills the segments.
const NEW_IN_ROUND_OF_KEPT_MAX: u64 = 100;

/// One client. It lives as long as the run.
#[derive(Debug)]
pub(super) struct Publisher {
    number: u16,
    version: Version,
    /// Number of its next message.
    next: u64,
    /// Numbers and packet identifiers of those that were sent, oldest first.
    unacknowledged: VecDeque<(u64, u16)>,
    packet_id: u16,
    /// How often messages were sent again.
    resent: BTreeMap<u64, u32>,
}

impl Publisher {
    pub(super) fn new(number: u16) -> Self {
        let version = Version::BOTH.into_iter().nth(usize::from(number % 2));
        Self {
            number,
            version: version.unwrap_or(Version::V5),
            next: 0,
            unacknowledged: VecDeque::new(),
            packet_id: 0,
            resent: BTreeMap::new(),
        }
    }

    /// Messages that were acknowledged: those before this number.
    pub(super) fn acknowledged(&self) -> u64 {
        self.unacknowledged
            .front()
            .map_or(self.next, |(number, _)| *number)
    }

    /// Number of the first message that it never sent.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Messages that it sent again, each time counted.
    pub(super) fn resent(&self) -> u64 {
        self.resent.values().map(|times| u64::from(*times)).sum()
    }

    /// How often it sent a message again.
    pub(super) fn times_resent(&self, message: u64) -> u32 {
        self.resent.get(&message).copied().unwrap_or(0)
    }

    /// Publishes until the connection is gone.
    pub(super) fn publish(&mut self, broker: SocketAddr, is_dead: &AtomicBool) -> Result<()> {
        let connect = Connect::new(self.version, &client_id(self.number));
        // Killed before it let us in: nothing was sent.
        let Ok(mut client) = Client::connect(broker, &connect) else {
            return Ok(());
        };
        let again: Vec<u64> = self.unacknowledged.drain(..).map(|(n, _)| n).collect();
        let mut is_lost = false;
        for number in again {
            *self.resent.entry(number).or_default() += 1;
            // All of them stay noted, also when the connection is gone in the middle.
            is_lost |= !self.send(&mut client, number, is_lost);
        }
        let new_max = match log_of(self.number) {
            KEPT => NEW_IN_ROUND_OF_KEPT_MAX,
            _ => NEW_IN_ROUND_MAX,
        };
        let end = self.next + new_max;
        while !is_lost {
            while !is_lost && self.unacknowledged.len() < WINDOW && self.next < end {
                self.next += 1;
                is_lost = !self.send(&mut client, self.next - 1, false);
            }
            if self.unacknowledged.is_empty() && self.next >= end {
                if is_dead.load(Ordering::SeqCst) {
                    return Ok(());
                }
                thread::sleep(NAP);
            } else if !is_lost {
                is_lost = !self.take_answer(&mut client)?;
            }
        }
        Ok(())
    }

    /// Notes a message and sends it; whether the connection is still there.
    fn send(&mut self, client: &mut Client, number: u64, is_lost: bool) -> bool {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.unacknowledged.push_back((number, self.packet_id));
        let (topic, payload) = (topic(self.number), payload(self.number, number));
        !is_lost
            && client
                .publish(&topic, payload.as_bytes(), Some(self.packet_id))
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
                Ok(true)
            }
            Received::Packet(other) => bail!("{other:?} from the broker"),
        }
    }
}

/// Name of the client with this number; also the key of its records.
pub(super) fn client_id(number: u16) -> String {
    format!("client-{number:03}")
}

/// Every other client publishes to the small log.
pub(super) fn log_of(number: u16) -> &'static str {
    if number.is_multiple_of(2) {
        SMALL
    } else {
        KEPT
    }
}

/// The topic that it publishes to.
pub(super) fn topic(number: u16) -> String {
    format!("{}/{number}", log_of(number))
}

/// A message: who, which, and a rest that is different for each. Some are larger than a piece of a
/// commit.
pub(super) fn payload(client: u16, message: u64) -> String {
    let mut payload = format!("{client} {message} ");
    let mut filler = message.wrapping_mul(50).wrapping_add(client.into());
    let bytes = match message % 250 {
        249 => 100_000,
        odd => usize::try_from(odd * 7919 % 900).unwrap_or(0),
    };
    while payload.len() < bytes {
        filler = filler
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        payload.push_str(&format!("{filler:016x}"));
    }
    payload
}

/// Client and number of a payload; `None` when no client ever sent it.
pub(super) fn parse(text: &str) -> Option<(u16, u64)> {
    let mut words = text.split(' ');
    let (client, message) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (payload(client, message) == text).then_some((client, message))
}

#[cfg(test)]
mod tests {
    use super::{parse, payload};

    #[test]
    fn payload_is_known_again_and_a_changed_one_is_not() {
        for message in [0, 17, 249] {
            let text = payload(3, message);
            assert_eq!(parse(&text), Some((3, message)));
            assert_eq!(parse(&format!("{text}x")), None);
        }
    }
}
