//! QoS 2, in both directions, across connections and restarts.

use std::path::Path;

use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    Acknowledgement, Delivery, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS,
    ReasonCode, SubscriptionOptions,
};

use storage::JournalKind;

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, TestLog, id, publish, qos1, staying, text, wait_for,
};

fn come(broker: &TestBroker, version: ProtocolVersion) -> TestClient {
    let (client, connack) = TestClient::try_connect(broker.address(), staying(version, "client"));
    assert_eq!(connack.reason_code, ReasonCode::Success);
    client
}

/// Breaks the connection off, and waits until the broker knows.
fn break_off(broker: &TestBroker, client: TestClient) {
    drop(client);
    wait_for("the end of the connection", || {
        broker.probe.status().sessions_offline > 0
    });
}

fn qos2(packet_id: u16, payload: &str, dup: bool) -> Publish {
    Publish {
        delivery: Delivery::ExactlyOnce {
            packet_id: id(packet_id),
            dup,
        },
        ..publish(0, "a", payload)
    }
}

fn pubrec(packet_id: PacketId) -> Packet {
    Packet::Pubrec(Acknowledgement::new(packet_id, ReasonCode::Success))
}

fn pubrel(packet_id: PacketId) -> Packet {
    Packet::Pubrel(Acknowledgement::new(packet_id, ReasonCode::Success))
}

fn pubcomp(packet_id: PacketId) -> Packet {
    Packet::Pubcomp(Acknowledgement::new(packet_id, ReasonCode::Success))
}

fn payloads(broker: &TestBroker) -> Vec<String> {
    let records = broker.records("all").into_iter();
    records.map(|(_, payload)| payload).collect()
}

/// What a broker is started on again and again.
struct Folder {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        Self {
            _folder: folder,
            path,
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[test]
fn message_is_taken_once_however_often_it_comes_before_its_release() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let before = payloads(&broker).len();
        let mut client = broker.client(version, "client");
        for payload in ["first", "second"] {
            for dup in [false, true, true] {
                client.publish(qos2(7, payload, dup));
                assert_eq!(client.receive(), pubrec(id(7)));
            }
            client.send(pubrel(id(7)));
            assert_eq!(client.receive(), pubcomp(id(7)));
        }
        assert_eq!(payloads(&broker)[before..], ["first", "second"]);
        // What is not known is released all the same.
        client.send(pubrel(id(7)));
        let code = match version {
            V5 => ReasonCode::PacketIdentifierNotFound,
            V311 => ReasonCode::Success,
        };
        let expected = Packet::Pubcomp(Acknowledgement::new(id(7), code));
        assert_eq!(client.receive(), expected);
    }
}

#[test]
fn message_in_no_log_is_taken_once() {
    let broker = TestBroker::start(Setup {
        memory: &["a"],
        ..Setup::default()
    });
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("a");
    for version in BOTH {
        let mut client = come(&broker, version);
        client.publish(qos2(7, "once", false));
        assert_eq!(client.receive(), pubrec(id(7)));
        break_off(&broker, client);
        let mut client = come(&broker, version);
        client.publish(qos2(7, "once", true));
        assert_eq!(client.receive(), pubrec(id(7)));
        client.send(pubrel(id(7)));
        assert_eq!(client.receive(), pubcomp(id(7)));
        assert_eq!(subscriber.receive_payloads(1), ["once"]);
        subscriber.expect_nothing();
    }
}

