//! Which member of a group gets a message, by the group's policy.

use std::collections::{BTreeMap, BTreeSet};

use broker::{SharePolicies, SharePolicy};
use mqtt::ProtocolVersion::V5;
use mqtt::{Disconnect, Packet, Unsubscribe};

use crate::shared::{
    acknowledge, came, come, go, numbers, payloads, publish_all, wait_came, window_of,
};
use crate::support::{BOTH, Setup, TestBroker, TestClient, publish, text, wait_for};

const FILTER: &str = "$share/group/a/#";

/// Windows of this size, and this policy for the group.
fn with_policy(policy: SharePolicy, inflight_max: u16) -> Setup {
    Setup {
        share_policies: SharePolicies {
            groups: [("group".to_owned(), policy)].into(),
            ..SharePolicies::default()
        },
        ..window_of(inflight_max)
    }
}

/// Publishes so many messages to each of the topics, in turn.
fn publish_to_topics(broker: &TestBroker, topics: usize, numbers: std::ops::Range<usize>) {
    let mut publisher = broker.client(V5, "publisher");
    for number in numbers {
        for topic in 0..topics {
            publisher.publish_acknowledged(&format!("a/{topic}"), format!("{number:04}"));
        }
    }
}

/// What came to each member of each topic, acknowledged, when so many messages have come in all.
fn take_by_topic(
    members: &mut [TestClient],
    messages: usize,
) -> Vec<BTreeMap<String, Vec<String>>> {
    let mut by_member = vec![BTreeMap::<_, Vec<_>>::new(); members.len()];
    let mut taken = 0;
    wait_for("messages of all topics", || {
        for (member, by_topic) in members.iter_mut().zip(&mut by_member) {
            let received = came(member);
            acknowledge(member, &received);
            taken += received.len();
            for publish in received {
                let topic = publish.topic.unwrap().as_str().to_owned();
                by_topic
                    .entry(topic)
                    .or_default()
                    .push(text(&publish.payload));
            }
        }
        taken >= messages
    });
    by_member
}

#[test]
fn messages_of_a_topic_stay_with_one_member_in_order() {
    for version in BOTH {
        let broker = TestBroker::start(with_policy(SharePolicy::HashTopic, 64));
        let mut members = ["one", "two", "three"].map(|name| come(&broker, version, name));
        for member in &mut members {
            member.subscribe(FILTER);
        }
        publish_to_topics(&broker, 30, 0..2);
        let mut owner = BTreeMap::new();
        for (index, by_topic) in take_by_topic(&mut members, 60).into_iter().enumerate() {
            assert!(by_topic.len() > 2, "{index} has {by_topic:?}");
            for (topic, payloads) in by_topic {
                assert_eq!(payloads, numbers(0..2), "{topic}");
                assert_eq!(owner.insert(topic, index), None);
            }
        }
        assert_eq!(owner.len(), 30);

        // What the one that goes has not acknowledged goes to others, and before what comes later.
        publish_to_topics(&broker, 30, 2..4);
        let [gone, mut rest @ ..] = members;
        go(&broker, gone, false);
        publish_to_topics(&broker, 30, 4..6);
        let mut seen = BTreeSet::new();
        for (index, by_topic) in take_by_topic(&mut rest, 120).into_iter().enumerate() {
            for (topic, payloads) in by_topic {
                assert_eq!(payloads, numbers(2..6), "{topic}");
                assert!([0, index + 1].contains(&owner[&topic]), "{topic} has moved");
                assert!(seen.insert(topic));
            }
        }
        assert_eq!(seen.len(), 30);
    }
}

#[test]
fn sticky_group_waits_for_the_member_that_came_first_and_goes_on_with_the_next() {
    for version in BOTH {
        for unsubscribes in [false, true] {
            let broker = TestBroker::start(with_policy(SharePolicy::Sticky, 2));
            let mut first = broker.client(version, "first");
            first.subscribe(FILTER);
            let mut second = broker.client(version, "second");
            second.subscribe(FILTER);
            publish_all(&broker, "a/1", &numbers(0..6));
            let received = wait_came(&mut first, 2);
            assert_eq!(payloads(&received), numbers(0..2));
            acknowledge(&mut first, &received[..1]);
            assert_eq!(payloads(&wait_came(&mut first, 1)), numbers(2..3));
            second.expect_nothing();
            // The last two are with it whatever it does.
            let next = match unsubscribes {
                false => {
                    first.send(Packet::Disconnect(Disconnect::default()));
                    1
                }
                true => {
                    first.send(Packet::Unsubscribe(Unsubscribe {
                        packet_id: crate::support::id(7),
                        filters: vec![FILTER.parse().unwrap()],
                        user_properties: Vec::new(),
                    }));
                    assert!(matches!(first.receive(), Packet::Unsuback(_)));
                    3
                }
            };
            assert_eq!(second.receive_payloads(6 - next), numbers(next..6));
            second.expect_nothing();
        }
    }
}

#[test]
fn sticky_group_gives_qos0_to_the_member_that_came_first() {
    let broker = TestBroker::start(with_policy(SharePolicy::Sticky, 64));
    let mut members = ["one", "two"].map(|name| broker.client(V5, name));
    for member in &mut members {
        member.subscribe(FILTER);
    }
    let mut publisher = broker.client(V5, "publisher");
    for _ in 0..10 {
        publisher.publish(publish(0, "a", "x"));
    }
    publisher.expect_nothing();
    let counts = members.each_mut().map(|member| came(member).len());
    assert_eq!(counts, [10, 0]);
}

#[test]
fn member_that_acknowledges_nothing_gets_no_more_than_others_have_in_flight() {
    let broker = TestBroker::start(with_policy(SharePolicy::LeastInflight, 64));
    let mut slow = broker.client(V5, "slow");
    slow.subscribe(FILTER);
    let mut quick = broker.client(V5, "quick");
    quick.subscribe(FILTER);
    for number in 0..20 {
        publish_all(&broker, "a/1", &[format!("{number:04}")]);
        let received = came(&mut quick);
        acknowledge(&mut quick, &received);
        quick.ping();
    }
    let of_slow = came(&mut slow);
    assert!(of_slow.len() <= 2, "{:?}", payloads(&of_slow));
}

#[test]
fn group_that_is_not_named_takes_turns() {
    let broker = TestBroker::start(with_policy(SharePolicy::Sticky, 64));
    let mut members = ["one", "two"].map(|name| broker.client(V5, name));
    for member in &mut members {
        member.subscribe("$share/other/a/#");
    }
    publish_all(&broker, "a/1", &numbers(0..10));
    for member in &mut members {
        member.receive_payloads(5);
        member.expect_nothing();
    }
}
