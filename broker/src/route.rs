//! The way of messages with one topic name: which log takes them and which subscribers get them.
//! Found once and kept, because most messages come again and again under the same names.
//!
//! Invariant: what is kept agrees with the subscriptions and the permissions of now; a change of
//! either throws everything away.

use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use mqtt::{QoS, SubscriptionIdentifier, SubscriptionOptions, TopicName};

use crate::log_routing::TopicClass;
use crate::session::Session;
use crate::subscriptions::{Entry, Subscriptions};

/// Bounds of what is kept: topic names, their bytes, and recipients of all of them together.
const ROUTES_MAX: usize = 4_096;
const TOPIC_BYTES_MAX: usize = 262_144;
const RECIPIENTS_MAX: usize = 65_536;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Route {
    /// Shares nothing with a read buffer.
    pub(crate) topic: TopicName,
    /// The same, as records want it.
    pub(crate) topic_bytes: Bytes,
    pub(crate) class: TopicClass,
    pub(crate) recipients: Vec<Recipient>,
}

/// A subscriber, with all its subscriptions that match put together: it gets one copy.
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) session: Rc<Session>,
    grant: Grant,
    own: OwnMessages,
}

/// What the subscriptions of a recipient that match grant together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The highest QoS that one of the subscriptions grants (MQTT 5, 3.3.4).
    pub(crate) qos: QoS,
    /// Whether one of them wants the RETAIN flag as it was published.
    pub(crate) retain_as_published: bool,
    /// The identifiers of those that have one, equal ones as often as they occur.
    pub(crate) identifiers: Vec<SubscriptionIdentifier>,
}

/// What a recipient gets of its own messages (MQTT 5, 3.8.3.1, No Local).
#[derive(Debug)]
enum OwnMessages {
    /// The same as of others'.
    AsOthers,
    /// As the subscriptions without No Local want it.
    Some(Box<Grant>),
    /// Nothing.
    None,
}

/// Routes that were found.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    routes: HashMap<Bytes, Rc<Route>>,
    topic_bytes: usize,
    recipients: usize,
    /// Of the permissions under which they were found.
    generation: u64,
}

impl Route {
    pub(crate) fn new(topic: &TopicName, class: TopicClass, recipients: Vec<Recipient>) -> Self {
        let topic = topic.detach();
        Self {
            topic_bytes: Bytes::copy_from_slice(topic.as_bytes()),
            topic,
            class,
            recipients,
        }
    }
}

impl Recipient {
    /// How this recipient gets a message of the client `publisher`, `None` for not at all.
    pub(crate) fn grant_for(&self, publisher: &Bytes) -> Option<&Grant> {
        match &self.own {
            OwnMessages::AsOthers => Some(&self.grant),
            _ if self.session.client_id() != publisher => Some(&self.grant),
            OwnMessages::Some(grant) => Some(grant),
            OwnMessages::None => None,
        }
    }

    /// The recipient with these subscriptions, of which there is at least one.
    fn new(session: Rc<Session>, entries: &[&Entry<Rc<Session>>]) -> Self {
        let others: Vec<_> = entries
            .iter()
            .copied()
            .filter(|entry| !entry.options.no_local)
            .collect();
        let own = if others.is_empty() {
            OwnMessages::None
        } else if others.len() == entries.len() {
            OwnMessages::AsOthers
        } else {
            OwnMessages::Some(Box::new(Grant::new(&others)))
        };
        Self {
            session,
            grant: Grant::new(entries),
            own,
        }
    }
}

impl Grant {
    fn new<S>(entries: &[&Entry<S>]) -> Self {
        Self::of(
            entries
                .iter()
                .map(|entry| (entry.options, entry.identifier)),
        )
        .unwrap_or_default()
    }

    /// What these subscriptions grant together; `None` if there is none.
    pub(crate) fn of(
        subscriptions: impl Iterator<Item = (SubscriptionOptions, Option<SubscriptionIdentifier>)>,
    ) -> Option<Self> {
        let mut grant: Option<Self> = None;
        for (options, identifier) in subscriptions {
            let grant = grant.get_or_insert_default();
            grant.qos = grant.qos.max(options.qos);
            grant.retain_as_published |= options.retain_as_published;
            grant.identifiers.extend(identifier);
        }
        if let Some(grant) = &mut grant {
            grant.identifiers.sort_unstable();
        }
        grant
    }
}

/// Who gets messages with this topic name, of those that may.
pub(crate) fn recipients(
    subscriptions: &Subscriptions<Rc<Session>>,
    topic: &TopicName,
    mut may_receive: impl FnMut(&Session) -> bool,
) -> Vec<Recipient> {
    let mut entries = Vec::new();
    subscriptions.for_each_match(topic, &mut |entry| entries.push(entry));
    entries.sort_by_key(|entry| entry.connection);
    entries
        .chunk_by(|a, b| a.connection == b.connection)
        .filter_map(|of_one| {
            let session = &of_one.first()?.subscriber;
            may_receive(session).then(|| Recipient::new(Rc::clone(session), of_one))
        })
        .collect()
}

impl RouteCache {
    /// The route that was found under permissions of this generation.
    pub(crate) fn get(&mut self, topic: &TopicName, generation: u64) -> Option<Rc<Route>> {
        self.get_bytes(topic.as_bytes(), generation)
    }

    /// As [`Self::get`], for a topic name that was not checked yet.
    pub(crate) fn get_bytes(&mut self, topic: &[u8], generation: u64) -> Option<Rc<Route>> {
        if self.generation != generation {
            self.clear();
            self.generation = generation;
        }
        self.routes.get(topic).map(Rc::clone)
    }

    /// Keeps a route, and forgets all others when they become too many.
    pub(crate) fn insert(&mut self, route: &Rc<Route>) {
        let (bytes, recipients) = (route.topic_bytes.len(), route.recipients.len());
        let is_full = self.routes.len() >= ROUTES_MAX
            || self.topic_bytes + bytes > TOPIC_BYTES_MAX
            || self.recipients + recipients > RECIPIENTS_MAX;
        if is_full {
            self.clear();
        }
        self.topic_bytes += bytes;
        self.recipients += recipients;
        self.routes
            .insert(route.topic_bytes.clone(), Rc::clone(route));
    }

    /// Forgets all routes: subscriptions changed.
    pub(crate) fn clear(&mut self) {
        self.routes.clear();
        self.topic_bytes = 0;
        self.recipients = 0;
    }
}
