//! Wills that are kept and whose time has come: they are published, or wait until they are taken.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt::Message;
use storage::{CommitNumber, JournalKey};

use super::{KeptWills, key_of};
use crate::authorizer::Identity;
use crate::publish::Outcome;
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

    /// The will of this client was not taken: after the next commit it is tried again where that may have
    /// made room, or after a while.
    fn try_again(&mut self, now: Instant, client_id: &Bytes, why: Outcome) {
        let will = self.wills.get_mut(client_id);
        let Some(waiting) = will.and_then(|will| will.waiting.as_mut()) else {
            return;
        };
        waiting.is_due = true;
        waiting.at = now.checked_add(RETRY_INTERVAL);
        if why == Outcome::Later && !waiting.is_held_up {
            waiting.is_held_up = true;
            self.held_up.push_back(client_id.clone());
        }
    }

    /// The next that is to be tried again after a commit.
    fn pop_held_up(&mut self) -> Option<Bytes> {
        loop {
            let client_id = self.held_up.pop_front()?;
            let will = self.wills.get_mut(&client_id);
            // Its client may have come back, and its place be taken by another will.
            if let Some(waiting) = will.and_then(|will| will.waiting.as_mut())
                && std::mem::take(&mut waiting.is_held_up)
            {
                return Some(client_id);
            }
        }
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
            let _taken = self.publish_kept(now, &client_id);
        }
    }

    /// Publishes wills that there was no room for on the way to flash, until there is none again.
    pub(crate) fn retry_kept_wills(&self, now: Instant) {
        for _ in 0..PUBLISHED_MAX {
            let Some(client_id) = self.kept_wills.borrow_mut().pop_held_up() else {
                return;
            };
            if let Err(Outcome::Later) = self.publish_kept(now, &client_id) {
                return;
            }
        }
    }

    /// Publishes this client's will, or says why the store does not take it for now: then it is tried
    /// again.
    pub(super) fn publish_kept(&self, now: Instant, client_id: &Bytes) -> Result<(), Outcome> {
        let Some(due) = self.due_will(client_id) else {
            return Ok(());
        };
        let published = self.publish_due_will(now, client_id, &due);
        let mut kept = self.kept_wills.borrow_mut();
        match published {
            Ok(()) => {
                kept.remove(client_id);
                self.count_kept_wills(&kept);
            }
            Err(why) => kept.try_again(now, client_id, why),
        }
        published
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
            && let Err(why) = self.publish_kept(now, client_id)
            && let Some(due) = self.due_will(client_id)
        {
            self.let_due_will_wait(now, client_id, due, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use mqtt::{MessageProperties, QoS, Will};
    use storage::StoreOptions;

    use crate::router::now;
    use crate::trial::{LOG, commit, kept_session, with_router};

    const QUEUE_BYTES_MAX: usize = 4_096;

    #[test]
    fn kept_will_that_found_no_room_is_published_with_the_next_commit() {
        let options = StoreOptions {
            queue_bytes_max: QUEUE_BYTES_MAX,
            ..StoreOptions::default()
        };
        with_router(options, |router| {
            let session = kept_session(router, "client");
            let message = mqtt::Message {
                topic: "will".parse().unwrap(),
                payload: vec![b'x'; 1_000].into(),
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: MessageProperties::default(),
            };
            let will = Will {
                delay_interval: None,
                message,
            };
            let number = router.keep_will(now(), &session, Some(&will), 0);
            assert!(number.is_some());
            commit(router);
            let store = router.store.as_ref().unwrap();
            let log = store.log(LOG).unwrap().id;
            let large = storage::Message {
                topic: "other".into(),
                payload: vec![b'x'; QUEUE_BYTES_MAX - 500].into(),
                ..storage::Message::default()
            };
            let appended = store.append(log, b"", &large).unwrap();
            assert!(router.will_waits(now(), &session, number, &will));
            assert_eq!(router.counters.wills.get(), 0, "there is room for it");
            store.wait_durable(appended.commit).unwrap();
            router.retry_wills(now());
            assert_eq!(router.counters.wills.get(), 1);
            assert_eq!(router.counters.wills_kept.get(), 0);
        });
    }
}
