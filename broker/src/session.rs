//! Sessions: what the broker knows of a client, and who is connected under which client identifier.
//!
//! A [`Session`] is one connection's; the [`SessionState`] behind it may outlive it, if the client
//! asked for that (MQTT 5: Session Expiry Interval above 0; 3.1.1: clean session 0).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt::{
    ProtocolVersion, QoS, SubscriptionIdentifier, SubscriptionOptions, TopicFilter, TopicName,
};
use storage::CommitNumber;

use crate::ahead::Ahead;
use crate::authorizer::{Client, Identity};
use crate::budget::Budget;
use crate::connection::{Connection, ConnectionId};
use crate::gathering::Gathering;
use crate::group::GroupId;
use crate::options::Limits;
use crate::outbound::Outbound;
use crate::rare::{Emptiable, Rare};
use crate::received::Received;
use crate::retained_delivery::RetainedCursors;
use crate::route::Grant;
use crate::will::LastWill;

/// A session while its client is connected.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Rc<Connection>,
    pub(crate) version: ProtocolVersion,
    identity: Identity,
    pub(crate) state: Rc<SessionState>,
    /// Its publishes that are delivered with their commit although others like them are delivered
    /// at once.
    pub(crate) ahead: RefCell<Ahead>,
    /// What is to be written down of deliveries of QoS 2.
    pub(crate) gathering: RefCell<Gathering>,
    /// Publishes of it that wait to be acknowledged with a commit.
    pub(crate) tickets: Cell<usize>,
    /// What is published if its client does not say good-bye.
    pub(crate) will: RefCell<Option<Box<LastWill>>>,
    pub(crate) has_ended: Cell<bool>,
}

/// What outlives the connection.
#[derive(Debug)]
pub(crate) struct SessionState {
    client_id: Bytes,
    pub(crate) lifetime: Cell<Lifetime>,
    pub(crate) filters: RefCell<Filters>,
    /// Its shared subscriptions: it gets messages of them from their groups.
    pub(crate) shared: RefCell<Rare<Filters>>,
    /// The group that it stands for.
    pub(crate) group: Cell<Option<GroupId>>,
    pub(crate) outbound: RefCell<Outbound>,
    /// Retained messages of its subscriptions that are on their way.
    pub(crate) retained: RefCell<RetainedCursors>,
    /// Messages of QoS 2 from its client that were not released yet.
    pub(crate) received: RefCell<Received>,
    /// There is something on flash of its deliveries of QoS 2.
    pub(crate) has_bindings: Cell<bool>,
    /// With which commit that is durable.
    pub(crate) bindings_commit: Cell<CommitNumber>,
    /// Some of these are over since that was written.
    pub(crate) bindings_changed: Cell<bool>,
    /// The connection that it has now, or had last.
    pub(crate) newest_connection: Cell<Option<ConnectionId>>,
    /// The connection that it has now.
    pub(crate) attached: RefCell<Option<Rc<Session>>>,
    /// When it ends if nobody comes back.
    pub(crate) expires_at: Cell<Option<Instant>>,
    /// There is a record of it on flash.
    pub(crate) is_written: Cell<bool>,
    /// Nothing is to be left of it.
    pub(crate) has_ended: Cell<bool>,
    /// It has no connection, and goes on without.
    pub(crate) is_offline: Cell<bool>,
    /// Its last connection ended because the broker did.
    pub(crate) was_closed: Cell<bool>,
    /// It stands in the list of those that are read for.
    pub(crate) is_read_for: Cell<bool>,
    /// It stands in the list of those that have replays.
    pub(crate) is_replaying: Cell<bool>,
}

/// How long a session lives without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It ends with its connection.
    Connection,
    /// So long.
    For(Duration),
    /// For ever.
    Unlimited,
}

impl Session {
    pub(crate) fn new(
        connection: Rc<Connection>,
        version: ProtocolVersion,
        identity: Identity,
        state: Rc<SessionState>,
    ) -> Self {
        Self {
            connection,
            version,
            identity,
            state,
            ahead: RefCell::default(),
            gathering: RefCell::default(),
            tickets: Cell::new(0),
            will: RefCell::default(),
            has_ended: Cell::new(false),
        }
    }

    pub(crate) fn client_id(&self) -> &Bytes {
        &self.state.client_id
    }

    /// How an authorizer knows it.
    pub(crate) fn client(&self) -> Client<'_> {
        Client {
            identity: &self.identity,
            client_id: self.state.client_id(),
        }
    }
}

