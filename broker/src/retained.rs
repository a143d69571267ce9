//! Retained messages: the newest one of each topic name, in memory. The log has them, too, and
//! gives them back when the broker starts.
//!
//! A retained message takes effect when its record is durable, in the order of the log. Its place
//! is paid for earlier, when it is published, because what was acknowledged must be kept:
//!
//! ```text
//! a topic name costs: the larger of what is retained and what is on its way to replace it
//! ```
//!
//! Invariants: what is retained under a topic name is never larger than its cost, and all costs
//! together fit the budget, unless more was found when the broker started. A message that clears
//! costs nothing, so that clearing is always possible.
//!
//! A message that does not fit is refused before anything was done with it: it is not logged, not
//! delivered, not acknowledged. To deliver it and not to retain it would be half of what its
//! publisher was promised.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mqtt::TopicFilter;

use crate::causes::Limit;
use crate::publication::Publication;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct RetainedMessages {
    topics: BTreeMap<Bytes, Topic>,
    bytes_max: usize,
    count_max: usize,
    /// Costs of all topic names.
    bytes: usize,
    /// Topic names that cost something.
    count: usize,
    /// No retained message expires before.
    next_expiry: Option<Instant>,
}

#[derive(Debug, Default)]
struct Topic {
    retained: Option<Publication>,
    /// Messages on their way here.
    pending: usize,
    cost: usize,
}

/// What a look for the next message of a filter found.
#[derive(Debug)]
pub(crate) enum Found {
    /// The next one.
    Message(Publication),
    /// Enough was looked at for now; go on after this topic name.
    Paused(Bytes),
    /// There is none.
    Nothing,
}

impl RetainedMessages {
    pub(crate) fn new(bytes_max: usize, count_max: usize) -> Self {
        Self {
            topics: BTreeMap::new(),
            bytes_max,
            count_max,
            bytes: 0,
            count: 0,
            next_expiry: None,
        }
    }

    /// Number of retained messages, with those on their way.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Their bytes: topic names, payloads and properties.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a message that costs so many bytes may be retained; 0 for one that clears.
    pub(crate) fn fits(&mut self, now: Instant, topic: &[u8], cost: usize) -> bool {
        cost == 0
            || self.fits_beside_the_others(topic, cost)
            || (self.drop_expired(now) && self.fits_beside_the_others(topic, cost))
    }

    /// Which limit a message does not fit.
    pub(crate) fn limit_for(&self, cost: usize) -> Limit {
        match self.bytes.saturating_add(cost) <= self.bytes_max {
            true => Limit::RetainedCountMax,
            false => Limit::RetainedBytesMax,
        }
    }

    fn fits_beside_the_others(&self, topic: &[u8], cost: usize) -> bool {
        let paid = self.topics.get(topic).map_or(0, |topic| topic.cost);
        let bytes = self.bytes.saturating_add(cost.saturating_sub(paid));
        let count = self.count + usize::from(paid == 0);
        bytes <= self.bytes_max && count <= self.count_max
    }

    /// A message that fits is on its way; [`settle`](Self::settle) follows.
    pub(crate) fn expect(&mut self, topic: &Bytes, cost: usize) {
        let entry = self.topics.entry(topic.clone()).or_default();
        entry.pending += 1;
        let cost = entry.cost.max(cost);
        charge(&mut self.bytes, &mut self.count, &mut entry.cost, cost);
    }

    /// An expected message takes effect: it replaces what is retained, or clears it.
    pub(crate) fn settle(&mut self, publication: Publication) {
        if let Some(entry) = self.topics.get_mut(publication.message.topic.as_bytes()) {
            entry.pending = entry.pending.saturating_sub(1);
        }
        self.put(publication);
    }

    /// Takes a message that was retained before the broker was started.
    pub(crate) fn restore(&mut self, publication: Publication) {
        let topic = Bytes::copy_from_slice(publication.message.topic.as_bytes());
        self.topics.entry(topic).or_default();
        self.put(publication);
    }

