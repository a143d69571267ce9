//! The types of single values, one file each: how each is written in the file, what is refused
//! and why, and how it is printed so that it reads back equal.
//!
//! Invariants: a value that exists is valid; parsing never panics, never looks anything up and
//! allocates no more than a small multiple of its input; for every type here
//! `parse(print(value)) == value`.

mod bind;
mod byte_count;
mod bytes_per_day;
mod durability;
mod duration;
mod gateway_id;
mod host_port;
mod kafka_client_id;
mod kafka_topic;
mod key_template;
mod log_name;
mod name;
mod on_full;
mod route_name;
mod share_name;

pub(crate) use bind::parse_bind;
pub use byte_count::ByteCount;
pub use bytes_per_day::BytesPerDay;
pub use durability::Durability;
pub use duration::{format_duration, parse_duration};
pub use gateway_id::GatewayId;
pub use host_port::HostPort;
pub use kafka_client_id::KafkaClientId;
pub use kafka_topic::KafkaTopic;
pub use key_template::{KeyPart, KeyTemplate};
pub use log_name::LogName;
pub use on_full::OnFull;
pub use route_name::RouteName;
pub use share_name::ShareName;

/// Why a value was refused, in words for the owner of the file. What would be allowed is not
/// repeated here: the key that the value stands at says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
