//! The segments: each from its first commit to its last, against the index and against each other,
//! an evacuated one also against its manifest.
//!
//! The index is asked again before each segment, since evacuation may put one in the place of several
//! meanwhile. Invariant: no commit is read twice, and none is passed over that was there from the
//! beginning and still is.

use std::ops::ControlFlow;

use crate::commit::{BatchInCommit, Commit};
use crate::evacuated::Manifest;
use crate::ids::{CommitNumber, SegmentId};
use crate::journal::{self, Operation};
use crate::message::Message;
use crate::metadata::{SegmentRecord, SegmentState};
use crate::segment::{self, ScanError};
use crate::segment_name::SegmentName;
use crate::segment_record::Evacuated;
use crate::verify::{Finding, FindingKind, Severity, Verifier, VerifyProgress, with_causes};

/// Bytes of commits after which progress is told.
const TOLD_EVERY_BYTES: u64 = 4 * 1024 * 1024;

/// A segment while it is read.
struct Reading {
    segment: SegmentId,
    /// What the commits so far add up to.
    record: SegmentRecord,
    /// Commits behind this one are not asked for.
    last: CommitNumber,
    /// The last one that is asked for, or one behind it, was there.
    reached: bool,
    /// What the segment says of itself, if it is an evacuated one.
    manifest: Option<SegmentRecord>,
    /// Whether it was asked for from its first commit on, up to its last.
    is_all: bool,
    told_bytes: u64,
    stopped: bool,
}

