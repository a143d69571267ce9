//! What a soak looks at now and then, and its form as CSV.

use crate::figure;
use crate::usage::Usage;

const MIB: f64 = 1024.0 * 1024.0;

/// The folder at one moment, and what it cost since the sample before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Of the soak's clock.
    pub(crate) hours: f64,
    pub(crate) records: u64,
    pub(crate) payload_bytes: u64,
    /// Payload of the records at or behind the start of their log.
    pub(crate) live_payload_bytes: u64,
    /// The same with key, topic and what else a record has.
    pub(crate) live_bytes: u64,
    /// Blocks that the data folder has.
    pub(crate) disk_bytes: u64,
    /// Of the whole process but for the bare files; of the devices' thread only publishing.
    pub(crate) store: Usage,
    pub(crate) bare: Usage,
    pub(crate) rss_bytes: u64,
    pub(crate) open_ms: Option<f64>,
    pub(crate) segments: u64,
    pub(crate) open_databases: u64,
}

/// Names of the columns; each with the value that it has for a sample and the one before.
type Column = (&'static str, fn(&Sample, &Sample) -> Option<f64>);

const COLUMNS: [Column; 20] = [
    ("payload_mib", |s, _| Some(figure(s.payload_bytes) / MIB)),
    ("hours", |s, _| Some(s.hours)),
    ("live_payload_mib", |s, _| {
        Some(figure(s.live_payload_bytes) / MIB)
    }),
    ("live_mib", |s, _| Some(figure(s.live_bytes) / MIB)),
    ("disk_mib", |s, _| Some(figure(s.disk_bytes) / MIB)),
    ("disk_per_live", |s, _| {
        Some(per(s.disk_bytes, s.live_bytes))
    }),
    ("disk_per_live_payload", |s, _| {
        Some(per(s.disk_bytes, s.live_payload_bytes))
    }),
    ("written_per_payload", |s, b| {
        Some(per(
            s.store.written_bytes,
            s.payload_bytes - b.payload_bytes,
        ))
    }),
    ("dirtied_per_payload", |s, b| {
        Some(per(
            s.store.dirtied_bytes,
            s.payload_bytes - b.payload_bytes,
        ))
    }),
    ("bare_written_per_payload", |s, b| {
        Some(per(s.bare.written_bytes, s.payload_bytes - b.payload_bytes))
    }),
    ("bare_dirtied_per_payload", |s, b| {
        Some(per(s.bare.dirtied_bytes, s.payload_bytes - b.payload_bytes))
    }),
    ("cpu_us_per_record", |s, b| Some(cpu(s.store, s, b))),
    ("bare_cpu_us_per_record", |s, b| Some(cpu(s.bare, s, b))),
    ("records_per_commit", |s, b| {
        Some(per(s.records - b.records, s.bare.syncs))
    }),
    ("syncs_per_commit", |s, _| {
        Some(per(s.store.syncs, s.bare.syncs))
    }),
    ("rss_mib", |s, _| Some(figure(s.rss_bytes) / MIB)),
    ("open_ms", |s, _| s.open_ms),
    ("segments", |s, _| Some(figure(s.segments))),
    ("open_databases", |s, _| Some(figure(s.open_databases))),
    ("commits", |s, _| Some(figure(s.bare.syncs))),
];

pub(super) fn per(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        figure(part) / figure(whole)
    }
}

fn cpu(used: Usage, sample: &Sample, before: &Sample) -> f64 {
    let records = sample.records.saturating_sub(before.records).max(1);
    used.cpu.as_secs_f64() * 1e6 / figure(records)
}

/// One line for each sample, with the names of the columns above.
pub(crate) fn to_csv(samples: &[Sample]) -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let mut text = names.join(",") + "\n";
    let mut before = Sample::default();
    for sample in samples {
        let cells: Vec<String> = COLUMNS
            .iter()
            .map(|(_, of)| of(sample, &before).map_or_else(String::new, |v| format!("{v:.3}")))
            .collect();
        text += &cells.join(",");
        text.push('\n');
        before = *sample;
    }
    text
}

impl Sample {
    /// For whoever waits for the end.
    pub(super) fn line(&self, retained: u64) -> String {
        format!(
            "turned over {:.2} times, {:.0} h: {:.1} MiB live, disk/live {:.3}, {} segments, {:.1} MiB \
             of memory",
            per(self.payload_bytes, retained),
            self.hours,
            figure(self.live_bytes) / MIB,
            per(self.disk_bytes, self.live_bytes),
            self.segments,
            figure(self.rss_bytes) / MIB,
        )
    }
}
