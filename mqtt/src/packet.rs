//! The control packets (MQTT 5, 3; MQTT 3.1.1, 3): one file and one struct for each, for both
//! versions of the protocol.
//!
//! What 3.1.1 has no place for is absent after decoding. Encoding for 3.1.1 leaves it out where
//! that changes nothing (properties of a PUBLISH), and refuses it where it would say something
//! else (a negative PUBACK).

mod acknowledgement;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod identifiers;
mod packet_type;
mod ping;
mod problem_information;
mod publish;
mod suback;
mod subscribe;
mod unsuback;
mod unsubscribe;

use bytes::BytesMut;

use crate::codec::{EncodeError, InvalidPacket, Reader};
use crate::reason_code::ReasonCode;

pub use acknowledgement::Acknowledgement;
pub use auth::Auth;
pub use connack::{Connack, ConnackProperties};
pub use connect::{Connect, ConnectProperties, Will};
pub use disconnect::Disconnect;
pub use identifiers::{PacketId, SUBSCRIPTION_IDENTIFIER_MAX, SubscriptionIdentifier, TopicAlias};
pub use packet_type::{PacketType, ProtocolVersion};
pub use problem_information::ProblemInformation;
pub(crate) use publish::PublishHeader;
pub use publish::{Delivery, Publish};
pub use suback::Suback;
pub use subscribe::{RetainHandling, Subscribe, Subscription, SubscriptionOptions};
pub use unsuback::Unsuback;
pub use unsubscribe::Unsubscribe;

/// Any control packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Client to server: opens the connection.
    Connect(Box<Connect>),
    /// Server to client: answers CONNECT.
    Connack(Box<Connack>),
    /// A message, in either direction.
    Publish(Publish),
    /// Answers a PUBLISH of QoS 1.
    Puback(Acknowledgement),
    /// Answers a PUBLISH of QoS 2.
    Pubrec(Acknowledgement),
    /// Answers PUBREC.
    Pubrel(Acknowledgement),
    /// Answers PUBREL.
    Pubcomp(Acknowledgement),
    /// Client to server: asks for messages.
    Subscribe(Subscribe),
    /// Server to client: answers SUBSCRIBE.
    Suback(Suback),
    /// Client to server: asks for no more messages.
    Unsubscribe(Unsubscribe),
    /// Server to client: answers UNSUBSCRIBE.
    Unsuback(Unsuback),
    /// Client to server: is there anybody?
    Pingreq,
    /// Server to client: yes.
    Pingresp,
    /// Ends the connection; in 3.1.1 from the client only.
    Disconnect(Disconnect),
    /// A step of an enhanced authentication; MQTT 5 only.
    Auth(Auth),
}

impl Packet {
    /// The type of the packet.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet to `out`. A CONNECT is encoded in its own version.
    ///
    /// [`Publish::encode_header`] leaves the payload to be sent from where it is.
    ///
    /// # Errors
    /// Nothing is written when the packet cannot be said in this version or is too long.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) -> Result<(), EncodeError> {
        let packet = self.packet_type();
        match self {
            Self::Connect(connect) => connect.encode(out),
            Self::Connack(connack) => connack.encode(version, out),
            Self::Publish(publish) => publish.encode(version, out),
            Self::Puback(acknowledgement)
            | Self::Pubrec(acknowledgement)
            | Self::Pubrel(acknowledgement)
            | Self::Pubcomp(acknowledgement) => acknowledgement.encode(packet, version, out),
            Self::Subscribe(subscribe) => subscribe.encode(version, out),
            Self::Suback(suback) => suback.encode(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Self::Unsuback(unsuback) => unsuback.encode(version, out),
            Self::Pingreq | Self::Pingresp => ping::encode(packet, out),
            Self::Disconnect(disconnect) => disconnect.encode(version, out),
            Self::Auth(auth) => auth.encode(version, out),
        }
    }

    /// Leaves out what is only for people to read, as a server does for a client that does not want
    /// it or has no room for it.
    pub(crate) fn drop_problem_information(&mut self) {
        let problem = match self {
            Self::Connack(connack) => &mut connack.properties.problem,
            Self::Puback(acknowledgement)
            | Self::Pubrec(acknowledgement)
            | Self::Pubrel(acknowledgement)
            | Self::Pubcomp(acknowledgement) => &mut acknowledgement.problem,
            Self::Suback(suback) => &mut suback.problem,
            Self::Unsuback(unsuback) => &mut unsuback.problem,
            Self::Disconnect(disconnect) => &mut disconnect.problem,
            Self::Auth(auth) => &mut auth.problem,
            Self::Connect(_)
            | Self::Publish(_)
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Pingreq
            | Self::Pingresp => return,
        };
        *problem = ProblemInformation::default();
    }
}

/// Reads a reason code that the packet may carry.
fn read_reason_code(
    reader: &mut Reader<'_>,
    packet: PacketType,
) -> Result<ReasonCode, InvalidPacket> {
    let value = reader.u8("reason code")?;
    let reason_code =
        ReasonCode::from_u8(value).ok_or(InvalidPacket::ReasonCodeUnknown { value })?;
    if !reason_code.allowed_in(packet) {
        return Err(InvalidPacket::ReasonCodeNotAllowed { reason_code });
    }
    Ok(reason_code)
}

/// Refuses to write a reason code that the packet may not carry.
fn check_reason_code(
    reason_code: ReasonCode,
    packet: PacketType,
    version: ProtocolVersion,
) -> Result<(), EncodeError> {
    if reason_code.allowed_in(packet) {
        Ok(())
    } else {
        Err(EncodeError::ReasonCode {
            packet,
            version,
            reason_code,
        })
    }
}
