//! Any packet that a version can say: for 3.1.1 without what only MQTT 5 has.

use std::fmt::Debug;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use mqtt::{
    Acknowledgement, Auth, BinaryData, Connack, ConnackProperties, Connect, ConnectProperties,
    Delivery, Disconnect, MaximumQos, Message, MessageProperties, Packet, PacketId, PacketType,
    PayloadFormat, ProblemInformation, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling,
    Suback, Subscribe, Subscription, SubscriptionIdentifier, SubscriptionOptions, TopicAlias,
    TopicFilter, TopicName, Unsuback, Unsubscribe, UserProperty, Utf8String, Will,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::raw::{V5, V311};

pub(crate) fn packet(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        connack(version).prop_map(|connack| Packet::Connack(Box::new(connack))),
        publish(version).prop_map(Packet::Publish),
        acknowledgement(version, PacketType::Puback).prop_map(Packet::Puback),
        acknowledgement(version, PacketType::Pubrec).prop_map(Packet::Pubrec),
        acknowledgement(version, PacketType::Pubrel).prop_map(Packet::Pubrel),
        acknowledgement(version, PacketType::Pubcomp).prop_map(Packet::Pubcomp),
        subscribe(version).prop_map(Packet::Subscribe),
        suback(version).prop_map(Packet::Suback),
        unsubscribe(version).prop_map(Packet::Unsubscribe),
        unsuback(version).prop_map(Packet::Unsuback),
        Just(Packet::Pingreq),
        Just(Packet::Pingresp),
        disconnect(version).prop_map(Packet::Disconnect),
    ];
    match version {
        V311 => common.boxed(),
        V5 => prop_oneof![14 => common, 1 => auth().prop_map(Packet::Auth)].boxed(),
    }
}

/// What only MQTT 5 has: any value there, and its default in 3.1.1.
fn in_v5<S>(version: ProtocolVersion, strategy: S) -> BoxedStrategy<S::Value>
where
    S: Strategy + 'static,
    S::Value: Default + Clone + Debug,
{
    if version == V5 {
        strategy.boxed()
    } else {
        Just(S::Value::default()).boxed()
    }
}

pub(crate) fn utf8_string() -> impl Strategy<Value = Utf8String> {
    "[^\\x00]{0,12}".prop_map(|text| Utf8String::try_from(text).unwrap())
}

pub(crate) fn topic_name() -> impl Strategy<Value = TopicName> {
    "[^\\x00+#]{1,12}".prop_map(|text| text.parse().unwrap())
}

pub(crate) fn topic_filter() -> impl Strategy<Value = TopicFilter> {
    let level = prop_oneof![3 => "[^\\x00+#/]{0,4}", 1 => Just("+".to_owned())];
    (any::<bool>(), vec(level, 1..5), any::<bool>()).prop_filter_map(
        "empty filter",
        |(is_shared, mut levels, ends_with_all)| {
            levels.extend(ends_with_all.then(|| "#".to_owned()));
            let prefix = if is_shared { "$share/group/" } else { "" };
            format!("{prefix}{}", levels.join("/")).parse().ok()
        },
    )
}

