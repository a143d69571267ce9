//! `tidegate bench start`: how long a start takes, and how much memory, on a large log whose process
//! was killed while it was written to.
//!
//! Only the process dies, not the machine: the kernel still has the files in memory.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::broker::{Broker, TidegateOptions};
use super::folder::{self, Folder};
use super::load::{Load, LoadOptions};
use super::progress::Progress;
use super::steps::Steps;
use crate::cli::bench::BenchStartOptions;

/// The log is filled with large messages, which is fast.
const FILLING: LoadOptions = LoadOptions {
    clients: 4,
    inflight: 16,
    size: 60_000,
};
/// And written to with small ones when the process is killed: those make recovery work.
const WRITING: LoadOptions = LoadOptions {
    clients: 50,
    inflight: 20,
    size: 200,
};
/// What is stored of a small message, roughly.
const WRITTEN_BYTES: u64 = 512;

/// What one kill and start has measured. The fields are the schema of docs/bench.md.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Round {
    pub(super) log_bytes: u64,
    pub(super) data_folder_bytes: u64,
    pub(super) rss_before_bytes: u64,
    pub(super) rss_peak_before_bytes: u64,
    pub(super) start_to_connack_seconds: f64,
    pub(super) start_cpu_seconds: f64,
    pub(super) rss_after_bytes: u64,
    pub(super) rss_peak_after_bytes: u64,
    pub(super) start_read_bytes: u64,
    pub(super) start_fetched_bytes: u64,
    #[serde(flatten)]
    pub(super) steps: Steps,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    /// The start on an empty folder.
    pub(super) empty_start: Duration,
    pub(super) empty_rss_bytes: u64,
    pub(super) rounds: Vec<Round>,
}

/// Measures.
///
/// # Errors
/// Anything fails.
pub(super) async fn run(options: &BenchStartOptions) -> anyhow::Result<Measured> {
    let writing_bytes = u64::from(options.messages) * u64::from(options.rounds) * WRITTEN_BYTES;
    let bytes = options.bytes.get();
    // A fifth for what the database adds; nothing may be removed while it is measured.
    let expected = bytes + bytes / 5 + 2 * writing_bytes;
    let folder = Folder::create(&options.output.dir, expected)?;
    let place = folder.subfolder("tidegate")?;
    let retention_bytes = 2 * (expected + (64 << 20));
    let tidegate = TidegateOptions::new(place, FILLING.inflight.max(64), retention_bytes)?;

    let (mut broker, empty_start) = Broker::start_tidegate(&tidegate).await?;
    let empty_rss_bytes = broker.usage()?.rss_bytes;
    fill(&broker, bytes).await?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let what = format!("round {round}/{}: publish and kill", options.rounds);
        let (measured, started) = measure(&tidegate, broker, options.messages, what).await?;
        broker = started;
        rounds.push(measured);
    }
    broker.kill()?;
    Ok(Measured {
        empty_start,
        empty_rss_bytes,
        rounds,
    })
}

async fn fill(broker: &Broker, bytes: u64) -> anyhow::Result<()> {
    let messages = bytes.div_ceil(u64::from(FILLING.size));
    let mut progress = Progress::begin("fill the log".to_owned(), messages);
    let load = Load::connect(broker.mqtt(), FILLING).await?;
    let filled = load.start(messages).wait(None, &mut progress).await;
    filled
        .map_err(|error| broker.explain(&error))
        .context("fill the log")?;
    let store = broker.store().await?.context("no status")?;
    if store.bytes < bytes {
        bail!(
            "only {} of {bytes} bytes are in the log after it was filled",
            store.bytes
        );
    }
    Ok(())
}

/// Publishes, kills, starts.
async fn measure(
    tidegate: &TidegateOptions,
    mut broker: Broker,
    messages: u32,
    what: String,
) -> anyhow::Result<(Round, Broker)> {
    let messages = u64::from(messages);
    let mut progress = Progress::begin(what, messages);
    let mut load = Load::connect(broker.mqtt(), WRITING).await?.start(u64::MAX);
    let waited = load.wait(Some(messages), &mut progress).await;
    waited.map_err(|error| broker.explain(&error))?;
    let before = broker.usage()?;
    broker.kill()?;
    // Until now it was publishing.
    drop(load);
    let data_folder_bytes = folder::size(&tidegate.data())?;

    let began = SystemTime::now();
    let (broker, elapsed) = Broker::start_tidegate(tidegate).await?;
    let steps = Steps::of_log(&tidegate.log(), began, elapsed)?;
    let after = broker.usage()?;
    let store = broker.store().await?.context("no status")?;
    let round = Round {
        log_bytes: store.bytes,
        data_folder_bytes,
        rss_before_bytes: before.rss_bytes,
        rss_peak_before_bytes: before.rss_peak_bytes,
        start_to_connack_seconds: elapsed.as_secs_f64(),
        start_cpu_seconds: after.cpu().as_secs_f64(),
        rss_after_bytes: after.rss_bytes,
        rss_peak_after_bytes: after.rss_peak_bytes,
        start_read_bytes: after.read_bytes,
        start_fetched_bytes: after.fetched_bytes,
        steps,
    };
    Ok((round, broker))
}
