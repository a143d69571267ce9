//! What the client's CONNECT asks for.

use std::time::Duration;

use mqtt::server::Options;
use mqtt::{Connect, ProtocolVersion};

#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) version: ProtocolVersion,
    pub(super) is_v31: bool,
    pub(super) packet_bytes_max: usize,
    pub(super) receive_maximum: usize,
    pub(super) window: u16,
    pub(super) alias_maximum: u16,
    pub(super) session_expiry: u32,
    pub(super) has_will: bool,
    pub(super) has_method: bool,
    pub(super) wants_problem_information: bool,
    pub(super) keep_alive: Option<Duration>,
}

impl Terms {
    pub(super) fn new(connect: &Connect, options: &Options) -> Self {
        let properties = &connect.properties;
        let receive_maximum = properties.receive_maximum.map_or(u16::MAX, |max| max.get());
        let aliases = properties.topic_alias_maximum.unwrap_or(0);
        Self {
            version: connect.version,
            is_v31: connect.is_v31,
            packet_bytes_max: properties
                .maximum_packet_size
                .map_or(usize::MAX, |max| max.get() as usize),
            receive_maximum: receive_maximum.into(),
            window: receive_maximum.min(options.inflight_max.get()),
            alias_maximum: aliases.min(options.topic_alias_sent_max),
            session_expiry: properties.session_expiry_interval.unwrap_or(0),
            has_will: connect.will.is_some(),
            has_method: properties.authentication_method.is_some(),
            wants_problem_information: properties.request_problem_information != Some(false),
            keep_alive: keep_alive(connect.keep_alive_seconds),
        }
    }
}

/// One and a half times the interval (MQTT 5, 3.1.2.10).
pub(super) fn keep_alive(seconds: u16) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_millis(u64::from(seconds) * 1_500))
}
