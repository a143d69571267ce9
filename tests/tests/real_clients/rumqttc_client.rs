//! rumqttc in both versions, made to publish and to subscribe.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PublishProperties};
use rumqttc::{Client, Event, LastWill, MqttOptions, Outgoing, Packet, QoS, v5};
use tests::mqtt::Version;

use crate::delivering::Seen;
use crate::{CONTENT_TYPE, CORRELATION_DATA, RESPONSE_TOPIC, USER_PROPERTIES};

/// More requests than any test makes before it lets the connection work them off.
const REQUESTS_MAX: usize = 100;

/// What is to be published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publish<'p> {
    pub(crate) client_id: &'p str,
    pub(crate) topic: &'p str,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) payloads: &'p [String],
}

/// Publishes on one connection, waits for the acknowledgements, and says good-bye.
pub(crate) fn publish(port: u16, version: Version, publish: &Publish<'_>) {
    match version {
        Version::V311 => publish_v4(port, publish),
        Version::V5 => publish_v5(port, publish, PublishProperties::default()),
    }
}

fn publish_v4(port: u16, publish: &Publish<'_>) {
    let options = MqttOptions::new(publish.client_id, "127.0.0.1", port);
    let (client, mut connection) = Client::new(options, REQUESTS_MAX);
    let qos = rumqttc::qos(publish.qos).unwrap();
    for payload in publish.payloads {
        let payload = payload.as_bytes();
        client
            .publish(publish.topic, qos, publish.retain, payload)
            .unwrap();
    }
    let mut left = publish.payloads.len();
    for event in connection.iter() {
        match event.unwrap() {
            Event::Incoming(Packet::PubAck(_)) => left -= 1,
            Event::Outgoing(Outgoing::Publish(_)) if qos == QoS::AtMostOnce => left -= 1,
            Event::Outgoing(Outgoing::Disconnect) => return,
            _ => continue,
        }
        if left == 0 {
            client.disconnect().unwrap();
        }
    }
}

/// As [`publish`] in MQTT 5, with properties.
pub(crate) fn publish_v5(port: u16, publish: &Publish<'_>, properties: PublishProperties) {
    let options = v5::MqttOptions::new(publish.client_id, "127.0.0.1", port);
    let (client, mut connection) = v5::Client::new(options, REQUESTS_MAX);
    let qos = v5::mqttbytes::qos(publish.qos).unwrap();
    for payload in publish.payloads {
        let (payload, properties) = (payload.clone().into_bytes(), properties.clone());
        client
            .publish_with_properties(publish.topic, qos, publish.retain, payload, properties)
            .unwrap();
    }
    let mut left = publish.payloads.len();
    for event in connection.iter() {
        match event.unwrap() {
            v5::Event::Incoming(v5::Incoming::PubAck(_)) => left -= 1,
            v5::Event::Outgoing(Outgoing::Publish(_)) if publish.qos == 0 => left -= 1,
            v5::Event::Outgoing(Outgoing::Disconnect) => return,
            _ => continue,
        }
        if left == 0 {
            client.disconnect().unwrap();
        }
    }
}

/// Every property that a message can have.
pub(crate) fn properties() -> PublishProperties {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(3600),
        response_topic: Some(RESPONSE_TOPIC.to_owned()),
        correlation_data: Some(CORRELATION_DATA.into()),
        user_properties: USER_PROPERTIES.map(own).to_vec(),
        content_type: Some(CONTENT_TYPE.to_owned()),
        ..PublishProperties::default()
    }
}

/// Subscribes to a filter with a QoS, calls `ready` when the broker has said yes, and returns the next `count` messages.
pub(crate) fn subscribe(
    port: u16,
    version: Version,
    subscription: (&str, u8),
    count: usize,
    ready: impl FnOnce(),
) -> Vec<Seen> {
    match version {
        Version::V311 => subscribe_v4(port, subscription, count, ready),
        Version::V5 => subscribe_v5(port, subscription, count, ready),
    }
}

fn subscribe_v4(
    port: u16,
    (filter, qos): (&str, u8),
    count: usize,
    ready: impl FnOnce(),
) -> Vec<Seen> {
    let options = MqttOptions::new("rumqttc-subscribes", "127.0.0.1", port);
    let (client, mut connection) = Client::new(options, REQUESTS_MAX);
    client
        .subscribe(filter, rumqttc::qos(qos).unwrap())
        .unwrap();
    let (mut ready, mut seen) = (Some(ready), Vec::new());
    while seen.len() < count {
        match connection.recv().unwrap().unwrap() {
            Event::Incoming(Packet::SubAck(_)) => ready.take().unwrap()(),
            Event::Incoming(Packet::Publish(publish)) => {
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                seen.push((publish.topic, payload, publish.retain, publish.qos as u8));
            }
            _ => {}
        }
    }
    seen
}

fn subscribe_v5(
    port: u16,
    (filter, qos): (&str, u8),
    count: usize,
    ready: impl FnOnce(),
) -> Vec<Seen> {
    let options = v5::MqttOptions::new("rumqttc-subscribes", "127.0.0.1", port);
    let (client, mut connection) = v5::Client::new(options, REQUESTS_MAX);
    client
        .subscribe(filter, v5::mqttbytes::qos(qos).unwrap())
        .unwrap();
    let (mut ready, mut seen) = (Some(ready), Vec::new());
    while seen.len() < count {
        match connection.recv().unwrap().unwrap() {
            v5::Event::Incoming(v5::Incoming::SubAck(_)) => ready.take().unwrap()(),
            v5::Event::Incoming(v5::Incoming::Publish(publish)) => {
                let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                seen.push((topic, payload, publish.retain, publish.qos as u8));
            }
            _ => {}
        }
    }
    seen
}

/// Connects with a will, and is gone without a good-bye.
pub(crate) fn die_with_will(port: u16, version: Version, topic: &str, payload: &str) {
    match version {
        Version::V311 => {
            let mut options = MqttOptions::new("rumqttc-dies", "127.0.0.1", port);
            let will = LastWill::new(topic, payload, QoS::AtLeastOnce, false);
            options.set_last_will(will);
            let (_client, mut connection) = Client::new(options, REQUESTS_MAX);
            let connack = connection.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(matches!(
                connack.unwrap(),
                Event::Incoming(Packet::ConnAck(_))
            ));
        }
        Version::V5 => {
            let mut options = v5::MqttOptions::new("rumqttc-dies", "127.0.0.1", port);
            let qos = v5::mqttbytes::QoS::AtLeastOnce;
            let will = v5::mqttbytes::v5::LastWill::new(topic, payload, qos, false, None);
            options.set_last_will(will);
            let (_client, mut connection) = v5::Client::new(options, REQUESTS_MAX);
            match connection.recv().unwrap().unwrap() {
                v5::Event::Incoming(v5::Incoming::ConnAck(connack)) => {
                    assert_eq!(connack.code, ConnectReturnCode::Success);
                }
                other => panic!("{other:?} in the place of CONNACK"),
            }
        }
    }
}
