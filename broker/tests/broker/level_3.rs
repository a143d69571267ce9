//! Clients of MQTT 3.1, which have level 3 and another protocol name, and are like those of 3.1.1.

use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{Connack, Connect, Packet, ReasonCode};

use crate::support::{Setup, TestBroker, TestClient, go, publish, staying, string, wait_for};

fn try_connect(broker: &TestBroker, connect: Connect) -> (TestClient, Connack) {
    let connect = Connect {
        is_v31: true,
        ..connect
    };
    TestClient::try_connect(broker.address(), connect)
}

#[test]
fn client_of_level_3_is_served_like_one_of_level_4() {
    let broker = TestBroker::start(Setup::default());
    let mut client = TestClient::open(broker.address(), V311);
    client.send_bytes(b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c");
    let Packet::Connack(connack) = client.receive() else {
        panic!("no CONNACK")
    };
    assert_eq!(connack.reason_code, ReasonCode::Success);
    let count = || broker.probe.counters().sessions_v31.get();
    assert_eq!(count(), 1);
    client.subscribe("a");
    client.publish(publish(0, "a", "x"));
    assert_eq!(client.receive_payloads(1), ["x"]);
    client.expect_nothing();
    client.send(Packet::Disconnect(mqtt::Disconnect::default()));
    assert_eq!(client.receive_end(), None);
    wait_for("the end of the session", || count() == 0);
    assert_eq!(broker.probe.status().sessions_v311, 0);
}

#[test]
fn session_of_level_3_goes_on_and_is_not_announced() {
    let broker = TestBroker::start(Setup::default());
    let (mut client, _) = try_connect(&broker, staying(V311, "client"));
    client.subscribe("a");
    go(&broker, client);
    broker
        .client(V5, "publisher")
        .publish_acknowledged("a", "x");
    let (mut client, connack) = try_connect(&broker, staying(V311, "client"));
    assert!(!connack.session_present);
    assert_eq!(client.receive_payloads(1), ["x"]);
    // The same session in another version.
    go(&broker, client);
    let (_, connack) = TestClient::try_connect(broker.address(), staying(V311, "client"));
    assert!(connack.session_present);
}

#[test]
fn client_of_level_3_needs_a_name_which_may_be_long() {
    let broker = TestBroker::start(Setup::default());
    let connect = |name: &str| Connect::new(V311, string(name));
    let (_, connack) = try_connect(&broker, connect(""));
    let refused = ReasonCode::ClientIdentifierNotValid;
    assert_eq!(connack.reason_code, refused);
    let (_, connack) = try_connect(&broker, connect(&"x".repeat(100)));
    assert_eq!(connack.reason_code, ReasonCode::Success);
}
