//! Reason codes against a table of our own reading of MQTT 5, 2.4.

use mqtt::{PacketType, ReasonCode};

/// Value, and the packets that carry it: C CONNACK, A PUBACK, R PUBREC, L PUBREL, P PUBCOMP,
/// S SUBACK, U UNSUBACK, D DISCONNECT, X AUTH.
const CODES: [(u8, &str); 43] = [
    (0x00, "CARLPSUDX"),
    (0x01, "S"),
    (0x02, "S"),
    (0x04, "D"),
    (0x10, "AR"),
    (0x11, "U"),
    (0x18, "X"),
    (0x19, "X"),
    (0x80, "CARSUD"),
    (0x81, "CD"),
    (0x82, "CD"),
    (0x83, "CARSUD"),
    (0x84, "C"),
    (0x85, "C"),
    (0x86, "C"),
    (0x87, "CARSUD"),
    (0x88, "C"),
    (0x89, "CD"),
    (0x8a, "C"),
    (0x8b, "D"),
    (0x8c, "CD"),
    (0x8d, "D"),
    (0x8e, "D"),
    (0x8f, "SUD"),
    (0x90, "CARD"),
    (0x91, "ARSU"),
    (0x92, "LP"),
    (0x93, "D"),
    (0x94, "D"),
    (0x95, "CD"),
    (0x96, "D"),
    (0x97, "CARSD"),
    (0x98, "D"),
    (0x99, "CARD"),
    (0x9a, "CD"),
    (0x9b, "CD"),
    (0x9c, "CD"),
    (0x9d, "CD"),
    (0x9e, "SD"),
    (0x9f, "CD"),
    (0xa0, "D"),
    (0xa1, "SD"),
    (0xa2, "SD"),
];

#[test]
fn codes_are_allowed_where_the_standard_allows_them() {
    let packets = [
        ('C', PacketType::Connack),
        ('A', PacketType::Puback),
        ('R', PacketType::Pubrec),
        ('L', PacketType::Pubrel),
        ('P', PacketType::Pubcomp),
        ('S', PacketType::Suback),
        ('U', PacketType::Unsuback),
        ('D', PacketType::Disconnect),
        ('X', PacketType::Auth),
        ('-', PacketType::Connect),
        ('-', PacketType::Publish),
        ('-', PacketType::Subscribe),
        ('-', PacketType::Pingreq),
    ];
    for value in 0..=u8::MAX {
        let expected = CODES.iter().find(|(code, _)| *code == value);
        let code = ReasonCode::from_u8(value);
        assert_eq!(code.is_some(), expected.is_some(), "0x{value:02x}");
        let (Some(code), Some((_, allowed))) = (code, expected) else {
            continue;
        };
        assert_eq!(code as u8, value);
        assert_eq!(code.is_error(), value >= 0x80);
        for (letter, packet) in packets {
            assert_eq!(
                code.allowed_in(packet),
                allowed.contains(letter),
                "{code} in {packet}"
            );
        }
    }
    assert_eq!(ReasonCode::ALL.len(), CODES.len());
}

#[test]
fn a_code_is_shown_with_name_and_value() {
    assert_eq!(
        ReasonCode::QuotaExceeded.to_string(),
        "quota exceeded (0x97)"
    );
}
