//! The command line.

pub(crate) mod bench;
pub(crate) mod client;
pub(crate) mod demo;
pub(crate) mod doctor;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use firmware_config::LogName;

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
    /// Measure the card, look at the machine, and say what it means
    Doctor(doctor::DoctorOptions),
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
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9080")]
    #[arg(value_parser = admin_address)]
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
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9080")]
    #[arg(value_parser = admin_address)]
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
    #[arg(value_parser = log_name)]
    pub(crate) log: String,
    #[command(flatten)]
    pub(crate) source: LogSource,
    /// Only this partition
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) partition: Option<u16>,
    /// First offset; without it the oldest that is kept
    #[arg(
        long,
        value_name = "OFFSET",
        requires = "partition",
        allow_negative_numbers = true
    )]
    pub(crate) from: Option<u64>,
    /// Most records to print
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        allow_negative_numbers = true
    )]
    pub(crate) count: u64,
    /// Print one JSON object a record
    #[arg(long)]
    pub(crate) json: bool,
}

/// The admin server is on this machine: an address, no name.
fn admin_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "allowed: an IP address and a port, such as 127.0.0.1:9080 or [::1]:9080")
}

/// What no log can be called never reaches the gateway, where it would be part of an address.
fn log_name(text: &str) -> Result<String, String> {
    match text.parse::<LogName>() {
        Ok(name) => Ok(name.to_string()),
        Err(why) => Err(format!("{why}; allowed: 1 to 64 of a-z, 0-9, _ and -")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Arguments;

    #[test]
    fn wrong_value_is_answered_with_what_is_allowed() {
        for (line, what) in [
            ("status --admin localhost:9080", "an IP address and a port"),
            ("log list --admin 127.0.0.1", "an IP address and a port"),
            (
                "log read a&b=c",
                "'&' is not allowed in it; allowed: 1 to 64 of",
            ),
            ("log read a --partition 0 --from -1", "invalid value '-1'"),
        ] {
            let line = format!("tidegate {line}");
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert!(error.to_string().contains(what), "{line}: {error}");
        }
    }
}
