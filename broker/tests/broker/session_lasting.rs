//! How long a session lasts: as long as its connection, and then its expiry interval.

use std::time::Duration;

use mqtt::ProtocolVersion::V5;
use mqtt::{Connect, Disconnect, Packet};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, connect, publish, staying, text, wait_for,
};

fn for_seconds(client_id: &str, seconds: u32) -> Connect {
    let mut connect = staying(V5, client_id);
    connect.properties.session_expiry_interval = Some(seconds);
    connect
}

#[test]
fn expiry_interval_begins_with_the_end_of_the_connection() {
    let broker = TestBroker::start(Setup::default());
    let mut client = TestClient::connect(broker.address(), for_seconds("client", 1));
    client.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a", "not acknowledged");
    assert!(matches!(client.receive(), Packet::Publish(_)));
    std::thread::sleep(Duration::from_millis(2_500));
    publisher.publish_acknowledged("a", "later");
    // Taken over: the session was there all the time.
    let (mut client, connack) = TestClient::try_connect(broker.address(), for_seconds("client", 1));
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

/// The session of a client that is gone; waits until the broker knows.
fn leave_behind(broker: &TestBroker, connect: Connect) {
    drop(TestClient::connect(broker.address(), connect));
    wait_for("the end of the connection", || {
        broker.probe.status().connections == 0
    });
}

/// Its time is over at the start, and so before that of one that is left behind after the start; if the
/// time began anew, it would be the other way round.
#[test]
fn session_ends_also_while_the_broker_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    leave_behind(&broker, for_seconds("first", 4));
    broker.stop();
    std::thread::sleep(Duration::from_millis(4_500));
    let broker = TestBroker::start_at(&path, Setup::default());
    leave_behind(&broker, for_seconds("second", 2));
    wait_for("the end of one", || {
        broker.probe.status().sessions_offline <= 1
    });
    let (_, connack) = TestClient::try_connect(broker.address(), for_seconds("first", 4));
    assert!(!connack.session_present);
    broker.stop();
}

#[test]
fn good_bye_shortens_the_life_of_a_session_and_lengthens_it() {
    let broker = TestBroker::start(Setup::default());
    for (before, after, is_kept) in [(3_600, 1, false), (1, 3_600, true)] {
        let connect = for_seconds("client", before);
        let mut client = TestClient::connect(broker.address(), connect.clone());
        client.send(Packet::Disconnect(Disconnect {
            session_expiry_interval: Some(after),
            ..Disconnect::default()
        }));
        assert_eq!(client.receive_end(), None);
        std::thread::sleep(Duration::from_millis(2_500));
        let (_, connack) = TestClient::try_connect(broker.address(), connect);
        assert_eq!(connack.session_present, is_kept, "{before} {after}");
        drop(broker.client(V5, "client"));
    }
}

/// Nobody has looked for sessions whose time has come since the start.
#[test]
fn session_whose_time_has_come_is_not_there_any_more_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    leave_behind(&broker, for_seconds("client", 1));
    broker.stop();
    std::thread::sleep(Duration::from_millis(2_500));
    let broker = TestBroker::start_at(&path, Setup::default());
    let (_, connack) = TestClient::try_connect(broker.address(), for_seconds("client", 1));
    assert!(!connack.session_present);
    broker.stop();
}
