//! Keep alive: one and a half times the interval, and when it stands still.

use std::num::NonZeroU16;
use std::time::Duration;

use mqtt::server::{Accept, DisconnectCause, Event, Options};
use mqtt::{Connect, Packet, ProtocolVersion, ReasonCode};

use crate::client::{Client, publish};
use crate::raw::*;

const ONE_MS: Duration = Duration::from_millis(1);

fn connected(version: ProtocolVersion, keep_alive_seconds: u16) -> Client {
    let connect = Connect {
        keep_alive_seconds,
        ..Connect::new(version, string("c"))
    };
    Client::connected_with(connect, Options::default())
}

#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_intervals() {
    for (version, told) in [(V311, None), (V5, Some(ReasonCode::KeepAliveTimeout))] {
        let mut client = connected(version, 10);
        client.pass(Duration::from_secs(15) - ONE_MS);
        assert!(!client.connection.is_closed());
        client.pass(ONE_MS);
        assert_eq!(client.told(), told);
        assert_eq!(client.cause(), DisconnectCause::KeepAliveTimeout);
    }
}

#[test]
fn any_packet_starts_the_interval_anew() {
    for packet in [Packet::Pingreq, publish(1)] {
        let mut client = connected(V5, 10);
        client.pass(Duration::from_secs(14));
        client.send(&packet);
        client.events();
        client.pass(Duration::from_secs(14));
        assert!(!client.connection.is_closed());
        client.pass(Duration::from_secs(1));
        assert!(client.connection.is_closed());
    }
}

#[test]
fn half_a_packet_does_not_start_the_interval_anew() {
    let mut client = connected(V5, 10);
    client.pass(Duration::from_secs(14));
    client.send_bytes(&[0x30, 9]);
    client.pass(Duration::from_secs(1));
    assert_eq!(client.cause(), DisconnectCause::KeepAliveTimeout);
}

#[test]
fn an_interval_of_zero_never_ends() {
    let mut client = connected(V5, 0);
    assert_eq!(client.connection.poll_timeout(), None);
    client.pass(Duration::from_secs(1_000_000));
    assert!(!client.connection.is_closed());
}

#[test]
fn the_server_s_interval_holds_for_mqtt_5_clients() {
    for (version, own, expected_seconds) in [(V311, 10, 15), (V5, 10, 30), (V5, 0, 30)] {
        let connect = Connect {
            keep_alive_seconds: own,
            ..Connect::new(version, string("c"))
        };
        let mut client = Client::new(version, Options::default());
        client.send(&Packet::Connect(Box::new(connect)));
        assert!(matches!(client.events()[..], [Event::Connect(_)]));
        let accept = Accept {
            server_keep_alive_seconds: Some(20),
            ..Accept::default()
        };
        client.connection.accept(client.now, accept).unwrap();
        let expected = client.now + Duration::from_secs(expected_seconds);
        assert_eq!(client.connection.poll_timeout(), Some(expected));
    }
}

#[test]
fn pingreq_is_answered() {
    for version in VERSIONS {
        let mut client = connected(version, 10);
        client.send(&Packet::Pingreq);
        assert_eq!(client.received(), [Packet::Pingresp]);
        assert_eq!(client.events(), []);
    }
}

#[test]
fn the_interval_stands_still_while_the_broker_takes_no_input() {
    let mut client = connected(V5, 10);
    client.connection.pause(client.now);
    assert!(!client.connection.wants_read());
    assert_eq!(client.connection.poll_timeout(), None);
    client.pass(Duration::from_secs(3_600));
    assert!(!client.connection.is_closed());

    client.connection.resume(client.now);
    assert!(client.connection.wants_read());
    assert_eq!(
        client.connection.poll_timeout(),
        Some(client.now + Duration::from_secs(15))
    );
}

#[test]
fn the_interval_stands_still_while_the_window_of_a_3_1_1_client_is_full() {
    let connect = Connect {
        keep_alive_seconds: 10,
        ..Connect::new(V311, string("c"))
    };
    let receive_maximum = NonZeroU16::MIN;
    let mut client = Client::connected_with(
        connect,
        Options {
            receive_maximum,
            ..Options::default()
        },
    );
    let ticket = client.publish(1);
    client.pass(Duration::from_secs(3_600));
    assert!(!client.connection.is_closed());

    client
        .connection
        .complete_publish(client.now, ticket, ReasonCode::Success)
        .unwrap();
    client.pass(Duration::from_secs(15));
    assert_eq!(client.cause(), DisconnectCause::KeepAliveTimeout);
}

#[test]
fn a_client_that_takes_its_answers_is_alive_and_one_that_does_not_is_not() {
    for takes in [true, false] {
        let connect = Connect {
            keep_alive_seconds: 10,
            ..Connect::new(V5, string("c"))
        };
        let options = Options {
            transmit_bytes_max: 1_000,
            ..Options::default()
        };
        let mut client = Client::connected_with(connect, options);
        while client.connection.wants_read() {
            client.send(&Packet::Pingreq);
        }
        // The room for answers beside that for messages.
        assert!((66_536..67_000).contains(&client.connection.transmit_bytes()));
        client.pass(Duration::from_secs(14));
        if takes {
            bytes::Buf::advance(client.connection.transmit_buffer(), 1);
        }
        client.connection.handle_transmitted(client.now);
        client.pass(Duration::from_secs(1));
        assert_eq!(client.connection.is_closed(), !takes);
    }
}
