//! Which member of a group of shared subscribers gets the next message. MQTT 5 leaves that to the
//! server (4.8.2).
//!
//! A policy that says *one* member waits for that one when it has no room: order is what it is for.
//! The others pass over a member without room.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use mqtt::TopicName;

use crate::session::Session;

/// How the messages of a group are spread over its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharePolicy {
    /// One member after the other.
    #[default]
    RoundRobin,
    /// The member with the fewest messages in flight.
    LeastInflight,
    /// The member that has been connected for longest; another one when it is gone.
    Sticky,
    /// A member chosen by the topic name, the same one as long as the members are the same: messages of
    /// one topic stay in order. When a member comes or goes, only topics that are or were its own move.
    HashTopic,
}

/// Which group has which policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharePolicies {
    /// Of groups that are not named.
    pub default: SharePolicy,
    /// By name: `workers` of `$share/workers/a/#`, whatever the filter.
    pub groups: BTreeMap<String, SharePolicy>,
}

impl SharePolicies {
    pub(crate) fn of(&self, share_name: &str) -> SharePolicy {
        self.groups.get(share_name).copied().unwrap_or(self.default)
    }
}

/// What a member says to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    Taken,
    /// Not now.
    NoRoom,
    /// Never: it may not have it.
    NotForIt,
}

/// What a policy goes by.
pub(crate) trait Member {
    fn client_id(&self) -> &[u8];
    /// Messages of QoS 1 and 2 that its client has not acknowledged.
    fn inflight(&self) -> usize;
}

impl Member for Rc<Session> {
    fn client_id(&self) -> &[u8] {
        Session::client_id(self)
    }

    fn inflight(&self) -> usize {
        self.connection.machine.borrow().inflight()
    }
}

/// The policy of one group, and whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    policy: SharePolicy,
    turn: usize,
}

impl Sharing {
    pub(crate) fn new(policy: SharePolicy) -> Self {
        Self { policy, turn: 0 }
    }

    /// The member that takes a message to this topic; `None` if it waits. `members` stand in the order
    /// in which they came.
    pub(crate) fn choose<M: Member>(
        &mut self,
        members: &[M],
        topic: &TopicName,
        take: impl FnMut(&M) -> Taking,
    ) -> Option<usize> {
        let all = 0..members.len();
        match self.policy {
            SharePolicy::RoundRobin => {
                let chosen = first_with_room(members, self.in_turn(members.len()), take)?;
                self.turn = chosen + 1;
                Some(chosen)
            }
            SharePolicy::LeastInflight => {
                let mut order: Vec<usize> = self.in_turn(members.len()).collect();
                order.sort_by_key(|index| members.get(*index).map(Member::inflight));
                let chosen = first_with_room(members, order, take)?;
                self.turn = chosen + 1;
                Some(chosen)
            }
            SharePolicy::Sticky => first_of_all(members, all, take),
            SharePolicy::HashTopic => {
                let mut order: Vec<usize> = all.collect();
                let weight =
                    |index: &usize| members.get(*index).map(|member| weight(member, topic));
                order.sort_by_cached_key(|index| std::cmp::Reverse(weight(index)));
                first_of_all(members, order, take)
            }
        }
    }

    /// All of so many members, beginning with the one whose turn it is.
    fn in_turn(self, members: usize) -> impl Iterator<Item = usize> {
        (self.turn..members).chain(0..self.turn.min(members))
    }
}

/// Passes over members without room.
fn first_with_room<M>(
    members: &[M],
    order: impl IntoIterator<Item = usize>,
    mut take: impl FnMut(&M) -> Taking,
) -> Option<usize> {
    let mut takes = |index: &usize| {
        let member = members.get(*index);
        member.is_some_and(|member| take(member) == Taking::Taken)
    };
    order.into_iter().find(|index| takes(index))
}

/// Waits for the first that may have the message.
fn first_of_all<M>(
    members: &[M],
    order: impl IntoIterator<Item = usize>,
    mut take: impl FnMut(&M) -> Taking,
) -> Option<usize> {
    for index in order {
        match take(members.get(index)?) {
            Taking::Taken => return Some(index),
            Taking::NoRoom => return None,
            Taking::NotForIt => {}
        }
    }
    None
}

