//! Wills: messages that the broker publishes in the name of a client that is gone (3.1.2.5).
//!
//! - A will is published when the connection ends in any other way than by the client's good-bye, or,
//!   if it has a delay, when that is over or the session ends, and the client is not back (3.1.3.2.2).
//! - It is not published when the broker shuts down: no client has failed then, and a thousand
//!   reports that one did would be kept and replicated as facts. MQTT 5 allows it (3.1.2.5, a
//!   server that shuts down may defer wills until it is back); clients that come back bring theirs.
//! - A degraded broker sends it to the subscribers of the moment.
//! - It takes the publish path like any message. Nobody sends it again when the store does not take
//!   it for now, so it waits, within a bound.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::{Message, QoS, Will};

use crate::probe::RefusalCause;
use crate::publication::size_bytes;
use crate::publish::Outcome;
use crate::router::{Router, Stage};
use crate::session::{Session, SessionState};

/// Bytes of wills that wait for the store.
const WAITING_BYTES_MAX: usize = 1_048_576;

/// What a waiting will costs beside its message.
const WAITING_BYTES_EACH: usize = 512;

/// Wills that the store does not take for now.
#[derive(Debug, Default)]
pub(crate) struct WaitingWills {
    queue: VecDeque<(Rc<Session>, Message)>,
    bytes: usize,
}

fn waiting_bytes(message: &Message) -> usize {
    size_bytes(message) + WAITING_BYTES_EACH
}

/// A will that waits for its client.
#[derive(Debug)]
pub(crate) struct DelayedWill {
    at: Option<Instant>,
    /// The connection that left it.
    session: Rc<Session>,
    will: Box<Will>,
}

impl Router {
    /// Publishes the will of a client that is gone, when its delay is over.
    pub(crate) fn publish_will_in_time(&self, now: Instant, session: &Rc<Session>, will: Will) {
        let delay = Duration::from_secs(will.delay_interval.unwrap_or(0).into());
        let state = &session.state;
        if delay.is_zero() || state.has_ended.get() {
            return self.publish_will(now, session, will);
        }
        if state.is_attached() {
            // Its client is back already.
            return;
        }
        let at = [now.checked_add(delay), state.expires_at.get()];
        let delayed = DelayedWill {
            at: at.into_iter().flatten().min(),
            session: Rc::clone(session),
            will: Box::new(will),
        };
        *state.will.borrow_mut() = Some(delayed);
    }

    /// Publishes the will that waits for this client if its time has come, or in any case.
    pub(crate) fn publish_delayed_will(&self, now: Instant, state: &SessionState, is_due: bool) {
        let mut waiting = state.will.borrow_mut();
        let due = waiting.take_if(|will| is_due || will.at.is_some_and(|at| at <= now));
        drop(waiting);
        if let Some(DelayedWill { session, will, .. }) = due
            && self.stage() == Stage::Running
        {
            self.publish_will(now, &session, *will);
        }
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
        let waiting = std::mem::take(&mut *self.wills.borrow_mut());
        for (session, will) in waiting.queue {
            self.offer_will(now, &session, will);
        }
    }

    /// How many wills wait.
    pub(crate) fn waiting_wills(&self) -> usize {
        self.wills.borrow().queue.len()
    }

    fn offer_will(&self, now: Instant, session: &Rc<Session>, will: Message) {
        // An older will of the same client comes first.
        let client_id = session.client_id();
        let is_of_client = |(waiting, _): &(Rc<Session>, Message)| waiting.client_id() == client_id;
        let is_second = self.wills.borrow().queue.iter().any(is_of_client);
        if is_second {
            self.let_will_wait(now, session, will);
        } else {
            self.try_will(now, session, will);
        }
    }

    fn try_will(&self, now: Instant, session: &Rc<Session>, will: Message) {
        match self.publish(now, session, None, None, &will) {
            Outcome::Taken | Outcome::Pending => self.counters.wills.increment(),
            Outcome::Later | Outcome::Refused(RefusalCause::DiskFull | RefusalCause::LogFull) => {
                self.let_will_wait(now, session, will);
            }
            Outcome::Refused(cause) => self.drop_will(now, session, &will, cause),
            Outcome::Failed => {
                self.drop_will(now, session, &will, RefusalCause::StoreFailed);
            }
        }
    }

    fn let_will_wait(&self, now: Instant, session: &Rc<Session>, will: Message) {
        let mut wills = self.wills.borrow_mut();
        let bytes = wills.bytes + waiting_bytes(&will);
        if bytes > WAITING_BYTES_MAX {
            drop(wills);
            self.drop_will(now, session, &will, RefusalCause::DiskFull);
            return;
        }
        wills.bytes = bytes;
        wills.queue.push_back((Rc::clone(session), will));
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
