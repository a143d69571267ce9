//! Opening a data folder: recovery, then everything that must be true before the first append.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::clock::{Era, RELEASE_TIME_MS};
use crate::database::DatabaseError;
use crate::encoding::{EncodingError, Stored as _};
use crate::flash::FlashUse;
use crate::folder::{Folder, FolderError};
use crate::gap::{Gap, GapReason};
use crate::guard::Room;
use crate::identity::{Fingerprint, Identity, Span, SpanReason};
use crate::ids::{CommitNumber, EraId, Incarnation, LogId, OFFSET_LEAP, Offset, SegmentId, SpanId};
use crate::journal::{JournalKey, JournalKind, JournalState, Operation, PartitionState};
use crate::logs::{Log, LogIdentity, LogOptions, PARTITIONS_MAX};
use crate::mark::Mark;
use crate::metadata::{MetadataError, SegmentRecord};
use crate::recovery::{self, LostRange, Recovered, RecoveryError};
use crate::segment::SegmentWriter;
use crate::segments::Segments;
use crate::store::committer::Committer;
use crate::store::state::{CommitLimits, State, era_key, gap_key, span_key};
use crate::store::{
    AppendError, RecoveredRetained, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Shared, Store,
    StoreCounters, StoreOptions, StoreThreads, evacuations, keeper,
};

/// A data folder that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A database cannot be made.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The folder is not ours, in use, or of a later version.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A journal entry is of a later version.
    #[error("journal entry {key}")]
    Journal {
        /// Which.
        key: JournalKey,
        /// Why it cannot be read.
        source: EncodingError,
    },
    /// What is asked for cannot be.
    #[error("{0}")]
    Options(String),
    /// Random numbers are not to be had.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// Files cannot be read, moved or written.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The metadata cannot be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// What recovery decided could not be made durable.
    #[error("write down what was recovered")]
    FirstCommit(#[source] AppendError),
    /// A thread cannot be started.
    #[error("start a thread of the store")]
    Thread(#[source] std::io::Error),
}

impl Store {
    /// Opens the folder at `path`, which is made if it is missing or empty, with these logs.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage is none: it is repaired or put aside, and told by
    /// [`Store::recovery_events`].
    pub fn open(
        path: &Path,
        options: StoreOptions,
        logs: &[LogOptions],
    ) -> Result<(Self, StoreThreads), OpenError> {
        check(&options, logs)?;
        Self::open_folder(Folder::open(path)?, options, logs)
    }

    /// Opens the folder at `path` only if it is a data folder, to look at it: no log can be
    /// appended to.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_existing(
        path: &Path,
        options: StoreOptions,
    ) -> Result<(Self, StoreThreads), OpenError> {
        Self::open_folder(Folder::open_existing(path)?, options, &[])
    }

    fn open_folder(
        folder: Folder,
        options: StoreOptions,
        logs: &[LogOptions],
    ) -> Result<(Self, StoreThreads), OpenError> {
        let flash_before = FlashUse::of_process(&StoreCounters::default(), 0);
        tracing::debug!(target: "start", step = "lock", "Start goes on.");
        let room = Room {
            reserve_bytes: options.free_space_reserve_bytes,
            free_space: options.free_space,
        };
        let progress = options.progress.clone().unwrap_or_default();
        let mut recovered = recovery::recover(&folder, room, &progress)?;
        for event in &recovered.events {
            tracing::warn!("Recovery: {event}.");
        }
        let mut beginning = Beginning::new(&recovered, &options)?;
        let logs = beginning.logs(&recovered.journal, logs)?;
        let retained = recovered_retained(&mut recovered);

        let writer = SegmentWriter::create(&folder.segments(), recovered.next_segment)?;
        recovered
            .metadata
            .put_segment(writer.id(), &SegmentRecord::created())?;
        recovered.metadata.flush()?;
        let active = (writer.id(), writer.database().clone());
        let sealed = recovered.sealed.clone();
        let segments = Segments::new(folder.segments(), recovered.sealed, active, room);
        let limits = CommitLimits {
            commit_bytes: options.commit_bytes_max,
            queue_bytes: options.queue_bytes_max,
        };
        let mut state = State::new(
            limits,
            logs,
            recovered.journal,
            beginning.last_commit,
            beginning.eras,
        );
        state.note_recovered_cold(Instant::now());
        state.topics = recovered.metadata.topics()?;
        recovered.metadata.keep_topics_of(&sealed)?;
        let urgent = beginning.urgent;
        for operation in beginning.operations {
            state.accompany(operation);
        }
        let (events, metadata) = (recovered.events, recovered.metadata);
        let shared = Arc::new(Shared::new(
            options, folder, metadata, segments, state, events, retained,
        ));
        // Before the first message, not half a second after it.
        keeper::watch_space(&shared);
        shared.begin_flash_account(flash_before);
        let threads = start(&shared, writer, recovered.mark)?;
        let threads = StoreThreads {
            shared: Arc::clone(&shared),
            threads,
        };
        if urgent && let Err(error) = write_down(&shared, recovered.deferred) {
            // Or they would hold the folder for as long as the process lives.
            threads.close();
            return Err(error);
        }
        tracing::debug!(target: "start", step = "store", "Start goes on.");
        Ok((Self { shared }, threads))
    }
}

