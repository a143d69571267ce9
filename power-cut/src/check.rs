//! Opens a crash image with the store's own recovery and looks whether every promise was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use storage::{
    AppendError, Appended, JournalKey, JournalKind, LogOptions, LogPartition, Message, Offset,
    OpenError, PartitionId, Read, RecoveryEvent, Store, StoreOptions, StoreThreads,
};

use crate::cold::{self, compare_cold, compare_shared};
use crate::content;
use crate::expectation::{Acknowledgement, Expectation, LogShape, Partition, Retained, Written};
use crate::gateway::second_life;

/// What one read takes at once.
const READ_BYTES: usize = 1 << 20;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// A few words that count alike.
    pub(crate) kind: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)
    }
}

/// The findings, and what the store shows now: it must never take that back.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    pub(crate) findings: Vec<Finding>,
    pub(crate) shown: Acknowledgement,
}

impl Examined {
    pub(crate) fn find(&mut self, kind: &'static str, what: String) {
        self.findings.push(Finding { kind, what });
    }
}

/// Options as small as they may be, so that segments roll.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        segment_bytes: storage::SEGMENT_BYTES_MIN,
        free_space_reserve_bytes: 0,
        fingerprint: None,
        ..StoreOptions::default()
    }
}

/// The logs without any retention, which would move starts while they are looked at.
pub(crate) fn kept(logs: &[LogShape]) -> Vec<LogOptions> {
    logs.iter()
        .map(|log| LogOptions {
            retention_bytes: u64::MAX,
            ..LogOptions::new(&log.name, log.partitions)
        })
        .collect()
}

/// Opens, looks, writes, closes, opens and looks again.
pub(crate) fn check(folder: &Path, expected: &Expectation) -> Vec<Finding> {
    if let Some(history) = &expected.history {
        return second_life::check(folder, history);
    }
    let (store, threads) = match open(folder, expected) {
        Ok(opened) => opened,
        Err(error) => return vec![error],
    };
    let mut examined = examine(&store, expected);
    let mut later = expected.clone();
    later.in_flight.clear();
    later.take(&examined.shown);
    if let Err(error) = write_on(&store, &mut later, &mut examined) {
        examined.find("cannot be written to", format!("{error:#}"));
    }
    threads.close();
    drop(store);
    if !examined.findings.is_empty() {
        return examined.findings;
    }
    match open(folder, expected) {
        Ok((store, threads)) => {
            later.starts_max = later.starts_min.clone();
            let again = examine_tail(&store, &later);
            threads.close();
            again.findings
        }
        Err(error) => vec![error],
    }
}

fn open(folder: &Path, expected: &Expectation) -> Result<(Store, StoreThreads), Finding> {
    Store::open(folder, options(), &kept(&expected.logs)).map_err(does_not_open)
}

pub(crate) fn does_not_open(error: OpenError) -> Finding {
    Finding {
        kind: "does not open",
        what: format!("{:#}", anyhow!(error)),
    }
}

/// Compares what an open store shows with what was promised.
pub(crate) fn examine(store: &Store, expected: &Expectation) -> Examined {
    let mut examined = Examined::default();
    look_at_recovery(store, expected, &mut examined);
    for (partition, found) in read_all(store, expected, &mut examined) {
        compare_records(partition, &found, expected, &mut examined);
        let written = found.iter().map(|(offset, number)| Written {
            partition,
            offset: *offset,
            number: *number,
        });
        examined.shown.records.extend(written);
    }
    compare_entries(store, expected, &mut examined);
    compare_cold(store, expected, &mut examined);
    compare_shared(store, expected, &mut examined);
    compare_retained(store, expected, &mut examined);
    // Who looks again must know of them: their entries stay.
    let taken: Vec<_> = taken_in_flight(expected, &examined).copied().collect();
    examined.shown.records.extend(taken);
    let is_written = expected.incarnation.is_some() || !examined.shown.records.is_empty();
    examined.shown.incarnation = is_written.then(|| store.incarnation().0);
    examined
}

