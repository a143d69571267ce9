//! `$SYS` topics: for whoever asks for them, and for nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mqtt::ProtocolVersion::V5;
use mqtt::{Packet, Publish, ReasonCode, Subscribe, Subscription, SubscriptionOptions};

use crate::support::{
    BOTH, NEVER, Setup, TestBroker, TestClient, go, id, publish, staying, text, wait_for,
};

const SHORT: Duration = Duration::from_millis(50);

fn told(interval: Duration) -> TestBroker {
    TestBroker::start(Setup {
        sys_interval: Some(interval),
        ..Setup::default()
    })
}

/// What is there at once: topic names and payloads.
fn at_once(client: &mut TestClient) -> BTreeMap<String, String> {
    let received = client.ping().into_iter();
    let figures = received.map(|packet| match packet {
        Packet::Publish(publish) => {
            assert!(publish.retain, "{publish:?}");
            (name(&publish), text(&publish.payload))
        }
        other => panic!("{other:?}"),
    });
    figures.collect()
}

fn name(publish: &Publish) -> String {
    publish.topic.as_ref().unwrap().as_str().to_owned()
}

#[test]
fn whoever_subscribes_gets_the_figures_at_once() {
    let broker = told(NEVER);
    let mut publisher = broker.client(V5, "publisher");
    for payload in ["x", "y", "z"] {
        publisher.publish_acknowledged("a", payload);
    }
    publisher.retain_acknowledged("b", "retained");
    let mut away = TestClient::connect(broker.address(), staying(V5, "away"));
    away.subscribe("none");
    go(&broker, away);
    for version in BOTH {
        let mut client = broker.client(version, "client");
        client.subscribe("$SYS/#");
        let figures = at_once(&mut client);
        let figure = |name: &str| figures[&format!("$SYS/broker/{name}")].as_str();
        assert!(figure("version").starts_with("tidegate version "));
        assert!(figure("uptime").ends_with(" seconds"));
        assert_eq!(figure("clients/connected"), "2");
        assert_eq!(figure("clients/disconnected"), "1");
        assert_eq!(figure("clients/total"), "3");
        assert_eq!(figure("publish/messages/received"), "4");
        assert_eq!(figure("publish/messages/dropped"), "0");
        assert_eq!(figure("retained messages/count"), "1");
        assert_eq!(figure("messages/stored"), "4");
        assert_eq!(figure("tidegate/log/all/records"), "4");
        assert_eq!(figure("load/publish/received/15min"), "0.00");
        for some in ["bytes/received", "bytes/sent", "messages/received"] {
            assert!(figure(some).parse::<u64>().unwrap() > 5, "{some}");
        }
        let flash = figure("tidegate/flash/since_start/written_bytes");
        assert!(flash.parse::<u64>().unwrap() > 0);
        // They are in no log, and not among the retained messages of clients.
        assert_eq!(broker.records("all").len(), 4);
        assert_eq!(broker.probe.status().retained_messages, 1);
    }
}

#[test]
fn packets_of_all_types_are_counted() {
    let broker = told(NEVER);
    let counts = || {
        let counters = broker.probe.counters();
        (counters.packets_received.get(), counters.packets_sent.get())
    };
    let mut client = broker.client(V5, "client");
    client.subscribe("a");
    client.publish(publish(0, "a", "x"));
    client.receive_publish();
    // CONNECT, SUBSCRIBE, PUBLISH; CONNACK, SUBACK and the message.
    wait_for("the counts", || counts() == (3, 3));
    client.ping();
    wait_for("the counts", || counts() == (4, 4));
}

#[test]
fn figures_come_in_every_interval() {
    let broker = told(SHORT);
    let mut client = broker.client(V5, "client");
    client.subscribe("$SYS/broker/clients/connected");
    let _others = ["one", "two"].map(|name| broker.client(V5, name));
    wait_for("both others", || {
        let publish = client.receive_publish();
        assert_eq!(name(&publish), "$SYS/broker/clients/connected");
        !publish.retain && text(&publish.payload) == "3"
    });
}

#[test]
fn session_that_goes_on_gets_figures_again_and_so_does_a_group() {
    let broker = told(SHORT);
    for (client_id, filter) in [
        ("session", "$SYS/broker/version"),
        ("member", "$share/group/$SYS/broker/version"),
    ] {
        let mut client = TestClient::connect(broker.address(), staying(V5, client_id));
        client.send(Packet::Subscribe(Subscribe {
            packet_id: id(1),
            subscriptions: vec![Subscription {
                filter: filter.parse().unwrap(),
                options: SubscriptionOptions::default(),
            }],
            subscription_identifier: None,
            user_properties: Vec::new(),
        }));
        wait_for_version(&mut client);
        go(&broker, client);
        // Nobody wants them meanwhile.
        std::thread::sleep(4 * SHORT);
        let mut client = TestClient::connect(broker.address(), staying(V5, client_id));
        wait_for_version(&mut client);
    }
}

/// SUBACK may come before it or afterwards.
fn wait_for_version(client: &mut TestClient) {
    wait_for("the version", || {
        let received = client.ping().into_iter();
        let mut publishes = received.filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(name(&publish)),
            _ => None,
        });
        publishes.any(|name| name == "$SYS/broker/version")
    });
}

#[test]
fn nobody_else_gets_them_and_without_an_interval_there_are_none() {
    let broker = told(SHORT);
    let mut asks = broker.client(V5, "asks");
    asks.subscribe("$SYS/broker/uptime");
    let mut others = [("#", "one"), ("+/broker/uptime", "two")].map(|(filter, client_id)| {
        let mut client = broker.client(V5, client_id);
        client.subscribe(filter);
        client
    });
    for _ in 0..3 {
        asks.receive_publish();
    }
    for other in &mut others {
        other.expect_nothing();
    }
    let silent = TestBroker::start(Setup::default());
    let mut client = silent.client(V5, "client");
    client.subscribe("$SYS/#");
    client.expect_nothing();
}

#[test]
fn they_are_made_only_while_somebody_asks_for_them() {
    let made = Arc::new(AtomicU64::new(0));
    let broker = TestBroker::start(Setup {
        sys_interval: Some(SHORT),
        sys_made: Arc::clone(&made),
        ..Setup::default()
    });
    let how_often = || made.load(Ordering::Relaxed);
    let mut client = broker.client(V5, "client");
    client.subscribe("#");
    std::thread::sleep(4 * SHORT);
    assert_eq!(how_often(), 0);
    client.subscribe("$SYS/broker/tidegate/made");
    assert_eq!(text(&client.receive_publish().payload), "0");
    wait_for("more of them", || how_often() > 3);
    drop(client);
    wait_for("an end", || {
        let before = how_often();
        std::thread::sleep(6 * SHORT);
        how_often() == before
    });
}

#[test]
fn nobody_publishes_there() {
    let broker = told(NEVER);
    let mut client = broker.client(V5, "client");
    client.subscribe("$SYS/#");
    at_once(&mut client);
    client.publish(publish(1, "$SYS/broker/version", "mine"));
    assert_eq!(client.receive_puback(), (1, ReasonCode::TopicNameInvalid));
    client.expect_nothing();
}