/// The connection breaks, or the broker is started again, after each step; the client goes on as the
/// standard wants it.
#[test]
fn message_is_taken_once_wherever_the_connection_breaks() {
    for version in BOTH {
        for restarts in [false, true] {
            let folder = Folder::new();
            let mut broker = TestBroker::start_at(folder.path(), Setup::default());
            let mut client = come(&broker, version);
            let again = |broker: TestBroker, client: TestClient| {
                break_off(&broker, client);
                let broker = match restarts {
                    false => broker,
                    true => {
                        broker.stop();
                        TestBroker::start_at(folder.path(), Setup::default())
                    }
                };
                let client = come(&broker, version);
                (broker, client)
            };
            // PUBREC did not arrive.
            client.publish(qos2(3, "x", false));
            assert_eq!(client.receive(), pubrec(id(3)));
            (broker, client) = again(broker, client);
            client.publish(qos2(3, "x", true));
            assert_eq!(client.receive(), pubrec(id(3)));
            // PUBREL did not arrive.
            (broker, client) = again(broker, client);
            client.send(pubrel(id(3)));
            assert_eq!(client.receive(), pubcomp(id(3)));
            // PUBCOMP did not arrive.
            (broker, client) = again(broker, client);
            client.send(pubrel(id(3)));
            assert!(matches!(client.receive(), Packet::Pubcomp(_)));
            client.publish(qos2(3, "y", false));
            assert_eq!(client.receive(), pubrec(id(3)));
            assert_eq!(payloads(&broker), ["x", "y"], "{version:?} {restarts}");
            drop(client);
            broker.stop();
        }
    }
}

#[test]
fn resend_joins_the_message_that_is_still_on_its_way_to_flash() {
    let broker = TestBroker::start(Setup::with_logs(&[TestLog::held("all", &["#"])]));
    for version in BOTH {
        let before = payloads(&broker).len();
        let mut client = come(&broker, version);
        client.publish(qos2(3, "x", false));
        assert_eq!(client.ping(), []);
        // It comes again before the broker knows that the connection is gone, and twice.
        let mut client = come(&broker, version);
        client.publish(qos2(3, "x", true));
        client.publish(qos2(3, "x", true));
        assert_eq!(client.ping(), []);
        broker.commit();
        assert_eq!(client.receive(), pubrec(id(3)));
        assert_eq!(client.receive(), pubrec(id(3)));
        client.send(pubrel(id(3)));
        broker.commit();
        assert_eq!(client.receive(), pubcomp(id(3)));
        assert_eq!(payloads(&broker).len(), before + 1);
    }
}

#[test]
fn release_is_on_flash_before_it_is_answered() {
    let broker = TestBroker::start(Setup::default());
    let mut client = come(&broker, V5);
    client.publish(qos2(3, "x", false));
    assert_eq!(client.receive(), pubrec(id(3)));
    let key = storage::JournalKey::new(JournalKind::Received, b"client\0\x03");
    assert!(broker.store.journal_entry(&key).is_some());
    client.send(pubrel(id(3)));
    assert_eq!(client.receive(), pubcomp(id(3)));
    assert_eq!(broker.store.journal_entry(&key), None);
    // Of a session that ends with its connection nothing is written.
    let mut passing = broker.client(V5, "passing");
    passing.publish(qos2(3, "x", false));
    assert_eq!(passing.receive(), pubrec(id(3)));
    let received = broker.store.journal_entries(JournalKind::Received);
    assert_eq!(received, []);
}

fn subscribe(client: &mut TestClient) {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..SubscriptionOptions::default()
    };
    let code = client.subscribe_with("a", options, None);
    assert_eq!(code, ReasonCode::GrantedQos2);
}

