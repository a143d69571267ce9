//! The command line of `tidegate log`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use firmware_config::LogName;

use super::admin_address;
use crate::log::parse_time;

#[derive(Args, Debug)]
pub(crate) struct LogOptions {
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Write the records of a log to files, as Kafka's own log files or as JSON lines
    Export(LogExportOptions),
    /// List logs, partitions, offsets, and what they take on flash
    List(LogListOptions),
    /// Print the records of a log
    Read(LogReadOptions),
    /// Mend a data folder that nobody has open; nothing is thrown away
    Repair(LogRepairOptions),
    /// Read everything that is stored and say what is wrong with it
    Verify(LogVerifyOptions),
}

/// A running gateway, or the data folder of one that does not run.
#[derive(Args, Debug)]
pub(crate) struct LogSource {
    /// Data folder of a gateway that does not run; it is only read, by means of temporary copies
    /// in TMPDIR, with room for the metadata and about five segments
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

#[derive(Args, Debug)]
pub(crate) struct LogVerifyOptions {
    /// Decode the records of this log alone; everything else is checked as ever
    #[arg(value_parser = log_name)]
    pub(crate) log: Option<String>,
    #[command(flatten)]
    pub(crate) source: LogSource,
    /// Print one JSON object a line: every finding, and the numbers at the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// Record batches as they are stored, in PATH/LOG-PARTITION/OFFSET.log as Kafka names its files
    Kafka,
    /// One JSON object a record, and one for each gap
    Jsonl,
}

#[derive(Args, Debug)]
pub(crate) struct LogExportOptions {
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
    /// First offset that is not wanted any more
    #[arg(
        long,
        value_name = "OFFSET",
        requires = "partition",
        allow_negative_numbers = true
    )]
    pub(crate) to: Option<u64>,
    /// First time, such as 2026-11-22T12:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) since: Option<i64>,
    /// First time that is not wanted any more
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) until: Option<i64>,
    /// How records are written; `kafka` gives whole batches, which may hold a few records more
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    #[arg(requires_if("kafka", "output"))]
    pub(crate) format: ExportFormat,
    /// File for `jsonl`, instead of standard output; folder for `kafka`
    #[arg(long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace what is there
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Read what can be read of this segment in the folder's quarantine, instead of the log
    #[arg(long, value_name = "NAME", requires = "data")]
    pub(crate) quarantined: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct LogRepairOptions {
    /// Data folder of a gateway that does not run
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What no log can be called never reaches the gateway, where it would be part of an address.
fn log_name(text: &str) -> Result<String, String> {
    match text.parse::<LogName>() {
        Ok(name) => Ok(name.to_string()),
        Err(why) => Err(format!("{why}; allowed: 1 to 64 of a-z, 0-9, _ and -")),
    }
}
