//! All subscriptions, as a tree of the levels of their filters (4.7).
//!
//! ```text
//! root ── "plant" ── "7" ── here: plant/7
//!   │        │        └──── below: plant/7/#
//!   │        └── '+' ───── "alarm" ── here: plant/+/alarm
//!   └── below: #
//! ```
//!
//! Invariants: no node is empty; the entries of a node are sorted by connection, one for each. The
//! tree is as deep as the longest filter has levels, which is limited.
//!
//! Of shared subscriptions it has one entry for each group ([`groups`](crate::groups)).

use std::collections::HashMap;

use mqtt::{SubscriptionIdentifier, SubscriptionOptions, TopicFilter, TopicName};

use crate::connection::ConnectionId;

/// See the module's documentation. `S` is the subscriber.
#[derive(Debug)]
pub(crate) struct Subscriptions<S> {
    root: Node<S>,
    count: usize,
}

/// A subscription.
#[derive(Clone, Debug)]
pub(crate) struct Entry<S> {
    pub(crate) connection: ConnectionId,
    pub(crate) subscriber: S,
    /// With the granted QoS.
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<SubscriptionIdentifier>,
}

#[derive(Debug)]
struct Node<S> {
    children: HashMap<Box<[u8]>, Self>,
    /// The child for `+`.
    any: Option<Box<Self>>,
    /// Filters that end here.
    here: Vec<Entry<S>>,
    /// Filters that end with a `#` below here.
    below: Vec<Entry<S>>,
}

impl<S> Default for Subscriptions<S> {
    fn default() -> Self {
        Self {
            root: Node::default(),
            count: 0,
        }
    }
}

impl<S> Subscriptions<S> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Makes a subscription, or replaces the one of this connection with the same filter. `true`
    /// when it is new.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, entry: Entry<S>) -> bool {
        let entries = self.root.entries_of(filter.filter().as_bytes());
        let is_new = match position(entries, entry.connection) {
            Ok(index) => {
                if let Some(place) = entries.get_mut(index) {
                    *place = entry;
                }
                false
            }
            Err(index) => {
                entries.insert(index, entry);
                true
            }
        };
        self.count += usize::from(is_new);
        is_new
    }

    /// Ends a subscription. `false` when there is none.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, connection: ConnectionId) -> bool {
        let removed = self
            .root
            .remove(Some(filter.filter().as_bytes()), connection);
        self.count -= usize::from(removed);
        removed
    }

    /// Calls `found` for each subscription that asks for this topic name.
    pub(crate) fn for_each_match<'s>(
        &'s self,
        topic: &TopicName,
        found: &mut impl FnMut(&'s Entry<S>),
    ) {
        // A wildcard at the first level does not match what begins with `$` (4.7.2).
        let wildcards = !topic.is_reserved();
        self.root
            .for_each_match(Some(topic.as_bytes()), wildcards, found);
    }
}

fn position<S>(entries: &[Entry<S>], connection: ConnectionId) -> Result<usize, usize> {
    entries.binary_search_by_key(&connection, |entry| entry.connection)
}

/// The first level, and what follows its slash.
fn split_level(levels: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = levels.splitn(2, |byte| *byte == b'/');
    (parts.next().unwrap_or_default(), parts.next())
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self {
            children: HashMap::new(),
            any: None,
            here: Vec::new(),
            below: Vec::new(),
        }
    }
}

