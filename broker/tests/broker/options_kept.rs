//! What a subscription asks for holds as long as it lasts: also for what waits in the log, on the next
//! connection, and after a restart.

use std::num::NonZeroU32;

use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Connect, Delivery, MessageProperties, Packet, Publish, QoS, ReasonCode,
    RetainHandling, Subscribe, Subscription, SubscriptionOptions,
};

use crate::support::{
    Setup, TestBroker, TestClient, connect_with_will, go, id, publish, qos1, retained, staying,
    text, wait_for,
};

fn come(broker: &TestBroker) -> TestClient {
    TestClient::connect(broker.address(), staying(V5, "client"))
}

/// A broker, and how it is started again.
struct Restarts {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

impl Restarts {
    fn new() -> (Self, TestBroker) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let broker = TestBroker::start_at(&path, Setup::default());
        let _folder = folder;
        (Self { _folder, path }, broker)
    }

    fn again(&self, broker: TestBroker, restarts: bool) -> TestBroker {
        if !restarts {
            return broker;
        }
        broker.stop();
        TestBroker::start_at(&self.path, Setup::default())
    }
}

#[test]
fn own_messages_and_the_retain_flag_are_treated_alike_live_and_from_the_log() {
    for restarts in [false, true] {
        let (folder, broker) = Restarts::new();
        let connect = Connect {
            will: connect_with_will(V5, "client", "own", "mine").will,
            ..staying(V5, "client")
        };
        let mut client = TestClient::connect(broker.address(), connect);
        let no_local = SubscriptionOptions {
            no_local: true,
            ..qos1()
        };
        let as_published = SubscriptionOptions {
            retain_as_published: true,
            ..qos1()
        };
        client.subscribe_with("own", no_local, Some(1));
        client.subscribe_with("kept", as_published, Some(2));
        client.subscribe_with("plain", qos1(), Some(3));
        client.publish_acknowledged("own", "mine");
        // Its will is its own message, too, and comes when it is gone.
        drop(client);
        wait_for("the will", || broker.records("all").len() == 2);
        let mut publisher = broker.client(V5, "publisher");
        for topic in ["own", "kept", "plain"] {
            publisher.retain_acknowledged(topic, "theirs");
        }
        drop(publisher);
        let broker = folder.again(broker, restarts);
        let mut client = come(&broker);
        for (topic, retain, identifier) in
            [("own", false, 1), ("kept", true, 2), ("plain", false, 3)]
        {
            let received = client.receive_publish();
            assert_eq!(received.topic.unwrap().as_str(), topic);
            assert_eq!(text(&received.payload), "theirs");
            assert_eq!(received.retain, retain, "{topic} {restarts}");
            assert_eq!(received.subscription_identifiers[0].get(), identifier);
        }
        client.expect_nothing();
        broker.stop();
    }
}

/// The payloads of what comes, with its answer, to a SUBSCRIBE with this Retain Handling.
fn retained_of(client: &mut TestClient, retain_handling: RetainHandling) -> Vec<String> {
    let options = SubscriptionOptions {
        retain_handling,
        ..qos1()
    };
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(77),
        subscriptions: vec![Subscription {
            filter: "a".parse().unwrap(),
            options,
        }],
        subscription_identifier: None,
        user_properties: Vec::new(),
    }));
    let mut payloads = Vec::new();
    for packet in [client.ping(), client.ping(), client.ping()].concat() {
        match packet {
            Packet::Publish(publish) => {
                let packet_id = publish.delivery.packet_id().unwrap();
                let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
                client.send(Packet::Puback(puback));
                payloads.push(text(&publish.payload));
            }
            Packet::Suback(_) => {}
            other => panic!("{other:?}"),
        }
    }
    payloads
}

#[test]
fn subscription_of_a_kept_session_is_not_new_when_it_is_made_again() {
    for restarts in [false, true] {
        let (folder, broker) = Restarts::new();
        let mut publisher = broker.client(V5, "publisher");
        publisher.retain_acknowledged("a", "x");
        drop(publisher);
        let mut client = come(&broker);
        let if_new = RetainHandling::SendIfNew;
        assert_eq!(retained_of(&mut client, if_new), ["x"]);
        go(&broker, client);
        let broker = folder.again(broker, restarts);
        let mut client = come(&broker);
        assert_eq!(retained_of(&mut client, if_new), [""; 0], "{restarts}");
        assert_eq!(retained_of(&mut client, RetainHandling::Send), ["x"]);
        broker.stop();
    }
}

/// What does not fit a client is over for its session, also when it takes more later.
#[test]
fn message_that_is_too_large_is_dropped_when_its_client_comes_back_and_holds_up_nothing() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let broker = TestBroker::start(Setup::default());
        let small = || {
            let mut connect = staying(V5, "client");
            connect.properties.maximum_packet_size = NonZeroU32::new(100);
            TestClient::connect(broker.address(), connect)
        };
        let mut client = small();
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        client.subscribe_with("a", options, None);
        go(&broker, client);
        let mut publisher = broker.client(V5, "publisher");
        for payload in ["1", &"x".repeat(200), "2"] {
            publisher.publish_acknowledged("a", payload);
        }
        let mut client = small();
        assert_eq!(client.receive_payloads(2), ["1", "2"]);
        client.expect_nothing();
        go(&broker, client);
        let mut client = come(&broker);
        client.expect_nothing();
        publisher.publish_acknowledged("a", "3");
        assert_eq!(client.receive_payloads(1), ["3"]);
    }
}

#[test]
fn expiry_interval_of_what_waits_in_the_log_is_lessened_by_the_wait() {
    let broker = TestBroker::start(Setup::default());
    let mut client = come(&broker);
    client.subscribe("a");
    go(&broker, client);
    let mut publisher = broker.client(V5, "publisher");
    for seconds in [1, 100] {
        publisher.publish(Publish {
            properties: MessageProperties {
                message_expiry_interval: Some(seconds),
                ..MessageProperties::default()
            },
            ..publish(1, "a", seconds.to_string())
        });
        assert_eq!(publisher.receive_puback().0, 1);
    }
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let mut client = come(&broker);
    let received = client.receive_publish();
    assert_eq!(text(&received.payload), "100");
    let left = received.properties.message_expiry_interval.unwrap();
    assert!((50..=98).contains(&left), "{left}");
    client.expect_nothing();
}

/// It is sent again as it was sent, also the flag.
#[test]
fn retained_message_that_was_not_acknowledged_is_sent_again_as_retained() {
    let broker = TestBroker::start(Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(retained(publish(1, "a", "x")));
    assert_eq!(publisher.receive_puback().0, 1);
    let mut client = come(&broker);
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(77),
        subscriptions: vec![Subscription {
            filter: "a".parse().unwrap(),
            options: qos1(),
        }],
        subscription_identifier: mqtt::SubscriptionIdentifier::new(7),
        user_properties: Vec::new(),
    }));
    // It may come before SUBACK.
    let packets = [client.receive(), client.receive()];
    let Some(first) = packets.into_iter().find_map(|packet| match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    }) else {
        panic!("no PUBLISH")
    };
    assert!(first.retain);
    go(&broker, client);
    let mut client = come(&broker);
    let again = client.receive_publish();
    let delivery = Delivery::AtLeastOnce {
        packet_id: first.delivery.packet_id().unwrap(),
        dup: true,
    };
    assert_eq!(again, Publish { delivery, ..first });
    client.expect_nothing();
}
