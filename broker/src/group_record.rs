//! What is written down of groups of shared subscribers: one journal entry for each that outlives the
//! broker, under its filter (`JournalKind::Group`). It is cold, like those of sessions.
//!
//! ```text
//! version u8 = 1 | postcard of Stored
//! ```
//!
//! | when | what |
//! |---|---|
//! | a session that is kept subscribes | before the session's record |
//! | messages of QoS 2 are handed to a member | in the commit that binds them to its session |
//! | every 10 s, if 1 % of the payload allows it | those that have changed |
//! | the last member with a connection goes | always |
//! | while all members are away | nothing |
//!
//! Invariant: a message of QoS 2 that was sent to a member is done with in the record that is on flash:
//! it belongs to the member's session, whatever becomes of that.

use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::TopicFilter;
use serde::{Deserialize, Serialize};
use storage::{CommitNumber, JournalKey, JournalKind, Store};

use crate::gathering::bindings_entry;
use crate::group::GroupProgress;
use crate::groups::Group;
use crate::outbound::{Bound, Outbound};
use crate::place::Place;
use crate::router::Router;
use crate::session::Session;
use crate::session_keeping::{JournalEntry, RECORD_WITHIN};
use crate::session_record::{StoredPlace, place_of, stored_place};

const VERSION: u8 = 1;

/// The shortest time between two writes of groups that go on, and how long one waits for a commit of
/// others.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// They are at most this part of the payload that came since the last.
const CHECKPOINT_PART: u64 = 100;

/// A group of which nothing has come for so many commits is written, too: it is not to read them after a
/// crash.
const FAR_COMMITS: u64 = 10_000;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    /// Where reading goes on.
    next: StoredPlace,
    /// Nothing at or behind it was handed out.
    high: StoredPlace,
    /// What lies before `high` and goes to a member again.
    outstanding: Vec<StoredPlace>,
}

impl Stored {
    fn to_stored(&self) -> Vec<u8> {
        // Nothing in it is of a kind that postcard refuses.
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// `None` if it is none of ours.
    fn from_stored(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let is_known = *version == VERSION;
        postcard::from_bytes(rest).ok().filter(|_| is_known)
    }
}

fn key_of(filter: &TopicFilter) -> JournalKey {
    JournalKey::new(JournalKind::Group, filter.as_str().as_bytes())
}

impl Router {
    /// What is to be on flash of a group now; `None` if nothing is to change. When it is put, that is to
    /// be [noted](Self::group_is_put).
    fn group_entry(&self, group: &Group) -> Option<JournalEntry> {
        if !group.is_kept() {
            return (group.is_written.get()).then(|| (key_of(&group.filter), None));
        }
        let progress = group.progress.borrow();
        let outstanding = progress.outstanding().into_iter().map(stored_place);
        let stored = Stored {
            next: stored_place(self.position_of(group)),
            high: stored_place(progress.high()),
            outstanding: outstanding.collect(),
        };
        Some((key_of(&group.filter), Some(stored.to_stored())))
    }

    fn position_of(&self, group: &Group) -> Place {
        let outbound = group.state.outbound.borrow();
        outbound.position(self.worked_off.get())
    }

    /// Its entry, as it is now, goes with a commit.
    fn group_is_put(&self, group: &Group) {
        let is_kept = group.is_kept();
        group.is_written.set(is_kept);
        if is_kept {
            group.has_changed.set(false);
            group.written_to.set(self.position_of(group).commit);
        }
    }

    /// Writes down how a group is, if it outlives the broker; forgets it on flash if not any more.
    pub(crate) fn write_group(&self, group: &Group) {
        let Some(store) = &self.store else {
            return;
        };
        let Some(entry) = self.group_entry(group) else {
            return;
        };
        match store.put_journal_entries(vec![entry], RECORD_WITHIN) {
            Ok(_) => self.group_is_put(group),
            Err(error) => tracing::debug!(%error, "Group is not written down."),
        }
    }

    /// Writes down that messages of QoS 2 were handed to members: in one commit that the group has done
    /// with them, and whose they are. They are sent when it is durable.
    pub(crate) fn write_handed_out(&self, now: Instant, group: &Group, takers: &[Rc<Session>]) {
        let has_unwritten = |taker: &&Rc<Session>| {
            let outbound = taker.state.outbound.borrow();
            outbound.bound().iter().any(Bound::is_unwritten)
        };
        let takers: Vec<_> = takers.iter().filter(has_unwritten).collect();
        let Some(store) = self.store.as_ref().filter(|_| !takers.is_empty()) else {
            return;
        };
        let kept = takers.iter().filter(|taker| taker.state.is_persistent());
        let entries = kept.clone().map(|taker| bindings_entry(&taker.state));
        let entries = entries.chain(self.group_entry(group)).collect();
        let commit = match store.put_journal_entries(entries, Duration::ZERO) {
            Ok(commit) => commit,
            Err(error) => {
                // The broker ends, and nothing was sent.
                tracing::debug!(%error, "Deliveries of a group are not written down.");
                return;
            }
        };
        self.group_is_put(group);
        kept.for_each(|taker| taker.state.bindings_commit.set(commit));
        for taker in takers {
            self.written_with(now, taker, commit);
        }
    }

