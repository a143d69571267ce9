//! The QoS of shared subscriptions: each member gets what it was granted (MQTT 5, 4.8.2).

use mqtt::{Acknowledgement, Delivery, Packet, Publish, QoS, ReasonCode, SubscriptionOptions};

use crate::support::{BOTH, Setup, TestBroker, TestClient, id, publish};

fn publish_qos2(publisher: &mut TestClient, count: usize) {
    for _ in 0..count {
        publisher.publish(Publish {
            delivery: Delivery::ExactlyOnce {
                packet_id: id(1),
                dup: false,
            },
            ..publish(0, "a", "x")
        });
        assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
        let pubrel = Acknowledgement::new(id(1), ReasonCode::Success);
        publisher.send(Packet::Pubrel(pubrel));
        assert!(matches!(publisher.receive(), Packet::Pubcomp(_)));
    }
}

#[test]
fn each_member_gets_messages_with_the_qos_that_it_was_granted() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        for granted in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            // Beside one that was granted QoS 1.
            let names = [("first", granted), ("second", QoS::AtLeastOnce)];
            let mut members = names.map(|(name, qos)| {
                let mut client = broker.client(version, name);
                let options = SubscriptionOptions {
                    qos,
                    ..SubscriptionOptions::default()
                };
                client.subscribe_with("$share/group/a", options, None);
                (client, qos)
            });
            publish_qos2(&mut broker.client(version, "publisher"), 8);
            for (client, qos) in &mut members {
                for _ in 0..4 {
                    let received = client.receive_publish();
                    assert_eq!(received.delivery.qos(), *qos, "{version:?}");
                }
                client.expect_nothing();
            }
        }
    }
}
