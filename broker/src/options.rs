//! What the broker is started with: listeners, where messages go, and every limit in one place.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use mqtt::server::Options as MachineOptions;
use mqtt::{QoS, TOPIC_LEVELS_MAX, codec};

use crate::log_routing::LogRouting;
use crate::sharing::SharePolicies;

/// Longest client identifier in bytes; a longer one is refused. It goes into every record of the
/// client, and the standard asks for no more than 23 bytes (3.1.3.1).
pub const CLIENT_ID_BYTES_MAX: usize = 1_024;

/// How much of a subscriber's mailbox may lie in the transmit buffer at most, in bytes.
const TRANSMIT_BYTES_MAX: usize = 262_144;

/// Bytes of the mailbox for which one message may wait: what a message costs beyond its packet
/// must not make the mailbox many times larger than it says.
const MAILBOX_BYTES_PER_MESSAGE: usize = 128;
const MAILBOX_MESSAGES_MIN: usize = 64;

/// Bytes of filters that go with each subscription that a client may have: many long filters must
/// not cost more than the number of subscriptions says. There is always room for the longest one.
const FILTER_BYTES_PER_SUBSCRIPTION: usize = 256;
const FILTER_BYTES_MIN: usize = 65_535;

/// How a broker is to work.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Where clients connect.
    pub listeners: Vec<ListenerOptions>,
    /// Which log takes which message.
    pub routing: LogRouting,
    /// What clients may take.
    pub limits: Limits,
    /// How long a shutdown waits for messages that are on their way to flash. Default 5 s.
    pub shutdown_timeout: Duration,
    /// How long a client may take at least to come back after a restart of the broker before the will of
    /// its session is published. Default 60 s.
    pub will_return_time: Duration,
    /// How often the `$SYS` topics are published; `None` for not at all. Default none.
    pub sys_interval: Option<Duration>,
    /// How messages are spread over shared subscribers. Default: one after the other.
    pub share_policies: SharePolicies,
}

impl BrokerOptions {
    /// Options with every limit at its default.
    pub fn new(listeners: Vec<ListenerOptions>, routing: LogRouting) -> Self {
        Self {
            listeners,
            routing,
            limits: Limits::default(),
            shutdown_timeout: Duration::from_secs(5),
            will_return_time: Duration::from_secs(60),
            sys_interval: None,
            share_policies: SharePolicies::default(),
        }
    }
}

/// An address at which clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Address and port; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Whether clients that do not say who they are may come in although the network can reach
    /// the address. On a loopback address they always may.
    pub allow_anonymous: bool,
    /// Connections at one time; further ones are closed at once.
    pub connections_max: usize,
}

impl ListenerOptions {
    /// A listener with room for 1,000 connections, for anonymous clients only where the network
    /// cannot reach it.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            allow_anonymous: false,
            connections_max: 1_000,
        }
    }
}

