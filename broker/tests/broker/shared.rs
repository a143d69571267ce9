//! Shared subscriptions: each message goes to one member of a group (MQTT 5, 4.8.2).

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::rc::Rc;

use broker::{Authentication, Authorizer, Client, ConnectAttempt, Identity, Limits};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    Acknowledgement, Connect, Delivery, Disconnect, Packet, ProtocolVersion, Publish, QoS,
    ReasonCode, SubscriptionOptions, TopicFilter, TopicName, Unsubscribe,
};

use crate::session_resends::copy;
use crate::support::{
    BOTH, Setup, TestBroker, TestClient, TestLog, connect, id, publish, qos1, text, wait_for,
};

const FILTER: &str = "$share/group/a/#";

fn staying(version: ProtocolVersion, client_id: &str) -> Connect {
    let mut connect = Connect {
        clean_start: false,
        ..connect(version, client_id)
    };
    if version == V5 {
        connect.properties.session_expiry_interval = Some(3_600);
    }
    connect
}

pub(crate) fn come(broker: &TestBroker, version: ProtocolVersion, client_id: &str) -> TestClient {
    TestClient::connect(broker.address(), staying(version, client_id))
}

/// Says good-bye, or breaks off, and waits until the broker knows.
pub(crate) fn go(broker: &TestBroker, mut client: TestClient, with_good_bye: bool) {
    let before = broker.probe.status().connections;
    if with_good_bye {
        client.send(Packet::Disconnect(Disconnect::default()));
        while client.try_receive().is_some() {}
    }
    drop(client);
    wait_for("the end of the connection", || {
        broker.probe.status().connections < before
    });
}

pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:04}")).collect()
}

pub(crate) fn publish_all(broker: &TestBroker, topic: &str, payloads: &[String]) {
    let mut publisher = broker.client(V5, "publisher");
    for payload in payloads {
        publisher.publish_acknowledged(topic, payload);
    }
}

fn publish_qos2(broker: &TestBroker, payloads: &[&str]) {
    let mut publisher = broker.client(V5, "publisher");
    for payload in payloads {
        let delivery = Delivery::ExactlyOnce {
            packet_id: id(1),
            dup: false,
        };
        publisher.publish(Publish {
            delivery,
            ..publish(0, "a/2", payload)
        });
        assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
        let pubrel = Acknowledgement::new(id(1), ReasonCode::Success);
        publisher.send(Packet::Pubrel(pubrel));
        assert!(matches!(publisher.receive(), Packet::Pubcomp(_)));
    }
}

fn qos2() -> SubscriptionOptions {
    SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..SubscriptionOptions::default()
    }
}

