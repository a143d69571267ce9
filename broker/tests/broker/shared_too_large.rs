//! Messages of a group that are too large for a member (Maximum Packet Size; MQTT 5, 4.8.2): each goes to a
//! member that takes it, or is dropped and counted, and the group goes on with the next.

use std::num::{NonZeroU16, NonZeroU32};

use broker::DropCause;
use mqtt::ProtocolVersion::V5;
use mqtt::{Acknowledgement, Connect, Delivery, Packet, Publish, QoS, ReasonCode};

use crate::support::{
    Setup, TestBroker, TestClient, connect, id, publish, qos1, staying, text, wait_for,
};

const FILTER: &str = "$share/group/a";
/// Larger than `SMALL_BYTES_MAX`.
const LARGE_BYTES: usize = 500;
const SMALL_BYTES_MAX: u32 = 200;

/// A member that takes one message at a time.
fn member(broker: &TestBroker, of: Connect, packet_bytes_max: Option<u32>) -> TestClient {
    let mut connect = of;
    connect.properties.receive_maximum = NonZeroU16::new(1);
    connect.properties.maximum_packet_size = packet_bytes_max.and_then(NonZeroU32::new);
    let mut client = TestClient::connect(broker.address(), connect);
    let options = mqtt::SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..qos1()
    };
    client.subscribe_with(FILTER, options, None);
    client
}

fn small_member(broker: &TestBroker, is_kept: bool) -> TestClient {
    let of = match is_kept {
        true => staying(V5, "small"),
        false => connect(V5, "small"),
    };
    member(broker, of, Some(SMALL_BYTES_MAX))
}

/// Publishes with this QoS until the broker has it.
fn publish_with(publisher: &mut TestClient, qos: QoS, payload: &str) {
    if qos == QoS::AtLeastOnce {
        return publisher.publish_acknowledged("a", payload);
    }
    let delivery = Delivery::ExactlyOnce {
        packet_id: id(1),
        dup: false,
    };
    publisher.publish(Publish {
        delivery,
        ..publish(0, "a", payload)
    });
    assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
    let pubrel = Acknowledgement::new(id(1), ReasonCode::Success);
    publisher.send(Packet::Pubrel(pubrel));
    assert!(matches!(publisher.receive(), Packet::Pubcomp(_)));
}

fn too_large(broker: &TestBroker) -> u64 {
    let dropped = &broker.probe.counters().dropped;
    dropped.get(DropCause::PacketTooLarge)
}

fn large(number: usize) -> String {
    format!("{number:0LARGE_BYTES$}")
}

/// They wait while the member's window is full, so that nothing but the group itself gets it past them.
#[test]
fn messages_too_large_for_the_only_member_are_dropped_and_the_next_comes() {
    for (qos, is_kept) in [
        (QoS::AtLeastOnce, false),
        (QoS::AtLeastOnce, true),
        (QoS::ExactlyOnce, false),
        (QoS::ExactlyOnce, true),
    ] {
        let broker = TestBroker::start(Setup::default());
        let mut small = small_member(&broker, is_kept);
        let mut publisher = broker.client(V5, "publisher");
        publish_with(&mut publisher, QoS::AtLeastOnce, "first");
        let Packet::Publish(first) = small.receive() else {
            panic!("no PUBLISH");
        };
        assert_eq!(text(&first.payload), "first");
        for number in 0..10 {
            publish_with(&mut publisher, qos, &large(number));
        }
        publish_with(&mut publisher, qos, "last");
        small.expect_nothing();
        let packet_id = first.delivery.packet_id().unwrap();
        let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
        small.send(Packet::Puback(puback));
        let last = small.receive_payloads(1);
        assert_eq!(last, ["last"], "{qos:?}, kept: {is_kept}");
        assert_eq!(too_large(&broker), 10);
        // Also of one that is live, and one by one.
        publish_with(&mut publisher, qos, &large(10));
        publish_with(&mut publisher, qos, "after");
        assert_eq!(small.receive_payloads(1), ["after"]);
        assert_eq!(too_large(&broker), 11);
    }
}

/// Takes and acknowledges what has come.
fn take(client: &mut TestClient, received: &mut Vec<String>) {
    for packet in client.ping() {
        let answer = |packet_id| Acknowledgement::new(packet_id, ReasonCode::Success);
        match packet {
            Packet::Publish(publish) => {
                received.push(text(&publish.payload));
                let packet_id = publish.delivery.packet_id().unwrap();
                client.send(match publish.delivery.qos() {
                    QoS::ExactlyOnce => Packet::Pubrec(answer(packet_id)),
                    _ => Packet::Puback(answer(packet_id)),
                });
            }
            Packet::Pubrel(pubrel) => client.send(Packet::Pubcomp(answer(pubrel.packet_id))),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn message_too_large_for_one_member_goes_to_another_or_is_dropped_and_counted() {
    const COUNT: usize = 20;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let broker = TestBroker::start(Setup::default());
        let mut small = small_member(&broker, true);
        let mut other = member(&broker, connect(V5, "other"), None);
        let mut publisher = broker.client(V5, "publisher");
        for number in 0..COUNT {
            publish_with(&mut publisher, qos, &large(number));
        }
        let dropped = || usize::try_from(too_large(&broker)).unwrap();
        let mut received = Vec::new();
        wait_for("all messages", || {
            take(&mut other, &mut received);
            received.len() + dropped() >= COUNT
        });
        for _ in 0..3 {
            take(&mut other, &mut received);
        }
        assert_eq!(received.len() + dropped(), COUNT, "{qos:?}");
        assert!(received.is_sorted(), "{received:?}");
        assert!(!received.is_empty());
        small.expect_nothing();
    }
}
