//! Messages on their way to the server: sent again with DUP and their identifiers, in their order, on
//! the next connection (4.4), and acknowledged in that order (4.6).

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};

use crate::mqtt::packet::{self, Publish, Version};

/// Packet Identifier not found (MQTT 5, 3.7.2.1).
const NOT_FOUND: u8 = 0x92;

#[derive(Debug)]
struct Outgoing {
    packet_id: u16,
    publish: Publish,
    tag: u64,
    /// PUBREC has come: PUBREL is sent instead.
    is_released: bool,
    /// PUBREL was sent on an earlier connection: the server may have forgotten it.
    is_sent_again: bool,
}

/// See the module's documentation. The queue is in the order of sending; what is released is in the
/// order of its PUBREC, which is the same.
#[derive(Debug)]
pub(super) struct Sending {
    window: usize,
    queue: VecDeque<Outgoing>,
    last_id: u16,
    /// The lowest free identifier is used, so that they come again soon.
    pub(super) uses_low_ids: bool,
}

impl Sending {
    pub(super) fn new(window: u16) -> Self {
        Self {
            window: window.into(),
            queue: VecDeque::new(),
            last_id: 0,
            uses_low_ids: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < self.window
    }

    pub(super) fn has_none(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = u64> {
        self.queue.iter().map(|outgoing| outgoing.tag)
    }

    /// Those that the server has, and that are not over: of QoS 2, after PUBREC.
    pub(super) fn taken(&self) -> impl Iterator<Item = u64> {
        let taken = self.queue.iter().filter(|outgoing| outgoing.is_released);
        taken.map(|outgoing| outgoing.tag)
    }

    /// A packet identifier that nothing uses.
    pub(super) fn free_id(&mut self, is_used: impl Fn(u16) -> bool) -> Result<u16> {
        if self.uses_low_ids {
            self.last_id = 0;
        }
        for _ in 0..=u16::MAX {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            if !is_used(id) && self.queue.iter().all(|sent| sent.packet_id != id) {
                return Ok(id);
            }
        }
        anyhow::bail!("all packet identifiers are in use")
    }

    /// Notes a message; as it is to be sent.
    pub(super) fn publish(&mut self, publish: Publish, tag: u64) -> Result<Publish> {
        let packet_id = self.free_id(|_| false)?;
        let publish = Publish {
            packet_id: Some(packet_id),
            ..publish
        };
        self.queue.push_back(Outgoing {
            packet_id,
            publish: publish.clone(),
            tag,
            is_released: false,
            is_sent_again: false,
        });
        Ok(publish)
    }

    /// Everything again, in its order.
    pub(super) fn send_again(&mut self, version: Version, output: &mut Vec<u8>) {
        for outgoing in &mut self.queue {
            if outgoing.is_released {
                outgoing.is_sent_again = true;
                output.extend(packet::pubrel(outgoing.packet_id));
                continue;
            }
            let again = Publish {
                dup: true,
                ..outgoing.publish.clone()
            };
            output.extend(again.encode(version));
        }
    }

    /// The server has forgotten everything: what was not released is sent as if for the first time.
    pub(super) fn send_anew(&mut self, version: Version, output: &mut Vec<u8>) -> Result<()> {
        let is_released = self.queue.iter().any(|outgoing| outgoing.is_released);
        ensure!(!is_released, "the session is gone with a message of QoS 2");
        for outgoing in &self.queue {
            output.extend(outgoing.publish.encode(version));
        }
        Ok(())
    }

    pub(super) fn puback(&mut self, packet_id: u16, code: u8) -> Result<u64> {
        let outgoing = self.take("PUBACK", packet_id, code, |o| !o.publish.exactly_once)?;
        Ok(outgoing.tag)
    }

    pub(super) fn pubrec(&mut self, packet_id: u16, code: u8) -> Result<()> {
        let is_next = |o: &Outgoing| o.publish.exactly_once && !o.is_released;
        let index = self.index("PUBREC", packet_id, code, is_next)?;
        let outgoing = self.queue.get_mut(index).context("its message")?;
        outgoing.is_released = true;
        Ok(())
    }

    pub(super) fn pubcomp(&mut self, packet_id: u16, code: u8) -> Result<u64> {
        let is_next = |o: &Outgoing| o.publish.exactly_once && o.is_released;
        let next = self.queue.iter().find(|outgoing| is_next(outgoing));
        let may_be_unknown = next.is_some_and(|outgoing| outgoing.is_sent_again);
        let code = match code {
            NOT_FOUND if may_be_unknown => 0,
            code => code,
        };
        Ok(self.take("PUBCOMP", packet_id, code, is_next)?.tag)
    }

    fn take(
        &mut self,
        name: &str,
        packet_id: u16,
        code: u8,
        is_next: impl Fn(&Outgoing) -> bool,
    ) -> Result<Outgoing> {
        let index = self.index(name, packet_id, code, is_next)?;
        self.queue.remove(index).context("its message")
    }

    /// Where the message is that is to be acknowledged next.
    fn index(
        &self,
        name: &str,
        packet_id: u16,
        code: u8,
        is_next: impl Fn(&Outgoing) -> bool,
    ) -> Result<usize> {
        ensure!(code == 0, "{name} {packet_id} with code {code:#04x}");
        let index = self.queue.iter().position(is_next);
        let index = index.with_context(|| format!("{name} {packet_id} for nothing"))?;
        let expected = self.queue.get(index).map(|outgoing| outgoing.packet_id);
        ensure!(
            expected == Some(packet_id),
            "{name} {packet_id} in the place of {expected:?}"
        );
        Ok(index)
    }
}