/// Offsets leapt or a new incarnation began: that comes before anything that builds on it.
fn write_down(
    shared: &Shared,
    deferred: BTreeMap<SegmentId, Option<SegmentRecord>>,
) -> Result<(), OpenError> {
    let first = shared.hurry_open_commit();
    shared.wait_durable(first).map_err(OpenError::FirstCommit)?;
    for (id, record) in deferred {
        match record {
            Some(record) => {
                let now = shared.segments.index().sealed.get(&id).cloned();
                // Or retention, which works already, has removed it.
                if now.is_some_and(|now| now.name(id) == record.name(id)) {
                    shared.metadata.put_segment(id, &record)?;
                }
            }
            None => shared.metadata.remove_segment(id)?,
        }
    }
    shared.metadata.flush()?;
    Ok(())
}

fn check(options: &StoreOptions, logs: &[LogOptions]) -> Result<(), OpenError> {
    let wrong = |what: String| Err(OpenError::Options(what));
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes) {
        return wrong(format!(
            "a segment of {} bytes; allowed: {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}",
            options.segment_bytes
        ));
    }
    for (index, log) in logs.iter().enumerate() {
        if !(1..=PARTITIONS_MAX).contains(&log.partitions) {
            let (name, partitions) = (&log.name, log.partitions);
            return wrong(format!(
                "log `{name}` with {partitions} partitions; allowed: 1 to {PARTITIONS_MAX}"
            ));
        }
        if logs.iter().take(index).any(|other| other.name == log.name) {
            return wrong(format!("two logs called `{}`", log.name));
        }
    }
    Ok(())
}

fn start(
    shared: &Arc<Shared>,
    writer: SegmentWriter,
    mark: Mark,
) -> Result<Vec<thread::JoinHandle<()>>, OpenError> {
    let committer = Committer::new(Arc::clone(shared), writer);
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(OpenError::Thread)
    };
    let (keeper, evacuator) = (Arc::clone(shared), Arc::clone(shared));
    Ok(vec![
        spawn("committer", Box::new(move || committer.run()))?,
        spawn("keeper", Box::new(move || keeper::run(&keeper, mark)))?,
        spawn("evacuator", Box::new(move || evacuations::run(&evacuator)))?,
    ])
}

/// What the first commit of this process says beside what is asked of it.
struct Beginning {
    operations: Vec<Operation>,
    eras: BTreeMap<EraId, Era>,
    last_commit: CommitNumber,
    /// Whether that commit cannot wait for a message.
    urgent: bool,
    span: SpanId,
}

impl Beginning {
    fn new(recovered: &Recovered, options: &StoreOptions) -> Result<Self, OpenError> {
        let mut beginning = Self {
            operations: Vec::new(),
            eras: eras_of(&recovered.journal)?,
            last_commit: recovered.last_commit,
            urgent: false,
            span: recovered.journal.span(),
        };
        beginning.begin_era(recovered, options);
        beginning.identify(recovered, options.fingerprint)?;
        beginning.note_losses(recovered, options);
        Ok(beginning)
    }

    fn put(&mut self, key: JournalKey, value: Vec<u8>) {
        self.operations.push(Operation::Put { key, value });
    }

