//! Messages from the server, and whether it may send them as it does (4.3, 4.4, 4.6).
//!
//! On a connection on which the session goes on, first what was not answered comes again, in its order
//! and with DUP, then what is new. What the server had sent and the client never saw comes behind what
//! it saw, with DUP, too.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use anyhow::{Result, bail, ensure};

use super::{Event, Loss};
use crate::mqtt::packet::{self, Publish};

/// So many answered messages are remembered: more than any server has in flight to us.
const ANSWERED_MAX: usize = 256;

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not answered.
    Received,
    /// PUBREC was sent.
    Recorded,
    /// PUBACK or PUBCOMP was sent. Whether the server got it shows when it uses the identifier again.
    Done,
}

#[derive(Debug, Clone)]
struct Held {
    packet_id: u16,
    exactly_once: bool,
    /// Stands for topic and payload.
    content: u64,
    stage: Stage,
    /// Whether it came (again) on this connection.
    is_of_now: bool,
    /// The server must not have forgotten it.
    is_known: bool,
    /// It came by a shared subscription.
    is_shared: bool,
}

impl Held {
    /// Whether its identifier belongs to it.
    fn is_open(&self) -> bool {
        self.stage != Stage::Done && (self.is_known || self.is_of_now)
    }

    /// Whether it must come again before anything new. Order is promised for what comes by ordinary
    /// subscriptions; what a group hands out is older or newer than that.
    fn is_due(&self) -> bool {
        self.is_open() && !self.is_of_now && self.stage == Stage::Received && !self.is_shared
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Receiving {
    /// So many messages may be unanswered.
    pub(super) maximum: Option<u16>,
    pub(super) at_once: bool,
    /// In the order of their first arrival.
    held: VecDeque<Held>,
    /// Packet identifiers of messages that are to be answered.
    owed: VecDeque<u16>,
    /// Whether resends may come still.
    may_resend: bool,
    /// Whether the order of resends and new messages can be relied on.
    is_after_crash: bool,
    /// Whether the server was ever killed since the session began.
    has_crashed: bool,
    /// Messages of topics that begin so come by shared subscriptions. Those of QoS 1 go to another
    /// client when the connection is lost (4.8.2).
    pub(super) shared_topics: Option<&'static str>,
}

impl Receiving {
    pub(super) fn new(maximum: Option<u16>) -> Self {
        Self {
            maximum,
            at_once: true,
            held: VecDeque::new(),
            owed: VecDeque::new(),
            may_resend: false,
            is_after_crash: false,
            has_crashed: false,
            shared_topics: None,
        }
    }

    pub(super) fn lost(&mut self, loss: Loss, was_open: bool) {
        self.owed.clear();
        for held in &mut self.held {
            held.is_of_now = false;
            if (loss == Loss::OfServer || held.is_shared) && !held.exactly_once {
                held.is_known = false;
            }
        }
        self.has_crashed |= loss == Loss::OfServer;
        self.is_after_crash = loss == Loss::OfServer || (self.is_after_crash && !was_open);
    }

    /// The session is gone.
    pub(super) fn forget(&mut self) {
        self.held.clear();
        self.owed.clear();
    }

    pub(super) fn begin(&mut self, session_present: bool) {
        self.may_resend = session_present;
        self.is_after_crash &= session_present;
    }

    pub(super) fn check_finished(&self) -> Result<()> {
        let open = self.held.iter().find(|held| held.is_open());
        match open {
            Some(held) => bail!("the server has not finished {held:?}"),
            None => Ok(()),
        }
    }

    /// Answers so many; how many are left.
    pub(super) fn answer(&mut self, count: usize, output: &mut Vec<u8>) -> usize {
        for _ in 0..count.min(self.owed.len()) {
            let Some(packet_id) = self.owed.pop_front() else {
                break;
            };
            let is_it = |held: &&mut Held| held.packet_id == packet_id;
            let Some(held) = self.held.iter_mut().rev().find(is_it) else {
                continue;
            };
            if !held.exactly_once {
                held.stage = Stage::Done;
                output.extend(packet::puback(packet_id));
                continue;
            }
            if held.stage == Stage::Received {
                held.stage = Stage::Recorded;
            }
            output.extend(packet::pubrec(packet_id));
        }
        while self.held.len() > ANSWERED_MAX {
            let done = self.held.iter().position(|held| held.stage == Stage::Done);
            let Some(index) = done else { break };
            self.held.remove(index);
        }
        self.owed.len()
    }

    pub(super) fn publish(
        &mut self,
        publish: Publish,
        output: &mut Vec<u8>,
    ) -> Result<Option<Event>> {
        let Some(packet_id) = publish.packet_id else {
            ensure!(!publish.dup, "DUP with QoS 0");
            let is_repeated = false;
            return Ok(Some(Event::Message {
                publish,
                is_repeated,
            }));
        };
        ensure!(packet_id != 0, "packet identifier 0");
        let content = content_of(&publish);
        let came_before = self.came_before(&publish, packet_id, content)?;
        if came_before.is_none() {
            self.note_new(&publish, packet_id, content)?;
        }
        self.owed.push_back(packet_id);
        let unanswered = self.held.iter().filter(|h| h.is_open() && h.is_of_now);
        if let Some(maximum) = self.maximum {
            let count = unanswered.count();
            ensure!(
                count <= maximum.into(),
                "{count} messages, and Receive Maximum is {maximum}"
            );
        }
        if self.at_once {
            self.answer(usize::MAX, output);
        }
        let is_repeated = came_before.is_some();
        let is_delivered = !(is_repeated && publish.exactly_once);
        Ok(is_delivered.then_some(Event::Message {
            publish,
            is_repeated,
        }))
    }

    /// Whether it is a resend of a message that had come. What is of no use any more is forgotten.
    fn came_before(
        &mut self,
        publish: &Publish,
        packet_id: u16,
        content: u64,
    ) -> Result<Option<()>> {
        let is_it = |held: &Held| held.packet_id == packet_id;
        let Some(index) = self.held.iter().position(is_it) else {
            return Ok(None);
        };
        // Order is promised for messages of the same QoS: after a kill those of QoS 2, whose
        // identifiers are durable, come before older ones of QoS 1.
        let is_due = |held: &&Held| held.is_due() && held.exactly_once == publish.exactly_once;
        let due_before = self.held.iter().take(index).find(is_due);
        let due_before = due_before.map(|held| held.packet_id);
        let Some(held) = self.held.get_mut(index) else {
            return Ok(None);
        };
        let is_shared = held.is_shared;
        let is_same = (held.content, held.exactly_once) == (content, publish.exactly_once);
        ensure!(
            !(held.is_of_now && held.is_open()),
            "packet identifier {packet_id} is used again while in use"
        );
        if held.is_of_now && publish.dup {
            bail!("packet identifier {packet_id} comes with DUP, and was answered just now");
        }
        if !publish.dup || !is_same {
            ensure!(
                !held.is_open(),
                "message with the packet identifier {packet_id} of {held:?}, which was not \
                 answered; DUP: {}, same content: {is_same}",
                publish.dup
            );
            self.held.remove(index);
            return Ok(None);
        }
        ensure!(
            !(held.exactly_once && held.stage == Stage::Done),
            "message {packet_id} of QoS 2 comes again after its PUBREL"
        );
        ensure!(
            due_before.is_none() || self.is_after_crash || is_shared,
            "packet identifier {packet_id} comes again before {due_before:?}"
        );
        ensure!(
            self.may_resend || self.is_after_crash,
            "packet identifier {packet_id} comes again after a new message"
        );
        held.is_of_now = true;
        if !held.exactly_once {
            held.stage = Stage::Received;
        }
        // The server had forgotten it, and has sent it in the order of its new life.
        if !std::mem::replace(&mut held.is_known, true)
            && let Some(held) = self.held.remove(index)
        {
            self.held.push_back(held);
        }
        Ok(Some(()))
    }

    fn note_new(&mut self, publish: &Publish, packet_id: u16, content: u64) -> Result<()> {
        let is_shared = |begin| publish.topic.starts_with(begin);
        let is_shared = self.shared_topics.is_some_and(is_shared);
        // After a kill those of QoS 1 may be sent again in their order, and those of QoS 2 in theirs.
        let is_due = |held: &&Held| {
            held.is_due() && (!self.has_crashed || held.exactly_once == publish.exactly_once)
        };
        let due = self.held.iter().find(is_due);
        ensure!(
            due.is_none() || self.is_after_crash || is_shared,
            "message {packet_id} of QoS {} comes before {due:?}, which was not answered",
            publish.qos()
        );
        ensure!(
            !publish.dup || self.may_resend || self.is_after_crash,
            "packet identifier {packet_id} comes for the first time, and with DUP"
        );
        self.may_resend &= publish.dup;
        self.held.push_back(Held {
            packet_id,
            exactly_once: publish.exactly_once,
            content,
            stage: Stage::Received,
            is_of_now: true,
            is_known: true,
            is_shared,
        });
        Ok(())
    }

    pub(super) fn pubrel(&mut self, packet_id: u16, output: &mut Vec<u8>) -> Result<()> {
        let is_it = |held: &&mut Held| held.packet_id == packet_id && held.exactly_once;
        let Some(held) = self.held.iter_mut().find(is_it) else {
            // That a delivery is over need not be on flash when the server is killed.
            ensure!(self.has_crashed, "PUBREL {packet_id} for nothing");
            output.extend(packet::pubcomp(packet_id));
            return Ok(());
        };
        match held.stage {
            Stage::Received => bail!("PUBREL {packet_id} before its PUBREC"),
            Stage::Done if held.is_of_now => bail!("PUBREL {packet_id} twice"),
            Stage::Recorded | Stage::Done => {}
        }
        held.stage = Stage::Done;
        held.is_of_now = true;
        output.extend(packet::pubcomp(packet_id));
        Ok(())
    }
}

fn content_of(publish: &Publish) -> u64 {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    hasher.hash_one((&publish.topic, &publish.payload))
}
