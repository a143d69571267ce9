//! Groups of shared subscribers (MQTT 5, 4.8.2; `rules.md` 3.6): who is in them.
//!
//! To the router and to the log a group is a session like any other: it stands in the tree of
//! subscriptions with its filter, has a mailbox, is live or behind, and takes part in scans. What comes
//! into its mailbox goes to one of its members ([`group_delivery`](crate::group_delivery)).
//!
//! | its members | the group |
//! |---|---|
//! | one has a connection | stands in the tree, is live or behind |
//! | all are sessions whose clients are away | a place in the log; reads from there when one comes |
//! | none: all have unsubscribed or ended | is gone |
//!
//! Invariants: a group stands in the tree exactly as long as a member has a connection; it is there
//! exactly as long as a session has its filter.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use mqtt::{ProtocolVersion, QoS, SubscriptionIdentifier, SubscriptionOptions, TopicFilter};
use storage::CommitNumber;

use crate::authorizer::Identity;
use crate::group::{GroupId, GroupProgress};
use crate::mailboxes::Waiting;
use crate::outbound::Outbound;
use crate::place::Place;
use crate::router::{Router, now};
use crate::session::{Lifetime, Session, SessionState, Subscribed};
use crate::sharing::Sharing;
use crate::subscriptions::Entry;

/// A group's mailbox has this part of the bytes that a client's has.
const MAILBOX_PART: usize = 4;

/// Bytes of a group's name and filter, as the record's key has them.
pub(crate) const GROUP_FILTER_BYTES_MAX: usize = 1_024;

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    /// With its name: `$share/<name>/<filter>`.
    pub(crate) filter: TopicFilter,
    /// As which it takes part in everything.
    pub(crate) state: Rc<SessionState>,
    pub(crate) progress: RefCell<GroupProgress>,
    pub(crate) members: RefCell<Members>,
    /// Its messages are being handed out.
    pub(crate) is_handing_out: Cell<bool>,
    /// There is a record of it on flash.
    pub(crate) is_written: Cell<bool>,
    /// Something was handed out or acknowledged since that was written.
    pub(crate) has_changed: Cell<bool>,
    /// Before which commit that says there is nothing to be read.
    pub(crate) written_to: Cell<CommitNumber>,
}

/// Who is in a group.
#[derive(Debug)]
pub(crate) struct Members {
    /// Sessions with its filter.
    pub(crate) subscribed: usize,
    /// Those of them that have a connection, in the order in which they came.
    pub(crate) online: Vec<Rc<Session>>,
    pub(crate) sharing: Sharing,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_filter: HashMap<TopicFilter, Rc<Group>>,
    by_id: HashMap<GroupId, Rc<Group>>,
    newest: u64,
    /// When their records were written last, and how much payload had come then.
    pub(crate) written_at: Option<Instant>,
    pub(crate) payload_bytes: u64,
}

impl Groups {
    pub(crate) fn len(&self) -> usize {
        self.by_filter.len()
    }

    pub(crate) fn with_filter(&self, filter: &TopicFilter) -> Option<Rc<Group>> {
        self.by_filter.get(filter).cloned()
    }

    pub(crate) fn with_id(&self, id: GroupId) -> Option<Rc<Group>> {
        self.by_id.get(&id).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rc<Group>> {
        self.by_filter.values()
    }

    pub(crate) fn all(&self) -> Vec<Rc<Group>> {
        self.by_filter.values().cloned().collect()
    }
}

impl Group {
    /// Whether it outlives the broker: a member does.
    pub(crate) fn is_kept(&self) -> bool {
        let members = self.members.borrow();
        let mut online = members.online.iter();
        members.subscribed > members.online.len() || online.any(|m| m.state.is_persistent())
    }

    /// What its filter without its name asks for: everything that may come, in any QoS. What of that
    /// a member gets, its own subscription says.
    fn subscribed_from(from: CommitNumber) -> Subscribed {
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            retain_as_published: true,
            ..SubscriptionOptions::default()
        };
        Subscribed {
            options,
            identifier: None,
            from,
            earlier: None,
        }
    }
}

impl Router {
    /// The group that this session stands for.
    pub(crate) fn group_of(&self, state: &SessionState) -> Option<Rc<Group>> {
        self.groups.borrow().with_id(state.group.get()?)
    }

