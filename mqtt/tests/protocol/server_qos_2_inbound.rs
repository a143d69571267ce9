//! Messages of QoS 2 from a client: PUBREC, PUBREL, PUBCOMP, their order and their bounds.

use std::num::NonZeroU16;
use std::time::Duration;

use mqtt::server::{
    CompleteError, DisconnectCause, Event, Misbehaviour, Options, PublishTicket, ReleaseTicket,
};
use mqtt::{Connect, Delivery, Packet, PacketType, ProtocolVersion, Publish, QoS, ReasonCode};

use crate::client::{Client, acknowledgement, exactly_once, id, publish, publish_qos};
use crate::raw::*;

const SUCCESS: ReasonCode = ReasonCode::Success;

fn with_receive_maximum(maximum: u16) -> Options {
    Options {
        receive_maximum: NonZeroU16::new(maximum).unwrap(),
        ..exactly_once()
    }
}

fn connected(version: ProtocolVersion) -> Client {
    Client::connected(version, exactly_once())
}

/// Publishes with QoS 2 and returns the ticket.
fn publish_2(client: &mut Client, number: u16) -> PublishTicket {
    client.send(&publish_qos(number, QoS::ExactlyOnce));
    let events = client.events();
    let [
        Event::Publish {
            ticket: Some(ticket),
            packet_id: Some(packet_id),
            dup: false,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(*packet_id, id(number));
    *ticket
}

fn send_pubrel(client: &mut Client, number: u16) {
    client.send(&acknowledgement(PacketType::Pubrel, number, SUCCESS));
}

/// The tickets of the PUBRELs among the events, and their identifiers.
fn releases(client: &mut Client) -> Vec<(ReleaseTicket, u16)> {
    let release = |event: Event| match event {
        Event::Release { ticket, packet_id } => (ticket, packet_id.get()),
        other => panic!("{other:?}"),
    };
    client.events().into_iter().map(release).collect()
}

/// Releases and returns the ticket.
fn release(client: &mut Client, number: u16) -> ReleaseTicket {
    send_pubrel(client, number);
    let releases = releases(client);
    let [(ticket, packet_id)] = releases[..] else {
        panic!("{releases:?}")
    };
    assert_eq!(packet_id, number);
    ticket
}

fn complete_release(client: &mut Client, ticket: ReleaseTicket) {
    let completed = client
        .connection
        .complete_release(client.now, ticket, SUCCESS);
    completed.unwrap();
}

/// What the client has got, all of it acknowledgements without failure.
fn answers(client: &mut Client) -> Vec<(PacketType, u16)> {
    let answer = |packet: Packet| {
        let packet_type = packet.packet_type();
        let (Packet::Puback(answer) | Packet::Pubrec(answer) | Packet::Pubcomp(answer)) = packet
        else {
            panic!("{packet:?}")
        };
        assert_eq!(answer.reason_code, SUCCESS);
        (packet_type, answer.packet_id.get())
    };
    client.received().into_iter().map(answer).collect()
}

#[test]
fn a_message_of_qos_2_is_answered_step_by_step() {
    for version in VERSIONS {
        let mut client = connected(version);
        let ticket = publish_2(&mut client, 7);
        assert_eq!(client.received(), []);
        client.complete(ticket, SUCCESS);
        assert_eq!(answers(&mut client), [(PacketType::Pubrec, 7)]);
        let ticket = release(&mut client, 7);
        assert_eq!(client.received(), []);
        complete_release(&mut client, ticket);
        assert_eq!(answers(&mut client), [(PacketType::Pubcomp, 7)]);
    }
}

#[test]
fn pubacks_and_pubrecs_leave_in_one_order_and_pubcomps_in_their_own() {
    for version in VERSIONS {
        let mut client = connected(version);
        let first = publish_2(&mut client, 9);
        let second = client.publish(4);
        let third = publish_2(&mut client, 7);
        client.complete(third, SUCCESS);
        client.complete(second, SUCCESS);
        assert_eq!(client.received(), [], "nothing overtakes the first");
        client.complete(first, SUCCESS);
        let (puback, pubrec) = (PacketType::Puback, PacketType::Pubrec);
        assert_eq!(
            answers(&mut client),
            [(pubrec, 9), (puback, 4), (pubrec, 7)]
        );

        let [first, second] = [7, 9].map(|number| release(&mut client, number));
        complete_release(&mut client, second);
        assert_eq!(client.received(), [], "as the PUBRELs came");
        complete_release(&mut client, first);
        let pubcomp = PacketType::Pubcomp;
        assert_eq!(answers(&mut client), [(pubcomp, 7), (pubcomp, 9)]);
    }
}

#[test]
fn a_message_that_is_sent_again_has_its_own_ticket_and_says_dup() {
    for version in VERSIONS {
        let mut client = connected(version);
        let first = publish_2(&mut client, 1);
        let Packet::Publish(plain) = publish(1) else {
            panic!()
        };
        let (packet_id, dup) = (id(1), true);
        let delivery = Delivery::ExactlyOnce { packet_id, dup };
        client.send(&Packet::Publish(Publish { delivery, ..plain }));
        let events = client.events();
        let [
            Event::Publish {
                ticket: Some(second),
                dup: true,
                ..
            },
        ] = events[..]
        else {
            panic!("{events:?}")
        };
        client.complete(first, SUCCESS);
        client.complete(second, SUCCESS);
        let pubrec = PacketType::Pubrec;
        assert_eq!(answers(&mut client), [(pubrec, 1), (pubrec, 1)]);
    }
}

#[test]
fn a_release_is_told_when_every_publish_before_it_was_answered() {
    for version in VERSIONS {
        let mut client = connected(version);
        let other = publish_2(&mut client, 9);
        let first = publish_2(&mut client, 1);
        let again = publish_2(&mut client, 1);
        client.complete(other, SUCCESS);
        client.complete(first, SUCCESS);
        send_pubrel(&mut client, 1);
        assert_eq!(client.events(), [], "a PUBREC is still to leave");
        let later = release(&mut client, 9);
        complete_release(&mut client, later);
        let after = publish_2(&mut client, 1);
        client.received();

        client.complete(again, SUCCESS);
        assert_eq!(answers(&mut client), [(PacketType::Pubrec, 1)]);
        let releases = releases(&mut client);
        let [(ticket, 1)] = releases[..] else {
            panic!("{releases:?}")
        };
        complete_release(&mut client, ticket);
        let pubcomp = PacketType::Pubcomp;
        assert_eq!(answers(&mut client), [(pubcomp, 1), (pubcomp, 9)]);
        client.complete(after, SUCCESS);
    }
}

#[test]
fn every_pubrel_is_answered_whether_its_identifier_is_known_or_not() {
    for version in VERSIONS {
        let mut client = connected(version);
        let [first, again] = [3, 3].map(|number| release(&mut client, number));
        complete_release(&mut client, first);
        let not_found = ReasonCode::PacketIdentifierNotFound;
        let connection = &mut client.connection;
        connection
            .complete_release(client.now, again, not_found)
            .unwrap();
        let told = match version {
            V5 => not_found,
            V311 => SUCCESS,
        };
        let pubcomp = |code| acknowledgement(PacketType::Pubcomp, 3, code);
        assert_eq!(client.received(), [pubcomp(SUCCESS), pubcomp(told)]);
    }
}

#[test]
fn a_release_is_completed_once_and_with_a_code_of_pubcomp() {
    let mut client = connected(V5);
    let ticket = release(&mut client, 1);
    let now = client.now;
    let mut complete = |code| client.connection.complete_release(now, ticket, code);
    let packet = PacketType::Pubcomp;
    let reason_code = ReasonCode::QuotaExceeded;
    let refused = CompleteError::ReasonCode {
        packet,
        reason_code,
    };
    assert_eq!(complete(reason_code), Err(refused));
    assert_eq!(complete(SUCCESS), Ok(()));
    assert_eq!(
        complete(SUCCESS),
        Err(CompleteError::UnknownTicket { packet })
    );
}

#[test]
fn a_refused_message_is_over_with_its_pubrec() {
    let mut client = Client::connected(V5, with_receive_maximum(1));
    for number in 1..10 {
        let ticket = publish_2(&mut client, number);
        client.complete(ticket, ReasonCode::QuotaExceeded);
        let code = ReasonCode::QuotaExceeded;
        let expected = acknowledgement(PacketType::Pubrec, number, code);
        assert_eq!(client.received(), [expected]);
    }
    let mut client = connected(V311);
    let ticket = publish_2(&mut client, 1);
    let reason_code = ReasonCode::QuotaExceeded;
    let packet = PacketType::Pubrec;
    let refused = CompleteError::Negative {
        packet,
        reason_code,
    };
    let completed = client
        .connection
        .complete_publish(client.now, ticket, reason_code);
    assert_eq!(completed, Err(refused), "3.1.1 has no such PUBREC");
    client.complete(ticket, SUCCESS);
    assert_eq!(answers(&mut client), [(PacketType::Pubrec, 1)]);
}

#[test]
fn an_identifier_counts_towards_receive_maximum_until_pubcomp() {
    let exceeded = Misbehaviour::ReceiveMaximumExceeded { maximum: 2 };
    let with_two = || {
        let mut client = Client::connected(V5, with_receive_maximum(2));
        let ticket = publish_2(&mut client, 1);
        client.complete(ticket, SUCCESS);
        client.publish(2);
        client.received();
        client
    };
    with_two().assert_misbehaved(&publish(3), exceeded);

    let mut client = with_two();
    release(&mut client, 1);
    client.assert_misbehaved(&publish_qos(3, QoS::ExactlyOnce), exceeded);

    let mut client = with_two();
    publish_2(&mut client, 1);
    assert!(!client.connection.is_closed(), "the same again counts once");

    let mut client = with_two();
    let ticket = release(&mut client, 1);
    complete_release(&mut client, ticket);
    publish_2(&mut client, 3);
    assert!(!client.connection.is_closed());
}

/// A client that goes by its quota (MQTT 5, 4.9) may do this: its quota was full when it sent the
/// PUBREL, and PUBCOMP raises it after two PUBLISHes.
#[test]
fn a_release_of_an_earlier_connection_leaves_room_for_one_more() {
    let mut client = Client::connected(V5, with_receive_maximum(2));
    let ticket = release(&mut client, 9);
    complete_release(&mut client, ticket);
    for number in 1..=3 {
        publish_2(&mut client, number);
    }
    client.received();
    let exceeded = Misbehaviour::ReceiveMaximumExceeded { maximum: 2 };
    client.assert_misbehaved(&publish(4), exceeded);
}

#[test]
fn a_3_1_1_client_is_read_from_until_its_pubrels_come() {
    let mut client = Client::connected(V311, with_receive_maximum(2));
    let mut tickets = Vec::new();
    for number in 1..=10 {
        assert!(client.connection.wants_read(), "before {number}");
        let ticket = publish_2(&mut client, number);
        client.complete(ticket, SUCCESS);
    }
    for number in 1..=2 {
        assert!(client.connection.wants_read());
        tickets.push(release(&mut client, number));
    }
    assert!(!client.connection.wants_read(), "two PUBCOMPs are owed");
    complete_release(&mut client, tickets[0]);
    assert!(client.connection.wants_read());
}

#[test]
fn a_3_1_1_client_is_not_read_from_while_pubrecs_are_owed() {
    let mut client = Client::connected(V311, with_receive_maximum(2));
    let first = publish_2(&mut client, 1);
    publish_2(&mut client, 2);
    assert!(!client.connection.wants_read());
    client.complete(first, SUCCESS);
    assert!(client.connection.wants_read());
}

#[test]
fn reading_stops_when_an_mqtt_5_client_sends_the_same_again_and_again() {
    let mut client = Client::connected(V5, with_receive_maximum(2));
    let tickets = [1; 4].map(|number| publish_2(&mut client, number));
    assert!(!client.connection.wants_read());
    assert_eq!(client.connection.pending_publishes(), 4);
    client.complete(tickets[0], SUCCESS);
    assert!(client.connection.wants_read());

    let mut client = Client::connected(V5, with_receive_maximum(2));
    let tickets = [7; 2].map(|number| release(&mut client, number));
    assert!(!client.connection.wants_read());
    assert_eq!(client.connection.pending_releases(), 2);
    complete_release(&mut client, tickets[0]);
    assert!(client.connection.wants_read());
}

#[test]
fn suspended_messages_of_qos_2_are_bounded_like_those_of_qos_1() {
    let mut client = connected(V311);
    let tickets: Vec<_> = (1..=16)
        .map(|number| publish_2(&mut client, number))
        .collect();
    assert!(client.connection.wants_read());
    client.connection.suspend(client.now, tickets[0]).unwrap();
    assert!(!client.connection.wants_read());
    client.complete(tickets[0], SUCCESS);
    assert!(client.connection.wants_read());
    assert_eq!(answers(&mut client), [(PacketType::Pubrec, 1)]);
}

/// Its release waits for the message, nobody answers it, and no keep alive runs.
#[test]
fn releases_behind_a_suspended_message_do_not_hold_up_reading_for_ever() {
    let connect = Connect {
        keep_alive_seconds: 10,
        ..Connect::new(V311, string("c"))
    };
    let mut client = Client::connected_with(connect, with_receive_maximum(2));
    let ticket = publish_2(&mut client, 1);
    client.connection.suspend(client.now, ticket).unwrap();
    send_pubrel(&mut client, 1);
    send_pubrel(&mut client, 1);
    assert_eq!(client.events(), []);
    assert!(!client.connection.wants_read());
    client.pass(Duration::from_secs(30));
    assert_eq!(client.cause(), DisconnectCause::SuspendedTooLong);
}
