//! When it is written down how deliveries of QoS 2 stand (`JournalKind::Delivery`; `rules.md` 3.4):
//! before PUBLISH that a message has its identifier, before PUBREL that the client has the message.
//!
//! One entry has all deliveries of a session that are not over. With a full window each answer of the
//! client lets one go on, and to write all of them for one costs much more than the message. So where
//! messages wait for the client, what is to be written of its session is gathered:
//!
//! | the session | is written |
//! |---|---|
//! | is live, and nothing waits for a place in the window | at once, with the next commit |
//! | is behind, or has messages that wait | when a quarter of the window has changed, or after 20 ms |
//!
//! So nothing stalls: a client that answers little, or keeps most of its window for ever, waits 20 ms for
//! what it has room for. With a window of less than eight nothing waits.
//!
//! Invariants: what a client is told stands in an entry that is durable; what is gathered stands in the
//! state of the session, and goes with its record if its connection ends before.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mqtt::PacketId;
use storage::{CommitNumber, JournalKey, JournalKind};
use tokio::sync::Notify;

use crate::router::{Router, Stage, now};
use crate::session::{Session, SessionState};
use crate::session_keeping::{AfterCommit, CHECKPOINT_INTERVAL};
use crate::session_record::StoredDeliveries;

/// How long changes wait for others of their session.
const GATHER_TIME: Duration = Duration::from_millis(20);
/// Changes of this part of the window do not wait.
const WINDOW_PART: usize = 4;

/// What a connection is to write and has not.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// Messages that the client has (PUBREC) and that are to be released.
    received: Vec<PacketId>,
    /// When all is written at the latest.
    due: Option<Instant>,
}

/// Connections that gather, in the order in which they began to.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    queue: RefCell<VecDeque<(Instant, Rc<Session>)>>,
    changed: Notify,
}

impl Gathered {
    fn push(&self, due: Instant, session: &Rc<Session>) {
        self.queue.borrow_mut().push_back((due, Rc::clone(session)));
        self.changed.notify_one();
    }

    fn first_due(&self) -> Option<Instant> {
        self.queue.borrow().front().map(|(due, _)| *due)
    }

    fn pop(&self, now: Instant) -> Option<(Instant, Rc<Session>)> {
        let mut queue = self.queue.borrow_mut();
        let is_due = queue.front().is_some_and(|(due, _)| *due <= now);
        if is_due { queue.pop_front() } else { None }
    }
}

pub(crate) fn delivery_key(state: &SessionState) -> JournalKey {
    JournalKey::new(JournalKind::Delivery, state.client_id().as_bytes())
}

/// What is to be on flash of its deliveries of QoS 2.
pub(crate) fn bindings_of(state: &SessionState) -> StoredDeliveries {
    let outbound = state.outbound.borrow();
    let (before, bindings) = outbound.bindings();
    StoredDeliveries::new(before, bindings, outbound.replays.iter())
}

/// The entry that says so, which is about to be written.
pub(crate) fn bindings_entry(state: &SessionState) -> (JournalKey, Option<Vec<u8>>) {
    state.has_bindings.set(true);
    state.bindings_changed.set(false);
    (delivery_key(state), Some(bindings_of(state).to_stored()))
}

impl Router {
    /// Messages of QoS 2 have identifiers, or were received: writes that down, now or soon, and then
    /// goes on with them.
    pub(crate) fn write_bindings(&self, now: Instant, session: &Rc<Session>) {
        let outbound = session.state.outbound.borrow();
        let bound = outbound.bound().iter().filter(|bound| bound.is_unwritten());
        let (bound, has_more) = (bound.count(), outbound.has_more());
        drop(outbound);
        let mut gathering = session.gathering.borrow_mut();
        let changes = bound + gathering.received.len();
        if changes == 0 {
            return;
        }
        let machine = session.connection.machine.borrow();
        let window = machine.inflight() + machine.free_places();
        drop(machine);
        if has_more && changes < window / WINDOW_PART {
            if gathering.due.is_none() {
                let due = now + GATHER_TIME;
                gathering.due = Some(due);
                self.gathered.push(due, session);
            }
            return;
        }
        drop(gathering);
        self.write_gathered(now, session);
    }

    fn write_gathered(&self, now: Instant, session: &Rc<Session>) {
        if let Some(commit) = self.put_bindings(&session.state, Duration::ZERO) {
            self.written_with(now, session, commit);
        }
    }

