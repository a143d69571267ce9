//! What a connection is served with: every limit of the state machine, in one place.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::codec::Limits;
use crate::qos::QoS;

/// Limits and offers, the same for every connection of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What is decoded at most. The packet size is told to MQTT 5 clients.
    pub limits: Limits,
    /// How long a connection may last without a CONNECT. Default 10 s.
    pub connect_timeout: Duration,
    /// Publications of QoS 1 and 2 that may be on their way. An MQTT 5 client is told, and is
    /// disconnected when it has sent more that were answered neither with PUBACK nor PUBCOMP nor a
    /// PUBREC that says no. For a 3.1.1 client, which does not know the bound, reading stops while
    /// as many wait for what is ours to give, PUBACK or PUBREC. Packet identifiers that wait for
    /// its PUBREL do not stop it, because that PUBREL would never be read. Default 64.
    pub receive_maximum: NonZeroU16,
    /// Highest QoS in both directions. Default QoS 1.
    pub maximum_qos: QoS,
    /// Highest topic alias that a client may use, 0 for none. Each in use costs its topic name.
    /// Default 0.
    pub topic_alias_maximum: u16,
    /// Most topic aliases that are set for a client, where it does not take fewer; 0 for none. Each
    /// in use costs its topic name. Default 0.
    pub topic_alias_sent_max: u16,
    /// Publications of QoS 1 and 2 to the client that may be on their way, where its Receive
    /// Maximum is not smaller. Default 64.
    pub inflight_max: NonZeroU16,
    /// Most messages of QoS 1 that wait for a place in that window. Default 1,000.
    pub queue_messages_max: usize,
    /// Most bytes of them, counted as encoded packets. One message is always taken. Default
    /// 1,048,576.
    pub queue_bytes_max: usize,
    /// No message is added to the transmit buffer that would make it longer than this many bytes,
    /// unless it is empty. Default 262,144.
    pub transmit_bytes_max: usize,
    /// While publications are suspended, reading stops at this many unacknowledged ones. Default
    /// 16.
    pub suspended_publishes_max: usize,
    /// While publications are suspended, reading stops at this many bytes of unacknowledged
    /// messages (payload and topic name). Default 65,536.
    pub suspended_bytes_max: usize,
    /// How long reading may stand still for one of these two bounds. Default 30 s.
    pub suspended_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        const SIXTY_FOUR: NonZeroU16 = NonZeroU16::MIN.saturating_add(63);
        Self {
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            receive_maximum: SIXTY_FOUR,
            maximum_qos: QoS::AtLeastOnce,
            topic_alias_maximum: 0,
            topic_alias_sent_max: 0,
            inflight_max: SIXTY_FOUR,
            queue_messages_max: 1_000,
            queue_bytes_max: 1_048_576,
            transmit_bytes_max: 262_144,
            suspended_publishes_max: 16,
            suspended_bytes_max: 65_536,
            suspended_timeout: Duration::from_secs(30),
        }
    }
}