/// What has come, without acknowledging it.
pub(crate) fn came(client: &mut TestClient) -> Vec<Publish> {
    let packets = client.ping().into_iter();
    packets
        .map(|packet| match packet {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Waits until so many messages have come, without acknowledging them.
pub(crate) fn wait_came(client: &mut TestClient, count: usize) -> Vec<Publish> {
    let mut all = Vec::new();
    wait_for("messages", || {
        all.extend(came(client));
        all.len() >= count
    });
    assert_eq!(all.len(), count);
    all
}

pub(crate) fn payloads(publishes: &[Publish]) -> Vec<String> {
    publishes.iter().map(|p| text(&p.payload)).collect()
}

pub(crate) fn acknowledge(client: &mut TestClient, publishes: &[Publish]) {
    for publish in publishes {
        let packet_id = publish.delivery.packet_id().unwrap();
        let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
        client.send(Packet::Puback(puback));
    }
}

pub(crate) fn window_of(inflight_max: u16) -> Setup {
    Setup::with_limits(Limits {
        inflight_max: NonZeroU16::new(inflight_max).unwrap(),
        mailbox_bytes_max: 65_536,
        packet_bytes_max: 16_384,
        ..Limits::default()
    })
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut members = ["one", "two", "three"].map(|name| broker.client(version, name));
        for member in &mut members {
            member.subscribe(FILTER);
        }
        let mut watcher = broker.client(version, "watcher");
        watcher.subscribe("a/#");
        let all = numbers(0..30);
        publish_all(&broker, "a/1", &all);
        let mut seen = BTreeSet::new();
        for member in &mut members {
            let received = member.receive_payloads(10);
            assert!(received.is_sorted(), "{received:?}");
            seen.extend(received);
            member.expect_nothing();
        }
        assert_eq!(Vec::from_iter(seen), all);
        assert_eq!(watcher.receive_payloads(30), all);
        for member in members {
            go(&broker, member, true);
        }
        assert_eq!(broker.probe.counters().groups.get(), 0);
    }
}

#[test]
fn message_of_qos0_goes_to_one_member() {
    let broker = TestBroker::start(Setup::default());
    let mut members = ["one", "two"].map(|name| broker.client(V5, name));
    for member in &mut members {
        member.subscribe(FILTER);
    }
    let mut publisher = broker.client(V5, "publisher");
    for _ in 0..10 {
        publisher.publish(publish(0, "a", "x"));
    }
    publisher.expect_nothing();
    for member in &mut members {
        assert_eq!(came(member).len(), 5);
    }
}

#[test]
fn message_that_a_lost_member_did_not_acknowledge_goes_to_another() {
    for with_good_bye in [true, false] {
        let broker = TestBroker::start(Setup::default());
        for version in BOTH {
            let mut lost = come(&broker, version, "lost");
            lost.subscribe(FILTER);
            publish_all(&broker, "a/1", &numbers(0..10));
            let received = came(&mut lost);
            assert_eq!(payloads(&received), numbers(0..10));
            acknowledge(&mut lost, &received[..4]);
            assert_eq!(came(&mut lost), []);
            let mut other = broker.client(version, "other");
            other.subscribe(FILTER);
            other.expect_nothing();
            go(&broker, lost, with_good_bye);
            assert_eq!(other.receive_payloads(6), numbers(4..10));
            publish_all(&broker, "a/1", &numbers(10..12));
            assert_eq!(other.receive_payloads(2), numbers(10..12));
            // Nothing of it is left for the one that was lost.
            let mut lost = come(&broker, version, "lost");
            lost.expect_nothing();
            other.expect_nothing();
            lost.send(Packet::Unsubscribe(unsubscribe()));
            assert!(matches!(lost.receive(), Packet::Unsuback(_)));
            go(&broker, other, true);
            go(&broker, lost, true);
        }
    }
}

fn unsubscribe() -> Unsubscribe {
    Unsubscribe {
        packet_id: id(7),
        filters: vec![FILTER.parse().unwrap()],
        user_properties: Vec::new(),
    }
}

#[test]
fn message_of_qos2_stays_with_the_session_of_a_lost_member() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut lost = come(&broker, version, "lost");
        lost.subscribe_with(FILTER, qos2(), None);
        publish_qos2(&broker, &["first", "second"]);
        let received = wait_came(&mut lost, 2);
        assert_eq!(payloads(&received), ["first", "second"]);
        let mut other = broker.client(version, "other");
        other.subscribe_with(FILTER, qos2(), None);
        go(&broker, lost, false);
        publish_qos2(&broker, &["third"]);
        assert_eq!(other.receive_payloads(1), ["third"]);
        other.expect_nothing();
        let mut lost = come(&broker, version, "lost");
        assert_eq!(lost.receive_payloads(2), ["first", "second"]);
        publish_qos2(&broker, &["fourth", "fifth"]);
        // Discarded with the session of a member that does not come back.
        let discarded = payloads(&wait_came(&mut other, 1));
        go(&broker, other, false);
        let received = lost.receive_payloads(1);
        assert!(received == ["fourth"] || received == ["fifth"]);
        assert_ne!(received, discarded);
        lost.expect_nothing();
        lost.send(Packet::Unsubscribe(unsubscribe()));
        assert!(matches!(lost.receive(), Packet::Unsuback(_)));
        go(&broker, lost, true);
    }
}

