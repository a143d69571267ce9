//! One scan of a part of the log: who takes part, and who of them gets what was read.
//!
//! ```text
//! places:   a c ──────── d ────────────── b     a waits longest
//! the scan: └────────────┤                      for a and c; it ends where d begins
//! ```
//!
//! Who takes part is settled before anything is read, because only what these want is read.
//!
//! Invariants: a session that gets again what an earlier connection sent takes part only where
//! everything is read. A subscription that is made while a scan goes on is none of its wishes: its
//! session leaves the scan before the first commit that the subscription asks for.

use std::rc::Rc;

use bytes::Bytes;
use mqtt::{TopicName, Utf8String};
use storage::CommitNumber;

use crate::place::Place;
use crate::route::{Route, RouteCache, recipients};
use crate::router::Router;
use crate::session::{Session, SessionState};
use crate::subscriptions::{Entry, Subscriptions};
use crate::wishes::Wishes;

/// A session that is further ahead joins when the scan has come to it: what it wants need not be
/// read before.
const NEAR_COMMITS: u64 = 1_024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) from: CommitNumber,
    /// Where a session waits that is too far ahead to take part.
    pub(crate) until: Option<CommitNumber>,
    /// Everything is read, because somebody waits for what was sent before.
    is_whole: bool,
    readers: Vec<Rc<Session>>,
    /// Those that get only what an earlier connection sent.
    pub(crate) again: Vec<Rc<Session>>,
    /// The subscriptions of all others, and what was found for topic names.
    subscriptions: Subscriptions<Rc<Session>>,
    routes: RouteCache,
    /// The router's changes, and those of the readers' filters, when that was so.
    changes: u64,
    filter_changes: u64,
    /// Filters have changed since it began.
    has_changed: bool,
}

impl Scan {
    /// A scan from `from` on, where one of the sessions `behind` waits.
    pub(crate) fn begin(
        router: &Router,
        from: CommitNumber,
        first: &SessionState,
        behind: impl Iterator<Item = Rc<SessionState>>,
    ) -> Self {
        let is_whole = first.outbound.borrow().gets_again();
        let far = CommitNumber(from.0.saturating_add(NEAR_COMMITS));
        let (mut readers, mut again, mut until) = (Vec::new(), Vec::new(), None);
        for state in behind {
            let Some(session) = state.session() else {
                continue;
            };
            let mut outbound = state.outbound.borrow_mut();
            let gets_again = outbound.gets_again();
            match outbound.reads_from().filter(|at| *at >= from) {
                Some(_) if gets_again && !is_whole => {}
                Some(at) if at >= far => {
                    until = Some(until.map_or(at, |until: CommitNumber| until.min(at)));
                }
                Some(_) => {
                    outbound.begin_scan();
                    state.filters.borrow_mut().begin_scan();
                    if gets_again {
                        again.push(Rc::clone(&session));
                    }
                    readers.push(session);
                }
                None => {}
            }
        }
        let mut scan = Self {
            from,
            until,
            is_whole,
            readers,
            again,
            subscriptions: Subscriptions::default(),
            routes: RouteCache::default(),
            changes: router.changes.get(),
            filter_changes: 0,
            has_changed: false,
        };
        scan.look_at_filters(scan.filter_changes());
        scan
    }

    /// What is to be read for those that take part.
    pub(crate) fn wishes(&self) -> Wishes {
        if self.is_whole {
            return Wishes::any();
        }
        let mut wishes = Wishes::default();
        for reader in &self.readers {
            wishes.add(&reader.state.filters.borrow());
        }
        wishes
    }

    fn filter_changes(&self) -> u64 {
        let changes = self
            .readers
            .iter()
            .map(|reader| reader.state.filters.borrow().changes());
        changes.fold(0, u64::wrapping_add)
    }

    fn look_at_filters(&mut self, changes: u64) {
        self.filter_changes = changes;
        let mut subscriptions = Subscriptions::default();
        for reader in self.takers() {
            for (filter, subscribed) in reader.state.filters.borrow().iter() {
                let entry = Entry {
                    connection: reader.connection.id,
                    subscriber: Rc::clone(reader),
                    options: subscribed.options,
                    identifier: subscribed.identifier,
                };
                subscriptions.insert(filter, entry);
            }
        }
        self.subscriptions = subscriptions;
        self.routes.clear();
    }

