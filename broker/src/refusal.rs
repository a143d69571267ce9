//! How a client learns that its publish was refused (`rules.md` 1.6).
//!
//! | | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | QoS 1, the store or the retained budget is full, or there is no store | PUBACK 0x97 in its place | held and tried again, see [`held`](crate::held) |
//! | QoS 1, never possible | PUBACK with the code | the connection is closed |
//! | QoS 0, topic name that nobody may publish to | DISCONNECT with the code | the connection is closed |
//! | QoS 0, all other causes | dropped and counted | dropped and counted |
//!
//! What was refused is counted by its cause; it is never acknowledged as if it had been taken.

use mqtt::server::Reason;
use mqtt::{ReasonCode, Utf8String};

use crate::causes::RefusalCause;

impl RefusalCause {
    /// Whether the same publish may be taken later.
    pub(crate) fn is_for_now(self) -> bool {
        matches!(
            self,
            Self::Degraded | Self::DiskFull | Self::LogFull | Self::RetainedFull
        )
    }

    /// Whether the connection of a client ends that publishes such a thing with QoS 0.
    pub(crate) fn ends_connection(self) -> bool {
        matches!(self, Self::TopicName)
    }

    /// What an MQTT 5 client is told.
    pub(crate) fn reason(self) -> Reason {
        let (code, text) = match self {
            Self::Degraded => (
                ReasonCode::QuotaExceeded,
                "the server's store has failed; only QoS 0 is served",
            ),
            Self::DiskFull => (ReasonCode::QuotaExceeded, "the disk is full"),
            Self::LogFull => (ReasonCode::QuotaExceeded, "the log of this topic is full"),
            Self::NotAuthorized => (ReasonCode::NotAuthorized, "no permission to publish this"),
            Self::RetainedFull => (
                ReasonCode::QuotaExceeded,
                "the budget for retained messages is spent",
            ),
            Self::TopicName => (
                ReasonCode::TopicNameInvalid,
                "the topic name is the server's own, retained and reserved, or has too many levels",
            ),
            Self::Unreleased => (
                ReasonCode::QuotaExceeded,
                "too many messages of QoS 2 were not released",
            ),
            Self::Unstorable => (
                ReasonCode::ImplementationSpecificError,
                "the message cannot be stored",
            ),
            Self::ConnectionEnded | Self::StoreFailed => {
                (ReasonCode::UnspecifiedError, "the server cannot store it")
            }
        };
        Reason {
            code,
            string: Utf8String::try_from(text).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mqtt::PacketType;

    use super::*;

    #[test]
    fn every_cause_has_a_code_that_its_packets_may_carry() {
        for cause in RefusalCause::ALL {
            let reason = cause.reason();
            assert!(reason.code.is_error() && reason.code.allowed_in(PacketType::Puback));
            assert!(!cause.ends_connection() || reason.code.allowed_in(PacketType::Disconnect));
            assert!(reason.string.is_some());
        }
    }
}
