//! Every packet of QoS 1 and 2 that a client can send, in every state that its identifier can have.

use mqtt::server::{Accept, DisconnectCause, Event, InflightEntry, InflightState, Misbehaviour};
use mqtt::{Connect, Packet, PacketType, ProtocolVersion, QoS, ReasonCode};

use crate::client::{Client, acknowledgement, exactly_once, id, message, outgoing, publish_qos};
use crate::raw::*;

const FAILURE: ReasonCode = ReasonCode::UnspecifiedError;
const NOT_FOUND: ReasonCode = ReasonCode::PacketIdentifierNotFound;

/// What the identifier 1 stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outbound {
    Unknown,
    Reserved,
    Qos1,
    Qos2,
    /// PUBREC came.
    Received,
    /// The same, and its PUBREL waits for that of identifier 2.
    Granted,
    Released,
    UnsentQos1,
    UnsentQos2,
    HandedOverReceived,
    Unreleased,
}

impl Outbound {
    const ALL: [Self; 11] = [
        Self::Unknown,
        Self::Reserved,
        Self::Qos1,
        Self::Qos2,
        Self::Received,
        Self::Granted,
        Self::Released,
        Self::UnsentQos1,
        Self::UnsentQos2,
        Self::HandedOverReceived,
        Self::Unreleased,
    ];

    fn handed_over(self) -> Option<InflightState> {
        match self {
            Self::UnsentQos1 => Some(InflightState::AwaitsPuback),
            Self::UnsentQos2 => Some(InflightState::AwaitsPubrec),
            Self::HandedOverReceived => Some(InflightState::OwesPubrel),
            Self::Unreleased => Some(InflightState::AwaitsPubcomp),
            _ => None,
        }
    }

    fn client(self, version: ProtocolVersion) -> Client {
        let mut client = Client::new(version, exactly_once());
        let connect = Connect::new(version, string("c"));
        client.send(&Packet::Connect(Box::new(connect)));
        let inflight = self.handed_over().map(|state| InflightEntry {
            packet_id: id(1),
            state,
        });
        let accept = Accept {
            inflight: inflight.into_iter().collect(),
            ..Accept::default()
        };
        client.connection.accept(client.now, accept).unwrap();
        self.bring_about(&mut client);
        client.events();
        client.received();
        client
    }

    fn bring_about(self, client: &mut Client) {
        let message = message(1);
        let now = client.now;
        let success = ReasonCode::Success;
        let pubrec = |number| acknowledgement(PacketType::Pubrec, number, success);
        match self {
            Self::Reserved => drop(client.connection.reserve().unwrap()),
            Self::Qos1 => drop(client.connection.publish(now, outgoing(&message))),
            Self::Qos2 | Self::Received | Self::Granted | Self::Released => {
                for _ in 1..=2 {
                    let packet_id = client.connection.reserve().unwrap();
                    let connection = &mut client.connection;
                    connection.publish_reserved(now, packet_id, outgoing(&message));
                }
            }
            _ => {}
        }
        match self {
            Self::Received | Self::Released => client.send(&pubrec(1)),
            Self::Granted => {
                client.send(&pubrec(2));
                client.send(&pubrec(1));
            }
            _ => {}
        }
        if matches!(self, Self::Granted | Self::Released) {
            assert!(client.connection.release(now, id(1)));
        }
    }
}

/// What comes of a packet.
#[derive(Debug, PartialEq)]
enum Outcome {
    Nothing,
    Acknowledged,
    Received,
    Pubrel(ReasonCode),
    Misbehaved(Misbehaviour),
}

fn expected(state: Outbound, packet: PacketType, code: ReasonCode) -> Outcome {
    use Outbound::*;
    use PacketType::{Puback, Pubcomp, Pubrec};
    let packet_id = id(1);
    match (packet, state) {
        (Pubrec, Unknown | Reserved) if code == FAILURE => Outcome::Nothing,
        (Pubrec, Unknown | Reserved) => Outcome::Pubrel(NOT_FOUND),
        (_, Unknown | Reserved) => Outcome::Nothing,
        (Puback, Qos1 | UnsentQos1) => Outcome::Acknowledged,
        (Puback, _) => Outcome::Misbehaved(Misbehaviour::PubackForQos2 { packet_id }),
        (Pubrec, Qos1 | UnsentQos1) => {
            Outcome::Misbehaved(Misbehaviour::PubrecForQos1 { packet_id })
        }
        (Pubrec, Qos2 | UnsentQos2) if code == FAILURE => Outcome::Acknowledged,
        (Pubrec, Qos2 | UnsentQos2) => Outcome::Received,
        (Pubrec, Received | Granted | HandedOverReceived) => Outcome::Nothing,
        (Pubrec, _) if code == FAILURE => Outcome::Nothing,
        (Pubrec, _) => Outcome::Pubrel(ReasonCode::Success),
        (Pubcomp, Released | Unreleased) => Outcome::Acknowledged,
        _ => Outcome::Misbehaved(Misbehaviour::PubcompWithoutPubrel { packet_id }),
    }
}