    /// Goes on in the era of this boot, or begins one.
    fn begin_era(&mut self, recovered: &Recovered, options: &StoreOptions) {
        let clock = options.clock.as_ref();
        let last = self.eras.last_key_value().map(|(id, era)| (*id, *era));
        if last.is_some_and(|(_, era)| era.is_of_boot(clock.boot_id())) {
            return;
        }
        // The last segment may hold no record, only what was written down meanwhile.
        let mut segments = recovered.sealed.values().rev();
        let newest = segments.find(|segment| segment.max_timestamp_ms > i64::MIN);
        let newest_ms = newest.map(|segment| {
            let ms = segment.max_timestamp_ms;
            let era = self.eras.get(&segment.last_era);
            era.map_or(ms, |era| era.corrected(ms).ms)
        });
        let floor_ms = newest_ms.unwrap_or(RELEASE_TIME_MS);
        let id = EraId(last.map_or(1, |(id, _)| id.0 + 1));
        let era = Era::begin(clock, floor_ms);
        self.eras.insert(id, era);
        self.put(era_key(id), era.to_stored());
    }

    /// Who the folder is: as before, a new one, or a copy on other hardware.
    fn identify(
        &mut self,
        recovered: &Recovered,
        here: Option<Fingerprint>,
    ) -> Result<(), OpenError> {
        let key = JournalKey::new(JournalKind::Identity, b"");
        let stored = recovered
            .journal
            .get(&key)
            .map(Identity::from_stored)
            .transpose();
        let stored = stored.map_err(|source| OpenError::Journal {
            key: key.clone(),
            source,
        })?;
        let moved = stored.as_ref().is_some_and(|identity| {
            identity.fingerprint.is_some() && here.is_some() && identity.fingerprint != here
        });
        let reason = match &stored {
            _ if recovered.lost_ends > 0 => SpanReason::LostEnd,
            None => SpanReason::NewFolder,
            Some(_) if moved => SpanReason::NewIncarnation,
            Some(_) => return Ok(()),
        };
        // Also after a lost end: partitions that only the lost segment knew have no past to leap
        // from, and their records must not be named twice.
        let incarnation = Incarnation(getrandom::u64().map_err(OpenError::Random)?);
        tracing::info!(%incarnation, reason = reason.as_str(), "A new incarnation begins.");
        if reason != SpanReason::NewFolder {
            self.span = recovered.span_after_loss();
            self.urgent = true;
        }
        let identity = Identity {
            incarnation,
            fingerprint: here,
        };
        self.put(key, identity.to_stored());
        self.begin_span(recovered, incarnation, reason);
        Ok(())
    }

    fn begin_span(&mut self, recovered: &Recovered, incarnation: Incarnation, reason: SpanReason) {
        let leap = OFFSET_LEAP * u64::from(recovered.lost_ends);
        let leapt = |state: PartitionState| PartitionState {
            next_offset: state.next_offset.advanced(leap),
            ..state
        };
        let states = recovered.journal.partition_states();
        let partitions: Vec<_> = states.into_iter().map(leapt).collect();
        let starts = partitions
            .iter()
            .map(|state| (state.partition, state.next_offset))
            .collect();
        self.put(
            span_key(self.span),
            Span {
                incarnation,
                reason,
                starts,
            }
            .to_stored(),
        );
        self.operations.push(Operation::Leap {
            partitions,
            span: self.span,
        });
        self.last_commit = recovered.last_commit_after(leap);
    }

