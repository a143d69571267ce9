//! Finding where a time begins in the log, without reading all that lies before it: by what the index
//! knows of segments, then by the first commits of chunks, then commit by commit within one chunk.
//!
//! Times are those of appending, put right as far as their eras are known. Where a clock was set back,
//! the first commit in the order of the log counts whose records are of the time or later.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::lookup::open_found;
use super::{CommitReader, ReadError, open};
use crate::clock::Era;
use crate::commit::Commit;
use crate::ids::{CommitNumber, EraId};
use crate::segment::{self, ScanError};
use crate::segment_record::SegmentRecord;

/// The clocks of all eras.
type Eras = BTreeMap<EraId, Era>;

impl CommitReader {
    /// Goes on at the first commit with a record of this time or later, in milliseconds since 1970;
    /// behind the newest commit if there is none, at the oldest that is there if all are later. A
    /// segment that is damaged counts as of that time.
    ///
    /// # Errors
    /// As [`PartitionReader::read`](super::PartitionReader::read); the reader stays where it is.
    pub fn seek_to_time(&mut self, at_ms: i64) -> Result<(), ReadError> {
        let (eras, durable): (Eras, _) = {
            let state = self.shared.state();
            let eras = state.eras.iter().map(|(id, era)| (*id, *era));
            (eras.collect(), state.durable)
        };
        let mut from = CommitNumber(0);
        let found = loop {
            let find = || {
                let index = self.shared.segments.index();
                let found = index.all().find(|(_, record)| {
                    !record.is_empty()
                        && record.last_commit >= from
                        && may_have(record, &eras, at_ms)
                });
                found.map(|(id, record)| {
                    (record.name(id), (record.first_commit, record.last_commit))
                })
            };
            let Some((name, (first, last), opened)) =
                open_found(find, |name, _| open(&self.shared, name))
            else {
                break durable.next();
            };
            let database = match opened {
                Err(error) if error.is_damage() => break first,
                opened => opened?,
            };
            match first_of_time(&database, &eras, at_ms) {
                Ok(Some(commit)) => break commit,
                Ok(None) => from = last.next(),
                Err(source @ ScanError::Machine(_)) => {
                    return Err(ReadError::Scan {
                        segment: name.first,
                        source,
                    });
                }
                // The reading itself meets it, and says what cannot be had.
                Err(_) => break first,
            }
        };
        self.next = found.min(durable.next());
        Ok(())
    }
}

/// Whether the newest record of a segment is of this time or later, or it is not known when that was.
fn may_have(record: &SegmentRecord, eras: &Eras, at_ms: i64) -> bool {
    let newest_ms = record.max_timestamp_ms;
    newest_ms == i64::MIN || corrected(eras, record.last_era, newest_ms) >= at_ms
}

fn corrected(eras: &Eras, era: EraId, ms: i64) -> i64 {
    eras.get(&era).map_or(ms, |era| era.corrected(ms).ms)
}

/// The time of the newest record of a commit, if it has any.
fn time_of(commit: &Commit, eras: &Eras) -> Option<i64> {
    let newest = commit.batches().map(|batch| batch.max_timestamp_ms).max()?;
    Some(corrected(eras, commit.era(), newest))
}

fn first_of_time(
    database: &sled::Db,
    eras: &Eras,
    at_ms: i64,
) -> Result<Option<CommitNumber>, ScanError> {
    let starts = segment::chunk_starts(database);
    // The last chunk that begins before the time.
    let (mut low, mut high) = (0, starts.len());
    while low + 1 < high {
        let middle = low.midpoint(high);
        let start = starts.get(middle).copied().unwrap_or_default();
        let mut first_ms = None;
        segment::scan(database, start, |commit| match time_of(&commit, eras) {
            None => ControlFlow::Continue(()),
            time => {
                first_ms = time;
                ControlFlow::Break(())
            }
        })?;
        match first_ms {
            Some(ms) if ms < at_ms => low = middle,
            _ => high = middle,
        }
    }
    let start = starts.get(low).copied().unwrap_or_default();
    let mut found = None;
    segment::scan(database, start, |commit| {
        if time_of(&commit, eras).is_some_and(|ms| ms >= at_ms) {
            found = Some(commit.number());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
