//! MQTT 3.1.1 and 5 without I/O: packets, their codec, topic names and filters, and the state
//! machine of one connection as the server sees it.
//!
//! Nothing in this crate opens a socket, starts a task or asks for the time. Bytes and the time of
//! their arrival are arguments, so everything runs the same in a test, in a simulation and behind
//! any transport.
//!
//! # Layout
//!
//! - The control packets ([`Packet`] and what it holds) stand at the root: one struct for each, for
//!   both versions of the protocol; the version is an argument of encoding and decoding.
//! - [`codec`] turns bytes into packets and back. It is strict, and a refusal names the packet, the
//!   rule and the reason code.
//! - [`topic`] has topic names and topic filters as two types; a filter
//!   [matches](TopicFilter::matches) a name.
//! - [`server::Connection`] is the state machine: handshake, keep alive, flow control in both
//!   directions, order of acknowledgements, topic aliases. It serves QoS 0, 1 and 2; what of QoS 2
//!   outlives a connection is told to the driver as it happens, and given to the next one.
//!
//! Sections of the standards are cited by number; without a version, MQTT 5 and 3.1.1 agree.
//!
//! # Memory
//!
//! Decoded payloads and topic names of a PUBLISH are slices of the read buffer, so a message that
//! is passed on costs no copy. What is kept for long should be [detached](Message::detach), or its
//! whole read buffer is kept with it.
//!
//! # A run loop
//!
//! A driver for a blocking transport; an asynchronous one differs only in how it waits.
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use bytes::{Buf, BytesMut};
//! use mqtt::ReasonCode;
//! use mqtt::server::{Accept, Connection, Event, Options};
//!
//! /// Serves one client: accepts whoever comes, and every message without keeping it.
//! fn serve(mut stream: impl Read + Write, clock: impl Fn() -> Instant) -> io::Result<()> {
//!     let mut connection = Connection::new(Arc::new(Options::default()), clock());
//!     let mut input = BytesMut::new();
//!     loop {
//!         // 1. What the client did, until nothing is left to learn from the read buffer.
//!         loop {
//!             connection.handle_bytes(clock(), &mut input);
//!             let mut came = false;
//!             while let Some(event) = connection.poll_event() {
//!                 came = true;
//!                 answer(&mut connection, clock(), event);
//!             }
//!             if !came {
//!                 break;
//!             }
//!         }
//!         // 2. What the client is to get.
//!         while connection.transmit_buffer().has_remaining() {
//!             let written = stream.write(connection.transmit_buffer().chunk())?;
//!             connection.transmit_buffer().advance(written);
//!             connection.handle_transmitted(clock());
//!         }
//!         // 3. The end.
//!         if connection.is_closed() {
//!             return Ok(());
//!         }
//!         // 4. Time. With a blocking stream it passes only between two reads.
//!         if connection.poll_timeout().is_some_and(|deadline| deadline <= clock()) {
//!             connection.handle_timeout(clock());
//!         }
//!         // 5. More input.
//!         if connection.wants_read() {
//!             let mut chunk = [0; 4096];
//!             match stream.read(&mut chunk)? {
//!                 0 => connection.handle_end_of_stream(),
//!                 len => input.extend_from_slice(&chunk[..len]),
//!             }
//!         }
//!     }
//! }
//!
//! fn answer(connection: &mut Connection, now: Instant, event: Event) {
//!     let answered = match event {
//!         Event::Connect(_) => return connection.accept(now, Accept::default()).unwrap_or(()),
//!         Event::Publish { ticket: Some(ticket), .. } => {
//!             connection.complete_publish(now, ticket, ReasonCode::Success)
//!         }
//!         // QoS 2 is not served by default, so no identifier is known.
//!         Event::Release { ticket, .. } => {
//!             connection.complete_release(now, ticket, ReasonCode::PacketIdentifierNotFound)
//!         }
//!         Event::Subscribe { ticket, subscriptions, .. } => {
//!             let refused = vec![ReasonCode::NotAuthorized; subscriptions.len()];
//!             connection.complete_subscribe(now, ticket, refused)
//!         }
//!         Event::Unsubscribe { ticket, filters, .. } => {
//!             let codes = vec![ReasonCode::NoSubscriptionExisted; filters.len()];
//!             connection.complete_unsubscribe(now, ticket, codes)
//!         }
//!         _ => Ok(()),
//!     };
//!     answered.expect("every ticket is completed once, with a code that fits");
//! }
//! ```

mod binary_data;
pub mod codec;
mod message;
mod packet;
mod property;
mod qos;
mod reason_code;
pub mod server;
pub mod topic;
mod utf8_string;

pub use binary_data::{BinaryData, BinaryDataTooLong};
pub use message::{Message, MessageProperties, PayloadFormat};
pub use packet::{
    Acknowledgement, Auth, Connack, ConnackProperties, Connect, ConnectProperties, Delivery,
    Disconnect, Packet, PacketId, PacketType, ProblemInformation, ProtocolVersion, Publish,
    RetainHandling, SUBSCRIPTION_IDENTIFIER_MAX, Suback, Subscribe, Subscription,
    SubscriptionIdentifier, SubscriptionOptions, TopicAlias, Unsuback, Unsubscribe, Will,
};
pub use property::{Bearer, PropertyId, UserProperty};
pub use qos::{MaximumQos, QoS};
pub use reason_code::ReasonCode;
pub use topic::{TOPIC_LEVELS_MAX, TopicFilter, TopicFilterError, TopicName, TopicNameError};
pub use utf8_string::{FIELD_BYTES_MAX, Utf8String, Utf8StringError};
