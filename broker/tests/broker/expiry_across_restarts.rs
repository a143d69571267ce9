//! Message Expiry Interval while nobody is there: neither the client nor the broker (3.3.2.3.3).

use std::time::Duration;

use mqtt::ProtocolVersion::V5;
use mqtt::{MessageProperties, Publish};

use crate::support::{Setup, TestBroker, TestClient, go, publish, qos1, retained, staying, text};

/// Longer than the shorter interval.
const AWAY: Duration = Duration::from_millis(2_100);

fn expiring(seconds: u32, topic: &str) -> Publish {
    Publish {
        properties: MessageProperties {
            message_expiry_interval: Some(seconds),
            ..MessageProperties::default()
        },
        ..publish(1, topic, seconds.to_string())
    }
}

/// The message that lasts longer, and what is left to it. The other one does not come.
fn receive_rest(client: &mut TestClient) -> u32 {
    let received = client.receive_publish();
    assert_eq!(text(&received.payload), "100");
    let left = received.properties.message_expiry_interval;
    client.expect_nothing();
    left.unwrap()
}

#[test]
fn interval_of_what_waits_is_counted_down_while_the_broker_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    for client_id in ["client", "member"] {
        let mut client = TestClient::connect(broker.address(), staying(V5, client_id));
        let filter = if client_id == "member" {
            "$share/g/a"
        } else {
            "a"
        };
        client.subscribe_with(filter, qos1(), None);
        go(&broker, client);
    }
    let mut publisher = broker.client(V5, "publisher");
    for seconds in [1, 100] {
        publisher.publish(expiring(seconds, "a"));
        assert_eq!(publisher.receive_puback().0, 1);
        publisher.publish(retained(expiring(seconds, &format!("kept/{seconds}"))));
        assert_eq!(publisher.receive_puback().0, 1);
    }
    broker.stop();
    std::thread::sleep(AWAY);
    let broker = TestBroker::start_at(&path, Setup::default());
    for client_id in ["client", "member"] {
        let mut client = TestClient::connect(broker.address(), staying(V5, client_id));
        let left = receive_rest(&mut client);
        assert!((1..=98).contains(&left), "{client_id}: {left}");
    }
    let mut late = broker.client(V5, "late");
    late.subscribe("kept/+");
    let left = receive_rest(&mut late);
    assert!((1..=98).contains(&left), "retained: {left}");
    // What is handed over once more has less and less.
    std::thread::sleep(AWAY);
    late.subscribe("kept/+");
    assert!(receive_rest(&mut late) < left, "retained, again");
}
