//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures Tidegate's log on the machine that it runs on; docs/bench.md says what the figures mean.
#[derive(Debug, Parser)]
#[command(name = "storage-bench")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Three logs of different age that turn over many times; fails if a target is missed
    Turnover(TurnoverOptions),
    /// Memory for reading a large log to its end, compared with a small one
    Scan(ScanOptions),
    /// What it costs to read one rare topic out of a large log, beside reading all of it
    Rare(RareOptions),
    /// What the program costs while one device publishes once a second, or none
    Quiet(QuietOptions),
    /// Draws the CSV files of `turnover` as one picture
    Plot(PlotOptions),
    /// One scan, in a process of its own
    #[command(hide = true)]
    Read(ReadOptions),
    /// One reading of `rare`, in a process of its own
    #[command(hide = true)]
    ReadRare(ReadRareOptions),
}

/// How traffic is dealt out to the logs that keep an hour, a day and two weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// 70, 20 and 10 of a hundred records
    ShortHeavy,
    /// The same for each
    Equal,
}

#[derive(Args, Debug)]
pub(crate) struct TurnoverOptions {
    /// Where the temporary folder goes, on the file system that is measured
    #[arg(long, default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    #[arg(long, value_enum, default_value_t = Shape::ShortHeavy)]
    pub(crate) shape: Shape,
    /// MiB of payload that the logs keep together
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) retained_mib: u64,
    /// How many times that is written
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) turnovers: u64,
    /// Payload bytes of a record
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) size: u32,
    /// Devices, each with one record under way
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub(crate) publishers: u16,
    /// MiB after which a segment is full
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub(crate) segment_mib: u64,
    /// How often it is looked at
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(4..=10_000))]
    pub(crate) samples: u32,
    /// At every so many of these the store is closed and opened again
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) reopen_every: u16,
    /// Pause after every segment, for the store's upkeep, which in reality has hours
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) pause_ms: u64,
    /// MiB a second that evacuation may copy; unlimited without it: a soak writes in seconds what a
    /// gateway writes in hours, and the default limit is for the latter
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=1 << 20))]
    pub(crate) evacuation_mib: Option<u64>,
    /// Where the samples go
    #[arg(long)]
    pub(crate) csv: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ScanOptions {
    /// Where the temporary folder goes
    #[arg(long, default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    /// MiB of payload of the large log
    #[arg(long, default_value_t = 10 * 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) large_mib: u64,
    /// MiB of payload of the small one
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) small_mib: u64,
    /// MiB after which a segment is full
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub(crate) segment_mib: u64,
}

#[derive(Args, Debug)]
pub(crate) struct RareOptions {
    /// Where the temporary folder goes
    #[arg(long, default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    /// MiB of payload of the log
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) log_mib: u64,
    /// Payload bytes of a record
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) size: u32,
    /// MiB after which a segment is full
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub(crate) segment_mib: u64,
}

#[derive(Args, Debug)]
pub(crate) struct ReadRareOptions {
    /// The data folder
    pub(crate) data: PathBuf,
    #[arg(long)]
    pub(crate) segment_mib: u64,
    /// Only what may match
    #[arg(long)]
    pub(crate) matching: bool,
}

#[derive(Args, Debug)]
pub(crate) struct QuietOptions {
    /// Where the temporary folder goes, on the file system that is measured
    #[arg(long, default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    /// The built program; `cargo xtask soak quiet` builds and names it
    #[arg(long)]
    pub(crate) program: PathBuf,
    /// For how long, and how many messages
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) seconds: u64,
    /// `[[log]] linger` of the third gateway
    #[arg(long, default_value = "50ms")]
    pub(crate) linger: String,
}

#[derive(Args, Debug)]
pub(crate) struct PlotOptions {
    /// What `turnover --csv` has written; a line is called as its file
    #[arg(required = true)]
    pub(crate) csv: Vec<PathBuf>,
    /// The picture
    #[arg(long)]
    pub(crate) svg: PathBuf,
    /// MiB that the logs kept, the unit of the x axis
    #[arg(long, default_value_t = 200)]
    pub(crate) retained_mib: u64,
}

#[derive(Args, Debug)]
pub(crate) struct ReadOptions {
    /// The data folder
    pub(crate) data: PathBuf,
    #[arg(long)]
    pub(crate) segment_mib: u64,
}
