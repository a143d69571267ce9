//! Shutdown, and a store that fails.

use std::time::Duration;

use broker::{EndCause, RefusalCause, RunError};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::ReasonCode;

use crate::support::{
    Setup, TestBroker, TestClient, connect_with_will, more_than_there_is_room_for, publish,
    wait_for, with_little_room,
};

#[test]
fn shutdown_acknowledges_what_becomes_durable_and_says_good_bye() {
    let mut broker = TestBroker::start(Setup::held());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let will = connect_with_will(V5, "v5", "will", "must not come");
    let mut v5 = TestClient::connect(broker.address(), will);
    let mut v311 = broker.client(V311, "v311");
    let mut silent = TestClient::open(broker.address(), V5);
    v5.publish(publish(1, "a", "x"));
    assert_eq!(v5.ping(), []);
    v311.publish(publish(2, "a", "y"));
    assert_eq!(v311.ping(), []);
    broker.begin_shutdown();
    wait_for("a closed listener", || {
        std::net::TcpStream::connect(broker.address()).is_err()
    });
    broker.commit();
    assert_eq!(v5.receive_puback(), (1, ReasonCode::Success));
    assert_eq!(v311.receive_puback(), (2, ReasonCode::Success));
    assert_eq!(subscriber.receive_payloads(2), ["x", "y"]);
    for client in [&mut v5, &mut subscriber] {
        assert_eq!(client.receive_end(), Some(ReasonCode::ServerShuttingDown));
    }
    assert_eq!(v311.receive_end(), None);
    assert_eq!(silent.receive_end(), None);
    broker.result().unwrap();
    assert_eq!(broker.probe.counters().ended.get(EndCause::Shutdown), 4);
    assert_eq!(broker.probe.status().connections, 0);
    broker.commit();
    assert_eq!(broker.records("all").len(), 2, "no will");
}

#[test]
fn shutdown_does_not_wait_for_ever_and_acknowledges_nothing_that_is_not_durable() {
    let mut broker = TestBroker::start(Setup {
        shutdown_timeout: Duration::from_millis(100),
        ..Setup::held()
    });
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(publish(1, "a", "x"));
    assert_eq!(publisher.ping(), []);
    broker.begin_shutdown();
    assert_eq!(
        publisher.receive_end(),
        Some(ReasonCode::ServerShuttingDown)
    );
    broker.result().unwrap();
}

#[test]
fn shutdown_does_not_wait_for_the_publish_of_a_client_that_is_gone() {
    let mut broker = TestBroker::start(with_little_room());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("live");
    let mut publisher = broker.client(V311, "publisher");
    publisher.send_bytes(&more_than_there_is_room_for());
    wait_for("a full queue", || broker.probe.status().held_publishes == 1);
    broker.begin_shutdown();
    broker.result().unwrap();
    // It was not cut off, but came to its end.
    let counters = broker.probe.counters();
    assert_eq!(counters.ended.get(EndCause::Client), 1);
    assert_eq!(counters.refused.get(RefusalCause::ConnectionEnded), 1);
    assert_eq!(broker.probe.status().held_publishes, 0);
}

#[test]
fn shutdown_ends_although_a_client_does_not_read() {
    let mut broker = TestBroker::start(Setup::default());
    let mut deaf = broker.client(V5, "deaf");
    deaf.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    for _ in 0..200 {
        publisher.publish(publish(0, "a", vec![b'x'; 100_000]));
    }
    assert_eq!(publisher.ping(), []);
    broker.begin_shutdown();
    broker.result().unwrap();
}

#[test]
fn broker_ends_and_acknowledges_nothing_when_the_store_fails() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut broker = TestBroker::start_at(&data, Setup::held());
    // The next commit needs a new segment, and there is no place for one.
    std::fs::rename(data.join("log"), data.join("gone")).unwrap();
    std::fs::write(data.join("log"), "").unwrap();
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(publish(1, "a", vec![b'x'; 200_000]));
    for number in 2..=5 {
        publisher.publish(publish(number, "a", vec![b'x'; 190_000]));
    }
    assert_eq!(publisher.ping(), []);
    broker.commit();
    for number in 1..=5 {
        assert_eq!(publisher.receive_puback(), (number, ReasonCode::Success));
    }
    publisher.publish(publish(6, "a", vec![b'x'; 200_000]));
    assert_eq!(publisher.ping(), []);
    broker.try_commit().unwrap_err();
    let told = publisher.receive_end();
    assert_eq!(told, Some(ReasonCode::ServerShuttingDown));

    let error = broker.result().unwrap_err();
    assert!(matches!(error, RunError::StoreFailed { .. }), "{error:?}");
    assert!(error.to_string().starts_with("the store has failed: "));
}

#[test]
fn broker_ends_when_the_store_is_closed() {
    let mut broker = TestBroker::start(Setup::default());
    let mut client = broker.client(V5, "client");
    broker.close_store();
    let error = broker.result().unwrap_err();
    assert!(matches!(error, RunError::StoreClosed), "{error:?}");
    assert_eq!(client.receive_end(), Some(ReasonCode::ServerShuttingDown));
}
