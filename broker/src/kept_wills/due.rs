//! Wills that are kept and whose time has come: they are published, or wait until they are taken.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt::Message;
use storage::{CommitNumber, JournalKey};

use super::{KeptWills, key_of};
use crate::authorizer::Identity;
use crate::router::{Router, Stage};
use crate::will_record::WillRecord;

/// How long a will waits that the store did not take.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Wills that are published in one go: others are to have their turn.
const PUBLISHED_MAX: usize = 256;

/// A will that is to be published.
#[derive(Debug)]
pub(crate) struct DueWill {
    pub(crate) key: JournalKey,
    pub(crate) message: Message,
    pub(crate) identity: Option<Identity>,
    /// Whether its client might publish it, as far as it cannot be asked for now.
    pub(crate) is_permitted: Option<bool>,
}

impl KeptWills {
    /// Lets those go from memory that are on flash now.
    fn release(&mut self, durable: CommitNumber) {
        for will in self.wills.values_mut() {
            let is_durable = will.commit.is_some_and(|commit| commit <= durable);
            if let Some(waiting) = will.waiting.as_mut().filter(|_| is_durable) {
                waiting.message = None;
            }
        }
    }

    /// Clients whose wills are to be published, those whose time came first in front.
    fn due(&self, now: Instant) -> Vec<Bytes> {
        let mut due: Vec<_> = self
            .wills
            .iter()
            .filter_map(|(client_id, will)| {
                let at = will.waiting.as_ref()?.at?;
                (at <= now).then_some((at, client_id))
            })
            .collect();
        due.sort_unstable();
        let due = due.into_iter().take(PUBLISHED_MAX);
        due.map(|(_, id)| id.clone()).collect()
    }
}

impl Router {
    /// Publishes wills whose time has come, until one is not taken.
    pub(crate) fn publish_due_wills(&self, now: Instant) {
        if self.stage() != Stage::Running {
            return;
        }
        self.kept_wills.borrow_mut().release(self.durable());
        let due = self.kept_wills.borrow().due(now);
        // One that is not taken, because its log is full, does not hold up those of other logs.
        for client_id in due {
            self.publish_kept(now, &client_id);
        }
    }

    /// Publishes this client's will; `false` if the store does not take it for now.
    pub(super) fn publish_kept(&self, now: Instant, client_id: &Bytes) -> bool {
        let Some(due) = self.due_will(client_id) else {
            return true;
        };
        let is_done = self.publish_due_will(now, client_id, &due);
        let mut kept = self.kept_wills.borrow_mut();
        if is_done {
            kept.remove(client_id);
            self.count_kept_wills(&kept);
        } else if let Some(will) = kept.wills.get_mut(client_id)
            && let Some(waiting) = &mut will.waiting
        {
            waiting.is_due = true;
            waiting.at = now.checked_add(RETRY_INTERVAL);
        }
        is_done
    }

    /// The will of a client that is gone, from memory or from flash. One that cannot be read is not kept
    /// any more.
    fn due_will(&self, client_id: &Bytes) -> Option<DueWill> {
        let key = key_of(client_id);
        let kept = self.kept_wills.borrow();
        let waiting = kept.wills.get(client_id)?.waiting.as_ref()?;
        let identity = waiting.identity.clone();
        if let Some(message) = &waiting.message {
            return Some(DueWill {
                key,
                message: Message::clone(message),
                identity,
                is_permitted: None,
            });
        }
        drop(kept);
        let stored = self.store.as_ref()?.journal_entry(&key);
        let read = stored.map(|stored| WillRecord::from_stored(&stored));
        match read {
            Some(Ok(record)) => Some(DueWill {
                key,
                message: record.will.message,
                is_permitted: identity.is_none().then_some(record.is_permitted),
                identity,
            }),
            unreadable => {
                let error = unreadable.and_then(Result::err);
                let error = error.map_or_else(|| "it is gone".to_owned(), |e| e.to_string());
                let client_id_text = client_id.escape_ascii();
                tracing::error!(client_id = %client_id_text, error, "Will cannot be read; it is lost.");
                let mut kept = self.kept_wills.borrow_mut();
                kept.has_unreadable = true;
                kept.remove(client_id);
                self.count_kept_wills(&kept);
                None
            }
        }
    }

    /// A due will makes way for that of a new connection: it goes on in memory, if it must wait.
    pub(super) fn hand_over_due_will(&self, now: Instant, client_id: &Bytes) {
        let kept = self.kept_wills.borrow();
        let waiting = kept
            .wills
            .get(client_id)
            .and_then(|will| will.waiting.as_ref());
        let is_due = waiting.is_some_and(|waiting| waiting.is_due(now));
        drop(kept);
        if is_due
            && !self.publish_kept(now, client_id)
            && let Some(due) = self.due_will(client_id)
        {
            self.let_due_will_wait(now, client_id, due);
        }
    }
}
