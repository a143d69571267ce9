//! CONNECT and its answer (3.1, 3.2).
//!
//! - A session outlives its connection if the client asks for that: an MQTT 5 client by a Session
//!   Expiry Interval, a client of 3.1.1 without clean session for as long as the broker allows. A
//!   longer interval is cut, and MQTT 5 clients are told. Without a store no session does.
//! - A client without an identifier gets one; MQTT 5 clients are told. A 3.1.1 client must want a
//!   clean session then, which the state machine sees to.
//! - A keep alive above the limit is replaced, for MQTT 5 clients, who are told.
//! - A clean start is answered when the earlier session is gone for good: it must not be back after a
//!   crash.
//! - Enhanced authentication (AUTH) is refused.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mqtt::server::{Accept, AcceptError, Reason};
use mqtt::{Connect, ProtocolVersion, ReasonCode, Utf8String, Will};

use crate::attaching::Earlier;
use crate::authorizer::{Authentication, ConnectAttempt, Identity};
use crate::causes::Limit;
use crate::client::{Client, CountedV31, Progress, SessionCount};
use crate::options::CLIENT_ID_BYTES_MAX;
use crate::session::{Lifetime, Session, SessionState};
use crate::will::LastWill;

/// A CONNECT that the authorizer still thinks about, or that waits for its earlier session to be gone
/// from flash.
pub(crate) struct Authenticating {
    answer: Pin<Box<dyn Future<Output = Result<Identity, ReasonCode>>>>,
    connect: Box<Connect>,
    /// When it is given up.
    pub(crate) deadline: Option<Instant>,
    /// It has ended its earlier session, and waits for that to be durable.
    has_ended_earlier: bool,
}

impl Client {
    pub(crate) fn handle_connect(&mut self, now: Instant, connect: Box<Connect>) {
        let client_id_bytes = connect.client_id.as_bytes().len();
        if client_id_bytes > CLIENT_ID_BYTES_MAX {
            let text = format!(
                "client identifier of {client_id_bytes} bytes, at most {CLIENT_ID_BYTES_MAX} are allowed"
            );
            let string = Utf8String::try_from(text).ok();
            let code = ReasonCode::ClientIdentifierNotValid;
            return self.refuse_connect(Reason { code, string });
        }
        if connect.properties.authentication_method.is_some() {
            return self.refuse_connect(ReasonCode::BadAuthenticationMethod);
        }
        let attempt = ConnectAttempt {
            peer: self.origin.peer,
            listener: self.origin.listener,
            allow_anonymous: self.origin.allow_anonymous,
            connect: &connect,
        };
        match self.router.authorizer.authenticate(&attempt) {
            Authentication::Done(answer) => self.handle_authenticated(now, *connect, answer),
            Authentication::Pending(answer) => {
                self.await_answer(now, connect, answer, false);
            }
        }
    }

    fn await_answer(
        &mut self,
        now: Instant,
        connect: Box<Connect>,
        answer: Pin<Box<dyn Future<Output = Result<Identity, ReasonCode>>>>,
        has_ended_earlier: bool,
    ) {
        let timeout = self.router.options.limits.connect_timeout;
        self.progress = Progress::Authenticating(Box::new(Authenticating {
            answer,
            connect,
            deadline: now.checked_add(timeout),
            has_ended_earlier,
        }));
    }

    /// Whether the authorizer has come to an end, or its time has.
    pub(crate) fn poll_authentication(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let Progress::Authenticating(authenticating) = &mut self.progress else {
            return false;
        };
        let answer = match authenticating.answer.as_mut().poll(cx) {
            Poll::Ready(answer) => answer,
            Poll::Pending if authenticating.deadline.is_some_and(|at| at <= now) => {
                Err(ReasonCode::ServerBusy)
            }
            Poll::Pending => return false,
        };
        let progress = std::mem::replace(&mut self.progress, Progress::Connecting);
        if let Progress::Authenticating(authenticating) = progress {
            let client_id = authenticating.connect.client_id.as_str();
            // The client may have come again in the meantime, and may be gone again.
            let newer = self.router.sessions.borrow().get(client_id);
            let newer = newer.and_then(|state| state.newest_connection.get());
            let is_overtaken = authenticating.has_ended_earlier
                && newer.is_some_and(|newer| newer > self.connection.id);
            let answer = answer.and_then(|identity| match is_overtaken {
                true => Err(ReasonCode::ServerBusy),
                false => Ok(identity),
            });
            self.handle_authenticated(now, *authenticating.connect, answer);
        }
        true
    }

