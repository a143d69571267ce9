//! SUBSCRIBE with a filter that is subscribed to already, and with several filters at once.

use mqtt::{Packet, QoS, ReasonCode, Subscribe, Subscription, SubscriptionOptions};

use crate::support::{BOTH, Setup, TestBroker, TestClient, id, publish, qos1, text};

fn with(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    }
}

/// Topic name, payload and QoS of the next message, which must be marked as retained.
fn receive_retained(client: &mut TestClient) -> (String, String, QoS) {
    let publish = client.receive_publish();
    assert!(publish.retain);
    let topic = publish.topic.unwrap().as_str().to_owned();
    (topic, text(&publish.payload), publish.delivery.qos())
}

#[test]
fn retained_messages_come_again_and_no_message_is_lost() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut publisher = broker.client(version, "publisher");
        publisher.retain_acknowledged("a/1", "retained");
        let mut subscriber = broker.client(version, "subscriber");
        let expected = |qos| ("a/1".to_owned(), "retained".to_owned(), qos);
        subscriber.subscribe("a/+");
        let least_once = QoS::AtLeastOnce;
        assert_eq!(receive_retained(&mut subscriber), expected(least_once));
        for qos in [QoS::AtMostOnce, least_once, least_once] {
            subscriber.subscribe_with("a/+", with(qos), None);
            assert_eq!(receive_retained(&mut subscriber), expected(qos));
            publisher.publish_acknowledged("a/2", "live");
            let live = subscriber.receive_publish();
            assert_eq!(live.delivery.qos(), qos, "{version:?}");
            assert!(!live.retain);
            subscriber.expect_nothing();
        }
    }
}

/// The last subscription with a filter holds, as if each had come alone.
#[test]
fn several_filters_are_like_several_packets_with_one_answer() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut publisher = broker.client(version, "publisher");
        publisher.retain_acknowledged("a", "of a");
        publisher.retain_acknowledged("b", "of b");
        let mut subscriber = broker.client(version, "subscriber");
        let filters = [
            ("b", QoS::AtLeastOnce),
            ("c", QoS::ExactlyOnce),
            ("a", QoS::AtMostOnce),
            ("b", QoS::AtMostOnce),
        ];
        subscriber.send(Packet::Subscribe(Subscribe {
            packet_id: id(0x1234),
            subscriptions: filters
                .map(|(filter, qos)| Subscription {
                    filter: filter.parse().unwrap(),
                    options: with(qos),
                })
                .to_vec(),
            subscription_identifier: None,
            user_properties: Vec::new(),
        }));
        let mut retained = Vec::new();
        let mut codes = Vec::new();
        while retained.len() < 2 || codes.is_empty() {
            match subscriber.receive() {
                Packet::Suback(suback) => {
                    assert_eq!(suback.packet_id, id(0x1234));
                    codes.push(suback.reason_codes);
                }
                Packet::Publish(publish) => retained.push(text(&publish.payload)),
                other => panic!("{other:?}"),
            }
        }
        use ReasonCode::{GrantedQos1, GrantedQos2, Success};
        assert_eq!(codes, [[GrantedQos1, GrantedQos2, Success, Success]]);
        retained.sort();
        assert_eq!(retained, ["of a", "of b"], "{version:?}");
        // The first one with "b" was replaced, before anything of it was sent.
        subscriber.expect_nothing();
        publisher.publish(publish(1, "b", "live"));
        let live = subscriber.receive_publish();
        assert_eq!(live.delivery.qos(), QoS::AtMostOnce);
        subscriber.expect_nothing();
    }
}

#[test]
fn every_filter_is_granted_the_qos_that_it_asks_for() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut client = broker.client(version, "client");
        for (qos, code) in [
            (QoS::AtMostOnce, ReasonCode::Success),
            (QoS::AtLeastOnce, ReasonCode::GrantedQos1),
            (QoS::ExactlyOnce, ReasonCode::GrantedQos2),
        ] {
            assert_eq!(client.subscribe_with("a", with(qos), None), code);
        }
        assert_eq!(
            client.subscribe_with("b", qos1(), None),
            ReasonCode::GrantedQos1
        );
    }
}
