//! Reason codes (MQTT 5, 2.4): one table of value, text and the packets that may carry it.
//!
//! Value 0x00 has three names in the standard: Success, Normal disconnection (DISCONNECT) and
//! Granted QoS 0 (SUBACK). It is one variant here, [`ReasonCode::Success`].

use std::fmt;

use crate::packet::PacketType;
use crate::qos::QoS;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, [$($packet:ident),+];)+) => {
        /// Outcome of a request, in the words of MQTT 5. Codes from 0x80 are failures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $value,)+
        }

        impl ReasonCode {
            /// Every code, in the order of their values.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code with this value, `None` when the standard defines none.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The code in words.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// A bit for each packet type that may carry the code.
            const fn packets(self) -> u16 {
                match self {
                    $(Self::$name => 0 $(| 1 << PacketType::$packet as u16)+,)+
                }
            }
        }
    };
}

reason_codes! {
    /// Success; Normal disconnection; Granted QoS 0.
    #[default]
    Success = 0x00, "success",
        [Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth];
    /// The subscription was accepted with at most QoS 1.
    GrantedQos1 = 0x01, "granted QoS 1", [Suback];
    /// The subscription was accepted with at most QoS 2.
    GrantedQos2 = 0x02, "granted QoS 2", [Suback];
    /// The client goes, and wants its will published.
    DisconnectWithWillMessage = 0x04, "disconnect with will message", [Disconnect];
    /// Accepted, but nobody subscribes to the topic.
    NoMatchingSubscribers = 0x10, "no matching subscribers", [Puback, Pubrec];
    /// There was nothing to unsubscribe from.
    NoSubscriptionExisted = 0x11, "no subscription existed", [Unsuback];
    /// The next step of an enhanced authentication.
    ContinueAuthentication = 0x18, "continue authentication", [Auth];
    /// Begin an enhanced authentication anew.
    ReAuthenticate = 0x19, "re-authenticate", [Auth];
    /// Failed, and the sender does not say why.
    UnspecifiedError = 0x80, "unspecified error",
        [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    /// The packet does not follow the standard's format.
    MalformedPacket = 0x81, "malformed packet", [Connack, Disconnect];
    /// The packet is well formed but not allowed, or not allowed now.
    ProtocolError = 0x82, "protocol error", [Connack, Disconnect];
    /// Valid, but this implementation does not accept it.
    ImplementationSpecificError = 0x83, "implementation specific error",
        [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    /// The version of MQTT is not served.
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version", [Connack];
    /// The client identifier is a valid string but not allowed.
    ClientIdentifierNotValid = 0x85, "client identifier not valid", [Connack];
    /// User name or password are not accepted.
    BadUserNameOrPassword = 0x86, "bad user name or password", [Connack];
    /// The client has no permission for this.
    NotAuthorized = 0x87, "not authorized",
        [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    /// The server is not available.
    ServerUnavailable = 0x88, "server unavailable", [Connack];
    /// The server is busy; try again later.
    ServerBusy = 0x89, "server busy", [Connack, Disconnect];
    /// The client was banned by administrative action.
    Banned = 0x8a, "banned", [Connack];
    /// The server goes down.
    ServerShuttingDown = 0x8b, "server shutting down", [Disconnect];
    /// The authentication method is not served or is not the one in use.
    BadAuthenticationMethod = 0x8c, "bad authentication method", [Connack, Disconnect];
    /// No packet came for one and a half times the keep alive interval.
    KeepAliveTimeout = 0x8d, "keep alive timeout", [Disconnect];
    /// Another connection took the session over.
    SessionTakenOver = 0x8e, "session taken over", [Disconnect];
    /// The topic filter is well formed but not accepted.
    TopicFilterInvalid = 0x8f, "topic filter invalid", [Suback, Unsuback, Disconnect];
    /// The topic name is well formed but not accepted.
    TopicNameInvalid = 0x90, "topic name invalid", [Connack, Puback, Pubrec, Disconnect];
    /// The packet identifier is already in use.
    PacketIdentifierInUse = 0x91, "packet identifier in use", [Puback, Pubrec, Suback, Unsuback];
    /// The packet identifier is not in use.
    PacketIdentifierNotFound = 0x92, "packet identifier not found", [Pubrel, Pubcomp];
    /// More unacknowledged publications than Receive Maximum allows.
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded", [Disconnect];
    /// A topic alias of 0 or above Topic Alias Maximum.
    TopicAliasInvalid = 0x94, "topic alias invalid", [Disconnect];
    /// The packet exceeds Maximum Packet Size.
    PacketTooLarge = 0x95, "packet too large", [Connack, Disconnect];
    /// Data arrives faster than the receiver allows.
    MessageRateTooHigh = 0x96, "message rate too high", [Disconnect];
    /// An implementation's or administrator's limit was passed.
    QuotaExceeded = 0x97, "quota exceeded", [Connack, Puback, Pubrec, Suback, Disconnect];
    /// Closed by an administrator.
    AdministrativeAction = 0x98, "administrative action", [Disconnect];
    /// The payload is not in the format that its indicator names.
    PayloadFormatInvalid = 0x99, "payload format invalid",
        [Connack, Puback, Pubrec, Disconnect];
    /// Retained messages are not served.
    RetainNotSupported = 0x9a, "retain not supported", [Connack, Disconnect];
    /// The QoS is above Maximum QoS.
    QosNotSupported = 0x9b, "QoS not supported", [Connack, Disconnect];
    /// Use another server for now.
    UseAnotherServer = 0x9c, "use another server", [Connack, Disconnect];
    /// Use another server from now on.
    ServerMoved = 0x9d, "server moved", [Connack, Disconnect];
    /// Shared subscriptions are not served.
    SharedSubscriptionsNotSupported = 0x9e, "shared subscriptions not supported",
        [Suback, Disconnect];
    /// Connections are made faster than allowed.
    ConnectionRateExceeded = 0x9f, "connection rate exceeded", [Connack, Disconnect];
    /// The connection has lasted as long as it may.
    MaximumConnectTime = 0xa0, "maximum connect time", [Disconnect];
    /// Subscription identifiers are not served.
    SubscriptionIdentifiersNotSupported = 0xa1, "subscription identifiers not supported",
        [Suback, Disconnect];
    /// Subscriptions with wildcards are not served.
    WildcardSubscriptionsNotSupported = 0xa2, "wildcard subscriptions not supported",
        [Suback, Disconnect];
}

impl ReasonCode {
    /// The code of a SUBACK that grants this level.
    pub const fn granted(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::Success,
            QoS::AtLeastOnce => Self::GrantedQos1,
            QoS::ExactlyOnce => Self::GrantedQos2,
        }
    }

    /// Whether the code reports a failure.
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether a packet of this type may carry the code.
    pub const fn allowed_in(self, packet: PacketType) -> bool {
        self.packets() & (1 << packet as u16) != 0
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x})", self.text(), *self as u8)
    }
}
