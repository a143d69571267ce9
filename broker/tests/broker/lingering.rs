//! The end of a linger: when every publisher that waits may send no more, company will not come.

use std::num::NonZeroU16;

use broker::Limits;
use mqtt::ReasonCode;

use crate::support::{BOTH, Setup, TestBroker, TestClient, publish, wait_for};

/// Records wait for as long as nobody asks for their commit; a client may have two on their way.
fn broker() -> TestBroker {
    TestBroker::start(Setup {
        limits: Limits {
            receive_maximum: NonZeroU16::new(2).unwrap(),
            ..Limits::default()
        },
        ..Setup::held()
    })
}

/// The broker has worked off what was sent, and this many wait. (Their clients cannot be asked: one of
/// MQTT 3.1.1 is not listened to while its window is full.)
fn wait_pending(broker: &TestBroker, count: u64) {
    wait_for("publishes that wait", || {
        broker.probe.status().pending_publishes == count
    });
}

fn expect_acknowledged(client: &mut TestClient, packet_ids: &[u16]) {
    for packet_id in packet_ids {
        assert_eq!(client.receive_puback(), (*packet_id, ReasonCode::Success));
    }
}

#[test]
fn linger_ends_when_every_publisher_waits_with_a_full_window() {
    for version in BOTH {
        let broker = broker();
        // Whoever is connected and waits for nothing does not count.
        let _silent = broker.client(version, "silent");
        let mut one = broker.client(version, "one");
        let mut other = broker.client(version, "other");
        for _ in 0..2 {
            for packet_id in [1, 2] {
                one.publish(publish(packet_id, "a", "x"));
            }
            expect_acknowledged(&mut one, &[1, 2]);

            other.publish(publish(1, "a", "x"));
            wait_pending(&broker, 1);
            for packet_id in [1, 2] {
                one.publish(publish(packet_id, "a", "x"));
            }
            wait_pending(&broker, 3);
            other.publish(publish(2, "a", "x"));
            expect_acknowledged(&mut one, &[1, 2]);
            expect_acknowledged(&mut other, &[1, 2]);
        }
    }
}

#[test]
fn linger_goes_on_while_a_publisher_waits_with_room_in_its_window() {
    for version in BOTH {
        let broker = broker();
        let mut full = broker.client(version, "full");
        let mut with_room = broker.client(version, "with room");
        with_room.publish(publish(1, "a", "x"));
        wait_pending(&broker, 1);
        for packet_id in [1, 2] {
            full.publish(publish(packet_id, "a", "x"));
        }
        wait_pending(&broker, 3);
        with_room.expect_nothing();
        assert_eq!(broker.records("all"), [], "{version:?}");
        broker.commit();
        expect_acknowledged(&mut full, &[1, 2]);
        expect_acknowledged(&mut with_room, &[1]);
    }
}
