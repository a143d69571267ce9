//! SUBSCRIBE and UNSUBSCRIBE, and what subscriptions ask for.

use std::rc::Rc;

use broker::{Authentication, Authorizer, Client, ConnectAttempt, Identity, Limits};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    Packet, ProtocolVersion, QoS, ReasonCode, Subscribe, Subscription, SubscriptionOptions,
    TopicFilter, TopicName, Unsubscribe,
};

use crate::support::{BOTH, Setup, TestBroker, TestClient, id, publish, qos1, text};

fn unsubscribe(client: &mut TestClient, filters: &[&str]) -> Vec<ReasonCode> {
    client.send(Packet::Unsubscribe(Unsubscribe {
        packet_id: id(50),
        filters: filters.iter().map(|text| text.parse().unwrap()).collect(),
        user_properties: Vec::new(),
    }));
    match client.receive() {
        Packet::Unsuback(unsuback) => unsuback.reason_codes,
        other => panic!("{other:?} in the place of UNSUBACK"),
    }
}

#[test]
fn filters_get_what_they_match() {
    let broker = TestBroker::start(Setup::default());
    let filters = ["#", "+/b", "a/#", "a/b", "$dev/#"];
    let mut subscribers: Vec<_> = filters
        .iter()
        .map(|filter| {
            let mut client = broker.client(V311, &format!("s{filter}"));
            client.subscribe(filter);
            client
        })
        .collect();
    let mut publisher = broker.client(V311, "publisher");
    for topic in ["a", "a/b", "c/b", "c/d", "$dev/b"] {
        publisher.publish_acknowledged(topic, topic);
    }
    let expected: [&[&str]; 5] = [
        &["a", "a/b", "c/b", "c/d"],
        &["a/b", "c/b"],
        &["a", "a/b"],
        &["a/b"],
        &["$dev/b"],
    ];
    for (subscriber, expected) in subscribers.iter_mut().zip(expected) {
        assert_eq!(subscriber.receive_payloads(expected.len()), expected);
        subscriber.expect_nothing();
    }
}

#[test]
fn overlapping_subscriptions_bring_one_copy_with_all_identifiers_and_the_highest_qos() {
    let broker = TestBroker::start(Setup::default());
    let mut subscriber = broker.client(V5, "subscriber");
    let qos0 = SubscriptionOptions::default();
    subscriber.subscribe_with("a/#", qos0, Some(3));
    subscriber.subscribe_with("a/b", qos1(), Some(1));
    subscriber.subscribe_with("+/b", qos0, Some(3));
    subscriber.subscribe_with("#", qos0, None);
    subscriber.subscribe_with("c", qos0, Some(7));
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a/b", "x");
    let received = subscriber.receive_publish();
    assert_eq!(received.delivery.qos(), QoS::AtLeastOnce);
    let mut identifiers: Vec<u32> = received
        .subscription_identifiers
        .iter()
        .map(|identifier| identifier.get())
        .collect();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [1, 3, 3]);
    subscriber.expect_nothing();
}

#[test]
fn own_messages_do_not_come_when_they_are_not_wanted() {
    let broker = TestBroker::start(Setup::default());
    let no_local = SubscriptionOptions {
        no_local: true,
        ..qos1()
    };
    let mut client = broker.client(V5, "client");
    client.subscribe_with("a/#", no_local, Some(1));
    client.subscribe_with("a/b", qos1(), Some(2));
    let receive = |client: &mut TestClient, own: bool| {
        let mut received = Vec::new();
        while received.len() < if own { 2 } else { 1 } {
            match client.receive() {
                Packet::Publish(publish) => received.push(publish),
                Packet::Puback(_) => {}
                other => panic!("{other:?}"),
            }
        }
        received
    };
    // Its own: only by the subscription without the option.
    client.publish(publish(1, "a/b", "own"));
    client.publish(publish(2, "a/c", "own"));
    client.publish(publish(3, "a/b", "end"));
    let own = receive(&mut client, true);
    assert_eq!(
        own.iter().map(|p| text(&p.payload)).collect::<Vec<_>>(),
        ["own", "end"]
    );
    assert_eq!(own[0].subscription_identifiers.len(), 1);
    assert_eq!(own[0].subscription_identifiers[0].get(), 2);
    // Others': by both.
    broker.client(V5, "other").publish_acknowledged("a/b", "x");
    let others = receive(&mut client, false);
    assert_eq!(others[0].subscription_identifiers.len(), 2);
}

