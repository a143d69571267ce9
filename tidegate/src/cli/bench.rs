//! The command line of `tidegate bench`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use firmware_config::ByteCount;

/// Where measurements lie unless `--dir` says otherwise: on disk, whereas /tmp is memory in many places.
const DIR: &str = "/var/tmp";
/// Least and most that `bench start` fills a data folder with.
const START_BYTES: (u64, u64) = (1 << 20, 1 << 40);

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(crate) publish: BenchPublishOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Publish QoS 1 messages to Tidegate, to mosquitto and into bare files (the default)
    Publish(BenchPublishOptions),
    /// Start on a large log after SIGKILL
    Start(BenchStartOptions),
    /// Become another program that ends with this process
    #[command(hide = true)]
    Child(BenchChildOptions),
    /// Write messages into files and sync
    #[command(hide = true)]
    WriteFiles(BenchWriteFilesOptions),
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contestant {
    /// This program; acknowledges what is on flash
    Tidegate,
    /// Debian's mosquitto, if it is installed; acknowledges what is in memory
    Mosquitto,
    /// Bare files with one fdatasync for as many messages as all clients have in flight
    Files,
}

#[derive(Args, Debug)]
pub(crate) struct BenchPublishOptions {
    /// How many clients publish at one time
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) clients: u16,
    /// Messages in a round, of all clients together
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) messages: u32,
    /// Payload bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=131_072))]
    pub(crate) size: u32,
    /// Messages that a client sends before the first of them is acknowledged
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) inflight: u16,
    /// How often each is measured; they take turns
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: u16,
    /// What to measure
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    #[arg(default_values = ["tidegate", "mosquitto", "files"])]
    pub(crate) only: Vec<Contestant>,
    #[command(flatten)]
    pub(crate) output: BenchOutputOptions,
}

#[derive(Args, Debug)]
pub(crate) struct BenchStartOptions {
    /// Payload bytes in the log before the first measurement, such as 1GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = start_bytes)]
    pub(crate) bytes: ByteCount,
    /// Small messages that are acknowledged before each SIGKILL, which comes while more are sent
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) messages: u32,
    /// How often it is killed and started
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: u16,
    #[command(flatten)]
    pub(crate) output: BenchOutputOptions,
}

#[derive(Args, Debug)]
pub(crate) struct BenchOutputOptions {
    /// Folder for the temporary files, on the file system that is to be measured
    #[arg(long, value_name = "DIR", default_value = DIR)]
    pub(crate) dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BenchChildOptions {
    /// The process to end with
    #[arg(long, value_name = "PID")]
    pub(crate) parent: i32,
    /// Program and arguments
    #[arg(required = true, last = true)]
    pub(crate) program: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct BenchWriteFilesOptions {
    /// The folder
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// How many messages
    #[arg(long, value_name = "N")]
    pub(crate) messages: u32,
    /// Payload bytes of a message
    #[arg(long, value_name = "BYTES")]
    pub(crate) size: u32,
    /// Messages for one sync
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) group: u32,
}

fn start_bytes(text: &str) -> Result<ByteCount, String> {
    let (least, most) = START_BYTES;
    let bytes: ByteCount = text.parse().map_err(|refusal| format!("{refusal}"))?;
    if (least..=most).contains(&bytes.get()) {
        return Ok(bytes);
    }
    let (least, most) = (ByteCount::new(least), ByteCount::new(most));
    Err(format!("a size from {least} to {most} is allowed"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{BenchCommand, Contestant};
    use crate::cli::{Arguments, Command};

    fn parse(line: &str) -> Result<super::BenchOptions, String> {
        let arguments = Arguments::try_parse_from(line.split(' '));
        match arguments.map_err(|error| error.to_string())?.command {
            Command::Bench(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn publish_is_the_default_and_takes_the_same_options() {
        let plain = parse("tidegate bench --messages 7 --only files,tidegate --json").unwrap();
        assert!(plain.command.is_none());
        let publish = plain.publish;
        assert_eq!(
            (publish.clients, publish.messages, publish.size),
            (50, 7, 200)
        );
        assert_eq!((publish.inflight, publish.rounds), (20, 3));
        assert_eq!(publish.only, [Contestant::Files, Contestant::Tidegate]);
        let named = parse("tidegate bench publish --messages 7").unwrap();
        let Some(BenchCommand::Publish(publish)) = named.command else {
            panic!("{named:?}");
        };
        assert_eq!(publish.messages, 7);
        assert!(!publish.output.json);
    }

    #[test]
    fn start_takes_a_size_within_its_range() {
        let Some(BenchCommand::Start(start)) =
            parse("tidegate bench start --bytes 8MiB").unwrap().command
        else {
            panic!("not start");
        };
        assert_eq!(start.bytes.get(), 8 << 20);
        for wrong in ["8", "8XB", "1KiB", "2TiB", "-1MiB"] {
            let error = parse(&format!("tidegate bench start --bytes={wrong}")).unwrap_err();
            assert!(error.contains("--bytes"), "{error}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for wrong in [
            "--clients 0",
            "--clients 501",
            "--messages 0",
            "--size 0",
            "--size 131073",
            "--inflight 1001",
            "--rounds 101",
            "--only redis",
        ] {
            let error = parse(&format!("tidegate bench {wrong}")).unwrap_err();
            let option = wrong.split(' ').next().unwrap();
            assert!(error.contains(option), "{error}");
        }
    }
}
