//! Logs, partitions and records as they are shown to people and programs.

use anyhow::{anyhow, bail};
use serde::{Deserialize, Serialize};
use storage::{Gap, Log, LogPartition, Message, Offset, PartitionId, Read, Store};

const READ_BYTES: usize = 256 * 1024;
/// Payload bytes after which a reading ends early; the reader asks again from there. In an answer
/// they may be six times as many.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// A log.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LogSummary {
    pub(crate) name: String,
    /// Whether new records may come; a log that the configuration does not name is only read. Of a
    /// folder that nobody runs it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) configured: Option<bool>,
    pub(crate) partitions: Vec<PartitionSummary>,
}

/// A partition.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct PartitionSummary {
    pub(crate) partition: u16,
    pub(crate) log_start_offset: u64,
    pub(crate) high_watermark: u64,
    /// Bytes on flash, in whole segments, and how many of these hold any.
    pub(crate) bytes: u64,
    pub(crate) segments: usize,
    /// Gaps of every reader that are written down.
    pub(crate) gaps: usize,
    /// Time of the oldest and of the newest record, in milliseconds since 1970, corrected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest_ms: Option<i64>,
}

/// Which records are wanted.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) log: String,
    pub(crate) partition: Option<u16>,
    pub(crate) from: Option<u64>,
    pub(crate) count: u64,
}

/// A record.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RecordView {
    pub(crate) partition: u16,
    pub(crate) offset: u64,
    pub(crate) commit: u64,
    /// Milliseconds since 1970, corrected.
    pub(crate) time_ms: i64,
    pub(crate) time_quality: String,
    pub(crate) key: String,
    pub(crate) topic: String,
    pub(crate) client_id: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// The payload, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
    /// The payload in hexadecimal digits, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload_hex: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) user_properties: Vec<(String, String)>,
}

/// All logs of a store. Blocks: the oldest and newest records are read.
pub(crate) fn summarise(store: &Store) -> anyhow::Result<Vec<LogSummary>> {
    let gaps = store.gaps();
    let logs = store.logs();
    let is_any_configured = logs.iter().any(|log| log.options.is_some());
    let log = |log: Log| {
        let partitions = log
            .partitions()
            .map(|partition| of_partition(store, partition, &gaps));
        anyhow::Ok(LogSummary {
            configured: is_any_configured.then_some(log.options.is_some()),
            partitions: partitions.collect::<anyhow::Result<_>>()?,
            name: log.name,
        })
    };
    logs.into_iter().map(log).collect()
}

fn of_partition(
    store: &Store,
    partition: LogPartition,
    gaps: &[Gap],
) -> anyhow::Result<PartitionSummary> {
    let (start, end) = (store.log_start(partition), store.high_watermark(partition));
    let (bytes, segments) = store.partition_usage(partition);
    let of_all = gaps.iter().filter(|gap| gap.partition == partition);
    let last = Offset(end.0.saturating_sub(1));
    let (oldest, newest) = match start < end {
        true => (
            times_at(store, partition, start)?,
            times_at(store, partition, last)?,
        ),
        false => (None, None),
    };
    Ok(PartitionSummary {
        partition: partition.partition.0,
        log_start_offset: start.0,
        high_watermark: end.0,
        bytes,
        segments,
        gaps: of_all.filter(|gap| gap.route.is_none()).count(),
        oldest_ms: oldest.map(|(first, _)| first),
        newest_ms: newest.map(|(_, last)| last),
    })
}

/// First and newest time in the batch that has `offset` or follows it.
fn times_at(
    store: &Store,
    partition: LogPartition,
    offset: Offset,
) -> anyhow::Result<Option<(i64, i64)>> {
    let mut reader = store.partition_reader(partition, offset);
    loop {
        match reader.read(1)? {
            Read::Batches(batches) => {
                if let Some(stored) = batches.first() {
                    let header = stored.batch.header();
                    let era = store.era(stored.era);
                    let corrected = |ms| era.map_or(ms, |era| era.corrected(ms).ms);
                    return Ok(Some((
                        corrected(header.base_timestamp_ms),
                        corrected(header.max_timestamp_ms),
                    )));
                }
            }
            Read::Gap { .. } => {}
            Read::UpToDate => return Ok(None),
        }
    }
}

