//! What the readers of a scan may want of the log, all of them together: it says what need not be
//! read ([`storage::CommitReader::read_matching`]).
//!
//! Invariant: a topic name that a filter of the readers matches is wanted. What is wanted beyond that
//! costs time, and nothing else. What the store was told of the topic names is kept from scan to
//! scan, as long as nothing is to be taken out of it.

use std::collections::HashSet;

use bytes::Bytes;
use mqtt::{TopicFilter, TopicName, Utf8String};
use storage::{Commit, CommitReader, ReadError, Store, TopicMatch};

use crate::connection::ConnectionId;
use crate::session::Filters;
use crate::subscriptions::{Entry, Subscriptions};

/// With more filters than these, and more bytes of them, everything is read.
const FILTERS_MAX: usize = 4_096;
const FILTER_BYTES_MAX: usize = 262_144;

/// Filters, each once.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    filters: HashSet<TopicFilter>,
    bytes: usize,
    /// Too many: anything may be wanted.
    is_any: bool,
}

impl Wishes {
    /// Anything may be wanted.
    pub(crate) fn any() -> Self {
        Self {
            is_any: true,
            ..Self::default()
        }
    }

    /// Adds those that ask for messages of QoS 1 or 2: no others come from the log.
    pub(crate) fn add(&mut self, filters: &Filters) {
        for (filter, subscribed) in filters.iter() {
            let is_wish = subscribed.asks_for_stored();
            if self.is_any || !is_wish || self.filters.contains(filter) {
                continue;
            }
            self.bytes += filter.as_str().len();
            self.filters.insert(filter.clone());
            if self.filters.len() > FILTERS_MAX || self.bytes > FILTER_BYTES_MAX {
                *self = Self::any();
            }
        }
    }
}

/// What was found out about topic names for the wishes of the last scan.
#[derive(Debug, Default)]
pub(crate) struct KnownWishes {
    wishes: Wishes,
    tree: Subscriptions<()>,
    topics: TopicMatch,
}

impl KnownWishes {
    /// Goes over to other wishes. Asks for all names again only if some wishes are no more.
    pub(crate) fn change_to(&mut self, wishes: Wishes, store: &Store) {
        if wishes.is_any || wishes.filters == self.wishes.filters {
            self.wishes.is_any = wishes.is_any;
            return;
        }
        let is_wider = self.wishes.filters.is_subset(&wishes.filters);
        self.tree = Subscriptions::default();
        for filter in &wishes.filters {
            let entry = Entry {
                connection: ConnectionId(0),
                subscriber: (),
                options: mqtt::SubscriptionOptions::default(),
                identifier: None,
            };
            self.tree.insert(filter, entry);
        }
        self.wishes = wishes;
        if is_wider {
            store.widen_match(&mut self.topics, |name| is_wanted(&self.tree, name));
        } else {
            self.topics = TopicMatch::default();
        }
    }

    /// About `bytes_max` of commits with what is wanted, and some others.
    ///
    /// # Errors
    /// As [`CommitReader::read`].
    pub(crate) fn read(
        &mut self,
        reader: &mut CommitReader,
        bytes_max: usize,
    ) -> Result<Vec<Commit>, ReadError> {
        if self.wishes.is_any {
            return reader.read(bytes_max);
        }
        let tree = &self.tree;
        reader.read_matching(bytes_max, &mut self.topics, &mut |name| {
            is_wanted(tree, name)
        })
    }
}

fn is_wanted(tree: &Subscriptions<()>, name: &[u8]) -> bool {
    let name = Utf8String::try_from(Bytes::copy_from_slice(name)).ok();
    let Some(name) = name.and_then(|name| TopicName::new(name).ok()) else {
        // Whoever reads it tells that it is none.
        return true;
    };
    let mut is_wanted = false;
    tree.for_each_match(&name, &mut |_| is_wanted = true);
    is_wanted
}

#[cfg(test)]
mod tests {
    use mqtt::{QoS, SubscriptionOptions};
    use storage::{CommitNumber, LogOptions, Message, StoreOptions};

    use super::*;
    use crate::session::Subscribed;

    fn filters(of: &[(&str, QoS)]) -> Filters {
        let mut filters = Filters::default();
        for (filter, qos) in of {
            let options = SubscriptionOptions {
                qos: *qos,
                ..SubscriptionOptions::default()
            };
            let subscribed = Subscribed {
                options,
                identifier: None,
                from: CommitNumber(1),
                earlier: None,
            };
            filters.insert(filter.parse().unwrap(), subscribed);
        }
        filters
    }

    #[test]
    fn topics_of_all_wishes_of_the_moment_are_read_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        // Nothing in memory, so that segments are read; each topic fills more than one.
        let options = StoreOptions {
            segment_bytes: 1 << 20,
            free_space_reserve_bytes: 1 << 20,
            ring_bytes_max: 0,
            ..StoreOptions::default()
        };
        let logs = [LogOptions::new("all", 1)];
        let (store, threads) = Store::open(folder.path(), options, &logs).unwrap();
        let log = store.log("all").unwrap().id;
        let topics = ["a/1", "b/1", "c/1", "d/1", "end"];
        for topic in topics {
            for _ in 0..24 {
                let message = Message {
                    topic: topic.into(),
                    payload: vec![b'x'; 60_000].into(),
                    qos: 1,
                    ..Message::default()
                };
                let appended = store.append(log, b"", &message).unwrap();
                store.wait_durable(appended.commit).unwrap();
            }
        }
        let mut known = KnownWishes::default();
        let one = [("a/+", QoS::AtLeastOnce), ("c/1", QoS::AtMostOnce)];
        let wider = [("a/+", QoS::AtLeastOnce), ("b/#", QoS::ExactlyOnce)];
        let other = [("d/1", QoS::AtLeastOnce)];
        let cases: [(&[_], &[&str]); 5] = [
            (&one, &["a/1"]),
            (&wider, &["a/1", "b/1"]),
            (&other, &["d/1"]),
            (&wider, &["a/1", "b/1"]),
            (&[], &[]),
        ];
        for (wanted, expected) in cases {
            let mut wishes = Wishes::default();
            wishes.add(&filters(wanted));
            known.change_to(wishes, &store);
            let found = topics_read(&store, &mut known);
            let unasked = topics.iter().filter(|topic| !expected.contains(topic));
            assert!(
                expected.iter().all(|topic| found.contains(*topic)),
                "{found:?}"
            );
            // Neighbours in a segment or a run may come along; what is far away does not.
            assert!(
                unasked.clone().any(|topic| !found.contains(*topic)),
                "{found:?}"
            );
        }
        known.change_to(Wishes::any(), &store);
        assert_eq!(topics_read(&store, &mut known).len(), topics.len());
        threads.close();
    }

    fn topics_read(store: &Store, known: &mut KnownWishes) -> HashSet<String> {
        let mut reader = store.commit_reader(CommitNumber(1));
        let mut found = HashSet::new();
        while !reader.is_at_end() {
            for commit in known.read(&mut reader, 100_000).unwrap() {
                for place in commit.batches() {
                    let batch = commit.batch(place.partition).unwrap().unwrap();
                    for record in batch.records() {
                        let message = Message::from_record(&record.unwrap()).unwrap();
                        found.insert(String::from_utf8(message.topic.to_vec()).unwrap());
                    }
                }
            }
        }
        found
    }
}
