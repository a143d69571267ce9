//! What a client changes while it is behind, and what its owner changes while it is away.

use std::path::Path;

use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    Acknowledgement, Packet, ProtocolVersion, ReasonCode, Subscribe, Subscription, Unsubscribe,
};

use crate::support::{BOTH, Setup, TestBroker, TestClient, TestLog, go, id, qos1, staying, text};

const COUNT: usize = 300;

fn come(broker: &TestBroker, version: ProtocolVersion) -> TestClient {
    TestClient::connect(broker.address(), staying(version, "client"))
}

fn publish_all(broker: &TestBroker, topics: &[&str], numbers: std::ops::Range<usize>) {
    let mut publisher = broker.client(V5, "publisher");
    for number in numbers {
        for topic in topics {
            publisher.publish_acknowledged(topic, number.to_string());
        }
    }
}

/// Topic names and payloads of what comes until there is nothing more; everything is acknowledged.
fn receive_all(
    client: &mut TestClient,
    is_last: impl Fn(&Packet) -> bool,
) -> Vec<(String, String)> {
    let mut all = Vec::new();
    loop {
        let packet = client.receive();
        if is_last(&packet) {
            return all;
        }
        let Packet::Publish(publish) = packet else {
            panic!("{packet:?}");
        };
        let packet_id = publish.delivery.packet_id().unwrap();
        let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
        client.send(Packet::Puback(puback));
        let topic = publish.topic.unwrap();
        all.push((topic.as_str().to_owned(), text(&publish.payload)));
    }
}

fn is_end(packet: &Packet) -> bool {
    matches!(packet, Packet::Publish(publish) if text(&publish.payload) == "end")
}

fn numbers(topic: &str, all: &[(String, String)]) -> Vec<usize> {
    let of_topic = all.iter().filter(|(of, _)| of == topic);
    of_topic
        .map(|(_, number)| number.parse().unwrap())
        .collect()
}

/// A client with a backlog under `a` and `b`.
fn with_backlog(broker: &TestBroker, version: ProtocolVersion) -> TestClient {
    let mut client = come(broker, version);
    client.subscribe("a");
    client.subscribe("b");
    go(broker, client);
    publish_all(broker, &["a", "b"], 0..COUNT);
    come(broker, version)
}

#[test]
fn what_is_not_sent_yet_does_not_come_after_the_subscription_is_taken_back() {
    for version in BOTH {
        let broker = TestBroker::start(Setup::default());
        let mut client = with_backlog(&broker, version);
        // Nothing is acknowledged yet: most of the backlog is still in the log.
        client.send(Packet::Unsubscribe(Unsubscribe {
            packet_id: id(77),
            filters: vec!["a".parse().unwrap()],
            user_properties: Vec::new(),
        }));
        let before = receive_all(&mut client, |p| matches!(p, Packet::Unsuback(_)));
        assert!(before.len() < 2 * COUNT, "the backlog is too small");
        publish_all(&broker, &["a"], COUNT..COUNT + 10);
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("b", "end");
        let after = receive_all(&mut client, is_end);
        let in_window = numbers("a", &after).len();
        assert!(in_window <= 64, "{in_window} came after UNSUBACK");
        assert!(numbers("a", &after).iter().all(|number| *number < COUNT));
        let of_b = [numbers("b", &before), numbers("b", &after)].concat();
        assert_eq!(of_b, (0..COUNT).collect::<Vec<_>>(), "{version:?}");
        broker.stop();
    }
}

#[test]
fn subscription_that_is_made_again_by_a_client_that_is_behind_loses_and_repeats_nothing() {
    for version in BOTH {
        let broker = TestBroker::start(Setup::default());
        let mut client = with_backlog(&broker, version);
        client.send(Packet::Subscribe(Subscribe {
            packet_id: id(77),
            subscriptions: vec![Subscription {
                filter: "a".parse().unwrap(),
                options: qos1(),
            }],
            subscription_identifier: None,
            user_properties: Vec::new(),
        }));
        let mut all = receive_all(&mut client, |p| matches!(p, Packet::Suback(_)));
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("b", "end");
        all.extend(receive_all(&mut client, is_end));
        for topic in ["a", "b"] {
            let expected: Vec<_> = (0..COUNT).collect();
            assert_eq!(numbers(topic, &all), expected, "{topic} {version:?}");
        }
        broker.stop();
    }
}

/// The owner moves a topic to another log: what was logged stays where it is, and the session gets both.
#[test]
fn topic_that_is_moved_to_another_log_reaches_a_session_from_both() {
    let start = |path: &Path, moved: bool| {
        let logs = match moved {
            false => [TestLog::new("old", &["#"]), TestLog::new("new", &["none"])],
            true => [TestLog::new("new", &["a"]), TestLog::new("old", &["#"])],
        };
        TestBroker::start_at(path, Setup::with_logs(&logs))
    };
    for version in [V311, V5] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let broker = start(&path, false);
        let mut client = come(&broker, version);
        client.subscribe("a");
        go(&broker, client);
        publish_all(&broker, &["a"], 0..COUNT);
        broker.stop();

        let broker = start(&path, true);
        publish_all(&broker, &["a"], COUNT..2 * COUNT);
        assert_eq!(broker.records("old").len(), COUNT);
        assert_eq!(broker.records("new").len(), COUNT);
        let mut client = come(&broker, version);
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("a", "end");
        let all = receive_all(&mut client, is_end);
        assert_eq!(numbers("a", &all), (0..2 * COUNT).collect::<Vec<_>>());
        drop((client, publisher));
        broker.stop();
    }
}
