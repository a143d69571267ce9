//! Many subscribers that do not keep up: what waits for all of them together is bounded, and each gets
//! everything all the same.

use std::num::NonZeroU16;

use broker::{Limit, Limits};
use mqtt::ProtocolVersion::V5;
use mqtt::{Acknowledgement, Packet, QoS, ReasonCode, SubscriptionOptions};

use crate::support::{Setup, TestBroker, TestClient, publish, text, wait_for};

const PAYLOAD_BYTES: usize = 1_000;
/// What a message costs in a mailbox, at most.
const MESSAGE_BYTES: usize = PAYLOAD_BYTES + 200;
/// What each may have, however little is free.
const PART_BYTES_MIN: usize = 4_096;

fn start(all_mailboxes_bytes_max: usize) -> TestBroker {
    TestBroker::start(Setup::with_limits(Limits {
        all_mailboxes_bytes_max,
        inflight_max: NonZeroU16::MIN,
        ..Limits::default()
    }))
}

fn subscribers(broker: &TestBroker, topic: &str, qos: QoS, count: usize) -> Vec<TestClient> {
    let subscriber = |number| {
        let mut client = broker.client(V5, &format!("{topic}{number}"));
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        let code = client.subscribe_with(topic, options, None);
        assert!(code <= ReasonCode::GrantedQos2);
        client
    };
    (0..count).map(subscriber).collect()
}

fn payload(number: usize) -> String {
    format!("{number:0>PAYLOAD_BYTES$}")
}

fn publish_many(broker: &TestBroker, topic: &str, messages: usize) {
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..messages {
        publisher.send(Packet::Publish(mqtt::Publish {
            delivery: mqtt::Delivery::ExactlyOnce {
                packet_id: mqtt::PacketId::MIN,
                dup: false,
            },
            ..publish(0, topic, payload(number))
        }));
        let received = Acknowledgement::new(mqtt::PacketId::MIN, ReasonCode::Success);
        assert!(matches!(publisher.receive(), Packet::Pubrec(_)));
        publisher.send(Packet::Pubrel(received));
        assert!(matches!(publisher.receive(), Packet::Pubcomp(_)));
    }
}

fn take_all(subscribers: &mut [TestClient], messages: usize) {
    for number in 0..messages {
        for subscriber in &mut *subscribers {
            let received = subscriber.receive_publish();
            assert_eq!(text(&received.payload), payload(number));
        }
    }
    for subscriber in subscribers {
        subscriber.expect_nothing();
    }
}

#[test]
fn what_waits_for_subscribers_that_take_nothing_is_bounded_for_all_together() {
    const ALL: usize = 131_072;
    const EACH: usize = 10;
    const MESSAGES: usize = 60;
    let broker = start(ALL);
    let mut of_qos1 = subscribers(&broker, "t", QoS::AtLeastOnce, EACH);
    let mut of_qos2 = subscribers(&broker, "+", QoS::ExactlyOnce, EACH);
    publish_many(&broker, "t", MESSAGES);
    let taken = || usize::try_from(broker.probe.counters().mailboxes_bytes.get()).unwrap();
    let allowed = ALL + 2 * EACH * PART_BYTES_MIN.max(MESSAGE_BYTES);
    assert!(taken() <= allowed, "{} bytes wait", taken());
    assert!(taken() > 2 * EACH * MESSAGE_BYTES, "{} bytes wait", taken());
    let behind = broker.probe.status().sessions_behind;
    assert_eq!(behind, 2 * EACH as u64, "they are read for from the log");
    take_all(&mut of_qos1, MESSAGES);
    take_all(&mut of_qos2, MESSAGES);
    // One is there still, and has nothing waiting.
    let mut last = of_qos1.pop().unwrap();
    drop((of_qos1, of_qos2));
    wait_for("empty mailboxes", || {
        last.ping();
        taken() == 0
    });
}

/// Those who came first and take nothing must not hold for ever what others need.
#[test]
fn who_holds_far_more_than_others_could_gives_it_back_and_misses_nothing() {
    const MESSAGES: usize = 40;
    let broker = start(1 << 20);
    let mut first = subscribers(&broker, "t", QoS::AtLeastOnce, 30);
    publish_many(&broker, "t", MESSAGES);
    let given_back = || broker.probe.counters().mailboxes_given_back.get();
    assert_eq!(given_back(), 0);
    let mut last = subscribers(&broker, "u", QoS::AtLeastOnce, 200);
    publish_many(&broker, "u", MESSAGES);
    wait_for("mailboxes to be given back", || given_back() > 0);
    let limits = &broker.probe.counters().limits;
    wait_for("their count", || {
        limits.get(Limit::AllMailboxesBytesMax) >= given_back()
    });
    take_all(&mut last, MESSAGES);
    take_all(&mut first, MESSAGES);
}
