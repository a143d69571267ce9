//! What the state machine tells its driver.

use thiserror::Error;

use super::{PublishTicket, ReleaseTicket, SubscribeTicket, UnsubscribeTicket};
use crate::UserProperty;
use crate::codec::DecodeError;
use crate::message::Message;
use crate::packet::{
    Connect, Disconnect, PacketId, PacketType, Subscription, SubscriptionIdentifier, TopicAlias,
};
use crate::qos::QoS;
use crate::reason_code::ReasonCode;
use crate::topic::TopicFilter;

/// Something that the client did, in the order in which it did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The client wants to connect. To be answered with `accept` or `refuse`; nothing more is read
    /// before.
    Connect(Box<Connect>),
    /// The client published a message.
    Publish {
        /// To be completed when the message is safe; `None` for QoS 0, which nothing acknowledges.
        ticket: Option<PublishTicket>,
        /// Names the message until it is acknowledged, with QoS 2 until it is
        /// [released](Event::Release), and across connections of the session; `None` for QoS 0.
        packet_id: Option<PacketId>,
        /// Whether the client says that it may have sent it before. It proves nothing: with QoS 2
        /// only the packet identifier tells whether it has (MQTT 5, 4.3.3).
        dup: bool,
        /// The message. Its topic alias is resolved.
        message: Message,
    },
    /// The client released a packet identifier of QoS 2 (PUBREL): its next PUBLISH is a new message.
    /// Comes for unknown identifiers too, because the machine does not know those of earlier
    /// connections; and only after every earlier PUBLISH with the identifier was answered.
    Release {
        /// To be completed when the release is durable.
        ticket: ReleaseTicket,
        /// The identifier.
        packet_id: PacketId,
    },
    /// The client subscribes.
    Subscribe {
        /// To be completed with one reason code for each subscription.
        ticket: SubscribeTicket,
        /// What to; at least one.
        subscriptions: Vec<Subscription>,
        /// To be given back with each message that one of them matches.
        subscription_identifier: Option<SubscriptionIdentifier>,
        /// Pairs in the client's order.
        user_properties: Vec<UserProperty>,
    },
    /// The client unsubscribes.
    Unsubscribe {
        /// To be completed with one reason code for each filter.
        ticket: UnsubscribeTicket,
        /// What from; at least one.
        filters: Vec<TopicFilter>,
        /// Pairs in the client's order.
        user_properties: Vec<UserProperty>,
    },
    /// The client has a message of QoS 2 (PUBREC). To be [released](super::Connection::release)
    /// when that is durable.
    Received {
        /// The packet in which it was sent.
        packet_id: PacketId,
        /// What the client made of it; no failure.
        reason_code: ReasonCode,
    },
    /// A delivery is over: PUBACK for QoS 1, PUBCOMP or a failed PUBREC for QoS 2. Its packet
    /// identifier is free.
    Acknowledged {
        /// The packet in which it was sent.
        packet_id: PacketId,
        /// What the client made of it.
        reason_code: ReasonCode,
    },
    /// Messages expired while they waited for a place in the window, and were dropped.
    Expired {
        /// How many.
        messages: usize,
    },
    /// The connection has ended. Always the last event, and comes once.
    Disconnected {
        /// Why.
        cause: DisconnectCause,
        /// Whether the client's will is to be published. `false` where there is none.
        publish_will: bool,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DisconnectCause {
    /// The client said good-bye, with what it had to say.
    #[error("client disconnected: {}", _0.reason_code)]
    Client(Disconnect),
    /// No CONNECT within [`Options::connect_timeout`](super::Options::connect_timeout).
    #[error("no CONNECT in time")]
    ConnectTimeout,
    /// The transport ended without DISCONNECT.
    #[error("end of stream without DISCONNECT")]
    EndOfStream,
    /// The client sent bytes that are no packet.
    #[error("invalid packet")]
    Invalid(#[source] DecodeError),
    /// Nothing came for one and a half times the keep alive interval.
    #[error("keep alive timeout")]
    KeepAliveTimeout,
    /// The client sent a packet that it may not send, or not now.
    #[error("protocol violated")]
    Misbehaved(#[source] Misbehaviour),
    /// The driver refused the CONNECT.
    #[error("connection refused: {0}")]
    Refused(ReasonCode),
    /// The driver ended the connection.
    #[error("disconnected by the server: {0}")]
    Server(ReasonCode),
    /// Suspended publications were not completed in time.
    #[error("publications suspended for too long")]
    SuspendedTooLong,
    /// An answer that the client must get is larger than the packets that it takes.
    #[error("{packet} exceeds the client's maximum packet size")]
    Unanswerable {
        /// The answer.
        packet: PacketType,
    },
}

impl DisconnectCause {
    /// The cause as a reason code, for counting and for telling an MQTT 5 client.
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::Client(disconnect) => disconnect.reason_code,
            Self::ConnectTimeout | Self::EndOfStream => ReasonCode::UnspecifiedError,
            Self::Invalid(error) => error.reason_code(),
            Self::KeepAliveTimeout => ReasonCode::KeepAliveTimeout,
            Self::Misbehaved(misbehaviour) => misbehaviour.reason_code(),
            Self::Refused(reason_code) | Self::Server(reason_code) => *reason_code,
            Self::SuspendedTooLong => ReasonCode::QuotaExceeded,
            Self::Unanswerable { .. } => ReasonCode::PacketTooLarge,
        }
    }
}

/// A rule that a client broke with a well-formed packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// AUTH outside an enhanced authentication.
    #[error("AUTH although no enhanced authentication was agreed upon")]
    AuthUnexpected,
    /// An empty client identifier with a session to be kept (MQTT 3.1.1, 3.1.3.1), or at all in
    /// MQTT 3.1.
    #[error(
        "CONNECT with an empty client identifier, which MQTT 3.1.1 allows with clean session only, and \
         MQTT 3.1 never"
    )]
    ClientIdentifierMissing,
    /// PUBACK for a message that was sent with QoS 2 (4.3.3).
    #[error("PUBACK {packet_id} for a message of QoS 2")]
    PubackForQos2 {
        /// Its packet identifier.
        packet_id: PacketId,
    },
    /// PUBCOMP for a message whose PUBREL was not sent (4.3.3).
    #[error("PUBCOMP {packet_id} without PUBREL")]
    PubcompWithoutPubrel {
        /// Its packet identifier.
        packet_id: PacketId,
    },
    /// PUBREC for a message that was sent with QoS 1 (4.3.2).
    #[error("PUBREC {packet_id} for a message of QoS 1")]
    PubrecForQos1 {
        /// Its packet identifier.
        packet_id: PacketId,
    },
    /// A QoS above Maximum QoS.
    #[error("PUBLISH with {qos}, which is not served")]
    QosNotServed {
        /// The level.
        qos: QoS,
    },
    /// More publications on their way than Receive Maximum allows (MQTT 5, 3.3.4).
    #[error("more than {maximum} unacknowledged publications")]
    ReceiveMaximumExceeded {
        /// The limit.
        maximum: u16,
    },
    /// CONNECT after CONNECT (3.1).
    #[error("second CONNECT")]
    SecondConnect,
    /// A session that was to end with the connection cannot be prolonged (MQTT 5, 3.14.2.2.2).
    #[error("DISCONNECT with a session expiry interval although CONNECT had none")]
    SessionExpiryRaised,
    /// A SUBSCRIBE of which something is refused, from a client of MQTT 3.1: its SUBACK has no failure.
    #[error("SUBSCRIBE refused: {reason_code}, for which MQTT 3.1 has no words")]
    SubscriptionRefused {
        /// Why.
        reason_code: ReasonCode,
    },
    /// Only servers send subscription identifiers in a PUBLISH (MQTT 5, 3.3.4).
    #[error("PUBLISH with a subscription identifier from a client")]
    SubscriptionIdentifierFromClient,
    /// A topic alias above Topic Alias Maximum.
    #[error("topic alias {alias}, at most {maximum} is allowed")]
    TopicAliasInvalid {
        /// The alias.
        alias: TopicAlias,
        /// The limit.
        maximum: u16,
    },
    /// A topic alias that nothing was assigned to (MQTT 5, 3.3.4).
    #[error("PUBLISH with a topic alias that stands for nothing")]
    TopicAliasUnknown,
    /// A packet that only servers send.
    #[error("{packet} from a client")]
    UnexpectedPacket {
        /// The packet.
        packet: PacketType,
    },
    /// A will with a QoS above Maximum QoS (MQTT 5, 3.2.2.3.4).
    #[error("CONNECT with a will of {qos}, which is not served")]
    WillQosNotServed {
        /// The level.
        qos: QoS,
    },
}

impl Misbehaviour {
    /// The code that tells an MQTT 5 client.
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::ClientIdentifierMissing => ReasonCode::ClientIdentifierNotValid,
            Self::QosNotServed { .. } | Self::WillQosNotServed { .. } => {
                ReasonCode::QosNotSupported
            }
            Self::SubscriptionRefused { reason_code } => reason_code,
            Self::ReceiveMaximumExceeded { .. } => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAliasInvalid { .. } => ReasonCode::TopicAliasInvalid,
            Self::AuthUnexpected
            | Self::PubackForQos2 { .. }
            | Self::PubcompWithoutPubrel { .. }
            | Self::PubrecForQos1 { .. }
            | Self::SecondConnect
            | Self::SessionExpiryRaised
            | Self::SubscriptionIdentifierFromClient
            | Self::TopicAliasUnknown
            | Self::UnexpectedPacket { .. } => ReasonCode::ProtocolError,
        }
    }
}
