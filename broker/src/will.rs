//! Wills: messages that the broker publishes in the name of a client that is gone (3.1.2.5).
//!
//! - A will is published when the connection ends in any other way than by the client's good-bye, or,
//!   if it has a delay, when that is over or the session ends, and the client is not back (3.1.3.2.2).
//! - It is not published when the broker shuts down: no client has failed then, and a thousand
//!   reports that one did would be kept and replicated as facts. MQTT 5 allows it (3.1.2.5, a
//!   server that shuts down may defer wills until it is back); clients that come back bring theirs.
//! - That of a session that outlives its connection outlives the broker:
//!   [`kept_wills`](crate::kept_wills).
//! - A degraded broker sends it to the subscribers of the moment.
//! - That of a connection that is taken over is published before its client can send anything on the newer
//!   one, and nothing of the older one comes after it: whoever watches a client must not see last that it is gone.
//! - It takes the publish path like any message. Nobody sends it again when the store does not take
//!   it for now, so it waits, within a bound.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt::{Message, ProtocolVersion, QoS, Will};

use crate::authorizer::Identity;
use crate::causes::RefusalCause;
use crate::kept_wills::{DueWill, WillNumber};
use crate::mailboxes::Waiting;
use crate::outbound::Outbound;
use crate::publication::size_bytes;
use crate::publish::Outcome;
use crate::router::{Router, Stage};
use crate::session::{Lifetime, Session, SessionState};

/// Bytes of wills that wait for the store.
const WAITING_BYTES_MAX: usize = 1_048_576;

/// What a waiting will costs beside its message.
const WAITING_BYTES_EACH: usize = 512;

/// Wills that the store does not take for now.
#[derive(Debug, Default)]
pub(crate) struct WaitingWills {
    queue: VecDeque<WaitingWill>,
    bytes: usize,
}

#[derive(Debug)]
struct WaitingWill {
    session: Rc<Session>,
    message: Message,
    /// Why it was not taken.
    why: Outcome,
}

/// The will of a connection.
#[derive(Debug)]
pub(crate) struct LastWill {
    pub(crate) will: Will,
    /// Its number, if it is kept.
    pub(crate) number: Option<WillNumber>,
}

fn waiting_bytes(message: &Message) -> usize {
    size_bytes(message) + WAITING_BYTES_EACH
}

impl Router {
    /// Publishes the will of a client that is gone, when its delay is over.
    pub(crate) fn publish_will_in_time(&self, now: Instant, session: &Rc<Session>, will: LastWill) {
        if self.stage() != Stage::Running {
            return;
        }
        let LastWill { will, number } = will;
        if self.will_waits(now, session, number, &will) {
            return;
        }
        let delay = Duration::from_secs(will.delay_interval.unwrap_or(0).into());
        // One that is to wait and is not kept any more belongs to a client that is back already.
        if delay.is_zero() || session.state.has_ended.get() {
            self.publish_will(now, session, will);
        }
    }

    /// Publishes a will that is kept, or says why the store does not take it for now.
    pub(crate) fn publish_due_will(
        &self,
        now: Instant,
        client_id: &Bytes,
        due: &DueWill,
    ) -> Result<(), Outcome> {
        // An older will of the same client comes first.
        if let Some(why) = self.waits_with_will(client_id, None) {
            return Err(why);
        }
        let session = self.session_of_will(client_id, due.identity.clone());
        let (key, message) = (due.key.clone(), &due.message);
        let outcome = self.publish_kept_will(now, &session, key, due.is_permitted, message);
        match outcome {
            Outcome::Taken | Outcome::Pending => {
                self.count_received(message.qos);
                self.counters.wills.increment();
                Ok(())
            }
            // After a failure it is published when the broker is back.
            Outcome::Later
            | Outcome::Failed
            | Outcome::Refused(RefusalCause::DiskFull | RefusalCause::LogFull) => Err(outcome),
            Outcome::Refused(cause) => {
                self.count_received(message.qos);
                self.drop_will(now, &session, message, cause);
                self.forget_kept_will(due.key.clone());
                Ok(())
            }
        }
    }

    /// A will that was kept, and is not taken for now, goes on in memory.
    pub(crate) fn let_due_will_wait(
        &self,
        now: Instant,
        client_id: &Bytes,
        due: DueWill,
        why: Outcome,
    ) {
        let session = self.session_of_will(client_id, due.identity);
        self.count_received(due.message.qos);
        match due.is_permitted {
            Some(false) => {
                self.drop_will(now, &session, &due.message, RefusalCause::NotAuthorized);
            }
            _ => self.let_will_wait(now, &session, due.message, why),
        }
    }

