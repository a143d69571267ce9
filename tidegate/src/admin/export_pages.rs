//! The batches of a log, as they are stored, line by line: what `export` is made of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use anyhow::bail;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storage::{
    Commit, CommitNumber, Gap, GapReason, Incarnation, LogPartition, Offset, Read, SpanId, Store,
};

use crate::admin::base64;
use crate::admin::log_pages::{find_log, partitions_of};
use crate::admin::query::Query;

/// Bytes of commits that are in memory at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportRequest {
    pub(crate) log: String,
    pub(crate) partition: Option<u16>,
    /// First offset, and the first one that is not wanted.
    pub(crate) from: Option<u64>,
    pub(crate) to: Option<u64>,
    /// First time in milliseconds since 1970, and the first one that is not wanted.
    pub(crate) since_ms: Option<i64>,
    pub(crate) until_ms: Option<i64>,
}

/// A line of the answer. The last one is `End` or `Failed`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExportLine {
    /// A batch in which there may be something that is wanted.
    Batch(ExportBatch),
    /// Records that are wanted and not there.
    Gap {
        partition: u16,
        from: u64,
        to: u64,
        reason: String,
    },
    /// How far it is: commits of how many.
    Reading { commits: u64, commits_total: u64 },
    /// That was all.
    End,
    /// It ends here, for this reason.
    Failed(String),
}

/// A batch with what is needed to tell of its records.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct ExportBatch {
    pub(crate) partition: u16,
    pub(crate) commit: u64,
    /// What is to be added to the times in it.
    pub(crate) shift_ms: i64,
    pub(crate) time_quality: String,
    /// Of the folder when it was written; a part of `tg-id`.
    pub(crate) incarnation: String,
    /// The batch.
    #[serde(with = "base64")]
    pub(crate) data: Bytes,
}

impl ExportRequest {
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut query = Query::parse(query)?;
        let request = Self {
            log: query.log()?,
            partition: query.number("partition")?,
            from: query.number("from")?,
            to: query.number("to")?,
            since_ms: query.number("since_ms")?,
            until_ms: query.number("until_ms")?,
        };
        query.finish("log, partition, from, to, since_ms, until_ms")?;
        Ok(request)
    }

    /// As it is asked of the admin server.
    pub(crate) fn path(&self) -> String {
        let mut path = format!("/log/export?log={}", self.log);
        for (name, value) in [
            ("partition", self.partition.map(|number| number.to_string())),
            ("from", self.from.map(|offset| offset.to_string())),
            ("to", self.to.map(|offset| offset.to_string())),
            ("since_ms", self.since_ms.map(|ms| ms.to_string())),
            ("until_ms", self.until_ms.map(|ms| ms.to_string())),
        ] {
            if let Some(value) = value {
                // Writing into text does not fail.
                let _ = write!(path, "&{name}={value}");
            }
        }
        path
    }

    /// Whether it can be answered.
    pub(crate) fn check(&self, store: &Store) -> anyhow::Result<()> {
        self.wanted(store).map(|_| ())
    }

    /// The offsets that are wanted, of each partition.
    fn wanted(&self, store: &Store) -> anyhow::Result<BTreeMap<LogPartition, Wanted>> {
        let log = find_log(store, &self.log)?;
        if self.partition.is_none() && (self.from.is_some() || self.to.is_some()) {
            bail!("an offset means nothing without its partition");
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            bail!("from offset {from} to offset {to}: the first is behind the second");
        }
        if let (Some(since), Some(until)) = (self.since_ms, self.until_ms)
            && since > until
        {
            bail!("the first time is behind the second");
        }
        let mut wanted = BTreeMap::new();
        for partition in partitions_of(&log, self.partition)? {
            let (start, end) = (store.log_start(partition), store.high_watermark(partition));
            let next = self.from.map_or(start, Offset);
            if next > end {
                let number = partition.partition;
                bail!(
                    "log `{}` has no offset {next} in partition {number}; it has {start} up to, but \
                     not with, {end}",
                    log.name
                );
            }
            let end = self.to.map_or(end, |to| end.min(Offset(to)));
            wanted.insert(partition, Wanted { next, end });
        }
        Ok(wanted)
    }

    /// Whether a batch may hold a record of a wanted time.
    fn times_touch(&self, batch: &record_batch::BatchHeader, shift_ms: i64) -> bool {
        let (first, last) = (
            batch.base_timestamp_ms.saturating_add(shift_ms),
            batch.max_timestamp_ms.saturating_add(shift_ms),
        );
        self.since_ms.is_none_or(|since| last >= since)
            && self.until_ms.is_none_or(|until| first < until)
    }
}