/// As [`examine`], but of the records only the newest: the others were read a moment ago, and each
/// segment that is opened costs more than all the rest.
fn examine_tail(store: &Store, expected: &Expectation) -> Examined {
    let mut examined = Examined::default();
    look_at_recovery(store, expected, &mut examined);
    for place in store.logs().iter().flat_map(storage::Log::partitions) {
        let partition = (place.log.0, place.partition.0);
        let (start, end) = (store.log_start(place).0, store.high_watermark(place).0);
        let min = expected.starts_min.get(&partition).copied().unwrap_or(0);
        if end != expected.end(partition).max(min) || start != min {
            let what = format!("{place} has {start} to {end} when opened again");
            examined.find("ends when opened again", what);
        }
        let Some((offset, number)) = expected.newest(partition) else {
            continue;
        };
        match read(store, place, offset.max(start), end) {
            Ok(found) if offset < start || found.get(&offset) == Some(&number) => {}
            Ok(found) => examined.find("other record", format!("{place}: {found:?}")),
            Err(error) => examined.find("cannot be read", format!("{place}: {error:#}")),
        }
    }
    let all = expected.records.iter().flat_map(|(partition, records)| {
        let written = |(offset, number): (&u64, &u64)| Written {
            partition: *partition,
            offset: *offset,
            number: *number,
        };
        records.iter().map(written)
    });
    examined.shown.records.extend(all);
    compare_entries(store, expected, &mut examined);
    compare_cold(store, expected, &mut examined);
    compare_shared(store, expected, &mut examined);
    compare_retained(store, expected, &mut examined);
    examined
}

pub(crate) fn look_at_recovery(store: &Store, expected: &Expectation, examined: &mut Examined) {
    for event in store.recovery_events() {
        let kind = match event {
            RecoveryEvent::UnfinishedCommit { .. } => continue,
            RecoveryEvent::MetadataMissing => "metadata missing",
            RecoveryEvent::MetadataQuarantined { .. } => "metadata in quarantine",
            RecoveryEvent::ColdEntriesLost { .. } => "cold entries lost",
            RecoveryEvent::SegmentQuarantined { .. } => "segment in quarantine",
            RecoveryEvent::SegmentCut { .. } => "segment cut",
            RecoveryEvent::SegmentMissing { .. } => "segment missing",
            RecoveryEvent::EndLost { .. } => "end lost",
            RecoveryEvent::EndNotProven { .. } => "end not proven",
            RecoveryEvent::DamageCopied { .. } => "damage copied",
        };
        examined.find(kind, event.to_string());
    }
    if let Some(gap) = store.gaps().first() {
        examined.find("gap in the ledger", format!("{gap:?}"));
    }
    let quarantine = fs::read_dir(store.path().join("quarantine"));
    if quarantine.map_or(0, Iterator::count) > 0 {
        examined.find("quarantine", "something is in quarantine".to_owned());
    }
    let incarnation = store.incarnation().0;
    if expected
        .incarnation
        .is_some_and(|known| known != incarnation)
    {
        examined.find("new incarnation", format!("{incarnation:x}"));
    }
}

/// Offsets and numbers of all records, by partition.
fn read_all(
    store: &Store,
    expected: &Expectation,
    examined: &mut Examined,
) -> Vec<(Partition, BTreeMap<u64, u64>)> {
    let mut all = Vec::new();
    for place in store.logs().iter().flat_map(storage::Log::partitions) {
        let partition = (place.log.0, place.partition.0);
        let (start, end) = (store.log_start(place).0, store.high_watermark(place).0);
        let bound = |starts: &BTreeMap<Partition, u64>| starts.get(&partition).copied();
        let min = bound(&expected.starts_min).unwrap_or(0);
        let max = bound(&expected.starts_max).unwrap_or(0).max(min);
        if start < min || start > max {
            let what = format!("{place} starts at {start}, expected {min} to {max}");
            examined.find("log start", what);
        }
        if start > 0 {
            examined.shown.log_starts.push((partition, start));
        }
        match read(store, place, start, end) {
            Ok(found) => all.push((partition, found)),
            Err(error) => examined.find("cannot be read", format!("{place}: {error:#}")),
        }
    }
    all
}

