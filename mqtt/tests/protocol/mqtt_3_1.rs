//! MQTT 3.1, as raw packets: what is not as in 3.1.1.

use mqtt::server::{Accept, DisconnectCause, Event, Misbehaviour, Options};
use mqtt::{Connect, Packet, ReasonCode};

use crate::client::Client;
use crate::raw::*;

const CLEAN_SESSION: u8 = 2;

fn connect(flags: u8, client_id: &str) -> Vec<u8> {
    packet(
        0x10,
        &[&text("MQIsdp"), &[3, flags, 0, 60], &text(client_id)],
    )
}

/// A client whose CONNECT awaits its answer.
fn connecting(bytes: &[u8]) -> (Client, Connect) {
    let mut client = Client::new(V311, Options::default());
    client.send_bytes(bytes);
    match &client.events()[..] {
        [Event::Connect(connect)] => {
            let connect = (**connect).clone();
            (client, connect)
        }
        other => panic!("{other:?}"),
    }
}

fn connected() -> Client {
    let (mut client, _) = connecting(&connect(CLEAN_SESSION, "c"));
    let accept = Accept::default();
    client.connection.accept(client.now, accept).unwrap();
    assert_eq!(client.connack().reason_code, ReasonCode::Success);
    client
}

fn raw_answer(client: &mut Client) -> Vec<u8> {
    let chunks = std::iter::from_fn(|| client.connection.poll_transmit());
    chunks.flatten().collect()
}

#[test]
fn connect_of_3_1_is_read_as_one_of_3_1_1_and_written_as_it_was() {
    let bytes = connect(0, "a client identifier of more than 23 bytes");
    let (_, read) = connecting(&bytes);
    let expected = Connect {
        is_v31: true,
        clean_start: false,
        keep_alive_seconds: 60,
        ..Connect::new(V311, string("a client identifier of more than 23 bytes"))
    };
    assert_eq!(read, expected);
    assert_eq!(encoded(V311, &Packet::Connect(Box::new(read))), bytes);
}

#[test]
fn connect_of_3_1_cannot_be_written_as_one_of_5() {
    let connect = Connect {
        is_v31: true,
        ..Connect::new(V5, string("c"))
    };
    let packet = Packet::Connect(Box::new(connect));
    let error = packet.encode(V5, &mut bytes::BytesMut::new()).unwrap_err();
    assert!(error.to_string().contains("level of MQTT 3.1"), "{error}");
}

#[test]
fn empty_client_identifier_is_refused_also_with_a_clean_session() {
    for flags in [CLEAN_SESSION, 0] {
        let mut client = Client::new(V311, Options::default());
        client.send_bytes(&connect(flags, ""));
        assert_eq!(raw_answer(&mut client), [0x20, 2, 0, 2]);
        let cause = DisconnectCause::Misbehaved(Misbehaviour::ClientIdentifierMissing);
        assert_eq!(client.cause(), cause);
    }
}

#[test]
fn connack_does_not_say_that_a_session_is_present() {
    let (mut client, _) = connecting(&connect(0, "c"));
    let accept = Accept {
        session_present: true,
        ..Accept::default()
    };
    client.connection.accept(client.now, accept).unwrap();
    assert_eq!(raw_answer(&mut client), [0x20, 2, 0, 0]);
}

#[test]
fn packets_that_are_sent_again_with_dup_are_taken() {
    let mut client = connected();
    client.send_bytes(&packet(0x8a, &[&[0, 7], &text("a"), &[1]]));
    client.send_bytes(&packet(0xaa, &[&[0, 8], &text("a")]));
    client.send_bytes(&packet(0x6a, &[&[0, 9]]));
    let events = client.events();
    assert!(
        matches!(
            events[..],
            [
                Event::Subscribe { .. },
                Event::Unsubscribe { .. },
                Event::Release { .. }
            ]
        ),
        "{events:?}"
    );
    // Also where they come together, and nothing else is forgiven.
    let subscribe = packet(0x8a, &[&[0, 7], &text("a"), &[1]]);
    client.send_bytes(&[&subscribe[..], &subscribe, &[0xc8, 0]].concat());
    assert_eq!(client.received(), []);
    let (cause, _) = client_end(client.events());
    assert!(matches!(cause, DisconnectCause::Invalid(_)), "{cause:?}");

    let mut client = Client::connected(V311, Options::default());
    client.send_bytes(&subscribe);
    assert!(matches!(client.cause(), DisconnectCause::Invalid(_)));
}

/// The last event and the number of those before it.
fn client_end(mut events: Vec<Event>) -> (DisconnectCause, usize) {
    match events.pop() {
        Some(Event::Disconnected { cause, .. }) => (cause, events.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refused_subscription_ends_the_connection_because_suback_has_no_failure() {
    for (code, is_open) in [
        (ReasonCode::GrantedQos1, true),
        (ReasonCode::NotAuthorized, false),
    ] {
        let mut client = connected();
        client.send_bytes(&packet(
            0x82,
            &[&[0, 7], &text("a"), &[1], &text("b"), &[1]],
        ));
        let [Event::Subscribe { ticket, .. }] = client.events()[..] else {
            panic!()
        };
        let codes = vec![ReasonCode::GrantedQos1, code];
        let now = client.now;
        let completed = client.connection.complete_subscribe(now, ticket, codes);
        assert_eq!(completed, Ok(()));
        if is_open {
            assert_eq!(raw_answer(&mut client), [0x90, 4, 0, 7, 1, 1]);
            continue;
        }
        assert_eq!(raw_answer(&mut client), []);
        let misbehaviour = Misbehaviour::SubscriptionRefused { reason_code: code };
        assert_eq!(client.cause(), DisconnectCause::Misbehaved(misbehaviour));
    }
}
