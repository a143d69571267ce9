//! Reserved bits of the fixed header: a connected client that sets one is disconnected.

use mqtt::server::{DisconnectCause, Event, Options};
use mqtt::{PacketType, ProtocolVersion, ReasonCode};

use crate::client::Client;
use crate::raw::*;

/// What a client may send after CONNECT with flags that are prescribed, and these flags. PUBLISH has
/// flags of its own.
const PRESCRIBED: [(PacketType, u8); 10] = [
    (PacketType::Puback, 0),
    (PacketType::Pubrec, 0),
    (PacketType::Pubrel, 0b10),
    (PacketType::Pubcomp, 0),
    (PacketType::Subscribe, 0b10),
    (PacketType::Unsubscribe, 0b10),
    (PacketType::Pingreq, 0),
    (PacketType::Disconnect, 0),
    (PacketType::Auth, 0),
    (PacketType::Connect, 0),
];

/// A packet of this type with which nothing is wrong but its first byte.
fn with_first(version: ProtocolVersion, kind: PacketType, first: u8) -> Vec<u8> {
    let (id, none, filter) = (&[0, 1][..], no_properties(version), &text("a")[..]);
    match kind {
        PacketType::Pingreq | PacketType::Disconnect | PacketType::Auth => vec![first, 0],
        PacketType::Subscribe => packet(first, &[id, none, filter, &[0]]),
        PacketType::Unsubscribe => packet(first, &[id, none, filter]),
        PacketType::Connect => {
            let head = [version.level(), 2, 0, 60];
            packet(first, &[&text("MQTT"), &head, none, &text("c")])
        }
        _ => packet(first, &[id]),
    }
}

#[test]
fn packet_with_reserved_flags_ends_the_connection() {
    for (version, told) in [(V311, None), (V5, Some(ReasonCode::MalformedPacket))] {
        for (kind, prescribed) in PRESCRIBED {
            for flags in (0..16).filter(|flags| *flags != prescribed) {
                let mut client = Client::connected(version, Options::default());
                let first = (kind as u8) << 4 | flags;
                client.send_bytes(&with_first(version, kind, first));
                let name = format!("{version}: {kind} with {flags:04b}");
                assert_eq!(client.told(), told, "{name}");
                let cause = client.cause();
                assert!(matches!(cause, DisconnectCause::Invalid(_)), "{name}");
            }
            if version == V311 && kind == PacketType::Auth {
                continue;
            }
            let first = (kind as u8) << 4 | prescribed;
            let decoded = try_decode(version, &with_first(version, kind, first));
            assert!(decoded.is_ok(), "{version}: {kind}: {decoded:?}");
        }
    }
}

#[test]
fn connect_with_reserved_flags_is_no_connect() {
    for version in VERSIONS {
        for flags in 1..16_u8 {
            let mut client = Client::new(version, Options::default());
            let first = 0x10 | flags;
            client.send_bytes(&with_first(version, PacketType::Connect, first));
            let events = client.events();
            let is_connect = |event: &Event| matches!(event, Event::Connect(_));
            assert!(!events.iter().any(is_connect), "{version}: {flags:04b}");
            assert!(client.connection.is_closed());
        }
    }
}