/// The log of this name.
pub(crate) fn find_log(store: &Store, name: &str) -> anyhow::Result<Log> {
    store.log(name).ok_or_else(|| {
        let names: Vec<_> = store.logs().into_iter().map(|log| log.name).collect();
        anyhow!("there is no log `{name}`; there are: {}", names.join(", "))
    })
}

/// The partition of this number, or all.
pub(crate) fn partitions_of(log: &Log, number: Option<u16>) -> anyhow::Result<Vec<LogPartition>> {
    match number {
        None => Ok(log.partitions().collect()),
        Some(number) if number < log.partitions => Ok(vec![LogPartition {
            log: log.id,
            partition: PartitionId(number),
        }]),
        Some(number) => {
            let last = log.partitions.saturating_sub(1);
            bail!(
                "log `{}` has no partition {number}; it has 0 to {last}",
                log.name
            )
        }
    }
}

/// The records that `reading` asks for, partition by partition, but not many more than
/// [`PAYLOAD_BYTES_MAX`]. Of a single partition there is at least one, if there is one.
pub(crate) fn read_records(store: &Store, reading: &Reading) -> anyhow::Result<Vec<RecordView>> {
    let log = find_log(store, &reading.log)?;
    let partitions = partitions_of(&log, reading.partition)?;
    let mut page = Page::default();
    for partition in partitions {
        read_partition(store, partition, reading, &mut page)?;
    }
    Ok(page.records)
}

/// What was read so far.
#[derive(Debug, Default)]
struct Page {
    records: Vec<RecordView>,
    payload_bytes: usize,
}

impl Page {
    fn has_room(&self, reading: &Reading) -> bool {
        (self.records.len() as u64) < reading.count && self.payload_bytes < PAYLOAD_BYTES_MAX
    }
}

fn read_partition(
    store: &Store,
    partition: LogPartition,
    reading: &Reading,
    page: &mut Page,
) -> anyhow::Result<()> {
    let from = reading
        .from
        .map_or_else(|| store.log_start(partition), Offset);
    let mut reader = store.partition_reader(partition, from);
    while page.has_room(reading) {
        let batches = match reader.read(READ_BYTES)? {
            Read::Batches(batches) => batches,
            Read::Gap { .. } => continue,
            Read::UpToDate => break,
        };
        for stored in batches {
            let era = store.era(stored.era);
            for record in stored.batch.records() {
                let record = record?;
                if record.offset < from.as_i64() || !page.has_room(reading) {
                    continue;
                }
                let message = Message::from_record(&record)?;
                let time = era.map_or(
                    storage::CorrectedTime {
                        ms: record.timestamp_ms,
                        quality: storage::TimeQuality::Estimated,
                    },
                    |era| era.corrected(record.timestamp_ms),
                );
                page.payload_bytes += message.payload.len();
                page.records.push(RecordView {
                    partition: partition.partition.0,
                    offset: u64::try_from(record.offset).unwrap_or(0),
                    commit: stored.commit.0,
                    time_ms: time.ms,
                    time_quality: time.quality.as_str().to_owned(),
                    key: text(&record.key.unwrap_or_default()),
                    topic: text(&message.topic),
                    client_id: text(&message.client_id),
                    qos: message.qos,
                    retain: message.retain,
                    payload: String::from_utf8(message.payload.to_vec()).ok(),
                    payload_hex: std::str::from_utf8(&message.payload).is_err().then(|| {
                        message
                            .payload
                            .iter()
                            .map(|byte| format!("{byte:02x}"))
                            .collect()
                    }),
                    user_properties: message
                        .user_properties
                        .iter()
                        .map(|(name, value)| (text(name), text(value)))
                        .collect(),
                });
            }
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
