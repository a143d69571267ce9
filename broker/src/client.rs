//! One client: what its events do. The other half of a connection's task; [`driver`](crate::driver)
//! moves the bytes.
//!
//! Invariant: the session ends exactly once, with the event that the connection has ended.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mqtt::server::{DisconnectCause, Event, Misbehaviour};
use mqtt::{PacketId, ProtocolVersion, ReasonCode};

use crate::causes::{DropCause, EndCause, Limit};
use crate::connect::Authenticating;
use crate::connection::Connection;
use crate::held::HeldPublishes;
use crate::probe::Counters;
use crate::replay_subscribe::replay_from;
use crate::router::{Router, Stage, now};
use crate::session::Session;

/// See the module's documentation.
pub(crate) struct Client {
    pub(crate) router: Rc<Router>,
    pub(crate) connection: Rc<Connection>,
    pub(crate) origin: Origin,
    pub(crate) progress: Progress,
    pub(crate) held: HeldPublishes,
    /// A client of MQTT 3.1, while it is connected.
    pub(crate) counted_v31: Option<CountedV31>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // Most often it has ended; but a task may also be dropped in the middle.
        if let Progress::Connected { session } = &self.progress {
            self.router.detach(now(), session);
        }
        self.router.close_connection(self.connection.id);
    }
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) peer: SocketAddr,
    pub(crate) listener: SocketAddr,
    pub(crate) allow_anonymous: bool,
}

/// How far it has come.
pub(crate) enum Progress {
    /// CONNECT has not come, or was refused.
    Connecting,
    /// The authorizer has to think.
    Authenticating(Box<Authenticating>),
    Connected {
        session: Rc<Session>,
    },
    Ended,
}

impl Client {
    pub(crate) fn new(router: Rc<Router>, connection: Rc<Connection>, origin: Origin) -> Self {
        Self {
            router,
            connection,
            origin,
            progress: Progress::Connecting,
            held: HeldPublishes::default(),
            counted_v31: None,
        }
    }

    pub(crate) fn session(&self) -> Option<Rc<Session>> {
        match &self.progress {
            Progress::Connected { session } => Some(Rc::clone(session)),
            _ => None,
        }
    }

    /// The connection has ended and everything about it is done.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.progress, Progress::Ended)
    }

    pub(crate) fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connect(connect) => self.handle_connect(now, connect),
            // What was not worked off when the broker went down was never acknowledged.
            Event::Publish { .. } if self.router.stage() != Stage::Running => {}
            Event::Publish {
                ticket,
                packet_id,
                message,
                ..
            } => self.handle_publish(now, ticket, packet_id, message),
            Event::Release { .. } if self.router.stage() != Stage::Running => {}
            Event::Release { ticket, packet_id } => self.handle_release(now, ticket, packet_id),
            Event::Subscribe {
                ticket,
                subscriptions,
                subscription_identifier: identifier,
                user_properties,
            } => {
                let from = replay_from(&user_properties);
                self.handle_subscribe(now, ticket, &subscriptions, identifier, from);
            }
            Event::Unsubscribe {
                ticket, filters, ..
            } => self.handle_unsubscribe(now, ticket, &filters),
            Event::Acknowledged { packet_id, .. } => self.handle_acknowledged(now, packet_id),
            Event::Received { packet_id, .. } => self.handle_received(now, packet_id),
            Event::Expired { messages } => {
                let dropped = &self.router.counters.dropped;
                dropped.add(DropCause::Expired, messages as u64);
            }
            Event::Disconnected {
                cause,
                publish_will,
            } => self.handle_disconnected(now, &cause, publish_will),
        }
    }

    fn handle_disconnected(&mut self, now: Instant, cause: &DisconnectCause, publish_will: bool) {
        self.drop_held();
        self.counted_v31 = None;
        let ended = match self.connection.is_refused() {
            true => EndCause::RefusedPublish,
            false => EndCause::of(cause),
        };
        if let Some(limit) = Limit::that_ended(cause) {
            self.router.counters.limits.add(limit, 1);
        }
        self.router.counters.ended.add(ended, 1);
        self.log_disconnected(now, cause, ended);
        let progress = std::mem::replace(&mut self.progress, Progress::Ended);
        if let Progress::Connected { session } = progress {
            self.router
                .end_connection(now, &session, cause, publish_will);
        }
    }

    /// Sends from the mailbox what there is room for.
    pub(crate) fn pump(&self, now: Instant) {
        if let Progress::Connected { session } = &self.progress
            && !session.has_ended.get()
        {
            self.router.pump(now, session);
        }
    }

    /// The client has a message of QoS 2 (PUBREC).
    fn handle_received(&mut self, now: Instant, packet_id: PacketId) {
        if let Some(session) = self.session().filter(|session| !session.has_ended.get()) {
            let is_there = session.state.outbound.borrow_mut().received(packet_id);
            if is_there {
                self.router
                    .release_when_written(now, &session, vec![packet_id]);
            }
        }
    }

    /// A delivery is over (PUBACK, PUBCOMP, or a PUBREC that says no).
    fn handle_acknowledged(&mut self, now: Instant, packet_id: PacketId) {
        if let Some(session) = self.session().filter(|session| !session.has_ended.get()) {
            let of_group = session.state.outbound.borrow().of_group(packet_id);
            let was_qos2 = session.state.outbound.borrow_mut().acknowledged(packet_id);
            if was_qos2 && session.state.is_persistent() {
                session.state.bindings_changed.set(true);
            }
            self.router.pump(now, &session);
            if let Some(of_group) = of_group {
                self.router.acknowledged_by_member(now, of_group);
            }
        }
    }

    fn log_disconnected(&self, now: Instant, cause: &DisconnectCause, ended: EndCause) {
        let limits = &self.router.log_limits;
        let error: &dyn std::error::Error = cause;
        match ended {
            EndCause::Invalid => {
                if let Some(left_out) = limits.misbehaved.pass(now) {
                    tracing::info!(error, left_out, "Client broke the protocol.");
                }
            }
            EndCause::Refused => {
                if let Some(left_out) = limits.refused_connection.pass(now) {
                    tracing::info!(error, left_out, "Client was refused.");
                }
            }
            EndCause::SlowSubscriber | EndCause::Suspended => {
                if let Some(left_out) = limits.slow_subscriber.pass(now) {
                    tracing::warn!(error, left_out, "Client was disconnected.");
                }
            }
            EndCause::RefusedPublish
            | EndCause::Client
            | EndCause::ConnectTimeout
            | EndCause::EndOfStream
            | EndCause::KeepAliveTimeout
            | EndCause::Shutdown
            | EndCause::TakenOver => tracing::debug!(error, "Connection ended."),
        }
    }
}

