//! SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11).
//!
//! | filter | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | served | the granted QoS: what was asked for | the same |
//! | `$share/…` that asks for a replay | 0x9E | 0x80 |
//! | `$share/…` of more than 1,024 bytes, or one group more than there may be | 0x97 | 0x80 |
//! | too many levels | 0x8F | 0x80 |
//! | `$share/…` that is no shared subscription | the packet is malformed | 0x80 |
//! | no permission | 0x87 | 0x80 |
//! | one more than the client may have, or more bytes of filters | 0x97 | 0x80 |
//!
//! What comes from the log first: [`replay_subscribe`](crate::replay_subscribe).

use std::rc::Rc;
use std::time::Instant;

use mqtt::server::{SubscribeTicket, UnsubscribeTicket};
use mqtt::{ReasonCode, RetainHandling, Subscription, SubscriptionIdentifier, TopicFilter};

use crate::causes::Limit;
use crate::client::Client;
use crate::groups::GROUP_FILTER_BYTES_MAX;
use crate::replay_subscribe::{AskedFrom, Refused, asked, is_reserved, named_by, reason};
use crate::router::now;
use crate::session::{Session, Subscribed};
use crate::session_keeping::AfterCommit;
use crate::subscriptions::Entry;

impl Client {
    pub(crate) fn handle_subscribe(
        &mut self,
        now: Instant,
        ticket: SubscribeTicket,
        subscriptions: &[Subscription],
        identifier: Option<SubscriptionIdentifier>,
        from: AskedFrom,
    ) {
        let Some(session) = self.session().filter(|session| !session.has_ended.get()) else {
            return;
        };
        let mut refused = Vec::new();
        let codes = subscriptions.iter().map(|subscription| {
            let made = self.try_subscribe(&session, subscription, identifier, &from);
            made.unwrap_or_else(|why| {
                let code = why.code;
                refused.push(why);
                code
            })
        });
        let codes = codes.collect();
        self.router.forget_routes();
        let answer = AfterCommit::Subscribed(Rc::clone(&session), ticket, codes, reason(refused));
        self.router.when_written(now, &session.state, answer);
    }

    fn try_subscribe(
        &mut self,
        session: &Rc<Session>,
        subscription: &Subscription,
        identifier: Option<SubscriptionIdentifier>,
        from: &AskedFrom,
    ) -> Result<ReasonCode, Refused> {
        let (subscription, from) = asked(subscription, from)?;
        let is_shared = subscription.filter.share_name().is_some();
        if is_shared && from.is_some() {
            return Err(ReasonCode::SharedSubscriptionsNotSupported.into());
        }
        self.check(session, &subscription.filter)?;
        self.router.subscribes_to_sys(&subscription.filter);
        if is_shared {
            let (filter, options) = (subscription.filter.detach(), subscription.options);
            self.router
                .subscribe_shared(session, &filter, options, identifier);
            return Ok(ReasonCode::granted(options.qos));
        }
        if let Some(from) = from {
            return self.subscribe_replay(session, &subscription, identifier, from);
        }
        let Subscription { filter, options } = &subscription;
        let mut outbound = session.state.outbound.borrow_mut();
        if outbound.replays.change(filter, *options, identifier) {
            return Ok(ReasonCode::granted(options.qos));
        }
        drop(outbound);
        Ok(self.subscribe(session, &subscription, identifier))
    }

    /// Whether the client may have a subscription with this filter.
    fn check(&self, session: &Session, filter: &TopicFilter) -> Result<(), ReasonCode> {
        let limits = &self.router.options.limits;
        let text = filter.filter();
        let is_shared = filter.share_name().is_some();
        let hits = &self.router.counters.limits;
        if text.split('/').count() > limits.topic_levels() {
            hits.add(Limit::TopicLevelsMax, 1);
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if !filter.is_served() || (is_shared && is_reserved(filter)) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let client = session.client();
        // Whoever may have messages may have a share of them.
        let inner = is_shared.then(|| text.parse().ok()).flatten();
        let asked = inner.as_ref().unwrap_or(filter);
        if !self.router.authorizer.may_subscribe(client, asked) {
            return Err(ReasonCode::NotAuthorized);
        }
        let (ordinary, shared) = (
            session.state.filters.borrow(),
            session.state.shared.borrow(),
        );
        let fits = match is_shared {
            false => ordinary.fits(filter, &shared, limits),
            true => {
                let is_short = filter.as_str().len() <= GROUP_FILTER_BYTES_MAX;
                is_short
                    && shared.fits(filter, &ordinary, limits)
                    && self.router.has_room_for_group(filter)
            }
        };
        match fits {
            true => Ok(()),
            false => {
                hits.add(Limit::SubscriptionsPerClientMax, 1);
                Err(ReasonCode::QuotaExceeded)
            }
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
            let router = &self.router;
            router.begin_retained(now(), &session.state, filter, options, identifier);
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
        let Some(filter) = named_by(filter) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        if filter.share_name().is_some() {
            return match self.router.unsubscribe_shared(&session.state, &filter) {
                true => ReasonCode::Success,
                false => ReasonCode::NoSubscriptionExisted,
            };
        }
        let mut outbound = session.state.outbound.borrow_mut();
        let was_replayed = outbound.replays.end_with_filter(&filter);
        drop(outbound);
        if !session.state.filters.borrow_mut().remove(&filter) && !was_replayed {
            return ReasonCode::NoSubscriptionExisted;
        }
        let mut subscriptions = self.router.subscriptions.borrow_mut();
        subscriptions.remove(&filter, self.connection.id);
        session.state.retained.borrow_mut().end(&filter);
        ReasonCode::Success
    }
}
