//! A model of a Kafka broker: the rules by which a partition's leader judges and appends record
//! batches ([`partition`], no I/O), and one broker that serves them over a real socket with faults
//! on demand ([`ModelHandle`]).
//!
//! For: property tests, exhaustive searches, fault tests, the demonstration's upstream. Not for:
//! keeping anything (all is in memory), replication, consumer groups, transactions, compression.
//!
//! It was compared answer by answer with Apache Kafka; `tests/tests/differential` repeats that against
//! any broker. Where the two disagree, the broker is right.

mod batch_check;
mod faults;
mod leader_epochs;
mod node;
pub mod partition;
mod producers;
mod requests;
mod server;

pub use faults::ProduceFault;
pub use node::{Counters, ModelOptions, UnknownTopic};
pub use producers::{Producer, WindowBatch};
pub use server::ModelHandle;
