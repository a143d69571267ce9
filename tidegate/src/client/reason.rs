//! What a broker's codes say, in words. MQTT 5 has one table for all packets, which `mqtt` has;
//! 3.1.1 has codes for CONNACK and one for a refused subscription.

use mqtt::{QoS, ReasonCode};
use rumqttc::v5::mqttbytes::QoS as QosV5;
use rumqttc::v5::mqttbytes::v5 as packets;
use rumqttc::{ConnectReturnCode, SubscribeReasonCode};

/// The return code of a 3.1.1 CONNACK (MQTT 3.1.1, 3.2.2.3).
pub(super) fn connack_v311(code: ConnectReturnCode) -> String {
    let text = match code {
        ConnectReturnCode::Success => "accepted",
        ConnectReturnCode::RefusedProtocolVersion => "unacceptable protocol version",
        ConnectReturnCode::BadClientId => "client identifier rejected",
        ConnectReturnCode::ServiceUnavailable => "server unavailable",
        ConnectReturnCode::BadUserNamePassword => "bad user name or password",
        ConnectReturnCode::NotAuthorized => "not authorized",
    };
    format!("{text} (return code {})", code as u8)
}

/// The reason code of a CONNACK; its reader passes no others on.
pub(super) fn connack(code: packets::ConnectReturnCode) -> ReasonCode {
    use packets::ConnectReturnCode as Code;
    match code {
        Code::Success => ReasonCode::Success,
        // The next three are of 3.1.1, and `UnspecifiedError` is what MQTT 5 would say.
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
            ReasonCode::UnsupportedProtocolVersion
        }
        Code::BadClientId | Code::ClientIdentifierNotValid => ReasonCode::ClientIdentifierNotValid,
        Code::ServiceUnavailable | Code::ServerUnavailable => ReasonCode::ServerUnavailable,
        Code::UnspecifiedError => ReasonCode::UnspecifiedError,
        Code::MalformedPacket => ReasonCode::MalformedPacket,
        Code::ProtocolError => ReasonCode::ProtocolError,
        Code::ImplementationSpecificError => ReasonCode::ImplementationSpecificError,
        Code::BadUserNamePassword => ReasonCode::BadUserNameOrPassword,
        Code::NotAuthorized => ReasonCode::NotAuthorized,
        Code::ServerBusy => ReasonCode::ServerBusy,
        Code::Banned => ReasonCode::Banned,
        Code::BadAuthenticationMethod => ReasonCode::BadAuthenticationMethod,
        Code::TopicNameInvalid => ReasonCode::TopicNameInvalid,
        Code::PacketTooLarge => ReasonCode::PacketTooLarge,
        Code::QuotaExceeded => ReasonCode::QuotaExceeded,
        Code::PayloadFormatInvalid => ReasonCode::PayloadFormatInvalid,
        Code::RetainNotSupported => ReasonCode::RetainNotSupported,
        Code::QoSNotSupported => ReasonCode::QosNotSupported,
        Code::UseAnotherServer => ReasonCode::UseAnotherServer,
        Code::ServerMoved => ReasonCode::ServerMoved,
        Code::ConnectionRateExceeded => ReasonCode::ConnectionRateExceeded,
    }
}

/// The reason code of a PUBACK.
pub(super) fn puback(reason: packets::PubAckReason) -> ReasonCode {
    use packets::PubAckReason as Reason;
    match reason {
        Reason::Success => ReasonCode::Success,
        Reason::NoMatchingSubscribers => ReasonCode::NoMatchingSubscribers,
        Reason::UnspecifiedError => ReasonCode::UnspecifiedError,
        Reason::ImplementationSpecificError => ReasonCode::ImplementationSpecificError,
        Reason::NotAuthorized => ReasonCode::NotAuthorized,
        Reason::TopicNameInvalid => ReasonCode::TopicNameInvalid,
        Reason::PacketIdentifierInUse => ReasonCode::PacketIdentifierInUse,
        Reason::QuotaExceeded => ReasonCode::QuotaExceeded,
        Reason::PayloadFormatInvalid => ReasonCode::PayloadFormatInvalid,
    }
}

