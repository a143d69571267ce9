//! What the client's CONNECT says of the rest of the connection.

use std::time::Duration;

use super::DisconnectCause;
use crate::packet::{Connect, PacketType, ProtocolVersion};
use crate::reason_code::ReasonCode;

/// The terms that the client set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) version: ProtocolVersion,
    /// See [`Connect::is_v31`].
    pub(super) is_v31: bool,
    /// One and a half times the keep alive interval (MQTT 5, 3.1.2.10); `None` for no limit.
    pub(super) keep_alive_timeout: Option<Duration>,
    /// Largest packet that the client takes.
    pub(super) packet_bytes_max: usize,
    /// Publications of QoS 1 that the client takes at a time.
    pub(super) receive_maximum: u16,
    /// Highest topic alias that the client takes, 0 for none.
    pub(super) topic_alias_maximum: u16,
    pub(super) session_expiry_interval: u32,
    pub(super) has_will: bool,
    pub(super) has_authentication_method: bool,
    wants_problem_information: bool,
}

impl Client {
    pub(super) fn new(connect: &Connect) -> Self {
        let properties = &connect.properties;
        let packet_bytes_max = properties
            .maximum_packet_size
            .map_or(u32::MAX, |max| max.get());
        Self {
            version: connect.version,
            is_v31: connect.is_v31,
            keep_alive_timeout: keep_alive_timeout(connect.keep_alive_seconds),
            packet_bytes_max: packet_bytes_max as usize,
            receive_maximum: properties
                .receive_maximum
                .map_or(u16::MAX, |maximum| maximum.get()),
            topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            session_expiry_interval: properties.session_expiry_interval.unwrap_or(0),
            has_will: connect.will.is_some(),
            has_authentication_method: properties.authentication_method.is_some(),
            wants_problem_information: properties.request_problem_information.unwrap_or(true),
        }
    }

    /// Whether a packet of this type may have a Reason String and User Properties (MQTT 5,
    /// 3.1.2.11.7): CONNACK and DISCONNECT always may.
    pub(super) fn takes_problem_information(&self, packet: PacketType) -> bool {
        self.wants_problem_information
            || matches!(packet, PacketType::Connack | PacketType::Disconnect)
    }

    /// Whether the client's good-bye takes its will back: any in 3.1.1 (3.14.4), a normal one in
    /// MQTT 5 (3.1.2.5).
    pub(super) fn takes_will_back(&self, cause: &DisconnectCause) -> bool {
        match (cause, self.version) {
            (DisconnectCause::Client(_), ProtocolVersion::V311) => true,
            (DisconnectCause::Client(disconnect), ProtocolVersion::V5) => {
                disconnect.reason_code == ReasonCode::Success
            }
            _ => false,
        }
    }
}

pub(super) fn keep_alive_timeout(seconds: u16) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_millis(1_500 * u64::from(seconds)))
}
