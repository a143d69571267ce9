//! Logs, partitions and records as they are shown to people and programs.

use anyhow::{anyhow, bail};
use serde::{Deserialize, Serialize};
use storage::{Log, LogPartition, Message, Offset, PartitionId, Read, Store};

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

/// All logs of a store.
pub(crate) fn summarise(store: &Store) -> Vec<LogSummary> {
    let partition = |partition: LogPartition| PartitionSummary {
        partition: partition.partition.0,
        log_start_offset: store.log_start(partition).0,
        high_watermark: store.high_watermark(partition).0,
    };
    let logs = store.logs();
    let is_any_configured = logs.iter().any(|log| log.options.is_some());
    let log = |log: Log| LogSummary {
        configured: is_any_configured.then_some(log.options.is_some()),
        partitions: log.partitions().map(partition).collect(),
        name: log.name,
    };
    logs.into_iter().map(log).collect()
}

/// The records that `reading` asks for, partition by partition, but not many more than
/// [`PAYLOAD_BYTES_MAX`]. Of a single partition there is at least one, if there is one.
pub(crate) fn read_records(store: &Store, reading: &Reading) -> anyhow::Result<Vec<RecordView>> {
    let log = store.log(&reading.log).ok_or_else(|| {
        let names: Vec<_> = store.logs().into_iter().map(|log| log.name).collect();
        anyhow!(
            "there is no log `{}`; there are: {}",
            reading.log,
            names.join(", ")
        )
    })?;
    let partitions: Vec<LogPartition> = match reading.partition {
        None => log.partitions().collect(),
        Some(number) if number < log.partitions => {
            vec![LogPartition {
                log: log.id,
                partition: PartitionId(number),
            }]
        }
        Some(number) => {
            let last = log.partitions.saturating_sub(1);
            bail!(
                "log `{}` has no partition {number}; it has 0 to {last}",
                log.name
            )
        }
    };
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