impl<S> Node<S> {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }

    /// The entries of this filter; nodes that are missing are made.
    fn entries_of(&mut self, filter: &[u8]) -> &mut Vec<Entry<S>> {
        let mut node = self;
        let mut rest = Some(filter);
        while let Some(levels) = rest {
            let (level, after) = split_level(levels);
            rest = after;
            node = match level {
                b"#" => return &mut node.below,
                b"+" => node.any.get_or_insert_default(),
                _ => node.children.entry(level.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Removes the entry of a filter whose rest from here on is given, and nodes that are left
    /// empty.
    fn remove(&mut self, rest: Option<&[u8]>, connection: ConnectionId) -> bool {
        let Some(levels) = rest else {
            return remove_entry(&mut self.here, connection);
        };
        let (level, after) = split_level(levels);
        match level {
            b"#" => remove_entry(&mut self.below, connection),
            b"+" => {
                let Some(node) = &mut self.any else {
                    return false;
                };
                let removed = node.remove(after, connection);
                self.any.take_if(|node| node.is_empty());
                removed
            }
            _ => {
                let Some(node) = self.children.get_mut(level) else {
                    return false;
                };
                let removed = node.remove(after, connection);
                if node.is_empty() {
                    self.children.remove(level);
                }
                removed
            }
        }
    }

    fn for_each_match<'s>(
        &'s self,
        rest: Option<&[u8]>,
        wildcards: bool,
        found: &mut impl FnMut(&'s Entry<S>),
    ) {
        if wildcards {
            // Also where no level is left: `a/#` matches `a` (4.7.1.2).
            self.below.iter().for_each(&mut *found);
        }
        let Some(levels) = rest else {
            self.here.iter().for_each(found);
            return;
        };
        let (level, after) = split_level(levels);
        if let Some(node) = self.children.get(level) {
            node.for_each_match(after, true, found);
        }
        if let Some(node) = self.any.as_ref().filter(|_| wildcards) {
            node.for_each_match(after, true, found);
        }
    }
}

fn remove_entry<S>(entries: &mut Vec<Entry<S>>, connection: ConnectionId) -> bool {
    let found = position(entries, connection);
    found.is_ok_and(|index| {
        entries.remove(index);
        true
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn entry(connection: u64) -> Entry<()> {
        Entry {
            connection: ConnectionId(connection),
            subscriber: (),
            options: SubscriptionOptions::default(),
            identifier: None,
        }
    }

    fn subscribers(subscriptions: &Subscriptions<()>, topic: &str) -> Vec<u64> {
        let mut found = Vec::new();
        subscriptions.for_each_match(&topic.parse().unwrap(), &mut |entry| {
            found.push(entry.connection.0);
        });
        found.sort_unstable();
        found
    }

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    #[test]
    fn subscriptions_are_found_by_every_kind_of_filter() {
        let mut subscriptions = Subscriptions::default();
        for (number, text) in ["#", "a/b", "a/+", "+/b", "a/b/#", "a/#", "/", "+/+/c", "b"]
            .iter()
            .enumerate()
        {
            assert!(subscriptions.insert(&filter(text), entry(number as u64)));
        }
        assert_eq!(subscribers(&subscriptions, "a/b"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(subscribers(&subscriptions, "a"), [0, 5]);
        assert_eq!(subscribers(&subscriptions, "a/b/c"), [0, 4, 5, 7]);
        assert_eq!(subscribers(&subscriptions, "/"), [0, 6]);
        assert_eq!(subscribers(&subscriptions, "x"), [0]);
    }

    #[test]
    fn wildcard_at_the_first_level_does_not_match_reserved_topics() {
        let mut subscriptions = Subscriptions::default();
        for (number, text) in ["#", "+/x", "$sys/x", "$sys/#", "$sys/+"]
            .iter()
            .enumerate()
        {
            subscriptions.insert(&filter(text), entry(number as u64));
        }
        assert_eq!(subscribers(&subscriptions, "$sys/x"), [2, 3, 4]);
    }

    #[test]
    fn second_subscription_with_the_same_filter_replaces_the_first() {
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.insert(&filter("a"), entry(1)));
        let identifier = SubscriptionIdentifier::new(7);
        let again = Entry {
            identifier,
            ..entry(1)
        };
        assert!(!subscriptions.insert(&filter("a"), again));
        assert_eq!(subscriptions.len(), 1);
        let mut found = Vec::new();
        subscriptions.for_each_match(&"a".parse().unwrap(), &mut |e| found.push(e.identifier));
        assert_eq!(found, [identifier]);
    }

    fn levels() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just(""), Just("a"), Just("b"), Just("$x"), Just("+")];
        (
            proptest::collection::vec(level, 1..4),
            proptest::bool::weighted(0.3),
        )
            .prop_map(|(levels, multi)| levels.join("/") + if multi { "/#" } else { "" })
    }

    proptest! {
        /// Compared with every filter asked one by one, through any insertions and removals.
        #[test]
        fn tree_agrees_with_the_filters_themselves(
            steps in proptest::collection::vec((levels(), 0..4_u64, any::<bool>()), 1..60),
            topics in proptest::collection::vec("(a|b|\\$x)?(/(a|b|\\$x)?){0,3}", 1..8),
        ) {
            let mut subscriptions = Subscriptions::default();
            let mut model: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
            for (text, connection, is_insert) in steps {
                let Ok(filter) = text.parse::<TopicFilter>() else { continue };
                let of_filter = model.entry(text).or_default();
                if is_insert {
                    let is_new = subscriptions.insert(&filter, entry(connection));
                    prop_assert_eq!(is_new, of_filter.insert(connection));
                } else {
                    let removed = subscriptions.remove(&filter, ConnectionId(connection));
                    prop_assert_eq!(removed, of_filter.remove(&connection));
                }
            }
            prop_assert_eq!(subscriptions.len(), model.values().map(BTreeSet::len).sum::<usize>());
            for topic in topics.iter().filter(|topic| !topic.is_empty()) {
                let name: TopicName = topic.parse().unwrap();
                let matching = model.iter().filter(|(text, _)| {
                    text.parse::<TopicFilter>().unwrap().matches(&name)
                });
                let mut expected: Vec<u64> = matching.flat_map(|(_, s)| s.iter().copied()).collect();
                expected.sort_unstable();
                prop_assert_eq!(subscribers(&subscriptions, topic), expected);
            }
            for (text, connections) in &model {
                for connection in connections {
                    subscriptions.remove(&text.parse().unwrap(), ConnectionId(*connection));
                }
            }
            prop_assert!(subscriptions.root.is_empty(), "nodes are left over");
        }
    }
}
