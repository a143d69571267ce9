//! Messages that are in no log, were sent and are not acknowledged: they are sent again as others are.

use mqtt::ProtocolVersion::V5;
use mqtt::{
    Acknowledgement, Delivery, Packet, Publish, QoS, ReasonCode, Subscribe, Subscription,
    SubscriptionOptions,
};

use crate::support::{BOTH, Setup, TestBroker, TestClient, go, id, publish, staying, wait_for};

/// More than a session keeps for its client of messages that are in no log.
const PAYLOAD: [u8; 2_000] = [b'x'; 2_000];

fn subscribe(client: &mut TestClient) {
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(77),
        subscriptions: vec![Subscription {
            filter: "a/+".parse().unwrap(),
            options: SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                ..SubscriptionOptions::default()
            },
        }],
        subscription_identifier: None,
        user_properties: Vec::new(),
    }));
}

/// Publishes four messages with this QoS.
fn publish_all(broker: &TestBroker, qos: QoS, retain: bool) {
    let mut publisher = broker.client(V5, "publisher");
    for number in 1..=4 {
        let packet_id = id(number);
        let dup = false;
        publisher.publish(Publish {
            retain,
            delivery: match qos {
                QoS::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup },
                _ => Delivery::AtLeastOnce { packet_id, dup },
            },
            ..publish(0, &format!("a/{number}"), PAYLOAD)
        });
        let answer = publisher.receive();
        if qos == QoS::ExactlyOnce {
            assert!(matches!(answer, Packet::Pubrec(_)));
            let release = Acknowledgement::new(packet_id, ReasonCode::Success);
            publisher.send(Packet::Pubrel(release));
            assert!(matches!(publisher.receive(), Packet::Pubcomp(_)));
        }
    }
}

/// Topic names, identifiers and DUP of the PUBLISHes that come until there are four; what else came.
fn four(client: &mut TestClient) -> (Vec<(String, u16, bool)>, Vec<Packet>) {
    let (mut publishes, mut others) = (Vec::new(), Vec::new());
    wait_for("four messages", || {
        for packet in client.ping() {
            match packet {
                Packet::Publish(publish) => {
                    let (Delivery::AtLeastOnce { packet_id, dup }
                    | Delivery::ExactlyOnce { packet_id, dup }) = publish.delivery
                    else {
                        panic!("QoS 0")
                    };
                    let topic = publish.topic.unwrap().as_str().to_owned();
                    publishes.push((topic, packet_id.get(), dup));
                }
                Packet::Suback(_) => {}
                other => others.push(other),
            }
        }
        publishes.len() + others.len() >= 4
    });
    (publishes, others)
}

fn again(first: Vec<(String, u16, bool)>) -> Vec<(String, u16, bool)> {
    let first = first.into_iter();
    first
        .map(|(topic, packet_id, _)| (topic, packet_id, true))
        .collect()
}

#[test]
fn message_of_a_memory_log_that_was_sent_is_sent_again() {
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let broker = TestBroker::start(Setup {
                memory: &["a/#"],
                ..Setup::default()
            });
            let mut client = TestClient::connect(broker.address(), staying(version, "client"));
            subscribe(&mut client);
            client.ping();
            publish_all(&broker, qos, false);
            let (first, _) = four(&mut client);
            go(&broker, client);
            let mut client = TestClient::connect(broker.address(), staying(version, "client"));
            // Behind everything that is sent again.
            publish_all(&broker, qos, false);
            let (second, others) = four(&mut client);
            assert_eq!(others, [], "{version:?} {qos:?}");
            assert_eq!(second[..4], again(first), "{version:?} {qos:?}");
        }
    }
}

#[test]
fn retained_message_of_qos_2_that_was_sent_is_sent_again() {
    let broker = TestBroker::start(Setup::default());
    publish_all(&broker, QoS::ExactlyOnce, true);
    let mut client = TestClient::connect(broker.address(), staying(V5, "client"));
    subscribe(&mut client);
    let (first, _) = four(&mut client);
    go(&broker, client);
    let mut client = TestClient::connect(broker.address(), staying(V5, "client"));
    let (second, others) = four(&mut client);
    assert_eq!(others, []);
    assert_eq!(second, again(first));
}