#[test]
fn group_whose_members_are_all_away_goes_on_when_one_returns() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut members = ["one", "two"].map(|name| come(&broker, version, name));
        for member in &mut members {
            member.subscribe(FILTER);
        }
        let [mut one, two] = members;
        publish_all(&broker, "a/1", &numbers(0..1));
        assert_eq!(payloads(&came(&mut one)), ["0000"]);
        go(&broker, two, true);
        go(&broker, one, false);
        publish_all(&broker, "a/1", &numbers(1..300));
        publish_all(&broker, "b", &numbers(0..3));
        let mut two = come(&broker, version, "two");
        assert_eq!(two.receive_payloads(300), numbers(0..300));
        publish_all(&broker, "a/2", &numbers(300..310));
        assert_eq!(two.receive_payloads(10), numbers(300..310));
        two.expect_nothing();
        let mut one = come(&broker, version, "one");
        one.expect_nothing();
        for mut member in [one, two] {
            member.send(Packet::Unsubscribe(unsubscribe()));
            assert!(matches!(member.receive(), Packet::Unsuback(_)));
            go(&broker, member, true);
        }
    }
}

#[test]
fn group_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let mut one = come(&broker, V5, "one");
    one.subscribe(FILTER);
    publish_all(&broker, "a/1", &numbers(0..10));
    let received = came(&mut one);
    acknowledge(&mut one, &received[2..7]);
    assert_eq!(came(&mut one), []);
    go(&broker, one, false);
    publish_all(&broker, "a/1", &numbers(10..20));
    broker.stop();

    let broker = TestBroker::start_at(&path, Setup::default());
    assert_eq!(broker.probe.counters().groups.get(), 1);
    publish_all(&broker, "a/1", &numbers(20..30));
    let mut one = come(&broker, V5, "one");
    let expected = [numbers(0..2), numbers(7..30)].concat();
    assert_eq!(one.receive_payloads(25), expected);
    one.expect_nothing();
    broker.stop();
}

/// With QoS 1 it comes again, with QoS 2 it does not, not to another member either.
#[test]
fn message_of_qos2_that_was_sent_comes_to_nobody_else_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let mut kept = come(&broker, V5, "kept");
    kept.subscribe_with(FILTER, qos2(), None);
    // Its own session ends with its connection.
    let mut fleeting = broker.client(V5, "fleeting");
    fleeting.subscribe_with(FILTER, qos2(), None);
    publish_qos2(&broker, &["0", "1", "2", "3", "4", "5"]);
    publish_all(&broker, "a/1", &["6".to_owned()]);
    let mut of_kept = vec![kept.receive_payloads(1).remove(0)];
    let of_fleeting = wait_came(&mut fleeting, 3).len();
    of_kept.extend(payloads(&wait_came(&mut kept, 7 - 1 - of_fleeting)));
    let after_crash = folder.path().join("after");
    copy(&path, &after_crash);
    drop((kept, fleeting));
    broker.stop();

    let broker = TestBroker::start_at(&after_crash, Setup::default());
    let mut other = broker.client(V5, "other");
    other.subscribe_with(FILTER, qos2(), None);
    assert_eq!(other.receive_payloads(1), ["6"], "of QoS 1");
    other.expect_nothing();
    let mut kept = come(&broker, V5, "kept");
    let mut again = Vec::new();
    wait_for("what was sent", || {
        for packet in kept.ping() {
            match packet {
                Packet::Publish(publish) => again.push(text(&publish.payload)),
                Packet::Pubrel(_) => {}
                other => panic!("{other:?}"),
            }
        }
        again.len() >= 2
    });
    kept.expect_nothing();
    of_kept.retain(|payload| payload != "6");
    assert_eq!(again, of_kept[1..]);
    broker.stop();
}