fn binary_data() -> impl Strategy<Value = BinaryData> {
    vec(any::<u8>(), 0..12).prop_map(|data| BinaryData::try_from(Bytes::from(data)).unwrap())
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn subscription_identifier() -> impl Strategy<Value = SubscriptionIdentifier> {
    prop_oneof![1..300_u32, 1..=268_435_455_u32]
        .prop_map(|identifier| SubscriptionIdentifier::new(identifier).unwrap())
}

fn user_properties() -> impl Strategy<Value = Vec<UserProperty>> {
    let pair = (utf8_string(), utf8_string());
    vec(
        pair.prop_map(|(name, value)| UserProperty { name, value }),
        0..3,
    )
}

fn problem() -> impl Strategy<Value = ProblemInformation> {
    (of(utf8_string()), user_properties()).prop_map(|(reason_string, user_properties)| {
        ProblemInformation {
            reason_string,
            user_properties,
        }
    })
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn reason_code(packet: PacketType) -> impl Strategy<Value = ReasonCode> {
    let codes: Vec<_> = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|code| code.allowed_in(packet))
        .collect();
    proptest::sample::select(codes)
}

/// A code that 3.1.1 writes in its own way and reads back as the same.
fn reason_code_of(version: ProtocolVersion, packet: PacketType) -> BoxedStrategy<ReasonCode> {
    let said_in_v311 = match packet {
        PacketType::Connack => vec![
            ReasonCode::Success,
            ReasonCode::UnsupportedProtocolVersion,
            ReasonCode::ClientIdentifierNotValid,
            ReasonCode::ServerUnavailable,
            ReasonCode::BadUserNameOrPassword,
            ReasonCode::NotAuthorized,
        ],
        PacketType::Suback => vec![
            ReasonCode::Success,
            ReasonCode::GrantedQos1,
            ReasonCode::GrantedQos2,
            ReasonCode::UnspecifiedError,
        ],
        _ => vec![ReasonCode::Success],
    };
    match version {
        V311 => proptest::sample::select(said_in_v311).boxed(),
        V5 => reason_code(packet).boxed(),
    }
}

/// Payload with its format: UTF-8 where the format says so.
fn payload() -> impl Strategy<Value = (Option<PayloadFormat>, Bytes)> {
    let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    prop_oneof![
        bytes().prop_map(|payload| (None, payload)),
        bytes().prop_map(|payload| (Some(PayloadFormat::Unspecified), payload)),
        ".{0,20}".prop_map(|text| (Some(PayloadFormat::Utf8), Bytes::from(text))),
    ]
}

fn message_properties(
    version: ProtocolVersion,
    payload_format: Option<PayloadFormat>,
) -> impl Strategy<Value = MessageProperties> {
    let strings = (of(utf8_string()), of(topic_name()), of(binary_data()));
    let properties = (of(any::<u32>()), strings, user_properties()).prop_map(
        move |(message_expiry_interval, strings, user_properties)| MessageProperties {
            payload_format,
            message_expiry_interval,
            content_type: strings.0,
            response_topic: strings.1,
            correlation_data: strings.2,
            user_properties,
        },
    );
    in_v5(version, properties)
}

fn message(version: ProtocolVersion) -> impl Strategy<Value = Message> {
    payload().prop_flat_map(move |(format, payload)| {
        (
            topic_name(),
            qos(),
            any::<bool>(),
            message_properties(version, format),
        )
            .prop_map(move |(topic, qos, retain, properties)| Message {
                topic,
                payload: payload.clone(),
                qos,
                retain,
                properties,
            })
    })
}

fn connect(version: ProtocolVersion) -> impl Strategy<Value = Connect> {
    let delay = in_v5(version, of(any::<u32>()));
    let will = (delay, message(version)).prop_map(|(delay_interval, message)| Will {
        delay_interval,
        message,
    });
    let who = (utf8_string(), of(utf8_string()), of(binary_data()));
    let properties = in_v5(version, connect_properties());
    let flags = (any::<bool>(), any::<bool>());
    (flags, any::<u16>(), who, of(will), properties).prop_map(
        move |((clean_start, is_v31), keep_alive_seconds, who, will, properties)| {
            let (client_id, username, password) = who;
            let password = password.filter(|_| version == V5 || username.is_some());
            Connect {
                version,
                is_v31: is_v31 && version == V311,
                clean_start,
                keep_alive_seconds,
                client_id,
                will,
                username,
                password,
                properties,
            }
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    let numbers = (
        of(any::<u32>()),
        of(any::<NonZeroU16>()),
        of(any::<NonZeroU32>()),
    );
    let wishes = (of(any::<u16>()), of(any::<bool>()), of(any::<bool>()));
    let authentication = of((utf8_string(), of(binary_data())));
    (numbers, wishes, authentication, user_properties()).prop_map(
        |(numbers, wishes, authentication, user_properties)| {
            let (method, data) = authentication.unzip();
            ConnectProperties {
                session_expiry_interval: numbers.0,
                receive_maximum: numbers.1,
                maximum_packet_size: numbers.2,
                topic_alias_maximum: wishes.0,
                request_response_information: wishes.1,
                request_problem_information: wishes.2,
                authentication_method: method,
                authentication_data: data.flatten(),
                user_properties,
            }
        },
    )
}

fn connack(version: ProtocolVersion) -> impl Strategy<Value = Connack> {
    let code = reason_code_of(version, PacketType::Connack);
    (any::<bool>(), code, in_v5(version, connack_properties())).prop_map(
        |(session_present, reason_code, properties)| Connack {
            session_present: session_present && !reason_code.is_error(),
            reason_code,
            properties,
        },
    )
}

fn connack_properties() -> impl Strategy<Value = ConnackProperties> {
    let maximum_qos = prop_oneof![Just(MaximumQos::AtMostOnce), Just(MaximumQos::AtLeastOnce)];
    let numbers = (
        of(any::<u32>()),
        of(any::<NonZeroU16>()),
        of(any::<NonZeroU32>()),
    );
    let more_numbers = (of(maximum_qos), of(any::<u16>()), of(any::<u16>()));
    let available = proptest::array::uniform4(of(any::<bool>()));
    let strings = proptest::array::uniform4(of(utf8_string()));
    (
        numbers,
        more_numbers,
        available,
        strings,
        of(binary_data()),
        problem(),
    )
        .prop_map(
            |(numbers, more, available, strings, authentication_data, problem)| {
                let [assigned, response_information, server_reference, method] = strings;
                ConnackProperties {
                    session_expiry_interval: numbers.0,
                    receive_maximum: numbers.1,
                    maximum_qos: more.0,
                    retain_available: available[0],
                    maximum_packet_size: numbers.2,
                    assigned_client_identifier: assigned,
                    topic_alias_maximum: more.1,
                    wildcard_subscription_available: available[1],
                    subscription_identifiers_available: available[2],
                    shared_subscription_available: available[3],
                    server_keep_alive_seconds: more.2,
                    response_information,
                    server_reference,
                    authentication_method: method,
                    authentication_data,
                    problem,
                }
            },
        )
}

fn publish(version: ProtocolVersion) -> impl Strategy<Value = Publish> {
    let alias = of((1..=u16::MAX).prop_map(|alias| TopicAlias::new(alias).unwrap()));
    let identifiers = vec(subscription_identifier(), 0..3);
    let own = (in_v5(version, alias), in_v5(version, identifiers));
    let sent = (packet_id(), any::<bool>(), any::<bool>());
    (message(version), own, sent).prop_map(move |(message, own, (packet_id, dup, is_nameless))| {
        let (topic_alias, subscription_identifiers) = own;
        let delivery = match message.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { packet_id, dup },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup },
        };
        Publish {
            delivery,
            retain: message.retain,
            topic: Some(message.topic).filter(|_| !is_nameless || topic_alias.is_none()),
            topic_alias,
            subscription_identifiers,
            properties: message.properties,
            payload: message.payload,
        }
    })
}

fn acknowledgement(
    version: ProtocolVersion,
    packet: PacketType,
) -> impl Strategy<Value = Acknowledgement> {
    (
        packet_id(),
        reason_code_of(version, packet),
        in_v5(version, problem()),
    )
        .prop_map(|(packet_id, reason_code, problem)| Acknowledgement {
            packet_id,
            reason_code,
            problem,
        })
}

fn subscription_options(version: ProtocolVersion) -> impl Strategy<Value = SubscriptionOptions> {
    let retain_handling = prop_oneof![
        Just(RetainHandling::Send),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend),
    ];
    let flags = (any::<bool>(), any::<bool>(), retain_handling);
    (qos(), in_v5(version, flags)).prop_map(|(qos, flags)| {
        let (no_local, retain_as_published, retain_handling) = flags;
        SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        }
    })
}

