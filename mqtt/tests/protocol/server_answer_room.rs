//! Reason Strings and User Properties in answers: only where the client wants them and has room.

use std::num::NonZeroU32;

use mqtt::server::{Accept, Event, Options, Reason};
use mqtt::{Connect, ConnectProperties, Packet, ProblemInformation, QoS, ReasonCode, UserProperty};

use crate::client::{Client, acknowledgement, exactly_once, publish_qos};
use crate::raw::*;

fn properties(packet_bytes: u32) -> ConnectProperties {
    ConnectProperties {
        maximum_packet_size: NonZeroU32::new(packet_bytes),
        ..ConnectProperties::default()
    }
}

fn connect(properties: ConnectProperties) -> Connect {
    Connect {
        properties,
        ..Connect::new(V5, string("c"))
    }
}

fn reason(code: ReasonCode) -> Reason {
    Reason {
        code,
        string: Some(string("because")),
    }
}

/// Reason String and User Properties of the one packet that came.
fn problem(client: &mut Client) -> ProblemInformation {
    match client.received().pop().unwrap() {
        Packet::Connack(connack) => connack.properties.problem,
        Packet::Puback(answer) | Packet::Pubrec(answer) | Packet::Pubcomp(answer) => answer.problem,
        Packet::Suback(suback) => suback.problem,
        Packet::Disconnect(disconnect) => disconnect.problem,
        other => panic!("{other:?}"),
    }
}

/// Has a connection give one answer, with what there is to say.
type Answer = fn(&mut Client);

fn publication(client: &mut Client, qos: QoS) {
    client.send(&publish_qos(1, qos));
    let [
        Event::Publish {
            ticket: Some(ticket),
            ..
        },
    ] = client.events()[..]
    else {
        panic!("no PUBLISH")
    };
    let (now, reason) = (client.now, reason(ReasonCode::QuotaExceeded));
    let connection = &mut client.connection;
    connection.complete_publish(now, ticket, reason).unwrap();
}

const PUBACK: Answer = |client| publication(client, QoS::AtLeastOnce);

const PUBREC: Answer = |client| publication(client, QoS::ExactlyOnce);

const PUBCOMP: Answer = |client| {
    let packet = mqtt::PacketType::Pubrel;
    client.send(&acknowledgement(packet, 1, ReasonCode::Success));
    let [Event::Release { ticket, .. }] = client.events()[..] else {
        panic!("no PUBREL")
    };
    let (now, reason) = (client.now, reason(ReasonCode::PacketIdentifierNotFound));
    let connection = &mut client.connection;
    connection.complete_release(now, ticket, reason).unwrap();
};

const DISCONNECT: Answer = |client| {
    let reason = reason(ReasonCode::ServerShuttingDown);
    client.connection.disconnect(reason);
};

fn suback(client: &mut Client, problem: ProblemInformation) {
    let bytes = packet(0x82, &[&[0, 1, 0], &text("a"), &[0]]);
    client.send_bytes(&bytes);
    let [Event::Subscribe { ticket, .. }] = client.events()[..] else {
        panic!("no SUBSCRIBE")
    };
    let codes = vec![ReasonCode::NotAuthorized];
    let (now, connection) = (client.now, &mut client.connection);
    connection
        .complete_subscribe_with(now, ticket, codes, problem)
        .unwrap();
}

const SUBACK: Answer = |client| {
    let reason_string = Some(string("because"));
    suback(
        client,
        ProblemInformation {
            reason_string,
            ..ProblemInformation::default()
        },
    );
};

/// A client that takes packets of so many bytes, and what an answer to it says.
fn answered(packet_bytes: u32, answer: Answer) -> ProblemInformation {
    let mut client = Client::connected_with(connect(properties(packet_bytes)), exactly_once());
    answer(&mut client);
    problem(&mut client)
}

/// Two bytes of header, packet identifier, code, property length, and a string of seven characters.
#[test]
fn reason_string_of_an_acknowledgement_is_left_out_where_there_is_no_room() {
    for answer in [PUBACK, PUBREC, PUBCOMP] {
        let whole = answered(16, answer);
        assert_eq!(whole.reason_string.as_deref(), Some("because"));
        assert_eq!(answered(15, answer), ProblemInformation::default());
    }
}

#[test]
fn reason_string_of_suback_and_disconnect_is_left_out_where_there_is_no_room() {
    for (answer, bytes) in [(SUBACK, 16), (DISCONNECT, 14)] {
        let whole = answered(bytes, answer);
        assert_eq!(whole.reason_string.as_deref(), Some("because"));
        assert_eq!(answered(bytes - 1, answer), ProblemInformation::default());
    }
}

fn pairs() -> ProblemInformation {
    let pair = |value: &str| UserProperty {
        name: string("k"),
        value: string(value),
    };
    ProblemInformation {
        reason_string: None,
        user_properties: vec![pair("v"), pair("w")],
    }
}

#[test]
fn user_properties_of_connack_and_suback_are_left_out_where_there_is_no_room() {
    let connacked = |packet_bytes| {
        let mut client = Client::new(V5, Options::default());
        let connect = connect(properties(packet_bytes));
        client.send(&Packet::Connect(Box::new(connect)));
        client.events();
        let accept = Accept {
            problem: pairs(),
            ..Accept::default()
        };
        client.connection.accept(client.now, accept).unwrap();
        problem(&mut client)
    };
    let least = (10..100)
        .find(|bytes| connacked(*bytes) == pairs())
        .unwrap();
    assert_eq!(connacked(least - 1), ProblemInformation::default());

    let subacked = |packet_bytes| answered(packet_bytes, |client| suback(client, pairs()));
    assert_eq!(subacked(20), pairs());
    assert_eq!(subacked(19), ProblemInformation::default());
}

#[test]
fn client_that_wants_no_problem_information_gets_it_in_disconnect_only() {
    let unwanted = |answer: Answer| {
        let properties = ConnectProperties {
            request_problem_information: Some(false),
            ..ConnectProperties::default()
        };
        let mut client = Client::connected_with(connect(properties), exactly_once());
        answer(&mut client);
        problem(&mut client)
    };
    let with_pairs: Answer = |client| suback(client, pairs());
    for answer in [PUBACK, PUBREC, PUBCOMP, SUBACK, with_pairs] {
        assert_eq!(unwanted(answer), ProblemInformation::default());
    }
    assert!(unwanted(DISCONNECT).reason_string.is_some());
}