impl SessionState {
    pub(crate) fn new(
        client_id: &str,
        lifetime: Lifetime,
        outbound: Outbound,
        unreleased: &Budget,
    ) -> Self {
        Self {
            client_id: Bytes::copy_from_slice(client_id.as_bytes()),
            lifetime: Cell::new(lifetime),
            filters: RefCell::default(),
            shared: RefCell::default(),
            group: Cell::new(None),
            outbound: RefCell::new(outbound),
            retained: RefCell::default(),
            received: RefCell::new(Received::new(client_id, unreleased)),
            has_bindings: Cell::new(false),
            bindings_commit: Cell::default(),
            bindings_changed: Cell::new(false),
            newest_connection: Cell::new(None),
            attached: RefCell::default(),
            expires_at: Cell::new(None),
            is_written: Cell::new(false),
            has_ended: Cell::new(false),
            is_offline: Cell::new(false),
            was_closed: Cell::new(false),
            is_read_for: Cell::new(false),
            is_replaying: Cell::new(false),
        }
    }

    pub(crate) fn client_id(&self) -> &str {
        // It was made of a text.
        std::str::from_utf8(&self.client_id).unwrap_or_default()
    }

    /// Whether it outlives its connection.
    pub(crate) fn is_persistent(&self) -> bool {
        self.lifetime.get() != Lifetime::Connection
    }

    /// Whether its time has come.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.expires_at.get().is_some_and(|at| at <= now)
    }

    /// Whether anything of it is to be written down.
    pub(crate) fn outlives_its_connection(&self) -> bool {
        self.is_persistent() && !self.has_ended.get()
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached.borrow().is_some()
    }

    /// The connection that it has now.
    pub(crate) fn session(&self) -> Option<Rc<Session>> {
        self.attached.borrow().clone()
    }
}

/// A subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscribed {
    /// With the granted QoS.
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<SubscriptionIdentifier>,
    /// The first commit whose messages it asks for.
    pub(crate) from: CommitNumber,
    /// Messages of commits before this one come with this QoS: the client has subscribed again since,
    /// and they may be under way already.
    pub(crate) earlier: Option<(CommitNumber, QoS)>,
}

impl Subscribed {
    /// Whether it asks for messages of QoS 1 or 2, or has: no others come from the log.
    pub(crate) fn asks_for_stored(&self) -> bool {
        let earlier = self.earlier.map_or(QoS::AtMostOnce, |(_, qos)| qos);
        self.options.qos.max(earlier) > QoS::AtMostOnce
    }

    /// With what QoS it asks for messages of this commit.
    pub(crate) fn qos_at(&self, commit: CommitNumber) -> QoS {
        let earlier = self.earlier.filter(|(until, _)| commit < *until);
        earlier.map_or(self.options.qos, |(_, qos)| qos)
    }
}

/// The subscriptions of one client. Most have one or two, so they are a list with just as much memory.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// By their filters.
    filters: Vec<(TopicFilter, Subscribed)>,
    bytes: usize,
    /// No subscription begins or was changed later.
    newest: CommitNumber,
    /// How often they changed.
    changes: u64,
    /// The first commit that a subscription asks for that was made or changed since a scan began.
    since_scan: Option<CommitNumber>,
}

impl Emptiable for Filters {
    const EMPTY: &'static Self = &Self {
        filters: Vec::new(),
        bytes: 0,
        newest: CommitNumber(0),
        changes: 0,
        since_scan: None,
    };

    fn is_empty_list(&self) -> bool {
        self.is_empty()
    }
}

impl Filters {
    /// Whether a subscription with this filter is within the limits, for those here and the `others` of
    /// the same client. One that is there already costs nothing more.
    pub(crate) fn fits(&self, filter: &TopicFilter, others: &Self, limits: &Limits) -> bool {
        let bytes = self.bytes.saturating_add(others.bytes);
        let bytes = bytes.saturating_add(filter.as_str().len());
        let count = self.filters.len() + others.filters.len();
        let has_room =
            count < limits.subscriptions_per_client_max && bytes <= limits.filter_bytes_max();
        has_room || self.index(filter).is_ok()
    }

    fn index(&self, filter: &TopicFilter) -> Result<usize, usize> {
        self.filters
            .binary_search_by(|(other, _)| other.as_str().cmp(filter.as_str()))
    }

    /// Makes a subscription, or replaces the one with the same filter, which keeps its beginning.
    pub(crate) fn insert(&mut self, filter: TopicFilter, subscribed: Subscribed) {
        self.changes += 1;
        let since_scan = self.since_scan.unwrap_or(subscribed.from);
        self.since_scan = Some(since_scan.min(subscribed.from));
        let changed = subscribed
            .earlier
            .map_or(subscribed.from, |(until, _)| until);
        self.newest = self.newest.max(changed);
        let index = self.index(&filter);
        match index.map(|index| self.filters.get_mut(index)) {
            Ok(Some((_, before))) => {
                *before = Subscribed {
                    from: before.from,
                    earlier: match before.options.qos == subscribed.options.qos {
                        true => before.earlier,
                        false => Some((subscribed.from, before.options.qos)),
                    },
                    ..subscribed
                };
            }
            Ok(None) => {}
            Err(index) => {
                self.bytes += filter.as_str().len();
                if self.filters.len() == self.filters.capacity() {
                    self.filters.reserve_exact(self.filters.len().max(1));
                }
                self.filters.insert(index, (filter, subscribed));
            }
        }
    }

