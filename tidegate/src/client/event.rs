//! What happens on a connection, the same for both versions of the protocol.
//!
//! `rumqttc` has two clients that share names and no types; here they become one.

use bytes::Bytes;
use mqtt::QoS;
use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5 as packets;
use rumqttc::{Outgoing, Packet};

use crate::client::reason;

/// What `pub` and `sub` need to know.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker has accepted the connection.
    Connected(Terms),
    /// A PUBLISH was handed to the operating system; the packet identifier is 0 with QoS 0.
    Sent { packet_id: u16 },
    /// The broker has taken a message of QoS 1 or 2, or says why not.
    Answered {
        packet_id: u16,
        refusal: Option<String>,
    },
    /// The answer to SUBSCRIBE, for each filter.
    Subscribed(Vec<Result<QoS, String>>),
    /// A message.
    Message(Box<Received>),
}

/// What the broker says that it does not do. A 3.1.1 broker says nothing.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) qos_max: QoS,
    pub(super) takes_retained: bool,
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) properties: packets::PublishProperties,
}

impl Event {
    /// The event in what a 3.1.1 connection yields, if it is one.
    pub(super) fn from_v311(event: rumqttc::Event) -> Option<Self> {
        let packet = match event {
            rumqttc::Event::Incoming(packet) => packet,
            rumqttc::Event::Outgoing(outgoing) => return Self::sent(&outgoing),
        };
        let answered = |packet_id| Self::Answered {
            packet_id,
            refusal: None,
        };
        match packet {
            Packet::ConnAck(_) => Some(Self::Connected(Terms {
                qos_max: QoS::ExactlyOnce,
                takes_retained: true,
            })),
            Packet::PubAck(puback) => Some(answered(puback.pkid)),
            Packet::PubComp(pubcomp) => Some(answered(pubcomp.pkid)),
            Packet::SubAck(suback) => {
                let codes = suback.return_codes.into_iter();
                Some(Self::Subscribed(codes.map(reason::granted_v311).collect()))
            }
            Packet::Publish(publish) => Some(Self::Message(Box::new(Received {
                topic: Bytes::from(publish.topic),
                payload: publish.payload,
                qos: publish.qos as u8,
                retain: publish.retain,
                properties: packets::PublishProperties::default(),
            }))),
            _ => None,
        }
    }

    /// The event in what an MQTT 5 connection yields, if it is one.
    pub(super) fn from_v5(event: v5::Event) -> Option<Self> {
        let packet = match event {
            v5::Event::Incoming(packet) => packet,
            v5::Event::Outgoing(outgoing) => return Self::sent(&outgoing),
        };
        match packet {
            packets::Packet::ConnAck(connack) => Some(Self::Connected(terms(&connack))),
            packets::Packet::PubAck(puback) => {
                let text = puback.properties.and_then(|p| p.reason_string);
                let code = reason::puback(puback.reason);
                Some(Self::answered(puback.pkid, code, text))
            }
            // A PUBREC that agrees is only half way.
            packets::Packet::PubRec(pubrec) => {
                let code = reason::pubrec(pubrec.reason);
                let text = pubrec.properties.and_then(|p| p.reason_string);
                code.is_error()
                    .then(|| Self::answered(pubrec.pkid, code, text))
            }
            packets::Packet::PubComp(pubcomp) => Some(Self::answered(
                pubcomp.pkid,
                mqtt::ReasonCode::Success,
                None,
            )),
            packets::Packet::SubAck(suback) => {
                let codes = suback.return_codes.into_iter();
                Some(Self::Subscribed(codes.map(reason::granted).collect()))
            }
            packets::Packet::Publish(publish) => Some(Self::Message(Box::new(Received {
                topic: publish.topic,
                payload: publish.payload,
                qos: publish.qos as u8,
                retain: publish.retain,
                properties: publish.properties.unwrap_or_default(),
            }))),
            _ => None,
        }
    }

    fn sent(outgoing: &Outgoing) -> Option<Self> {
        match outgoing {
            Outgoing::Publish(packet_id) => Some(Self::Sent {
                packet_id: *packet_id,
            }),
            _ => None,
        }
    }

    fn answered(packet_id: u16, code: mqtt::ReasonCode, text: Option<String>) -> Self {
        Self::Answered {
            packet_id,
            refusal: code
                .is_error()
                .then(|| reason::with_text(code, text.as_deref())),
        }
    }
}

fn terms(connack: &packets::ConnAck) -> Terms {
    let properties = connack.properties.as_ref();
    let qos_max = properties.and_then(|properties| properties.max_qos);
    Terms {
        qos_max: qos_max.and_then(QoS::from_bits).unwrap_or(QoS::ExactlyOnce),
        takes_retained: properties.and_then(|properties| properties.retain_available) != Some(0),
    }
}
