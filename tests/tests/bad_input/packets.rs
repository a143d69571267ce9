//! Packets that are malformed or not allowed, on a connection that was accepted: an MQTT 5 client
//! is told why and disconnected, a client of 3.1.1 is disconnected.

use tests::broker_process::Options;
use tests::mqtt::packet::packet;
use tests::mqtt::{Client, Connect, Packet, Publish, Version};

use crate::bystanders::read;
use crate::{Scene, receive_until_end};

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;

/// Bytes, the reason code that MQTT 5 is told, and what the log says.
type Case = (&'static [u8], u8, &'static str);

/// The same bytes are as bad in both versions.
const IN_BOTH: &[Case] = &[
    (b"\x00\x00", MALFORMED, "packet type 0 is reserved"),
    (
        b"\x30\xff\xff\xff\xff\x7f",
        MALFORMED,
        "remaining length is no variable byte integer",
    ),
    // A length in more bytes than it takes.
    (
        b"\xc0\x80\x00",
        MALFORMED,
        "remaining length is no variable byte integer",
    ),
    // A PUBLISH of 2 MiB and one of 256 MiB, of which only the length has come.
    (
        b"\x30\x80\x80\x80\x01",
        0x95,
        "PUBLISH: packet of 2097157 bytes, at most 262144 are allowed",
    ),
    (
        b"\x30\xff\xff\xff\x7f",
        0x95,
        "PUBLISH: packet of 268435460 bytes",
    ),
    (
        b"\xc1\x00",
        MALFORMED,
        "PINGREQ: fixed header flags 0b0001, 0b0000 required",
    ),
    (
        b"\xc0\x01\x00",
        MALFORMED,
        "PINGREQ: 1 bytes after the last field",
    ),
    (
        b"\x80\x06\x00\x01\x00\x01a\x00",
        MALFORMED,
        "SUBSCRIBE: fixed header flags 0b0000",
    ),
    (
        b"\x36\x06\x00\x01a\x00\x01\x00",
        MALFORMED,
        "PUBLISH has the reserved QoS 3",
    ),
    (
        b"\x38\x04\x00\x01a\x00",
        MALFORMED,
        "PUBLISH: DUP flag with QoS 0",
    ),
    (
        b"\x32\x06\x00\x01a\x00\x00\x00",
        PROTOCOL_ERROR,
        "PUBLISH: packet identifier 0",
    ),
    // The topic is longer than the packet.
    (b"\x30\x04\x00\x09ab", MALFORMED, "PUBLISH: ends inside"),
    // Topic names: not UTF-8, a surrogate, U+0000, wildcards.
    (
        b"\x30\x05\x00\x02\xc3\x28\x00",
        MALFORMED,
        "is not well-formed UTF-8 at byte 0",
    ),
    (
        b"\x30\x06\x00\x03\xed\xa0\x80\x00",
        MALFORMED,
        "is not well-formed UTF-8 at byte 0",
    ),
    (
        b"\x30\x05\x00\x02a\x00\x00",
        MALFORMED,
        "contains U+0000 at byte 1",
    ),
    (
        b"\x30\x06\x00\x03a/#\x00",
        MALFORMED,
        "topic name has a wildcard at byte 2",
    ),
    (
        b"\x30\x06\x00\x03+/a\x00",
        MALFORMED,
        "topic name has a wildcard at byte 0",
    ),
    // A second CONNECT, and packets that only a server sends.
    (
        b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x03abc",
        PROTOCOL_ERROR,
        "second CONNECT",
    ),
    (
        b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01c",
        PROTOCOL_ERROR,
        "second CONNECT",
    ),
    (b"\xd0\x00", PROTOCOL_ERROR, "PINGRESP from a client"),
];

