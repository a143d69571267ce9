//! What keeps the oldest segment, as part of `/status`.

use serde::{Deserialize, Serialize};
use storage::{LogInSegment, OldestSegment};

#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct OldestSegmentPage {
    pub(crate) id: u64,
    /// Another one than `id` if evacuation made it of several.
    pub(crate) last: u64,
    pub(crate) bytes: u64,
    pub(crate) live_bytes: u64,
    /// Of its newest record; null if nothing tells it.
    pub(crate) age_seconds: Option<u64>,
    /// `written`, `sealed`, `newest_sealed` or `evacuating`.
    pub(crate) stage: String,
    pub(crate) logs: Vec<LogInSegmentPage>,
}

/// A log with live records there.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct LogInSegmentPage {
    pub(crate) log: String,
    pub(crate) live_bytes: u64,
    /// What it has in all segments.
    pub(crate) log_bytes: u64,
    pub(crate) retention_bytes: u64,
    pub(crate) retention_age_seconds: Option<u64>,
    /// `retention`, `unknown_age`, `pins`, `on_full` or `nothing`.
    pub(crate) kept_by: String,
    /// The routes that need records there, of a log that rejects rather than forgets.
    pub(crate) pins: Vec<PinPage>,
}

/// What a route has not replicated of the whole log.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct PinPage {
    pub(crate) name: String,
    pub(crate) lag_records: u64,
    /// About: whole batches are counted by the records in them.
    pub(crate) lag_bytes: u64,
}

impl OldestSegmentPage {
    pub(crate) fn of(oldest: &OldestSegment) -> Self {
        Self {
            id: oldest.id.0,
            last: oldest.last.0,
            bytes: oldest.bytes,
            live_bytes: oldest.live_bytes,
            age_seconds: oldest.age.map(|age| age.as_secs()),
            stage: oldest.stage.as_str().to_owned(),
            logs: oldest.logs.iter().map(LogInSegmentPage::of).collect(),
        }
    }
}

impl LogInSegmentPage {
    fn of(log: &LogInSegment) -> Self {
        let pins = log.pins.iter().map(|pin| PinPage {
            name: pin.name.clone(),
            lag_records: pin.records,
            lag_bytes: pin.bytes,
        });
        Self {
            log: log.name.clone(),
            live_bytes: log.live_bytes,
            log_bytes: log.log_bytes,
            retention_bytes: log.retention_bytes,
            retention_age_seconds: log.retention_age.map(|age| age.as_secs()),
            kept_by: log.kept_by.as_str().to_owned(),
            pins: pins.collect(),
        }
    }
}
