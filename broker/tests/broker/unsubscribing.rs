//! UNSUBSCRIBE: which subscription it ends, and the deliveries that have begun.

use mqtt::{
    Acknowledgement, Delivery, Packet, PacketId, Publish, QoS, ReasonCode, SubscriptionOptions,
    Unsubscribe,
};

use crate::support::{BOTH, Setup, TestBroker, TestClient, id, publish, staying, text, wait_for};

/// Sends UNSUBSCRIBE; the codes of its answer, behind which nothing comes.
fn unsubscribe(client: &mut TestClient, filters: &[&str]) -> Vec<ReasonCode> {
    client.send(Packet::Unsubscribe(Unsubscribe {
        packet_id: id(0x4321),
        filters: filters.iter().map(|text| text.parse().unwrap()).collect(),
        user_properties: Vec::new(),
    }));
    let Packet::Unsuback(unsuback) = client.receive() else {
        panic!("no UNSUBACK")
    };
    assert_eq!(unsuback.packet_id, id(0x4321));
    client.expect_nothing();
    unsuback.reason_codes
}

#[test]
fn only_the_subscription_with_the_very_filter_ends() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut client = broker.client(version, "client");
        client.subscribe("a/+");
        let others = ["a/b", "a/#", "#", "A/+", "a/+/", "$share/g/a/+"];
        let codes = unsubscribe(&mut client, &others);
        if version == mqtt::ProtocolVersion::V5 {
            assert_eq!(codes, [ReasonCode::NoSubscriptionExisted; 6]);
        }
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("a/b", "x");
        assert_eq!(client.receive_payloads(1), ["x"], "{version:?}");
        unsubscribe(&mut client, &["a/b", "a/+"]);
        publisher.publish_acknowledged("a/b", "y");
        client.expect_nothing();
    }
}

fn come(broker: &TestBroker, version: mqtt::ProtocolVersion) -> TestClient {
    TestClient::connect(broker.address(), staying(version, "client"))
}

/// Identifier, DUP and payload of a PUBLISH of this QoS.
fn received(packet: Packet, qos: QoS) -> (PacketId, bool, String) {
    let Packet::Publish(publish) = packet else {
        panic!("{packet:?}")
    };
    let (Delivery::AtLeastOnce { packet_id, dup } | Delivery::ExactlyOnce { packet_id, dup }) =
        publish.delivery
    else {
        panic!("QoS 0")
    };
    assert_eq!(publish.delivery.qos(), qos);
    (packet_id, dup, text(&publish.payload))
}

#[test]
fn delivery_that_has_begun_is_completed_also_on_the_next_connection() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut client = come(&broker, version);
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            ..SubscriptionOptions::default()
        };
        client.subscribe_with("a", options, None);
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("a", "one");
        publisher.publish(Publish {
            delivery: Delivery::ExactlyOnce {
                packet_id: id(1),
                dup: false,
            },
            ..publish(0, "a", "two")
        });
        assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
        let (one, dup, _) = received(client.receive(), QoS::AtLeastOnce);
        assert!(!dup);
        let (two, dup, _) = received(client.receive(), QoS::ExactlyOnce);
        assert!(!dup);
        unsubscribe(&mut client, &["a"]);
        drop(client);
        wait_for("the end of the connection", || {
            broker.probe.status().sessions_offline > 0
        });

        let mut client = come(&broker, version);
        let again = received(client.receive(), QoS::AtLeastOnce);
        assert_eq!(again, (one, true, "one".to_owned()));
        let again = received(client.receive(), QoS::ExactlyOnce);
        assert_eq!(again, (two, true, "two".to_owned()));
        let answer = |packet_id| Acknowledgement::new(packet_id, ReasonCode::Success);
        client.send(Packet::Puback(answer(one)));
        client.send(Packet::Pubrec(answer(two)));
        assert_eq!(client.receive(), Packet::Pubrel(answer(two)));
        client.send(Packet::Pubcomp(answer(two)));
        publisher.publish_acknowledged("a", "three");
        client.expect_nothing();
        drop(client);
        broker.client(version, "client").expect_nothing();
    }
}
