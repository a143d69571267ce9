//! What a message keeps on its way: its properties as they were and in their order, live, retained and
//! from the log.

use bytes::Bytes;
use mqtt::ProtocolVersion::V5;
use mqtt::{BinaryData, MessageProperties, PayloadFormat, Publish, UserProperty};

use crate::support::{Setup, TestBroker, TestClient, go, publish, retained, staying, string};

fn pairs(pairs: &[(&str, &str)]) -> Vec<UserProperty> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| UserProperty {
            name: string(name),
            value: string(value),
        })
        .collect()
}

/// Messages with all properties, with empty ones, and with none.
fn various() -> [MessageProperties; 3] {
    let data = |bytes| Some(BinaryData::try_from(Bytes::from_static(bytes)).unwrap());
    [
        MessageProperties {
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry_interval: None,
            content_type: Some(string("text/plain; charset=\u{feff}utf-8")),
            response_topic: Some("answers/\u{1f30a}".parse().unwrap()),
            correlation_data: data(b"\0\xff\0"),
            user_properties: pairs(&[
                ("z", "1"),
                ("a", "2"),
                ("z", "1"),
                ("", ""),
                ("a", ""),
                ("A", "3"),
            ]),
        },
        MessageProperties {
            content_type: Some(string("")),
            correlation_data: data(b""),
            user_properties: pairs(&[("", "")]),
            ..MessageProperties::default()
        },
        MessageProperties::default(),
    ]
}

fn publish_all(client: &mut TestClient, is_retained: bool) {
    for (number, properties) in (1..).zip(various()) {
        let publish = Publish {
            properties,
            ..publish(1, &format!("a/{number}"), number.to_string())
        };
        client.publish(match is_retained {
            true => retained(publish),
            false => publish,
        });
        assert_eq!(client.receive_puback().0, 1);
    }
}

fn assert_comes(client: &mut TestClient, how: &str) {
    for (number, expected) in (1..).zip(various()) {
        let received = client.receive_publish();
        assert_eq!(received.payload, number.to_string(), "{how}");
        assert_eq!(received.properties, expected, "{how}");
    }
}

#[test]
fn properties_are_unaltered_and_in_their_order_in_every_way_a_message_can_take() {
    let broker = TestBroker::start(Setup::default());
    let mut away = TestClient::connect(broker.address(), staying(V5, "away"));
    away.subscribe("a/#");
    go(&broker, away);
    let mut there = broker.client(V5, "there");
    there.subscribe("a/#");
    let mut member = broker.client(V5, "member");
    member.subscribe("$share/group/a/#");
    let mut publisher = broker.client(V5, "publisher");
    publish_all(&mut publisher, false);
    assert_comes(&mut there, "live");
    assert_comes(&mut member, "shared");
    let mut away = TestClient::connect(broker.address(), staying(V5, "away"));
    assert_comes(&mut away, "from the log");
    publish_all(&mut publisher, true);
    let mut late = broker.client(V5, "late");
    late.subscribe("a/#");
    assert_comes(&mut late, "retained");
}

#[test]
fn properties_are_as_they_were_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let mut away = TestClient::connect(broker.address(), staying(V5, "away"));
    away.subscribe("a/#");
    go(&broker, away);
    publish_all(&mut broker.client(V5, "publisher"), true);
    broker.stop();
    let broker = TestBroker::start_at(&path, Setup::default());
    let mut away = TestClient::connect(broker.address(), staying(V5, "away"));
    assert_comes(&mut away, "from the log");
    let mut late = broker.client(V5, "late");
    late.subscribe("a/#");
    assert_comes(&mut late, "retained");
    broker.stop();
}