    /// Writes what was lost into the gap ledger.
    fn note_losses(&mut self, recovered: &Recovered, options: &StoreOptions) {
        let era = self.eras.last_key_value().map(|(_, era)| *era);
        let noted_ms = era.map_or(RELEASE_TIME_MS, |era| {
            era.provisional_ms(options.clock.as_ref())
        });
        let existing = recovered.journal.of_kind(JournalKind::Gap);
        let mut existing: BTreeMap<u64, Gap> = existing
            .filter_map(|(key, value)| {
                let number = u64::from_be_bytes(key.rest().try_into().ok()?);
                Some((number, Gap::from_stored(value).ok()?))
            })
            .collect();
        let gap = |lost: LostRange, at_most, reason| Gap {
            partition: lost.partition,
            route: None,
            from: lost.from,
            to: lost.to,
            records: lost.to.since(lost.from),
            at_most,
            bytes: lost.bytes,
            reason,
            noted_ms,
        };
        let mut gaps: Vec<Gap> = recovered
            .lost
            .iter()
            .map(|lost| gap(*lost, false, GapReason::Quarantine))
            .collect();
        if recovered.lost_ends > 0 {
            let leap = OFFSET_LEAP * u64::from(recovered.lost_ends);
            for state in recovered.journal.partition_states() {
                let (from, to) = (state.next_offset, state.next_offset.advanced(leap));
                let lost = LostRange {
                    partition: state.partition,
                    from,
                    to,
                    bytes: None,
                };
                gaps.push(gap(lost, true, GapReason::LostEnd));
            }
            for (partition, from) in recovered.ends_without_journal() {
                let to = Offset(u64::from(self.span.0) * OFFSET_LEAP);
                let bytes = None;
                let lost = LostRange {
                    partition,
                    from,
                    to,
                    bytes,
                };
                gaps.push(gap(lost, true, GapReason::LostEnd));
            }
        }
        for gap in gaps {
            let (partition, from, to) = (gap.partition, gap.from, gap.to);
            tracing::error!(%partition, %from, %to, reason = gap.reason.as_str(), "Records are lost.");
            // Nothing may have been written since the last loss.
            let mut earlier = existing.iter();
            let longer =
                earlier.find_map(|(number, earlier)| Some((*number, earlier.extended_by(&gap)?)));
            let next = existing.keys().next_back().map_or(0, |last| last + 1);
            let (number, gap) = longer.unwrap_or((next, gap));
            self.put(gap_key(number), gap.to_stored());
            existing.insert(number, gap);
            self.urgent = true;
        }
    }

    /// The logs of the folder: those asked for, with the ids that they have or get, and the others.
    fn logs(
        &mut self,
        journal: &JournalState,
        wanted: &[LogOptions],
    ) -> Result<BTreeMap<LogId, Log>, OpenError> {
        let mut logs = BTreeMap::new();
        for (key, value) in journal.of_kind(JournalKind::Log) {
            let identity =
                LogIdentity::from_stored(value).map_err(|source| OpenError::Journal {
                    key: key.clone(),
                    source,
                })?;
            let id = LogId(key.rest().try_into().map_or(0, u16::from_be_bytes));
            let LogIdentity { name, partitions } = identity;
            logs.insert(
                id,
                Log {
                    id,
                    options: None,
                    name,
                    partitions,
                },
            );
        }
        for options in wanted {
            let known = logs
                .values()
                .find(|log| log.name == options.name)
                .map(|log| log.id);
            let next = logs
                .keys()
                .next_back()
                .map_or(Some(1), |last| last.0.checked_add(1));
            let id = match (known, next) {
                (Some(id), _) => id,
                (None, Some(next)) => LogId(next),
                (None, None) => {
                    return Err(OpenError::Options(
                        "the folder has had 65535 logs".to_owned(),
                    ));
                }
            };
            let before = logs.get(&id).map_or(0, |log| log.partitions);
            let partitions = before.max(options.partitions);
            if partitions != before {
                let identity = LogIdentity {
                    name: options.name.clone(),
                    partitions,
                };
                let key = JournalKey::new(JournalKind::Log, &id.0.to_be_bytes());
                self.put(key, identity.to_stored());
            }
            let (name, options) = (options.name.clone(), Some(options.clone()));
            logs.insert(
                id,
                Log {
                    id,
                    options,
                    name,
                    partitions,
                },
            );
        }
        Ok(logs)
    }
}

fn eras_of(journal: &JournalState) -> Result<BTreeMap<EraId, Era>, OpenError> {
    let mut eras = BTreeMap::new();
    for (key, value) in journal.of_kind(JournalKind::Era) {
        let era = Era::from_stored(value).map_err(|source| OpenError::Journal {
            key: key.clone(),
            source,
        })?;
        eras.insert(
            EraId(key.rest().try_into().map_or(0, u32::from_be_bytes)),
            era,
        );
    }
    Ok(eras)
}

fn recovered_retained(recovered: &mut Recovered) -> Vec<RecoveredRetained> {
    let records = std::mem::take(&mut recovered.retained);
    let messages = records
        .into_iter()
        .filter_map(|(topic, record)| match record.message()? {
            Ok(message) => Some(RecoveredRetained {
                era: record.era,
                message,
            }),
            Err(error) => {
                let topic = String::from_utf8_lossy(&topic).into_owned();
                tracing::warn!(topic, %error, "Retained message passed over.");
                None
            }
        });
    messages.collect()
}
