//! Retained messages for new subscriptions (3.3.1.3): one after the other, as the subscriber takes
//! them. There may be many more than fit its mailbox.
//!
//! Messages that are published meanwhile go to the subscriber as always. The order is kept: what is
//! sent of a topic name is what is retained at that moment, never older than what was seen before.
//!
//! A session that outlives its connection is owed them until its client has acknowledged them: the next
//! connection goes on with the first that is not kept to be sent again, and after a restart of the broker
//! with the first that was not acknowledged. The session's record says where that is: as it was when the
//! record was written, so that after a crash some come again, also of QoS 2, as with a new SUBSCRIBE.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mqtt::server::Outgoing;
use mqtt::{Message, QoS, SubscriptionIdentifier, SubscriptionOptions, TopicFilter};

use crate::client::Client;
use crate::outbound::{Item, Outbound};
use crate::publication::Publication;
use crate::rare::Rare;
use crate::retained::Found;
use crate::router::Router;
use crate::session::{Session, SessionState, Subscribed};
use crate::session_keeping::RECORD_WITHIN;

/// Topic names that are looked at in one go; then others have their turn.
const LOOKS_MAX: usize = 256;

/// Subscriptions whose retained messages are on their way, oldest first; one for each filter.
#[derive(Debug, Default)]
pub(crate) struct RetainedCursors(Rare<VecDeque<RetainedCursor>>);

#[derive(Debug)]
struct RetainedCursor {
    filter: TopicFilter,
    options: SubscriptionOptions,
    identifier: Option<SubscriptionIdentifier>,
    /// The lowest topic name that was not looked at; no topic name lies between it and those before.
    next: Bytes,
    /// What was handed over and is not acknowledged; ascending by topic name.
    pending: VecDeque<Arc<Message>>,
    /// Nothing is left to be looked at.
    is_read: bool,
    /// The client was away since: what it missed comes first, or the newest of a topic would come before
    /// older ones.
    awaits_live: bool,
}

/// How far delivery came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    /// There is nothing to deliver, or no room for it.
    Rests,
    /// There is more.
    GoesOn,
}

/// What lies behind this topic name, and before every other that does: no topic name has U+0000.
fn behind(topic: &[u8]) -> Bytes {
    Bytes::from([topic, &[0]].concat())
}

impl RetainedCursor {
    /// Everything before this topic name is done with.
    fn position(&self) -> Bytes {
        match self.pending.front() {
            Some(message) => Bytes::copy_from_slice(message.topic.as_bytes()),
            None => self.next.clone(),
        }
    }
}

impl RetainedCursors {
    /// The messages of a subscription are to be sent, those with topic names from `from` on.
    fn begin(
        &mut self,
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<SubscriptionIdentifier>,
        from: Bytes,
    ) {
        self.end(&filter);
        self.0.push_back(RetainedCursor {
            filter,
            options,
            identifier,
            next: from,
            pending: VecDeque::new(),
            is_read: false,
            awaits_live: false,
        });
    }

    /// Those of this subscription are to be sent that were not sent before the broker was started.
    pub(crate) fn restore(&mut self, filter: TopicFilter, subscribed: Subscribed, from: Bytes) {
        self.begin(filter, subscribed.options, subscribed.identifier, from);
        if let Some(cursor) = self.0.back_mut() {
            cursor.awaits_live = true;
        }
    }

    /// They are not wanted any more.
    pub(crate) fn end(&mut self, filter: &TopicFilter) {
        self.0.retain(|cursor| cursor.filter != *filter);
        self.0.trim();
    }

    /// The subscriptions of which a session is owed messages, and from which topic name on.
    pub(crate) fn owed(&self) -> Vec<(TopicFilter, Bytes)> {
        let owed = self.0.iter().filter(|c| c.options.qos > QoS::AtMostOnce);
        owed.map(|cursor| (cursor.filter.clone(), cursor.position()))
            .collect()
    }

    /// Forgets what was acknowledged, and cursors with which nothing is left to do. Whether these were
    /// the last of all.
    fn settle(&mut self, outbound: &Outbound) -> bool {
        if self.0.is_empty() {
            return false;
        }
        for cursor in self.0.iter_mut() {
            cursor.pending.retain(|message| outbound.holds(message));
        }
        self.0
            .retain(|cursor| !cursor.is_read || !cursor.pending.is_empty());
        self.0.trim();
        self.0.is_empty()
    }

    /// The client is gone; `outbound` as it was.
    pub(crate) fn before_detach(&mut self, outbound: &Outbound) {
        self.settle(outbound);
    }

    /// The client is gone; `outbound` as it is left. What that does not hold any more is owed again; QoS 0
    /// is not owed to anybody who is away.
    pub(crate) fn after_detach(&mut self, outbound: &Outbound) {
        self.0.retain(|cursor| cursor.options.qos > QoS::AtMostOnce);
        for cursor in self.0.iter_mut() {
            cursor.awaits_live = true;
            let mut pending = cursor.pending.iter();
            let lost = pending.position(|message| !outbound.holds(message));
            if let Some(lost) = lost {
                let first = cursor.pending.drain(lost..).next();
                let topic = first.map(|first| Bytes::copy_from_slice(first.topic.as_bytes()));
                cursor.next = topic.unwrap_or_default();
                cursor.is_read = false;
            }
            cursor.pending.shrink_to_fit();
        }
        self.0.shrink_to_fit();
        self.0.trim();
    }