#[test]
fn slow_members_get_everything_from_the_log() {
    for version in BOTH {
        let broker = TestBroker::start(window_of(2));
        let mut members = ["one", "two", "three"].map(|name| broker.client(version, name));
        for member in &mut members {
            member.subscribe(FILTER);
        }
        let all: Vec<String> = (0..300).map(|number| format!("{number:0500}")).collect();
        publish_all(&broker, "a/b", &all);
        wait_for("a group that is behind", || {
            broker.probe.counters().groups_behind.get() == 1
        });
        assert_eq!(broker.probe.status().sessions_behind, 0);
        let mut seen = BTreeSet::new();
        while seen.len() < 300 {
            for (index, member) in members.iter_mut().enumerate() {
                let received = came(member);
                // One of them acknowledges nothing.
                if index < 2 {
                    acknowledge(member, &received);
                }
                assert!(received.len() <= 2);
                for payload in payloads(&received) {
                    assert!(seen.insert(payload), "twice");
                }
            }
        }
        wait_for("a live group", || {
            broker.probe.counters().groups_behind.get() == 0
        });
        let [mut one, mut two, three] = members;
        go(&broker, three, false);
        let mut again = 0;
        wait_for("those of the lost one", || {
            again += came(&mut one).len() + came(&mut two).len();
            again >= 2
        });
        one.expect_nothing();
        two.expect_nothing();
        assert_eq!(again, 2);
    }
}

#[test]
fn shared_and_ordinary_subscription_of_a_client_are_separate() {
    let broker = TestBroker::start(Setup::default());
    let mut client = broker.client(V5, "client");
    client.subscribe_with(FILTER, qos1(), Some(5));
    client.subscribe_with("a/+", qos1(), Some(6));
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a/1", "x");
    let received = [client.receive_publish(), client.receive_publish()];
    let mut identifiers: Vec<Vec<u32>> = received
        .iter()
        .map(|publish| {
            let identifiers = publish.subscription_identifiers.iter();
            identifiers.map(|identifier| identifier.get()).collect()
        })
        .collect();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [[5], [6]]);
    client.expect_nothing();
}

#[test]
fn no_retained_message_comes_with_a_shared_subscription() {
    let broker = TestBroker::start(Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    publisher.retain_acknowledged("a/1", "old");
    let mut client = broker.client(V5, "client");
    client.subscribe(FILTER);
    client.expect_nothing();
    publisher.retain_acknowledged("a/1", "new");
    let received = client.receive_publish();
    assert!(!received.retain);
}

#[test]
fn last_member_that_unsubscribes_ends_the_group() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut one = come(&broker, version, "one");
        let mut two = come(&broker, version, "two");
        one.subscribe(FILTER);
        two.subscribe(FILTER);
        go(&broker, two, true);
        one.send(Packet::Unsubscribe(unsubscribe()));
        assert!(matches!(one.receive(), Packet::Unsuback(_)));
        publish_all(&broker, "a/1", &numbers(0..3));
        one.expect_nothing();
        assert_eq!(broker.probe.counters().groups.get(), 1);
        let mut two = come(&broker, version, "two");
        assert_eq!(two.receive_payloads(3), numbers(0..3));
        two.send(Packet::Unsubscribe(unsubscribe()));
        assert!(matches!(two.receive(), Packet::Unsuback(_)));
        assert_eq!(broker.probe.counters().groups.get(), 0);
        publish_all(&broker, "a/1", &numbers(3..6));
        // Another one begins with what comes now.
        one.subscribe(FILTER);
        one.expect_nothing();
        publish_all(&broker, "a/1", &numbers(6..7));
        assert_eq!(one.receive_payloads(1), numbers(6..7));
        one.send(Packet::Unsubscribe(unsubscribe()));
        assert!(matches!(one.receive(), Packet::Unsuback(_)));
        go(&broker, one, true);
        go(&broker, two, true);
    }
}

#[test]
fn shared_subscription_is_refused_where_it_cannot_be() {
    let limits = Limits {
        subscriptions_per_client_max: 2,
        ..Limits::default()
    };
    let broker = TestBroker::start(Setup::with_limits(limits));
    let mut client = broker.client(V5, "client");
    let mut code = |filter: &str| client.subscribe_with(filter, qos1(), None);
    assert_eq!(
        code("$share/g/$replay/-1h/a"),
        ReasonCode::TopicFilterInvalid
    );
    let long = format!("$share/g/{}", "x".repeat(1_100));
    assert_eq!(code(&long), ReasonCode::QuotaExceeded);
    assert_eq!(code("$share/g/a"), ReasonCode::GrantedQos1);
    assert_eq!(code("$share/h/a"), ReasonCode::GrantedQos1);
    assert_eq!(code("$share/i/a"), ReasonCode::QuotaExceeded, "its third");
    let mut client = broker.client(V311, "other");
    let mut code = |filter: &str| client.subscribe_with(filter, qos1(), None);
    assert_eq!(
        code("$share/i/a"),
        ReasonCode::UnspecifiedError,
        "the third group"
    );
    assert_eq!(code("$share/h/a"), ReasonCode::GrantedQos1);
    for bad in [
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/+/a",
        "$share/g#/a",
    ] {
        assert!(bad.parse::<TopicFilter>().is_err(), "{bad}");
    }
}

