//! A broker without a store: live messages, and no promises.

use broker::{DropCause, RefusalCause};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{Packet, ReasonCode, SubscriptionOptions};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, connect_with_will, publish, qos1, retained, wait_for,
};

fn start() -> TestBroker {
    TestBroker::start(Setup {
        memory: &["panel"],
        is_degraded: true,
        ..Setup::default()
    })
}

fn refused(broker: &TestBroker) -> u64 {
    let refused = &broker.probe.counters().refused;
    refused.get(RefusalCause::Degraded)
}

#[test]
fn qos0_is_live_only_when_there_is_no_store() {
    let broker = start();
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    for version in BOTH {
        let mut publisher = broker.client(version, "publisher");
        publisher.publish(publish(0, "a", "live"));
        assert_eq!(subscriber.receive_payloads(1), ["live"]);
    }
    assert_eq!(broker.records("all"), []);
    let dropped = &broker.probe.counters().dropped;
    assert_eq!(dropped.get(DropCause::Degraded), 2);
    assert_eq!(refused(&broker), 0);
}

#[test]
fn qos1_is_refused_in_the_order_of_acknowledgements_when_there_is_no_store() {
    let broker = start();
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    for number in 1..=3 {
        publisher.publish(publish(number, "a", "refused"));
    }
    for number in 1..=3 {
        let puback = publisher.receive_puback();
        assert_eq!(puback, (number, ReasonCode::QuotaExceeded));
    }
    // What asks for no flash is served as ever.
    publisher.publish_acknowledged("panel", "shown");
    assert_eq!(subscriber.receive_payloads(1), ["shown"]);
    subscriber.expect_nothing();
    assert_eq!(refused(&broker), 3);
    assert_eq!(broker.records("all"), []);
}

#[test]
fn qos1_of_a_311_client_is_held_without_acknowledgement_when_there_is_no_store() {
    let broker = start();
    let mut publisher = broker.client(V311, "publisher");
    for number in 1..=10 {
        publisher.publish(publish(number, "a", "held"));
    }
    publisher.expect_nothing();
    publisher.subscribe("b");
    assert_eq!(broker.probe.status().held_publishes, 10);
    // Other messages go on meanwhile.
    publisher.publish(publish(0, "b", "live"));
    assert_eq!(publisher.receive_payloads(1), ["live"]);
    drop(publisher);
    wait_for("the end of the session", || {
        broker.probe.status().sessions_v311 == 0
    });
    let refused = &broker.probe.counters().refused;
    assert_eq!(refused.get(RefusalCause::ConnectionEnded), 10);
}

#[test]
fn retained_message_is_live_with_qos0_refused_with_qos1_and_never_kept_when_there_is_no_store() {
    let broker = start();
    let mut subscriber = broker.client(V5, "subscriber");
    let options = SubscriptionOptions {
        retain_as_published: true,
        ..qos1()
    };
    let code = subscriber.subscribe_with("#", options, None);
    assert_eq!(code, ReasonCode::GrantedQos1);
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(retained(publish(0, "a", "live")));
    publisher.publish(retained(publish(1, "a", "refused")));
    assert_eq!(publisher.receive_puback(), (1, ReasonCode::QuotaExceeded));
    let live = subscriber.receive_publish();
    assert!(live.retain);
    assert_eq!(live.payload, "live");
    subscriber.expect_nothing();
    // Also under a topic name that no log takes.
    publisher.publish(retained(publish(0, "panel", "live")));
    assert_eq!(subscriber.receive_payloads(1), ["live"]);
    let mut late = broker.client(V5, "late");
    late.subscribe("#");
    late.expect_nothing();
    assert_eq!(broker.probe.status().retained_messages, 0);
}

#[test]
fn will_goes_to_the_subscribers_of_the_moment_when_there_is_no_store() {
    let broker = start();
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("#");
    let connect = connect_with_will(V5, "client", "will", "gone");
    drop(TestClient::connect(broker.address(), connect));
    assert_eq!(watcher.receive_payloads(1), ["gone"]);
    assert_eq!(broker.records("all"), []);
}

#[test]
fn clients_are_told_when_a_broker_without_store_ends() {
    let broker = start();
    let mut client = broker.client(V5, "client");
    let mut old = broker.client(V311, "old");
    old.publish(publish(1, "a", "held"));
    old.expect_nothing();
    broker.stop();
    match client.receive() {
        Packet::Disconnect(end) => assert_eq!(end.reason_code, ReasonCode::ServerShuttingDown),
        other => panic!("{other:?} in the place of DISCONNECT"),
    }
    assert_eq!(old.receive_end(), None);
}
