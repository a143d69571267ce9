//! Which log takes a message, if any: the first whose filters match its topic name.
//!
//! | topic name | QoS 0 | QoS 1 | retained |
//! |---|---|---|---|
//! | taken by a stored log | that log | that log | that log |
//! | taken by a memory log | live only | live only | default log |
//! | taken by none | live only | default log; live only where the owner wants that | default log |
//! | `$…` | live only | live only | refused |
//! | `$SYS/…`, `$share/…`, `$replay/…` | refused | refused | refused |
//!
//! Not for: what "first" means to people, which is the order of the configuration file.

use mqtt::{QoS, TopicFilter, TopicName};
use storage::LogId;

use crate::record_key::KeyTemplate;

/// First levels of topic names that only the broker may publish to.
const OWNED_LEVELS: [&[u8]; 3] = [b"$SYS", b"$replay", b"$share"];

/// Where messages go.
#[derive(Clone, Debug)]
pub struct LogRouting {
    /// In the order in which they are asked.
    pub routes: Vec<LogRoute>,
    /// What takes retained messages, and by [`unmapped`](Self::unmapped) those of QoS 1, that no
    /// route takes.
    pub default_log: StoredLog,
    /// Where a message of QoS 1 goes that no route takes.
    pub unmapped: Unmapped,
}

/// Filters, and where messages go whose topic name one of them matches.
#[derive(Clone, Debug)]
pub struct LogRoute {
    /// Any of them may match.
    pub filters: Vec<TopicFilter>,
    /// What takes the messages.
    pub target: LogTarget,
}

/// What takes a message.
#[derive(Clone, Debug)]
pub enum LogTarget {
    /// Nothing is stored: subscribers of the moment get it, and its publisher is acknowledged at
    /// once.
    Memory,
    /// A log on flash.
    Stored(StoredLog),
}

/// A log on flash, and how a message gets there.
#[derive(Clone, Debug)]
pub struct StoredLog {
    /// The log.
    pub log: LogId,
    /// The key of the record, by which the store chooses the partition.
    pub key: KeyTemplate,
    /// When the publisher is acknowledged.
    pub durability: Durability,
}

/// When the publisher of a stored message is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on flash.
    Commit,
    /// When it is on its way there; a power cut may take it.
    Interval,
}

/// Where a message of QoS 1 goes that no route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// Into the default log.
    Default,
    /// To the subscribers of the moment only.
    LiveOnly,
}

/// What a topic name means for routing: the part of the answer that does not depend on the
/// message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicClass {
    /// A route with a memory log takes it.
    Memory,
    /// The broker's own: nobody publishes there.
    Owned,
    /// Begins with `$`, without being the broker's own.
    Reserved,
    /// The stored log of the route at this place takes it.
    Stored(usize),
    /// More levels than are served.
    TooManyLevels,
    /// No route takes it.
    Unmapped,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Destination<'r> {
    /// To subscribers, and nowhere else.
    Live,
    /// Into this log; to subscribers when it is there.
    Log(&'r StoredLog),
    /// Nobody may publish this.
    Refused,
}

impl LogRouting {
    /// Every log on flash that messages may go to.
    pub(crate) fn stored_logs(&self) -> impl Iterator<Item = &StoredLog> {
        let routed = self.routes.iter().filter_map(|route| match &route.target {
            LogTarget::Memory => None,
            LogTarget::Stored(stored) => Some(stored),
        });
        routed.chain([&self.default_log])
    }

    pub(crate) fn class(&self, topic: &TopicName, levels_max: usize) -> TopicClass {
        let mut levels = topic.as_bytes().split(|byte| *byte == b'/');
        let first = levels.next().unwrap_or_default();
        if levels.count() >= levels_max {
            return TopicClass::TooManyLevels;
        }
        if topic.is_reserved() {
            return match OWNED_LEVELS.contains(&first) {
                true => TopicClass::Owned,
                false => TopicClass::Reserved,
            };
        }
        let matching = |route: &LogRoute| route.filters.iter().any(|f| f.matches(topic));
        match self.routes.iter().position(matching) {
            None => TopicClass::Unmapped,
            Some(index) => match self.routes.get(index).map(|route| &route.target) {
                Some(LogTarget::Stored(_)) => TopicClass::Stored(index),
                _ => TopicClass::Memory,
            },
        }
    }