    /// A connection that is none, for the will of one that is not there any more.
    fn session_of_will(&self, client_id: &Bytes, identity: Option<Identity>) -> Rc<Session> {
        let connection = self.open_connection();
        self.close_connection(connection.id);
        let client_id = std::str::from_utf8(client_id).unwrap_or_default();
        let identity = identity.unwrap_or_else(|| Identity::new(client_id, Rc::new(())));
        let outbound = Outbound::new(self.worked_off.get(), Waiting::new(&self.mailboxes, 0));
        let unreleased = &self.unreleased_bytes;
        let state = SessionState::new(client_id, Lifetime::Connection, outbound, unreleased);
        let state = Rc::new(state);
        Rc::new(Session::new(
            connection,
            ProtocolVersion::V5,
            identity,
            state,
        ))
    }

    /// Publishes the will of a client that is gone.
    pub(crate) fn publish_will(&self, now: Instant, session: &Rc<Session>, will: Will) {
        let mut will = will.message;
        // Without a store it is live only: nobody waits to be told whether it was kept.
        if self.store.is_none() {
            will.qos = QoS::AtMostOnce;
        }
        self.count_received(will.qos);
        self.offer_will(now, session, will);
    }

    /// Publishes waiting wills that the store takes now.
    pub(crate) fn retry_wills(&self, now: Instant) {
        self.retry_wills_of(now, None);
        self.retry_kept_wills(now);
    }

    /// Those of this client, if one is named.
    fn retry_wills_of(&self, now: Instant, client_id: Option<&Bytes>) {
        let waiting = std::mem::take(&mut *self.wills.borrow_mut());
        for WaitingWill {
            session,
            message,
            why,
        } in waiting.queue
        {
            match client_id.is_none_or(|client_id| session.client_id() == client_id) {
                true => self.offer_will(now, &session, message),
                false => self.let_will_wait(now, &session, message, why),
            }
        }
    }

    /// What becomes of a message whose client is back, while a will of its earlier connection with the
    /// same topic name is not taken: it must not be overtaken, or it would be the last that is known of the client.
    pub(crate) fn behind_own_will(
        &self,
        now: Instant,
        session: &Session,
        message: &Message,
    ) -> Option<Outcome> {
        let client_id = session.client_id();
        self.waits_with_will(client_id, Some(message))?;
        self.retry_wills_of(now, Some(client_id));
        let why = self.waits_with_will(client_id, Some(message))?;
        let class = self.route(&message.topic).class;
        let routing = &self.options.routing;
        let is_at_once = !message.retain && routing.is_delivered_at_once(class, message.qos);
        // While a disk or a log is full, what needs neither goes on.
        (why == Outcome::Later || !is_at_once).then_some(why)
    }

    /// How many wills wait.
    pub(crate) fn waiting_wills(&self) -> usize {
        self.wills.borrow().queue.len()
    }

    fn offer_will(&self, now: Instant, session: &Rc<Session>, will: Message) {
        // An older will of the same client comes first.
        match self.waits_with_will(session.client_id(), None) {
            Some(why) => self.let_will_wait(now, session, will, why),
            None => self.try_will(now, session, will),
        }
    }

    /// Why the wills of this client wait, if there are any; `message`: those with its topic name.
    fn waits_with_will(&self, client_id: &Bytes, message: Option<&Message>) -> Option<Outcome> {
        let wills = self.wills.borrow();
        let mut queue = wills.queue.iter();
        let found = queue.find(|waiting| {
            waiting.session.client_id() == client_id
                && message.is_none_or(|message| message.topic == waiting.message.topic)
        });
        found.map(|waiting| waiting.why)
    }

    fn try_will(&self, now: Instant, session: &Rc<Session>, will: Message) {
        let outcome = self.publish(now, session, None, None, &will);
        match outcome {
            Outcome::Taken | Outcome::Pending => self.counters.wills.increment(),
            Outcome::Later | Outcome::Refused(RefusalCause::DiskFull | RefusalCause::LogFull) => {
                self.let_will_wait(now, session, will, outcome);
            }
            Outcome::Refused(cause) => self.drop_will(now, session, &will, cause),
            Outcome::Failed => {
                self.drop_will(now, session, &will, RefusalCause::StoreFailed);
            }
        }
    }

    fn let_will_wait(&self, now: Instant, session: &Rc<Session>, will: Message, why: Outcome) {
        let mut wills = self.wills.borrow_mut();
        let bytes = wills.bytes + waiting_bytes(&will);
        if bytes > WAITING_BYTES_MAX {
            drop(wills);
            self.drop_will(now, session, &will, RefusalCause::DiskFull);
            return;
        }
        wills.bytes = bytes;
        wills.queue.push_back(WaitingWill {
            session: Rc::clone(session),
            message: will,
            why,
        });
    }

    fn drop_will(&self, now: Instant, session: &Session, will: &Message, cause: RefusalCause) {
        self.counters.refused.add(cause, 1);
        if let Some(left_out) = self.log_limits.will.pass(now) {
            let client_id = session.client().client_id;
            let cause = cause.label();
            tracing::warn!(client_id, topic = %will.topic, cause, left_out, "Will was dropped.");
        }
    }
}