    /// Whether one more group may begin, or this one is there.
    pub(crate) fn has_room_for_group(&self, filter: &TopicFilter) -> bool {
        let groups = self.groups.borrow();
        let max = self.options.limits.subscriptions_per_client_max;
        groups.len() < max || groups.with_filter(filter).is_some()
    }

    /// A group that nobody is in yet.
    pub(crate) fn new_group(
        &self,
        filter: &TopicFilter,
        from: CommitNumber,
        outbound: Outbound,
        progress: GroupProgress,
    ) -> Option<Rc<Group>> {
        let inner: TopicFilter = filter.filter().parse().ok()?;
        let policies = &self.options.share_policies;
        let policy = policies.of(filter.share_name().unwrap_or_default());
        let lifetime = Lifetime::Connection;
        let unreleased = &self.unreleased_bytes;
        let state = SessionState::new(filter.as_str(), lifetime, outbound, unreleased);
        let subscribed = Group::subscribed_from(from);
        state.filters.borrow_mut().insert(inner, subscribed);
        let mut groups = self.groups.borrow_mut();
        groups.newest += 1;
        let id = GroupId(groups.newest);
        state.group.set(Some(id));
        let group = Rc::new(Group {
            id,
            filter: filter.clone(),
            state: Rc::new(state),
            progress: RefCell::new(progress),
            members: RefCell::new(Members {
                subscribed: 0,
                online: Vec::new(),
                sharing: Sharing::new(policy),
            }),
            is_handing_out: Cell::new(false),
            is_written: Cell::new(false),
            has_changed: Cell::new(false),
            written_to: Cell::default(),
        });
        groups.by_filter.insert(filter.clone(), Rc::clone(&group));
        groups.by_id.insert(id, Rc::clone(&group));
        self.counters.groups.set(groups.len());
        Some(group)
    }

    /// For messages that wait for a member of a group.
    pub(crate) fn group_mailbox(&self) -> Waiting {
        self.mailbox().part(MAILBOX_PART)
    }

    /// A session subscribes; its group begins, if there is none.
    pub(crate) fn subscribe_shared(
        &self,
        session: &Rc<Session>,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<SubscriptionIdentifier>,
    ) {
        let subscribed = Subscribed {
            options,
            identifier,
            from: CommitNumber(0),
            earlier: None,
        };
        let mut shared = session.state.shared.borrow_mut();
        let is_member = shared.remove(filter);
        shared.insert(filter.clone(), subscribed);
        drop(shared);
        if is_member {
            return;
        }
        let known = self.groups.borrow().with_filter(filter);
        let worked_off = self.worked_off.get();
        let begin = || {
            let next = Place::beginning_of(worked_off.next());
            let outbound = Outbound::new(worked_off, self.group_mailbox());
            let progress = GroupProgress::new(next, []);
            self.new_group(filter, worked_off.next(), outbound, progress)
        };
        let is_new = known.is_none();
        let Some(group) = known.or_else(begin) else {
            return;
        };
        group.members.borrow_mut().subscribed += 1;
        self.member_comes(&group, session, is_new);
        if session.state.is_persistent() && !group.is_written.get() {
            self.write_group(&group);
        }
    }

    /// A member has a connection.
    fn member_comes(&self, group: &Rc<Group>, session: &Rc<Session>, is_new: bool) {
        let mut members = group.members.borrow_mut();
        members.online.push(Rc::clone(session));
        let is_first = members.online.len() == 1;
        drop(members);
        if is_first {
            self.open_group(group, is_new);
        }
    }

    /// The session has a connection: it takes part in its groups.
    pub(crate) fn come_to_groups(&self, session: &Rc<Session>) {
        for group in self.groups_of(&session.state) {
            self.member_comes(&group, session, false);
        }
    }

    /// The groups of this session.
    pub(crate) fn groups_of(&self, state: &SessionState) -> Vec<Rc<Group>> {
        let shared = state.shared.borrow();
        if shared.is_empty() {
            return Vec::new();
        }
        let groups = self.groups.borrow();
        let filters = shared.iter();
        filters
            .filter_map(|(filter, _)| groups.with_filter(filter))
            .collect()
    }

    /// The session has lost its connection. What it had not acknowledged, `given_back`, goes to others.
    pub(crate) fn go_from_groups(&self, session: &Session, given_back: &[(GroupId, Place)]) {
        let groups = self.groups_of(&session.state);
        for group in &groups {
            self.member_goes(group, session);
        }
        for (id, place) in given_back {
            let group = self.groups.borrow().with_id(*id);
            if let Some(group) = group {
                self.give_back(&group, *place);
            }
        }
        if !session.state.is_persistent() {
            return self.leave_groups(&session.state);
        }
        for group in &groups {
            self.go_on_without_member(group);
        }
    }

