//! Sessions: what the broker knows of a connected client, and who is connected under which client
//! identifier.
//!
//! Every session ends with its connection in this version. A client that asks for more is told so
//! where its protocol has words for it (MQTT 5: Session Expiry Interval 0).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bytes::Bytes;
use mqtt::{ProtocolVersion, TopicFilter};

use crate::ahead::Ahead;
use crate::authorizer::{Client, Identity};
use crate::connection::Connection;
use crate::options::Limits;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Rc<Connection>,
    pub(crate) version: ProtocolVersion,
    identity: Identity,
    client_id: Box<str>,
    /// The client identifier again, as records want it.
    client_id_bytes: Bytes,
    pub(crate) filters: RefCell<Filters>,
    /// Its publishes that are delivered with their commit although others like them are delivered
    /// at once.
    pub(crate) ahead: RefCell<Ahead>,
    /// Publishes of it that wait to be acknowledged with a commit.
    pub(crate) tickets: Cell<usize>,
    pub(crate) has_ended: Cell<bool>,
}

impl Session {
    pub(crate) fn new(
        connection: Rc<Connection>,
        version: ProtocolVersion,
        identity: Identity,
        client_id: &str,
    ) -> Self {
        Self {
            connection,
            version,
            identity,
            client_id: client_id.into(),
            client_id_bytes: Bytes::copy_from_slice(client_id.as_bytes()),
            filters: RefCell::default(),
            ahead: RefCell::default(),
            tickets: Cell::new(0),
            has_ended: Cell::new(false),
        }
    }

    pub(crate) fn client_id(&self) -> &Bytes {
        &self.client_id_bytes
    }

    /// How an authorizer knows it.
    pub(crate) fn client(&self) -> Client<'_> {
        Client {
            identity: &self.identity,
            client_id: &self.client_id,
        }
    }
}

/// Filters of the subscriptions of one client.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    filters: HashSet<TopicFilter>,
    bytes: usize,
}

impl Filters {
    /// Whether a subscription with this filter is within the limits. One that is there already
    /// costs nothing more.
    pub(crate) fn fits(&self, filter: &TopicFilter, limits: &Limits) -> bool {
        let bytes = self.bytes.saturating_add(filter.as_str().len());
        let has_room = self.filters.len() < limits.subscriptions_per_client_max
            && bytes <= limits.filter_bytes_max();
        has_room || self.filters.contains(filter)
    }

    pub(crate) fn insert(&mut self, filter: TopicFilter) {
        let bytes = filter.as_str().len();
        if self.filters.insert(filter) {
            self.bytes += bytes;
        }
    }

    /// `false` when there is no subscription with it.
    pub(crate) fn remove(&mut self, filter: &TopicFilter) -> bool {
        let is_there = self.filters.remove(filter);
        if is_there {
            self.bytes -= filter.as_str().len();
        }
        is_there
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TopicFilter> {
        self.filters.iter()
    }
}

/// Connected clients by client identifier.
#[derive(Debug, Default)]
pub(crate) struct Sessions(HashMap<Bytes, Rc<Session>>);

impl Sessions {
    /// Puts a session in; gives the one that had its client identifier.
    pub(crate) fn insert(&mut self, session: &Rc<Session>) -> Option<Rc<Session>> {
        self.0
            .insert(session.client_id_bytes.clone(), Rc::clone(session))
    }

    /// Takes a session out, unless another one has its place. `false` when it was not there.
    pub(crate) fn remove(&mut self, session: &Session) -> bool {
        let found = self.0.get(&session.client_id_bytes);
        let is_there = found.is_some_and(|there| there.connection.id == session.connection.id);
        if is_there {
            self.0.remove(&session.client_id_bytes);
        }
        is_there
    }
}