    /// The messages of `commit` are about to be handed out: takes notice of what changed.
    pub(crate) fn come_to(&mut self, router: &Router, commit: CommitNumber) {
        let changes = router.changes.get();
        if std::mem::replace(&mut self.changes, changes) != changes {
            // Most changes are those of others.
            let filter_changes = self.filter_changes();
            if filter_changes != self.filter_changes {
                self.has_changed = true;
                self.look_at_filters(filter_changes);
            }
        }
        if !self.has_changed {
            return;
        }
        for reader in self.takers() {
            let end = reader.state.filters.borrow().ends_scan_at();
            if let Some(end) = end.filter(|end| *end <= commit) {
                let mut outbound = reader.state.outbound.borrow_mut();
                outbound.end_scan(Place::beginning_of(end));
            }
        }
    }

    /// Those that get messages with the topic name of a record.
    pub(crate) fn route(&mut self, router: &Router, topic: &Bytes) -> Option<Rc<Route>> {
        let generation = router.authorizer.generation();
        if let Some(known) = self.routes.get_bytes(topic, generation) {
            return Some(known);
        }
        let topic = TopicName::new(Utf8String::try_from(topic.clone()).ok()?).ok()?;
        let recipients = recipients(&self.subscriptions, &topic, |session| {
            let authorizer = &router.authorizer;
            session.state.group.get().is_some() || authorizer.may_receive(session.client(), &topic)
        });
        let limits = &router.options.limits;
        let class = router.options.routing.class(&topic, limits.topic_levels());
        let route = Rc::new(Route::new(&topic, class, recipients));
        self.routes.insert(&route);
        Some(route)
    }

    /// Everything before `next` was read and handed out.
    pub(crate) fn end(self, router: &Router, next: CommitNumber) {
        let now = crate::router::now();
        // Who has no room any more goes on where it stopped; who went has said where that was.
        for reader in self.readers.iter().filter(|reader| !reader.has_ended.get()) {
            let mut outbound = reader.state.outbound.borrow_mut();
            let end = reader.state.filters.borrow().ends_scan_at();
            let end = end.filter(|_| outbound.takes_new());
            let end = end.map_or(next, |end| end.min(next));
            let gone = outbound.end_scan(Place::beginning_of(end));
            drop(outbound);
            router.forget(now, reader, &gone);
            router.pump(now, reader);
        }
    }

    /// Nothing could be read.
    pub(crate) fn give_up(self) {
        for reader in &self.readers {
            reader.state.outbound.borrow_mut().give_up_scan();
        }
    }

    /// Those that take part and get what is new to them.
    pub(crate) fn takers(&self) -> impl Iterator<Item = &Rc<Session>> {
        let is_taker = |reader: &&Rc<Session>| reader.state.outbound.borrow().takes_new();
        self.readers.iter().filter(is_taker)
    }
}

#[cfg(test)]
mod tests {
    use mqtt::server::InflightState;
    use mqtt::{PacketId, ProtocolVersion, QoS, SubscriptionOptions};

    use super::*;
    use crate::authorizer::Identity;
    use crate::outbound::{InFlight, Outbound};
    use crate::session::Subscribed;
    use crate::trial::router_on;

