//! Wills: with which QoS, when a good-bye changes the session, and for clients that leave in other ways.

use mqtt::ProtocolVersion::V5;
use mqtt::{Disconnect, Packet, QoS, ReasonCode, SubscriptionOptions};

use crate::support::{BOTH, Setup, TestBroker, TestClient, connect_with_will, staying, text};

fn watching(broker: &TestBroker) -> TestClient {
    let mut watcher = broker.client(V5, "watcher");
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        ..SubscriptionOptions::default()
    };
    watcher.subscribe_with("will", options, None);
    watcher
}

#[test]
fn will_comes_with_its_qos() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = watching(&broker);
    for version in BOTH {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut connect = connect_with_will(version, "client", "will", "gone");
            connect.will.as_mut().unwrap().message.qos = qos;
            drop(TestClient::connect(broker.address(), connect));
            let received = watcher.receive_publish();
            assert_eq!(received.delivery.qos(), qos, "{version:?}");
            assert_eq!(text(&received.payload), "gone");
            watcher.expect_nothing();
        }
    }
}

/// The will waits for the end of the session, which the good-bye brings.
#[test]
fn good_bye_that_ends_the_session_publishes_the_delayed_will_at_once() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = watching(&broker);
    let mut connect = staying(V5, "client");
    connect.will = connect_with_will(V5, "client", "will", "gone").will;
    connect.will.as_mut().unwrap().delay_interval = Some(3_600);
    let mut client = TestClient::connect(broker.address(), connect);
    client.send(Packet::Disconnect(Disconnect {
        reason_code: ReasonCode::DisconnectWithWillMessage,
        session_expiry_interval: Some(0),
        ..Disconnect::default()
    }));
    assert_eq!(client.receive_end(), None);
    assert_eq!(watcher.receive_payloads(1), ["gone"]);
    watcher.expect_nothing();
}

/// A good-bye that breaks the protocol is none.
#[test]
fn good_bye_that_would_prolong_a_session_that_ends_publishes_the_will() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = watching(&broker);
    let connect = connect_with_will(V5, "client", "will", "gone");
    let mut client = TestClient::connect(broker.address(), connect);
    client.send(Packet::Disconnect(Disconnect {
        session_expiry_interval: Some(60),
        ..Disconnect::default()
    }));
    assert_eq!(client.receive_end(), Some(ReasonCode::ProtocolError));
    assert_eq!(watcher.receive_payloads(1), ["gone"]);
    watcher.expect_nothing();
}