    /// `false` when there is no subscription with it.
    pub(crate) fn remove(&mut self, filter: &TopicFilter) -> bool {
        let Ok(index) = self.index(filter) else {
            return false;
        };
        self.filters.remove(index);
        self.bytes -= filter.as_str().len();
        self.changes += 1;
        true
    }

    /// With which commit the subscription with this filter begins.
    pub(crate) fn from(&self, filter: &TopicFilter) -> Option<CommitNumber> {
        self.get(filter).map(|subscribed| subscribed.from)
    }

    /// The subscription with this filter.
    pub(crate) fn get(&self, filter: &TopicFilter) -> Option<Subscribed> {
        let (_, subscribed) = self.filters.get(self.index(filter).ok()?)?;
        Some(*subscribed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicFilter, &Subscribed)> {
        let filters = self.filters.iter();
        filters.map(|(filter, subscribed)| (filter, subscribed))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Whether all of them ask for messages of this commit.
    pub(crate) fn all_ask_for(&self, commit: CommitNumber) -> bool {
        self.newest <= commit
    }

    /// How often they changed, since whenever.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// A scan reads what they ask for now.
    pub(crate) fn begin_scan(&mut self) {
        self.since_scan = None;
    }

    /// Before which commit the scan must end because from there on more is asked for.
    pub(crate) fn ends_scan_at(&self) -> Option<CommitNumber> {
        self.since_scan
    }

    /// What those grant that ask for messages of this commit with this topic name; `is_own`: the
    /// message is the client's own. `None` if none does.
    pub(crate) fn grant(
        &self,
        topic: &TopicName,
        commit: CommitNumber,
        is_own: bool,
    ) -> Option<Grant> {
        let asking = self.filters.iter().filter(|(filter, subscribed)| {
            subscribed.from <= commit
                && !(is_own && subscribed.options.no_local)
                && filter.matches(topic)
        });
        Grant::of(asking.map(|(_, subscribed)| {
            let qos = subscribed.qos_at(commit);
            let options = subscribed.options;
            (
                SubscriptionOptions { qos, ..options },
                subscribed.identifier,
            )
        }))
    }
}

/// Sessions by client identifier.
#[derive(Debug, Default)]
pub(crate) struct Sessions(HashMap<Bytes, Rc<SessionState>>);

impl Sessions {
    pub(crate) fn get(&self, client_id: &str) -> Option<Rc<SessionState>> {
        self.0.get(client_id.as_bytes()).cloned()
    }

    pub(crate) fn insert(&mut self, state: &Rc<SessionState>) {
        self.0.insert(state.client_id.clone(), Rc::clone(state));
    }

    /// Takes a session out, unless another one has its place.
    pub(crate) fn remove(&mut self, state: &Rc<SessionState>) {
        let found = self.0.get(&state.client_id);
        if found.is_some_and(|there| Rc::ptr_eq(there, state)) {
            self.0.remove(&state.client_id);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rc<SessionState>> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed(qos: QoS, from: u64) -> Subscribed {
        Subscribed {
            options: SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            },
            identifier: None,
            from: CommitNumber(from),
            earlier: None,
        }
    }

    /// What is under way comes as it was asked for: of a message of QoS 1 that a crash has taken back,
    /// nobody knows that it was delivered; of one of QoS 2 it is known.
    #[test]
    fn subscription_that_is_made_again_changes_the_qos_of_what_comes_later() {
        let filter: TopicFilter = "a".parse().unwrap();
        let mut filters = Filters::default();
        filters.insert(filter.clone(), subscribed(QoS::AtLeastOnce, 5));
        filters.insert(filter.clone(), subscribed(QoS::ExactlyOnce, 9));
        filters.insert(filter, subscribed(QoS::ExactlyOnce, 11));
        let topic = "a".parse().unwrap();
        let qos = |commit| Some(filters.grant(&topic, CommitNumber(commit), false)?.qos);
        assert_eq!(qos(4), None);
        assert_eq!(qos(5), Some(QoS::AtLeastOnce));
        assert_eq!(qos(8), Some(QoS::AtLeastOnce));
        assert_eq!(qos(9), Some(QoS::ExactlyOnce));
        assert!(!filters.all_ask_for(CommitNumber(8)));
        assert!(filters.all_ask_for(CommitNumber(11)));
    }
}