#[test]
fn second_subscription_with_the_same_filter_replaces_the_first() {
    let broker = TestBroker::start(Setup::default());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe_with("a", qos1(), Some(1));
    subscriber.subscribe_with("a", SubscriptionOptions::default(), Some(2));
    assert_eq!(broker.probe.status().subscriptions, 1);
    broker
        .client(V5, "publisher")
        .publish_acknowledged("a", "x");
    let received = subscriber.receive_publish();
    assert_eq!(received.delivery.qos(), QoS::AtMostOnce);
    assert_eq!(received.subscription_identifiers[0].get(), 2);
}

#[test]
fn nothing_comes_after_unsubscribe() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut subscriber = broker.client(version, "subscriber");
        subscriber.subscribe("a");
        subscriber.subscribe("b");
        let codes = unsubscribe(&mut subscriber, &["a", "never"]);
        if version == V5 {
            let none = ReasonCode::NoSubscriptionExisted;
            assert_eq!(codes, [ReasonCode::Success, none]);
        }
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("a", "x");
        publisher.publish_acknowledged("b", "y");
        assert_eq!(subscriber.receive_payloads(1), ["y"]);
        subscriber.expect_nothing();
    }
}

#[test]
fn subscriptions_end_with_the_connection() {
    let broker = TestBroker::start(Setup::default());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("a");
    assert_eq!(broker.probe.status().subscriptions, 1);
    drop(subscriber);
    // The connection is counted off before its session is taken apart.
    crate::support::wait_for("the end of the session", || {
        broker.probe.status().subscriptions == 0
    });
    assert_eq!(broker.probe.status().sessions_v5, 0);
    let mut again = broker.client(V5, "subscriber");
    broker
        .client(V5, "publisher")
        .publish_acknowledged("a", "x");
    again.expect_nothing();
}

/// The codes of one SUBSCRIBE with these filters, QoS 2 each.
fn codes(client: &mut TestClient, filters: &[&str]) -> Vec<ReasonCode> {
    let subscription = |text: &&str| Subscription {
        filter: text.parse().unwrap(),
        options: SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            ..SubscriptionOptions::default()
        },
    };
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(9),
        subscriptions: filters.iter().map(subscription).collect(),
        subscription_identifier: None,
        user_properties: Vec::new(),
    }));
    match client.receive() {
        Packet::Suback(suback) => suback.reason_codes,
        other => panic!("{other:?} in the place of SUBACK"),
    }
}

#[test]
fn each_filter_of_a_subscribe_gets_its_own_code() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        topic_levels_max: 3,
        subscriptions_per_client_max: 3,
        ..Limits::default()
    }));
    let filters = [
        "$share/group/a",
        "a/b/c/#",
        "$replay/a",
        "a/b/c",
        "$SYS/#",
        "one/too/many",
        "a/b/c",
    ];
    let failure = ReasonCode::UnspecifiedError;
    for (version, expected) in [
        (
            V5,
            [
                ReasonCode::GrantedQos2,
                ReasonCode::TopicFilterInvalid,
                ReasonCode::TopicFilterInvalid,
                ReasonCode::GrantedQos2,
                ReasonCode::GrantedQos2,
                ReasonCode::QuotaExceeded,
                ReasonCode::GrantedQos2,
            ],
        ),
        (
            V311,
            [
                ReasonCode::GrantedQos2,
                failure,
                failure,
                ReasonCode::GrantedQos2,
                ReasonCode::GrantedQos2,
                failure,
                ReasonCode::GrantedQos2,
            ],
        ),
    ] {
        let mut client = broker.client(version, "client");
        assert_eq!(codes(&mut client, &filters), expected, "{version:?}");
        // Room comes back.
        unsubscribe(&mut client, &["$SYS/#"]);
        assert_eq!(codes(&mut client, &["one"]), [ReasonCode::GrantedQos2]);
    }
}

