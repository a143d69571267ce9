//! The way of a published message: permission, retained budget, log, subscribers.
//!
//! Invariants (`rules.md` 1.4, 1.6):
//! - A message is refused before anything was done with it, or done with whole.
//! - A message of QoS 1 that is logged is delivered and acknowledged after its commit (its publisher
//!   earlier if the log says so), a retained one of QoS 0 is delivered after its commit, too: what
//!   is retained and what subscribers saw last must be the same. All others go at once.
//! - Without a store nothing is promised: QoS 1 that belongs into a log is refused, QoS 0 is live.
//! - What goes at once never overtakes a retained message of the same client under the same topic
//!   name: it rides with that one's commit (MQTT 5, 4.6, Message Ordering).
//!
//! The subscribers of a message are those of the moment of its delivery. One that is logged, not
//! retained, and that nobody subscribes to when it is published is not kept for that moment: who
//! subscribes before its commit reads it from the log.

use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::server::PublishTicket;
use mqtt::{Message, PacketId, QoS};
use storage::{AppendError, Appended, JournalKey, LogId, LogPartition, PartitionId};

use crate::ahead::Place;
use crate::broker::RunError;
use crate::causes::{DropCause, Limit, RefusalCause};
use crate::log_routing::{Destination, Durability, StoredLog, TopicClass};
use crate::publication::{Publication, record_of, size_bytes};
use crate::received::{RECEIVED, received_key};
use crate::route::Route;
use crate::router::Router;
use crate::session::Session;

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The store has failed; the broker ends and acknowledges nothing more.
    Failed,
    /// Too much is on its way to flash. Nothing was done; try again after the next commit.
    Later,
    /// It is acknowledged with its commit.
    Pending,
    /// Nothing was done.
    Refused(RefusalCause),
    /// It is to be acknowledged now.
    Taken,
}

/// A publish and what was found out about it.
struct Publish<'p> {
    now: Instant,
    session: &'p Rc<Session>,
    ticket: Option<PublishTicket>,
    /// Of a message of QoS 2, so that it is taken once.
    received: Option<PacketId>,
    /// The entry of a will that is kept: it goes with the commit of the message.
    kept_will: Option<JournalKey>,
    message: &'p Message,
    route: Rc<Route>,
}

/// Who may publish a message.
enum Permission {
    /// Whom the authorizer says so.
    Asked,
    /// It has said so before.
    Known(bool),
}

impl Router {
    /// Publishes what a client sent, or its will, which has no ticket.
    pub(crate) fn publish(
        &self,
        now: Instant,
        session: &Rc<Session>,
        ticket: Option<PublishTicket>,
        received: Option<PacketId>,
        message: &Message,
    ) -> Outcome {
        let publish = Publish {
            now,
            session,
            ticket,
            received,
            kept_will: None,
            message,
            route: self.route(&message.topic),
        };
        self.publish_as(&publish, &Permission::Asked)
    }

    /// Publishes a will that is kept under `key`, and removes it from there with the same commit.
    /// `is_permitted`: whether its client might publish it, if the authorizer cannot be asked again.
    pub(crate) fn publish_kept_will(
        &self,
        now: Instant,
        session: &Rc<Session>,
        key: JournalKey,
        is_permitted: Option<bool>,
        message: &Message,
    ) -> Outcome {
        let publish = Publish {
            now,
            session,
            ticket: None,
            received: None,
            kept_will: Some(key),
            message,
            route: self.route(&message.topic),
        };
        let permission = is_permitted.map_or(Permission::Asked, Permission::Known);
        self.publish_as(&publish, &permission)
    }

    fn publish_as(&self, publish: &Publish<'_>, permission: &Permission) -> Outcome {
        let (session, route) = (publish.session, &publish.route);
        let (qos, retain) = (publish.message.qos, publish.message.retain);
        let destination = self.options.routing.destination(route.class, qos, retain);
        if let Destination::Refused = destination {
            if let TopicClass::TooManyLevels = route.class {
                self.counters.limits.add(Limit::TopicLevelsMax, 1);
            }
            return Outcome::Refused(RefusalCause::TopicName);
        }
        let is_permitted = match permission {
            Permission::Known(is_permitted) => *is_permitted,
            Permission::Asked => {
                let client = session.client();
                self.authorizer
                    .may_publish(client, &route.topic, qos, retain)
            }
        };
        if !is_permitted {
            return Outcome::Refused(RefusalCause::NotAuthorized);
        }
        if publish.received.is_some() && session.state.received.borrow().is_full() {
            return Outcome::Refused(RefusalCause::Unreleased);
        }
        match destination {
            // Without a store nothing is retained, and QoS 0 may be discarded instead (3.3.1.3).
            Destination::Log(log) if retain && self.retains(qos) => {
                self.publish_retained(publish, log)
            }
            Destination::Log(log) => self.publish_logged(publish, log),
            Destination::Live | Destination::Refused => self.publish_live(publish),
        }
    }

