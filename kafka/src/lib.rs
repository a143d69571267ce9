//! A thin client for Kafka's wire protocol, and a model of the broker's append rules.
//!
//! For: one [`Connection`] to one broker with pipelined requests, typed requests and responses
//! ([`messages`]), error codes with remedies. Producer id, epoch and sequence are whatever the
//! caller puts into its record batches. Not for: clusters, retries, batching, consumer groups,
//! transactions; TLS and SASL have their place in the transport and are not there yet.
//!
//! [`model`] is a broker of one node in memory that judges record batches as Apache Kafka does,
//! with faults on demand: the demonstration's upstream and every test's.
//!
//! The message codecs are `kafka-protocol`'s; received bytes are proved to have the layout of their
//! message before those codecs see them.

mod api;
mod connection;
mod error;
mod error_code;
mod frame;
mod layout;
pub mod messages;
pub mod model;
mod transport;

pub use api::{Api, VersionRange};
pub use connection::{Connection, ConnectionOptions, Pending};
pub use error::{CallError, ConnectError, Lost, ResponseError};
pub use error_code::ErrorCode;
pub use frame::{EncodeError, Traffic};
pub use layout::LayoutError;
pub use transport::{TransportError, TransportOptions};
