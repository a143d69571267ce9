//! CONNECT, CONNACK and the ways in which a connection begins or does not.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use bytes::Bytes;
use mqtt::codec::InvalidPacket;
use mqtt::server::{
    Accept, AcceptError, DisconnectCause, Event, Misbehaviour, Options, PublishOutcome, Reason,
};
use mqtt::{
    Connect, ConnectProperties, MaximumQos, Message, MessageProperties, Packet, ProblemInformation,
    ProtocolVersion, QoS, ReasonCode, Will,
};

use crate::client::{Client, message, publish, topic};
use crate::raw::*;

fn connect(version: ProtocolVersion) -> Connect {
    Connect::new(version, string("c"))
}

fn will(qos: QoS) -> Option<Will> {
    let properties = MessageProperties::default();
    let payload = Bytes::from_static(b"gone");
    let message = Message {
        topic: topic("w"),
        payload,
        qos,
        retain: false,
        properties,
    };
    Some(Will {
        delay_interval: None,
        message,
    })
}

/// Sends the CONNECT of a client and takes the event.
fn connecting(connect: Connect) -> Client {
    let mut client = Client::new(connect.version, Options::default());
    client.send(&Packet::Connect(Box::new(connect.clone())));
    assert_eq!(client.events(), [Event::Connect(Box::new(connect))]);
    client
}

#[test]
fn connack_tells_mqtt_5_clients_the_limits_and_3_1_1_clients_none() {
    let mut client = connecting(connect(V311));
    client
        .connection
        .accept(client.now, Accept::default())
        .unwrap();
    let chunk = client.connection.poll_transmit().unwrap();
    assert_eq!(chunk[..], [0x20, 2, 0, 0]);

    let mut client = connecting(connect(V5));
    let accept = Accept {
        session_expiry_interval: Some(0),
        assigned_client_identifier: Some(string("assigned")),
        server_keep_alive_seconds: Some(30),
        shared_subscription_available: false,
        ..Accept::default()
    };
    client.connection.accept(client.now, accept).unwrap();
    let connack = client.connack();
    assert!(!connack.session_present);
    let properties = connack.properties;
    assert_eq!(properties.maximum_qos, Some(MaximumQos::AtLeastOnce));
    assert_eq!(properties.receive_maximum, NonZeroU16::new(64));
    assert_eq!(properties.maximum_packet_size, NonZeroU32::new(262_144));
    assert_eq!(properties.topic_alias_maximum, None);
    assert_eq!(properties.session_expiry_interval, Some(0));
    assert_eq!(properties.assigned_client_identifier.unwrap(), "assigned");
    assert_eq!(properties.server_keep_alive_seconds, Some(30));
    assert_eq!(properties.shared_subscription_available, Some(false));
    assert_eq!(properties.wildcard_subscription_available, None);
}

#[test]
fn connack_names_the_maximum_qos_only_below_2_and_wills_follow_it() {
    for (maximum_qos, told) in [
        (QoS::AtMostOnce, Some(MaximumQos::AtMostOnce)),
        (QoS::AtLeastOnce, Some(MaximumQos::AtLeastOnce)),
        (QoS::ExactlyOnce, None),
    ] {
        let options = Options {
            maximum_qos,
            ..Options::default()
        };
        let connect = Connect {
            will: will(maximum_qos),
            ..connect(V5)
        };
        let mut client = Client::new(V5, options);
        client.send(&Packet::Connect(Box::new(connect)));
        client
            .connection
            .accept(client.now, Accept::default())
            .unwrap();
        assert_eq!(client.connack().properties.maximum_qos, told);
    }
}

#[test]
fn nothing_is_taken_between_connect_and_its_answer() {
    for version in VERSIONS {
        let mut client = connecting(connect(version));
        client.send(&publish(1));
        assert!(!client.connection.wants_read());
        assert_eq!(client.events(), []);
        assert!(!client.input.is_empty(), "taken before the answer");

        client
            .connection
            .accept(client.now, Accept::default())
            .unwrap();
        client
            .connection
            .handle_bytes(client.now, &mut client.input);
        assert!(matches!(client.events()[..], [Event::Publish { .. }]));
    }
}

#[test]
fn a_refusal_is_the_last_packet() {
    for (version, expected) in [(V311, &[0x20, 2, 0, 5][..]), (V5, &[0x20, 3, 0, 0x87, 0])] {
        let mut client = connecting(Connect {
            will: will(QoS::AtMostOnce),
            ..connect(version)
        });
        client.connection.refuse(ReasonCode::NotAuthorized).unwrap();
        let refused = DisconnectCause::Refused(ReasonCode::NotAuthorized);
        assert_eq!(
            client.ended(),
            (refused, false),
            "no will without a connection"
        );
        assert_eq!(client.connection.poll_transmit().unwrap(), expected);
    }
}

