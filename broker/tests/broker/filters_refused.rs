//! Filters that are refused for themselves: the others of their SUBSCRIBE are granted, and the connection
//! goes on.

use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{Packet, ProtocolVersion, ReasonCode};

use crate::support::{BOTH, Setup, TestBroker, TestClient, text};

/// A SUBSCRIBE with QoS 0, byte by byte: the crate's own could not say some of these filters.
fn subscribe(version: ProtocolVersion, filters: &[&str]) -> Vec<u8> {
    let none: &[u8] = match version {
        V311 => &[],
        V5 => &[0],
    };
    let mut body = [&[0x12, 0x34], none].concat();
    for filter in filters {
        body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
        body.extend(filter.as_bytes());
        body.push(0);
    }
    let (low, high) = (body.len() % 128 + 128, body.len() / 128);
    let length = [low, high].map(|byte| u8::try_from(byte).unwrap());
    [&[0x82], &length[..], &body].concat()
}

fn codes(client: &mut TestClient) -> Vec<ReasonCode> {
    match client.receive() {
        Packet::Suback(suback) => suback.reason_codes,
        other => panic!("{other:?} in the place of SUBACK"),
    }
}

/// In MQTT 3.1.1 they are filters like others; only the broker has its reasons.
#[test]
fn filter_that_only_looks_shared_is_refused_alone_in_3_1_1() {
    use ReasonCode::{Success, UnspecifiedError};
    let broker = TestBroker::start(Setup::default());
    let mut client = broker.client(V311, "client");
    let filters = ["a", "$share/g", "$share/g/", "$share//a", "$share/+/a", "b"];
    client.send_bytes(&subscribe(V311, &[&filters[..], &["c"; 20]].concat()));
    let refused = UnspecifiedError;
    let expected = [Success, refused, refused, refused, refused, Success];
    assert_eq!(codes(&mut client)[..6], expected);
    for topic in ["a", "b"] {
        broker
            .client(V311, "publisher")
            .publish_acknowledged(topic, topic);
        assert_eq!(text(&client.receive_publish().payload), topic);
    }
    // MQTT 5 has a rule for their form, and the packet breaks it.
    let mut client = broker.client(V5, "client");
    client.send_bytes(&subscribe(V5, &[&filters[..], &["c"; 20]].concat()));
    assert_eq!(client.receive_end(), Some(ReasonCode::MalformedPacket));
}

#[test]
fn filter_with_too_many_levels_is_refused_alone() {
    let broker = TestBroker::start(Setup::default());
    // The default, the most that can be configured, and the most that a string has room for.
    let deep = [32, 33, 128, 129].map(|levels| "/".repeat(levels - 1));
    for version in BOTH {
        let mut client = broker.client(version, "client");
        let filters: Vec<&str> = deep.iter().map(String::as_str).collect();
        client.send_bytes(&subscribe(version, &[&filters[..], &["a"]].concat()));
        let refused = match version {
            V311 => ReasonCode::UnspecifiedError,
            V5 => ReasonCode::TopicFilterInvalid,
        };
        let granted = ReasonCode::Success;
        let expected = [granted, refused, refused, refused, granted];
        assert_eq!(codes(&mut client), expected, "{version:?}");
        let deepest = "/".repeat(16_000);
        client.send_bytes(&subscribe(version, &[&deepest]));
        assert_eq!(codes(&mut client), [refused], "{version:?}");
        client.expect_nothing();
    }
}
