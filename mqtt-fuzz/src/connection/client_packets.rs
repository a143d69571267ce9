//! The packets that the client of an input sends: well formed, and made from one byte.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use mqtt::{
    Acknowledgement, Connect, ConnectProperties, Delivery, Disconnect, Message, MessageProperties,
    Packet, PacketId, PacketType, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    Subscription, SubscriptionOptions, TopicAlias, TopicFilter, TopicName, Unsubscribe, Utf8String,
    Will,
};

/// Fits what must be said, but no reason string and no large message.
const SMALL_PACKET_BYTES: NonZeroU32 = NonZeroU32::new(30).unwrap();
const SMALL_RECEIVE_MAXIMUM: NonZeroU16 = NonZeroU16::new(2).unwrap();

pub(super) fn has_bit(byte: u8, bit: u8) -> bool {
    byte >> bit & 1 == 1
}

pub(super) fn text(text: &str) -> Utf8String {
    Utf8String::try_from(text).unwrap_or_else(|error| panic!("{text:?} {error}"))
}

pub(super) fn topic(name: &str) -> TopicName {
    name.parse()
        .unwrap_or_else(|error| panic!("{name:?}: {error}"))
}

pub(super) fn packet_id(number: u16) -> PacketId {
    PacketId::new(number).unwrap_or(PacketId::MIN)
}

/// Three bits of identifier.
fn own_id(argument: u8) -> PacketId {
    packet_id(u16::from(argument & 7) + 1)
}

pub(super) fn encode(packet: &Packet, version: ProtocolVersion) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet
        .encode(version, &mut bytes)
        .unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    bytes
}

pub(super) fn connect(argument: u8) -> Packet {
    let is = |bit| has_bit(argument, bit);
    let version = match argument & 3 {
        0 | 1 => ProtocolVersion::V5,
        _ => ProtocolVersion::V311,
    };
    let mut connect = Connect::new(version, text("c"));
    connect.is_v31 = argument & 3 == 3;
    connect.keep_alive_seconds = if is(7) { 10 } else { 0 };
    connect.will = is(5).then(will);
    if version == ProtocolVersion::V5 {
        connect.properties = ConnectProperties {
            receive_maximum: is(2).then_some(SMALL_RECEIVE_MAXIMUM),
            maximum_packet_size: is(3).then_some(SMALL_PACKET_BYTES),
            topic_alias_maximum: is(4).then_some(if is(5) { 1 } else { 5 }),
            request_problem_information: is(6).then_some(false),
            session_expiry_interval: is(6).then_some(60),
            ..ConnectProperties::default()
        };
    } else {
        connect.clean_start = !is(3);
        if is(4) {
            connect.client_id = text("");
        }
    }
    Packet::Connect(Box::new(connect))
}

fn will() -> Will {
    let message = Message {
        topic: topic("gone"),
        payload: Bytes::from_static(b"bye"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: MessageProperties::default(),
    };
    Will {
        delay_interval: None,
        message,
    }
}

pub(super) fn publish(argument: u8, qos: QoS, version: ProtocolVersion) -> Packet {
    let is = |bit| has_bit(argument, bit);
    let (packet_id, dup) = (own_id(argument), is(3));
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { packet_id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup },
    };
    // 4 is above every Topic Alias Maximum.
    let alias = [0, 1, 3, 4].get(usize::from(argument >> 4 & 3));
    let topic_alias = match version {
        ProtocolVersion::V311 => None,
        ProtocolVersion::V5 => alias.and_then(|alias| TopicAlias::new(*alias)),
    };
    let is_nameless = is(6) && topic_alias.is_some();
    let names = ["a/b", "a/c", "b/c/d", "$x/y"];
    let name = names.get(usize::from(argument & 3)).copied();
    Packet::Publish(Publish {
        delivery,
        retain: is(7),
        topic: (!is_nameless).then(|| topic(name.unwrap_or("a"))),
        topic_alias,
        subscription_identifiers: Vec::new(),
        properties: MessageProperties::default(),
        payload: Bytes::from(vec![argument; 20]),
    })
}

/// PUBACK, PUBREC or PUBCOMP for a delivery.
pub(super) fn acknowledgement(
    packet: PacketType,
    packet_id: PacketId,
    argument: u8,
    version: ProtocolVersion,
) -> Packet {
    let codes = match packet {
        PacketType::Pubcomp => [
            ReasonCode::PacketIdentifierNotFound,
            ReasonCode::PacketIdentifierNotFound,
        ],
        _ => [ReasonCode::QuotaExceeded, ReasonCode::NoMatchingSubscribers],
    };
    let [failure, other] = codes;
    let code = match (version, has_bit(argument, 7), has_bit(argument, 6)) {
        (ProtocolVersion::V311, ..) | (_, false, false) => ReasonCode::Success,
        (_, true, _) => failure,
        (_, false, true) => other,
    };
    let acknowledgement = Acknowledgement::new(packet_id, code);
    match packet {
        PacketType::Pubrec => Packet::Pubrec(acknowledgement),
        PacketType::Pubcomp => Packet::Pubcomp(acknowledgement),
        _ => Packet::Puback(acknowledgement),
    }
}

pub(super) fn pubrel(argument: u8, version: ProtocolVersion) -> Packet {
    let is_failure = has_bit(argument, 7) && version == ProtocolVersion::V5;
    let code = if is_failure {
        ReasonCode::PacketIdentifierNotFound
    } else {
        ReasonCode::Success
    };
    Packet::Pubrel(Acknowledgement::new(own_id(argument), code))
}

pub(super) fn subscribe(argument: u8) -> Packet {
    let subscription = |filter| Subscription {
        filter,
        options: SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            ..SubscriptionOptions::default()
        },
    };
    Packet::Subscribe(Subscribe {
        packet_id: own_id(argument),
        subscriptions: filters(argument).map(subscription).collect(),
        subscription_identifier: None,
        user_properties: Vec::new(),
    })
}

pub(super) fn unsubscribe(argument: u8) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        packet_id: own_id(argument),
        filters: filters(argument).collect(),
        user_properties: Vec::new(),
    })
}

fn filters(argument: u8) -> impl Iterator<Item = TopicFilter> {
    let names = ["a/#", "+/b", "$share/g/a/b", "c"];
    let filter = |name: &str| {
        TopicFilter::new(text(name)).unwrap_or_else(|error| panic!("{name:?}: {error}"))
    };
    let count = usize::from(argument >> 3 & 3) + 1;
    names.into_iter().take(count).map(filter)
}

pub(super) fn disconnect(argument: u8, version: ProtocolVersion) -> Packet {
    if version == ProtocolVersion::V311 {
        return Packet::Disconnect(Disconnect::default());
    }
    let reason_code = match has_bit(argument, 0) {
        true => ReasonCode::DisconnectWithWillMessage,
        false => ReasonCode::Success,
    };
    Packet::Disconnect(Disconnect {
        reason_code,
        session_expiry_interval: has_bit(argument, 1).then_some(5),
        ..Disconnect::default()
    })
}