const IN_311: &[Case] = &[
    (b"\x20\x02\x00\x00", 0, "CONNACK from a client"),
    (b"\x90\x03\x00\x01\x00", 0, "SUBACK from a client"),
    (b"\xb0\x02\x00\x01", 0, "UNSUBACK from a client"),
    (b"\xf0\x00", 0, "packet type 15 is reserved"),
    (b"\x30\x02\x00\x00", 0, "topic name is empty"),
    (b"\x82\x02\x00\x01", 0, "SUBSCRIBE: no topic filter at all"),
    (b"\x82\x06\x00\x01\x00\x01a\x03", 0, "SUBSCRIBE: "),
    (
        b"\x82\x07\x00\x01\x00\x02a#\x00",
        0,
        "topic filter has a wildcard at byte 1",
    ),
    (
        b"\xa2\x02\x00\x01",
        0,
        "UNSUBSCRIBE: no topic filter at all",
    ),
    (
        b"\x40\x03\x00\x01\x00",
        0,
        "PUBACK: 1 bytes after the last field",
    ),
    (b"\x40\x02\x00\x00", 0, "PUBACK: packet identifier 0"),
];

const IN_5: &[Case] = &[
    (
        b"\x20\x03\x00\x00\x00",
        PROTOCOL_ERROR,
        "CONNACK from a client",
    ),
    (
        b"\x90\x04\x00\x01\x00\x00",
        PROTOCOL_ERROR,
        "SUBACK from a client",
    ),
    (
        b"\xb0\x04\x00\x01\x00\x00",
        PROTOCOL_ERROR,
        "UNSUBACK from a client",
    ),
    (
        b"\xf0\x00",
        PROTOCOL_ERROR,
        "AUTH although no enhanced authentication was agreed upon",
    ),
    (
        b"\x30\x03\x00\x00\x00",
        PROTOCOL_ERROR,
        "empty topic name without topic alias",
    ),
    (
        b"\x82\x03\x00\x01\x00",
        PROTOCOL_ERROR,
        "SUBSCRIBE: no topic filter at all",
    ),
    (
        b"\x82\x07\x00\x01\x00\x00\x01a\x03",
        PROTOCOL_ERROR,
        "subscription options 0x03 have the reserved QoS 3",
    ),
    (
        b"\x82\x07\x00\x01\x00\x00\x01a\x40",
        MALFORMED,
        "reserved bits set",
    ),
    (
        b"\x82\x07\x00\x01\x00\x00\x01a\x30",
        PROTOCOL_ERROR,
        "reserved retain handling 3",
    ),
    (
        b"\x82\x08\x00\x01\x00\x00\x02a#\x00",
        MALFORMED,
        "topic filter has a wildcard at byte 1",
    ),
    (
        b"\x82\x10\x00\x01\x00\x00\x0a$share/g/a\x04",
        PROTOCOL_ERROR,
        "no local option on a shared subscription",
    ),
    (
        b"\xa2\x03\x00\x01\x00",
        PROTOCOL_ERROR,
        "UNSUBSCRIBE: no topic filter at all",
    ),
    // Properties: unknown, longer than the packet, twice, of another packet, with a bad value.
    (
        b"\x30\x06\x00\x01a\x02\x7f\x00",
        MALFORMED,
        "property identifier 0x7f is not defined",
    ),
    (b"\x30\x04\x00\x01a\x09", MALFORMED, "PUBLISH: ends inside"),
    (
        b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00",
        PROTOCOL_ERROR,
        "occurs more than once",
    ),
    (
        b"\x30\x09\x00\x01a\x05\x11\x00\x00\x00\x01",
        MALFORMED,
        "is not allowed in PUBLISH",
    ),
    (
        b"\x30\x06\x00\x01a\x02\x01\x02",
        PROTOCOL_ERROR,
        "has the forbidden value 2",
    ),
    (
        b"\x30\x07\x00\x01a\x03\x23\x00\x00",
        0x94,
        "has the forbidden value 0",
    ),
    (
        b"\x30\x07\x00\x01a\x03\x23\xff\xff",
        0x94,
        "topic alias 65535, at most ",
    ),
    (
        b"\x30\x06\x00\x00\x03\x23\x00\x01",
        PROTOCOL_ERROR,
        "alias that stands for nothing",
    ),
    (
        b"\x30\x06\x00\x01a\x02\x0b\x01",
        PROTOCOL_ERROR,
        "subscription identifier from a client",
    ),
    (
        b"\x30\x07\x00\x01a\x02\x01\x01\xff",
        0x99,
        "payload is not UTF-8 at byte 0",
    ),
    (
        b"\x40\x03\x00\x01\x7f",
        MALFORMED,
        "reason code 0x7f is not defined",
    ),
    (
        b"\xe0\x01\x7f",
        MALFORMED,
        "reason code 0x7f is not defined",
    ),
    (
        b"\xe0\x07\x00\x05\x11\x00\x00\x00\x09",
        PROTOCOL_ERROR,
        "session expiry interval although",
    ),
];

