//! `storage-bench scan`: whether the memory for reading a log to its end depends on its size.
//!
//! A log is read in a process of its own, so that the peak is that of the reading.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use storage::{AppendError, CommitNumber, LogOptions, Store, StoreOptions};

use crate::cli::{ReadOptions, ScanOptions};
use crate::records::Records;
use crate::{figure, folder, usage};

const MIB: f64 = 1024.0 * 1024.0;
/// How much more the large log may take.
const MORE_BYTES_MAX: u64 = 16 << 20;
const RECORD_BYTES: u32 = 4096;
const READ_BYTES: usize = 1 << 20;

/// Measures; whether the target was met.
///
/// # Errors
/// There is too little room, or something fails.
pub(crate) fn run(options: &ScanOptions) -> anyhow::Result<bool> {
    let bytes = (options.large_mib + options.small_mib) << 20;
    // A fifth for framing, and for what opening a segment writes.
    let temporary = folder::create(&options.dir, bytes + bytes / 5)?;
    let mut peaks = Vec::new();
    for (name, mib) in [("small", options.small_mib), ("large", options.large_mib)] {
        let data = temporary.path().join(name);
        fill(&data, mib << 20, options.segment_mib)?;
        let peak = peak_of_reading(&data, options.segment_mib)?;
        let shown = figure(peak) / MIB;
        println!("{mib:>8} MiB of payload: {shown:.1} MiB of memory at most while it is read");
        peaks.push(peak);
        fs::remove_dir_all(&data)?;
    }
    let more = match peaks.as_slice() {
        [small, large] => large.saturating_sub(*small),
        _ => u64::MAX,
    };
    let met = more <= MORE_BYTES_MAX;
    let word = if met { "met" } else { "MISSED" };
    println!(
        "{word}: the large log takes {:.1} MiB more, at most 16",
        figure(more) / MIB
    );
    Ok(met)
}

fn store_options(segment_mib: u64) -> StoreOptions {
    StoreOptions {
        segment_bytes: segment_mib << 20,
        ..StoreOptions::default()
    }
}

fn fill(data: &Path, bytes: u64, segment_mib: u64) -> anyhow::Result<()> {
    let log = LogOptions {
        retention_bytes: u64::MAX / 4,
        ..LogOptions::new("all", 4)
    };
    let (store, threads) = Store::open(data, store_options(segment_mib), &[log])?;
    let log = store.log("all").context("no log")?.id;
    let records = Records::new(100, RECORD_BYTES);
    let count = bytes.div_ceil(u64::from(RECORD_BYTES));
    let mut last = CommitNumber(0);
    for record in 0..count {
        let publisher = u16::try_from(record % 100).unwrap_or_default();
        let message = records.message(record, publisher).context("no publisher")?;
        loop {
            match store.append(log, &message.client_id, &message) {
                Ok(appended) => {
                    last = appended.commit;
                    break;
                }
                // What is full empties with the commit that is on its way.
                Err(AppendError::QueueFull) => {
                    store.wait_durable(CommitNumber(store.durable().0 + 1))?;
                }
                Err(error) => return Err(error).context("append"),
            }
        }
    }
    store.wait_durable(last)?;
    drop(store);
    threads.close();
    Ok(())
}

fn peak_of_reading(data: &Path, segment_mib: u64) -> anyhow::Result<u64> {
    let program = std::env::current_exe().context("find this program")?;
    let output = Command::new(program)
        .arg("read")
        .arg(data)
        .args(["--segment-mib", &segment_mib.to_string()])
        .output()
        .context("start this program")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "reading failed: {said}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().context("the reader said no number")
}

/// In the child: reads everything, prints the peak in bytes.
pub(crate) fn read(options: &ReadOptions) -> anyhow::Result<()> {
    let store_options = store_options(options.segment_mib);
    let (store, threads) = Store::open_existing(&options.data, store_options)?;
    let mut reader = store.commit_reader(CommitNumber(1));
    let mut last = CommitNumber(0);
    loop {
        let commits = reader.read(READ_BYTES)?;
        let Some(commit) = commits.last() else { break };
        last = commit.number();
    }
    ensure!(
        last == store.durable(),
        "read up to commit {last} of {}",
        store.durable()
    );
    println!("{}", usage::memory()?.1);
    drop((reader, store));
    threads.close();
    Ok(())
}