fn outcome(client: &mut Client) -> Outcome {
    if client.connection.is_closed() {
        return match client.cause() {
            DisconnectCause::Misbehaved(misbehaviour) => {
                assert_eq!(misbehaviour.reason_code(), ReasonCode::ProtocolError);
                Outcome::Misbehaved(misbehaviour)
            }
            other => panic!("{other:?}"),
        };
    }
    match (&client.events()[..], &client.received()[..]) {
        ([], []) => Outcome::Nothing,
        ([Event::Acknowledged { packet_id, .. }], []) if *packet_id == id(1) => {
            Outcome::Acknowledged
        }
        ([Event::Received { packet_id, .. }], []) if *packet_id == id(1) => Outcome::Received,
        ([], [Packet::Pubrel(pubrel)]) if pubrel.packet_id == id(1) => {
            Outcome::Pubrel(pubrel.reason_code)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_acknowledgement_in_each_state_of_a_delivery_does_what_the_table_says() {
    let success = ReasonCode::Success;
    for version in VERSIONS {
        for state in Outbound::ALL {
            for (packet, code) in [
                (PacketType::Puback, success),
                (PacketType::Pubrec, success),
                (PacketType::Pubrec, FAILURE),
                (PacketType::Pubcomp, success),
            ] {
                if version == V311 && code == FAILURE {
                    continue;
                }
                let mut client = state.client(version);
                client.send(&acknowledgement(packet, 1, code));
                let expected = match expected(state, packet, code) {
                    // 3.1.1 has no codes.
                    Outcome::Pubrel(_) if version == V311 => Outcome::Pubrel(success),
                    expected => expected,
                };
                let name = format!("{version}: {packet} {code} in {state:?}");
                assert_eq!(outcome(&mut client), expected, "{name}");
            }
        }
    }
}

/// What the identifier 1 of the client stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Inbound {
    Unknown,
    /// PUBLISH of QoS 1, not answered.
    OpenQos1,
    OpenQos2,
    /// PUBREC has left.
    Answered,
    /// PUBREC that says no has left.
    Refused,
    /// PUBREL has come.
    Releasing,
    /// PUBCOMP has left.
    Released,
}

impl Inbound {
    const ALL: [Self; 7] = [
        Self::Unknown,
        Self::OpenQos1,
        Self::OpenQos2,
        Self::Answered,
        Self::Refused,
        Self::Releasing,
        Self::Released,
    ];

    fn client(self, version: ProtocolVersion) -> Client {
        let mut client = Client::connected(version, exactly_once());
        let qos = match self {
            Self::Unknown => return client,
            Self::OpenQos1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        client.send(&publish_qos(1, qos));
        let events = client.events();
        let [
            Event::Publish {
                ticket: Some(ticket),
                ..
            },
        ] = events[..]
        else {
            panic!("{events:?}")
        };
        match self {
            Self::Answered | Self::Releasing | Self::Released => {
                client.complete(ticket, ReasonCode::Success);
            }
            Self::Refused => client.complete(ticket, FAILURE),
            _ => {}
        }
        if matches!(self, Self::Releasing | Self::Released) {
            client.send(&acknowledgement(PacketType::Pubrel, 1, ReasonCode::Success));
            let events = client.events();
            let [Event::Release { ticket, .. }] = events[..] else {
                panic!("{events:?}")
            };
            if self == Self::Released {
                let connection = &mut client.connection;
                connection
                    .complete_release(client.now, ticket, ReasonCode::Success)
                    .unwrap();
            }
        }
        client.received();
        client
    }
}

/// Which identifiers are known is the driver's; so a PUBLISH is always told, and a PUBREL is told
/// when nothing before it is open.
#[test]
fn each_publish_and_pubrel_in_each_state_of_its_identifier_is_told_once() {
    for version in VERSIONS {
        for state in Inbound::ALL {
            if version == V311 && state == Inbound::Refused {
                continue;
            }
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut client = state.client(version);
                client.send(&publish_qos(1, qos));
                let events = client.events();
                let [
                    Event::Publish {
                        ticket: Some(ticket),
                        message,
                        ..
                    },
                ] = &events[..]
                else {
                    panic!("{version}: {qos} in {state:?}: {events:?}")
                };
                assert_eq!(message.qos, qos);
                assert_eq!(client.received(), []);
                client.complete(*ticket, ReasonCode::Success);
                let is_first = !matches!(state, Inbound::OpenQos1 | Inbound::OpenQos2);
                let answer = match qos {
                    QoS::AtLeastOnce => PacketType::Puback,
                    _ => PacketType::Pubrec,
                };
                let answer = acknowledgement(answer, 1, ReasonCode::Success);
                let expected = if is_first { vec![answer] } else { vec![] };
                assert_eq!(client.received(), expected, "{version}: {qos} in {state:?}");
            }
            let mut client = state.client(version);
            client.send(&acknowledgement(PacketType::Pubrel, 1, ReasonCode::Success));
            let is_open = matches!(state, Inbound::OpenQos1 | Inbound::OpenQos2);
            let told = client.events().len();
            assert_eq!(
                told,
                usize::from(!is_open),
                "{version}: PUBREL in {state:?}"
            );
            assert_eq!(client.received(), []);
        }
    }
}