#[test]
fn long_filters_of_one_client_are_bounded_in_bytes() {
    let broker = TestBroker::start(Setup::default());
    let mut client = broker.client(V5, "client");
    let filter = |number: u32| format!("{number:0>60000}");
    // 1,000 filters of 256 bytes each.
    for number in 0..4 {
        assert_eq!(
            codes(&mut client, &[&filter(number)]),
            [ReasonCode::GrantedQos2]
        );
    }
    assert_eq!(
        codes(&mut client, &[&filter(4), "short", &filter(0)]),
        [
            ReasonCode::QuotaExceeded,
            ReasonCode::GrantedQos2,
            ReasonCode::GrantedQos2
        ]
    );
    // Room comes back.
    unsubscribe(&mut client, &[&filter(0)]);
    assert_eq!(codes(&mut client, &[&filter(4)]), [ReasonCode::GrantedQos2]);
}

/// Refuses what has "secret" in it.
struct KeepsSecrets;

impl Authorizer for KeepsSecrets {
    fn authenticate(&self, attempt: &ConnectAttempt<'_>) -> Authentication {
        Authentication::Done(match attempt.connect.username.as_ref() {
            Some(name) => Ok(Identity::new(name.as_str(), Rc::new(name.as_bytes().len()))),
            None => Err(ReasonCode::NotAuthorized),
        })
    }

    fn may_publish(&self, client: Client<'_>, topic: &TopicName, _: QoS, _: bool) -> bool {
        assert_eq!(
            client.identity.name().len(),
            *client.identity.grants::<usize>().unwrap()
        );
        client.identity.name() == "boss" || !topic.as_str().contains("secret")
    }

    fn may_subscribe(&self, client: Client<'_>, filter: &TopicFilter) -> bool {
        client.identity.name() == "boss" || !filter.as_str().contains("secret")
    }

    fn may_replay(&self, _: Client<'_>, _: &TopicFilter) -> bool {
        true
    }

    fn may_receive(&self, client: Client<'_>, topic: &TopicName) -> bool {
        client.identity.name() == "boss" || !topic.as_str().contains("secret")
    }
}

#[test]
fn authorizer_is_asked_about_everything() {
    let broker = TestBroker::start(Setup {
        authorizer: Box::new(|| Rc::new(KeepsSecrets)),
        ..Setup::default()
    });
    let named = |version: ProtocolVersion, name: &str| {
        let mut connect = crate::support::connect(version, name);
        connect.username = Some(crate::support::string(name));
        TestClient::connect(broker.address(), connect)
    };
    let connect = crate::support::connect(V5, "nameless");
    let (_, refused) = TestClient::try_connect(broker.address(), connect);
    assert_eq!(refused.reason_code, ReasonCode::NotAuthorized);

    let mut boss = named(V5, "boss");
    boss.retain_acknowledged("secret/plan", "retained");
    let mut worker = named(V5, "worker");
    assert_eq!(
        codes(&mut worker, &["secret/#", "#"]),
        [ReasonCode::NotAuthorized, ReasonCode::GrantedQos2]
    );
    worker.expect_nothing();
    boss.publish_acknowledged("secret/plan", "live");
    boss.publish_acknowledged("public", "live");
    let received = worker.receive_publish();
    assert_eq!(received.topic.unwrap().as_str(), "public");

    worker.publish(publish(1, "secret/plan", "x"));
    assert_eq!(worker.receive_puback(), (1, ReasonCode::NotAuthorized));
    worker.publish(publish(0, "secret/plan", "x"));
    worker.expect_nothing();
    let mut old_worker = named(V311, "old worker");
    old_worker.publish(publish(1, "secret/plan", "x"));
    assert_eq!(old_worker.receive_end(), None);
    let payloads: Vec<String> = broker.records("all").into_iter().map(|(_, p)| p).collect();
    assert_eq!(payloads, ["retained", "live", "live"]);
}
