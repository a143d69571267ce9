//! `cargo xtask chaos`: the product under fire at full length. The tests run a short form of it.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use ::tests::chaos::{self, Options};
use ::tests::{kafka, python};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::{command, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// QoS 1 messages of 200 bytes, of all clients together
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// MQTT clients
    #[arg(long, default_value_t = 50)]
    clients: u16,
    /// Faults of each kind: tidegate killed, Kafka killed, link cut or delayed
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// Decides the faults and their order; another one each time by default
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds the product as it ships (or takes what `TIDEGATE_BIN` names) and plays.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    for available in [kafka::available(), python::available()] {
        available.map_err(|reason| anyhow!(reason))?;
    }
    let Arguments {
        messages,
        clients,
        kills,
        seed,
    } = *arguments;
    let options = Options {
        messages,
        clients,
        kills,
        seed: seed.map_or_else(seed_of_the_moment, Ok)?,
        program: Some(product()?),
    };
    println!("seed {}", options.seed);
    let report = chaos::run(&options, |line| println!("{line}"))?;
    report.check()?;
    println!("{report}");
    Ok(ExitCode::SUCCESS)
}

/// What `TIDEGATE_BIN` names, else the product as it ships, built if need be.
pub(crate) fn product() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TIDEGATE_BIN").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    // <target>/<profile>/xtask
    let own = env::current_exe().context("find this program's path")?;
    let target = own.ancestors().nth(2).context("no target folder")?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--locked", "--release", "--package", "tidegate"])
        .arg("--target-dir")
        .arg(target);
    ensure!(command::cargo(&mut cargo)?, "tidegate does not compile");
    Ok(target.join("release").join("tidegate"))
}

/// Small enough to be typed again.
pub(crate) fn seed_of_the_moment() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(u64::from(now.context("read the clock")?.subsec_micros()))
}
