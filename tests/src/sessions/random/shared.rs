//! What groups of shared subscribers must get, may get and must not get: to the model a group is a
//! subscriber, whose subscription is there as long as a member has one.
//!
//! A message **must** come to a member, but for one of QoS 2 that may have been bound to a session which
//! a clean start has ended. It comes again only if it came with QoS 1, and the connection of whoever got
//! it was lost since, the product was killed since, or the publisher had sent it again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::model::{Message, Subscriber, shared_filter};

/// Which member got a message, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) client: usize,
    pub(super) at: u64,
    pub(super) qos: u8,
}

/// What came to members of groups.
#[derive(Debug, Default)]
pub(super) struct Shared {
    seen: BTreeMap<u32, Vec<Seen>>,
}

impl Shared {
    /// A message came to a member.
    pub(super) fn came(
        &mut self,
        number: u32,
        message: &Message,
        seen: Seen,
        subscribers: &[Subscriber],
        crashed_at: u64,
    ) -> Result<()> {
        let windows = || subscribers.iter().flat_map(|s| &s.windows);
        let filter = shared_filter(message.topic);
        let is_member = subscribers.get(seen.client).is_some_and(|s| {
            let mut windows = s.windows.iter();
            windows.any(|w| Some(w.filter) == filter)
        });
        ensure!(
            is_member && windows().any(|window| window.may_bring(message)),
            "message {number} is none of the group's: {message:?}, {seen:?}"
        );
        let before = self.seen.entry(number).or_default();
        for earlier in before.iter() {
            let lost_at = subscribers.get(earlier.client).map_or(0, |s| s.lost_at);
            let is_lost = earlier.at < lost_at || earlier.at < crashed_at;
            ensure!(
                earlier.qos < 2 && (is_lost || message.is_sent_again),
                "message {number} came twice to a group: {message:?}; {earlier:?}, {seen:?}, lost at \
                 {lost_at}, last kill at {crashed_at}"
            );
        }
        before.push(seen);
        Ok(())
    }

    /// Messages that a member must have and none has.
    pub(super) fn missing(
        &self,
        messages: &[Message],
        subscribers: &[Subscriber],
    ) -> BTreeSet<u32> {
        let must_be = |message: &Message| {
            let filter = shared_filter(message.topic);
            let is_wanted = |s: &Subscriber| s.windows.iter().any(|w| w.must_bring(message));
            let may_be_discarded = |s: &Subscriber| {
                let mut windows = s.windows.iter();
                let is_bound = windows.any(|w| Some(w.filter) == filter && w.qos == 2);
                message.qos == 2 && is_bound && s.discarded_at > message.sent_at
            };
            filter.is_some()
                && subscribers.iter().any(is_wanted)
                && !subscribers.iter().any(may_be_discarded)
        };
        let numbers = (0..).zip(messages);
        numbers
            .filter(|(number, message)| !self.seen.contains_key(number) && must_be(message))
            .map(|(number, _)| number)
            .collect()
    }

    /// Messages that came, and how often one came again.
    pub(super) fn counts(&self) -> (u64, u64) {
        let all: u64 = self.seen.values().map(|seen| seen.len() as u64).sum();
        let messages = self.seen.len() as u64;
        (messages, all - messages)
    }
}