fn read(store: &Store, place: LogPartition, start: u64, end: u64) -> Result<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    let mut reader = store.partition_reader(place, Offset(start));
    loop {
        let batches = match reader.read(READ_BYTES)? {
            Read::UpToDate => break,
            Read::Gap { from, to, .. } => return Err(anyhow!("gap from {from} to {to}")),
            Read::Batches(batches) => batches,
        };
        for record in batches.iter().flat_map(|stored| stored.batch.records()) {
            let record = record?;
            let offset = u64::try_from(record.offset)?;
            if offset >= start {
                let message = Message::from_record(&record)?;
                let number = content::number(&message);
                let number = number.with_context(|| format!("offset {offset}: wrong content"))?;
                found.insert(offset, number);
            }
        }
    }
    anyhow::ensure!(
        found.keys().copied().eq(start..end),
        "not dense from {start} to {end}"
    );
    Ok(found)
}

fn compare_records(
    partition: Partition,
    found: &BTreeMap<u64, u64>,
    expected: &Expectation,
    examined: &mut Examined,
) {
    let start = found.keys().next().copied();
    let start = start.or_else(|| expected.starts_max.get(&partition).copied());
    let start = start.unwrap_or(0);
    let acknowledged = expected.records.get(&partition);
    for (offset, number) in acknowledged.into_iter().flatten() {
        match found.get(offset) {
            Some(there) if there == number => {}
            Some(there) => {
                let what = format!("{partition:?} at {offset}: record {there}, not {number}");
                examined.find("other record", what);
                return;
            }
            None if *offset < start => {}
            None => {
                let what = format!("{partition:?} at {offset}: record {number}");
                examined.find("record lost", what);
                return;
            }
        }
    }
    // What is there beyond the promises is what was on its way, where it was on its way to.
    let written = expected.in_flight.iter().flat_map(|p| &p.records);
    let written: BTreeMap<_, _> = written
        .map(|w| ((w.partition, w.offset), w.number))
        .collect();
    for (offset, number) in found.range(expected.end(partition)..) {
        if written.get(&(partition, *offset)) != Some(number) {
            let what = format!("{partition:?} at {offset}: record {number} out of nowhere");
            examined.find("unknown record", what);
            return;
        }
    }
}

/// Numbers of the records that are there, or were before retention took them: also of what was on its
/// way, since the writer may have waited with its question until after that.
pub(crate) fn survived(expected: &Expectation, examined: &Examined) -> BTreeSet<u64> {
    let shown = examined.shown.records.iter();
    shown
        .chain(taken_in_flight(expected, examined))
        .map(|written| written.number)
        .collect()
}

/// What was on its way and is behind the starts of its partitions.
fn taken_in_flight<'a>(
    expected: &'a Expectation,
    examined: &Examined,
) -> impl Iterator<Item = &'a Written> {
    let starts: BTreeMap<_, _> = examined.shown.log_starts.iter().copied().collect();
    let in_flight = expected
        .in_flight
        .iter()
        .flat_map(|promise| &promise.records);
    in_flight.filter(move |w| {
        let start = starts.get(&w.partition);
        start.is_some_and(|start| w.offset < *start)
    })
}

fn compare_entries(store: &Store, expected: &Expectation, examined: &mut Examined) {
    let mut shown = BTreeMap::new();
    for (key, value) in store.journal_entries(JournalKind::BridgeRoute) {
        let name = String::from_utf8_lossy(key.rest()).into_owned();
        match value.try_into().map(u64::from_be_bytes) {
            Ok(value) => {
                shown.insert(name, value);
            }
            Err(value) => examined.find("journal", format!("{name}: {value:?}")),
        }
    }
    let there = survived(expected, examined);
    for (name, value) in &expected.entries {
        if shown.get(name).is_none_or(|found| found < value) {
            let what = format!("{name} is {:?}, promised was {value}", shown.get(name));
            examined.find("journal is behind", what);
        }
    }
    for (name, value) in &shown {
        if expected
            .entries
            .get(name)
            .is_some_and(|known| known >= value)
        {
            continue;
        }
        let in_flight = expected.in_flight.iter();
        let is_known = in_flight.flat_map(|promise| &promise.entries);
        if !is_known
            .into_iter()
            .any(|known| *known == (name.clone(), *value))
        {
            examined.find("journal", format!("{name} is {value} out of nowhere"));
        }
        // The entry was put after these records; they cannot be missing.
        let before = expected.in_flight.iter().flat_map(|p| &p.records);
        let missing = before
            .filter(|written| written.number <= *value)
            .find(|written| !there.contains(&written.number));
        if let Some(missing) = missing {
            let what = format!(
                "{name} is {value}, but record {} is missing",
                missing.number
            );
            examined.find("journal is ahead", what);
        }
    }
    examined.shown.entries = shown.into_iter().collect();
}