    /// Writes those that go on and have changed, if the last time is long enough ago and enough came
    /// since.
    pub(crate) fn write_groups(&self, now: Instant) {
        let Some(store) = &self.store else {
            return;
        };
        let mut groups = self.groups.borrow_mut();
        let is_early = groups
            .written_at
            .is_some_and(|at| now.saturating_duration_since(at) < CHECKPOINT_INTERVAL);
        let mut changed = groups.all();
        let newest = self.worked_off.get();
        changed.retain(|group| {
            let is_far = newest.0.saturating_sub(group.written_to.get().0) > FAR_COMMITS;
            let is_there = group.state.is_attached();
            group.is_kept() && (group.has_changed.get() || (is_there && is_far))
        });
        if is_early || changed.is_empty() {
            return;
        }
        let entries: Vec<_> = changed
            .iter()
            .filter_map(|group| self.group_entry(group))
            .collect();
        let bytes = |(_, value): &JournalEntry| value.as_ref().map_or(0, Vec::len) as u64;
        let payload_bytes = store.counters().payload_bytes();
        let came = payload_bytes.saturating_sub(groups.payload_bytes);
        let is_little = came < CHECKPOINT_PART * entries.iter().map(bytes).sum::<u64>();
        let is_put = !is_little
            && store
                .put_journal_entries(entries, CHECKPOINT_INTERVAL)
                .is_ok();
        if is_put {
            groups.written_at = Some(now);
            groups.payload_bytes = payload_bytes;
            changed.iter().for_each(|group| self.group_is_put(group));
        }
    }

    /// Takes up the groups of the sessions that there are; the records of others go, if all sessions are
    /// known.
    pub(crate) fn restore_groups(&self, store: &Store, is_complete: bool) {
        let states: Vec<_> = self.sessions.borrow().iter().cloned().collect();
        for state in &states {
            let shared = state.shared.borrow();
            for (filter, _) in shared.iter() {
                let known = self.groups.borrow().with_filter(filter);
                let group = known.or_else(|| self.restore_group(store, filter));
                if let Some(group) = group {
                    group.members.borrow_mut().subscribed += 1;
                }
            }
        }
        let mut removals = Vec::new();
        for entry in store.cold_entries(JournalKind::Group) {
            let Ok((filter, _)) = entry else {
                return;
            };
            let known = std::str::from_utf8(&filter).ok().and_then(|filter| {
                let filter: TopicFilter = filter.parse().ok()?;
                self.groups.borrow().with_filter(&filter)
            });
            if known.is_none() {
                removals.push((JournalKey::new(JournalKind::Group, &filter), None));
            }
        }
        if is_complete && !removals.is_empty() {
            let put = store.put_journal_entries(removals, RECORD_WITHIN);
            if let Err(error) = put {
                tracing::debug!(%error, "Leftovers of groups stay.");
            }
        }
    }

    fn restore_group(&self, store: &Store, filter: &TopicFilter) -> Option<Rc<Group>> {
        let value = store.journal_entry(&key_of(filter));
        let is_written = value.is_some();
        let stored = value.and_then(|value| Stored::from_stored(&value));
        if stored.is_none() {
            // A session is durable after its groups; what was before is not known any more.
            let filter = filter.as_str();
            tracing::error!(filter, "Group cannot be read; it begins anew.");
        }
        let begin = Place::beginning_of(self.worked_off.get().next());
        let (next, high, outstanding) = match stored {
            Some(stored) => (
                place_of(stored.next),
                place_of(stored.high),
                stored.outstanding,
            ),
            None => (begin, begin, Vec::new()),
        };
        let outstanding = outstanding.into_iter().map(place_of);
        let progress = GroupProgress::new(high, outstanding);
        let first = progress
            .first_returned()
            .map_or(next, |first| first.min(next));
        let outbound = Outbound::restored(first, Vec::new(), first, self.group_mailbox());
        let group = self.new_group(filter, CommitNumber(0), outbound, progress)?;
        group.is_written.set(is_written);
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use storage::StoreOptions;

    use super::*;
    use crate::router::now;
    use crate::trial::{kept_session, with_router};

    /// It is written when somebody joins it, or when more has come.
    #[test]
    fn group_is_not_taken_for_written_when_too_little_came_to_write_it() {
        with_router(StoreOptions::default(), |router| {
            let session = kept_session(router, "member");
            let filter = "$share/group/a".parse().unwrap();
            let options = mqtt::SubscriptionOptions::default();
            router.subscribe_shared(&session, &filter, options, None);
            let group = router.groups.borrow().with_filter(&filter).unwrap();
            assert!(group.is_written.get());
            // As when its record could not be read.
            group.is_written.set(false);
            group.has_changed.set(true);
            router.write_groups(now());
            assert!(!group.is_written.get());
            assert!(group.has_changed.get());
        });
    }

    #[test]
    fn stored_group_can_be_read_and_others_cannot() {
        let stored = Stored {
            next: (9, 1, 0, 40),
            high: (7, 1, 2, 30),
            outstanding: vec![(5, 1, 0, 20), (6, 2, 1, 7)],
        };
        let bytes = stored.to_stored();
        assert_eq!(bytes.first(), Some(&1));
        assert_eq!(Stored::from_stored(&bytes), Some(stored));
        for end in 0..bytes.len() {
            assert_eq!(Stored::from_stored(&bytes[..end]), None, "{end} bytes");
        }
        let later = [&[2], &bytes[1..]].concat();
        assert_eq!(Stored::from_stored(&later), None);
    }
}
