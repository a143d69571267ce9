//! `cargo xtask kill-loop`: SIGKILL on the product under load, at full length. The tests run a short
//! form of it.

use std::process::ExitCode;

use ::tests::kill_loop::{self, Options};
use anyhow::{Result, bail};
use clap::Args;

use crate::chaos::{product, seed_of_the_moment};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Kills under load
    #[arg(long, default_value_t = 500)]
    rounds: u32,
    /// MQTT clients
    #[arg(long, default_value_t = 6)]
    clients: u16,
    /// Decides when it is killed; another one each time by default
    #[arg(long)]
    seed: Option<u64>,
    /// Let the logs acknowledge before they commit: the run must find a loss
    #[arg(long)]
    control: bool,
}

/// Builds the product as it ships (or takes what `TIDEGATE_BIN` names), kills it, and looks.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments {
        rounds,
        clients,
        seed,
        control,
    } = *arguments;
    let options = Options {
        rounds,
        clients,
        seed: seed.map_or_else(seed_of_the_moment, Ok)?,
        acknowledge_early: control,
        program: Some(product()?),
    };
    println!("seed {}", options.seed);
    let result = kill_loop::run(&options, |line| println!("{line}"));
    if control {
        let Err(found) = result else {
            bail!("nothing was lost although messages were acknowledged before their commit");
        };
        println!("found, as it must be: {}", found.root_cause());
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", result?);
    Ok(ExitCode::SUCCESS)
}
