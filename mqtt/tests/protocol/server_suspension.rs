//! A publication that was refused for now, to a client that cannot be told.

use std::time::Duration;

use mqtt::server::{CompleteError, DisconnectCause, Event, Options, PublishTicket};
use mqtt::{Connect, Packet, PacketType, ReasonCode};

use crate::client::{Client, pubacks, publish_with};
use crate::raw::*;

fn connected() -> Client {
    let connect = Connect {
        keep_alive_seconds: 10,
        ..Connect::new(V311, string("c"))
    };
    Client::connected_with(connect, Options::default())
}

fn suspend(client: &mut Client, ticket: PublishTicket) {
    client.connection.suspend(client.now, ticket).unwrap();
}

#[test]
fn a_suspended_client_is_served_until_sixteen_publications_wait() {
    let mut client = connected();
    let first = client.publish(1);
    suspend(&mut client, first);
    assert!(client.connection.is_suspended());
    for id in 2..=15 {
        client.publish(id);
        client.send(&Packet::Pingreq);
        assert_eq!(
            client.received(),
            [Packet::Pingresp],
            "after {id} publications"
        );
    }
    assert!(client.connection.wants_read());
    client.publish(16);
    assert!(!client.connection.wants_read());
    client.send(&Packet::Pingreq);
    assert_eq!(client.received(), []);
}

#[test]
fn a_suspended_client_is_served_until_64_kib_wait() {
    const TEN_KIB: &[u8] = &[0; 10_240];
    let mut client = connected();
    let first = client.publish(1);
    suspend(&mut client, first);
    for id in 2..=8 {
        assert!(client.connection.wants_read(), "before {id}");
        client.send(&publish_with(id, TEN_KIB));
        client.events();
    }
    assert!(!client.connection.wants_read(), "seven times ten KiB");
}

#[test]
fn reading_stops_at_once_when_more_wait_already() {
    let mut client = connected();
    let tickets: Vec<_> = (1..=20).map(|id| client.publish(id)).collect();
    assert!(client.connection.wants_read(), "nothing is suspended");
    suspend(&mut client, tickets[3]);
    assert!(!client.connection.wants_read());
}

#[test]
fn a_client_that_was_not_read_from_for_too_long_is_closed() {
    let mut client = connected();
    for id in 1..=16 {
        let ticket = client.publish(id);
        suspend(&mut client, ticket);
    }
    let deadline = client.now + Duration::from_secs(30);
    assert_eq!(
        client.connection.poll_timeout(),
        Some(deadline),
        "no keep alive meanwhile"
    );
    client.pass(Duration::from_secs(29));
    assert!(!client.connection.is_closed());
    client.pass(Duration::from_secs(1));
    assert_eq!(
        client.received(),
        [],
        "no acknowledgement of anything that was not kept"
    );
    assert_eq!(client.cause(), DisconnectCause::SuspendedTooLong);
}

#[test]
fn a_client_with_little_suspended_stays_as_long_as_it_likes() {
    let mut client = connected();
    let ticket = client.publish(1);
    suspend(&mut client, ticket);
    for _ in 0..100 {
        client.pass(Duration::from_secs(10));
        client.send(&Packet::Pingreq);
    }
    assert!(!client.connection.is_closed());
    assert_eq!(pubacks(&client.received()), []);
}

#[test]
fn a_suspension_ends_when_the_publications_are_safe_after_all() {
    let mut client = connected();
    let tickets: Vec<_> = (1..=16).map(|id| client.publish(id)).collect();
    for ticket in &tickets {
        suspend(&mut client, *ticket);
    }
    client.pass(Duration::from_secs(20));
    client
        .connection
        .complete_publish(client.now, tickets[0], ReasonCode::Success)
        .unwrap();
    assert!(client.connection.wants_read(), "there is a place again");
    let keep_alive = client.now + Duration::from_secs(15);
    assert_eq!(client.connection.poll_timeout(), Some(keep_alive));
    for ticket in &tickets[1..] {
        client
            .connection
            .complete_publish(client.now, *ticket, ReasonCode::Success)
            .unwrap();
    }
    assert!(!client.connection.is_suspended());
    assert_eq!(pubacks(&client.received()).len(), 16);

    // The full window again, not the small one.
    for id in 1..=20 {
        client.publish(id);
    }
    assert!(client.connection.wants_read());
}

#[test]
fn the_time_runs_anew_for_each_time_that_reading_stops() {
    let mut client = connected();
    let tickets: Vec<_> = (1..=16).map(|id| client.publish(id)).collect();
    for ticket in &tickets {
        suspend(&mut client, *ticket);
    }
    client.pass(Duration::from_secs(29));
    client
        .connection
        .complete_publish(client.now, tickets[0], ReasonCode::Success)
        .unwrap();
    client.publish(17);
    assert!(!client.connection.wants_read());
    let deadline = client.now + Duration::from_secs(30);
    assert_eq!(client.connection.poll_timeout(), Some(deadline));
}

#[test]
fn an_mqtt_5_client_is_told_when_it_was_suspended_for_too_long() {
    let options = Options {
        suspended_publishes_max: 1,
        ..Options::default()
    };
    let mut client = Client::connected(V5, options);
    let ticket = client.publish(1);
    suspend(&mut client, ticket);
    client.pass(Duration::from_secs(30));
    assert_eq!(client.told(), Some(ReasonCode::QuotaExceeded));
}

#[test]
fn only_an_open_ticket_can_be_suspended() {
    let mut client = connected();
    let ticket = client.publish(1);
    client
        .connection
        .complete_publish(client.now, ticket, ReasonCode::Success)
        .unwrap();
    let packet = PacketType::Puback;
    let suspended = client.connection.suspend(client.now, ticket);
    assert_eq!(suspended, Err(CompleteError::UnknownTicket { packet }));
    assert!(!client.connection.is_suspended());
}

#[test]
fn what_lies_in_the_read_buffer_is_taken_when_reading_goes_on() {
    let mut client = connected();
    let tickets: Vec<_> = (1..=16).map(|id| client.publish(id)).collect();
    suspend(&mut client, tickets[0]);
    client.send(&publish_with(17, b"late"));
    assert_eq!(client.events(), []);
    client
        .connection
        .complete_publish(client.now, tickets[0], ReasonCode::Success)
        .unwrap();
    client
        .connection
        .handle_bytes(client.now, &mut client.input);
    let events = client.events();
    let [Event::Publish { message, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(message.payload, "late");
}
