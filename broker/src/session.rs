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
use storage::{CommitNumber, LogPartition};

use crate::authorizer::{Client, Identity};
use crate::connection::Connection;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Rc<Connection>,
    pub(crate) version: ProtocolVersion,
    identity: Identity,
    client_id: Box<str>,
    /// The client identifier again, as records want it.
    client_id_bytes: Bytes,
    /// Filters of its subscriptions.
    pub(crate) filters: RefCell<HashSet<TopicFilter>>,
    /// The record of its newest publish that is delivered with its commit although others like it
    /// are delivered at once. Those must not overtake it.
    pub(crate) ahead: Cell<Option<(CommitNumber, LogPartition)>>,
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
            ahead: Cell::new(None),
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
