//! Wills of sessions that outlive their connections: they are on flash from CONNECT on, and outlive the
//! broker, too.
//!
//! | when | what |
//! |---|---|
//! | CONNECT of a kept session | its will, in the commit of the session's record; or what is there goes |
//! | good-bye | it goes, in the commit of the session's record |
//! | it is published | it goes, in the commit of the message |
//! | its session ends, and it cannot be published for now | it stays, and is published later |
//!
//! So it is published at most once, whenever the broker ends. How long it waits:
//!
//! - The connection ended: its delay, or the end of the session if that is earlier (3.1.3.2.2).
//! - The broker ended: [`found_wills`](crate::found_wills), or the end of the session likewise.
//!
//! Nobody's identity is on flash: a will that is published after a restart was permitted at CONNECT.
//!
//! Invariants: there is one will at most for each client identifier, that of the newest connection. In
//! memory it is only while the connection is there or its entry is not durable. All of them together
//! have a bound, above which CONNECT is refused.

mod due;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt::{Message, Will};
use storage::{CommitNumber, JournalKey, JournalKind};

use crate::authorizer::Identity;
use crate::publication::size_bytes;
use crate::router::{Router, Stage};
use crate::session::{Lifetime, Session, SessionState};
use crate::session_keeping::{JournalEntry, RECORD_WITHIN};
use crate::will_record::WillRecord;

pub(crate) use self::due::DueWill;

/// Bytes of all of them: topic names, payloads and properties.
const BYTES_MAX: usize = 16 << 20;
/// Bytes of one.
const WILL_BYTES_MAX: usize = 1 << 20;
/// What one costs beside its message.
const WILL_BYTES_EACH: usize = 256;

/// Tells the will of a connection from those of others of the same client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WillNumber(u64);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct KeptWills {
    wills: HashMap<Bytes, KeptWill>,
    /// What is to be written together with the records of these clients' sessions.
    changes: HashMap<Bytes, Option<Vec<u8>>>,
    bytes: usize,
    newest: u64,
    /// Clients whose wills wait for room on the way to flash, those that came first in front.
    held_up: VecDeque<Bytes>,
    /// Wills that could not be read are on flash still.
    pub(crate) has_unreadable: bool,
}

#[derive(Debug)]
struct KeptWill {
    number: WillNumber,
    cost: usize,
    /// With which commit it is on flash; `None` before it is written.
    commit: Option<CommitNumber>,
    /// Its client is gone.
    waiting: Option<Waiting>,
}

/// A will whose client is gone.
#[derive(Debug, Default)]
struct Waiting {
    /// When it is tried to publish it; `None`: when its session ends.
    at: Option<Instant>,
    /// Its time has come, or its session has ended, whatever `at` says.
    is_due: bool,
    /// It is tried again after the next commit.
    is_held_up: bool,
    /// Until it is on flash.
    message: Option<Box<Message>>,
    /// Whose it is; `None` after a restart.
    identity: Option<Identity>,
}

impl Waiting {
    fn is_due(&self, now: Instant) -> bool {
        self.is_due || self.at.is_some_and(|at| at <= now)
    }
}

fn key_of(client_id: &[u8]) -> JournalKey {
    JournalKey::new(JournalKind::Will, client_id)
}

/// What it takes of the bound of all.
pub(crate) fn cost_of(client_id: &[u8], message: &Message) -> usize {
    size_bytes(message) + client_id.len() + WILL_BYTES_EACH
}

impl KeptWills {
    pub(crate) fn count(&self) -> usize {
        self.wills.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn insert(&mut self, client_id: Bytes, will: KeptWill) {
        self.bytes += will.cost;
        if let Some(earlier) = self.wills.insert(client_id, will) {
            self.bytes -= earlier.cost;
        }
    }

    fn remove(&mut self, client_id: &[u8]) -> Option<KeptWill> {
        let removed = self.wills.remove(client_id)?;
        self.bytes -= removed.cost;
        Some(removed)
    }

    /// Takes up one that was found on flash, of a client that is gone; it waits until `at`.
    pub(crate) fn restore(&mut self, client_id: Bytes, cost: usize, at: Option<Instant>) {
        let will = KeptWill {
            number: self.next_number(),
            cost,
            commit: Some(CommitNumber(0)),
            waiting: Some(Waiting {
                at,
                ..Waiting::default()
            }),
        };
        self.insert(client_id, will);
    }

    /// Until when the will of this client waits.
    #[cfg(test)]
    pub(crate) fn waits_until(&self, client_id: &str) -> Option<Instant> {
        self.wills.get(client_id.as_bytes())?.waiting.as_ref()?.at
    }

    /// Whether it is the one that is kept of its client.
    fn is_kept(&self, client_id: &[u8], number: Option<WillNumber>) -> bool {
        let kept = self.wills.get(client_id);
        kept.is_some_and(|kept| Some(kept.number) == number)
    }

    fn next_number(&mut self) -> WillNumber {
        self.newest += 1;
        WillNumber(self.newest)
    }
}

impl Router {
    /// Whether there is room for the will of this client, in the place of an earlier one.
    pub(crate) fn has_room_for_will(
        &self,
        client_id: &str,
        lifetime: Lifetime,
        will: Option<&Will>,
    ) -> bool {
        let Some(will) = will.filter(|_| lifetime != Lifetime::Connection) else {
            return true;
        };
        let kept = self.kept_wills.borrow();
        let earlier = kept.wills.get(client_id.as_bytes());
        let others = kept.bytes - earlier.map_or(0, |earlier| earlier.cost);
        let cost = cost_of(client_id.as_bytes(), &will.message);
        cost <= WILL_BYTES_MAX && others + cost <= BYTES_MAX
    }

