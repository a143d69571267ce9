//! SUBSCRIBE and UNSUBSCRIBE of replays.
//!
//! A replay is a subscription to a filter that begins in the past. It is asked for with the user
//! property `replay-from` (MQTT 5), for all filters of the packet, or with `$replay/<from>/<filter>`
//! in the place of the filter; there it says more than the property. Both forms, and `<filter>` alone,
//! name the same subscription when it ends.
//!
//! | refused | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | an unknown `<from>` in a filter, or no filter behind it | 0x8F | 0x80 |
//! | an unknown `replay-from`, or two of them | 0x83 | 0x80 |
//! | there is no log now | 0x83 | 0x80 |
//! | no permission | 0x87 | 0x80 |
//! | one more than a session may have | 0x97 | 0x80 |
//!
//! MQTT 5 clients are told in words what is allowed.

use std::rc::Rc;

use mqtt::{
    ReasonCode, Subscription, SubscriptionIdentifier, TopicFilter, UserProperty, Utf8String,
};

use crate::client::Client;
use crate::place::Place;
use crate::replay_from::{LAST_MAX, ReplayFrom};
use crate::replays::{REPLAYS_MAX, ReplayAt};
use crate::session::Session;

/// Name of the user property.
const PROPERTY: &str = "replay-from";

/// What filters begin with that ask for a replay.
const PREFIX: &str = "$replay/";

/// What a SUBSCRIBE says about replays.
pub(crate) type AskedFrom = Option<Result<ReplayFrom, Refused>>;

/// A subscription that is not made.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) code: ReasonCode,
    /// Why, in words.
    pub(crate) text: Option<String>,
}

impl From<ReasonCode> for Refused {
    fn from(code: ReasonCode) -> Self {
        Self { code, text: None }
    }
}

impl Refused {
    fn new(code: ReasonCode, text: impl ToString) -> Self {
        Self {
            code,
            text: Some(text.to_string()),
        }
    }
}

/// What the user properties of a SUBSCRIBE say about replays.
pub(crate) fn replay_from(user_properties: &[UserProperty]) -> AskedFrom {
    let named = |property: &&UserProperty| property.name.as_str() == PROPERTY;
    let mut values = user_properties.iter().filter(named);
    let value = values.next()?;
    let code = ReasonCode::ImplementationSpecificError;
    if values.next().is_some() {
        return Some(Err(Refused::new(code, "replay-from stands there twice")));
    }
    let from = value.value.as_str().parse();
    Some(from.map_err(|error: crate::replay_from::ReplayFromError| Refused::new(code, error)))
}

/// The parts of `$replay/<from>/<filter>`; `None` for any other filter.
fn parts(filter: &TopicFilter) -> Option<(&str, Option<&str>)> {
    let rest = filter.as_str().strip_prefix(PREFIX)?;
    Some(match rest.split_once('/') {
        Some((from, filter)) => (from, Some(filter)),
        None => (rest, None),
    })
}

/// Whether this filter asks for a replay, or would.
pub(crate) fn is_reserved(filter: &TopicFilter) -> bool {
    filter.filter().starts_with(PREFIX)
}

fn filter_of(text: &str) -> Option<TopicFilter> {
    text.parse().ok().filter(|filter| !is_reserved(filter))
}

/// The filter of the subscription that an UNSUBSCRIBE names.
pub(crate) fn named_by(filter: &TopicFilter) -> Option<TopicFilter> {
    match parts(filter) {
        None => Some(filter.clone()),
        Some((_, replayed)) => filter_of(replayed?),
    }
}

/// A subscription that is asked for, without what only says where it begins.
///
/// # Errors
/// It begins nowhere, or has no filter.
pub(crate) fn asked(
    subscription: &Subscription,
    from: &AskedFrom,
) -> Result<(Subscription, Option<ReplayFrom>), Refused> {
    let Some((from, filter)) = parts(&subscription.filter) else {
        return Ok((subscription.clone(), from.clone().transpose()?));
    };
    let code = ReasonCode::TopicFilterInvalid;
    let from = from.parse();
    let from =
        from.map_err(|error: crate::replay_from::ReplayFromError| Refused::new(code, error))?;
    let filter = filter.and_then(filter_of);
    let filter =
        filter.ok_or_else(|| Refused::new(code, "a topic filter is to follow $replay/<from>/"))?;
    let subscription = Subscription {
        filter,
        options: subscription.options,
    };
    Ok((subscription, Some(from)))
}