    fn subscribe(router: &Router, state: &SessionState, filter: &str, from: u64) {
        let options = SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            ..SubscriptionOptions::default()
        };
        let subscribed = Subscribed {
            options,
            identifier: None,
            from: CommitNumber(from),
            earlier: None,
        };
        let mut filters = state.filters.borrow_mut();
        filters.insert(filter.parse().unwrap(), subscribed);
        drop(filters);
        router.forget_routes();
    }

    /// A session that reads from `next` on.
    fn behind(router: &Router, name: &str, next: u64) -> Rc<SessionState> {
        router.worked_off.set(CommitNumber(next - 1));
        let state = router.new_session(name);
        state.outbound.borrow_mut().attach(CommitNumber(10_000));
        let identity = Identity::new(name, Rc::new(()));
        let connection = router.open_connection();
        let version = ProtocolVersion::V5;
        let session = Session::new(connection, version, identity, Rc::clone(&state));
        *state.attached.borrow_mut() = Some(Rc::new(session));
        state
    }

    fn begin(router: &Router, from: u64, states: &[&Rc<SessionState>]) -> Scan {
        let all = states.iter().map(|state| Rc::clone(state));
        Scan::begin(router, CommitNumber(from), states[0], all)
    }

    fn recipients(router: &Router, scan: &mut Scan, topic: &'static str) -> usize {
        let route = scan.route(router, &Bytes::from_static(topic.as_bytes()));
        route.unwrap().recipients.len()
    }

    fn next(state: &SessionState) -> Option<u64> {
        let next = state.outbound.borrow().reads_from();
        next.map(|next| next.0)
    }

    #[test]
    fn session_that_subscribes_leaves_the_scan_where_the_subscription_begins() {
        let router = router_on(None);
        let [one, other] = ["one", "other"].map(|name| behind(&router, name, 3));
        for state in [&one, &other] {
            subscribe(&router, state, "old", 1);
        }
        let mut scan = begin(&router, 3, &[&one, &other]);
        subscribe(&router, &one, "new", 7);
        scan.come_to(&router, CommitNumber(6));
        assert_eq!(scan.takers().count(), 2);
        assert_eq!(recipients(&router, &mut scan, "old"), 2);
        scan.come_to(&router, CommitNumber(9));
        assert_eq!(scan.takers().count(), 1);
        assert_eq!(next(&one), Some(7), "it left");
        scan.end(&router, CommitNumber(12));
        assert_eq!((next(&one), next(&other)), (Some(7), Some(12)));
        // With no message to come to in between.
        let scan = begin(&router, 7, &[&one]);
        subscribe(&router, &one, "newer", 9);
        scan.end(&router, CommitNumber(12));
        assert_eq!(next(&one), Some(9));
    }

    #[test]
    fn session_that_unsubscribes_during_a_scan_gets_nothing_more() {
        let router = router_on(None);
        let state = behind(&router, "one", 3);
        subscribe(&router, &state, "a", 1);
        let mut scan = begin(&router, 3, &[&state]);
        assert_eq!(recipients(&router, &mut scan, "a"), 1);
        state.filters.borrow_mut().remove(&"a".parse().unwrap());
        router.forget_routes();
        scan.come_to(&router, CommitNumber(4));
        assert_eq!(recipients(&router, &mut scan, "a"), 0);
    }

    #[test]
    fn scan_ends_where_a_session_waits_that_was_too_far_ahead_to_take_part() {
        let router = router_on(None);
        let near = behind(&router, "near", 100);
        let far = behind(&router, "far", 3 + NEAR_COMMITS);
        let first = behind(&router, "first", 3);
        let before = behind(&router, "before", 2);
        let all = [&first, &near, &far, &before];
        let scan = begin(&router, 3, &all);
        assert_eq!(scan.takers().count(), 2);
        assert_eq!(scan.until, Some(CommitNumber(3 + NEAR_COMMITS)));
        scan.end(&router, CommitNumber(50));
        let places = all.map(|state| next(state));
        assert_eq!(places, [50, 100, 3 + NEAR_COMMITS, 2].map(Some));
    }

    /// It would take what is not read for what is not there.
    #[test]
    fn session_that_gets_something_again_takes_part_only_where_everything_is_read() {
        let router = router_on(None);
        let state = behind(&router, "one", 3);
        let again = behind(&router, "again", 3);
        let in_flight = InFlight {
            packet_id: PacketId::MIN,
            state: InflightState::AwaitsPuback,
            place: Some(Place::beginning_of(CommitNumber(5))),
            replay: None,
            group: None,
        };
        let beginning = Place::beginning_of(CommitNumber(9));
        let mut outbound =
            Outbound::restored(beginning, vec![in_flight], beginning, router.mailbox());
        outbound.attach(CommitNumber(10_000));
        *again.outbound.borrow_mut() = outbound;
        let scan = begin(&router, 3, &[&state, &again]);
        assert_eq!((scan.takers().count(), scan.again.len()), (1, 0));
        scan.end(&router, CommitNumber(12));
        assert!(again.outbound.borrow().gets_again());
        let scan = begin(&router, 5, &[&again, &state]);
        assert_eq!((scan.takers().count(), scan.again.len()), (1, 1));
        scan.end(&router, CommitNumber(12));
        assert!(!again.outbound.borrow().gets_again());
    }

    #[test]
    fn scan_that_read_nothing_leaves_everybody_where_they_were() {
        let router = router_on(None);
        let state = behind(&router, "one", 3);
        begin(&router, 3, &[&state]).give_up();
        assert_eq!(next(&state), Some(3));
        assert!(!state.outbound.borrow().takes_new());
    }
}
