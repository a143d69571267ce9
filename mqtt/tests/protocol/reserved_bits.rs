//! Reserved bits of the fixed header: a connected client that sets one is disconnected.

use mqtt::server::{DisconnectCause, Event, Options};
use mqtt::{PacketType, ReasonCode};

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

/// A whole packet of this type, for its length.
fn body(packet: PacketType) -> &'static [u8] {
    match packet {
        PacketType::Pingreq | PacketType::Disconnect | PacketType::Auth => &[0],
        _ => &[2, 0, 1],
    }
}

#[test]
fn packet_with_reserved_flags_ends_the_connection() {
    for (version, told) in [(V311, None), (V5, Some(ReasonCode::MalformedPacket))] {
        for (packet, prescribed) in PRESCRIBED {
            for flags in (0..16).filter(|flags| *flags != prescribed) {
                let mut client = Client::connected(version, Options::default());
                let first = (packet as u8) << 4 | flags;
                client.send_bytes(&[&[first], body(packet)].concat());
                let name = format!("{version}: {packet} with {flags:04b}");
                assert_eq!(client.told(), told, "{name}");
                let cause = client.cause();
                assert!(matches!(cause, DisconnectCause::Invalid(_)), "{name}");
            }
        }
    }
}

#[test]
fn connect_with_reserved_flags_is_no_connect() {
    for version in VERSIONS {
        for flags in 1..16_u8 {
            let mut client = Client::new(version, Options::default());
            let head = [version.level(), 2, 0, 60];
            let none = no_properties(version);
            let fields = [&text("MQTT")[..], &head, none, &text("c")];
            client.send_bytes(&packet(0x10 | flags, &fields));
            let events = client.events();
            let is_connect = |event: &Event| matches!(event, Event::Connect(_));
            assert!(!events.iter().any(is_connect), "{version}: {flags:04b}");
            assert!(client.connection.is_closed());
        }
    }
}
