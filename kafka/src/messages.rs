//! The requests of this client and their responses, one file per request type: the versions that
//! are spoken and why, the layouts, and plain types in front of the wire structures.
//!
//! Versions reach down to what Apache Kafka 2.5 and its imitators still speak where nothing is lost
//! by it, and up to the last version that adds something this client uses; Apache Kafka 3.9 and 4.x
//! speak all the upper ends. References for all files: <https://kafka.apache.org/protocol> and the
//! KIPs named there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};

use crate::api::{Api, VersionRange};
use crate::connection::MessageError;
use crate::error::ResponseError;
use crate::error_code::ErrorCode;
use crate::layout::{Layout, header_tags_bytes};

pub(crate) mod api_versions;
pub mod create_topics;
pub mod describe_producers;
pub mod fetch;
pub mod init_producer_id;
#[cfg(test)]
mod layout_tests;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;

/// A request of this client and the response to it.
pub(crate) trait Message {
    const API: Api;
    /// The versions that this client speaks.
    const VERSIONS: VersionRange;
    const RESPONSE: &'static Layout;
    type Wire: Request;
    type Response;

    fn to_wire(&self, version: i16) -> Self::Wire;

    fn from_wire(wire: <Self::Wire as Request>::Response) -> Result<Self::Response, MessageError>;

    /// Reads what follows the correlation id of a response.
    fn decode(mut bytes: Bytes, version: i16) -> Result<Self::Response, MessageError> {
        if <Self::Wire as Request>::Response::header_version(version) > 0 {
            let tags = header_tags_bytes(&bytes)?;
            bytes.advance(tags);
        }
        Self::from_wire(decode_checked(Self::RESPONSE, bytes, version)?)
    }
}

/// Decodes a message whose layout has been walked first.
pub(crate) fn decode_checked<D: Decodable>(
    layout: &Layout,
    mut bytes: Bytes,
    version: i16,
) -> Result<D, ResponseError> {
    layout.check(&bytes, version)?;
    D::decode(&mut bytes, version).map_err(|error| ResponseError::Decode(format!("{error:#}")))
}

/// A broker's refusal of one partition or topic of a request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}{}", message.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct Refusal {
    /// The reason.
    pub code: ErrorCode,
    /// What the broker adds to it, if anything.
    pub message: Option<String>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
        }
    }
}

/// Identity of a topic: a topic that is deleted and created again under its name has another one
/// ([KIP-516]).
///
/// [KIP-516]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-516%3A+Topic+Identifiers
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// `None` for the id of all zeroes, which stands for no id.
    pub(crate) fn from_wire(id: uuid::Uuid) -> Option<Self> {
        (!id.is_nil()).then(|| Self(id.into_bytes()))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

/// The throttle time that stands in every response: how long the broker would like this client to
/// be quiet. The broker has already delayed nothing: since KIP-219 it is the client's turn to wait.
pub(crate) fn throttle(throttle_time_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0))
}

/// A duration as the milliseconds of a request.
pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A number that is -1 when there is none.
pub(crate) fn unless_negative<T: PartialOrd + From<i8>>(number: T) -> Option<T> {
    (number >= T::from(0)).then_some(number)
}

pub(crate) fn text(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Requests group partitions by topic; this client's types name the topic at each partition.
/// Topics come in the order of their names, partitions in the order given.
pub(crate) fn by_topic<'a, P, W>(
    partitions: &'a [P],
    topic: impl Fn(&'a P) -> &'a Arc<str>,
    to_wire: impl Fn(&'a P) -> W,
) -> impl Iterator<Item = (TopicName, Vec<W>)> {
    let mut topics: BTreeMap<&str, Vec<W>> = BTreeMap::new();
    for partition in partitions {
        topics
            .entry(topic(partition))
            .or_default()
            .push(to_wire(partition));
    }
    topics
        .into_iter()
        .map(|(name, partitions)| (topic_name(name), partitions))
}
