//! Names of journal entries.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a journal entry is about. The numbers are stored: they are never changed or used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum JournalKind {
    /// The data folder: incarnation and hardware fingerprint. Owner: `crate::identity`.
    Identity = 1,
    /// An era, by its number. Owner: `crate::clock`.
    Era = 2,
    /// A span, by its number. Owner: `crate::identity`.
    Span = 3,
    /// A log's name and partitions, by its id. Owner: `crate::logs`.
    Log = 4,
    /// Records lost and accounted for, by a number of their own. Owner: `crate::gap`.
    Gap = 5,
    /// The position and producer ids of a route in a partition. Owner: the bridge.
    BridgeStream = 6,
    /// A route's frozen mapping. Owner: the bridge.
    BridgeRoute = 7,
    /// A session that outlives its connection, by its client. Cold. Owner: the broker.
    Session = 8,
    /// A QoS 2 message that was taken and not yet released by its publisher. Owner: the broker.
    Received = 9,
    /// What the flash took on a day, by the day. Owner: `crate::flash`.
    Flash = 10,
    /// QoS 2 messages on their way to a client, by the client. Owner: the broker.
    Delivery = 11,
    /// How far the sessions that are attached have come. Owner: the broker.
    Checkpoint = 12,
    /// What the home of the cold entries holds. Owner: `crate::cold`.
    ColdHome = 13,
    /// How far a group of shared subscribers has come, by its filter. Cold. Owner: the broker.
    Group = 14,
    /// The will of a session that outlives its connection, by its client. Cold. Owner: the broker.
    Will = 15,
}

impl JournalKind {
    /// Every kind that is cold: of which there may be many entries that hardly ever change, so that
    /// they do not stay in the journal. See `crate::cold`.
    pub(crate) const COLD: [Self; 3] = [Self::Session, Self::Group, Self::Will];
}

/// Name of a journal entry: its kind and what tells it from others of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JournalKey(Vec<u8>);

impl JournalKey {
    /// The entry of `kind` called `rest`.
    pub fn new(kind: JournalKind, rest: &[u8]) -> Self {
        Self([&[kind as u8], rest].concat())
    }

    /// Whether it is an entry of `kind`.
    pub fn is(&self, kind: JournalKind) -> bool {
        self.0.first() == Some(&(kind as u8))
    }

    /// What follows the kind.
    pub fn rest(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }

    /// The key that is stored as `bytes`.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its kind as it is stored.
    pub(crate) fn kind(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    /// Whether it is an entry of a cold kind.
    pub(crate) fn is_cold(&self) -> bool {
        JournalKind::COLD.into_iter().any(|kind| self.is(kind))
    }

    /// The key before every one of `kind`, for range look-ups.
    pub(crate) fn first_of(kind: JournalKind) -> Self {
        Self(vec![kind as u8])
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for JournalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.0.first().copied().unwrap_or(0);
        write!(f, "kind {kind} `{}`", self.rest().escape_ascii())
    }
}
