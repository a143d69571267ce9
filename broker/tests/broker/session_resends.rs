//! What is sent again when a client is back: beside messages that are in no log, and after a crash.

use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Connect, Delivery, Packet, Publish, QoS, ReasonCode, Subscribe, Subscription,
    SubscriptionOptions,
};
use storage::JournalKind;

use crate::support::{Setup, TestBroker, TestClient, go, id, publish, qos1, text};

fn staying(client_id: &str, receive_maximum: u16) -> Connect {
    let mut connect = crate::support::staying(V5, client_id);
    connect.properties.receive_maximum = NonZeroU16::new(receive_maximum);
    connect
}

fn come(broker: &TestBroker, client_id: &str, receive_maximum: u16) -> (TestClient, bool) {
    let (client, connack) =
        TestClient::try_connect(broker.address(), staying(client_id, receive_maximum));
    assert_eq!(connack.reason_code, ReasonCode::Success);
    (client, connack.session_present)
}

/// Payloads that come within a while; every message is acknowledged.
fn payloads(client: &mut TestClient) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..20 {
        for packet in client.ping() {
            if let Packet::Publish(publish) = packet {
                all.push(text(&publish.payload));
                if let Some(packet_id) = publish.delivery.packet_id() {
                    let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
                    client.send(Packet::Puback(puback));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    all
}

fn qos2(topic: &str) -> Publish {
    Publish {
        delivery: Delivery::ExactlyOnce {
            packet_id: id(1),
            dup: false,
        },
        ..publish(1, topic, "x")
    }
}

fn subscribe(client: &mut TestClient, filter: &str) {
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(77),
        subscriptions: vec![Subscription {
            filter: filter.parse().unwrap(),
            options: qos1(),
        }],
        subscription_identifier: None,
        user_properties: Vec::new(),
    }));
}

/// A message that is in no log waits for a place in the window when the connection ends.
#[test]
fn message_that_is_in_no_log_does_not_stop_what_is_sent_again() {
    let broker = TestBroker::start(Setup {
        memory: &["live"],
        ..Setup::default()
    });
    let (mut client, _) = come(&broker, "client", 1);
    subscribe(&mut client, "#");
    client.ping();
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a", "in flight");
    publisher.publish_acknowledged("live", "waits");
    client.ping();
    go(&broker, client);
    let (mut client, _) = come(&broker, "client", 1);
    assert_eq!(payloads(&mut client), ["in flight", "waits"]);
}

/// As most clients do: they subscribe again whenever they connect.
#[test]
fn retained_message_does_not_stop_what_is_sent_again() {
    let broker = TestBroker::start(Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    publisher.retain_acknowledged("kept", "retained");
    let (mut client, _) = come(&broker, "client", 10);
    subscribe(&mut client, "a");
    client.ping();
    publisher.publish_acknowledged("a", "in flight");
    client.ping();
    for _ in 0..5 {
        go(&broker, client);
        // In one go.
        client = TestClient::open(broker.address(), V5);
        client.send(Packet::Connect(Box::new(staying("client", 10))));
        subscribe(&mut client, "kept");
        let mut packets = client.ping();
        for _ in 0..20 {
            packets.extend(client.ping());
            std::thread::sleep(Duration::from_millis(20));
        }
        let came = packets
            .iter()
            .any(|packet| matches!(packet, Packet::Publish(p) if text(&p.payload) == "in flight"));
        assert!(came, "{packets:?}");
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

/// What CONNACK says of the earlier session is so for good.
#[test]
fn session_that_a_clean_start_ended_is_not_back_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let (mut client, _) = come(&broker, "client", 10);
    subscribe(&mut client, "a");
    go(&broker, client);
    let clean = Connect {
        clean_start: true,
        ..staying("client", 10)
    };
    let (_client, connack) = TestClient::try_connect(broker.address(), clean);
    assert!(!connack.session_present);
    let after_crash = folder.path().join("after");
    copy(&path, &after_crash);
    broker.stop();

    let broker = TestBroker::start_at(&after_crash, Setup::default());
    let (_client, is_present) = come(&broker, "client", 10);
    assert!(!is_present);
    broker.stop();
}

/// The client has lost patience with its first clean start, which has ended the session.
#[test]
fn session_that_an_earlier_clean_start_ended_is_not_back_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let names: Vec<_> = (0..4).map(|round| format!("client-{round}")).collect();
    for name in &names {
        let (mut client, _) = come(&broker, name, 10);
        subscribe(&mut client, "a");
        assert!(matches!(client.receive(), Packet::Suback(_)));
        go(&broker, client);
    }
    let clean = |name| Connect {
        clean_start: true,
        ..staying(name, 10)
    };
    let mut copies = Vec::new();
    for name in &names {
        let mut first = TestClient::open(broker.address(), V5);
        first.send(Packet::Connect(Box::new(clean(name))));
        let (_client, connack) = TestClient::try_connect(broker.address(), clean(name));
        assert!(!connack.session_present);
        let after_crash = folder.path().join(name);
        copy(&path, &after_crash);
        copies.push(after_crash);
    }
    broker.stop();
    for (name, after_crash) in names.iter().zip(&copies) {
        let broker = TestBroker::start_at(after_crash, Setup::default());
        let (_client, is_present) = come(&broker, name, 10);
        assert!(!is_present, "{name}");
        broker.stop();
    }
}

/// It goes on as one that ends with its connection, and a clean start ends it.
#[test]
fn session_that_was_not_to_be_kept_any_more_is_not_back_after_a_clean_start_and_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let (mut client, _) = come(&broker, "client", 10);
    subscribe(&mut client, "a");
    assert!(matches!(client.receive(), Packet::Suback(_)));
    go(&broker, client);
    let connect = |clean_start| {
        let mut connect = staying("client", 10);
        connect.properties.session_expiry_interval = Some(0);
        connect.clean_start = clean_start;
        connect
    };
    let (_passing, connack) = TestClient::try_connect(broker.address(), connect(false));
    assert!(connack.session_present);
    let (_client, connack) = TestClient::try_connect(broker.address(), connect(true));
    assert!(!connack.session_present);
    let after_crash = folder.path().join("after");
    copy(&path, &after_crash);
    broker.stop();

    let broker = TestBroker::start_at(&after_crash, Setup::default());
    let (_client, is_present) = come(&broker, "client", 10);
    assert!(!is_present);
    broker.stop();
}