    fn handle_authenticated(
        &mut self,
        now: Instant,
        connect: Connect,
        answer: Result<Identity, ReasonCode>,
    ) {
        let identity = match answer {
            Ok(identity) => identity,
            Err(code) => return self.refuse_connect(code),
        };
        let assigned = connect
            .client_id
            .as_bytes()
            .is_empty()
            .then(|| self.router.assign_client_id());
        let client_id = assigned.as_deref().unwrap_or(connect.client_id.as_str());
        tracing::Span::current().record("client_id", client_id);

        let lifetime = self.router.lifetime_of(&connect);
        // Who is refused leaves the earlier session, and its connection, as they are.
        if !self.router.has_room_for_session(client_id, lifetime) {
            self.router.counters.limits.add(Limit::SessionsMax, 1);
            return self.refuse_for_room(connect.version, "too many sessions are kept");
        }
        if !self
            .router
            .has_room_for_will(client_id, lifetime, connect.will.as_ref())
        {
            return self.refuse_for_room(connect.version, "too many bytes of wills are kept");
        }
        let earlier = match self.router.earlier(now, client_id, connect.clean_start) {
            Earlier::None => None,
            Earlier::GoesOn(state) => Some(state),
            Earlier::GoneWith(commit) => {
                let router = Rc::clone(&self.router);
                let gone = async move {
                    router.committed(commit).await;
                    Ok(identity)
                };
                return self.await_answer(now, Box::new(connect), Box::pin(gone), true);
            }
        };
        let mut accept = self.accept_of(&connect, lifetime, assigned.as_deref());
        accept.session_present = earlier.is_some();
        if let Some(earlier) = &earlier {
            accept.inflight = earlier.outbound.borrow().left();
        }
        let state = match earlier {
            Some(state) => state,
            None => self.router.new_session(client_id),
        };
        state.lifetime.set(lifetime);
        let keep_alive = accept.server_keep_alive_seconds;
        let keep_alive = keep_alive.unwrap_or(connect.keep_alive_seconds);
        let accepted = self.connection.machine.borrow_mut().accept(now, accept);
        let is_accepted = accepted.is_ok();
        self.expect_awaited(accepted);
        if is_accepted {
            self.begin_session(now, state, identity, connect, keep_alive);
        } else if !state.outlives_its_connection() {
            self.router.end_session(now, &state, Duration::ZERO);
        }
    }

    fn begin_session(
        &mut self,
        now: Instant,
        state: Rc<SessionState>,
        identity: Identity,
        connect: Connect,
        keep_alive_seconds: u16,
    ) {
        let version = connect.version;
        let connection = Rc::clone(&self.connection);
        let session = Rc::new(Session::new(connection, version, identity, state));
        let will = connect.will.as_ref();
        let number = self
            .router
            .keep_will(now, &session, will, keep_alive_seconds);
        self.router.attach(now, &session);
        self.router.goes_on_with_sys(&session.state);
        self.router.count_session(version, SessionCount::Begun);
        let is_v31 = connect.is_v31;
        self.counted_v31 = is_v31.then(|| CountedV31::new(&self.router.counters));
        tracing::debug!(?version, is_v31, "Client connected.");
        // It must not keep the whole packet.
        *session.will.borrow_mut() = connect.will.map(|will| {
            let message = will.message.detach();
            Box::new(LastWill {
                will: Will { message, ..will },
                number,
            })
        });
        self.progress = Progress::Connected { session };
    }

    fn accept_of(&self, connect: &Connect, lifetime: Lifetime, assigned: Option<&str>) -> Accept {
        let asked = connect.properties.session_expiry_interval.unwrap_or(0);
        let granted = lifetime.seconds();
        let keep_alive_max = self.router.options.limits.keep_alive_seconds_max;
        let keep_alive = connect.keep_alive_seconds;
        let server_keep_alive = keep_alive_max
            .map(std::num::NonZeroU16::get)
            .filter(|max| keep_alive == 0 || keep_alive > *max);
        let hits = &self.router.counters.limits;
        let is_told = connect.version == ProtocolVersion::V5;
        if is_told && server_keep_alive.is_some() {
            hits.add(Limit::KeepAliveMax, 1);
        }
        if is_told && granted < asked {
            hits.add(Limit::SessionExpiryMax, 1);
        }
        Accept {
            session_present: false,
            session_expiry_interval: (granted != asked).then_some(granted),
            assigned_client_identifier: assigned.and_then(|id| Utf8String::try_from(id).ok()),
            server_keep_alive_seconds: match connect.version {
                ProtocolVersion::V311 => None,
                ProtocolVersion::V5 => server_keep_alive,
            },
            shared_subscription_available: true,
            ..Accept::default()
        }
    }

    fn refuse_for_room(&self, version: ProtocolVersion, why: &str) {
        let code = match version {
            ProtocolVersion::V5 => ReasonCode::QuotaExceeded,
            // 3.1.1 has no better one.
            ProtocolVersion::V311 => ReasonCode::ServerUnavailable,
        };
        let string = Utf8String::try_from(why.to_owned()).ok();
        self.refuse_connect(Reason { code, string });
    }

    fn refuse_connect(&self, reason: impl Into<Reason>) {
        let refused = self.connection.machine.borrow_mut().refuse(reason);
        self.expect_awaited(refused);
    }

    /// An answer to CONNECT that came too late is of no consequence.
    fn expect_awaited(&self, answered: Result<(), AcceptError>) {
        if let Err(error) = answered
            && !self.connection.machine.borrow().is_closed()
        {
            tracing::error!(%error, "CONNECT was not answered.");
        }
    }
}
