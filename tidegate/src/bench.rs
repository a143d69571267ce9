//! `tidegate bench`: measures the program on the machine that it is on, beside what it can be
//! compared with. docs/bench.md says what each figure means and how it is taken.
//!
//! Brokers run as child processes and are looked at from outside, in /proc, so that the same is
//! measured of each.
//!
//! Invariant: temporary files and child processes are gone at the end, also after an error, SIGINT
//! or SIGTERM; after SIGKILL the processes are.

mod broker;
mod figure;
mod files;
mod folder;
mod load;
mod payloads;
mod probe;
mod process;
mod progress;
mod publish;
mod report;
mod start;
mod statistics;
mod steps;
mod table;
mod usage;

use std::future::Future;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::cli::bench::{BenchCommand, BenchOptions, BenchPublishOptions, BenchStartOptions};
use crate::exit::Failure;
use crate::stdout;

/// Measures and prints.
pub(crate) fn run(options: &BenchOptions) -> Result<(), Failure> {
    let done = match &options.command {
        None => measure(publish(&options.publish)),
        Some(BenchCommand::Publish(options)) => measure(publish(options)),
        Some(BenchCommand::Start(options)) => measure(start(options)),
        Some(BenchCommand::Child(options)) => process::become_child(options),
        Some(BenchCommand::WriteFiles(options)) => files::write_files(options),
    };
    Ok(done?)
}

async fn publish(options: &BenchPublishOptions) -> anyhow::Result<String> {
    let measured = publish::run(options).await?;
    if options.output.json {
        return json(&report::publish_json(options, &measured));
    }
    Ok(report::publish_text(options, &measured)?)
}

async fn start(options: &BenchStartOptions) -> anyhow::Result<String> {
    let measured = start::run(options).await?;
    if options.output.json {
        return json(&report::start_json(options, &measured));
    }
    Ok(report::start_text(options, &measured)?)
}

fn json(value: &Value) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Runs a measurement on this thread, which is the main one (see [`crate::child`]), and prints what
/// it says.
fn measure(measurement: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = LocalSet::new().block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        // Whichever comes first, the measurement is dropped here, with its processes and folder.
        tokio::select! {
            biased;
            _ = terminate.recv() => bail!("ended by SIGTERM before there was a result"),
            _ = interrupt.recv() => bail!("ended by SIGINT before there was a result"),
            result = measurement => result,
        }
    });
    stdout::print(&result?).map(drop)
}
