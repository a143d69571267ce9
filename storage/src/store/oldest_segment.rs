//! What keeps the oldest segment: which logs have live records in it, and why these may not go.
//!
//! Told from the index, the journal and the pins as they are in memory; nothing is read from flash,
//! so that the I/O thread may ask. It is worked out of a copy ([`Seen`]), so that appenders and
//! the committer wait no longer than copying takes. The answer is that of the next plan of
//! [`crate::retention`], for the oldest segment alone; that a step of the clock has to be confirmed
//! first is not part of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Era;
use crate::ids::{EraId, LogId, LogPartition, Offset, SegmentId};
use crate::journal::PartitionState;
use crate::logs::{Log, OnFull};
use crate::metadata::{SegmentPartition, SegmentRecord, SegmentState};
use crate::retention::{Keeps, Need};
use crate::segments::Index;
use crate::store::Shared;
use crate::store::pins::Places;
use crate::store::state::State;

/// The oldest segment, and what keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldestSegment {
    /// The segment.
    pub id: SegmentId,
    /// The last one that it stands for; itself, unless evacuation made it of several.
    pub last: SegmentId,
    /// Bytes of its commits.
    pub bytes: u64,
    /// Bytes of its records that are not behind the starts of their partitions.
    pub live_bytes: u64,
    /// Age of its newest record, if a clock is known that tells it.
    pub age: Option<Duration>,
    /// Where it is in its life.
    pub stage: Stage,
    /// The logs that have live records in it. Empty: it is about to go.
    pub logs: Vec<LogInSegment>,
}

/// Where the oldest segment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is written to, or being sealed: retention does not look at it yet.
    Written,
    /// It is the newest of the sealed ones, which stays for its journal, whatever is live in it.
    NewestSealed,
    /// It goes when no log keeps it.
    Sealed,
    /// What is live in it is being copied elsewhere; then it goes.
    Evacuating,
}

/// A log that has live records in the oldest segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogInSegment {
    /// Its name.
    pub name: String,
    /// Bytes of its records there.
    pub live_bytes: u64,
    /// Bytes that it has in all segments, as retention counts them.
    pub log_bytes: u64,
    /// Bytes above which its oldest records go.
    pub retention_bytes: u64,
    /// Age above which they go.
    pub retention_age: Option<Duration>,
    /// Why its records are still there.
    pub kept_by: KeptBy,
    /// The pins that need records of it there, if it rejects rather than forgets.
    pub pins: Vec<PinLag>,
}

/// Why records of a log are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBy {
    /// The log has no more than its bytes, and they are not too old.
    Retention,
    /// So it is by its bytes; how old they are is not known, since no clock is.
    UnknownAge,
    /// They would go, but a pin needs them: see [`LogInSegment::pins`].
    Pins,
    /// The log has more than its bytes, but it rejects rather than forgets, and has no pin that could
    /// say what is not needed.
    OnFull,
    /// Nothing: they are about to go.
    Nothing,
}

/// How far a pin is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinLag {
    /// Its name; the bridge's pins have those of their routes.
    pub name: String,
    /// Durable records of the log, in all segments, that it still needs.
    pub records: u64,
    /// About as many bytes.
    pub bytes: u64,
}

impl KeptBy {
    /// As it is told to programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::UnknownAge => "unknown_age",
            Self::Pins => "pins",
            Self::OnFull => "on_full",
            Self::Nothing => "nothing",
        }
    }
}

impl Stage {
    /// As it is told to programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::NewestSealed => "newest_sealed",
            Self::Sealed => "sealed",
            Self::Evacuating => "evacuating",
        }
    }
}

/// What is looked at, as it was at one time; the pins may be of a moment before.
#[derive(Debug)]
pub(crate) struct Seen {
    index: Index,
    ends: BTreeMap<LogPartition, PartitionState>,
    logs: BTreeMap<LogId, Log>,
    eras: BTreeMap<EraId, Era>,
    places: Places,
}

impl Seen {
    /// A copy of what is behind the locks that the caller holds. `places` are asked for before, so
    /// that no lock is waited for.
    pub(crate) fn copy(state: &State, index: &Index, places: Places) -> Self {
        let ends = state.journal.partition_states().into_iter();
        Self {
            index: index.clone(),
            ends: ends.map(|ends| (ends.partition, ends)).collect(),
            logs: state.logs.clone(),
            eras: state.eras.clone(),
            places,
        }
    }