    fn retains(&self, qos: QoS) -> bool {
        self.store.is_some() || qos > QoS::AtMostOnce
    }

    /// To subscribers only.
    fn publish_live(&self, publish: &Publish<'_>) -> Outcome {
        let ahead = self.not_to_be_overtaken(publish);
        let waits = ahead.is_some() || publish.kept_will.is_some();
        if waits && self.is_full_of_riders() {
            return Outcome::Later;
        }
        let Ok(ahead) = self.behind_kept_will(publish, ahead) else {
            return Outcome::Failed;
        };
        self.counters.live_only.increment();
        self.deliver_or_ride(publish, ahead)
    }

    fn publish_logged(&self, publish: &Publish<'_>, log: &StoredLog) -> Outcome {
        if publish.message.qos == QoS::AtMostOnce {
            return self.publish_logged_at_once(publish, log);
        }
        match self.append(publish, log) {
            Ok(appended) => self.await_commit_of(publish, log, appended),
            Err(outcome) => outcome,
        }
    }

    /// QoS 0 that a log takes. A full disk does not keep it from its subscribers, nor does a store
    /// that is not there.
    fn publish_logged_at_once(&self, publish: &Publish<'_>, log: &StoredLog) -> Outcome {
        let mut ahead = self.not_to_be_overtaken(publish);
        let waits = ahead.is_some() || publish.kept_will.is_some();
        if waits && self.is_full_of_riders() {
            return Outcome::Later;
        }
        match self.append(publish, log) {
            Ok(appended) => {
                self.newest_at_once.set(appended.commit);
                if publish.kept_will.is_some() {
                    ahead = Some((appended.commit, appended.partition));
                }
                return self.deliver_or_ride(publish, ahead);
            }
            Err(Outcome::Refused(RefusalCause::DiskFull)) => {
                self.counters.dropped.add(DropCause::DiskFull, 1);
            }
            Err(Outcome::Refused(RefusalCause::LogFull)) => {
                self.counters.dropped.add(DropCause::LogFull, 1);
            }
            Err(Outcome::Refused(RefusalCause::Degraded)) => {
                self.counters.dropped.add(DropCause::Degraded, 1);
            }
            Err(outcome) => return outcome,
        }
        match self.behind_kept_will(publish, ahead) {
            Ok(ahead) => self.deliver_or_ride(publish, ahead),
            Err(_) => Outcome::Failed,
        }
    }

    /// A will that is kept and goes to no log is not kept any more before anybody has it. Where it waits
    /// for that.
    fn behind_kept_will(
        &self,
        publish: &Publish<'_>,
        ahead: Option<Place>,
    ) -> Result<Option<Place>, AppendError> {
        let (Some(store), Some(key)) = (&self.store, &publish.kept_will) else {
            return Ok(ahead);
        };
        let commit = store.put_journal_entry(key.clone(), None, Duration::ZERO)?;
        let (log, partition) = (LogId(0), PartitionId(0));
        Ok(Some((commit, LogPartition { log, partition })))
    }

    fn publish_retained(&self, publish: &Publish<'_>, log: &StoredLog) -> Outcome {
        let Publish {
            now,
            message,
            route,
            ..
        } = publish;
        let cost = match message.payload.is_empty() {
            true => 0,
            false => size_bytes(message),
        };
        let fits = |cost| {
            let topic = &route.topic_bytes;
            self.retained.borrow_mut().fits(*now, topic, cost)
        };
        if !fits(cost) {
            let limit = self.retained.borrow().limit_for(cost);
            self.counters.limits.add(limit, 1);
            return Outcome::Refused(RefusalCause::RetainedFull);
        }
        let appended = match self.append(publish, log) {
            Ok(appended) => appended,
            Err(outcome) => return outcome,
        };
        let mut retained = self.retained.borrow_mut();
        retained.expect(&route.topic_bytes, cost);
        self.count_retained(&retained);
        drop(retained);
        if self
            .options
            .routing
            .is_delivered_at_once(route.class, message.qos)
        {
            let place = (appended.commit, appended.partition);
            self.set_ahead(publish, place);
        }
        self.await_commit_of(publish, log, appended)
    }

