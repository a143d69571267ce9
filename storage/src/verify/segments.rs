//! The segments: each from its first commit to its last, against the index and against each other.

use std::ops::ControlFlow;

use crate::commit::{BatchInCommit, Commit};
use crate::ids::{CommitNumber, SegmentId};
use crate::journal::{self, Operation};
use crate::message::Message;
use crate::metadata::{SegmentRecord, SegmentState};
use crate::segment::{self, ScanError};
use crate::segment_record::Evacuated;
use crate::verify::{Finding, FindingKind, Severity, Verifier, VerifyProgress};

/// Bytes of commits after which progress is told.
const TOLD_EVERY_BYTES: u64 = 4 * 1024 * 1024;

/// A segment while it is read.
struct Reading {
    segment: SegmentId,
    /// What the commits so far add up to.
    record: SegmentRecord,
    /// Commits behind this one are not asked for.
    last: CommitNumber,
    told_bytes: u64,
    stopped: bool,
}

/// How far the whole is.
#[derive(Clone, Copy)]
struct Totals {
    segments: u64,
    bytes: u64,
}

impl Verifier<'_> {
    pub(super) fn all_segments(&mut self) -> ControlFlow<()> {
        self.verified.gaps = self.accounts.gaps_total;
        let segments: Vec<(SegmentId, SegmentRecord)> = {
            let index = self.shared.segments.index();
            index
                .all()
                .map(|(id, record)| (id, record.clone()))
                .collect()
        };
        let totals = Totals {
            segments: segments.len() as u64,
            bytes: segments.iter().map(|(_, record)| record.bytes).sum(),
        };
        let mut previous = CommitNumber(0);
        for (id, record) in &segments {
            self.progress(totals)?;
            if !record.is_empty() {
                self.one_segment(*id, record, totals)?;
                if record.first_commit <= previous {
                    let first = record.first_commit;
                    let what =
                        format!("it begins at commit {first}; the one before ends behind it");
                    let finding = Finding::new(Severity::Error, FindingKind::Overlap, what);
                    self.find(finding.in_segment(*id, first))?;
                }
                previous = record.last_commit;
            }
            self.verified.segments += 1;
        }
        self.progress(totals)
    }

    fn progress(&mut self, totals: Totals) -> ControlFlow<()> {
        (self.tell)(VerifyProgress::Reading {
            segments: self.verified.segments,
            segments_total: totals.segments,
            bytes: self.verified.bytes,
            bytes_total: totals.bytes,
        })
    }

    fn one_segment(
        &mut self,
        id: SegmentId,
        index: &SegmentRecord,
        totals: Totals,
    ) -> ControlFlow<()> {
        let database = match self.shared.segments.database(index.name(id)) {
            Ok(Some(database)) => database,
            // Evacuated or removed since it began; what is still wanted of it was live elsewhere, too.
            Ok(None) => return ControlFlow::Continue(()),
            Err(error) => {
                let error = with_causes(&error);
                self.damage(id, CommitNumber(0), &error)?;
                return self.skip(id, &SegmentRecord::created(), index);
            }
        };
        let mut reading = Reading {
            segment: id,
            record: SegmentRecord {
                evacuated: index.evacuated.map(|evacuated| Evacuated {
                    commits: 0,
                    ..evacuated
                }),
                ..SegmentRecord::created()
            },
            last: index.last_commit.min(self.accounts.durable),
            told_bytes: self.verified.bytes,
            stopped: false,
        };
        let end = segment::scan(&database, CommitNumber(0), |commit| {
            if commit.number() > reading.last {
                return ControlFlow::Break(());
            }
            let flow = self.one_commit(&mut reading, &commit, totals);
            reading.stopped = flow.is_break();
            flow
        });
        drop(database);
        if reading.stopped {
            return ControlFlow::Break(());
        }
        self.end_of_segment(&reading, end, index)
    }

    fn one_commit(
        &mut self,
        reading: &mut Reading,
        commit: &Commit,
        totals: Totals,
    ) -> ControlFlow<()> {
        let (segment, number) = (reading.segment, commit.number());
        // A copy has its journal in its manifest.
        let begins = reading.record.is_empty() && reading.record.evacuated.is_none();
        if let Some(what) = journal_problem(commit, segment, begins) {
            let finding = Finding::new(Severity::Error, FindingKind::Journal, what);
            self.find(finding.in_segment(segment, number))?;
        }
        for batch in commit.batches() {
            let place = (batch.partition, batch.base_offset, batch.next_offset);
            if let Some(finding) = self.accounts.take(self.shared, segment, number, place) {
                self.find(finding)?;
            }
            self.one_batch(segment, commit, batch)?;
        }
        reading.record.add(commit);
        self.verified.commits += 1;
        self.verified.bytes += commit.size_bytes() as u64;
        if self.verified.bytes - reading.told_bytes >= TOLD_EVERY_BYTES {
            reading.told_bytes = self.verified.bytes;
            self.progress(totals)?;
        }
        ControlFlow::Continue(())
    }

    fn one_batch(
        &mut self,
        segment: SegmentId,
        commit: &Commit,
        place: BatchInCommit,
    ) -> ControlFlow<()> {
        let wanted = self.log.as_ref().is_none_or(|name| {
            let state = self.shared.state();
            let log = state.logs.get(&place.partition.log);
            log.is_none_or(|log| log.name == *name)
        });
        if !wanted {
            return ControlFlow::Continue(());
        }
        self.verified.batches += 1;
        match batch_problem(commit, place) {
            Ok(records) => {
                self.verified.records += records;
                ControlFlow::Continue(())
            }
            Err(what) => {
                let finding = Finding::new(Severity::Error, FindingKind::Record, what);
                let finding = finding.in_segment(segment, commit.number());
                self.find(finding.at(place.partition, place.base_offset, place.next_offset))
            }
        }
    }

    fn end_of_segment(
        &mut self,
        reading: &Reading,
        end: Result<Option<CommitNumber>, ScanError>,
        index: &SegmentRecord,
    ) -> ControlFlow<()> {
        let id = reading.segment;
        let is_whole = reading.record.last_commit >= reading.last;
        match end {
            Err(error) if is_whole => {
                // Recovery cut it here, and wrote down what is missing.
                let what = format!("it is damaged behind its last commit: {error}");
                let finding = Finding::new(Severity::Warning, FindingKind::Damage, what);
                self.find(finding.in_segment(id, reading.last))?;
            }
            Err(error) => {
                self.damage(id, reading.record.last_commit, &error.to_string())?;
                return self.skip(id, &reading.record, index);
            }
            Ok(_) if !is_whole => {
                let (found, last) = (reading.record.last_commit, reading.last);
                let what = format!("it ends at commit {found}; the index says {last}");
                self.damage(id, found, &what)?;
                return self.skip(id, &reading.record, index);
            }
            Ok(_) => {}
        }
        let sealed = SegmentRecord {
            state: SegmentState::Sealed,
            ..reading.record.clone()
        };
        if index.state == SegmentState::Sealed && sealed != *index {
            let what = "the index says something else than the segment holds";
            let finding = Finding::new(Severity::Error, FindingKind::Index, what);
            self.find(finding.in_segment(id, index.last_commit))?;
        }
        ControlFlow::Continue(())
    }

    fn damage(&mut self, id: SegmentId, last: CommitNumber, what: &str) -> ControlFlow<()> {
        let finding = Finding::new(Severity::Error, FindingKind::Damage, what);
        self.find(finding.in_segment(id, last))
    }

    /// A segment cannot be read to its end: tells which offsets are not to be had, and goes on
    /// behind them.
    fn skip(
        &mut self,
        id: SegmentId,
        read: &SegmentRecord,
        index: &SegmentRecord,
    ) -> ControlFlow<()> {
        for part in &index.partitions {
            let from = read
                .part(part.partition)
                .map_or(part.base_offset, |part| part.next_offset);
            if from >= part.next_offset {
                continue;
            }
            let place = (part.partition, part.next_offset, part.next_offset);
            if let Some(hole) = self.accounts.take(self.shared, id, read.last_commit, place) {
                self.find(hole)?;
            }
        }
        ControlFlow::Continue(())
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What is wrong with the journal of a commit.
fn journal_problem(commit: &Commit, segment: SegmentId, is_first: bool) -> Option<String> {
    let operations = match commit.journal().map(|encoded| journal::decode(&encoded)) {
        None => Vec::new(),
        Some(Ok(operations)) => operations,
        Some(Err(error)) => return Some(format!("its journal cannot be read: {error}")),
    };
    let begins = matches!(operations.first(),
        Some(Operation::Snapshot(snapshot)) if snapshot.segment == segment);
    (is_first && !begins).then(|| "the segment begins without a snapshot of its own".to_owned())
}

/// Reads every record of a batch: how many there are, or what is wrong with the first bad one.
fn batch_problem(commit: &Commit, place: BatchInCommit) -> Result<u64, String> {
    let batch = commit.batch(place.partition);
    let Some(batch) = batch.map_err(|error| with_causes(&error))? else {
        return Err("the batch is gone".to_owned());
    };
    let mut records = 0;
    for record in batch.records() {
        let record = record.map_err(|error| format!("a record cannot be read: {error}"))?;
        Message::from_record(&record).map_err(|error| error.to_string())?;
        records += 1;
    }
    let expected = place.next_offset.since(place.base_offset);
    if records != expected {
        return Err(format!("{records} records where {expected} offsets are"));
    }
    Ok(records)
}
