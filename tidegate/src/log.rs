//! `tidegate log list | read`: looks into the logs of a running gateway, by its admin server, or of
//! a data folder that nobody has open.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use storage::{FolderError, OpenError, Store, StoreOptions};

use crate::admin::{LogSummary, Reading, RecordView, get, read_records, summarise};
use crate::cli::{LogCommand, LogListOptions, LogOptions, LogReadOptions};
use crate::exit::Failure;
use crate::run::explain_open;
use crate::stdout::print;

/// Does what is asked.
pub(crate) fn run(options: &LogOptions) -> Result<(), Failure> {
    match &options.command {
        LogCommand::List(options) => list(options),
        LogCommand::Read(options) => read(options),
    }
}

/// Opens a folder to look at it; everything is closed again afterwards.
fn with_folder<T>(path: &Path, look: impl FnOnce(&Store) -> T) -> Result<T, Failure> {
    let opened = Store::open_existing(path, StoreOptions::default());
    let (store, threads) = opened.map_err(|error| {
        let is_in_use = matches!(error, OpenError::Folder(FolderError::Locked { .. }));
        let failure = explain_open(error);
        match is_in_use {
            true => failure
                .context("look into the logs of a running gateway with --admin instead of --data"),
            false => failure,
        }
    })?;
    let found = look(&store);
    threads.close();
    Ok(found)
}

fn list(options: &LogListOptions) -> Result<(), Failure> {
    let logs: Vec<LogSummary> = match &options.source.data {
        Some(path) => with_folder(path, summarise)?,
        None => get(options.source.admin, "/log/list")?,
    };
    if options.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&logs)?))?;
        return Ok(());
    }
    let mut out = String::new();
    writeln!(
        out,
        "{:<24} {:>9} {:>16} {:>16} {:>12}",
        "LOG", "PARTITION", "LOG START OFFSET", "HIGH WATERMARK", "RECORDS"
    )?;
    for log in logs {
        let name = match log.configured {
            Some(false) => format!("{} (not configured)", log.name),
            _ => log.name,
        };
        for partition in log.partitions {
            writeln!(
                out,
                "{name:<24} {:>9} {:>16} {:>16} {:>12}",
                partition.partition,
                partition.log_start_offset,
                partition.high_watermark,
                partition
                    .high_watermark
                    .saturating_sub(partition.log_start_offset)
            )?;
        }
    }
    print(&out)?;
    Ok(())
}

fn read(options: &LogReadOptions) -> Result<(), Failure> {
    match &options.source.data {
        Some(path) => with_folder(path, |store| {
            let partitions = partitions(options, summarise(store));
            print_pages(options, &partitions, |reading| read_records(store, reading))
        })?,
        None => {
            let admin = options.source.admin;
            let partitions = partitions(options, get(admin, "/log/list")?);
            print_pages(options, &partitions, |reading| {
                get(admin, &question(reading)?)
            })
        }
    }
}

/// The partitions to read one after the other; all at once when the log is not there, for the
/// error that says so.
fn partitions(options: &LogReadOptions, logs: Vec<LogSummary>) -> Vec<Option<u16>> {
    let log = logs.into_iter().find(|log| log.name == options.log);
    match (options.partition, log) {
        (None, Some(log)) => log.partitions.iter().map(|p| Some(p.partition)).collect(),
        (partition, _) => vec![partition],
    }
}

/// Asks for records until there are enough or no more, since an answer need not hold all.
fn print_pages(
    options: &LogReadOptions,
    partitions: &[Option<u16>],
    ask: impl Fn(&Reading) -> anyhow::Result<Vec<RecordView>>,
) -> Result<(), Failure> {
    let mut count = options.count;
    for partition in partitions {
        let mut reading = Reading {
            log: options.log.clone(),
            partition: *partition,
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
    Ok(())
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
fn shown(text: &str) -> String {
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