/// Cases for one broker: it writes no more than ten lines of a kind in ten seconds.
const CASES_PER_BROKER: usize = 9;

fn play(version: Version, cases: &[Case]) {
    let mut scene = Scene::start(Options::default());
    for (bytes, code, text) in cases {
        let connect = Connect::new(version, "bad");
        let mut client = Client::connect(scene.broker.mqtt(), &connect).unwrap();
        // What comes before is done, what comes after is not looked at.
        let before = Publish::new("before", "x").encode(version);
        let after = Publish::new("after", "x").encode(version);
        client.send(&[&before[..], bytes, &after].concat()).unwrap();
        let told = receive_until_end(&mut client);
        let expected = match version {
            Version::V311 => vec![],
            Version::V5 => vec![Packet::Disconnect { code: *code }],
        };
        assert_eq!(told, expected, "{version:?}: {bytes:02x?} ({text})");
        scene.expect_line(&["Client broke the protocol.", "client_id=\"bad\"", text]);
        scene.expect_undisturbed();
    }
    let admin = scene.broker.admin().to_string();
    assert_eq!(read(&["--admin", &admin], "before").len(), cases.len());
    assert_eq!(read(&["--admin", &admin], "after").len(), 0);
    scene.finish();
}

#[test]
fn packet_that_is_bad_in_both_versions_ends_a_connection_of_3_1_1() {
    IN_BOTH
        .chunks(CASES_PER_BROKER)
        .for_each(|cases| play(Version::V311, cases));
}

#[test]
fn packet_that_is_bad_in_both_versions_ends_a_connection_of_5_with_the_reason() {
    IN_BOTH
        .chunks(CASES_PER_BROKER)
        .for_each(|cases| play(Version::V5, cases));
}

#[test]
fn packet_that_is_bad_in_3_1_1_ends_the_connection() {
    IN_311
        .chunks(CASES_PER_BROKER)
        .for_each(|cases| play(Version::V311, cases));
}

#[test]
fn packet_that_is_bad_in_5_ends_the_connection_with_the_reason() {
    IN_5.chunks(CASES_PER_BROKER)
        .for_each(|cases| play(Version::V5, cases));
}

#[test]
fn log_is_not_filled_by_clients_that_break_the_protocol() {
    const BAD: usize = 300;
    let mut scene = Scene::start(Options::default());
    for _ in 0..BAD {
        let connect = Connect::new(Version::V5, "bad");
        let mut client = Client::connect(scene.broker.mqtt(), &connect).unwrap();
        client.send(&packet(0xd0, &[])).unwrap();
        let told = receive_until_end(&mut client);
        assert_eq!(
            told,
            [Packet::Disconnect {
                code: PROTOCOL_ERROR
            }]
        );
    }
    scene.expect_line(&["Client broke the protocol."]);
    let log = scene.broker.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("Client broke the protocol."))
        .count();
    assert!(lines < BAD, "{lines}");
    // Those without a line are counted.
    let metrics = scene.broker.metrics().unwrap();
    let name = "tidegate_broker_connections_ended_total";
    assert_eq!(
        metrics.sum(name, &[("reason", "invalid")]),
        Some(BAD as f64)
    );
    scene.finish();
}
