//! The MQTT broker: the asynchronous shell around the state machine of `mqtt` and the log of
//! `storage`.
//!
//! ```text
//!  socket ── driver ── client ──> router ──> store (append)
//!              ^                    │  ^        │ commit is durable
//!              │   subscribers,     │  └────────┘
//!              └── PUBACK ──────────┘
//! ```
//!
//! A message is appended to the log that takes its topic name, and acknowledged and delivered when
//! its commit is durable ([`Durability`]). Messages that no log takes go to the subscribers of the
//! moment. Everything runs on one thread: a task for each connection, one for each listener and one
//! that follows the store.
//!
//! Invariants:
//! - A PUBACK with success leaves after the message is on flash, unless its log says otherwise, and
//!   after those of all earlier messages of its client.
//! - What is delivered and retained of logged messages of QoS 1 and 2 is durable, and comes in the order of
//!   the log: by commit, log, partition, offset.
//! - A message is never half taken: logged but not delivered, delivered but not retained.
//! - Nothing grows without a bound, and nobody waits for a client that does not read.
//!
//! - A session that outlives its connection is a place in the log and a little beside it; while its
//!   client is away it costs nothing. Who does not take what comes gets it from the log.
//! - Of a message of QoS 2, what must be known to pass it on once is durable before the other side
//!   hears of it.
//!
//! Not here: configuration files, command line, metrics' names. This version serves TCP.

mod accept_rate;
mod ahead;
mod attaching;
mod authorizer;
mod broker;
mod budget;
mod catch_up;
mod causes;
mod client;
mod commits;
mod connect;
mod connection;
mod delivery;
mod driver;
mod found_wills;
mod gathering;
mod group;
mod group_delivery;
mod group_record;
mod groups;
mod held;
mod kept_wills;
mod listener;
mod log_limit;
mod log_reading;
mod log_routing;
mod mailboxes;
mod missing;
mod options;
mod outbound;
#[cfg(test)]
mod outbound_search;
mod packed_bindings;
mod pending;
mod place;
mod probe;
mod publication;
mod publish;
mod rare;
mod received;
mod record_key;
mod refusal;
mod replay;
mod replay_from;
mod replay_keeping;
mod replay_record;
mod replay_start;
mod replay_subscribe;
mod replays;
mod retained;
mod retained_delivery;
mod route;
mod router;
mod scan;
mod session;
mod session_keeping;
mod session_record;
mod sharing;
mod signal;
mod subscribe;
mod subscriptions;
mod sys_load;
mod sys_topics;
#[cfg(test)]
mod trial;
mod will;
mod will_record;
mod wishes;

pub use authorizer::{AllowAll, Authentication, Authorizer, Client, ConnectAttempt, Identity};
pub use broker::{Broker, RunError, StartError};
pub use causes::{
    DropCause, DropCounters, EndCause, EndCounters, Limit, LimitCounters, RefusalCause,
    RefusalCounters,
};
pub use log_routing::{Durability, LogRoute, LogRouting, LogTarget, StoredLog, Unmapped};
pub use options::{BrokerOptions, CLIENT_ID_BYTES_MAX, Limits, ListenerOptions};
pub use probe::{Counter, Counters, Gauge, ListenerCounters, ListenerStatus, Probe, Status};
pub use record_key::{KeyPart, KeyTemplate};
pub use sharing::{SharePolicies, SharePolicy};