    /// How all deliveries of a session stand now is on flash with this commit; then they go on.
    pub(crate) fn written_with(&self, now: Instant, session: &Rc<Session>, commit: CommitNumber) {
        let is_bound = session.state.outbound.borrow_mut().bound_written(commit);
        let gathered = session.gathering.take();
        if !gathered.received.is_empty() {
            let then = AfterCommit::Release(Rc::clone(session), gathered.received);
            self.when_durable(now, commit, then);
        }
        if is_bound {
            self.when_durable(now, commit, AfterCommit::Bound(Rc::clone(session)));
        }
    }

    /// Tells the client that it may forget these identifiers, when it is on flash that it has the
    /// messages.
    pub(crate) fn release_when_written(
        &self,
        now: Instant,
        session: &Rc<Session>,
        ids: Vec<PacketId>,
    ) {
        if ids.is_empty() {
            return;
        }
        if !session.state.is_persistent() {
            let then = AfterCommit::Release(Rc::clone(session), ids);
            return self.after_commit(now, then);
        }
        // Without a store there is no session that is kept; if it fails, the broker ends.
        session.gathering.borrow_mut().received.extend(ids);
        self.write_bindings(now, session);
    }

    /// Writes what has been gathered for long enough, until the broker ends.
    pub(crate) async fn write_gathered_in_time(self: Rc<Self>) {
        while self.stage() < Stage::Closing {
            let due = self.gathered.first_due();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => self.gathered.changed.notified().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.reached(Stage::Closing) => return,
            }
            let now = now();
            while let Some((due, session)) = self.gathered.pop(now) {
                let is_unwritten = session.gathering.borrow().due == Some(due);
                if is_unwritten && !session.has_ended.get() {
                    self.write_gathered(now, &session);
                }
            }
        }
    }

    /// Of deliveries that are over nothing is promised: what is written of them can wait. What a session
    /// without a connection has stands in its record.
    pub(crate) fn write_changed_bindings(&self) {
        for state in self.sessions.borrow().iter() {
            if state.bindings_changed.take() && state.is_persistent() && state.is_attached() {
                self.put_bindings(state, CHECKPOINT_INTERVAL);
            }
        }
    }

    fn put_bindings(&self, state: &SessionState, within: Duration) -> Option<CommitNumber> {
        let store = self.store.as_ref()?;
        let put = store.put_journal_entries(vec![bindings_entry(state)], within);
        if let Ok(commit) = &put
            && within.is_zero()
        {
            state.bindings_commit.set(*commit);
            tracing::trace!(
                client_id = state.client_id(),
                "Deliveries are written down."
            );
        }
        put.inspect_err(|error| tracing::debug!(%error, "Deliveries are not written down."))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Bytes, BytesMut};
    use mqtt::server::{Accept, Event};
    use mqtt::{
        Connect, Message, MessageProperties, Packet, ProtocolVersion, QoS, SubscriptionOptions,
        Utf8String,
    };
    use storage::{LogId, LogPartition, Offset, PartitionId, StoreOptions};

    use super::*;
    use crate::authorizer::Identity;
    use crate::outbound::Item;
    use crate::place::Place;
    use crate::replays::ReplayAt;
    use crate::session::Lifetime;
    use crate::session_keeping::RECORD_WITHIN;
    use crate::session_record::SessionRecord;
    use crate::trial::with_router;

    fn item(number: u64, qos: QoS) -> Item {
        Item {
            message: Arc::new(Message {
                topic: "a".parse().unwrap(),
                payload: Bytes::new(),
                qos,
                retain: false,
                properties: MessageProperties::default(),
            }),
            expires_at: None,
            qos,
            retain: false,
            identifiers: Box::new([]),
            place: Some(place(number)),
            again: None,
            replay: None,
            group: None,
        }
    }

    fn place(number: u64) -> Place {
        Place {
            commit: CommitNumber(9),
            partition: LogPartition {
                log: LogId(1),
                partition: PartitionId(0),
            },
            offset: Offset(number),
        }
    }

    /// A session that is behind, and whose client takes 64 messages.
    fn session(router: &Router) -> Rc<Session> {
        let connection = router.open_connection();
        let version = ProtocolVersion::V311;
        let mut bytes = BytesMut::new();
        let connect = Connect::new(version, Utf8String::try_from("client").unwrap());
        let connect = Packet::Connect(Box::new(connect));
        connect.encode(version, &mut bytes).unwrap();
        let mut machine = connection.machine.borrow_mut();
        machine.handle_bytes(now(), &mut bytes);
        assert!(matches!(machine.poll_event(), Some(Event::Connect(_))));
        machine.accept(now(), Accept::default()).unwrap();
        drop(machine);
        let state = router.new_session("client");
        state.lifetime.set(Lifetime::Unlimited);
        let mut outbound = state.outbound.borrow_mut();
        outbound.attach(CommitNumber(10_000));
        outbound.begin_scan();
        drop(outbound);
        let identity = Identity::new("client", Rc::new(()));
        let session = Session::new(connection, version, identity, Rc::clone(&state));
        let session = Rc::new(session);
        *state.attached.borrow_mut() = Some(Rc::clone(&session));
        session
    }

    fn read(router: &Router, session: &Rc<Session>, numbers: std::ops::Range<u64>) {
        for number in numbers {
            // Every other one has the other QoS.
            let qos = match number % 2 {
                0 => QoS::ExactlyOnce,
                _ => QoS::AtLeastOnce,
            };
            let mut outbound = session.state.outbound.borrow_mut();
            outbound.offer_read(item(number, qos), place(number));
        }
        router.pump(now(), session);
    }

    fn unwritten(session: &Session) -> usize {
        let outbound = session.state.outbound.borrow();
        let bound = outbound.bound().iter().filter(|bound| bound.is_unwritten());
        bound.count()
    }

    #[test]
    fn changes_of_a_session_that_is_behind_are_written_when_they_are_many() {
        with_router(StoreOptions::default(), |router| {
            let session = session(router);
            read(router, &session, 0..30);
            assert_eq!(session.connection.machine.borrow().inflight(), 30);
            assert_eq!(unwritten(&session), 15, "a quarter of 64 is more");
            assert!(!session.state.has_bindings.get());
            let due = router.gathered.first_due().unwrap();
            read(router, &session, 30..32);
            assert_eq!(unwritten(&session), 0);
            assert!(session.state.has_bindings.get());
            let late = router.gathered.pop(due).unwrap().1;
            assert_eq!(late.gathering.borrow().due, None, "it need not be written");
            // They count together.
            router.release_when_written(now(), &session, vec![PacketId::MIN]);
            assert_eq!(session.gathering.borrow().received, [PacketId::MIN]);
            read(router, &session, 32..62);
            assert_eq!(unwritten(&session), 0);
            assert_eq!(session.gathering.borrow().received, []);
        });
    }

    #[test]
    fn changes_of_a_live_session_are_written_at_once() {
        with_router(StoreOptions::default(), |router| {
            let session = session(router);
            let mut outbound = session.state.outbound.borrow_mut();
            outbound.begin_live(CommitNumber(8));
            drop(outbound);
            router.offer(now(), &session, item(2, QoS::ExactlyOnce));
            assert_eq!(unwritten(&session), 0);
            assert!(session.state.has_bindings.get());
        });
    }

    /// It says that the replay is behind all that has its identifier.
    #[test]
    fn record_of_a_session_takes_along_what_is_gathered_of_a_replay() {
        with_router(StoreOptions::default(), |router| {
            let session = session(router);
            let state = &session.state;
            let mut outbound = state.outbound.borrow_mut();
            let begins = (ReplayAt::Place(place(0)), place(99));
            let options = SubscriptionOptions::default();
            let filter = "a".parse().unwrap();
            outbound.replays.begin(filter, options, None, begins);
            outbound.replays.release();
            for number in 0..5 {
                let item = item(number, QoS::ExactlyOnce);
                assert!(outbound.replays.offer(0, item, place(number)));
            }
            drop(outbound);
            router.pump(now(), &session);
            assert_eq!(unwritten(&session), 5, "they are gathered");
            // Something was written of its deliveries before.
            state.has_bindings.set(true);
            let commit = router.write_session(state, RECORD_WITHIN).unwrap();
            let store = router.store.as_ref().unwrap();
            store.wait_durable(commit).unwrap();
            let key = JournalKey::new(JournalKind::Session, b"client");
            let record = SessionRecord::from_stored(&store.journal_entry(&key).unwrap()).unwrap();
            let behind_all = ReplayAt::Place(place(4).behind());
            assert_eq!(record.replays.first().map(|r| r.at), Some(behind_all));
            let entry = store.journal_entry(&delivery_key(state));
            let deliveries = entry.and_then(|entry| StoredDeliveries::from_stored(&entry));
            let bound = deliveries.map(|deliveries| deliveries.bindings().len());
            assert_eq!(
                bound,
                Some(5),
                "none of them is lost if the broker ends now"
            );
        });
    }
}