/// The words for a client whose subscriptions are refused: those for the first.
pub(crate) fn reason(refused: Vec<Refused>) -> mqtt::ProblemInformation {
    let text = refused.into_iter().find_map(|refused| refused.text);
    mqtt::ProblemInformation {
        reason_string: text.and_then(|text| Utf8String::try_from(text).ok()),
        user_properties: Vec::new(),
    }
}

impl Client {
    /// Begins a replay of a filter that may be subscribed to.
    ///
    /// # Errors
    /// There is no log, no permission, or one too many.
    pub(crate) fn subscribe_replay(
        &mut self,
        session: &Rc<Session>,
        subscription: &Subscription,
        identifier: Option<SubscriptionIdentifier>,
        from: ReplayFrom,
    ) -> Result<ReasonCode, Refused> {
        let Subscription { filter, options } = subscription;
        let filter = filter.detach();
        let router = &self.router;
        let Some(store) = &router.store else {
            let code = ReasonCode::ImplementationSpecificError;
            return Err(Refused::new(
                code,
                "no log can be replayed now: the broker is degraded",
            ));
        };
        if !router.authorizer.may_replay(session.client(), &filter) {
            return Err(Refused::new(
                ReasonCode::NotAuthorized,
                "no permission to replay this filter",
            ));
        }
        let worked_off = router.worked_off.get();
        let mut outbound = session.state.outbound.borrow_mut();
        let others = outbound.replays.running().filter(|r| r.filter != filter);
        if others.count() >= REPLAYS_MAX {
            let text = format!("a session has at most {REPLAYS_MAX} replays at one time");
            return Err(Refused::new(ReasonCode::QuotaExceeded, text));
        }
        // What it owes already is not lost.
        let mut at_latest = Place::beginning_of(worked_off.next());
        if let Some(earlier) = outbound.replays.with_filter(&filter) {
            let under_way = outbound.replayed_qos1();
            let mut positions = outbound.replays.positions(&under_way).into_iter();
            let at = positions.find(|replay| replay.number == earlier.number);
            let owed = match at.map(|replay| replay.at) {
                Some(ReplayAt::Place(place)) => place.max(earlier.at_latest),
                _ => earlier.at_latest,
            };
            at_latest = at_latest.min(owed);
        }
        let mut filters = session.state.filters.borrow_mut();
        if let Some(began) = filters.from(&filter) {
            let owed = outbound.position(worked_off);
            at_latest = at_latest.min(owed.max(Place::beginning_of(began)));
            filters.remove(&filter);
            let mut subscriptions = router.subscriptions.borrow_mut();
            subscriptions.remove(&filter, self.connection.id);
            session.state.retained.borrow_mut().end(&filter);
        }
        drop(filters);
        outbound.replays.end_running(&filter);
        let at = match from {
            ReplayFrom::Ago(time) => ReplayAt::Time {
                at_ms: ms_before(store.now().ms, time),
            },
            ReplayFrom::Time { at_ms } => ReplayAt::Time { at_ms },
            ReplayFrom::Commit(commit) => {
                ReplayAt::Place(Place::beginning_of(commit).min(at_latest))
            }
            ReplayFrom::Last(count) => ReplayAt::Last {
                count: count.min(LAST_MAX),
            },
        };
        let replays = &mut outbound.replays;
        replays.begin(filter, *options, identifier, (at, at_latest));
        Ok(ReasonCode::granted(options.qos))
    }
}

fn ms_before(now_ms: i64, time: std::time::Duration) -> i64 {
    let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    now_ms.saturating_sub(ms)
}