#[test]
fn a_refusal_without_return_code_closes_a_3_1_1_connection_in_silence() {
    let mut client = connecting(connect(V311));
    client
        .connection
        .refuse(ReasonCode::BadAuthenticationMethod)
        .unwrap();
    assert_eq!(client.received(), []);
    assert_eq!(
        client.cause(),
        DisconnectCause::Refused(ReasonCode::BadAuthenticationMethod)
    );
}

#[test]
fn a_refusal_with_a_code_that_is_none_is_unspecified() {
    for code in [ReasonCode::Success, ReasonCode::SessionTakenOver] {
        let mut client = connecting(connect(V5));
        client.connection.refuse(code).unwrap();
        assert_eq!(client.connack().reason_code, ReasonCode::UnspecifiedError);
    }
}

#[test]
fn a_connect_is_answered_once() {
    let mut client = Client::new(V5, Options::default());
    let accept = |client: &mut Client| client.connection.accept(client.now, Accept::default());
    assert_eq!(accept(&mut client), Err(AcceptError::NotAwaited));
    let mut client = Client::connected(V5, Options::default());
    assert_eq!(accept(&mut client), Err(AcceptError::NotAwaited));
    let refuse = client.connection.refuse(ReasonCode::NotAuthorized);
    assert_eq!(refuse, Err(AcceptError::NotAwaited));
}

#[test]
fn an_enhanced_authentication_can_only_be_refused() {
    let properties = ConnectProperties {
        authentication_method: Some(string("SCRAM")),
        ..ConnectProperties::default()
    };
    let mut client = connecting(Connect {
        properties,
        ..connect(V5)
    });
    let accepted = client.connection.accept(client.now, Accept::default());
    assert_eq!(accepted, Err(AcceptError::EnhancedAuthentication));
    client
        .connection
        .refuse(ReasonCode::BadAuthenticationMethod)
        .unwrap();
    assert_eq!(
        client.connack().reason_code,
        ReasonCode::BadAuthenticationMethod
    );
}

#[test]
fn anything_before_connect_ends_the_connection_in_silence() {
    for bytes in [
        &[0xc0, 0][..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 3, 1, 2, 0],
    ] {
        let mut client = Client::new(V5, Options::default());
        client.send_bytes(bytes);
        assert_eq!(client.received(), []);
        assert!(matches!(client.cause(), DisconnectCause::Invalid(_)));
        assert!(client.input.is_empty(), "input is kept after the end");
    }
}

#[test]
fn other_versions_are_refused_with_the_connack_of_their_shape() {
    let other = |name: &str, level: u8| packet(0x10, &[&text(name), &[level, 2, 0, 0], &text("c")]);
    for (bytes, expected) in [
        (other("MQIsdp", 4), &[0x20, 2, 0, 1][..]),
        (other("MQTT", 0x84), &[0x20, 2, 0, 1]),
        (other("MQTT", 6), &[0x20, 3, 0, 0x84, 0]),
    ] {
        let mut client = Client::new(V5, Options::default());
        client.send_bytes(&bytes);
        assert_eq!(client.connection.poll_transmit().unwrap(), expected);
        let DisconnectCause::Invalid(error) = client.cause() else {
            panic!()
        };
        assert!(matches!(error.rule, InvalidPacket::ProtocolVersion { .. }));
    }
}

#[test]
fn a_malformed_connect_is_refused_to_mqtt_5_clients_and_dropped_of_3_1_1_clients() {
    let reserved_flag = |level: u8| packet(0x10, &[&text("MQTT"), &[level, 3, 0, 0], &text("c")]);
    let mut client = Client::new(V5, Options::default());
    client.send_bytes(&reserved_flag(5));
    assert_eq!(client.connack().reason_code, ReasonCode::MalformedPacket);
    let mut client = Client::new(V311, Options::default());
    client.send_bytes(&reserved_flag(4));
    assert_eq!(client.received(), []);
    assert!(matches!(client.cause(), DisconnectCause::Invalid(_)));
}

