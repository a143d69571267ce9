//! What the bridge is asked to do.

use std::time::Duration;

/// The uplink and its routes.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// Name of the gateway, part of every record's `tg-id`.
    pub gateway_id: String,
    /// `host:port` of brokers to ask for the others, in order of preference.
    pub bootstrap: Vec<String>,
    /// Name in the cluster's logs, metrics and quotas.
    pub client_id: String,
    /// How long the cluster may take to answer.
    pub request_timeout: Duration,
    /// Longest pause between two attempts.
    pub backoff_max: Duration,
    /// Longest time that a position waits for a commit to ride on.
    pub checkpoint_within: Duration,
    /// Largest batch, before it is cut down because the cluster or the link asks for it.
    pub batch_bytes_max: usize,
    /// Most bytes of batches without an answer, all routes together.
    pub in_flight_bytes_max: usize,
    /// What goes where.
    pub routes: Vec<RouteOptions>,
}

/// A log on its way to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOptions {
    /// Its name; the position hangs on it.
    pub name: String,
    /// Name of the log.
    pub log: String,
    /// Name of the topic.
    pub topic: String,
    /// Where it begins when it has no position yet.
    pub start: Start,
}

/// Where a new route begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record that the log has.
    Earliest,
    /// With the next record.
    Now,
}