/// Offsets of a partition that are wanted and did not come yet.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    next: Offset,
    end: Offset,
}

impl Wanted {
    fn is_done(&self) -> bool {
        self.next >= self.end
    }
}

type Tell<'a> = &'a mut dyn FnMut(ExportLine) -> ControlFlow<()>;

/// Tells every batch that `request` asks for, and what is missing of them, and `End`; less when
/// `tell` breaks off.
pub(crate) fn export(store: &Store, request: &ExportRequest, tell: Tell<'_>) -> anyhow::Result<()> {
    let mut exporting = Exporting::new(store, request)?;
    let Some(first) = exporting.first_commit()? else {
        let _ = exporting.finish(tell);
        return Ok(());
    };
    let last = store.durable();
    let mut reader = store.commit_reader(first);
    loop {
        let before = reader.next_commit();
        let commits = reader.read(READ_BYTES)?;
        for commit in &commits {
            if exporting.take(commit, tell).is_break() {
                return Ok(());
            }
        }
        let at = reader.next_commit();
        let reading = ExportLine::Reading {
            commits: at.0.saturating_sub(first.0),
            commits_total: (last.0 + 1).saturating_sub(first.0),
        };
        if tell(reading).is_break() {
            return Ok(());
        }
        if (commits.is_empty() && at == before) || at > last || exporting.is_done() {
            let _ = exporting.finish(tell);
            return Ok(());
        }
    }
}

/// What was told of the commits so far.
pub(crate) struct Exporting<'a> {
    store: &'a Store,
    request: &'a ExportRequest,
    wanted: BTreeMap<LogPartition, Wanted>,
    gaps: Vec<Gap>,
}

impl<'a> Exporting<'a> {
    pub(crate) fn new(store: &'a Store, request: &'a ExportRequest) -> anyhow::Result<Self> {
        let mut gaps = store.gaps();
        gaps.retain(|gap| gap.route.is_none());
        Ok(Self {
            store,
            request,
            wanted: request.wanted(store)?,
            gaps,
        })
    }

    /// The same for commits that are not part of the log any more: whatever they have is wanted.
    pub(crate) fn aside(store: &'a Store, request: &'a ExportRequest) -> anyhow::Result<Self> {
        let log = find_log(store, &request.log)?;
        let wanted = partitions_of(&log, request.partition)?.into_iter();
        let all = Wanted {
            next: Offset(request.from.unwrap_or(0)),
            end: Offset(request.to.unwrap_or(u64::MAX)),
        };
        Ok(Self {
            store,
            request,
            wanted: wanted.map(|partition| (partition, all)).collect(),
            gaps: Vec::new(),
        })
    }

    /// The commit with the first record that is wanted of any partition.
    fn first_commit(&self) -> anyhow::Result<Option<CommitNumber>> {
        let mut first = None;
        for (partition, wanted) in &self.wanted {
            let mut reader = self.store.partition_reader(*partition, wanted.next);
            let found = loop {
                match reader.read(1)? {
                    Read::Batches(batches) => {
                        if let Some(batch) = batches.first() {
                            break Some(batch.commit);
                        }
                    }
                    Read::Gap { .. } => {}
                    Read::UpToDate => break None,
                }
            };
            first = [first, found].into_iter().flatten().min();
        }
        Ok(first)
    }

    fn is_done(&self) -> bool {
        self.wanted.values().all(Wanted::is_done)
    }

    /// Tells what is wanted of a commit.
    pub(crate) fn take(&mut self, commit: &Commit, tell: Tell<'_>) -> ControlFlow<()> {
        for place in commit.batches() {
            let Some(wanted) = self.wanted.get_mut(&place.partition) else {
                continue;
            };
            if wanted.is_done() || place.next_offset <= wanted.next {
                continue;
            }
            let (from, missing) = (wanted.next, place.base_offset.min(wanted.end));
            wanted.next = place.next_offset;
            if place.base_offset >= wanted.end {
                self.missing(place.partition, from, missing, tell)?;
                continue;
            }
            self.missing(place.partition, from, missing, tell)?;
            match commit.batch(place.partition) {
                Ok(Some(batch)) => {
                    if let Some(line) = self.line(commit, place.partition, &batch) {
                        tell(ExportLine::Batch(line))?;
                    }
                }
                _ => self.missing(place.partition, from.max(missing), place.next_offset, tell)?,
            }
        }
        ControlFlow::Continue(())
    }

