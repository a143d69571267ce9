//! Closed sets of causes, each with a counter: why publishes are refused, messages dropped, connections
//! ended, and which limits counted.

use crate::probe::Counter;

/// Makes a closed set of causes and a counter for each.
macro_rules! counted_causes {
    (
        $(#[$doc:meta])* $cause:ident,
        $(#[$counters_doc:meta])* $counters:ident:
        $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $cause {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $cause {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// One word for it, for labels of metrics.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }

        $(#[$counters_doc])*
        #[derive(Debug, Default)]
        pub struct $counters([Counter; $counters::COUNT]);

        impl $counters {
            const COUNT: usize = [$($cause::$variant),+].len();

            /// How often this was the cause since the broker was started.
            pub fn get(&self, cause: $cause) -> u64 {
                self.0.get(cause as usize).map_or(0, Counter::get)
            }

            pub(crate) fn add(&self, cause: $cause, count: u64) {
                if let Some(counter) = self.0.get(cause as usize) {
                    counter.add(count);
                }
            }
        }
    };
}

counted_causes! {
    /// Why a publish was refused: it was not logged, not delivered and not acknowledged.
    RefusalCause,
    /// Refused publishes by cause.
    RefusalCounters:
    /// Its connection ended before the store could take it.
    ConnectionEnded = "connection_ended",
    /// There is no store: the broker is degraded.
    Degraded = "degraded",
    /// The disk is full.
    DiskFull = "disk_full",
    /// Its log is full and may not forget anything.
    LogFull = "log_full",
    /// The client has no permission.
    NotAuthorized = "not_authorized",
    /// The budget for retained messages is spent.
    RetainedFull = "retained_full",
    /// The store has failed or is closed.
    StoreFailed = "store_failed",
    /// The client has left too many messages of QoS 2 without releasing them.
    Unreleased = "unreleased",
    /// No record can be so large, or the log is not there.
    Unstorable = "unstorable",
    /// The topic name is the broker's own, or has too many levels.
    TopicName = "topic_name",
}

counted_causes! {
    /// Why a message did not reach a subscriber, or a message of QoS 0 its log.
    DropCause,
    /// Dropped messages by cause.
    DropCounters:
    /// QoS 0: its log takes nothing because there is no store. Subscribers had it.
    Degraded = "degraded",
    /// QoS 0: its log takes nothing because the disk is full. Subscribers had it.
    DiskFull = "disk_full",
    /// QoS 0: its log is full and may not forget anything. Subscribers had it.
    LogFull = "log_full",
    /// It expired.
    Expired = "expired",
    /// The subscriber reads too slowly: QoS 0 that is skipped, or the QoS 1 for which it was
    /// disconnected.
    MailboxFull = "mailbox_full",
    /// Larger than the subscriber's Maximum Packet Size.
    PacketTooLarge = "packet_too_large",
    /// Retention took it before it could be sent again.
    Retention = "retention",
}

counted_causes! {
    /// Why a connection ended.
    EndCause,
    /// Ended connections by cause.
    EndCounters:
    /// The client said good-bye.
    Client = "client",
    /// No CONNECT in time.
    ConnectTimeout = "connect_timeout",
    /// The transport ended without a good-bye.
    EndOfStream = "end_of_stream",
    /// The client sent what is no packet, or a packet that it may not send.
    Invalid = "invalid",
    /// Nothing came for one and a half times the keep alive.
    KeepAliveTimeout = "keep_alive_timeout",
    /// CONNECT was refused.
    Refused = "refused",
    /// A publish was refused that its client cannot be told about in another way.
    RefusedPublish = "refused_publish",
    /// The broker shuts down, or its store has failed.
    Shutdown = "shutdown",
    /// It was too slow a subscriber.
    SlowSubscriber = "slow_subscriber",
    /// Publishes were suspended for too long.
    Suspended = "suspended",
    /// Another connection came with its client identifier.
    TakenOver = "taken_over",
}

counted_causes! {
    /// A limit of the configuration, under its key there.
    Limit,
    /// How often each limit counted.
    LimitCounters:
    /// New connections waited because more came in a second.
    AcceptRateMax = "accept_rate_max",
    /// A subscriber got less than its own mailbox holds because much waited for all together: it is read
    /// for from the log, or a message of QoS 0 was dropped, or its connection ended.
    AllMailboxesBytesMax = "all_mailboxes_bytes_max",
    /// A publish waited because too much was on its way to flash.
    CommitQueueBytesMax = "commit_queue_bytes_max",
    /// A connection ended without a CONNECT.
    ConnectTimeout = "connect_timeout",
    /// A connection was closed at once.
    ConnectionsMax = "connections_max",
    /// Messages waited because a client had not acknowledged so many.
    InflightMax = "inflight_max",
    /// A client was told a shorter keep alive than it asked for.
    KeepAliveMax = "keep_alive_max",
    /// A subscriber's mailbox was full.
    MailboxBytesMax = "mailbox_bytes_max",
    /// A connection ended because of a larger packet.
    PacketBytesMax = "packet_bytes_max",
    /// A connection of MQTT 5 ended because of more unacknowledged publishes.
    ReceiveMaximum = "receive_maximum",
    /// A retained message was refused because of their bytes.
    RetainedBytesMax = "retained_bytes_max",
    /// A retained message was refused because of their number.
    RetainedCountMax = "retained_count_max",
    /// A session will live for less time than its client asked for.
    SessionExpiryMax = "session_expiry_max",
    /// A CONNECT was refused.
    SessionsMax = "sessions_max",
    /// A subscription was refused.
    SubscriptionsPerClientMax = "subscriptions_per_client_max",
    /// A publish or a subscription was refused.
    TopicLevelsMax = "topic_levels_max",
}
