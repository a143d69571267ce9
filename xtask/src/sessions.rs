//! `cargo xtask sessions`: persistent sessions of the product at full length. The tests run short forms
//! of it.

use std::process::ExitCode;
use std::time::Duration;

use ::tests::sessions::{latency, many, random, rare, slow};
use anyhow::Result;
use clap::Args;

use crate::chaos::{product, seed_of_the_moment};

const SECONDS_OF_A_MINUTE: u64 = 60;
/// Messages of the measurement of latency, to the subscriber that is there and to those that return.
const LIVE_MESSAGES: u32 = 2_000;
const BACKLOG_MESSAGES: u32 = 20_000;
const BACKLOG_TIME: Duration = Duration::from_secs(20);
/// Clients of the random steps.
const SUBSCRIBERS: usize = 12;
const PUBLISHERS: usize = 4;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Sessions that are away while messages come
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Messages
    #[arg(long, default_value_t = 100_000)]
    messages: u32,
    /// Instead of that, subscribers at a tenth of the publish rate
    #[arg(long)]
    slow: bool,
    /// How long these are slow
    #[arg(long, default_value_t = 5, requires = "slow")]
    minutes: u64,
    /// Messages in a second that are published meanwhile
    #[arg(long, default_value_t = 1_000, requires = "slow")]
    rate: u32,
    /// Highest QoS of the messages
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    qos: u8,
    /// Instead of that, a subscriber of one rare topic that comes back to a large log
    #[arg(long, conflicts_with = "slow")]
    rare: bool,
    /// How large it is
    #[arg(long, default_value_t = 256, requires = "rare",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    log_mib: u32,
    /// Instead of that, random steps of subscribers and publishers
    #[arg(long, conflicts_with_all = ["slow", "rare"])]
    chaos: bool,
    /// How many
    #[arg(long, default_value_t = 20_000, requires = "chaos")]
    steps: u32,
    /// One of so many is a kill
    #[arg(long, default_value_t = 300, requires = "chaos",
        value_parser = clap::value_parser!(u64).range(1..))]
    kill_every: u64,
    /// Instead of that, how long one message takes to a subscriber that is there, and how fast one that
    /// returns gets 20,000
    #[arg(long, conflicts_with_all = ["slow", "rare", "chaos"])]
    latency: bool,
    /// How often that is measured; figures are medians
    #[arg(long, default_value_t = 3, requires = "latency",
        value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Decides about topics and times; another one each time by default
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds the product as it ships (or takes what `TIDEGATE_BIN` names) and looks at its sessions.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let program = Some(product()?);
    let say = |line: &str| println!("{line}");
    if arguments.slow {
        let options = slow::Options {
            time: Duration::from_secs(arguments.minutes * SECONDS_OF_A_MINUTE),
            rate: arguments.rate,
            qos: arguments.qos,
            program,
        };
        println!("{}", slow::run(&options, say)?);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.rare {
        let options = rare::Options {
            log_mib: arguments.log_mib,
            program,
        };
        println!("{}", rare::run(&options)?);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.latency {
        let options = latency::Options {
            rounds: arguments.rounds.into(),
            live_messages: LIVE_MESSAGES,
            backlog_messages: BACKLOG_MESSAGES,
            backlog_time: BACKLOG_TIME,
            program,
        };
        println!("{}", latency::run(&options, say)?);
        return Ok(ExitCode::SUCCESS);
    }
    let seed = arguments.seed.map_or_else(seed_of_the_moment, Ok)?;
    println!("seed {seed}");
    if arguments.chaos {
        let options = random::Options {
            steps: arguments.steps,
            subscribers: SUBSCRIBERS,
            publishers: PUBLISHERS,
            steps_of_a_kill: arguments.kill_every,
            seed,
            program,
        };
        println!("{}", random::run(&options, say)?);
        return Ok(ExitCode::SUCCESS);
    }
    let options = many::Options {
        sessions: arguments.sessions,
        messages: arguments.messages,
        qos_max: arguments.qos,
        is_patient: true,
        seed,
        program,
    };
    println!("{}", many::run(&options, say)?);
    Ok(ExitCode::SUCCESS)
}