    fn line(
        &self,
        commit: &Commit,
        partition: LogPartition,
        batch: &record_batch::Batch,
    ) -> Option<ExportBatch> {
        let era = self.store.era(commit.era());
        let (shift_ms, time_quality) = era.map_or((0, storage::TimeQuality::Estimated), |era| {
            let zero = era.corrected(0);
            (zero.ms, zero.quality)
        });
        if !self.request.times_touch(batch.header(), shift_ms) {
            return None;
        }
        Some(ExportBatch {
            partition: partition.partition.0,
            commit: commit.number().0,
            shift_ms,
            time_quality: time_quality.as_str().to_owned(),
            incarnation: self.incarnation(batch).to_string(),
            data: batch.as_bytes().clone(),
        })
    }

    fn incarnation(&self, batch: &record_batch::Batch) -> Incarnation {
        let span = SpanId(batch.header().partition_leader_epoch.cast_unsigned());
        let span = self.store.span_of(span);
        span.map_or_else(|| self.store.incarnation(), |span| span.incarnation)
    }

    /// Tells that records from `from` to `to` are not there, and why, as far as it is known, piece by
    /// piece.
    fn missing(
        &self,
        partition: LogPartition,
        from: Offset,
        to: Offset,
        tell: Tell<'_>,
    ) -> ControlFlow<()> {
        let is_timed = self.request.since_ms.is_some() || self.request.until_ms.is_some();
        if from >= to || (is_timed && from < self.store.log_start(partition)) {
            return ControlFlow::Continue(());
        }
        let log_start = self.store.log_start(partition);
        let gaps = self.gaps.iter().filter(|gap| gap.partition == partition);
        let mut next = from;
        while next < to {
            let (reason, end) = why_missing(gaps.clone(), log_start, next, to);
            tell(ExportLine::Gap {
                partition: partition.partition.0,
                from: next.0,
                to: end.0,
                reason: reason.to_owned(),
            })?;
            next = end;
        }
        ControlFlow::Continue(())
    }

    /// No commit follows: tells what is still missing, and `End`.
    fn finish(&self, tell: Tell<'_>) -> ControlFlow<()> {
        for (partition, wanted) in &self.wanted {
            self.missing(*partition, wanted.next, wanted.end, tell)?;
        }
        tell(ExportLine::End)
    }
}

/// Why the first of the missing records `from..to` is not there, and up to where that is why: what the
/// ledger (`gaps`, of the partition) says, or that the log begins behind it.
fn why_missing<'a>(
    gaps: impl Iterator<Item = &'a Gap>,
    log_start: Offset,
    from: Offset,
    to: Offset,
) -> (&'static str, Offset) {
    let (reason, mut end) = match from < log_start {
        true => (GapReason::Retention.as_str(), to.min(log_start)),
        false => ("damaged", to),
    };
    for gap in gaps {
        if gap.from <= from && from < gap.to {
            return (gap.reason.as_str(), to.min(gap.to));
        }
        if gap.from > from {
            end = end.min(gap.from);
        }
    }
    (reason, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_says_why_records_are_missing_before_the_start_is_asked() {
        let gap = |from, to, reason| Gap {
            partition: LogPartition {
                log: storage::LogId(1),
                partition: storage::PartitionId(0),
            },
            route: None,
            from: Offset(from),
            to: Offset(to),
            records: to - from,
            at_most: false,
            bytes: None,
            reason,
            noted_ms: 0,
        };
        let ledger = [
            gap(30, 40, GapReason::LostEnd),
            gap(10, 20, GapReason::Quarantine),
        ];
        let why = |from, to| {
            let (why, end) = why_missing(ledger.iter(), Offset(25), Offset(from), Offset(to));
            (why, end.0)
        };
        assert_eq!(why(0, 50), ("retention", 10));
        assert_eq!(why(10, 50), ("quarantine", 20));
        assert_eq!(why(20, 50), ("retention", 25));
        assert_eq!(why(25, 50), ("damaged", 30));
        assert_eq!(why(30, 35), ("lost_end", 35));
        assert_eq!(why(40, 50), ("damaged", 50));
    }
}
