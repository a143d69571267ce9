//! `tidegate log list | read`: looks into the logs of a running gateway, by its admin server, or of
//! a data folder that nobody has open.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use storage::{Store, StoreOptions};

use crate::admin::{LogSummary, Reading, RecordView, get, read_records, summarise};
use crate::cli::{LogCommand, LogListOptions, LogOptions, LogReadOptions};
use crate::exit::{Failure, Status};

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
        let status = match &error {
            storage::OpenError::Folder(storage::FolderError::Locked { .. }) => Status::InUse,
            _ => Status::Failed,
        };
        let hint = "look into the logs of a running gateway with --admin instead of --data";
        match status {
            Status::InUse => Failure::with(status, anyhow::Error::from(error).context(hint)),
            _ => Failure::from(error),
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
        print(&format!("{}\n", serde_json::to_string_pretty(&logs)?));
        return Ok(());
    }
    let mut out = String::new();
    writeln!(
        out,
        "{:<24} {:>9} {:>16} {:>16} {:>12}",
        "LOG", "PARTITION", "LOG START OFFSET", "HIGH WATERMARK", "RECORDS"
    )?;
    for log in logs {
        let name = if log.configured {
            log.name
        } else {
            format!("{} (not configured)", log.name)
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
    print(&out);
    Ok(())
}

fn read(options: &LogReadOptions) -> Result<(), Failure> {
    let records: Vec<RecordView> = match &options.source.data {
        Some(path) => {
            let reading = Reading {
                log: options.log.clone(),
                partition: options.partition,
                from: options.from,
                count: options.count,
            };
            with_folder(path, |store| read_records(store, &reading))??
        }
        None => {
            let mut path = format!("/log/read?log={}&count={}", options.log, options.count);
            for (name, value) in [
                ("partition", options.partition.map(u64::from)),
                ("from", options.from),
            ] {
                if let Some(value) = value {
                    write!(path, "&{name}={value}")?;
                }
            }
            get(options.source.admin, &path)?
        }
    };
    let mut out = String::new();
    for record in &records {
        if options.json {
            writeln!(
                out,
                "{}",
                serde_json::to_string(record).context("print a record")?
            )?;
        } else {
            let payload = match (&record.payload, &record.payload_hex) {
                (Some(text), _) => text.clone(),
                (None, Some(hex)) => format!("0x{hex}"),
                (None, None) => String::new(),
            };
            writeln!(
                out,
                "{}@{} {} {} {} q{} {}",
                record.partition,
                record.offset,
                record.time_ms,
                record.client_id,
                record.topic,
                record.qos,
                payload
            )?;
        }
    }
    print(&out);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn print(text: &str) {
    print!("{text}");
}
