//! Connections that begin with something else than a CONNECT that is served.

use tests::broker_process::Options;
use tests::mqtt::{Client, Packet, Version};

use crate::{Scene, receive_until_end};

/// What is sent first; the version in which an answer is understood and its code, if there is one;
/// what the log says.
type Case = (&'static [u8], Option<(Version, u8)>, &'static str);

const V311: fn(u8) -> Option<(Version, u8)> = |code| Some((Version::V311, code));
const V5: fn(u8) -> Option<(Version, u8)> = |code| Some((Version::V5, code));

/// Wrong protocols and versions, and no CONNECT at all.
fn strangers() -> Vec<Case> {
    vec![
        // 3.1 with another level, levels that do not exist, another name.
        (
            b"\x10\x0f\x00\x06MQIsdp\x04\x02\x00\x00\x00\x01c",
            V311(1),
            "protocol \"MQIsdp\" level 4, only \"MQTT\" levels 4 and 5 and \"MQIsdp\" level 3 are served",
        ),
        (
            b"\x10\x0d\x00\x04MQTT\x03\x02\x00\x00\x00\x01c",
            V311(1),
            "\"MQTT\" level 3",
        ),
        (
            b"\x10\x0d\x00\x04MQTT\x00\x02\x00\x00\x00\x01c",
            V311(1),
            "\"MQTT\" level 0",
        ),
        (
            b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01c",
            V5(0x84),
            "\"MQTT\" level 6",
        ),
        (
            b"\x10\x0d\x00\x04MQTX\x04\x02\x00\x00\x00\x01c",
            None,
            "protocol name is not \"MQTT\"",
        ),
        // PUBLISH, SUBSCRIBE and PINGREQ before CONNECT.
        (
            b"\x30\x04\x00\x01ax",
            None,
            "PUBLISH: first packet of the connection is no CONNECT",
        ),
        (
            b"\x82\x06\x00\x01\x00\x01a\x01",
            None,
            "SUBSCRIBE: first packet",
        ),
        (b"\xc0\x00", None, "PINGREQ: first packet"),
        // A web browser, and a client that expects TLS.
        (b"GET / HTTP/1.1\r\n\r\n", None, "fixed header flags 0b0111"),
    ]
}

/// CONNECT packets of 3.1.1 that are malformed or refused.
fn connects_311() -> Vec<Case> {
    vec![
        // TLS: its first byte looks like a CONNECT with flags.
        (
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
            None,
            "CONNECT: fixed header flags 0b0110",
        ),
        (
            b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x00\x00\x01c",
            None,
            "connect flags 0x03",
        ),
        // Will QoS 3, a password without a user name.
        (
            b"\x10\x13\x00\x04MQTT\x04\x1e\x00\x00\x00\x01c\x00\x01w\x00\x01x",
            None,
            "CONNECT: ",
        ),
        (
            b"\x10\x10\x00\x04MQTT\x04\x42\x00\x00\x00\x01c\x00\x01p",
            None,
            "connect flags 0x42",
        ),
        // Client identifiers: not UTF-8, with U+0000, none without a clean session.
        (
            b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\xff",
            None,
            "is not well-formed UTF-8",
        ),
        (
            b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\x00",
            None,
            "contains U+0000 at byte 0",
        ),
        (
            b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
            V311(2),
            "empty client identifier, which MQTT 3.1.1 allows with clean session only",
        ),
        (
            b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00",
            V311(2),
            "and MQTT 3.1 never",
        ),
        (
            b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x01cx",
            None,
            "1 bytes after the last field",
        ),
        // 1 MiB, of which the beginning has come.
        (
            b"\x10\x80\x80\x40\x00\x04MQTT\x04\x02",
            None,
            "CONNECT: packet of 1048580 bytes",
        ),
    ]
}

/// CONNECT packets of 5 that are malformed or refused.
fn connects_5() -> Vec<Case> {
    vec![
        (b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01c", V5(0x81), "connect flags 0x03"),
        (b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01\xff", V5(0x81), "well-formed UTF-8"),
        // Receive Maximum 0, Maximum Packet Size twice, a property of another packet.
        (
            b"\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x00\x00\x01c",
            V5(0x82),
            "has the forbidden value 0",
        ),
        (
            b"\x10\x18\x00\x04MQTT\x05\x02\x00\x00\x0a\x27\x00\x00\x01\x00\x27\x00\x00\x01\x00\x00\x01c",
            V5(0x82),
            "occurs more than once",
        ),
        (
            b"\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x03\x23\x00\x01\x00\x01c",
            V5(0x81),
            "is not allowed in CONNECT",
        ),
        // A will to a topic filter.
        (
            b"\x10\x15\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01c\x00\x00\x01#\x00\x01x",
            V5(0x81),
            "wildcard at byte 0",
        ),
        // Enhanced authentication.
        (
            b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01a\x00\x01c",
            V5(0x8c),
            "bad authentication method",
        ),
        (
            b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x16\x00\x01a\x00\x01c",
            V5(0x82),
            "authentication data without authentication method",
        ),
    ]
}

fn play(cases: Vec<Case>) {
    let mut scene = Scene::start(Options::default());
    for (bytes, expected, text) in cases {
        let version = expected.map_or(Version::V311, |(version, _)| version);
        let mut client = Client::open(scene.broker.mqtt(), version).unwrap();
        client.send(bytes).unwrap();
        let told = receive_until_end(&mut client);
        let codes = told.iter().map(|packet| match packet {
            Packet::Connack { code, .. } => *code,
            other => panic!("{other:?} as an answer to {bytes:02x?}"),
        });
        let codes: Vec<u8> = codes.collect();
        let expected: Vec<u8> = expected.map(|(_, code)| code).into_iter().collect();
        assert_eq!(codes, expected, "{bytes:02x?} ({text})");
        scene.expect_line(&["connection{", &client_address(&client), text]);
        scene.expect_undisturbed();
    }
    scene.finish();
}

fn client_address(client: &Client) -> String {
    client.stream().local_addr().unwrap().to_string()
}

#[test]
fn connection_that_begins_with_another_protocol_is_ended_with_the_answer_it_understands() {
    play(strangers());
}

#[test]
fn connect_of_3_1_1_that_is_bad_is_refused() {
    play(connects_311());
}

#[test]
fn connect_of_5_that_is_bad_is_refused_with_the_reason() {
    play(connects_5());
}

#[test]
fn client_identifier_that_is_too_long_is_refused_with_the_limit() {
    let mut scene = Scene::start(Options::default());
    for (version, code) in [(Version::V311, 2), (Version::V5, 0x85)] {
        let connect = tests::mqtt::Connect::new(version, &"x".repeat(30_000));
        let (mut client, connack) = Client::try_connect(scene.broker.mqtt(), &connect).unwrap();
        assert!(matches!(connack, Packet::Connack { code: told, .. } if told == code));
        assert_eq!(receive_until_end(&mut client), []);
        scene.expect_line(&["Client was refused.", "client identifier not valid (0x85)"]);
        scene.expect_undisturbed();
    }
    scene.finish();
}

#[test]
fn connection_on_which_nothing_comes_is_let_go() {
    let mut scene = Scene::start(Options::default());
    for _ in 0..5 {
        let client = Client::open(scene.broker.mqtt(), Version::V5).unwrap();
        let address = client_address(&client);
        client.vanish();
        scene.expect_line(&[&address, "end of stream without DISCONNECT"]);
    }
    scene.finish();
}