/// The reason code of a PUBREC: the same list as a PUBACK's.
pub(super) fn pubrec(reason: packets::PubRecReason) -> ReasonCode {
    use packets::{PubAckReason, PubRecReason as Reason};
    puback(match reason {
        Reason::Success => PubAckReason::Success,
        Reason::NoMatchingSubscribers => PubAckReason::NoMatchingSubscribers,
        Reason::UnspecifiedError => PubAckReason::UnspecifiedError,
        Reason::ImplementationSpecificError => PubAckReason::ImplementationSpecificError,
        Reason::NotAuthorized => PubAckReason::NotAuthorized,
        Reason::TopicNameInvalid => PubAckReason::TopicNameInvalid,
        Reason::PacketIdentifierInUse => PubAckReason::PacketIdentifierInUse,
        Reason::QuotaExceeded => PubAckReason::QuotaExceeded,
        Reason::PayloadFormatInvalid => PubAckReason::PayloadFormatInvalid,
    })
}

/// What a 3.1.1 SUBACK says of one filter.
pub(super) fn granted_v311(code: SubscribeReasonCode) -> Result<QoS, String> {
    match code {
        SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce) => Ok(QoS::AtMostOnce),
        SubscribeReasonCode::Success(rumqttc::QoS::AtLeastOnce) => Ok(QoS::AtLeastOnce),
        SubscribeReasonCode::Success(rumqttc::QoS::ExactlyOnce) => Ok(QoS::ExactlyOnce),
        SubscribeReasonCode::Failure => Err(String::from("no reason given (return code 0x80)")),
    }
}

/// What a SUBACK says of one filter.
pub(super) fn granted(reason: packets::SubscribeReasonCode) -> Result<QoS, String> {
    use packets::SubscribeReasonCode as Reason;
    let code = match reason {
        Reason::Success(QosV5::AtMostOnce) => return Ok(QoS::AtMostOnce),
        Reason::Success(QosV5::AtLeastOnce) => return Ok(QoS::AtLeastOnce),
        Reason::Success(QosV5::ExactlyOnce) => return Ok(QoS::ExactlyOnce),
        Reason::Failure | Reason::Unspecified => ReasonCode::UnspecifiedError,
        Reason::ImplementationSpecific => ReasonCode::ImplementationSpecificError,
        Reason::NotAuthorized => ReasonCode::NotAuthorized,
        Reason::TopicFilterInvalid => ReasonCode::TopicFilterInvalid,
        Reason::PkidInUse => ReasonCode::PacketIdentifierInUse,
        Reason::QuotaExceeded => ReasonCode::QuotaExceeded,
        Reason::SharedSubscriptionsNotSupported => ReasonCode::SharedSubscriptionsNotSupported,
        Reason::SubscriptionIdNotSupported => ReasonCode::SubscriptionIdentifiersNotSupported,
        Reason::WildcardSubscriptionsNotSupported => ReasonCode::WildcardSubscriptionsNotSupported,
    };
    Err(code.to_string())
}

/// The reason code of a server's DISCONNECT.
pub(super) fn disconnect(reason: packets::DisconnectReasonCode) -> ReasonCode {
    // The values are the standard's.
    ReasonCode::from_u8(reason as u8).unwrap_or(ReasonCode::UnspecifiedError)
}

/// A code, and what the broker adds to it in its own words.
pub(super) fn with_text(code: ReasonCode, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{code}: {text}"),
        None => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_with_their_number() {
        let code = ConnectReturnCode::BadUserNamePassword;
        assert_eq!(
            connack_v311(code),
            "bad user name or password (return code 4)"
        );
        let code = disconnect(packets::DisconnectReasonCode::ServerShuttingDown);
        assert_eq!(code.to_string(), "server shutting down (0x8b)");
        let reason = packets::SubscribeReasonCode::NotAuthorized;
        assert_eq!(granted(reason), Err(String::from("not authorized (0x87)")));
        let code = puback(packets::PubAckReason::QuotaExceeded);
        assert_eq!(
            with_text(code, Some("the disk is full")),
            "quota exceeded (0x97): the disk is full"
        );
    }
}
