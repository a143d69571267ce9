//! SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11).
//!
//! | filter | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | served | the granted QoS: what was asked for | the same |
//! | `$share/…` | 0x9E | 0x80 |
//! | `$replay/…`, or too many levels | 0x8F | 0x80 |
//! | no permission | 0x87 | 0x80 |
//! | one more than the client may have, or more bytes of filters | 0x97 | 0x80 |

use std::rc::Rc;
use std::time::Instant;

use mqtt::server::{SubscribeTicket, UnsubscribeTicket};
use mqtt::{ReasonCode, RetainHandling, Subscription, SubscriptionIdentifier, TopicFilter};

use crate::client::Client;
use crate::session::{Session, Subscribed};
use crate::session_keeping::AfterCommit;
use crate::subscriptions::Entry;

/// What will be asked of the log under these filters is not there yet.
const REPLAY_PREFIX: &str = "$replay/";

impl Client {
    pub(crate) fn handle_subscribe(
        &mut self,
        now: Instant,
        ticket: SubscribeTicket,
        subscriptions: &[Subscription],
        identifier: Option<SubscriptionIdentifier>,
    ) {
        let Some(session) = self.session().filter(|session| !session.has_ended.get()) else {
            return;
        };
        let codes = subscriptions
            .iter()
            .map(
                |subscription| match self.check(&session, &subscription.filter) {
                    Ok(()) => self.subscribe(&session, subscription, identifier),
                    Err(code) => code,
                },
            )
            .collect();
        self.router.forget_routes();
        let answer = AfterCommit::Subscribed(Rc::clone(&self.connection), ticket, codes);
        self.router.when_written(now, &session.state, answer);
    }

    /// Whether the client may have a subscription with this filter.
    fn check(&self, session: &Session, filter: &TopicFilter) -> Result<(), ReasonCode> {
        let limits = &self.router.options.limits;
        let text = filter.filter();
        if filter.share_name().is_some() {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        if text.starts_with(REPLAY_PREFIX) || text.split('/').count() > limits.topic_levels() {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let client = session.client();
        if !self.router.authorizer.may_subscribe(client, filter) {
            return Err(ReasonCode::NotAuthorized);
        }
        match session.state.filters.borrow().fits(filter, limits) {
            true => Ok(()),
            false => Err(ReasonCode::QuotaExceeded),
        }
    }

    fn subscribe(
        &mut self,
        session: &Rc<Session>,
        subscription: &Subscription,
        identifier: Option<SubscriptionIdentifier>,
    ) -> ReasonCode {
        let Subscription { filter, options } = subscription;
        // It must not keep the whole packet.
        let filter = filter.detach();
        let options = *options;
        let entry = Entry {
            connection: self.connection.id,
            subscriber: Rc::clone(session),
            options,
            identifier,
        };
        let mut subscriptions = self.router.subscriptions.borrow_mut();
        let is_new = subscriptions.insert(&filter, entry);
        drop(subscriptions);
        let subscribed = Subscribed {
            options,
            identifier,
            from: self.router.worked_off.get().next(),
            earlier: None,
        };
        let mut filters = session.state.filters.borrow_mut();
        filters.insert(filter.clone(), subscribed);
        drop(filters);
        self.router.read_unwanted(&session.state);
        let wants_retained = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if wants_retained {
            self.retained.begin(filter, options, identifier);
        }
        ReasonCode::granted(options.qos)
    }

    pub(crate) fn handle_unsubscribe(
        &mut self,
        now: Instant,
        ticket: UnsubscribeTicket,
        filters: &[TopicFilter],
    ) {
        let Some(session) = self.session().filter(|session| !session.has_ended.get()) else {
            return;
        };
        let codes = filters
            .iter()
            .map(|filter| self.unsubscribe(&session, filter))
            .collect();
        self.router.forget_routes();
        let answer = AfterCommit::Unsubscribed(Rc::clone(&self.connection), ticket, codes);
        self.router.when_written(now, &session.state, answer);
    }

    fn unsubscribe(&mut self, session: &Session, filter: &TopicFilter) -> ReasonCode {
        if !session.state.filters.borrow_mut().remove(filter) {
            return ReasonCode::NoSubscriptionExisted;
        }
        let mut subscriptions = self.router.subscriptions.borrow_mut();
        subscriptions.remove(filter, self.connection.id);
        self.retained.end(filter);
        ReasonCode::Success
    }
}