fn subscribe(version: ProtocolVersion) -> impl Strategy<Value = Subscribe> {
    let subscription =
        (topic_filter(), subscription_options(version)).prop_map(|(filter, mut options)| {
            options.no_local &= filter.share_name().is_none();
            Subscription { filter, options }
        });
    let own = in_v5(version, (of(subscription_identifier()), user_properties()));
    (packet_id(), vec(subscription, 1..4), own).prop_map(|(packet_id, subscriptions, own)| {
        let (subscription_identifier, user_properties) = own;
        Subscribe {
            packet_id,
            subscriptions,
            subscription_identifier,
            user_properties,
        }
    })
}

fn suback(version: ProtocolVersion) -> impl Strategy<Value = Suback> {
    let codes = vec(reason_code_of(version, PacketType::Suback), 1..4);
    (packet_id(), codes, in_v5(version, problem())).prop_map(
        |(packet_id, reason_codes, problem)| Suback {
            packet_id,
            reason_codes,
            problem,
        },
    )
}

fn unsubscribe(version: ProtocolVersion) -> impl Strategy<Value = Unsubscribe> {
    let own = in_v5(version, user_properties());
    (packet_id(), vec(topic_filter(), 1..4), own).prop_map(
        |(packet_id, filters, user_properties)| Unsubscribe {
            packet_id,
            filters,
            user_properties,
        },
    )
}

fn unsuback(version: ProtocolVersion) -> impl Strategy<Value = Unsuback> {
    let codes = in_v5(version, vec(reason_code(PacketType::Unsuback), 1..4));
    (packet_id(), codes, in_v5(version, problem())).prop_map(
        |(packet_id, reason_codes, problem)| Unsuback {
            packet_id,
            reason_codes,
            problem,
        },
    )
}

fn disconnect(version: ProtocolVersion) -> impl Strategy<Value = Disconnect> {
    let own = in_v5(version, (of(any::<u32>()), of(utf8_string()), problem()));
    (reason_code_of(version, PacketType::Disconnect), own).prop_map(|(reason_code, own)| {
        let (session_expiry_interval, server_reference, problem) = own;
        Disconnect {
            reason_code,
            session_expiry_interval,
            server_reference,
            problem,
        }
    })
}

fn auth() -> impl Strategy<Value = Auth> {
    let filled = (
        reason_code(PacketType::Auth),
        utf8_string(),
        of(binary_data()),
        problem(),
    );
    let filled = filled.prop_map(|(reason_code, method, authentication_data, problem)| Auth {
        reason_code,
        authentication_method: Some(method),
        authentication_data,
        problem,
    });
    prop_oneof![9 => filled, 1 => Just(Auth::default())]
}