/// Messages that no log takes are shared, too.
#[test]
fn message_of_a_memory_log_goes_to_one_member() {
    let broker = TestBroker::start(Setup {
        memory: &["a/#"],
        logs: vec![TestLog::new("all", &["#"])],
        ..Setup::default()
    });
    let mut members = ["one", "two"].map(|name| broker.client(V5, name));
    for member in &mut members {
        member.subscribe(FILTER);
    }
    publish_all(&broker, "a/1", &numbers(0..10));
    for member in &mut members {
        assert_eq!(member.receive_payloads(5).len(), 5);
        member.expect_nothing();
    }
}

/// Everybody may subscribe to `a/#`, and only `one` have what is under `a/2`.
struct Permissions;

impl Authorizer for Permissions {
    fn authenticate(&self, _: &ConnectAttempt<'_>) -> Authentication {
        Authentication::Done(Ok(Identity::new("anybody", Rc::new(()))))
    }

    fn may_publish(&self, _: Client<'_>, _: &TopicName, _: QoS, _: bool) -> bool {
        true
    }

    fn may_subscribe(&self, _: Client<'_>, filter: &TopicFilter) -> bool {
        filter.as_str() == "a/#"
    }

    fn may_replay(&self, _: Client<'_>, _: &TopicFilter) -> bool {
        true
    }

    fn may_receive(&self, client: Client<'_>, topic: &TopicName) -> bool {
        topic.as_str() == "a/1" || client.client_id == "one" && topic.as_str() == "a/2"
    }
}

#[test]
fn message_goes_to_a_member_that_may_have_it() {
    let broker = TestBroker::start(Setup {
        authorizer: Box::new(|| Rc::new(Permissions)),
        ..Setup::default()
    });
    let mut members = ["one", "two"].map(|name| broker.client(V5, name));
    for member in &mut members {
        member.subscribe(FILTER);
    }
    let code = members[0].subscribe_with("$share/group/b", qos1(), None);
    assert_eq!(code, ReasonCode::NotAuthorized);
    publish_all(&broker, "a/2", &numbers(0..4));
    publish_all(&broker, "a/3", &numbers(4..6));
    publish_all(&broker, "a/1", &numbers(6..8));
    let [one, two] = members.map(|mut member| payloads(&came(&mut member)));
    assert_eq!(one[..4], numbers(0..4));
    assert_eq!([one.len(), two.len()], [5, 1]);
}

/// Numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % end
    }
}

/// What the clients of a group see and do.
struct Played {
    members: [Option<TestClient>; 3],
    /// Of each, packet identifiers of messages of QoS 2 that were not released.
    unreleased: [BTreeSet<u16>; 3],
    /// Of QoS 1.
    acknowledged: BTreeSet<String>,
    /// Of QoS 2, as often as it was taken.
    taken: Vec<String>,
}

