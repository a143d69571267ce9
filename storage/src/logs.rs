//! The logs of a data folder: names, ids, partitions, and what the owner asks of each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::encoding::Stored;
use crate::flash_budget::LINGER_MAX;
use crate::ids::{LogId, LogPartition, PartitionId};

/// Most partitions of a log.
pub const PARTITIONS_MAX: u16 = 256;

/// What happens when a log has its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest records go, whether somebody still needs them or not.
    #[default]
    DropOldest,
    /// Records that one of these pins still needs stay, also those that are too old; while that leaves
    /// the log no room, new records are refused. Without a pin nothing ever goes for its bytes, and age
    /// alone makes room.
    Reject {
        /// Names of [`crate::Pin`]s. Until each has told its place in a partition, it needs all of it.
        pins: Vec<String>,
    },
}

/// A log as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Its name, unique in the folder; the position of every reader hangs on it.
    pub name: String,
    /// Partitions that new records go to: 1 to [`PARTITIONS_MAX`].
    pub partitions: u16,
    /// Bytes above which the oldest records go, counted in whole segments.
    pub retention_bytes: u64,
    /// Age above which they go. Only records of a known clock have an age.
    pub retention_age: Option<Duration>,
    /// Longest time that a record may wait for its commit when its publisher does not wait for it;
    /// zero: it does, and [`Self::linger`] says how long a record waits for company.
    pub commit_within: Duration,
    /// How long a record waits for others to share its commit, at most
    /// [`crate::LINGER_MAX`]; zero: a commit begins as soon as the one before has ended. The flash
    /// budget may lengthen it.
    pub linger: Duration,
    /// What gives way when it is full.
    pub on_full: OnFull,
}

impl LogOptions {
    /// A log that keeps a GiB and commits at once.
    pub fn new(name: &str, partitions: u16) -> Self {
        Self {
            name: name.to_owned(),
            partitions,
            retention_bytes: 1024 * 1024 * 1024,
            retention_age: None,
            commit_within: Duration::ZERO,
            linger: Duration::ZERO,
            on_full: OnFull::DropOldest,
        }
    }

    /// How long a record may wait for its commit while the flash budget asks for `linger`. Where a
    /// time was promised, it holds.
    pub(crate) fn commit_within(&self, linger: Duration) -> Duration {
        match self.commit_within.is_zero() {
            true => self.linger.max(linger).min(LINGER_MAX),
            false => self.commit_within,
        }
    }
}

/// What of a log must never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogIdentity {
    pub(crate) name: String,
    /// The most partitions that it ever had.
    pub(crate) partitions: u16,
}

impl Stored for LogIdentity {
    const VERSION: u8 = 1;
}

/// A log of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its number.
    pub id: LogId,
    /// What was asked for; `None` for a log that the configuration does not name any more.
    pub options: Option<LogOptions>,
    /// Its name.
    pub name: String,
    /// Partitions that may hold records; more than in `options` after the number was lowered.
    pub partitions: u16,
}

impl Log {
    /// All partitions that may hold records.
    pub fn partitions(&self) -> impl Iterator<Item = LogPartition> + use<> {
        let log = self.id;
        (0..self.partitions).map(move |number| LogPartition {
            log,
            partition: PartitionId(number),
        })
    }

    /// Partitions that new records go to; 0 for a log that is no longer configured.
    pub fn partitions_in_use(&self) -> u16 {
        self.options
            .as_ref()
            .map_or(0, |options| options.partitions)
    }
}
