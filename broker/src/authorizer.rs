//! Who may do what. The broker asks here wherever permission is needed; this version lets
//! everybody do everything ([`AllowAll`]).
//!
//! Not for: limits, which hold for everybody, and what the standard forbids.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use mqtt::{Connect, QoS, ReasonCode, TopicFilter, TopicName};

/// Answers every question of permission, on the I/O thread: an answer must be at hand. Only
/// [`authenticate`](Self::authenticate) may take its time.
pub trait Authorizer {
    /// Who wants to connect?
    fn authenticate(&self, attempt: &ConnectAttempt<'_>) -> Authentication;

    /// May this client publish this? Asked for each message, and for a will when it is published. For
    /// that of a session that outlives its connection also with CONNECT: that answer counts if the
    /// broker was started again since.
    fn may_publish(&self, client: Client<'_>, topic: &TopicName, qos: QoS, retain: bool) -> bool;

    /// May this client subscribe to this? Asked once for each subscription; for a shared one with the
    /// filter behind its name.
    fn may_subscribe(&self, client: Client<'_>, filter: &TopicFilter) -> bool;

    /// May this client have what was published to this before it subscribed (a replay)? Asked once
    /// for each replay, after [`may_subscribe`](Self::may_subscribe).
    fn may_replay(&self, client: Client<'_>, filter: &TopicFilter) -> bool;

    /// May this client have messages with this topic name, whatever it subscribed to? The answer
    /// is kept until [`generation`](Self::generation) changes.
    fn may_receive(&self, client: Client<'_>, topic: &TopicName) -> bool;

    /// A number that is another one after answers of [`may_receive`](Self::may_receive) changed.
    fn generation(&self) -> u64 {
        0
    }
}

/// A CONNECT and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct ConnectAttempt<'a> {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address of the listener, with the port that it really has.
    pub listener: SocketAddr,
    /// Whether clients that do not say who they are may come in there.
    pub allow_anonymous: bool,
    /// The packet, with user name, password and client identifier.
    pub connect: &'a Connect,
}

/// The answer to [`Authorizer::authenticate`].
pub enum Authentication {
    /// Known at once: the identity, or the code with which the client is refused.
    Done(Result<Identity, ReasonCode>),
    /// It takes a while, a hash of the password for example. It is given up after
    /// [`Limits::connect_timeout`](crate::Limits::connect_timeout).
    Pending(Pin<Box<dyn Future<Output = Result<Identity, ReasonCode>>>>),
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(answer) => f.debug_tuple("Done").field(answer).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

/// Who a client is, with whatever the [`Authorizer`] wants to find again when it is asked about it.
#[derive(Clone)]
pub struct Identity {
    name: Rc<str>,
    grants: Rc<dyn Any>,
}

impl Identity {
    /// An identity; `grants` is the authorizer's own.
    pub fn new(name: &str, grants: Rc<dyn Any>) -> Self {
        Self {
            name: name.into(),
            grants,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the authorizer gave it, if that is of type `T`.
    pub fn grants<T: 'static>(&self) -> Option<&T> {
        self.grants.downcast_ref()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.name).finish()
    }
}

/// A connected client.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// Its client identifier.
    pub client_id: &'a str,
}

/// Lets everybody do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authenticate(&self, _attempt: &ConnectAttempt<'_>) -> Authentication {
        Authentication::Done(Ok(Identity::new("anonymous", Rc::new(()))))
    }

    fn may_publish(&self, _: Client<'_>, _: &TopicName, _: QoS, _: bool) -> bool {
        true
    }

    fn may_subscribe(&self, _: Client<'_>, _: &TopicFilter) -> bool {
        true
    }

    fn may_replay(&self, _: Client<'_>, _: &TopicFilter) -> bool {
        true
    }

    fn may_receive(&self, _: Client<'_>, _: &TopicName) -> bool {
        true
    }
}