    fn member_goes(&self, group: &Group, session: &Session) {
        let mut members = group.members.borrow_mut();
        let id = session.connection.id;
        members.online.retain(|member| member.connection.id != id);
    }

    /// What waited for the member that is gone goes to another one, if there is one.
    fn go_on_without_member(&self, group: &Rc<Group>) {
        let is_closed = group.members.borrow().online.is_empty();
        match is_closed {
            true => self.close_group(group),
            false => self.pump_group(now(), group),
        }
    }

    fn give_back(&self, group: &Group, place: Place) {
        if group.progress.borrow_mut().give_back(place) {
            group.has_changed.set(true);
            group.state.outbound.borrow_mut().read_again_from(place);
            if group.state.is_attached() {
                self.read_for(&group.state);
            }
        }
    }

    /// A subscription of a session ends. Its group ends with the last one.
    pub(crate) fn unsubscribe_shared(&self, state: &SessionState, filter: &TopicFilter) -> bool {
        let mut shared = state.shared.borrow_mut();
        let was_there = shared.remove(filter);
        shared.trim();
        drop(shared);
        if !was_there {
            return false;
        }
        let Some(group) = self.groups.borrow().with_filter(filter) else {
            return true;
        };
        if let Some(session) = state.session() {
            self.member_goes(&group, &session);
        }
        let mut members = group.members.borrow_mut();
        members.subscribed = members.subscribed.saturating_sub(1);
        let is_over = members.subscribed == 0;
        drop(members);
        self.go_on_without_member(&group);
        if is_over {
            self.end_group(&group);
        }
        true
    }

    /// The session has ended: nothing is left of its shared subscriptions.
    pub(crate) fn leave_groups(&self, state: &SessionState) {
        let filters: Vec<_> = {
            let shared = state.shared.borrow();
            shared.iter().map(|(filter, _)| filter.clone()).collect()
        };
        for filter in &filters {
            self.unsubscribe_shared(state, filter);
        }
    }

    /// The group stands in the tree.
    fn open_group(&self, group: &Group, is_new: bool) {
        let connection = self.open_connection();
        // Nobody is at its other end.
        self.close_connection(connection.id);
        let identity = Identity::new(group.filter.as_str(), Rc::new(()));
        let state = Rc::clone(&group.state);
        let version = ProtocolVersion::V5;
        let session = Rc::new(Session::new(connection, version, identity, state));
        *group.state.attached.borrow_mut() = Some(Rc::clone(&session));
        let filters = group.state.filters.borrow();
        let mut subscriptions = self.subscriptions.borrow_mut();
        for (filter, subscribed) in filters.iter() {
            let entry = Entry {
                connection: session.connection.id,
                subscriber: Rc::clone(&session),
                options: subscribed.options,
                identifier: None,
            };
            subscriptions.insert(filter, entry);
        }
        drop((filters, subscriptions));
        self.forget_routes();
        if is_new {
            self.read_unwanted(&group.state);
        } else {
            let newest = self.newest_appended.get();
            group.state.outbound.borrow_mut().attach(newest);
            self.read_for(&group.state);
        }
    }

    /// No member has a connection: the group is a place in the log.
    fn close_group(&self, group: &Group) {
        let Some(session) = group.state.attached.take() else {
            return;
        };
        session.has_ended.set(true);
        let filters = group.state.filters.borrow();
        let mut subscriptions = self.subscriptions.borrow_mut();
        for (filter, _) in filters.iter() {
            subscriptions.remove(filter, session.connection.id);
        }
        drop((filters, subscriptions));
        self.forget_routes();
        let mut outbound = group.state.outbound.borrow_mut();
        let lost = outbound.detach(self.worked_off.get(), &[]);
        if let Some(place) = group.progress.borrow().first_returned() {
            outbound.read_again_from(place);
        }
        drop(outbound);
        let dropped = &self.counters.dropped;
        dropped.add(crate::causes::DropCause::MailboxFull, lost as u64);
        self.write_group(group);
    }

    fn end_group(&self, group: &Group) {
        let mut groups = self.groups.borrow_mut();
        groups.by_filter.remove(&group.filter);
        groups.by_id.remove(&group.id);
        self.counters.groups.set(groups.len());
        drop(groups);
        self.write_group(group);
    }
}
