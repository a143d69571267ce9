//! What is in the mailbox of a group goes to its members, each message to one (MQTT 5, 4.8.2).
//!
//! A member has room if its client's window has a place and nothing of its own waits; which one is next
//! says the group's policy ([`sharing`](crate::sharing)). If that one has no room, messages wait in the
//! group's mailbox, and when that is full, in the log.
//!
//! Invariants: a message is out with one member at a time; each member gets the group's messages in the
//! order of the log, but for those that come a second time because a member was lost. Where a group
//! outlives the broker, a message of QoS 2 is sent when it is on flash that it was handed out.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mqtt::server::{Outgoing, PublishOutcome};
use mqtt::{Message, PacketId, QoS};
use storage::CommitNumber;

use crate::causes::DropCause;
use crate::delivery::{EXPIRED_SECONDS, packet_bytes};
use crate::group::GroupId;
use crate::groups::Group;
use crate::outbound::Item;
use crate::place::Place;
use crate::publication::remaining_seconds;
use crate::router::Router;
use crate::session::{Session, Subscribed};
use crate::sharing::Taking;

impl Router {
    /// Hands out what the members of this session's groups take now.
    pub(crate) fn pump_groups(&self, now: Instant, session: &Session) {
        for group in self.groups_of(&session.state) {
            self.pump_group(now, &group);
        }
    }

    /// A member has acknowledged a message of QoS 1.
    pub(crate) fn acknowledged_by_member(&self, now: Instant, of_group: (GroupId, Place)) {
        if let Some(group) = self.settle_for_group(of_group) {
            self.pump_group(now, &group);
        }
    }

    /// The same, of a member that is about to be gone.
    pub(crate) fn settle_for_group(&self, (id, place): (GroupId, Place)) -> Option<Rc<Group>> {
        let group = self.groups.borrow().with_id(id)?;
        group.progress.borrow_mut().acknowledged(place);
        group.has_changed.set(true);
        Some(group)
    }

    /// Hands out what the members of a group take now.
    pub(crate) fn pump_group(&self, now: Instant, group: &Rc<Group>) {
        // What follows from handing out may lead here again.
        if group.is_handing_out.replace(true) {
            return;
        }
        let has_room = loop {
            let mut taken_by: Vec<Rc<Session>> = Vec::new();
            while let Some(taker) = self.hand_out_next(now, group) {
                let Some(taker) = taker else { continue };
                if !taken_by.iter().any(|known| Rc::ptr_eq(known, &taker)) {
                    taken_by.push(taker);
                }
            }
            let outbound = group.state.outbound.borrow();
            let read = outbound.position(self.worked_off.get());
            group.progress.borrow_mut().read_up_to(read);
            let has_room = outbound.reads_from().is_some();
            drop(outbound);
            if taken_by.is_empty() {
                break has_room;
            }
            // Before anything else is written of the group, or of its members.
            self.write_handed_out(now, group, &taken_by);
            // What is too large for its taker leaves room for the next.
            for taker in taken_by {
                self.pump(now, &taker);
            }
        };
        group.is_handing_out.set(false);
        if has_room {
            self.behind_changed.notify_one();
        }
    }

    /// Hands out the message that waits longest: to whom, `Some(None)` if nobody is to get it. `None` if
    /// nothing can be handed out now.
    fn hand_out_next(&self, now: Instant, group: &Group) -> Option<Option<Rc<Session>>> {
        let item = group.state.outbound.borrow().front()?.clone();
        let mut progress = group.progress.borrow_mut();
        if let Some(place) = item.place
            && !progress.has_room_for(place)
        {
            return None;
        }
        let members = group.members.borrow();
        let topic = &item.message.topic;
        let may_receive = |member: &Session| {
            let authorizer = &self.authorizer;
            authorizer.may_receive(member.client(), topic)
        };
        let remaining = remaining_seconds(item.expires_at, now);
        let is_for_somebody = members.online.iter().any(|member| may_receive(member));
        if remaining.is_err() || !is_for_somebody {
            if remaining.is_err() {
                self.counters.dropped.add(DropCause::Expired, 1);
            }
            group.state.outbound.borrow_mut().pop();
            if let Some(place) = item.place {
                progress.settled(place);
            }
            return Some(None);
        }
        drop(members);
        let must_be_written = group.is_kept();
        let mut members = group.members.borrow_mut();
        let mut sharing = members.sharing;
        let mut handed = None;
        let chosen = sharing.choose(&members.online, topic, |member| {
            let of_member = item_for(member, group, &item).filter(|_| may_receive(member));
            let Some(item) = of_member else {
                return Taking::NotForIt;
            };
            if !self.hand(now, member, &item, must_be_written) {
                return Taking::NoRoom;
            }
            handed = Some(item);
            Taking::Taken
        });
        members.sharing = sharing;
        let taker = members.online.get(chosen?).cloned();
        drop(members);
        group.state.outbound.borrow_mut().pop();
        group.has_changed.set(true);
        if let (Some(place), Some(handed)) = (item.place, handed) {
            let is_out = taker.as_ref().is_some_and(|taker| {
                let outbound = taker.state.outbound.borrow();
                handed.qos == QoS::AtLeastOnce && outbound.has_of_group(group.id, place)
            });
            match is_out {
                true => progress.handed_out(place),
                false => progress.settled(place),
            }
        }
        Some(taker)
    }