#[test]
fn an_empty_client_identifier_of_3_1_1_needs_a_clean_session() {
    let nameless = |version, clean_start| Connect {
        clean_start,
        ..Connect::new(version, string(""))
    };
    connecting(nameless(V311, true));
    connecting(nameless(V5, true));
    connecting(nameless(V5, false));

    let mut client = Client::new(V311, Options::default());
    client.send(&Packet::Connect(Box::new(nameless(V311, false))));
    assert_eq!(
        client.connack().reason_code,
        ReasonCode::ClientIdentifierNotValid
    );
    let cause = DisconnectCause::Misbehaved(Misbehaviour::ClientIdentifierMissing);
    assert_eq!(client.cause(), cause);
}

#[test]
fn a_will_above_maximum_qos_is_refused_where_the_client_can_know_it() {
    let with_will = |version| Connect {
        will: will(QoS::ExactlyOnce),
        ..connect(version)
    };
    let mut client = Client::new(V5, Options::default());
    client.send(&Packet::Connect(Box::new(with_will(V5))));
    assert_eq!(client.connack().reason_code, ReasonCode::QosNotSupported);
    let misbehaviour = Misbehaviour::WillQosNotServed {
        qos: QoS::ExactlyOnce,
    };
    assert_eq!(
        client.ended(),
        (DisconnectCause::Misbehaved(misbehaviour), false)
    );
    connecting(with_will(V311));
}

#[test]
fn a_connection_without_connect_ends_in_time() {
    let mut client = Client::new(V5, Options::default());
    client.send_bytes(&[0x10]);
    client.pass(Duration::from_millis(9_999));
    assert!(!client.connection.is_closed());
    client.pass(Duration::from_millis(1));
    assert_eq!(client.cause(), DisconnectCause::ConnectTimeout);
    assert_eq!(client.received(), []);

    let mut client = connecting(connect(V5));
    client.pass(Duration::from_secs(60));
    assert!(!client.connection.is_closed(), "the answer is ours to give");
}

#[test]
fn reason_strings_are_left_out_where_the_client_has_no_room_for_them() {
    let answered = |maximum_packet_size| {
        let properties = ConnectProperties {
            maximum_packet_size: NonZeroU32::new(maximum_packet_size),
            ..ConnectProperties::default()
        };
        let mut client = connecting(Connect {
            properties,
            ..connect(V5)
        });
        let string = Some(string("because"));
        client
            .connection
            .refuse(Reason {
                code: ReasonCode::Banned,
                string,
            })
            .unwrap();
        client.received()
    };
    let [Packet::Connack(connack)] = &answered(15)[..] else {
        panic!()
    };
    assert_eq!(
        connack.properties.problem.reason_string.as_deref(),
        Some("because")
    );
    let [Packet::Connack(connack)] = &answered(14)[..] else {
        panic!()
    };
    assert_eq!(connack.properties.problem, ProblemInformation::default());
    assert_eq!(answered(4), []);
}

#[test]
fn a_client_that_has_no_room_for_connack_is_not_connected() {
    let properties = ConnectProperties {
        maximum_packet_size: NonZeroU32::new(10),
        ..ConnectProperties::default()
    };
    let connect = Connect {
        properties,
        will: will(QoS::AtMostOnce),
        ..connect(V5)
    };
    let mut client = connecting(connect);
    client
        .connection
        .accept(client.now, Accept::default())
        .unwrap();
    let (cause, publish_will) = client.ended();
    assert!(matches!(cause, DisconnectCause::Unanswerable { .. }));
    assert!(!publish_will);
    // The refusal that takes its place fits.
    assert_eq!(client.connack().reason_code, ReasonCode::PacketTooLarge);
}

#[test]
fn verbs_before_connack_and_after_the_end_do_nothing() {
    let mut client = connecting(connect(V5));
    let outgoing = mqtt::server::Outgoing {
        message: &message(1),
        qos: QoS::AtMostOnce,
        retain: false,
        message_expiry_interval: None,
        subscription_identifiers: &[],
    };
    let now = client.now;
    assert_eq!(
        client.connection.publish(now, outgoing),
        PublishOutcome::NotConnected
    );
    client.connection.disconnect(ReasonCode::ServerShuttingDown);
    assert_eq!(client.connack().reason_code, ReasonCode::UnspecifiedError);
    assert_eq!(
        client.cause(),
        DisconnectCause::Server(ReasonCode::ServerShuttingDown)
    );

    client.connection.disconnect(ReasonCode::ServerBusy);
    client.connection.handle_end_of_stream();
    client
        .connection
        .handle_timeout(now + Duration::from_secs(1_000));
    client.connection.pause(now);
    client.connection.resume(now);
    assert_eq!(
        client.connection.publish(now, outgoing),
        PublishOutcome::NotConnected
    );
    assert_eq!((client.events(), client.received()), (vec![], vec![]));
}
