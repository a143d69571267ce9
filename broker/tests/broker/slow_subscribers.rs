//! Subscribers that do not keep up.

use std::num::NonZeroU16;
use std::time::Duration;

use broker::{DropCause, EndCause, Limits};
use mqtt::ProtocolVersion::V5;
use mqtt::{Acknowledgement, MessageProperties, Packet, Publish, ReasonCode};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, connect_with_will, publish, qos1, text, wait_for,
};

fn small_mailboxes() -> Limits {
    Limits {
        mailbox_bytes_max: 16_384,
        packet_bytes_max: 16_384,
        inflight_max: NonZeroU16::new(4).unwrap(),
        ..Limits::default()
    }
}

#[test]
fn window_is_kept_and_the_rest_follows_the_acknowledgements_in_order() {
    let broker = TestBroker::start(Setup::with_limits(small_mailboxes()));
    for version in BOTH {
        let mut subscriber = broker.client(version, "subscriber");
        subscriber.subscribe("#");
        let mut publisher = broker.client(version, "publisher");
        for number in 0..20 {
            publisher.publish_acknowledged("a", number.to_string());
        }
        let mut received = Vec::new();
        for packet in subscriber.ping() {
            match packet {
                Packet::Publish(publish) => received.push(publish),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(received.len(), 4);
        for number in 0..20 {
            let publish = received.remove(0);
            assert_eq!(text(&publish.payload), number.to_string());
            let packet_id = publish.delivery.packet_id().unwrap();
            let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
            subscriber.send(Packet::Puback(puback));
            if number < 16 {
                match subscriber.receive() {
                    Packet::Publish(publish) => received.push(publish),
                    other => panic!("{other:?}"),
                }
            }
        }
        subscriber.expect_nothing();
    }
}

#[test]
fn message_that_expires_while_it_waits_for_the_window_is_dropped() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        inflight_max: NonZeroU16::MIN,
        ..Limits::default()
    }));
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a", "first");
    let Packet::Publish(first) = subscriber.receive() else {
        panic!("no PUBLISH");
    };
    for (packet_id, seconds) in [(2, 1), (3, 1_000)] {
        publisher.publish(Publish {
            properties: MessageProperties {
                message_expiry_interval: Some(seconds),
                ..MessageProperties::default()
            },
            ..publish(packet_id, "a", seconds.to_string())
        });
        assert_eq!(publisher.receive_puback().0, packet_id);
    }
    std::thread::sleep(Duration::from_millis(1_100));
    let packet_id = first.delivery.packet_id().unwrap();
    let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
    subscriber.send(Packet::Puback(puback));
    let received = subscriber.receive_publish();
    assert_eq!(text(&received.payload), "1000");
    assert!(received.properties.message_expiry_interval.unwrap() < 1_000);
    let dropped = &broker.probe.counters().dropped;
    assert_eq!(dropped.get(DropCause::Expired), 1);
}

/// What is in no log cannot be read again.
#[test]
fn subscriber_that_acknowledges_nothing_is_disconnected_when_its_mailbox_is_full() {
    let broker = TestBroker::start(Setup {
        memory: &["a"],
        ..Setup::with_limits(small_mailboxes())
    });
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("wills/#");
    for version in BOTH {
        let connect = connect_with_will(version, "stuck", "wills/stuck", "too slow");
        let mut stuck = TestClient::connect(broker.address(), connect);
        let mut lively = broker.client(version, "lively");
        stuck.subscribe("a");
        lively.subscribe("a");
        let mut publisher = broker.client(version, "publisher");
        for number in 0..40 {
            publisher.publish_acknowledged("a", [b'x'; 1_000]);
            assert_eq!(lively.receive_publish().payload.len(), 1_000, "{number}");
            let queued = broker.probe.status().queued_bytes;
            assert!(queued <= 16_384, "{queued} bytes wait after {number}");
        }
        for _ in 0..4 {
            assert!(matches!(stuck.receive(), Packet::Publish(_)));
        }
        let told = (version == V5).then_some(ReasonCode::QuotaExceeded);
        assert_eq!(stuck.receive_end(), told);
        assert_eq!(watcher.receive_payloads(1), ["too slow"]);
        lively.expect_nothing();
    }
    let counters = broker.probe.counters();
    assert_eq!(counters.ended.get(EndCause::SlowSubscriber), 2);
    assert_eq!(counters.dropped.get(DropCause::MailboxFull), 2);
    wait_for("empty mailboxes", || {
        broker.probe.status().queued_bytes == 0
    });
}

#[test]
fn client_that_never_reads_misses_qos0_and_holds_up_nobody() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        mailbox_bytes_max: 262_144,
        ..Limits::default()
    }));
    let mut deaf = broker.client(V5, "deaf");
    deaf.subscribe_with("a", qos1(), None);
    let mut lively = broker.client(V5, "lively");
    lively.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    let payload = vec![b'x'; 100_000];
    // More than the sockets between them can hold.
    let dropped = || broker.probe.counters().dropped.get(DropCause::MailboxFull);
    let mut sent = 0;
    wait_for("a full mailbox", || {
        publisher.publish(publish(0, "a", &payload));
        assert_eq!(lively.receive_publish().payload.len(), payload.len());
        sent += 1;
        dropped() >= 10
    });
    assert_eq!(
        broker.probe.counters().ended.get(EndCause::SlowSubscriber),
        0
    );
    // When it reads again, it is served again.
    let expected = sent - usize::try_from(dropped()).unwrap();
    for _ in 0..expected {
        assert_eq!(deaf.receive_publish().payload.len(), payload.len());
    }
    assert_eq!(deaf.ping(), []);
    publisher.publish(publish(0, "a", "again"));
    assert_eq!(deaf.receive_payloads(1), ["again"]);
}

#[test]
fn connection_of_a_client_that_never_reads_is_closed_in_the_end() {
    let broker = TestBroker::start(Setup {
        memory: &["a"],
        ..Setup::with_limits(small_mailboxes())
    });
    let mut deaf = broker.client(V5, "deaf");
    deaf.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    wait_for("the end of its session", || {
        publisher.publish_acknowledged("a", [b'x'; 10_000]);
        broker.probe.status().sessions_v5 == 1
    });
    wait_for("the end of its connection", || {
        broker.probe.status().connections == 1
    });
}

#[test]
fn subscriber_that_falls_behind_gets_everything_from_the_log_in_order() {
    let broker = TestBroker::start(Setup::with_limits(small_mailboxes()));
    for version in BOTH {
        let mut slow = broker.client(version, "slow");
        slow.subscribe("a/#");
        let mut publisher = broker.client(version, "publisher");
        let numbers: Vec<String> = (0..300).map(|number| format!("{number:0500}")).collect();
        for number in &numbers {
            publisher.publish_acknowledged("a/b", number);
            let queued = broker.probe.status().queued_bytes;
            assert!(queued <= 16_384, "{queued} bytes wait");
        }
        assert_eq!(broker.probe.status().sessions_behind, 1);
        assert_eq!(slow.receive_payloads(300), numbers);
        slow.expect_nothing();
        wait_for("a live session", || {
            broker.probe.status().sessions_behind == 0
        });
        publisher.publish_acknowledged("a", "now");
        assert_eq!(slow.receive_payloads(1), ["now"]);
        slow.expect_nothing();
    }
    let counters = broker.probe.counters();
    assert_eq!(counters.ended.get(EndCause::SlowSubscriber), 0);
    assert_eq!(counters.dropped.get(DropCause::MailboxFull), 0);
}