    /// Gives a message to a member. `false` if it has no room.
    fn hand(&self, now: Instant, member: &Rc<Session>, item: &Item, must_be_written: bool) -> bool {
        let mut outbound = member.state.outbound.borrow_mut();
        let mut machine = member.connection.machine.borrow_mut();
        let waiting = machine.transmit_bytes();
        let max = self.machine_options.transmit_bytes_max;
        let fits = member.connection.has_room(waiting, packet_bytes(item), max);
        // It must not overtake what waits for flash.
        let is_next = item.qos == QoS::ExactlyOnce || outbound.bound().is_empty();
        let has_place = item.qos == QoS::AtMostOnce || machine.free_places() > 0;
        let has_room = fits && is_next && has_place && outbound.gives_way();
        if member.has_ended.get() || !has_room {
            return false;
        }
        if item.qos == QoS::ExactlyOnce {
            let Some(packet_id) = machine.reserve() else {
                return false;
            };
            let waits = must_be_written || member.state.is_persistent();
            let commit = (!waits).then_some(CommitNumber(0));
            outbound.bind(packet_id, item.clone(), commit);
            return true;
        }
        let remaining = remaining_seconds(item.expires_at, now).unwrap_or(EXPIRED_SECONDS);
        let outcome = machine.publish(now, item.outgoing(remaining));
        drop(machine);
        match outcome {
            PublishOutcome::Sent { packet_id } => {
                self.count_handed(packet_id);
                if let Some(packet_id) = packet_id {
                    outbound.sent(packet_id, item);
                }
            }
            PublishOutcome::DroppedTooLarge => {
                self.counters.dropped.add(DropCause::PacketTooLarge, 1);
            }
            // The connection has ended.
            _ => return false,
        }
        drop(outbound);
        member.connection.weigh();
        member.connection.signal.notify();
        true
    }

    fn count_handed(&self, packet_id: Option<PacketId>) {
        match packet_id {
            Some(_) => self.counters.delivered_qos1.increment(),
            None => self.counters.delivered_qos0.increment(),
        }
    }

    /// A message of QoS 0 goes to one member that takes it at once, or is dropped and counted.
    pub(crate) fn share_at_most_once(
        &self,
        now: Instant,
        group: &Group,
        message: &Arc<Message>,
        remaining: Option<u32>,
    ) {
        let members = group.members.borrow();
        let mut sharing = members.sharing;
        let chosen = sharing.choose(&members.online, &message.topic, |member| {
            let Some(subscribed) = member.state.shared.borrow().get(&group.filter) else {
                return Taking::NotForIt;
            };
            let authorizer = &self.authorizer;
            if !authorizer.may_receive(member.client(), &message.topic) {
                return Taking::NotForIt;
            }
            let identifiers: Vec<_> = subscribed.identifier.into_iter().collect();
            let outgoing = Outgoing {
                message,
                qos: QoS::AtMostOnce,
                retain: message.retain && subscribed.options.retain_as_published,
                message_expiry_interval: remaining,
                subscription_identifiers: &identifiers,
            };
            match self.try_send(now, &member.connection, outgoing) {
                true => Taking::Taken,
                false => Taking::NoRoom,
            }
        });
        drop(members);
        group.members.borrow_mut().sharing = sharing;
        if chosen.is_none() {
            self.counters.dropped.add(DropCause::MailboxFull, 1);
        }
    }
}

/// The message as this member's subscription wants it.
fn item_for(member: &Session, group: &Group, item: &Item) -> Option<Item> {
    let Subscribed {
        options,
        identifier,
        ..
    } = member.state.shared.borrow().get(&group.filter)?;
    Some(Item {
        qos: item.qos.min(options.qos),
        retain: item.retain && options.retain_as_published,
        identifiers: identifier.into_iter().collect(),
        // What is in no log stays with whom it was handed to.
        group: item.place.map(|_| group.id),
        ..item.clone()
    })
}