    /// A client has come, with or without a will: that is the one that is written with the session's
    /// record. Its number, if it is kept.
    pub(crate) fn keep_will(
        &self,
        now: Instant,
        session: &Session,
        will: Option<&Will>,
        keep_alive_seconds: u16,
    ) -> Option<WillNumber> {
        let client_id = session.client_id();
        // Its time may have come a moment before its client.
        self.hand_over_due_will(now, client_id);
        let mut kept = self.kept_wills.borrow_mut();
        let had_one = kept.remove(client_id).is_some();
        let will = will.filter(|_| session.state.outlives_its_connection() && self.store.is_some());
        let number = will.map(|will| {
            let message = &will.message;
            let is_permitted = self.authorizer.may_publish(
                session.client(),
                &message.topic,
                message.qos,
                message.retain,
            );
            let stored = WillRecord::stored(will, keep_alive_seconds, is_permitted);
            kept.changes.insert(client_id.clone(), Some(stored));
            let number = kept.next_number();
            let will = KeptWill {
                number,
                cost: cost_of(client_id, message),
                commit: None,
                waiting: None,
            };
            kept.insert(client_id.clone(), will);
            number
        });
        if (had_one || kept.has_unreadable) && number.is_none() {
            kept.changes.insert(client_id.clone(), None);
        }
        self.count_kept_wills(&kept);
        number
    }

    /// The client said good-bye: its will goes with the session's next record.
    pub(crate) fn forget_will(&self, session: &Session, number: Option<WillNumber>) {
        let client_id = session.client_id();
        let mut kept = self.kept_wills.borrow_mut();
        if kept.is_kept(client_id, number) {
            kept.remove(client_id);
            self.count_kept_wills(&kept);
            match session.has_ended.get() {
                false => drop(kept.changes.insert(client_id.clone(), None)),
                // There is no more record to come.
                true => self.forget_kept_will(key_of(client_id)),
            }
        }
    }

    /// A will is not kept any more.
    pub(crate) fn forget_kept_will(&self, key: JournalKey) {
        let Some(store) = &self.store else {
            return;
        };
        if let Err(error) = store.put_journal_entry(key, None, RECORD_WITHIN) {
            tracing::debug!(%error, "Will is not forgotten.");
        }
    }

    /// What is to be written of the will together with the record of its session.
    pub(crate) fn will_entry(&self, state: &SessionState) -> Option<JournalEntry> {
        let client_id = state.client_id().as_bytes();
        let change = self.kept_wills.borrow_mut().changes.remove(client_id)?;
        Some((key_of(client_id), change))
    }

    /// That is written with this commit.
    pub(crate) fn will_is_written(&self, state: &SessionState, commit: CommitNumber) {
        let mut kept = self.kept_wills.borrow_mut();
        if let Some(will) = kept.wills.get_mut(state.client_id().as_bytes()) {
            will.commit.get_or_insert(commit);
        }
    }

    /// The client is gone without a good-bye. `false` if its will is not kept, or not any more.
    pub(crate) fn will_waits(
        &self,
        now: Instant,
        session: &Session,
        number: Option<WillNumber>,
        will: &Will,
    ) -> bool {
        let mut kept = self.kept_wills.borrow_mut();
        if !kept.is_kept(session.client_id(), number) {
            return false;
        }
        let delay = Duration::from_secs(will.delay_interval.unwrap_or(0).into());
        let is_due = delay.is_zero() || session.state.has_ended.get();
        if let Some(kept) = kept.wills.get_mut(session.client_id()) {
            kept.waiting = Some(Waiting {
                at: match is_due {
                    true => Some(now),
                    false => now.checked_add(delay),
                },
                is_due,
                is_held_up: false,
                message: Some(Box::new(will.message.clone())),
                identity: Some(session.client().identity.clone()),
            });
        }
        drop(kept);
        if is_due {
            // One that is not taken waits.
            let _taken = self.publish_kept(now, session.client_id());
        }
        true
    }

    /// The session has ended: a will that waits for its client waits no more.
    pub(crate) fn end_wait_of_will(&self, now: Instant, state: &SessionState) {
        let client_id = Bytes::copy_from_slice(state.client_id().as_bytes());
        let mut kept = self.kept_wills.borrow_mut();
        let kept_will = kept.wills.get_mut(&client_id);
        let Some(waiting) = kept_will.and_then(|will| will.waiting.as_mut()) else {
            return;
        };
        (waiting.at, waiting.is_due) = (Some(now), true);
        drop(kept);
        if self.stage() == Stage::Running {
            let _taken = self.publish_kept(now, &client_id);
        }
    }

    pub(crate) fn count_kept_wills(&self, kept: &KeptWills) {
        self.counters.wills_kept.set(kept.count());
        self.counters.wills_kept_bytes.set(kept.bytes());
    }
}