impl EndCause {
    fn of(cause: &DisconnectCause) -> Self {
        match cause {
            DisconnectCause::Client(_) => Self::Client,
            DisconnectCause::ConnectTimeout => Self::ConnectTimeout,
            DisconnectCause::EndOfStream => Self::EndOfStream,
            DisconnectCause::Invalid(_)
            | DisconnectCause::Misbehaved(_)
            | DisconnectCause::Unanswerable { .. } => Self::Invalid,
            DisconnectCause::KeepAliveTimeout => Self::KeepAliveTimeout,
            DisconnectCause::Refused(_) => Self::Refused,
            DisconnectCause::SuspendedTooLong => Self::Suspended,
            DisconnectCause::Server(ReasonCode::QuotaExceeded) => Self::SlowSubscriber,
            DisconnectCause::Server(ReasonCode::ServerShuttingDown) => Self::Shutdown,
            DisconnectCause::Server(ReasonCode::SessionTakenOver) => Self::TakenOver,
            DisconnectCause::Server(_) => Self::RefusedPublish,
        }
    }
}

impl Limit {
    /// The limit for which the client lost its connection.
    fn that_ended(cause: &DisconnectCause) -> Option<Self> {
        match cause {
            DisconnectCause::ConnectTimeout => Some(Self::ConnectTimeout),
            DisconnectCause::Invalid(error)
                if error.reason_code() == ReasonCode::PacketTooLarge =>
            {
                Some(Self::PacketBytesMax)
            }
            DisconnectCause::Misbehaved(Misbehaviour::ReceiveMaximumExceeded { .. }) => {
                Some(Self::ReceiveMaximum)
            }
            _ => None,
        }
    }
}

impl Router {
    pub(crate) fn count_received(&self, qos: mqtt::QoS) {
        match qos {
            mqtt::QoS::AtMostOnce => self.counters.received_qos0.increment(),
            mqtt::QoS::AtLeastOnce => self.counters.received_qos1.increment(),
            mqtt::QoS::ExactlyOnce => self.counters.received_qos2.increment(),
        }
    }

    /// One session more or less of this version.
    pub(crate) fn count_session(&self, version: ProtocolVersion, change: SessionCount) {
        let (old, new) = match change {
            SessionCount::Begun => (0, 1),
            SessionCount::Ended => (1, 0),
        };
        self.counters.sessions(version).replace(old, new);
    }
}

/// See [`Router::count_session`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum SessionCount {
    Begun,
    Ended,
}

/// One client of MQTT 3.1 more for as long as this lives. Its session is one of 3.1.1 everywhere else.
pub(crate) struct CountedV31(Arc<Counters>);

impl CountedV31 {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        counters.sessions_v31.replace(0, 1);
        Self(Arc::clone(counters))
    }
}

impl Drop for CountedV31 {
    fn drop(&mut self) {
        self.0.sessions_v31.replace(1, 0);
    }
}
