//! What was seen of every client of a run.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use crate::mqtt::crowd::Happened;
use crate::mqtt::kept::{Event, Kept};

/// Takes down what happens.
pub(super) trait Books {
    /// Something happened to a client.
    fn note(&mut self, kept: &mut Kept, client: usize, happened: Happened) -> Result<()>;

    /// How many times PINGRESP came to a client.
    fn pongs(&self, client: usize) -> u32;
}

/// What was seen of one client.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// Numbers of the messages that came, in their order.
    pub(super) received: Vec<u32>,
    pub(super) is_connected: bool,
    pub(super) subscribed: u32,
    pub(super) pongs: u32,
}

/// What was seen of all.
#[derive(Debug, Default)]
pub(super) struct Plain {
    pub(super) seen: Vec<Seen>,
    /// Messages that were acknowledged.
    pub(super) acknowledged: BTreeSet<u32>,
    /// Messages that came, of all clients.
    pub(super) received: u64,
}

impl Plain {
    /// For so many clients.
    pub(super) fn new(clients: usize) -> Self {
        Self {
            seen: vec![Seen::default(); clients],
            ..Self::default()
        }
    }

    /// The server was killed.
    pub(super) fn server_is_dead(&mut self) {
        for seen in &mut self.seen {
            seen.is_connected = false;
        }
    }

    /// Whether all of these clients are connected.
    pub(super) fn all(
        &self,
        clients: impl IntoIterator<Item = usize>,
        is_so: impl Fn(&Seen) -> bool,
    ) -> bool {
        let mut clients = clients.into_iter();
        clients.all(|client| self.seen.get(client).is_some_and(&is_so))
    }
}

impl Books for Plain {
    fn pongs(&self, client: usize) -> u32 {
        self.seen.get(client).map_or(0, |seen| seen.pongs)
    }

    fn note(&mut self, kept: &mut Kept, client: usize, happened: Happened) -> Result<()> {
        let seen = self.seen.get_mut(client).context("a client of this run")?;
        match happened {
            Happened::Ended => seen.is_connected = false,
            Happened::Event(event) => match event {
                Event::Connected { .. } => seen.is_connected = true,
                Event::Message {
                    publish,
                    is_repeated,
                } => {
                    let number = number_of(&publish.payload);
                    let number = number.with_context(|| format!("{publish:?} was never sent"))?;
                    // A resend as the standard has it: the client has looked at it.
                    if !is_repeated {
                        seen.received.push(number);
                        self.received += 1;
                    }
                }
                Event::Published { tag } => {
                    self.acknowledged.insert(u32::try_from(tag).context("tag")?);
                }
                Event::Subscribed { filter, code } => {
                    let client_id = kept.client_id();
                    ensure!(code <= 2, "{client_id}: {filter} refused with {code:#04x}");
                    seen.subscribed += 1;
                }
                Event::Unsubscribed { .. } => {}
                Event::Pong => seen.pongs += 1,
            },
        }
        Ok(())
    }
}

/// The payload of a message: its number, and bytes that are different for each.
pub(super) fn payload(number: u32, bytes: usize) -> Vec<u8> {
    let mut payload = format!("{number} ");
    let mut filler = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while payload.len() < bytes {
        filler = filler
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        payload.push_str(&format!("{filler:016x}"));
    }
    payload.into_bytes()
}

/// The number of a message that some client sent.
pub(super) fn number_of(payload: &[u8]) -> Option<u32> {
    let text = str::from_utf8(payload).ok()?;
    let number = text.split(' ').next()?.parse().ok()?;
    (self::payload(number, payload.len()) == payload).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::{number_of, payload};

    #[test]
    fn payload_is_known_again_and_a_changed_one_is_not() {
        for number in [0, 17, 100_000] {
            let mut bytes = payload(number, 100);
            assert_eq!(number_of(&bytes), Some(number));
            *bytes.last_mut().unwrap() = b'x';
            assert_eq!(number_of(&bytes), None);
        }
    }
}