/// How far the reading of all segments is.
#[derive(Clone, Copy)]
struct At {
    /// All segments before this one are read.
    segment: SegmentId,
    /// The last commit that was asked for.
    commit: CommitNumber,
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
        let (end, totals) = {
            let index = self.shared.segments.index();
            let totals = Totals {
                segments: index.all().count() as u64,
                bytes: index.all().map(|(_, record)| record.bytes).sum(),
            };
            (index.active.0, totals)
        };
        let mut at = At {
            segment: SegmentId(0),
            commit: CommitNumber(0),
        };
        while let Some((id, record)) = self.segment_from(at.segment, end) {
            self.progress(totals)?;
            if !record.is_empty() && !self.one_segment(id, &record, at, totals)? {
                // Evacuated or removed meanwhile: then the index says what to read now.
                continue;
            }
            if !record.is_empty() {
                let is_rest = id < at.segment;
                if !is_rest && record.first_commit <= at.commit {
                    let first = record.first_commit;
                    let what =
                        format!("it begins at commit {first}; the one before ends behind it");
                    let finding = Finding::new(Severity::Error, FindingKind::Overlap, what);
                    self.find(finding.in_segment(id, first))?;
                }
                at.commit = record.last_commit;
            }
            at.segment = SegmentId(record.name(id).last.0.saturating_add(1));
            self.verified.segments += 1;
        }
        self.progress(totals)
    }

    /// The first segment that stands for `from` or a later one, if it begins no later than `end`.
    fn segment_from(&self, from: SegmentId, end: SegmentId) -> Option<(SegmentId, SegmentRecord)> {
        let index = self.shared.segments.index();
        let mut all = index.all();
        let (id, record) = all.find(|(id, record)| record.name(*id).last >= from)?;
        (id <= end).then(|| (id, record.clone()))
    }

    fn progress(&mut self, totals: Totals) -> ControlFlow<()> {
        (self.tell)(VerifyProgress::Reading {
            segments: self.verified.segments,
            segments_total: totals.segments,
            bytes: self.verified.bytes,
            bytes_total: totals.bytes,
        })
    }

    /// Reads a segment, but what is at or before `at`; false if it is not there any more.
    fn one_segment(
        &mut self,
        id: SegmentId,
        index: &SegmentRecord,
        at: At,
        totals: Totals,
    ) -> ControlFlow<(), bool> {
        let name = index.name(id);
        let database = match self.shared.segments.database(name) {
            Ok(Some(database)) => database,
            Ok(None) => return ControlFlow::Continue(false),
            Err(error) => {
                let error = with_causes(&error);
                self.damage(name, CommitNumber(0), &error)?;
                self.skip(id, &SegmentRecord::created(), index)?;
                return ControlFlow::Continue(true);
            }
        };
        let is_rest = id < at.segment;
        let durable = self.accounts.durable;
        let mut reading = Reading {
            segment: id,
            record: SegmentRecord {
                evacuated: index.evacuated.map(|evacuated| Evacuated {
                    commits: 0,
                    ..evacuated
                }),
                ..SegmentRecord::created()
            },
            last: index.last_commit.min(durable),
            reached: false,
            manifest: self.manifest(&database, name)?,
            is_all: !is_rest && index.last_commit <= durable,
            told_bytes: self.verified.bytes,
            stopped: false,
        };
        let from = match is_rest {
            true => at.commit.next(),
            false => CommitNumber(0),
        };
        let end = segment::scan(&database, from, |commit| {
            reading.reached |= commit.number() >= reading.last;
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
        // What was made of segments of which the last commits are read has nothing more to ask for.
        reading.reached |= is_rest && at.commit >= reading.last;
        self.end_of_segment(&reading, end, index)?;
        ControlFlow::Continue(true)
    }

    /// What an evacuated segment says of itself. The journal in it is needed when the metadata is
    /// lost, and when the segment is evacuated again.
    fn manifest(
        &mut self,
        database: &sled::Db,
        name: SegmentName,
    ) -> ControlFlow<(), Option<SegmentRecord>> {
        if !name.is_evacuated() {
            return ControlFlow::Continue(None);
        }
        match Manifest::read_surely(database, name) {
            Ok(manifest) => ControlFlow::Continue(Some(manifest.record)),
            Err(error) => {
                let what = format!(
                    "what it says of itself cannot be read: {}; it stays until retention takes it, \
                     and is no help if the metadata is lost",
                    with_causes(&error)
                );
                let finding = Finding::new(Severity::Warning, FindingKind::Manifest, what);
                self.find(finding.in_segment(name.first, CommitNumber(0)))?;
                ControlFlow::Continue(None)
            }
        }
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
            for finding in self.accounts.take(self.shared, segment, number, place) {
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
        let sealed = SegmentRecord {
            state: SegmentState::Sealed,
            ..reading.record.clone()
        };
        let manifest = reading.manifest.as_ref().filter(|_| reading.is_all);
        // Commits of a copy are not dense: only the sum of them says that all are there.
        let is_as_made = manifest == Some(&sealed);
        let lacks = manifest.is_some_and(|manifest| manifest == index && sealed != *index);
        match end {
            Err(error) if reading.reached => {
                // Recovery cut it here, and wrote down what is missing.
                let what = format!("it is damaged behind its last commit: {error}");
                let finding = Finding::new(Severity::Warning, FindingKind::Damage, what);
                return self.find(finding.in_segment(id, reading.last));
            }
            Err(error) => {
                let (found, what) = (reading.record.last_commit, error.to_string());
                if !matches!(error, ScanError::Machine(_)) {
                    self.shared.segments.note_damage(index.name(id), &what);
                }
                self.damage(index.name(id), found, &what)?;
                return self.skip(id, &reading.record, index);
            }
            Ok(_) if !is_as_made && (lacks || !reading.reached) => {
                let (found, last) = (reading.record.last_commit, reading.last);
                let what = match reading.reached {
                    true => "commits are missing in it".to_owned(),
                    false => format!("it ends at commit {found}; the index says {last}"),
                };
                self.shared.segments.note_damage(index.name(id), &what);
                self.damage(index.name(id), found, &what)?;
                return self.skip(id, &reading.record, index);
            }
            Ok(_) => {}
        }
        if reading.is_all && index.state == SegmentState::Sealed && sealed != *index {
            let what = "the index says something else than the segment holds";
            let finding = Finding::new(Severity::Error, FindingKind::Index, what);
            return self.find(finding.in_segment(id, index.last_commit));
        }
        if manifest.is_some() && !is_as_made {
            let what = "it holds less than when it was made";
            let finding = Finding::new(Severity::Warning, FindingKind::Damage, what);
            return self.find(finding.in_segment(id, index.last_commit));
        }
        ControlFlow::Continue(())
    }

    fn damage(&mut self, name: SegmentName, last: CommitNumber, what: &str) -> ControlFlow<()> {
        let what = match self.shared.segments.behind_damage(name) {
            Some(kept) => format!("{what}; {kept}"),
            None => what.to_owned(),
        };
        let finding = Finding::new(Severity::Error, FindingKind::Damage, what);
        self.find(finding.in_segment(name.first, last))
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
            for hole in self.accounts.take(self.shared, id, read.last_commit, place) {
                self.find(hole)?;
            }
        }
        ControlFlow::Continue(())
    }
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