    /// Gives the message its place in the log.
    fn append(&self, publish: &Publish<'_>, log: &StoredLog) -> Result<Appended, Outcome> {
        let Some(store) = &self.store else {
            return Err(Outcome::Refused(RefusalCause::Degraded));
        };
        let (session, topic) = (publish.session, &publish.route.topic);
        let record = record_of(
            publish.message,
            publish.route.topic_bytes.clone(),
            session.client_id().clone(),
            || store.now_ms(),
        );
        let mut buffer = self.key.borrow_mut();
        let key = log.key.key(session.client_id(), topic, &mut buffer);
        let state = &session.state;
        let received = publish.received.filter(|_| state.outlives_its_connection());
        let taken = received.map(|id| (received_key(state, id), Some(RECEIVED.to_vec())));
        let published = publish.kept_will.clone().map(|key| (key, None));
        let entries = taken.into_iter().chain(published).collect();
        let is_written = received.is_some();
        match store.append_with(log.log, key, &record, entries) {
            Ok(appended) => {
                if let Some(packet_id) = publish.received {
                    let mut received = state.received.borrow_mut();
                    received.insert(packet_id, appended.commit, is_written);
                }
                self.counters.published.increment();
                self.newest_appended.set(appended.commit);
                Ok(appended)
            }
            Err(AppendError::QueueFull) => Err(Outcome::Later),
            Err(AppendError::DiskFull { .. }) => Err(Outcome::Refused(RefusalCause::DiskFull)),
            Err(AppendError::LogFull { .. }) => Err(Outcome::Refused(RefusalCause::LogFull)),
            Err(error @ (AppendError::TooLarge { .. } | AppendError::UnknownLog { .. })) => {
                if let Some(left_out) = self.log_limits.not_stored.pass(publish.now) {
                    tracing::error!(%topic, %error, left_out, "Message cannot be stored.");
                }
                Err(Outcome::Refused(RefusalCause::Unstorable))
            }
            Err(AppendError::Poisoned(problem)) => {
                self.fail(RunError::StoreFailed { problem });
                Err(Outcome::Failed)
            }
            Err(AppendError::Closing) => {
                self.fail(RunError::StoreClosed);
                Err(Outcome::Failed)
            }
        }
    }

    /// Delivers and acknowledges when the record is durable; acknowledges now if the log says so.
    fn await_commit_of(
        &self,
        publish: &Publish<'_>,
        log: &StoredLog,
        appended: Appended,
    ) -> Outcome {
        let acknowledge = match log.durability {
            Durability::Commit => publish.acknowledge(),
            Durability::Interval => None,
        };
        let outcome = match acknowledge {
            Some(_) => Outcome::Pending,
            None => Outcome::Taken,
        };
        let publication = publish.publication_for_later();
        if publication.is_none() {
            self.newest_unwanted.set(appended.commit);
        }
        if acknowledge.is_some() || publication.is_some() {
            let mut pending = self.pending.borrow_mut();
            pending.push(appended, acknowledge, publication);
            let is_everybody_waiting = pending.is_everybody_waiting();
            drop(pending);
            if let Some(store) = self.store.as_ref().filter(|_| is_everybody_waiting) {
                store.hurry();
            }
            self.count_pending();
        }
        outcome
    }

    /// Delivers at once, unless the message has to stay behind another one.
    fn deliver_or_ride(&self, publish: &Publish<'_>, ahead: Option<Place>) -> Outcome {
        let Some(publication) = publish.publication_for_later() else {
            return Outcome::Taken;
        };
        let Some(ahead) = ahead else {
            self.deliver(publish.now, &publication, &publish.route, None);
            return Outcome::Taken;
        };
        let acknowledge = publish.acknowledge();
        let outcome = match acknowledge {
            Some(_) => Outcome::Pending,
            None => Outcome::Taken,
        };
        let mut pending = self.pending.borrow_mut();
        let place = pending.push_rider(ahead, acknowledge, publication);
        drop(pending);
        self.set_ahead(publish, place);
        self.count_pending();
        outcome
    }

    /// Where an earlier message waits that this one must not overtake.
    fn not_to_be_overtaken(&self, publish: &Publish<'_>) -> Option<Place> {
        let mut ahead = publish.session.ahead.borrow_mut();
        ahead.place(&publish.route.topic_bytes, self.worked_off.get())
    }

    fn set_ahead(&self, publish: &Publish<'_>, place: Place) {
        let mut ahead = publish.session.ahead.borrow_mut();
        ahead.set(&publish.route.topic_bytes, place, self.worked_off.get());
    }

    fn is_full_of_riders(&self) -> bool {
        let max = self.options.limits.commit_queue_bytes_max;
        self.pending.borrow().rider_bytes() >= max
    }
}

impl Publish<'_> {
    fn acknowledge(&self) -> Option<(Rc<Session>, PublishTicket)> {
        self.ticket.map(|ticket| (Rc::clone(self.session), ticket))
    }

    /// What is to be delivered, `None` when nobody wants it.
    fn publication_for_later(&self) -> Option<Publication> {
        let is_wanted = self.message.retain || !self.route.recipients.is_empty();
        is_wanted.then(|| {
            let publisher = self.session.client_id().clone();
            Publication::new(self.now, self.message, &self.route.topic, publisher)
        })
    }
}