fn compare_retained(store: &Store, expected: &Expectation, examined: &mut Examined) {
    let there = survived(expected, examined);
    let mut wanted = expected.retained.clone();
    for retained in expected
        .in_flight
        .iter()
        .flat_map(|promise| &promise.retained)
    {
        if there.contains(&retained.number) {
            wanted.insert(retained.topic.clone(), retained.clone());
        }
    }
    let mut found = BTreeMap::new();
    for recovered in store.take_recovered_retained() {
        let topic = String::from_utf8_lossy(&recovered.message.topic).into_owned();
        match content::number(&recovered.message) {
            Some(number) => {
                found.insert(topic, number);
            }
            None => examined.find("retained message", format!("{topic}: wrong content")),
        }
    }
    for (topic, retained) in &wanted {
        let promised = (!retained.cleared).then_some(retained.number);
        if found.get(topic).copied() != promised {
            let what = format!("{topic} is {:?}, expected {promised:?}", found.get(topic));
            examined.find("retained message", what);
        }
    }
    if let Some(topic) = found.keys().find(|topic| !wanted.contains_key(*topic)) {
        examined.find("retained message", format!("{topic} out of nowhere"));
    }
    examined.shown.retained = wanted.into_values().collect();
}

/// Writes to the recovered store: a new record gets the offset after all that it ever announced.
fn write_on(store: &Store, later: &mut Expectation, examined: &mut Examined) -> Result<()> {
    let mut number = later.next_number();
    let mut promise = Acknowledgement {
        incarnation: Some(store.incarnation().0),
        ..Acknowledgement::default()
    };
    let mut last = None;
    for log in store.logs() {
        let topic = format!("check/{}", log.name);
        let message = content::message(&topic, number, 100, false);
        let retain = Message {
            retain: true,
            ..message
        };
        let appended = append(store, log.id, &topic, &retain)?;
        let partition = partition_of(&appended);
        let end = later.end(partition);
        let free = examined
            .shown
            .records
            .iter()
            .filter(|w| w.partition == partition);
        let end = free.map(|w| w.offset + 1).max().unwrap_or(0).max(end);
        let start = later.starts_min.get(&partition).copied().unwrap_or(0);
        if appended.offset.0 != end.max(start) {
            let what = format!("{partition:?}: {} instead of {end}", appended.offset);
            examined.find("offset of a new record", what);
        }
        promise.records.push(Written {
            partition,
            offset: appended.offset.0,
            number,
        });
        promise.retained.push(Retained {
            topic,
            number,
            cleared: false,
        });
        last = Some(appended.commit);
        number += 1;
    }
    let value = number - 1;
    let key = JournalKey::new(JournalKind::BridgeRoute, b"check");
    let stored = Some(value.to_be_bytes().to_vec());
    let entry = store.put_journal_entry(key, stored, Duration::ZERO)?;
    promise.entries.push(("check".to_owned(), value));
    promise.cold = cold::after_check(&examined.shown.cold, value);
    let changes = promise.cold.iter().map(|cold| cold.entry(5000)).collect();
    let entry = entry.max(store.put_journal_entries(changes, Duration::ZERO)?);
    store.wait_durable(last.map_or(entry, |last| last.max(entry)))?;
    later.take(&promise);
    Ok(())
}

pub(crate) fn partition_of(appended: &Appended) -> Partition {
    let LogPartition {
        log,
        partition: PartitionId(partition),
    } = appended.partition;
    (log.0, partition)
}

/// Appends, with the entries that belong to the record, and waits as long as too much waits for the committer.
pub(crate) fn append(
    store: &Store,
    log: storage::LogId,
    key: &str,
    message: &Message,
) -> Result<Appended> {
    loop {
        let entries = content::number(message).map_or_else(Vec::new, cold::entries_with);
        match store.append_with(log, key.as_bytes(), message, entries) {
            Err(AppendError::QueueFull) => std::thread::sleep(Duration::from_micros(100)),
            other => return other.context("append"),
        }
    }
}
