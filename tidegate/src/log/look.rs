//! `tidegate log list | read`.

use std::fmt::Write as _;

use anyhow::Context as _;

use crate::admin::{
    LogSummary, PartitionSummary, Reading, RecordView, get, read_records, summarise,
};
use crate::cli::log::{LogListOptions, LogReadOptions};
use crate::exit::Failure;
use crate::log::folder::{LOOK_INSTEAD, with_view};
use crate::log::time::format_time;
use crate::stderr::say;
use crate::stdout::print;

pub(super) fn list(options: &LogListOptions) -> Result<(), Failure> {
    let logs: Vec<LogSummary> = match &options.source.data {
        Some(path) => with_view(path, LOOK_INSTEAD, |view| summarise(view.store()))??,
        None => get(options.source.admin, "/log/list")?,
    };
    if options.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&logs)?))?;
        return Ok(());
    }
    let mut out = String::new();
    writeln!(
        out,
        "{:<24} {:>9} {:>16} {:>14} {:>10} {:>12} {:>8} {:>5}  {:<24}  {:<24}",
        "LOG",
        "PARTITION",
        "LOG START OFFSET",
        "HIGH WATERMARK",
        "RECORDS",
        "BYTES",
        "SEGMENTS",
        "GAPS",
        "OLDEST",
        "NEWEST"
    )?;
    for log in logs {
        let name = match log.configured {
            Some(false) => format!("{} (not configured)", log.name),
            _ => log.name,
        };
        for partition in log.partitions {
            let line = describe_partition(&name, &partition);
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    print(&out)?;
    Ok(())
}

pub(super) fn read(options: &LogReadOptions) -> Result<(), Failure> {
    match &options.source.data {
        Some(path) => with_view(path, LOOK_INSTEAD, |view| {
            let store = view.store();
            let logs = summarise(store)?;
            print_pages(options, &logs, |reading| read_records(store, reading))
        })?,
        None => {
            let admin = options.source.admin;
            let logs: Vec<LogSummary> = get(admin, "/log/list")?;
            print_pages(options, &logs, |reading| get(admin, &question(reading)?))
        }
    }
}

fn describe_partition(name: &str, partition: &PartitionSummary) -> String {
    let PartitionSummary {
        partition: number,
        log_start_offset,
        high_watermark,
        bytes,
        segments,
        gaps,
        oldest_ms,
        newest_ms,
    } = partition;
    let records = high_watermark.saturating_sub(*log_start_offset);
    let time = |ms: &Option<i64>| ms.map(format_time).unwrap_or_default();
    let (oldest, newest) = (time(oldest_ms), time(newest_ms));
    format!(
        "{name:<24} {number:>9} {log_start_offset:>16} {high_watermark:>14} {records:>10} \
         {bytes:>12} {segments:>8} {gaps:>5}  {oldest:<24}  {newest:<24}"
    )
}

/// The partitions to read one after the other; all at once when the log is not there, for the
/// error that says so.
fn partitions(options: &LogReadOptions, logs: &[LogSummary]) -> Vec<Option<u16>> {
    let log = logs.iter().find(|log| log.name == options.log);
    match (options.partition, log) {
        (None, Some(log)) => log.partitions.iter().map(|p| Some(p.partition)).collect(),
        (partition, _) => vec![partition],
    }
}

/// Asks for records until there are enough or no more, since an answer need not hold all.
fn print_pages(
    options: &LogReadOptions,
    logs: &[LogSummary],
    ask: impl Fn(&Reading) -> anyhow::Result<Vec<RecordView>>,
) -> Result<(), Failure> {
    let mut count = options.count;
    for partition in partitions(options, logs) {
        let mut reading = Reading {
            log: options.log.clone(),
            partition,
            from: options.from,
            count,
        };
        while count > 0 {
            let records = ask(&reading)?;
            let Some(last) = records.last() else {
                break;
            };
            count = count.saturating_sub(records.len() as u64);
            (reading.from, reading.count) = (Some(last.offset + 1), count);
            if !print(&describe(&records, options.json)?)? {
                return Ok(());
            }
        }
    }
    if count == options.count && count > 0 {
        say(&nothing(options, logs));
    }
    Ok(())
}

/// Why nothing was printed.
fn nothing(options: &LogReadOptions, logs: &[LogSummary]) -> String {
    let name = &options.log;
    let log = logs.iter().find(|log| log.name == *name);
    let of_number = |number| log?.partitions.iter().find(|p| p.partition == number);
    let partition = options.partition.and_then(of_number);
    let Some(partition) = partition else {
        return format!("log `{name}` has no records");
    };
    let PartitionSummary {
        partition,
        log_start_offset: start,
        high_watermark: end,
        ..
    } = partition;
    match (end.saturating_sub(*start), options.from) {
        (1.., Some(from)) => format!(
            "partition {partition} of log `{name}` has offsets {start} to {}, none from {from} on",
            end.saturating_sub(1)
        ),
        _ => format!("partition {partition} of log `{name}` has no records"),
    }
}

fn question(reading: &Reading) -> Result<String, std::fmt::Error> {
    let mut path = format!("/log/read?log={}&count={}", reading.log, reading.count);
    for (name, value) in [
        ("partition", reading.partition.map(u64::from)),
        ("from", reading.from),
    ] {
        if let Some(value) = value {
            write!(path, "&{name}={value}")?;
        }
    }
    Ok(path)
}

fn describe(records: &[RecordView], is_json: bool) -> anyhow::Result<String> {
    let mut out = String::new();
    for record in records {
        if is_json {
            let json = serde_json::to_string(record).context("print a record")?;
            writeln!(out, "{json}")?;
            continue;
        }
        let payload = match (&record.payload, &record.payload_hex) {
            (Some(text), _) => shown(text),
            (None, Some(hex)) => format!("0x{hex}"),
            (None, None) => String::new(),
        };
        writeln!(
            out,
            "{}@{} {} {} {} q{} {payload}",
            record.partition,
            record.offset,
            record.time_ms,
            shown(&record.client_id),
            shown(&record.topic),
            record.qos,
        )?;
    }
    Ok(out)
}

/// Text of a client for a terminal: one line, and nothing that the terminal would obey.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
