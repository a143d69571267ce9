//! How long a session lasts: as long as its connection, and then its expiry interval.

use std::time::Duration;

use mqtt::ProtocolVersion::V5;
use mqtt::{Connect, Packet};

use crate::support::{BOTH, Setup, TestBroker, TestClient, connect, publish, staying, text};

fn for_a_second(client_id: &str) -> Connect {
    let mut connect = staying(V5, client_id);
    connect.properties.session_expiry_interval = Some(1);
    connect
}

#[test]
fn expiry_interval_begins_with_the_end_of_the_connection() {
    let broker = TestBroker::start(Setup::default());
    let mut client = TestClient::connect(broker.address(), for_a_second("client"));
    client.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a", "not acknowledged");
    assert!(matches!(client.receive(), Packet::Publish(_)));
    std::thread::sleep(Duration::from_millis(2_500));
    publisher.publish_acknowledged("a", "later");
    // Taken over: the session was there all the time.
    let (mut client, connack) = TestClient::try_connect(broker.address(), for_a_second("client"));
    assert!(connack.session_present);
    assert_eq!(client.receive_payloads(2), ["not acknowledged", "later"]);
}

/// Without an expiry interval, too.
#[test]
fn session_is_kept_while_its_connection_is_open() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut client = TestClient::connect(broker.address(), connect(version, "client"));
        client.subscribe("a");
        client.publish(publish(1, "b", "x"));
        assert_eq!(client.receive_puback().0, 1);
        std::thread::sleep(Duration::from_millis(1_500));
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("a", "later");
        assert_eq!(text(&client.receive_publish().payload), "later");
    }
}