fn receive_qos2(client: &mut TestClient) -> (PacketId, bool, String) {
    match client.receive() {
        Packet::Publish(publish) => match publish.delivery {
            Delivery::ExactlyOnce { packet_id, dup } => (packet_id, dup, text(&publish.payload)),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn message_is_delivered_with_the_lower_qos_of_publish_and_subscription() {
    let broker = TestBroker::start(Setup::default());
    let mut two = broker.client(V5, "two");
    subscribe(&mut two);
    let mut one = broker.client(V311, "one");
    one.subscribe_with("a", qos1(), None);
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(qos2(3, "2", false));
    assert_eq!(publisher.receive(), pubrec(id(3)));
    publisher.publish_acknowledged("a", "1");
    let received = [two.receive_publish(), two.receive_publish()];
    let qos = received.map(|publish| publish.delivery.qos());
    assert_eq!(qos, [QoS::ExactlyOnce, QoS::AtLeastOnce]);
    for _ in 0..2 {
        assert_eq!(one.receive_publish().delivery.qos(), QoS::AtLeastOnce);
    }
    two.expect_nothing();
}

/// As for the other direction: after each step.
#[test]
fn message_is_delivered_once_wherever_the_connection_breaks() {
    for version in BOTH {
        for restarts in [false, true] {
            let folder = Folder::new();
            let mut broker = TestBroker::start_at(folder.path(), Setup::default());
            let mut client = come(&broker, version);
            subscribe(&mut client);
            let again = |broker: TestBroker, client: TestClient| {
                break_off(&broker, client);
                // What every segment begins with has nothing of a session whose client is away.
                broker.commit();
                let deliveries = broker.store.journal_entries(JournalKind::Delivery);
                assert_eq!(deliveries, []);
                let broker = match restarts {
                    false => broker,
                    true => {
                        broker.stop();
                        TestBroker::start_at(folder.path(), Setup::default())
                    }
                };
                let client = come(&broker, version);
                (broker, client)
            };
            let mut publisher = broker.client(version, "publisher");
            for (packet_id, payload) in [(1, "x"), (2, "y")] {
                publisher.publish(qos2(packet_id, payload, false));
                assert_eq!(publisher.receive(), pubrec(id(packet_id)));
            }
            drop(publisher);
            let (x, dup, payload) = receive_qos2(&mut client);
            assert_eq!((dup, payload.as_str()), (false, "x"));
            let (y, dup, payload) = receive_qos2(&mut client);
            assert_eq!((dup, payload.as_str()), (false, "y"));
            // PUBREC did not arrive: both again, under their identifiers, in order.
            (broker, client) = again(broker, client);
            assert_eq!(receive_qos2(&mut client), (x, true, "x".to_owned()));
            assert_eq!(receive_qos2(&mut client), (y, true, "y".to_owned()));
            client.send(pubrec(x));
            assert_eq!(client.receive(), pubrel(x));
            // PUBREL did not arrive.
            (broker, client) = again(broker, client);
            assert_eq!(client.receive(), pubrel(x));
            assert_eq!(receive_qos2(&mut client), (y, true, "y".to_owned()));
            client.send(pubcomp(x));
            client.send(pubrec(y));
            assert_eq!(client.receive(), pubrel(y));
            client.send(pubcomp(y));
            client.expect_nothing();
            (broker, client) = again(broker, client);
            client.expect_nothing();
            let mut publisher = broker.client(version, "publisher");
            publisher.publish(qos2(3, "z", false));
            assert_eq!(publisher.receive(), pubrec(id(3)));
            let publish = client.receive_publish();
            assert_eq!(text(&publish.payload), "z", "{version:?} {restarts}");
            client.expect_nothing();
            drop((client, publisher));
            broker.stop();
        }
    }
}

#[test]
fn messages_of_both_qos_go_on_in_order_where_the_connection_broke() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut client = come(&broker, version);
        subscribe(&mut client);
        client.send(Packet::Disconnect(Disconnect::default()));
        assert_eq!(client.receive_end(), None);
        let mut publisher = broker.client(version, "publisher");
        for number in 0..300_u16 {
            let payload = number.to_string();
            if number % 3 == 0 {
                publisher.publish(qos2(9, &payload, false));
                assert_eq!(publisher.receive(), pubrec(id(9)));
                publisher.send(pubrel(id(9)));
                assert_eq!(publisher.receive(), pubcomp(id(9)));
            } else {
                publisher.publish_acknowledged("a", payload);
            }
        }
        let mut received = Vec::new();
        let mut rounds = 0;
        while received.len() < 300 {
            rounds += 1;
            let mut client = come(&broker, version);
            let count = (300 - received.len()).min(7 + received.len() % 11);
            received.extend(client.receive_payloads(count));
            // What is on its way is lost with the connection.
            client.ping();
        }
        let expected: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        assert_eq!(received, expected);
        assert!(rounds > 15);
        let mut client = come(&broker, version);
        client.expect_nothing();
        client.send(Packet::Disconnect(Disconnect::default()));
        assert_eq!(client.receive_end(), None);
    }
}
