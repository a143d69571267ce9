//! Messages that expire after they were sent: expiry does not touch a delivery that has begun.

use std::time::Duration;

use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Delivery, MessageProperties, Packet, Publish, QoS, ReasonCode,
    SubscriptionOptions,
};

use crate::support::{Setup, TestBroker, TestClient, go, id, publish, staying, text};

fn expiring(publish: Publish) -> Publish {
    Publish {
        properties: MessageProperties {
            message_expiry_interval: Some(1),
            ..MessageProperties::default()
        },
        ..publish
    }
}

/// A client that has got a message of this QoS, has not acknowledged it, and is back when it has
/// expired; what comes then.
fn sent_again(qos: QoS) -> Packet {
    let broker = TestBroker::start(Setup::default());
    let mut client = TestClient::connect(broker.address(), staying(V5, "client"));
    let options = SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    client.subscribe_with("a", options, None);
    let mut publisher = broker.client(V5, "publisher");
    let delivery = Delivery::ExactlyOnce {
        packet_id: id(1),
        dup: false,
    };
    publisher.publish(expiring(Publish {
        delivery,
        ..publish(0, "a", "x")
    }));
    assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
    let success = Acknowledgement::new(id(1), ReasonCode::Success);
    publisher.send(Packet::Pubrel(success));
    assert!(matches!(publisher.receive(), Packet::Pubcomp(_)));
    assert!(matches!(client.receive(), Packet::Publish(_)));
    go(&broker, client);
    std::thread::sleep(Duration::from_millis(1_500));
    let mut client = TestClient::connect(broker.address(), staying(V5, "client"));
    publisher.publish_acknowledged("a", "next");
    client.receive()
}

#[test]
fn message_of_qos_2_that_was_sent_is_sent_again_although_it_has_expired() {
    match sent_again(QoS::ExactlyOnce) {
        Packet::Publish(publish) => assert_eq!(text(&publish.payload), "x"),
        other => panic!("{other:?} in the place of PUBLISH"),
    }
}

#[test]
fn message_of_qos_1_that_was_sent_is_sent_again_although_it_has_expired() {
    match sent_again(QoS::AtLeastOnce) {
        Packet::Publish(publish) => assert_eq!(text(&publish.payload), "x"),
        other => panic!("{other:?} in the place of PUBLISH"),
    }
}
