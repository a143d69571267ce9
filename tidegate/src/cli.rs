//! The command line.

pub(crate) mod bench;
pub(crate) mod client;
pub(crate) mod demo;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Edge broker for gateways: MQTT in, partitioned logs on flash, exactly once into Kafka.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure this program here, beside mosquitto and bare files
    Bench(bench::BenchOptions),
    /// Check a configuration file and say everything that is wrong with it
    Check(CheckOptions),
    /// Show what the gateway promises: cut its uplink, kill it, and count every message
    Demo(demo::DemoOptions),
    /// Look into the logs, of a running gateway or of a data folder
    Log(LogOptions),
    /// Publish messages to a broker
    Pub(client::PubOptions),
    /// Run the broker, and the bridge if one is configured
    Run(RunOptions),
    /// Show what a running gateway is doing
    Status(StatusOptions),
    /// Subscribe at a broker and print messages
    Sub(client::SubOptions),
}

#[derive(Args, Debug)]
pub(crate) struct RunOptions {
    /// Configuration file; without one everything has its default
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder, instead of the configured one
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// How log lines look; TIDEGATE_LOG chooses which (default `info`)
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print the configuration in force, defaults included
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) admin: AdminAddress,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the running gateway answers.
#[derive(Args, Debug)]
pub(crate) struct AdminAddress {
    /// Admin address of the running gateway
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9080")]
    pub(crate) admin: SocketAddr,
}

#[derive(Args, Debug)]
pub(crate) struct LogOptions {
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// List logs, partitions and offsets
    List(LogListOptions),
    /// Print the records of a log
    Read(LogReadOptions),
}

/// A running gateway, or the data folder of one that does not run.
#[derive(Args, Debug)]
pub(crate) struct LogSource {
    /// Data folder of a gateway that does not run
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    pub(crate) data: Option<PathBuf>,
    /// Admin address of a running gateway
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9080")]
    pub(crate) admin: SocketAddr,
}

#[derive(Args, Debug)]
pub(crate) struct LogListOptions {
    #[command(flatten)]
    pub(crate) source: LogSource,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LogReadOptions {
    /// Name of the log
    pub(crate) log: String,
    #[command(flatten)]
    pub(crate) source: LogSource,
    /// Only this partition
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u16>,
    /// First offset; without it the oldest that is kept
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub(crate) from: Option<u64>,
    /// Most records to print
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) count: u64,
    /// Print one JSON object a record
    #[arg(long)]
    pub(crate) json: bool,
}