    /// Takes a message of the broker's own, which costs nothing: there are few of them.
    pub(crate) fn put_own(&mut self, publication: Publication) {
        let topic = Bytes::copy_from_slice(publication.message.topic.as_bytes());
        self.topics.entry(topic).or_default().retained = Some(publication);
    }

    /// Removes the broker's own messages, whose topic names begin like this and no others do.
    pub(crate) fn remove_own(&mut self, prefix: &[u8]) {
        let behind = (Bound::Included(prefix), Bound::Unbounded);
        let own = self.topics.range::<[u8], _>(behind);
        let own = own.take_while(|(name, _)| name.starts_with(prefix));
        let own: Vec<Bytes> = own.map(|(name, _)| name.clone()).collect();
        for name in &own {
            self.topics.remove(name);
        }
    }

    /// Replaces what is retained under a topic name that is known.
    fn put(&mut self, publication: Publication) {
        let message = Arc::clone(&publication.message);
        let topic = message.topic.as_bytes();
        let Some(entry) = self.topics.get_mut(topic) else {
            return;
        };
        let expires_at = publication.expires_at;
        entry.retained = (!publication.clears()).then_some(publication);
        if entry.retained.is_some() {
            self.next_expiry = self.next_expiry.into_iter().chain(expires_at).min();
        }
        self.reckon(topic);
    }

    /// Brings the cost of a topic name into line with what is retained there, once nothing is on
    /// its way any more.
    fn reckon(&mut self, topic: &[u8]) {
        let Some(entry) = self.topics.get_mut(topic) else {
            return;
        };
        let retained = entry.retained.as_ref().map_or(0, Publication::size_bytes);
        let cost = match entry.pending {
            0 => retained,
            _ => entry.cost.max(retained),
        };
        charge(&mut self.bytes, &mut self.count, &mut entry.cost, cost);
        if entry.pending == 0 && entry.retained.is_none() {
            self.topics.remove(topic);
        }
    }

