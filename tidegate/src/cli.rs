//! The command line.

pub(crate) mod bench;
pub(crate) mod client;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod log;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use firmware_config::{Board, ByteCount};

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
    /// Look into the logs of a running gateway or of a data folder, check, export and repair them
    Log(log::LogOptions),
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
#[command(after_help = CHECK_EXIT_STATUS)]
pub(crate) struct CheckOptions {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Data folder, instead of the configured one; it need not exist yet
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Size of the gateway's file system, such as 8GiB, when this is another machine
    #[arg(long, value_name = "SIZE", value_parser = disk_size)]
    pub(crate) disk: Option<ByteCount>,
    /// Do not ask whether the logs fit a disk
    #[arg(long, conflicts_with = "disk")]
    pub(crate) no_disk: bool,
    /// Judge it as on this board, whatever this machine is and the file says: pi-zero-2w, pi-3, pi-4,
    /// pi-5, generic-arm64, generic-armv7 or x86-64
    #[arg(long, value_name = "NAME")]
    pub(crate) board: Option<Board>,
    /// Print the configuration in force, defaults included, and which board they are of
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

/// What scripts may rely on; kept in step with `exit`.
const CHECK_EXIT_STATUS: &str = "\
Exit status:
  0  no problem was found; there may be warnings
  2  wrong command line
  78 the configuration is wrong, its logs cannot fit the disk, or what it may take
     does not fit the memory";

/// A size of a file system.
fn disk_size(text: &str) -> Result<ByteCount, String> {
    let parsed = text.parse::<ByteCount>().map_err(|error| error.to_string());
    let size = parsed.and_then(|size| match size.get() {
        0 => Err(String::from("is nothing")),
        _ => Ok(size),
    });
    size.map_err(|what| format!("{what}; allowed: a size such as 8GiB or 32GB"))
}

/// The admin server is on this machine: an address, no name.
fn admin_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "allowed: an IP address and a port, such as 127.0.0.1:9080 or [::1]:9080")
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
            ("log export a --to 7", "--partition <N>"),
            ("log export a --since yesterday", "2026-11-22T12:00:00Z"),
            ("log export a --format kafka", "--output <PATH>"),
            ("log export a --quarantined x", "--data <DIR>"),
            ("log repair", "--data <DIR>"),
            ("check --config a --disk 8", "such as 8GiB"),
            ("check --config a --disk large", "such as 8GiB"),
            ("check --config a --disk 0GiB", "such as 8GiB"),
            ("check --config a --disk 99999999TiB", "such as 8GiB"),
            ("check --config a --disk 8GiB --no-disk", "cannot be used"),
            (
                "check --config a --board pi-2",
                "allowed: generic-arm64, generic-armv7, pi-3, pi-4, pi-5, pi-zero-2w, x86-64",
            ),
        ] {
            let line = format!("tidegate {line}");
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert!(error.to_string().contains(what), "{line}: {error}");
        }
    }
}