/// Rendezvous hashing: the member with the most weight has the topic.
fn weight(member: &impl Member, topic: &TopicName) -> u64 {
    let mut hasher = DefaultHasher::new();
    topic.as_str().hash(&mut hasher);
    member.client_id().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(&'static str, usize);

    impl Member for Fake {
        fn client_id(&self) -> &[u8] {
            self.0.as_bytes()
        }

        fn inflight(&self) -> usize {
            self.1
        }
    }

    const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

    fn idle(count: usize) -> Vec<Fake> {
        NAMES.iter().take(count).map(|name| Fake(name, 0)).collect()
    }

    fn topic(number: usize) -> TopicName {
        format!("line/{number}").parse().unwrap()
    }

    fn taken(_: &Fake) -> Taking {
        Taking::Taken
    }

    /// Takes everything but at this member.
    fn but(name: &'static str, instead: Taking) -> impl Fn(&Fake) -> Taking {
        move |member| match member.0 == name {
            true => instead,
            false => Taking::Taken,
        }
    }

    #[test]
    fn members_take_turns_and_those_without_room_are_passed_over() {
        let mut sharing = Sharing::new(SharePolicy::RoundRobin);
        let three = idle(3);
        let turns: Vec<_> = (0..4)
            .filter_map(|_| sharing.choose(&three, &topic(0), taken))
            .collect();
        assert_eq!(turns, [0, 1, 2, 0]);
        let full = but("two", Taking::NoRoom);
        assert_eq!(sharing.choose(&three, &topic(0), full), Some(2));
        let one = sharing.choose(&idle(1), &topic(0), taken);
        assert_eq!(one, Some(0), "others have gone");
        assert_eq!(
            sharing.choose(&idle(2), &topic(0), |_| Taking::NoRoom),
            None
        );
        assert_eq!(sharing.choose(&idle(0), &topic(0), taken), None);
    }

    #[test]
    fn member_with_the_fewest_in_flight_is_asked_first_and_equals_take_turns() {
        let mut sharing = Sharing::new(SharePolicy::LeastInflight);
        let members = [Fake("one", 2), Fake("two", 1), Fake("three", 1)];
        let mut next = |take: fn(&Fake) -> Taking| sharing.choose(&members, &topic(0), take);
        let turns: Vec<_> = (0..3).filter_map(|_| next(taken)).collect();
        assert_eq!(turns, [1, 2, 1]);
        let only_one = |member: &Fake| match member.0 {
            "one" => Taking::Taken,
            _ => Taking::NoRoom,
        };
        assert_eq!(next(only_one), Some(0));
    }

    #[test]
    fn sticky_group_waits_for_its_first_member_that_may_have_the_message() {
        let mut sharing = Sharing::new(SharePolicy::Sticky);
        let mut choose = |take: &dyn Fn(&Fake) -> Taking| {
            let members = idle(3);
            sharing.choose(&members, &topic(0), take)
        };
        assert_eq!(choose(&taken), Some(0));
        assert_eq!(choose(&but("one", Taking::NoRoom)), None);
        assert_eq!(choose(&but("one", Taking::NotForIt)), Some(1));
        assert_eq!(choose(&taken), Some(0), "it is still there");
    }

    #[test]
    fn topic_stays_with_its_member_and_moves_only_when_that_goes() {
        let mut sharing = Sharing::new(SharePolicy::HashTopic);
        let mut owner = |members: &[Fake], number: usize| {
            let chosen = sharing.choose(members, &topic(number), taken)?;
            members.get(chosen).map(|member| member.0)
        };
        let mut topics_of = BTreeMap::<_, usize>::new();
        for number in 0..1_000 {
            let before = owner(&idle(4), number);
            assert_eq!(owner(&idle(4), number), before);
            *topics_of.entry(before).or_default() += 1;
            let after = owner(&idle(5), number);
            assert!(after == before || after == Some("five"), "topic {number}");
        }
        assert_eq!(topics_of.len(), 4);
        let fewest = topics_of.values().min();
        assert!(fewest >= Some(&200), "of 1,000 topics: {topics_of:?}");
    }

    #[test]
    fn topic_waits_for_its_member() {
        let mut sharing = Sharing::new(SharePolicy::HashTopic);
        let members = idle(3);
        let owner = sharing.choose(&members, &topic(7), taken).unwrap();
        let name = members[owner].0;
        let full = sharing.choose(&members, &topic(7), but(name, Taking::NoRoom));
        assert_eq!(full, None);
        let forbidden = sharing.choose(&members, &topic(7), but(name, Taking::NotForIt));
        assert!(forbidden.is_some() && forbidden != Some(owner));
    }

    #[test]
    fn group_that_is_named_has_its_own_policy() {
        let groups = [("ordered".to_owned(), SharePolicy::HashTopic)];
        let policies = SharePolicies {
            default: SharePolicy::LeastInflight,
            groups: groups.into(),
        };
        assert_eq!(policies.of("ordered"), SharePolicy::HashTopic);
        assert_eq!(policies.of("others"), SharePolicy::LeastInflight);
    }
}
