//! Sessions in unusual states: without subscriptions, with expired messages in flight, changed by a good-bye.

use std::time::Duration;

use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Connect, Delivery, Disconnect, MessageProperties, Packet, ProtocolVersion,
    Publish, QoS, ReasonCode, SubscriptionOptions,
};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, connect_with_will, go, id, publish, qos1, staying, text,
    wait_for,
};

fn come(broker: &TestBroker, version: ProtocolVersion, client_id: &str) -> (TestClient, bool) {
    let (client, connack) = TestClient::try_connect(broker.address(), staying(version, client_id));
    assert_eq!(connack.reason_code, ReasonCode::Success);
    (client, connack.session_present)
}

fn expiring(publish: Publish, seconds: u32) -> Publish {
    Publish {
        properties: MessageProperties {
            message_expiry_interval: Some(seconds),
            ..MessageProperties::default()
        },
        ..publish
    }
}

fn qos2(packet_id: u16, topic: &str, payload: &str) -> Publish {
    Publish {
        delivery: Delivery::ExactlyOnce {
            packet_id: id(packet_id),
            dup: false,
        },
        ..publish(0, topic, payload)
    }
}

fn ack(packet_id: u16) -> Acknowledgement {
    Acknowledgement::new(id(packet_id), ReasonCode::Success)
}

/// The messages that come until PINGRESP, unacknowledged.
fn messages(client: &mut TestClient) -> Vec<Publish> {
    let mut all = Vec::new();
    for _ in 0..10 {
        all.extend(client.ping());
        std::thread::sleep(Duration::from_millis(20));
    }
    all.into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn texts(messages: &[Publish]) -> Vec<String> {
    messages.iter().map(|m| text(&m.payload)).collect()
}

#[test]
fn session_that_had_no_subscription_gets_messages_when_it_is_back_and_subscribes() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let name = format!("client {version:?}");
        let (client, _) = come(&broker, version, &name);
        go(&broker, client);
        let (mut client, is_present) = come(&broker, version, &name);
        assert!(is_present);
        client.subscribe("a");
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("a", "x");
        assert_eq!(texts(&messages(&mut client)), ["x"], "{version:?}");
    }
}

#[test]
fn messages_in_flight_are_sent_again_also_when_they_have_expired() {
    let broker = TestBroker::start(Setup::default());
    let (mut client, _) = come(&broker, V5, "client");
    client.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(expiring(publish(1, "a", "expires"), 1));
    publisher.receive_puback();
    publisher.publish_acknowledged("a", "stays 1");
    publisher.publish_acknowledged("a", "stays 2");
    assert_eq!(
        texts(&messages(&mut client)),
        ["expires", "stays 1", "stays 2"]
    );
    go(&broker, client);
    std::thread::sleep(Duration::from_millis(1_500));
    let (mut client, _) = come(&broker, V5, "client");
    assert_eq!(
        texts(&messages(&mut client)),
        ["expires", "stays 1", "stays 2"]
    );
}

#[test]
fn identifier_that_was_released_is_free_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let (mut client, _) = come(&broker, V5, "client");
    client.publish(qos2(7, "a", "first"));
    assert_eq!(client.receive(), Packet::Pubrec(ack(7)));
    go(&broker, client);
    // It goes on, but only as long as this connection.
    let mut once = staying(V5, "client");
    once.properties.session_expiry_interval = None;
    let (mut client, connack) = TestClient::try_connect(broker.address(), once);
    assert!(connack.session_present);
    client.send(Packet::Pubrel(ack(7)));
    assert_eq!(client.receive(), Packet::Pubcomp(ack(7)));
    client.send(Packet::Disconnect(Disconnect::default()));
    assert_eq!(client.receive_end(), None);
    let (client, is_present) = come(&broker, V5, "client");
    assert!(!is_present);
    go(&broker, client);
    broker.stop();
    let broker = TestBroker::start_at(&path, Setup::default());
    let (mut client, is_present) = come(&broker, V5, "client");
    assert!(is_present);
    client.publish(qos2(7, "a", "second"));
    assert_eq!(client.receive(), Packet::Pubrec(ack(7)));
    let payloads: Vec<_> = broker.records("all").into_iter().map(|r| r.1).collect();
    assert_eq!(payloads, ["first", "second"]);
    broker.stop();
}

fn with_delayed_will(delay: u32) -> Connect {
    let mut connect = Connect {
        clean_start: false,
        ..connect_with_will(V5, "client", "will", "gone")
    };
    connect.will.as_mut().unwrap().delay_interval = Some(delay);
    connect.properties.session_expiry_interval = Some(3_600);
    connect
}

#[test]
fn delayed_will_is_published_when_its_delay_is_over() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("will");
    let (client, _) = TestClient::try_connect(broker.address(), with_delayed_will(1));
    drop(client);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(texts(&messages(&mut watcher)), ["gone"]);
}

#[test]
fn delayed_will_is_not_published_when_its_client_is_back_before() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("will");
    let (_client, _) = TestClient::try_connect(broker.address(), with_delayed_will(3_600));
    let (_again, connack) = TestClient::try_connect(broker.address(), with_delayed_will(3_600));
    assert!(connack.session_present);
    assert_eq!(texts(&messages(&mut watcher)), [""; 0]);
}

#[test]
fn degraded_broker_keeps_no_session_whatever_good_bye_says() {
    let broker = TestBroker::start(Setup {
        is_degraded: true,
        ..Setup::default()
    });
    let (mut client, _) = come(&broker, V5, "client");
    client.send(Packet::Disconnect(Disconnect {
        session_expiry_interval: Some(100),
        ..Disconnect::default()
    }));
    while client.try_receive().is_some() {}
    let (_, is_present) = come(&broker, V5, "client");
    assert!(!is_present);
}

#[test]
fn retained_message_in_flight_is_sent_again() {
    let broker = TestBroker::start(Setup::default());
    for (qos, name) in [(QoS::AtLeastOnce, "one"), (QoS::ExactlyOnce, "two")] {
        let mut publisher = broker.client(V5, "publisher");
        let retained = Publish {
            retain: true,
            ..qos2(1, name, "kept")
        };
        publisher.publish(retained);
        assert_eq!(publisher.receive(), Packet::Pubrec(ack(1)));
        publisher.send(Packet::Pubrel(ack(1)));
        assert_eq!(publisher.receive(), Packet::Pubcomp(ack(1)));
        let (mut client, _) = come(&broker, V5, name);
        let options = SubscriptionOptions { qos, ..qos1() };
        client.send(Packet::Subscribe(mqtt::Subscribe {
            packet_id: id(77),
            subscriptions: vec![mqtt::Subscription {
                filter: name.parse().unwrap(),
                options,
            }],
            subscription_identifier: None,
            user_properties: Vec::new(),
        }));
        wait_for("the message", || {
            let packets = client.ping();
            packets.iter().any(|p| matches!(p, Packet::Publish(_)))
        });
        go(&broker, client);
        let (mut client, is_present) = come(&broker, V5, name);
        assert!(is_present);
        assert_eq!(text(&client.receive_publish().payload), "kept", "{qos:?}");
    }
}
