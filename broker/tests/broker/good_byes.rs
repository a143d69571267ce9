//! The broker's DISCONNECT: what it says, and that nothing follows it.

use mqtt::ProtocolVersion::V5;
use mqtt::{Disconnect, Packet, ReasonCode};

use crate::support::{Setup, TestBroker, TestClient, publish, staying};

/// The DISCONNECT that comes next, behind which the connection is closed.
fn last_word(client: &mut TestClient) -> Disconnect {
    let Some(Packet::Disconnect(disconnect)) = client.try_receive() else {
        panic!("no DISCONNECT")
    };
    assert_eq!(client.try_receive(), None, "something follows DISCONNECT");
    disconnect
}

#[test]
fn good_bye_of_the_broker_says_nothing_of_the_session_and_is_the_last_packet() {
    let mut broker = TestBroker::start(Setup::default());
    let come = |broker: &TestBroker| TestClient::connect(broker.address(), staying(V5, "client"));
    // With much behind what ends the connection.
    let mut client = come(&broker);
    client.subscribe("a");
    client.send_bytes(b"\x00\x00");
    client.publish(publish(1, "a", "behind it"));
    let mut second = come(&broker);
    let mut last = vec![(last_word(&mut client), ReasonCode::MalformedPacket)];
    let third = come(&broker);
    last.push((last_word(&mut second), ReasonCode::SessionTakenOver));
    broker.begin_shutdown();
    let mut third = third;
    last.push((last_word(&mut third), ReasonCode::ServerShuttingDown));
    for (disconnect, code) in last {
        assert_eq!(disconnect.reason_code, code);
        assert_eq!(disconnect.session_expiry_interval, None, "{code}");
    }
    broker.result().unwrap();
}

/// Whoever says good-bye is not read from any more.
#[test]
fn what_a_client_sends_after_its_good_bye_is_not_looked_at() {
    let broker = TestBroker::start(Setup::default());
    for version in crate::support::BOTH {
        let mut client = broker.client(version, "client");
        let mut bytes = bytes::BytesMut::new();
        for packet in [
            Packet::Disconnect(Disconnect::default()),
            Packet::Publish(publish(1, "a", "x")),
            Packet::Pingreq,
        ] {
            packet.encode(version, &mut bytes).unwrap();
        }
        client.send_bytes(&bytes);
        assert_eq!(client.receive_end(), None);
    }
    assert_eq!(broker.records("all"), []);
}