/// Of a delivery that has just ended nothing is written when its client is gone.
#[test]
fn session_whose_client_went_after_its_last_answer_writes_nothing() {
    let broker = TestBroker::start(Setup::default());
    let (mut client, _) = come(&broker, "client", 10);
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..qos1()
    };
    client.subscribe_with("a", options, None);
    let mut publisher = broker.client(V5, "publisher");
    publisher.send(Packet::Publish(qos2("a")));
    assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
    let release = Acknowledgement::new(id(1), ReasonCode::Success);
    publisher.send(Packet::Pubrel(release));
    assert!(matches!(publisher.receive(), Packet::Pubcomp(_)));
    let Packet::Publish(publish) = client.receive() else {
        panic!("no message");
    };
    let packet_id = publish.delivery.packet_id().unwrap();
    let answer = Acknowledgement::new(packet_id, ReasonCode::Success);
    client.send(Packet::Pubrec(answer.clone()));
    assert!(matches!(client.receive(), Packet::Pubrel(_)));
    client.send(Packet::Pubcomp(answer));
    go(&broker, client);
    // It is looked for such deliveries once a second.
    std::thread::sleep(Duration::from_millis(1_500));
    publisher.publish_acknowledged("b", "with its commit");
    let deliveries = broker.store.journal_entries(JournalKind::Delivery);
    assert_eq!(deliveries, []);
}

/// A crash while the client is there; it does not come back before others are checkpointed.
#[test]
fn checkpoint_does_not_speak_of_a_session_whose_client_did_not_come_back_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let (mut client, _) = come(&broker, "client", 10);
    subscribe(&mut client, "a");
    assert!(matches!(client.receive(), Packet::Suback(_)));
    // What a SIGKILL leaves.
    let after_crash = folder.path().join("after");
    copy(&path, &after_crash);
    drop(client);
    broker.stop();

    let broker = TestBroker::start_at(&after_crash, Setup::default());
    assert_eq!(broker.probe.status().sessions_offline, 1);
    let (_other, _) = come(&broker, "other", 10);
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..10 {
        publisher.publish_acknowledged("a", number.to_string());
        publisher.publish_acknowledged("b", "x".repeat(10_000));
    }
    std::thread::sleep(Duration::from_millis(2_500));
    publisher.publish_acknowledged("b", "with it goes the checkpoint");
    broker.stop();

    let broker = TestBroker::start_at(&after_crash, Setup::default());
    let (mut client, is_present) = come(&broker, "client", 10);
    assert!(is_present);
    let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&mut client), expected);
    broker.stop();
}
