//! Retained messages: what keeps them, and what does not touch them.

use mqtt::ProtocolVersion::V5;
use mqtt::{Disconnect, Packet, RetainHandling, Subscribe, Subscription, SubscriptionOptions};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, connect, connect_with_will, id, publish, qos1, retained,
    staying, text,
};

/// What a client gets that subscribes to everything.
fn retained_now(broker: &TestBroker) -> Vec<String> {
    let mut late = broker.client(V5, "late");
    subscribe_to_all(&mut late);
    let mut all = Vec::new();
    for _ in 0..3 {
        for packet in late.ping() {
            match packet {
                Packet::Publish(publish) => {
                    assert!(publish.retain);
                    all.push(format!(
                        "{} {}",
                        publish.topic.unwrap(),
                        text(&publish.payload)
                    ));
                }
                Packet::Suback(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    all
}

fn subscribe_to_all(client: &mut TestClient) {
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(1),
        subscriptions: vec![Subscription {
            filter: "#".parse().unwrap(),
            options: qos1(),
        }],
        subscription_identifier: None,
        user_properties: Vec::new(),
    }));
}

#[test]
fn retained_message_outlives_the_session_of_its_publisher() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let payload = format!("{version:?}");
        let mut publisher = TestClient::connect(broker.address(), staying(version, "publisher"));
        publisher.retain_acknowledged("a", &payload);
        publisher.send(Packet::Disconnect(Disconnect::default()));
        while publisher.try_receive().is_some() {}
        // A clean start ends its session, and this one ends with its connection.
        let mut again = TestClient::connect(broker.address(), connect(version, "publisher"));
        again.send(Packet::Disconnect(Disconnect::default()));
        while again.try_receive().is_some() {}
        assert_eq!(broker.probe.status().sessions_offline, 0);
        assert_eq!(retained_now(&broker), [format!("a {payload}")]);
    }
}

#[test]
fn message_without_retain_touches_no_retained_one_even_if_it_is_empty() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        // Somebody is there who gets them.
        let mut watcher = broker.client(V5, "watcher");
        watcher.subscribe("+");
        watcher.ping();
        let mut publisher = broker.client(version, "publisher");
        publisher.retain_acknowledged("a", "retained");
        for payload in ["other", ""] {
            publisher.publish(publish(0, "a", payload));
            publisher.publish_acknowledged("a", payload);
            publisher.publish_acknowledged("b", payload);
            assert_eq!(retained_now(&broker), ["a retained"], "{version:?}");
        }
    }
}

#[test]
fn retained_message_of_qos_0_takes_the_place_of_the_one_before() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut publisher = broker.client(version, "publisher");
        publisher.retain_acknowledged("a", "qos 1");
        publisher.publish(retained(publish(0, "a", "qos 0")));
        publisher.publish_acknowledged("b", "behind it");
        assert_eq!(retained_now(&broker), ["a qos 0"], "{version:?}");
        publisher.publish(retained(publish(0, "a", "")));
        publisher.publish_acknowledged("b", "behind it");
        assert_eq!(retained_now(&broker), [""; 0], "{version:?}");
    }
}

#[test]
fn will_is_retained_only_if_it_says_so() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        for (is_retained, expected) in [(false, vec![]), (true, vec!["will gone"])] {
            let mut watcher = broker.client(V5, "watcher");
            let options = SubscriptionOptions {
                retain_handling: RetainHandling::DoNotSend,
                retain_as_published: true,
                ..qos1()
            };
            watcher.subscribe_with("will", options, None);
            let mut connect = connect_with_will(version, "client", "will", "gone");
            connect.will.as_mut().unwrap().message.retain = is_retained;
            drop(TestClient::connect(broker.address(), connect));
            assert_eq!(watcher.receive_publish().retain, is_retained);
            assert_eq!(retained_now(&broker), expected, "{version:?}");
        }
        let mut publisher = broker.client(version, "publisher");
        publisher.retain_acknowledged("will", "");
    }
}