/// What clients may take. The defaults are those of `docs/configuration.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet from a client in bytes; a larger one ends the connection. Default 262,144.
    pub packet_bytes_max: u32,
    /// Publishes of QoS 1 that one client may have unacknowledged. Default 64.
    pub receive_maximum: NonZeroU16,
    /// Messages of QoS 1 sent to one client before it acknowledges one, where the client's own
    /// Receive Maximum is not smaller. Default 64.
    pub inflight_max: NonZeroU16,
    /// Bytes of packets that wait for one slow subscriber. Default 1,048,576.
    pub mailbox_bytes_max: usize,
    /// Bytes that wait for all subscribers together; each may have 4 KiB, or one message, beyond them.
    /// Default 33,554,432.
    pub all_mailboxes_bytes_max: usize,
    /// Bytes of messages that wait for a commit of others before they are delivered: the same
    /// number as the store's `queue_bytes_max`, which bounds those that wait for their own.
    /// Default 8,388,608.
    pub commit_queue_bytes_max: usize,
    /// Bytes of all retained messages: payloads, topic names and properties. Default 16,777,216.
    pub retained_bytes_max: usize,
    /// Number of retained messages. Default 10,000.
    pub retained_count_max: usize,
    /// Subscriptions of one client, whose filters are of 256 bytes each on average at most.
    /// Default 1,000.
    pub subscriptions_per_client_max: usize,
    /// Levels of a topic name or filter; above [`TOPIC_LEVELS_MAX`] that one counts. Default 32.
    pub topic_levels_max: usize,
    /// Connections that one listener accepts in a second; further ones wait. Default 500.
    pub accept_rate_max: NonZeroU32,
    /// Time from the connection to its CONNECT, and once more to the end of an authentication.
    /// Default 10 s.
    pub connect_timeout: Duration,
    /// Longest keep alive in seconds, `None` for no limit. Only MQTT 5 has words for it. Default
    /// none.
    pub keep_alive_seconds_max: Option<NonZeroU16>,
    /// How long a session lives without a connection at most, whatever its client asks for; `None`
    /// for no limit. Default 7 days.
    pub session_expiry_max: Option<Duration>,
    /// Sessions that outlive their connections; further ones are refused. Default 10,000.
    pub sessions_max: usize,
    /// Highest topic alias that a client may use; each in use costs its topic name. Default 16.
    pub topic_alias_maximum: u16,
    /// Most topic aliases that the broker sets for one client, where that does not take fewer; each
    /// in use costs its topic name. Default 16.
    pub topic_alias_sent_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        const SIXTY_FOUR: NonZeroU16 = NonZeroU16::MIN.saturating_add(63);
        const FIVE_HUNDRED: NonZeroU32 = NonZeroU32::MIN.saturating_add(499);
        Self {
            packet_bytes_max: 262_144,
            receive_maximum: SIXTY_FOUR,
            inflight_max: SIXTY_FOUR,
            mailbox_bytes_max: 1_048_576,
            all_mailboxes_bytes_max: 33_554_432,
            commit_queue_bytes_max: 8_388_608,
            retained_bytes_max: 16_777_216,
            retained_count_max: 10_000,
            subscriptions_per_client_max: 1_000,
            topic_levels_max: 32,
            accept_rate_max: FIVE_HUNDRED,
            connect_timeout: Duration::from_secs(10),
            keep_alive_seconds_max: None,
            session_expiry_max: Some(Duration::from_secs(7 * 86_400)),
            sessions_max: 10_000,
            topic_alias_maximum: 16,
            topic_alias_sent_max: 16,
        }
    }
}

impl Limits {
    /// Levels of a topic name or filter that are served.
    pub(crate) fn topic_levels(&self) -> usize {
        self.topic_levels_max.min(TOPIC_LEVELS_MAX)
    }

    /// Bytes of all filters of one client.
    pub(crate) fn filter_bytes_max(&self) -> usize {
        self.subscriptions_per_client_max
            .saturating_mul(FILTER_BYTES_PER_SUBSCRIPTION)
            .max(FILTER_BYTES_MIN)
    }

    /// The limits as the state machine of a connection takes them. A mailbox is its transmit
    /// buffer and its queue together.
    pub(crate) fn machine_options(&self) -> MachineOptions {
        let transmit_bytes_max = (self.mailbox_bytes_max / 4).min(TRANSMIT_BYTES_MAX);
        MachineOptions {
            limits: codec::Limits {
                packet_bytes_max: self.packet_bytes_max,
                ..codec::Limits::default()
            },
            connect_timeout: self.connect_timeout,
            receive_maximum: self.receive_maximum,
            maximum_qos: QoS::ExactlyOnce,
            topic_alias_maximum: self.topic_alias_maximum,
            topic_alias_sent_max: self.topic_alias_sent_max,
            inflight_max: self.inflight_max,
            queue_messages_max: (self.mailbox_bytes_max / MAILBOX_BYTES_PER_MESSAGE)
                .max(MAILBOX_MESSAGES_MIN),
            queue_bytes_max: self.mailbox_bytes_max - transmit_bytes_max,
            transmit_bytes_max,
            ..MachineOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transmit_buffer_and_queue_make_up_the_mailbox() {
        for mailbox_bytes_max in [4_096, 1_048_576, 67_108_864] {
            let limits = Limits {
                mailbox_bytes_max,
                ..Limits::default()
            };
            let options = limits.machine_options();
            assert_eq!(
                options.transmit_bytes_max + options.queue_bytes_max,
                mailbox_bytes_max
            );
            assert!(options.transmit_bytes_max <= TRANSMIT_BYTES_MAX);
        }
    }
}
