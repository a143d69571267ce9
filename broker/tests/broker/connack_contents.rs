//! CONNACK: it comes first and once, and has nothing that the client did not ask for.

use mqtt::ProtocolVersion::V5;
use mqtt::{Connack, Packet};

use crate::support::{BOTH, Setup, TestBroker, TestClient, connect, go, publish, staying};

#[test]
fn connack_comes_first_and_once_although_much_waits_for_the_client() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut client = TestClient::connect(broker.address(), staying(version, "client"));
        client.subscribe("a");
        go(&broker, client);
        let mut publisher = broker.client(version, "publisher");
        for _ in 0..10 {
            publisher.publish_acknowledged("a", "x");
        }
        let mut client = TestClient::open(broker.address(), version);
        client.send(Packet::Connect(Box::new(staying(version, "client"))));
        client.publish(publish(1, "b", "sent before CONNACK came"));
        assert!(matches!(client.receive(), Packet::Connack(_)));
        let rest = client.ping();
        let is_connack = |packet: &Packet| matches!(packet, Packet::Connack(_));
        assert!(!rest.iter().any(is_connack), "{version:?}");
        drop(client);
        broker.client(version, "client").expect_nothing();
    }
}

#[test]
fn connack_has_no_response_information_and_no_authentication() {
    let broker = TestBroker::start(Setup::default());
    for wanted in [None, Some(false)] {
        let mut connect = connect(V5, "client");
        connect.properties.request_response_information = wanted;
        let (mut client, connack) = TestClient::try_connect(broker.address(), connect);
        let Connack { properties, .. } = connack;
        assert_eq!(properties.response_information, None);
        assert_eq!(properties.authentication_method, None);
        assert_eq!(properties.authentication_data, None);
        // Nor does AUTH come.
        client.expect_nothing();
    }
}

/// The first byte behind the length; the second would be the code.
#[test]
fn flags_of_connack_are_session_present_and_nothing_else() {
    use std::io::Read;
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        for expected in [0, 1] {
            let mut client = TestClient::open(broker.address(), version);
            client.send(Packet::Connect(Box::new(staying(version, "client"))));
            let mut head = [0; 4];
            client.stream.read_exact(&mut head).unwrap();
            assert_eq!((head[0], head[2], head[3]), (0x20, expected, 0));
            client.send(Packet::Disconnect(mqtt::Disconnect::default()));
            let mut rest = Vec::new();
            client.stream.read_to_end(&mut rest).unwrap();
        }
        drop(broker.client(version, "client"));
    }
}