    /// The first that may be read on.
    fn unread(&mut self, is_behind: bool) -> Option<&mut RetainedCursor> {
        let may_be_read = |c: &&mut RetainedCursor| !(c.is_read || c.awaits_live && is_behind);
        self.0.iter_mut().find(may_be_read)
    }
}

impl SessionState {
    /// It is live: retained messages may have waited for that.
    pub(crate) fn wake_for_retained(&self) {
        if !self.retained.borrow().0.is_empty()
            && let Some(session) = self.session()
        {
            session.connection.signal.notify();
        }
    }
}

impl Router {
    /// Retained messages are to be sent for a subscription, if there are any.
    pub(crate) fn begin_retained(
        &self,
        now: Instant,
        state: &SessionState,
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<SubscriptionIdentifier>,
    ) {
        let mut cursors = state.retained.borrow_mut();
        let retained = self.retained.borrow();
        match retained.next(now, &filter, b"", &mut LOOKS_MAX.clone()) {
            Found::Nothing => cursors.end(&filter),
            _ => cursors.begin(filter, options, identifier, Bytes::new()),
        }
    }
}

impl Client {
    /// Hands retained messages over, as long as none has to wait in the mailbox.
    pub(crate) fn feed_retained(&mut self, now: Instant) -> Feed {
        let Some(session) = self.session() else {
            return Feed::Rests;
        };
        let state = &session.state;
        let is_over = {
            let outbound = state.outbound.borrow();
            state.retained.borrow_mut().settle(&outbound)
        };
        if is_over && !session.has_ended.get() && state.is_persistent() {
            self.router.write_session(state, RECORD_WITHIN);
        }
        let mut looks = LOOKS_MAX;
        while looks > 0 && self.has_room_for_retained() {
            let is_behind = state.outbound.borrow().is_behind();
            let mut cursors = state.retained.borrow_mut();
            let Some(cursor) = cursors
                .unread(is_behind)
                .filter(|_| !session.has_ended.get())
            else {
                return Feed::Rests;
            };
            let retained = self.router.retained.borrow();
            let found = retained.next(now, &cursor.filter, &cursor.next, &mut looks);
            drop(retained);
            match found {
                Found::Nothing => cursor.is_read = true,
                Found::Paused(at) => cursor.next = behind(&at),
                Found::Message(publication) => {
                    let item = self.item_of_retained(now, &session, cursor, &publication);
                    let Some(item) = item else {
                        return Feed::Rests;
                    };
                    cursor.next = behind(publication.message.topic.as_bytes());
                    if let Some(item) = item {
                        cursor.pending.push_back(Arc::clone(&item.message));
                        drop(cursors);
                        self.router.offer(now, &session, item);
                    }
                }
            }
        }
        let is_behind = state.outbound.borrow().is_behind();
        let has_more = state.retained.borrow_mut().unread(is_behind).is_some();
        match has_more && self.has_room_for_retained() {
            true => Feed::GoesOn,
            false => Feed::Rests,
        }
    }

    fn has_room_for_retained(&self) -> bool {
        let Some(session) = self.session() else {
            return false;
        };
        let machine = self.connection.machine.borrow();
        let transmit_bytes_max = self.router.machine_options.transmit_bytes_max;
        session.state.outbound.borrow().mailbox_messages() == 0
            && machine.transmit_bytes() <= transmit_bytes_max / 2
    }

    /// The message that a cursor stands before, if it is for the mailbox: one of QoS 0 is sent, one that is
    /// not wanted passed over. `None` when there is no room for it now.
    fn item_of_retained(
        &self,
        now: Instant,
        session: &Rc<Session>,
        cursor: &RetainedCursor,
        publication: &Publication,
    ) -> Option<Option<Item>> {
        let message = &publication.message;
        let is_own = publication.publisher == session.client_id();
        let authorizer = &self.router.authorizer;
        let is_wanted = !(cursor.options.no_local && is_own)
            && authorizer.may_receive(session.client(), &message.topic);
        let Some(remaining) = publication
            .remaining_seconds(now)
            .ok()
            .filter(|_| is_wanted)
        else {
            return Some(None);
        };
        let qos = cursor.options.qos.min(message.qos);
        let identifiers = cursor.identifier.as_slice();
        if qos == QoS::AtMostOnce {
            let outgoing = Outgoing {
                message,
                qos,
                retain: true,
                message_expiry_interval: remaining,
                subscription_identifiers: identifiers,
            };
            let is_sent = self.router.try_send(now, &self.connection, outgoing);
            return is_sent.then_some(None);
        }
        Some(Some(Item {
            message: Arc::clone(message),
            expires_at: publication.expires_at,
            qos,
            retain: true,
            identifiers: identifiers.into(),
            place: None,
            again: None,
            replay: None,
            group: None,
        }))
    }
}