    fn start(&self, partition: LogPartition) -> Offset {
        let ends = self.ends.get(&partition);
        ends.map_or(Offset(0), |ends| ends.log_start)
    }

    fn end(&self, partition: LogPartition) -> Offset {
        let ends = self.ends.get(&partition);
        ends.map_or(Offset(0), |ends| ends.next_offset)
    }

    /// Up to where a pin has everything.
    fn place(&self, name: &str, partition: LogPartition) -> Offset {
        let place = self.places.get(name).and_then(|of| of.get(&partition));
        let place = place.copied().unwrap_or_default();
        place.max(self.start(partition))
    }
}

/// Looks at the oldest segment that was seen. Takes no lock of the state or the index.
pub(crate) fn look(shared: &Shared, seen: &Seen) -> Option<OldestSegment> {
    let index = &seen.index;
    let (id, record) = index.all().next()?;
    let start = |partition| seen.start(partition);
    let parts = record.partitions.iter();
    let live = parts.filter(|part| start(part.partition) < part.next_offset);
    let mut by_log: BTreeMap<LogId, Vec<&SegmentPartition>> = BTreeMap::new();
    for part in live {
        by_log.entry(part.partition.log).or_default().push(part);
    }
    let mut bytes_of_logs: BTreeMap<LogId, u64> = BTreeMap::new();
    for part in index.all().flat_map(|(_, record)| &record.partitions) {
        if start(part.partition) < part.next_offset {
            *bytes_of_logs.entry(part.partition.log).or_default() += part.bytes;
        }
    }
    let look = Look {
        seen,
        bytes_of_logs,
        age: age(shared, &seen.eras, record),
    };
    let newest_sealed = index
        .sealed
        .iter()
        .rfind(|(_, record)| record.state == SegmentState::Sealed);
    let stage = match record.state {
        _ if shared.evacuations.holds(id) => Stage::Evacuating,
        SegmentState::Created => Stage::Written,
        _ if newest_sealed.is_some_and(|(newest, _)| *newest == id) => Stage::NewestSealed,
        SegmentState::Sealed | SegmentState::Deleting => Stage::Sealed,
    };
    Some(OldestSegment {
        id,
        last: record.name(id).last,
        bytes: record.bytes,
        live_bytes: record.live_bytes(start),
        age: look.age.map(|age| age.age),
        stage,
        logs: by_log
            .into_iter()
            .map(|(log, parts)| look.log(log, &parts))
            .collect(),
    })
}

/// How old the newest record of a segment is.
#[derive(Clone, Copy, Debug)]
struct Age {
    age: Duration,
    /// Whether retention goes by it.
    counts: bool,
}

/// By the boot that goes on, or by clocks that a time service had set.
fn age(shared: &Shared, eras: &BTreeMap<EraId, Era>, record: &SegmentRecord) -> Option<Age> {
    let (current, era) = eras.last_key_value()?;
    let now_ms = era.provisional_ms(shared.options.clock.as_ref());
    let (now_ms, then_ms) = match record.last_era == *current {
        _ if record.is_empty() => return None,
        true => (now_ms, record.max_timestamp_ms),
        false => {
            let written = eras.get(&record.last_era)?;
            let known = era.correction.is_some() && written.correction.is_some();
            let then_ms = known.then(|| written.corrected(record.max_timestamp_ms).ms)?;
            (era.corrected(now_ms).ms, then_ms)
        }
    };
    let ms = u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0);
    Some(Age {
        age: Duration::from_millis(ms),
        counts: era.correction.is_some(),
    })
}

/// What is looked at.
struct Look<'a> {
    seen: &'a Seen,
    /// What each has that is not behind the starts, as retention counts it.
    bytes_of_logs: BTreeMap<LogId, u64>,
    /// Of the oldest segment.
    age: Option<Age>,
}

