//! How a connection ends, and what becomes of the will.

use bytes::Bytes;
use mqtt::server::{DisconnectCause, Misbehaviour, Options};
use mqtt::{
    Connect, ConnectProperties, Disconnect, Message, MessageProperties, Packet, QoS, ReasonCode,
    Will,
};

use crate::client::{Client, topic};
use crate::raw::*;

#[test]
fn the_client_s_good_bye_takes_its_will_back_when_it_is_normal() {
    let farewell = |reason_code| Disconnect {
        reason_code,
        ..Disconnect::default()
    };
    for (version, disconnect, publish_will) in [
        (V311, farewell(ReasonCode::Success), false),
        (V5, farewell(ReasonCode::Success), false),
        (V5, farewell(ReasonCode::DisconnectWithWillMessage), true),
        (V5, farewell(ReasonCode::UnspecifiedError), true),
    ] {
        let mut client = with_will(version);
        client.send(&Packet::Disconnect(disconnect.clone()));
        assert_eq!(client.received(), []);
        assert_eq!(
            client.ended(),
            (DisconnectCause::Client(disconnect), publish_will)
        );
    }
}

fn with_will(version: mqtt::ProtocolVersion) -> Client {
    let message = Message {
        topic: topic("w"),
        payload: Bytes::new(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: MessageProperties::default(),
    };
    let will = Some(Will {
        delay_interval: None,
        message,
    });
    let connect = Connect {
        will,
        ..Connect::new(version, string("c"))
    };
    Client::connected_with(connect, Options::default())
}

#[test]
fn any_other_end_publishes_the_will() {
    for version in VERSIONS {
        let mut client = with_will(version);
        client.connection.handle_end_of_stream();
        assert_eq!(client.ended(), (DisconnectCause::EndOfStream, true));

        let mut client = with_will(version);
        client.send(&Packet::Pingresp);
        assert!(client.ended().1);

        let mut client = with_will(version);
        client.connection.disconnect(ReasonCode::SessionTakenOver);
        let cause = DisconnectCause::Server(ReasonCode::SessionTakenOver);
        assert_eq!(client.ended(), (cause, true));

        let mut client = Client::connected(version, Options::default());
        client.connection.handle_end_of_stream();
        assert_eq!(
            client.ended(),
            (DisconnectCause::EndOfStream, false),
            "there is no will"
        );
    }
}

#[test]
fn nothing_is_left_to_write_after_the_end_of_the_stream() {
    let mut client = Client::connected(V5, Options::default());
    client.send(&Packet::Pingreq);
    client.connection.handle_end_of_stream();
    assert_eq!(client.connection.transmit_bytes(), 0);
}

#[test]
fn a_session_that_was_to_end_is_not_prolonged() {
    let disconnect = |seconds| Disconnect {
        session_expiry_interval: Some(seconds),
        ..Disconnect::default()
    };
    let connected = |seconds| {
        let properties = ConnectProperties {
            session_expiry_interval: Some(seconds),
            ..ConnectProperties::default()
        };
        let connect = Connect {
            properties,
            ..Connect::new(V5, string("c"))
        };
        Client::connected_with(connect, Options::default())
    };
    let packet = Packet::Disconnect(disconnect(60));
    connected(0).assert_misbehaved(&packet, Misbehaviour::SessionExpiryRaised);
    for (before, after) in [(0, 0), (30, 60), (30, 0)] {
        let mut client = connected(before);
        client.send(&Packet::Disconnect(disconnect(after)));
        assert_eq!(client.cause(), DisconnectCause::Client(disconnect(after)));
    }
}

#[test]
fn the_server_s_good_bye_says_what_a_disconnect_can_say() {
    for (code, told) in [
        (ReasonCode::SessionTakenOver, ReasonCode::SessionTakenOver),
        (ReasonCode::Banned, ReasonCode::UnspecifiedError),
        (
            ReasonCode::DisconnectWithWillMessage,
            ReasonCode::UnspecifiedError,
        ),
    ] {
        let mut client = Client::connected(V5, Options::default());
        client.connection.disconnect(code);
        assert_eq!(client.told(), Some(told));
        assert_eq!(client.cause(), DisconnectCause::Server(code));
    }
    let mut client = Client::connected(V311, Options::default());
    client.connection.disconnect(ReasonCode::SessionTakenOver);
    assert_eq!(client.told(), None);
}

#[test]
fn a_late_completion_does_nothing() {
    let mut client = Client::connected(V5, Options::default());
    let ticket = client.publish(1);
    client.connection.handle_end_of_stream();
    client.complete(ticket, ReasonCode::Success);
    assert_eq!(client.connection.suspend(client.now, ticket), Ok(()));
    assert_eq!(client.received(), []);
}
