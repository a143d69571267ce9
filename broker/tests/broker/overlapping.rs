//! Subscriptions of one client that match the same message: it gets the highest of their QoS.

use mqtt::{Acknowledgement, Delivery, Packet, Publish, QoS, ReasonCode, SubscriptionOptions};

use crate::support::{BOTH, Setup, TestBroker, id, publish};

#[test]
fn message_comes_with_the_highest_qos_of_the_subscriptions_that_match_it() {
    use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        for (of_filters, expected) in [
            ([AtMostOnce, AtMostOnce, AtMostOnce], AtMostOnce),
            ([AtLeastOnce, AtMostOnce, AtMostOnce], AtLeastOnce),
            ([AtMostOnce, ExactlyOnce, AtLeastOnce], ExactlyOnce),
        ] {
            let mut subscriber = broker.client(version, "subscriber");
            for (filter, qos) in ["#", "a/+", "a/b"].into_iter().zip(of_filters) {
                let options = SubscriptionOptions {
                    qos,
                    ..SubscriptionOptions::default()
                };
                subscriber.subscribe_with(filter, options, None);
            }
            let mut publisher = broker.client(version, "publisher");
            publisher.publish(Publish {
                delivery: Delivery::ExactlyOnce {
                    packet_id: id(1),
                    dup: false,
                },
                ..publish(0, "a/b", "x")
            });
            let pubrec = Acknowledgement::new(id(1), ReasonCode::Success);
            assert_eq!(publisher.receive(), Packet::Pubrec(pubrec));
            let received = subscriber.receive_publish();
            assert_eq!(received.delivery.qos(), expected, "{version:?}");
            subscriber.expect_nothing();
        }
    }
}