impl Look<'_> {
    /// What a log has in the oldest segment: `parts`, which are live.
    fn log(&self, id: LogId, parts: &[&SegmentPartition]) -> LogInSegment {
        let log = self.seen.logs.get(&id);
        let options = log.and_then(|log| log.options.as_ref());
        let is_any_configured = self.seen.logs.values().any(|log| log.options.is_some());
        let need = Need::of(options, is_any_configured);
        let log_bytes = self.bytes_of_logs.get(&id).copied().unwrap_or(0);
        let names = match options.map(|options| &options.on_full) {
            Some(OnFull::Reject { pins }) => pins.as_slice(),
            _ => &[],
        };
        let pins: Vec<_> = names
            .iter()
            .filter(|name| {
                let place = |part: &SegmentPartition| self.seen.place(name, part.partition);
                parts.iter().any(|part| place(part) < part.next_offset)
            })
            .map(|name| self.lag(name, log, id))
            .collect();
        LogInSegment {
            name: log.map_or_else(|| id.to_string(), |log| log.name.clone()),
            live_bytes: parts
                .iter()
                .map(|part| part.live_bytes(self.seen.start(part.partition)))
                .sum(),
            log_bytes,
            retention_bytes: need.bytes,
            retention_age: need.age,
            kept_by: kept_by(need, log_bytes, self.age, !pins.is_empty()),
            pins,
        }
    }

    fn lag(&self, name: &str, log: Option<&Log>, id: LogId) -> PinLag {
        let partitions = log.into_iter().flat_map(Log::partitions);
        let records = partitions.map(|partition| {
            let end = self.seen.end(partition);
            end.since(self.seen.place(name, partition).min(end))
        });
        let all = self.seen.index.all();
        let parts = all.flat_map(|(_, record)| &record.partitions);
        let bytes = parts
            .filter(|part| part.partition.log == id)
            .map(|part| part.live_bytes(self.seen.place(name, part.partition)));
        PinLag {
            name: name.to_owned(),
            records: records.sum(),
            bytes: bytes.sum(),
        }
    }
}

/// Why the oldest records of a log with `bytes` are still there.
fn kept_by(need: Need, bytes: u64, age: Option<Age>, is_pinned: bool) -> KeptBy {
    let known = age.filter(|age| age.counts);
    let too_old = need
        .age
        .zip(known)
        .is_some_and(|(limit, age)| age.age > limit);
    let too_much = bytes > need.bytes;
    match need.keeps {
        Keeps::Needed if (too_old || too_much) && is_pinned => KeptBy::Pins,
        Keeps::Bytes if too_much && !too_old => KeptBy::OnFull,
        _ if too_old || too_much => KeptBy::Nothing,
        _ if need.age.is_some() && known.is_none() => KeptBy::UnknownAge,
        _ => KeptBy::Retention,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_that_of_the_plan_of_retention() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let aged = |age: u64, counts| {
            let age = hours(age);
            Some(Age { age, counts })
        };
        let limit = Some(hours(24));
        for (keeps, age_limit, bytes, age, is_pinned, expected) in [
            (Keeps::Nothing, None, 100, None, false, KeptBy::Retention),
            (Keeps::Nothing, None, 101, None, false, KeptBy::Nothing),
            (Keeps::Nothing, limit, 1, None, false, KeptBy::UnknownAge),
            (
                Keeps::Nothing,
                limit,
                1,
                aged(25, false),
                false,
                KeptBy::UnknownAge,
            ),
            (
                Keeps::Nothing,
                limit,
                1,
                aged(24, true),
                false,
                KeptBy::Retention,
            ),
            (
                Keeps::Nothing,
                limit,
                1,
                aged(25, true),
                false,
                KeptBy::Nothing,
            ),
            (Keeps::Nothing, limit, 101, None, false, KeptBy::Nothing),
            (Keeps::Needed, None, 100, None, true, KeptBy::Retention),
            (Keeps::Needed, None, 101, None, true, KeptBy::Pins),
            (Keeps::Needed, limit, 1, aged(25, true), true, KeptBy::Pins),
            (Keeps::Needed, None, 101, None, false, KeptBy::Nothing),
            (
                Keeps::Bytes,
                limit,
                101,
                aged(1, true),
                false,
                KeptBy::OnFull,
            ),
            (Keeps::Bytes, None, 100, None, false, KeptBy::Retention),
            (
                Keeps::Bytes,
                limit,
                101,
                aged(25, true),
                false,
                KeptBy::Nothing,
            ),
        ] {
            let need = Need {
                bytes: 100,
                age: age_limit,
                keeps,
            };
            let kept = kept_by(need, bytes, age, is_pinned);
            assert_eq!(kept, expected, "{need:?} {bytes} {age:?} {is_pinned}");
        }
    }
}
