//! Retained messages for new subscriptions (3.3.1.3): one after the other, as the subscriber takes
//! them. There may be many more than fit its mailbox.
//!
//! Messages that are published meanwhile go to the subscriber as always. The order is kept: what is
//! sent of a topic name is what is retained at that moment, never older than what was seen before.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mqtt::server::Outgoing;
use mqtt::{QoS, SubscriptionIdentifier, SubscriptionOptions, TopicFilter};

use crate::client::Client;
use crate::outbound::Item;
use crate::publication::Publication;
use crate::retained::Found;
use crate::session::Session;

/// Topic names that are looked at in one go; then others have their turn.
const LOOKS_MAX: usize = 256;

/// Subscriptions whose retained messages are on their way, oldest first; one for each filter.
#[derive(Debug, Default)]
pub(crate) struct RetainedCursors(VecDeque<RetainedCursor>);

#[derive(Debug)]
struct RetainedCursor {
    filter: TopicFilter,
    options: SubscriptionOptions,
    identifier: Option<SubscriptionIdentifier>,
    /// The topic name that was looked at last.
    after: Option<Bytes>,
}

/// How far delivery came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    /// There is nothing to deliver, or no room for it.
    Rests,
    /// There is more.
    GoesOn,
}

impl RetainedCursors {
    /// The messages of a subscription are to be sent, from the first on.
    pub(crate) fn begin(
        &mut self,
        filter: TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<SubscriptionIdentifier>,
    ) {
        self.end(&filter);
        self.0.push_back(RetainedCursor {
            filter,
            options,
            identifier,
            after: None,
        });
    }

    /// They are not wanted any more.
    pub(crate) fn end(&mut self, filter: &TopicFilter) {
        self.0.retain(|cursor| cursor.filter != *filter);
    }
}

impl Client {
    /// Hands retained messages over, as long as none has to wait in the mailbox.
    pub(crate) fn feed_retained(&mut self, now: Instant) -> Feed {
        let Some(session) = self.session() else {
            return Feed::Rests;
        };
        let mut looks = LOOKS_MAX;
        while looks > 0 && self.has_room_for_retained() {
            let Some(cursor) = self.retained.0.front_mut() else {
                return Feed::Rests;
            };
            let after = cursor.after.as_deref();
            let retained = self.router.retained.borrow();
            let found = retained.next(now, &cursor.filter, after, &mut looks);
            drop(retained);
            match found {
                Found::Nothing => {
                    self.retained.0.pop_front();
                }
                Found::Paused(at) => cursor.after = Some(at),
                Found::Message(publication) => {
                    if !self.deliver_retained(now, &session, &publication) {
                        return Feed::Rests;
                    }
                }
            }
        }
        match self.retained.0.is_empty() || !self.has_room_for_retained() {
            true => Feed::Rests,
            false => Feed::GoesOn,
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

    /// Delivers the message that the first cursor stands before. `false` when there is no room for
    /// it now.
    fn deliver_retained(
        &mut self,
        now: Instant,
        session: &Rc<Session>,
        publication: &Publication,
    ) -> bool {
        let Some(cursor) = self.retained.0.front_mut() else {
            return false;
        };
        let message = &publication.message;
        let is_own = publication.publisher == session.client_id();
        let authorizer = &self.router.authorizer;
        let is_wanted = !(cursor.options.no_local && is_own)
            && authorizer.may_receive(session.client(), &message.topic);
        if is_wanted && let Ok(remaining) = publication.remaining_seconds(now) {
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
                if !self.router.try_send(now, &self.connection, outgoing) {
                    return false;
                }
            } else {
                let item = Item {
                    message: Arc::clone(message),
                    expires_at: publication.expires_at,
                    qos,
                    retain: true,
                    identifiers: identifiers.into(),
                    place: None,
                    again: None,
                    replay: None,
                    group: None,
                };
                self.router.offer(now, session, item);
            }
        }
        cursor.after = Some(Bytes::copy_from_slice(message.topic.as_bytes()));
        true
    }
}