    /// Where a message goes whose topic name is of this class.
    pub(crate) fn destination(&self, class: TopicClass, qos: QoS, retain: bool) -> Destination<'_> {
        let default = Destination::Log(&self.default_log);
        match class {
            TopicClass::Owned | TopicClass::TooManyLevels => Destination::Refused,
            TopicClass::Reserved if retain => Destination::Refused,
            TopicClass::Reserved => Destination::Live,
            TopicClass::Stored(index) => match self.routes.get(index).map(|route| &route.target) {
                Some(LogTarget::Stored(stored)) => Destination::Log(stored),
                _ => Destination::Live,
            },
            TopicClass::Memory | TopicClass::Unmapped if retain => default,
            TopicClass::Memory => Destination::Live,
            TopicClass::Unmapped => match self.unmapped {
                Unmapped::Default if qos > QoS::AtMostOnce => default,
                Unmapped::Default | Unmapped::LiveOnly => Destination::Live,
            },
        }
    }

    /// Whether messages of this class and QoS are delivered without waiting for a commit when they
    /// are not retained.
    pub(crate) fn is_delivered_at_once(&self, class: TopicClass, qos: QoS) -> bool {
        qos == QoS::AtMostOnce || matches!(self.destination(class, qos, false), Destination::Live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(log: u16) -> StoredLog {
        StoredLog {
            log: LogId(log),
            key: KeyTemplate::new(Vec::new()),
            durability: Durability::Commit,
        }
    }

    fn route(filters: &[&str], target: LogTarget) -> LogRoute {
        let filters = filters.iter().map(|text| text.parse().unwrap()).collect();
        LogRoute { filters, target }
    }

    fn routing(unmapped: Unmapped) -> LogRouting {
        LogRouting {
            routes: vec![
                route(&["+/alarm", "plant/#"], LogTarget::Stored(stored(2))),
                route(&["panels/#"], LogTarget::Memory),
                route(
                    &["panels/1", "sensors/#", "#/x".trim_start_matches("#/")],
                    LogTarget::Stored(stored(3)),
                ),
            ],
            default_log: stored(1),
            unmapped,
        }
    }

    /// `log 2`, `live`, `refused`.
    fn destination(routing: &LogRouting, topic: &str, qos: QoS, retain: bool) -> String {
        let class = routing.class(&topic.parse().unwrap(), 4);
        match routing.destination(class, qos, retain) {
            Destination::Live => "live".to_owned(),
            Destination::Log(stored) => format!("log {}", stored.log),
            Destination::Refused => "refused".to_owned(),
        }
    }

    /// The destinations of QoS 0, QoS 1, and QoS 0 and 1 retained.
    fn destinations(routing: &LogRouting, topic: &str) -> [String; 4] {
        [(0, false), (1, false), (0, true), (1, true)].map(|(bits, retain)| {
            destination(routing, topic, QoS::from_bits(bits).unwrap(), retain)
        })
    }

    #[test]
    fn message_goes_to_the_first_log_that_takes_it() {
        let routing = routing(Unmapped::Default);
        assert_eq!(destinations(&routing, "press/alarm"), ["log 2"; 4]);
        assert_eq!(destinations(&routing, "plant"), ["log 2"; 4]);
        assert_eq!(destinations(&routing, "sensors/1"), ["log 3"; 4]);
        // A later log that would match, too, does not count.
        let memory = ["live", "live", "log 1", "log 1"];
        assert_eq!(destinations(&routing, "panels/1"), memory);
        assert_eq!(destinations(&routing, "panels/2"), memory);
    }

    #[test]
    fn unmapped_message_goes_where_the_owner_wants_it() {
        let topic = "elsewhere";
        assert_eq!(
            destinations(&routing(Unmapped::Default), topic),
            ["live", "log 1", "log 1", "log 1"]
        );
        assert_eq!(
            destinations(&routing(Unmapped::LiveOnly), topic),
            ["live", "live", "log 1", "log 1"]
        );
    }

    #[test]
    fn reserved_topic_is_live_only_and_the_brokers_own_are_refused() {
        let mut routing = routing(Unmapped::Default);
        routing
            .routes
            .insert(0, route(&["#"], LogTarget::Stored(stored(9))));
        assert_eq!(
            destinations(&routing, "$elsewhere/x"),
            ["live", "live", "refused", "refused"]
        );
        for topic in ["$SYS", "$SYS/x", "$share/g/x", "$replay/x"] {
            assert_eq!(destinations(&routing, topic), ["refused"; 4], "{topic}");
        }
        assert_eq!(destinations(&routing, "$SYSTEM/x")[0], "live");
    }

    #[test]
    fn topic_with_too_many_levels_is_refused() {
        let routing = routing(Unmapped::Default);
        assert_eq!(destinations(&routing, "sensors/2/3/4"), ["log 3"; 4]);
        assert_eq!(destinations(&routing, "sensors/2/3/4/5"), ["refused"; 4]);
    }
}