    /// Drops what has expired; whether there was any. Everything is looked at, but not again
    /// before the next one can have expired.
    fn drop_expired(&mut self, now: Instant) -> bool {
        if self.next_expiry.is_none_or(|next| next > now) {
            return false;
        }
        let retained = |topic: &Topic| topic.retained.as_ref().and_then(|r| r.expires_at);
        let expired: Vec<Bytes> = self
            .topics
            .iter()
            .filter(|(_, topic)| retained(topic).is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &expired {
            if let Some(topic) = self.topics.get_mut(name) {
                topic.retained = None;
            }
            self.reckon(name);
        }
        self.next_expiry = self.topics.values().filter_map(retained).min();
        !expired.is_empty()
    }

    /// The first message at or behind the topic name `from` that the filter asks for. Looks at `looks` topic names at
    /// most, but at one in any case, and takes off those that it looked at.
    pub(crate) fn next(
        &self,
        now: Instant,
        filter: &TopicFilter,
        from: &[u8],
        looks: &mut usize,
    ) -> Found {
        let prefix = literal_prefix(filter);
        let from = Bound::Included(from.max(prefix));
        for (name, topic) in self.topics.range::<[u8], _>((from, Bound::Unbounded)) {
            if !name.starts_with(prefix) || (!filter.has_wildcard() && name.len() > prefix.len()) {
                break;
            }
            *looks = looks.saturating_sub(1);
            if let Some(retained) = &topic.retained
                && filter.matches(&retained.message.topic)
                && retained.remaining_seconds(now).is_ok()
            {
                return Found::Message(retained.clone());
            }
            if *looks == 0 {
                return Found::Paused(name.clone());
            }
        }
        Found::Nothing
    }
}

/// What every topic name begins with that the filter matches.
fn literal_prefix(filter: &TopicFilter) -> &[u8] {
    let filter = filter.filter().as_bytes();
    match filter.iter().position(|byte| matches!(byte, b'+' | b'#')) {
        // `a/#` matches `a`, too (4.7.1.2).
        Some(wildcard) => {
            let before = filter.get(..wildcard).unwrap_or_default();
            before.strip_suffix(b"/").unwrap_or(before)
        }
        None => filter,
    }
}

/// Changes the cost of one topic name, and the sums with it.
fn charge(bytes: &mut usize, count: &mut usize, cost: &mut usize, new: usize) {
    *bytes = *bytes - *cost + new;
    *count = *count - usize::from(*cost > 0) + usize::from(new > 0);
    *cost = new;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mqtt::{Message, MessageProperties, QoS};
    use proptest::prelude::*;

    use super::*;

    fn publication(topic: &str, payload: &str, interval: Option<u32>) -> Publication {
        let message = Message {
            topic: topic.parse().unwrap(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: MessageProperties {
                message_expiry_interval: interval,
                ..MessageProperties::default()
            },
        };
        Publication::new(start(), &message, &message.topic, Bytes::new())
    }

    fn start() -> Instant {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now)
    }

    fn cost(publication: &Publication) -> usize {
        if publication.clears() {
            0
        } else {
            publication.size_bytes()
        }
    }

    /// Expects and settles, as far as it fits.
    fn retain(retained: &mut RetainedMessages, topic: &str, payload: &str) -> bool {
        let publication = publication(topic, payload, None);
        let name = Bytes::copy_from_slice(topic.as_bytes());
        let fits = retained.fits(start(), &name, cost(&publication));
        if fits {
            retained.expect(&name, cost(&publication));
            retained.settle(publication);
        }
        fits
    }

    /// Topic names of what a filter finds, with so many looks at a time.
    fn found(retained: &RetainedMessages, filter: &str, at_a_time: usize) -> Vec<String> {
        let filter: TopicFilter = filter.parse().unwrap();
        let (mut names, mut from) = (Vec::new(), Vec::new());
        let behind = |name: &[u8]| [name, &[0]].concat();
        loop {
            let mut looks = at_a_time;
            match retained.next(start(), &filter, &from, &mut looks) {
                Found::Nothing => return names,
                Found::Paused(at) => from = behind(&at),
                Found::Message(publication) => {
                    let name = publication.message.topic.as_str().to_owned();
                    from = behind(name.as_bytes());
                    names.push(name);
                }
            }
        }
    }

    #[test]
    fn every_message_of_a_filter_is_found_however_few_are_looked_at_in_one_go() {
        let mut retained = RetainedMessages::new(10_000, 100);
        for topic in ["a", "a/b", "a/b/c", "a/c", "a-", "a/", "ab", "b", "$x/a"] {
            assert!(retain(&mut retained, topic, "x"));
        }
        for at_a_time in [1, 2, 100] {
            let found = |filter| found(&retained, filter, at_a_time);
            assert_eq!(found("a/#"), ["a", "a/", "a/b", "a/b/c", "a/c"]);
            assert_eq!(found("a/+"), ["a/", "a/b", "a/c"]);
            assert_eq!(found("a"), ["a"]);
            assert_eq!(found("+"), ["a", "a-", "ab", "b"]);
            assert_eq!(found("+/b/#"), ["a/b", "a/b/c"]);
            assert_eq!(found("$x/#"), ["$x/a"]);
            assert_eq!(found("c"), [""; 0]);
        }
    }

    #[test]
    fn message_is_refused_when_the_budget_is_spent_and_taken_when_one_was_cleared() {
        let mut retained = RetainedMessages::new(30, 2);
        assert!(retain(&mut retained, "a", "123456789"));
        assert!(retain(&mut retained, "b", "1"));
        assert!(!retain(&mut retained, "c", "1"), "two is the most");
        assert!(
            retain(&mut retained, "b", "1234567890123456789"),
            "30 bytes"
        );
        assert!(
            !retain(&mut retained, "b", "12345678901234567890"),
            "31 bytes"
        );
        assert!(
            retain(&mut retained, "a", ""),
            "clearing is always possible"
        );
        assert!(retain(&mut retained, "c", "1"));
        assert_eq!((retained.count(), retained.bytes()), (2, 22));
        assert_eq!(found(&retained, "#", 9), ["b", "c"]);
    }

    #[test]
    fn message_on_its_way_is_paid_for() {
        let mut retained = RetainedMessages::new(100, 1);
        let name = Bytes::from_static(b"a");
        retained.expect(&name, 10);
        assert!(!retained.fits(start(), b"b", 1), "the place is taken");
        assert!(retained.fits(start(), b"a", 100));
        retained.settle(publication("a", "123456789", None));
        assert_eq!((retained.count(), retained.bytes()), (1, 10));
    }

    #[test]
    fn own_messages_cost_nothing_and_go_together() {
        let mut retained = RetainedMessages::new(10, 1);
        for topic in ["$SYS/a", "$SYS/b", "$SYS/a"] {
            retained.put_own(publication(topic, "1234567890", None));
        }
        assert_eq!((retained.count(), retained.bytes()), (0, 0));
        assert!(retain(&mut retained, "$SYSTEM", "x"));
        assert_eq!(found(&retained, "$SYS/#", 9), ["$SYS/a", "$SYS/b"]);
        assert_eq!(found(&retained, "#", 9), [""; 0]);
        retained.remove_own(b"$SYS/");
        assert_eq!(found(&retained, "$SYS/#", 9), [""; 0]);
        assert_eq!(found(&retained, "$SYSTEM", 9), ["$SYSTEM"]);
        assert_eq!((retained.count(), retained.bytes()), (1, 8));
    }

    #[test]
    fn expired_message_makes_room_and_is_not_found() {
        let mut retained = RetainedMessages::new(100, 1);
        retained.expect(&Bytes::from_static(b"a"), 2);
        retained.settle(publication("a", "x", Some(5)));
        let after = |seconds| start() + Duration::from_secs(seconds);
        assert!(!retained.fits(after(4), b"b", 2));
        let filter = "a".parse().unwrap();
        let found = retained.next(after(5), &filter, b"", &mut 9);
        assert!(matches!(found, Found::Nothing));
        assert!(retained.fits(after(5), b"b", 2));
        assert_eq!(retained.count(), 0);
    }

    proptest! {
        /// Any interleaving of messages on their way and taking effect, in order per topic name.
        #[test]
        fn budget_holds_and_every_cost_comes_back(
            steps in proptest::collection::vec((0..4_usize, 0..20_usize, any::<bool>()), 1..80),
        ) {
            let (bytes_max, count_max) = (45, 3);
            let mut retained = RetainedMessages::new(bytes_max, count_max);
            let mut on_their_way: Vec<Publication> = Vec::new();
            for (topic, size, settles) in steps {
                if settles && !on_their_way.is_empty() {
                    retained.settle(on_their_way.remove(0));
                    continue;
                }
                let new = publication(&format!("t{topic}"), &"x".repeat(size), None);
                let name = Bytes::copy_from_slice(new.message.topic.as_bytes());
                if retained.fits(start(), &name, cost(&new)) {
                    retained.expect(&name, cost(&new));
                    on_their_way.push(new);
                }
                prop_assert!(retained.bytes() <= bytes_max && retained.count() <= count_max);
            }
            for publication in on_their_way {
                retained.settle(publication);
            }
            let kept: Vec<_> = retained.topics.values().collect();
            prop_assert!(kept.iter().all(|topic| topic.retained.is_some() && topic.pending == 0));
            let bytes: usize = kept.iter().map(|t| cost(t.retained.as_ref().unwrap())).sum();
            prop_assert_eq!((retained.bytes(), retained.count()), (bytes, kept.len()));
            prop_assert!(bytes <= bytes_max);
        }
    }
}
