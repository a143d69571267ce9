//! DISCONNECT and AUTH as raw bytes.

use bytes::BytesMut;
use mqtt::codec::{EncodeError, InvalidPacket};
use mqtt::{Auth, Disconnect, Packet, PacketType, ReasonCode};

use crate::raw::*;

#[test]
fn a_normal_disconnect_is_empty() {
    for version in VERSIONS {
        assert_eq!(
            decoded(version, &[0xe0, 0]),
            Packet::Disconnect(Disconnect::default())
        );
    }
    let rule = InvalidPacket::TrailingBytes { bytes: 1 };
    assert_refused(V311, &[0xe0, 1, 0], rule, ReasonCode::MalformedPacket);
    for longer in [&[0xe0, 1, 0][..], &[0xe0, 2, 0, 0]] {
        assert_eq!(
            try_decode(V5, longer).unwrap(),
            Packet::Disconnect(Disconnect::default())
        );
    }
}

#[test]
fn mqtt_5_adds_a_code_and_then_properties() {
    let mut expected = Disconnect {
        reason_code: ReasonCode::DisconnectWithWillMessage,
        ..Disconnect::default()
    };
    assert_eq!(
        decoded(V5, &[0xe0, 1, 4]),
        Packet::Disconnect(expected.clone())
    );

    expected.session_expiry_interval = Some(60);
    expected.server_reference = Some(string("other"));
    expected.problem.reason_string = Some(string("why"));
    let properties = section(&[
        &[0x11, 0, 0, 0, 60],
        &[&[0x1c], &text("other")[..]].concat(),
        &[&[0x1f], &text("why")[..]].concat(),
    ]);
    let bytes = packet(0xe0, &[&[4], &properties]);
    assert_eq!(decoded(V5, &bytes), Packet::Disconnect(expected));
}

#[test]
fn a_disconnect_with_a_code_of_another_packet_is_refused() {
    let rule = InvalidPacket::ReasonCodeNotAllowed {
        reason_code: ReasonCode::Banned,
    };
    assert_refused(V5, &[0xe0, 1, 0x8a], rule, ReasonCode::ProtocolError);
    let rule = InvalidPacket::ReasonCodeUnknown { value: 3 };
    assert_refused(V5, &[0xe0, 1, 3], rule, ReasonCode::MalformedPacket);
}

#[test]
fn a_disconnect_with_a_reason_is_never_written_as_a_normal_one_of_3_1_1() {
    let reason_code = ReasonCode::SessionTakenOver;
    let packet = Packet::Disconnect(Disconnect {
        reason_code,
        ..Disconnect::default()
    });
    let error = packet.encode(V311, &mut BytesMut::new()).unwrap_err();
    let name = PacketType::Disconnect;
    assert_eq!(
        error,
        EncodeError::ReasonCode {
            packet: name,
            version: V311,
            reason_code
        }
    );
}

#[test]
fn an_auth_names_its_method_or_is_empty() {
    assert_eq!(decoded(V5, &[0xf0, 0]), Packet::Auth(Auth::default()));
    let method = [&[0x15], &text("SCRAM")[..]].concat();
    let data = [&[0x16], &text("x")[..]].concat();
    let bytes = packet(0xf0, &[&[0x18], &section(&[&method, &data])]);
    let Packet::Auth(read) = decoded(V5, &bytes) else {
        panic!()
    };
    assert_eq!(read.reason_code, ReasonCode::ContinueAuthentication);
    assert_eq!(read.authentication_method.unwrap(), "SCRAM");
    assert_eq!(read.authentication_data.unwrap().as_bytes(), b"x");

    let rule = InvalidPacket::AuthenticationMethodMissing;
    for bytes in [
        vec![0xf0, 2, 0x18, 0],
        packet(0xf0, &[&[0], &section(&[&data])]),
    ] {
        assert_refused(V5, &bytes, rule.clone(), ReasonCode::ProtocolError);
    }
    let rule = InvalidPacket::UnexpectedEnd {
        field: "property length",
    };
    assert_refused(V5, &[0xf0, 1, 0x18], rule, ReasonCode::MalformedPacket);
    let rule = InvalidPacket::ReasonCodeNotAllowed {
        reason_code: ReasonCode::NotAuthorized,
    };
    assert_refused(V5, &[0xf0, 2, 0x87, 0], rule, ReasonCode::ProtocolError);
}

#[test]
fn an_auth_without_method_is_not_encoded() {
    let reason_code = ReasonCode::ReAuthenticate;
    let packet = Packet::Auth(Auth {
        reason_code,
        ..Auth::default()
    });
    assert!(matches!(
        packet.encode(V5, &mut BytesMut::new()),
        Err(EncodeError::Empty {
            packet: PacketType::Auth,
            ..
        }),
    ));
    assert!(matches!(
        packet.encode(V311, &mut BytesMut::new()),
        Err(EncodeError::NotInVersion {
            packet: PacketType::Auth,
            ..
        }),
    ));
}
