//! What the broker counts, for metrics and status; read from any thread, without a lock.
//!
//! Every number is written by the I/O thread alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mqtt::ProtocolVersion;

use crate::causes::{DropCounters, EndCounters, LimitCounters, RefusalCounters};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count since the broker was started.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: u64) {
        // One thread writes, so nothing comes between.
        self.0.store(self.get() + count, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// Replaces a part of the sum.
    pub(crate) fn replace(&self, old: usize, new: usize) {
        let sum = self.get().saturating_sub(old as u64) + new as u64;
        self.0.store(sum, Ordering::Relaxed);
    }
}

/// Counters of one listener.
#[derive(Debug)]
pub struct ListenerCounters {
    /// Its address, with the port that it really has.
    pub address: SocketAddr,
    /// Connections now.
    pub connections: Gauge,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were closed at once because there were too many.
    pub refused: Counter,
    /// Connections that could not be accepted, for want of files for example.
    pub accept_errors: Counter,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Counters {
    /// In the order of the options.
    pub listeners: Vec<ListenerCounters>,
    /// Bytes read from clients.
    pub bytes_received: Counter,
    /// Bytes written to clients.
    pub bytes_sent: Counter,
    /// Packets of all types from clients.
    pub packets_received: Counter,
    /// Packets of all types to clients.
    pub packets_sent: Counter,
    /// Clients of MQTT 3.1 now; their sessions are among those of 3.1.1.
    pub sessions_v31: Gauge,
    /// Sessions of MQTT 3.1.1 and 3.1 now.
    pub sessions_v311: Gauge,
    /// Sessions of MQTT 5 now.
    pub sessions_v5: Gauge,
    /// Sessions now whose clients are not connected.
    pub sessions_offline: Gauge,
    /// Sessions now whose clients get from the log what they did not take when it came.
    pub sessions_behind: Gauge,
    /// Replays now that have not come to the live messages.
    pub replays: Gauge,
    /// Groups of shared subscribers.
    pub groups: Gauge,
    /// Those of them that get from the log what no member had room for when it came.
    pub groups_behind: Gauge,
    /// Subscriptions of connected clients now.
    pub subscriptions: Gauge,
    /// Retained messages now, with those on their way to flash.
    pub retained_messages: Gauge,
    /// Their bytes: topic names, payloads and properties.
    pub retained_bytes: Gauge,
    /// Publishes now that wait for a commit.
    pub pending_publishes: Gauge,
    /// Publishes now that were read and that the store does not take for now.
    pub held_publishes: Gauge,
    /// Messages of QoS 1 now that wait for a slow subscriber.
    pub queued_messages: Gauge,
    /// Their bytes as packets.
    pub queued_bytes: Gauge,
    /// Messages from clients, wills included: QoS 0.
    pub received_qos0: Counter,
    /// Messages from clients, wills included: QoS 1.
    pub received_qos1: Counter,
    /// Messages from clients, wills included: QoS 2, without those that came again.
    pub received_qos2: Counter,
    /// Messages that got an offset in a log.
    pub published: Counter,
    /// Messages that went to subscribers only.
    pub live_only: Counter,
    /// Messages that were refused.
    pub refused: RefusalCounters,
    /// Messages that were handed to subscribers: QoS 0.
    pub delivered_qos0: Counter,
    /// Messages that were handed to subscribers: QoS 1.
    pub delivered_qos1: Counter,
    /// Messages that were handed to subscribers: QoS 2.
    pub delivered_qos2: Counter,
    /// Messages that were dropped.
    pub dropped: DropCounters,
    /// How often a session passed commits that the log has no more, and that may have held messages
    /// for it.
    pub missing_reports: Counter,
    /// How often reading for sessions that are behind paused because publishes waited, or an uplink
    /// read from flash.
    pub catch_up_pauses: Counter,
    /// What waits for all clients together, with what their sockets have not taken yet.
    pub mailboxes_bytes: Gauge,
    /// How often a mailbox was given back, to be read again, because others needed the room.
    pub mailboxes_given_back: Counter,
    /// Wills that took the publish path.
    pub wills: Counter,
    /// Wills of sessions that outlive their connections, which are on flash.
    pub wills_kept: Gauge,
    /// Their bytes: messages, client identifiers, and what they cost beside these.
    pub wills_kept_bytes: Gauge,
    /// Connections that ended.
    pub ended: EndCounters,
    /// How often each limit counted.
    pub limits: LimitCounters,
}

impl Counters {
    pub(crate) fn new(addresses: &[SocketAddr]) -> Self {
        let listener = |address: &SocketAddr| ListenerCounters {
            address: *address,
            connections: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            accept_errors: Counter::default(),
        };
        Self {
            listeners: addresses.iter().map(listener).collect(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            packets_received: Counter::default(),
            packets_sent: Counter::default(),
            sessions_v31: Gauge::default(),
            sessions_v311: Gauge::default(),
            sessions_v5: Gauge::default(),
            sessions_offline: Gauge::default(),
            sessions_behind: Gauge::default(),
            replays: Gauge::default(),
            groups: Gauge::default(),
            groups_behind: Gauge::default(),
            subscriptions: Gauge::default(),
            retained_messages: Gauge::default(),
            retained_bytes: Gauge::default(),
            pending_publishes: Gauge::default(),
            held_publishes: Gauge::default(),
            queued_messages: Gauge::default(),
            queued_bytes: Gauge::default(),
            received_qos0: Counter::default(),
            received_qos1: Counter::default(),
            received_qos2: Counter::default(),
            published: Counter::default(),
            live_only: Counter::default(),
            refused: RefusalCounters::default(),
            delivered_qos0: Counter::default(),
            delivered_qos1: Counter::default(),
            delivered_qos2: Counter::default(),
            dropped: DropCounters::default(),
            missing_reports: Counter::default(),
            catch_up_pauses: Counter::default(),
            mailboxes_bytes: Gauge::default(),
            mailboxes_given_back: Counter::default(),
            wills: Counter::default(),
            wills_kept: Gauge::default(),
            wills_kept_bytes: Gauge::default(),
            ended: EndCounters::default(),
            limits: LimitCounters::default(),
        }
    }

    /// Sessions that speak this version.
    pub fn sessions(&self, version: ProtocolVersion) -> &Gauge {
        match version {
            ProtocolVersion::V311 => &self.sessions_v311,
            ProtocolVersion::V5 => &self.sessions_v5,
        }
    }
}

/// The way to the counters. Cheap to clone, for any thread.
#[derive(Clone, Debug)]
pub struct Probe {
    counters: Arc<Counters>,
}

/// How things stand, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// In the order of the options.
    pub listeners: Vec<ListenerStatus>,
    /// Connections, with those that have not yet sent CONNECT.
    pub connections: u64,
    /// Sessions of MQTT 3.1.1 and 3.1.
    pub sessions_v311: u64,
    /// Sessions of MQTT 5.
    pub sessions_v5: u64,
    /// Sessions whose clients are not connected.
    pub sessions_offline: u64,
    /// Sessions whose clients get from the log what they did not take when it came.
    pub sessions_behind: u64,
    /// Subscriptions of connected clients.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Publishes that wait for a commit.
    pub pending_publishes: u64,
    /// Publishes that were read and that the store does not take for now.
    pub held_publishes: u64,
    /// Messages of QoS 1 that wait for a slow subscriber.
    pub queued_messages: u64,
    /// Their bytes as packets.
    pub queued_bytes: u64,
}

/// How a listener stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its address, with the port that it really has.
    pub address: SocketAddr,
    /// Connections now.
    pub connections: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were closed at once because there were too many.
    pub refused: u64,
}

impl Probe {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self { counters }
    }

    /// Every number, as it is now.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A snapshot for people.
    pub fn status(&self) -> Status {
        let counters = self.counters();
        let listener = |of: &ListenerCounters| ListenerStatus {
            address: of.address,
            connections: of.connections.get(),
            accepted: of.accepted.get(),
            refused: of.refused.get(),
        };
        let listeners: Vec<_> = counters.listeners.iter().map(listener).collect();
        Status {
            connections: listeners.iter().map(|listener| listener.connections).sum(),
            listeners,
            sessions_v311: counters.sessions_v311.get(),
            sessions_v5: counters.sessions_v5.get(),
            sessions_offline: counters.sessions_offline.get(),
            sessions_behind: counters.sessions_behind.get(),
            subscriptions: counters.subscriptions.get(),
            retained_messages: counters.retained_messages.get(),
            retained_bytes: counters.retained_bytes.get(),
            pending_publishes: counters.pending_publishes.get(),
            held_publishes: counters.held_publishes.get(),
            queued_messages: counters.queued_messages.get(),
            queued_bytes: counters.queued_bytes.get(),
        }
    }
}
