//! Packet identifiers of clients: when they stand for a new message, and what DUP is to the broker.

use std::time::Duration;

use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Delivery, MessageProperties, Packet, Publish, QoS, ReasonCode,
    SubscriptionOptions,
};

use crate::support::{BOTH, Setup, TestBroker, TestClient, connect, go, id, publish, staying};

fn qos1(packet_id: u16, payload: &str, dup: bool) -> Publish {
    let packet_id = id(packet_id);
    Publish {
        delivery: Delivery::AtLeastOnce { packet_id, dup },
        ..publish(0, "a", payload)
    }
}

fn qos2(packet_id: u16, payload: &str, dup: bool) -> Publish {
    let packet_id = id(packet_id);
    Publish {
        delivery: Delivery::ExactlyOnce { packet_id, dup },
        ..publish(0, "a", payload)
    }
}

fn ack(packet_id: u16, code: ReasonCode) -> Acknowledgement {
    Acknowledgement::new(id(packet_id), code)
}

/// Sends PUBREL and takes PUBCOMP.
fn release(client: &mut TestClient, packet_id: u16) {
    client.send(Packet::Pubrel(ack(packet_id, ReasonCode::Success)));
    let pubcomp = Packet::Pubcomp(ack(packet_id, ReasonCode::Success));
    assert_eq!(client.receive(), pubcomp);
}

fn payloads(broker: &TestBroker) -> Vec<String> {
    let records = broker.records("all").into_iter();
    records.map(|(_, payload)| payload).collect()
}

#[test]
fn identifier_stands_for_a_new_message_after_its_puback_whatever_dup_says() {
    for version in BOTH {
        let broker = TestBroker::start(Setup::default());
        let mut client = broker.client(version, "client");
        for (payload, dup) in [("1", false), ("2", true), ("3", false), ("3", true)] {
            client.publish(qos1(5, payload, dup));
            assert_eq!(client.receive_puback(), (5, ReasonCode::Success));
        }
        assert_eq!(payloads(&broker), ["1", "2", "3", "3"], "{version:?}");
    }
}

#[test]
fn identifier_stands_for_a_new_message_after_a_pubrec_that_says_no() {
    let broker = TestBroker::start(Setup::default());
    let mut client = broker.client(V5, "client");
    for _ in 0..2 {
        client.publish(Publish {
            topic: Some("$SYS/x".parse().unwrap()),
            ..qos2(7, "refused", false)
        });
        let refusal = match client.receive() {
            Packet::Pubrec(pubrec) => (pubrec.packet_id, pubrec.reason_code),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal, (id(7), ReasonCode::TopicNameInvalid));
    }
    client.publish(qos2(7, "taken", true));
    let pubrec = Packet::Pubrec(ack(7, ReasonCode::Success));
    assert_eq!(client.receive(), pubrec);
    release(&mut client, 7);
    assert_eq!(payloads(&broker), ["taken"]);
}

#[test]
fn dup_of_the_publisher_is_not_passed_on() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut subscriber = broker.client(version, "subscriber");
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            ..SubscriptionOptions::default()
        };
        subscriber.subscribe_with("a", options, None);
        let mut publisher = broker.client(version, "publisher");
        publisher.publish(qos1(1, "1", true));
        assert_eq!(publisher.receive_puback().0, 1);
        publisher.publish(qos2(2, "2", true));
        assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
        release(&mut publisher, 2);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            match subscriber.receive_publish().delivery {
                Delivery::AtLeastOnce { dup: false, .. } => assert_eq!(qos, QoS::AtLeastOnce),
                Delivery::ExactlyOnce { dup: false, .. } => assert_eq!(qos, QoS::ExactlyOnce),
                other => panic!("{version:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn exchange_goes_on_although_its_message_has_expired() {
    let broker = TestBroker::start(Setup::default());
    let mut client = broker.client(V5, "client");
    let expiring = |dup| Publish {
        properties: MessageProperties {
            message_expiry_interval: Some(1),
            ..MessageProperties::default()
        },
        ..qos2(7, "x", dup)
    };
    let pubrec = || Packet::Pubrec(ack(7, ReasonCode::Success));
    client.publish(expiring(false));
    assert_eq!(client.receive(), pubrec());
    std::thread::sleep(Duration::from_millis(1_100));
    client.publish(expiring(true));
    assert_eq!(client.receive(), pubrec());
    release(&mut client, 7);
    assert_eq!(payloads(&broker), ["x"]);
}

/// It was not released, and its session is no more.
#[test]
fn identifier_of_an_earlier_session_is_free_after_a_clean_start() {
    for version in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let mut broker = TestBroker::start_at(&path, Setup::default());
        let come = |broker: &TestBroker, connect| TestClient::connect(broker.address(), connect);
        for (round, restarts) in [(1, false), (2, true), (3, false)] {
            let mut client = come(&broker, staying(version, "client"));
            client.publish(qos2(7, &format!("{round} old"), false));
            let pubrec = Packet::Pubrec(ack(7, ReasonCode::Success));
            assert_eq!(client.receive(), pubrec);
            go(&broker, client);
            if restarts {
                broker.stop();
                broker = TestBroker::start_at(&path, Setup::default());
            }
            let mut client = come(&broker, connect(version, "client"));
            client.publish(qos2(7, &format!("{round} new"), true));
            assert_eq!(client.receive(), pubrec);
        }
        let expected = ["1 old", "1 new", "2 old", "2 new", "3 old", "3 new"];
        assert_eq!(payloads(&broker), expected, "{version:?}");
        broker.stop();
    }
}
