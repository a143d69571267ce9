//! CONNECT and its answer (3.1, 3.2).
//!
//! - Session Present is never set: sessions end with their connection. MQTT 5 clients that ask for
//!   more are told Session Expiry Interval 0. A client of MQTT 3.1.1 without clean session is
//!   accepted and treated as if it had asked for one; 3.1.1 has no words for more.
//! - A client without an identifier gets one; MQTT 5 clients are told. A 3.1.1 client must want a
//!   clean session then, which the state machine sees to.
//! - A keep alive above the limit is replaced, for MQTT 5 clients, who are told.
//! - Enhanced authentication (AUTH) is refused.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use mqtt::server::{Accept, AcceptError, Reason};
use mqtt::{Connect, ProtocolVersion, ReasonCode, Utf8String};

use crate::authorizer::{Authentication, ConnectAttempt, Identity};
use crate::client::{Client, Progress, SessionCount};
use crate::options::CLIENT_ID_BYTES_MAX;
use crate::session::Session;

/// A CONNECT that the authorizer still thinks about.
pub(crate) struct Authenticating {
    answer: Pin<Box<dyn Future<Output = Result<Identity, ReasonCode>>>>,
    connect: Box<Connect>,
    /// When it is given up.
    pub(crate) deadline: Option<Instant>,
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
                let timeout = self.router.options.limits.connect_timeout;
                self.progress = Progress::Authenticating(Box::new(Authenticating {
                    answer,
                    connect,
                    deadline: now.checked_add(timeout),
                }));
            }
        }
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

        let accept = self.accept_of(&connect, assigned.as_deref());
        let session = Session::new(
            Rc::clone(&self.connection),
            connect.version,
            identity,
            client_id,
        );
        self.begin_session(now, session, connect);
        let accepted = self.connection.machine.borrow_mut().accept(now, accept);
        self.expect_awaited(accepted);
    }

    fn begin_session(&mut self, now: Instant, session: Session, connect: Connect) {
        let session = Rc::new(session);
        let other = self.router.sessions.borrow_mut().insert(&session);
        if let Some(other) = other {
            self.router.take_over(now, &other);
        }
        self.router
            .count_session(connect.version, SessionCount::Begun);
        let version = connect.version;
        tracing::debug!(?version, "Client connected.");
        self.progress = Progress::Connected {
            session,
            // It must not keep the whole packet.
            will: connect.will.map(|will| Box::new(will.message.detach())),
        };
    }

    fn accept_of(&self, connect: &Connect, assigned: Option<&str>) -> Accept {
        let asked = connect.properties.session_expiry_interval;
        let keep_alive_max = self.router.options.limits.keep_alive_seconds_max;
        let keep_alive = connect.keep_alive_seconds;
        let server_keep_alive = keep_alive_max
            .map(std::num::NonZeroU16::get)
            .filter(|max| keep_alive == 0 || keep_alive > *max);
        Accept {
            session_present: false,
            session_expiry_interval: asked.filter(|seconds| *seconds > 0).map(|_| 0),
            assigned_client_identifier: assigned.and_then(|id| Utf8String::try_from(id).ok()),
            server_keep_alive_seconds: match connect.version {
                ProtocolVersion::V311 => None,
                ProtocolVersion::V5 => server_keep_alive,
            },
            shared_subscription_available: false,
            ..Accept::default()
        }
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
