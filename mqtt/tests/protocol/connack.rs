//! CONNACK as raw bytes.

use mqtt::codec::{EncodeError, InvalidPacket};
use mqtt::{Connack, MaximumQos, Packet, PacketType, ReasonCode};

use crate::raw::*;

fn decoded_connack(bytes: &[u8]) -> Connack {
    match decoded(V5, bytes) {
        Packet::Connack(connack) => *connack,
        other => panic!("{other:?}"),
    }
}

#[test]
fn return_codes_of_3_1_1_are_read_and_written() {
    for (code, reason_code) in [
        (0, ReasonCode::Success),
        (1, ReasonCode::UnsupportedProtocolVersion),
        (2, ReasonCode::ClientIdentifierNotValid),
        (3, ReasonCode::ServerUnavailable),
        (4, ReasonCode::BadUserNameOrPassword),
        (5, ReasonCode::NotAuthorized),
    ] {
        let expected = Connack {
            reason_code,
            ..Connack::default()
        };
        assert_eq!(
            decoded(V311, &[0x20, 2, 0, code]),
            Packet::Connack(Box::new(expected))
        );
    }
    let rule = InvalidPacket::ReasonCodeUnknown { value: 6 };
    assert_refused(V311, &[0x20, 2, 0, 6], rule, ReasonCode::MalformedPacket);
}

#[test]
fn a_refusal_that_3_1_1_has_no_return_code_for_is_not_encoded() {
    let reason_code = ReasonCode::QosNotSupported;
    let connack = Packet::Connack(Box::new(Connack {
        reason_code,
        ..Connack::default()
    }));
    let error = connack
        .encode(V311, &mut bytes::BytesMut::new())
        .unwrap_err();
    assert_eq!(
        error,
        EncodeError::ReasonCode {
            packet: PacketType::Connack,
            version: V311,
            reason_code
        },
    );
    assert_eq!(encoded(V5, &connack), [0x20, 3, 0, 0x9b, 0]);
}

#[test]
fn session_present_is_one_bit_and_not_in_a_refusal() {
    for version in VERSIONS {
        let bytes = packet(0x20, &[&[1, 0], no_properties(version)]);
        let expected = Connack {
            session_present: true,
            ..Connack::default()
        };
        assert_eq!(
            decoded(version, &bytes),
            Packet::Connack(Box::new(expected))
        );

        let rule = InvalidPacket::ConnackFlags { flags: 2 };
        let bytes = packet(0x20, &[&[2, 0], no_properties(version)]);
        assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
    }
    let rule = InvalidPacket::SessionPresentInRefusal;
    assert_refused(
        V311,
        &[0x20, 2, 1, 5],
        rule.clone(),
        ReasonCode::ProtocolError,
    );
    assert_refused(V5, &[0x20, 3, 1, 0x87, 0], rule, ReasonCode::ProtocolError);
}

#[test]
fn every_connack_property_is_read() {
    let string = |id: u8, value: &str| [&[id][..], &text(value)].concat();
    let read = decoded_connack(&packet(
        0x20,
        &[
            &[0, 0],
            &section(&[
                &[0x11, 0, 0, 0, 1],
                &[0x21, 0, 2],
                &[0x24, 1],
                &[0x25, 0],
                &[0x27, 0, 0, 0, 3],
                &string(0x12, "id"),
                &[0x22, 0, 4],
                &[0x28, 0],
                &[0x29, 1],
                &[0x2a, 0],
                &[0x13, 0, 5],
                &string(0x1a, "info"),
                &string(0x1c, "server"),
                &string(0x15, "method"),
                &string(0x16, "data"),
                &string(0x1f, "why"),
                &[&[0x26], &text("k")[..], &text("v")].concat(),
            ]),
        ],
    ))
    .properties;
    assert_eq!(read.session_expiry_interval, Some(1));
    assert_eq!(read.receive_maximum.unwrap().get(), 2);
    assert_eq!(read.maximum_qos, Some(MaximumQos::AtLeastOnce));
    assert_eq!(read.retain_available, Some(false));
    assert_eq!(read.maximum_packet_size.unwrap().get(), 3);
    assert_eq!(read.assigned_client_identifier.unwrap(), "id");
    assert_eq!(read.topic_alias_maximum, Some(4));
    assert_eq!(read.wildcard_subscription_available, Some(false));
    assert_eq!(read.subscription_identifiers_available, Some(true));
    assert_eq!(read.shared_subscription_available, Some(false));
    assert_eq!(read.server_keep_alive_seconds, Some(5));
    assert_eq!(read.response_information.unwrap(), "info");
    assert_eq!(read.server_reference.unwrap(), "server");
    assert_eq!(read.authentication_method.unwrap(), "method");
    assert_eq!(read.authentication_data.unwrap().as_bytes(), b"data");
    assert_eq!(read.problem.reason_string.unwrap(), "why");
    assert_eq!(read.problem.user_properties.len(), 1);
}

#[test]
fn connack_has_flags_code_and_nothing_after_them() {
    for version in VERSIONS {
        for body in [&[][..], &[0]] {
            let error = try_decode(version, &packet(0x20, &[body])).unwrap_err();
            assert!(
                matches!(error.rule, InvalidPacket::UnexpectedEnd { .. }),
                "{error}"
            );
        }
        let rule = InvalidPacket::TrailingBytes { bytes: 1 };
        let bytes = packet(0x20, &[&[0, 0], no_properties(version), &[0]]);
        assert_refused(version, &bytes, rule, ReasonCode::MalformedPacket);
    }
    let rule = InvalidPacket::UnexpectedEnd {
        field: "property length",
    };
    assert_refused(V5, &[0x20, 2, 0, 0], rule, ReasonCode::MalformedPacket);
}
