//! `storage-bench rare`: what it costs a reader of one rare topic to come back to a large log.
//!
//! A log is read in a process of its own, so that what was read and written is that of the reading.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use storage::{AppendError, CommitNumber, LogOptions, Message, Store, StoreOptions, TopicMatch};

use crate::cli::{RareOptions, ReadRareOptions};
use crate::records::Records;
use crate::usage::{self, Usage};
use crate::{figure, folder};

const MIB: f64 = 1024.0 * 1024.0;
const TOPICS: u16 = 1000;
/// Messages of the rare topic, at equal distances.
const RARE_RECORDS: u64 = 20;
const RARE_TOPIC: &str = "plant/7/alarm";
const READ_BYTES: usize = 1 << 20;

/// Measures; whether the reader of the rare topic got all of it.
///
/// # Errors
/// There is too little room, or something fails.
pub(crate) fn run(options: &RareOptions) -> anyhow::Result<bool> {
    let bytes = options.log_mib << 20;
    // A third for framing, and for what opening a segment writes.
    let temporary = folder::create(&options.dir, bytes + bytes / 3)?;
    let data = temporary.path().join("data");
    fill(&data, options)?;
    println!(
        "{} MiB of payload in records of {} bytes, {TOPICS} topics, {RARE_RECORDS} messages of a rare one",
        options.log_mib, options.size
    );
    let mut is_met = true;
    for (name, is_matching) in [("everything", false), ("what may match", true)] {
        let said = read_in_child(&data, options, is_matching)?;
        println!("{name:>15}: {said}");
        is_met &= said.contains(&format!(" {RARE_RECORDS} found"));
    }
    Ok(is_met)
}

fn store_options(segment_mib: u64) -> StoreOptions {
    StoreOptions {
        segment_bytes: segment_mib << 20,
        ..StoreOptions::default()
    }
}

fn fill(data: &Path, options: &RareOptions) -> anyhow::Result<()> {
    let log = LogOptions {
        retention_bytes: u64::MAX / 4,
        ..LogOptions::new("all", 4)
    };
    let (store, threads) = Store::open(data, store_options(options.segment_mib), &[log])?;
    let log = store.log("all").context("no log")?.id;
    let records = Records::new(TOPICS, options.size);
    let count = (options.log_mib << 20).div_ceil(u64::from(options.size));
    let distance = (count / RARE_RECORDS).max(1);
    let mut last = CommitNumber(0);
    let before = Usage::of_process()?;
    let begun = Instant::now();
    for record in 0..count {
        // As if drawn by lot.
        let publisher = record.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let publisher = u16::try_from(publisher % u64::from(TOPICS)).unwrap_or_default();
        let mut message = records.message(record, publisher).context("no publisher")?;
        if record % distance == distance / 2 && record / distance < RARE_RECORDS {
            message.topic = RARE_TOPIC.into();
        }
        last = append(&store, log, &message)?;
    }
    store.wait_durable(last)?;
    let used = Usage::of_process()? - before;
    let payload = options.log_mib << 20;
    println!(
        "filled in {:.1} s, {:.2} us of CPU a record, {:.3} bytes written for one of payload",
        begun.elapsed().as_secs_f64(),
        used.cpu.as_secs_f64() * 1e6 / figure(count),
        figure(used.written_bytes) / figure(payload),
    );
    drop(store);
    threads.close();
    Ok(())
}

fn append(store: &Store, log: storage::LogId, message: &Message) -> anyhow::Result<CommitNumber> {
    loop {
        match store.append(log, &message.client_id, message) {
            Ok(appended) => return Ok(appended.commit),
            // What is full empties with the commit that is on its way.
            Err(AppendError::QueueFull) => {
                store.wait_durable(CommitNumber(store.durable().0 + 1))?;
            }
            Err(error) => return Err(error).context("append"),
        }
    }
}

fn read_in_child(data: &Path, options: &RareOptions, is_matching: bool) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command
        .arg("read-rare")
        .arg(data)
        .args(["--segment-mib", &options.segment_mib.to_string()]);
    if is_matching {
        command.arg("--matching");
    }
    let output = command.output().context("start this program")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "reading failed: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// In the child: reads, and prints what it cost.
pub(crate) fn read(options: &ReadRareOptions) -> anyhow::Result<()> {
    let opening = Instant::now();
    let store_options = store_options(options.segment_mib);
    let (store, threads) = Store::open_existing(&options.data, store_options)?;
    let opened_in = opening.elapsed();
    let before = Usage::of_process()?;
    let (begun, end) = (Instant::now(), store.durable());
    let mut reader = store.commit_reader(CommitNumber(1));
    let mut topics = TopicMatch::default();
    let mut found = 0;
    while reader.next_commit() <= end {
        let commits = match options.matching {
            true => {
                let wants = &mut |name: &[u8]| name == RARE_TOPIC.as_bytes();
                reader.read_matching(READ_BYTES, &mut topics, wants)?
            }
            false => reader.read(READ_BYTES)?,
        };
        for commit in commits {
            for place in commit.batches() {
                let batch = commit.batch(place.partition)?.context("no batch")?;
                for record in batch.records() {
                    let message = Message::from_record(&record?)?;
                    found += u64::from(message.topic == RARE_TOPIC);
                }
            }
        }
    }
    let took = begun.elapsed();
    let used = Usage::of_process()? - before;
    let counters = store.counters();
    println!(
        "{:.2} s, {:.1} MiB read, {:.1} MiB written, {} segments opened, {:.1} MiB of commits, \
         {} found; {:.0} ms of CPU, {:.0} MiB of memory at most, opened in {:.0} ms",
        took.as_secs_f64(),
        figure(used.read_bytes) / MIB,
        figure(used.written_bytes) / MIB,
        counters.segments_opened(),
        figure(counters.bytes_read()) / MIB,
        found,
        used.cpu.as_secs_f64() * 1e3,
        figure(usage::memory()?.1) / MIB,
        opened_in.as_secs_f64() * 1e3,
    );
    drop((reader, store));
    threads.close();
    Ok(())
}