impl Played {
    fn step(&mut self, broker: &TestBroker, chance: &mut Chance) {
        let index = chance.below(3);
        let what = chance.below(6);
        let Some(mut client) = self.members[index].take() else {
            self.members[index] = Some(come(broker, V5, &format!("member-{index}")));
            return;
        };
        for packet in client.ping() {
            let acknowledgement = |id| Acknowledgement::new(id, ReasonCode::Success);
            match packet {
                Packet::Publish(publish) => match publish.delivery {
                    Delivery::AtLeastOnce { packet_id, .. } if what > 1 => {
                        self.acknowledged.insert(text(&publish.payload));
                        client.send(Packet::Puback(acknowledgement(packet_id)));
                    }
                    Delivery::ExactlyOnce { packet_id, .. } => {
                        if self.unreleased[index].insert(packet_id.get()) {
                            self.taken.push(text(&publish.payload));
                        }
                        client.send(Packet::Pubrec(acknowledgement(packet_id)));
                    }
                    _ => {}
                },
                Packet::Pubrel(pubrel) => {
                    self.unreleased[index].remove(&pubrel.packet_id.get());
                    client.send(Packet::Pubcomp(acknowledgement(pubrel.packet_id)));
                }
                other => panic!("{other:?}"),
            }
        }
        // What it did not acknowledge it never will: it goes.
        if what <= 2 {
            go(broker, client, what == 2);
        } else {
            self.members[index] = Some(client);
        }
    }
}

#[test]
fn every_message_is_acknowledged_once_whoever_comes_and_goes() {
    for seed in 1..=3 {
        let mut chance = Chance(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut path = folder.path().join("data");
        let setup = || window_of(3);
        let mut broker = TestBroker::start_at(&path, setup());
        let mut played = Played {
            members: [0, 1, 2].map(|index| {
                let mut client = come(&broker, V5, &format!("member-{index}"));
                let code = client.subscribe_with(FILTER, qos2(), None);
                assert_eq!(code, ReasonCode::GrantedQos2);
                Some(client)
            }),
            acknowledged: BTreeSet::new(),
            unreleased: Default::default(),
            taken: Vec::new(),
        };
        let (mut qos1, mut qos2) = (Vec::new(), Vec::new());
        for round in 0..120 {
            let payload = format!("{round:0800}");
            if chance.below(3) == 0 {
                publish_qos2(&broker, &[&payload]);
                qos2.push(payload);
            } else {
                let burst: Vec<_> = (0..6).map(|i| format!("{payload}-{i}")).collect();
                publish_all(&broker, "a/1", &burst);
                qos1.extend(burst);
            }
            played.step(&broker, &mut chance);
            if chance.below(25) == 0 {
                // A good-bye of the broker, or what a SIGKILL leaves.
                if chance.below(3) > 0 {
                    let after_crash = folder.path().join(format!("after-{round}"));
                    copy(&path, &after_crash);
                    path = after_crash;
                }
                played.members = [None, None, None];
                broker.stop();
                broker = TestBroker::start_at(&path, setup());
            }
        }
        let all = BTreeSet::from_iter(qos1);
        let is_done = |played: &Played| {
            played.acknowledged.len() == all.len() && played.taken.len() >= qos2.len()
        };
        for _ in 0..20_000 {
            if is_done(&played) {
                break;
            }
            played.step(&broker, &mut chance);
        }
        assert_eq!(played.acknowledged, all, "seed {seed}");
        played.taken.sort_unstable();
        assert_eq!(played.taken, qos2, "seed {seed}");
        broker.stop();
    }
}

#[test]
fn message_of_qos1_does_not_overtake_one_of_qos2_that_waits_for_flash() {
    let broker = TestBroker::start(Setup::held());
    let mut kept = come(&broker, V5, "kept");
    kept.subscribe_with(FILTER, qos2(), None);
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(Publish {
        delivery: Delivery::ExactlyOnce {
            packet_id: id(1),
            dup: false,
        },
        ..publish(0, "a/1", "first")
    });
    publisher.publish(publish(2, "a/1", "second"));
    assert_eq!(publisher.ping(), []);
    broker.commit();
    assert_eq!(kept.receive_payloads(2), ["first", "second"]);
}

/// What nobody wanted when it was published is not pushed to anybody.
#[test]
fn group_that_begins_before_a_commit_gets_what_is_in_it() {
    let broker = TestBroker::start(Setup::held());
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(publish(1, "a/1", "on its way"));
    assert_eq!(publisher.ping(), []);
    let mut member = broker.client(V5, "member");
    member.subscribe(FILTER);
    broker.commit();
    assert_eq!(member.receive_payloads(1), ["on its way"]);
    member.expect_nothing();
}
