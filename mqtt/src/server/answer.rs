//! What the driver answers a client with.

use thiserror::Error;

use super::InflightEntry;
use crate::packet::{PacketType, ProblemInformation};
use crate::reason_code::ReasonCode;
use crate::utf8_string::Utf8String;

/// A reason code, and what there is to read about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// The code.
    pub code: ReasonCode,
    /// The Reason String. Left out where the client does not want it or has no room for it, and
    /// in MQTT 3.1.1.
    pub string: Option<Utf8String>,
}

impl From<ReasonCode> for Reason {
    fn from(code: ReasonCode) -> Self {
        Self { code, string: None }
    }
}

impl From<Reason> for ProblemInformation {
    fn from(reason: Reason) -> Self {
        Self {
            reason_string: reason.string,
            user_properties: Vec::new(),
        }
    }
}

/// What CONNACK says of an accepted connection, as far as the driver decides it. The rest (Maximum
/// QoS, Receive Maximum, Maximum Packet Size, Topic Alias Maximum) comes from
/// [`Options`](super::Options). To a 3.1.1 client only Session Present is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// Whether an earlier session goes on.
    pub session_present: bool,
    /// Deliveries of that session that were not over when its last connection ended, in the order
    /// in which they were sent. Their packet identifiers are in use from now on. Each is to be
    /// [resent](super::Connection::resend), [forgotten](super::Connection::forget) or
    /// [released](super::Connection::release), as its state says; new messages of QoS 1 and 2 wait
    /// until the first two are done. Empty without Session Present, because a client that begins
    /// anew knows nothing of them. The driver keeps a copy for the case that this connection has
    /// ended meanwhile.
    pub inflight: Vec<InflightEntry>,
    /// Seconds that the session lives on, where that is not what the client asked for.
    pub session_expiry_interval: Option<u32>,
    /// The identifier that was chosen for a client that had none.
    pub assigned_client_identifier: Option<Utf8String>,
    /// Keep alive in seconds instead of the client's; 0 for none. Only MQTT 5 clients can be told,
    /// so it holds for these only.
    pub server_keep_alive_seconds: Option<u16>,
    /// Whether filters may have wildcards. Default yes.
    pub wildcard_subscription_available: bool,
    /// Whether subscriptions may be shared. Default yes.
    pub shared_subscription_available: bool,
    /// Basis of response topics, for a client that asked for it.
    pub response_information: Option<Utf8String>,
    /// What there is to read about it.
    pub problem: ProblemInformation,
}

impl Default for Accept {
    fn default() -> Self {
        Self {
            session_present: false,
            inflight: Vec::new(),
            session_expiry_interval: None,
            assigned_client_identifier: None,
            server_keep_alive_seconds: None,
            wildcard_subscription_available: true,
            shared_subscription_available: true,
            response_information: None,
            problem: ProblemInformation::default(),
        }
    }
}

/// A connection could not be accepted or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The client asked for an enhanced authentication, which is not served: refuse it with
    /// [`ReasonCode::BadAuthenticationMethod`].
    #[error(
        "accept of a CONNECT with authentication method: enhanced authentication is not served"
    )]
    EnhancedAuthentication,
    /// No CONNECT came, or it was answered, or the connection has ended.
    #[error("answer to CONNECT: none is awaited")]
    NotAwaited,
}

/// A PUBLISH, PUBREL, SUBSCRIBE or UNSUBSCRIBE could not be answered as the driver wants. Nothing
/// was sent and the ticket stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// Not one reason code for each filter.
    #[error("{packet} with {codes} reason codes for {filters} filters")]
    Count {
        /// SUBACK or UNSUBACK.
        packet: PacketType,
        /// How many there are.
        codes: usize,
        /// How many there should be.
        filters: usize,
    },
    /// MQTT 3.1.1 has no negative PUBACK and PUBREC. [Suspend](super::Connection::suspend) the
    /// ticket.
    #[error("{packet} with {reason_code} to a 3.1.1 client, which has no negative {packet}")]
    Negative {
        /// PUBACK or PUBREC.
        packet: PacketType,
        /// The code.
        reason_code: ReasonCode,
    },
    /// The packet does not carry this code.
    #[error("{packet} does not carry the reason code {reason_code}")]
    ReasonCode {
        /// The packet.
        packet: PacketType,
        /// The code.
        reason_code: ReasonCode,
    },
    /// The ticket is not of this connection, or was completed before.
    #[error("{packet} for a ticket that is not open")]
    UnknownTicket {
        /// The packet.
        packet: PacketType,
    },
}
