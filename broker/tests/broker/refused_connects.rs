//! CONNECTs that are refused: what was sent behind them, and the session that they would have had.

use std::rc::Rc;

use broker::{Authentication, Authorizer, Client, ConnectAttempt, Identity};
use bytes::BytesMut;
use mqtt::{Connect, Packet, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, connect, go, publish, retained, staying, string,
};

/// Lets in everybody who has no user name.
struct NoNames;

impl Authorizer for NoNames {
    fn authenticate(&self, attempt: &ConnectAttempt<'_>) -> Authentication {
        Authentication::Done(match attempt.connect.username {
            Some(_) => Err(ReasonCode::NotAuthorized),
            None => Ok(Identity::new("anybody", Rc::new(()))),
        })
    }

    fn may_publish(&self, _: Client<'_>, _: &TopicName, _: QoS, _: bool) -> bool {
        true
    }

    fn may_subscribe(&self, _: Client<'_>, _: &TopicFilter) -> bool {
        true
    }

    fn may_replay(&self, _: Client<'_>, _: &TopicFilter) -> bool {
        true
    }

    fn may_receive(&self, _: Client<'_>, _: &TopicName) -> bool {
        true
    }
}

fn start() -> TestBroker {
    TestBroker::start(Setup {
        authorizer: Box::new(|| Rc::new(NoNames)),
        ..Setup::default()
    })
}

fn refused(connect: Connect) -> Connect {
    Connect {
        username: Some(string("name")),
        ..connect
    }
}

/// Sends CONNECT and messages in one go; the code of CONNACK, which nothing follows.
fn connect_and_publish(broker: &TestBroker, connect: Connect) -> ReasonCode {
    let version = connect.version;
    let mut bytes = BytesMut::new();
    for packet in [
        Packet::Connect(Box::new(connect)),
        Packet::Publish(publish(1, "a", "x")),
        Packet::Publish(retained(publish(0, "a", "x"))),
        Packet::Pingreq,
    ] {
        packet.encode(version, &mut bytes).unwrap();
    }
    let mut client = TestClient::open(broker.address(), version);
    client.send_bytes(&bytes);
    let Packet::Connack(connack) = client.receive() else {
        panic!("no CONNACK")
    };
    assert!(!connack.session_present);
    assert_eq!(client.try_receive(), None, "something follows CONNACK");
    connack.reason_code
}

#[test]
fn what_follows_a_refused_connect_is_not_looked_at() {
    let broker = start();
    for version in BOTH {
        let code = connect_and_publish(&broker, refused(connect(version, "client")));
        assert_eq!(code, ReasonCode::NotAuthorized);
    }
    broker.client(ProtocolVersion::V5, "other").expect_nothing();
    assert_eq!(broker.records("all"), []);
    assert_eq!(broker.probe.status().retained_messages, 0);
}

#[test]
fn session_is_not_present_in_a_refusal_and_goes_on_afterwards() {
    let broker = start();
    for version in BOTH {
        let mut client = TestClient::connect(broker.address(), staying(version, "client"));
        client.subscribe("b");
        go(&broker, client);
        for connect in [staying(version, "client"), connect(version, "client")] {
            let (mut client, connack) = TestClient::try_connect(broker.address(), refused(connect));
            assert_eq!(connack.reason_code, ReasonCode::NotAuthorized);
            assert!(!connack.session_present);
            assert_eq!(client.receive_end(), None);
        }
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("b", "x");
        let (mut client, connack) =
            TestClient::try_connect(broker.address(), staying(version, "client"));
        assert!(connack.session_present);
        assert_eq!(client.receive_payloads(1), ["x"]);
        drop(client);
        broker.client(version, "client").expect_nothing();
    }
}
