//! PUBACK, PUBREC, PUBREL and PUBCOMP as raw bytes.

use mqtt::codec::{EncodeError, InvalidPacket};
use mqtt::{Acknowledgement, Packet, PacketId, PacketType, ReasonCode};

use crate::raw::*;

/// First byte, a failure that the packet carries, and how it is wrapped.
type Kind = (u8, u8, fn(Acknowledgement) -> Packet);

const ACKNOWLEDGEMENTS: [Kind; 4] = [
    (0x40, 0x97, Packet::Puback),
    (0x50, 0x97, Packet::Pubrec),
    (0x62, 0x92, Packet::Pubrel),
    (0x70, 0x92, Packet::Pubcomp),
];

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

#[test]
fn success_is_the_packet_identifier_alone() {
    for (first, _, wrap) in ACKNOWLEDGEMENTS {
        for version in VERSIONS {
            let expected = wrap(Acknowledgement::new(id(0x0102), ReasonCode::Success));
            assert_eq!(decoded(version, &[first, 2, 1, 2]), expected);
        }
    }
}

#[test]
fn mqtt_5_adds_a_code_and_then_properties() {
    for (first, code, wrap) in ACKNOWLEDGEMENTS {
        let reason_code = ReasonCode::from_u8(code).unwrap();
        let mut expected = Acknowledgement::new(id(5), reason_code);
        assert_eq!(decoded(V5, &[first, 3, 0, 5, code]), wrap(expected.clone()));

        expected.problem.reason_string = Some(string("full"));
        let reason_string = [&[0x1f], &text("full")[..]].concat();
        let bytes = packet(first, &[&[0, 5, code], &section(&[&reason_string])]);
        assert_eq!(decoded(V5, &bytes), wrap(expected));
    }
}

#[test]
fn what_may_be_left_out_may_also_be_there() {
    for (first, _, wrap) in ACKNOWLEDGEMENTS {
        let expected = wrap(Acknowledgement::new(id(5), ReasonCode::Success));
        assert_eq!(try_decode(V5, &[first, 3, 0, 5, 0]).unwrap(), expected);
        assert_eq!(try_decode(V5, &[first, 4, 0, 5, 0, 0]).unwrap(), expected);
    }
}

#[test]
fn wrong_lengths_and_identifiers_are_refused() {
    for (first, code, _) in ACKNOWLEDGEMENTS {
        for version in VERSIONS {
            let rule = InvalidPacket::UnexpectedEnd {
                field: "packet identifier",
            };
            assert_refused(version, &[first, 1, 0], rule, ReasonCode::MalformedPacket);
            let rule = InvalidPacket::PacketIdZero;
            assert_refused(version, &[first, 2, 0, 0], rule, ReasonCode::ProtocolError);
        }
        let rule = InvalidPacket::TrailingBytes { bytes: 1 };
        assert_refused(
            V311,
            &[first, 3, 0, 5, 0],
            rule.clone(),
            ReasonCode::MalformedPacket,
        );
        assert_refused(
            V5,
            &[first, 5, 0, 5, code, 0, 0],
            rule,
            ReasonCode::MalformedPacket,
        );
        let rule = InvalidPacket::UnexpectedEnd {
            field: "properties",
        };
        assert_refused(
            V5,
            &[first, 4, 0, 5, code, 1],
            rule,
            ReasonCode::MalformedPacket,
        );
    }
}

#[test]
fn codes_of_other_packets_are_refused() {
    for (first, _, _) in ACKNOWLEDGEMENTS {
        let reason_code = ReasonCode::SessionTakenOver;
        let rule = InvalidPacket::ReasonCodeNotAllowed { reason_code };
        assert_refused(V5, &[first, 3, 0, 5, 0x8e], rule, ReasonCode::ProtocolError);
        let rule = InvalidPacket::ReasonCodeUnknown { value: 0x7f };
        assert_refused(
            V5,
            &[first, 3, 0, 5, 0x7f],
            rule,
            ReasonCode::MalformedPacket,
        );
    }
}

#[test]
fn a_negative_puback_is_never_written_as_a_positive_one_of_3_1_1() {
    let reason_code = ReasonCode::QuotaExceeded;
    let version = V311;
    let refusal = Acknowledgement::new(id(5), reason_code);
    for (packet, name) in [
        (Packet::Puback(refusal.clone()), PacketType::Puback),
        (Packet::Pubrec(refusal), PacketType::Pubrec),
    ] {
        let error = packet
            .encode(version, &mut bytes::BytesMut::new())
            .unwrap_err();
        assert_eq!(
            error,
            EncodeError::ReasonCode {
                packet: name,
                version,
                reason_code
            }
        );
    }
    let unknown = Acknowledgement::new(id(5), ReasonCode::PacketIdentifierNotFound);
    assert_eq!(encoded(V311, &Packet::Pubcomp(unknown)), [0x70, 2, 0, 5]);
}
