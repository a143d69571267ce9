//! Tidegate's log beside bare files, fjall and redb: the same records with the same commits, each
//! contestant in a process of its own, round by round. docs/bench.md says what the figures mean.
//!
//! Not the product's: a workspace of its own, see its Cargo.toml.

mod contestants;
mod one_run;
mod table;

// What the other measurements use, too, in parts.
#[path = "../../src/folder.rs"]
mod folder;
#[expect(
    dead_code,
    reason = "the time of publishing is of interest to the soak"
)]
#[path = "../../src/publishers.rs"]
mod publishers;
#[path = "../../src/raw.rs"]
mod raw;
#[path = "../../src/records.rs"]
mod records;
#[path = "../../src/sys.rs"]
mod sys;
#[expect(dead_code, reason = "threads are of interest to the soak")]
#[path = "../../src/usage.rs"]
mod usage;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};

use contestants::Contestant;
use one_run::{Figures, OneRun};

/// The table: fjall, redb and bare files beside Tidegate's log.
#[derive(Debug, Parser)]
#[command(name = "soak engines")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// One contestant, in a process of its own
    #[command(hide = true)]
    One(OneRun),
}

#[derive(Args, Debug)]
struct Options {
    /// Where the temporary folder goes, on the file system that is measured
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Payload bytes of a record
    #[arg(long, value_delimiter = ',', default_value = "100,1024")]
    sizes: Vec<u32>,
    /// Devices, each with one record under way
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    publishers: Vec<u16>,
    /// How often each is measured; shown is the median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// MiB of payload that a run writes at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    payload_mib: u64,
    /// Records for each publisher that a run writes at most
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..))]
    turns: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Part::One(run)) => one_run::run(&run).map(|figures| println!("{}", figures.line())),
        None => measure(&arguments.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    // Of the largest run; redb's copies and fjall's journal come on top.
    let temporary = folder::create(&options.dir, (options.payload_mib << 20) * 6)?;
    for size in &options.sizes {
        for publishers in &options.publishers {
            let by_payload = (options.payload_mib << 20) / u64::from(*size).max(1);
            let by_turns = u64::from(*publishers) * options.turns;
            let records = by_payload.min(by_turns).max(1);
            let commits = temporary.path().join("commits");
            let mut rounds = Vec::new();
            for round in 1..=options.rounds {
                eprintln!(
                    "{size} bytes, {publishers} publishers: round {round}/{}",
                    options.rounds
                );
                let mut found = Vec::new();
                // Tidegate's commits are those of the others, which is why it begins.
                for contestant in Contestant::ALL {
                    let data = temporary.path().join("data");
                    std::fs::create_dir(&data)?;
                    let run = OneRun {
                        contestant,
                        data: data.clone(),
                        commits: commits.clone(),
                        size: *size,
                        publishers: *publishers,
                        records,
                    };
                    found.push((contestant, in_a_process(&run)?));
                    std::fs::remove_dir_all(&data)?;
                }
                rounds.push(found);
            }
            println!("{}", table::of(*size, *publishers, records, &rounds));
        }
    }
    Ok(())
}

fn in_a_process(run: &OneRun) -> anyhow::Result<Figures> {
    let program = std::env::current_exe().context("find this program")?;
    let output = Command::new(program)
        .arg("one")
        .args(["--contestant", run.contestant.name()])
        .args(["--data".as_ref(), Path::new(&run.data)])
        .args(["--commits".as_ref(), Path::new(&run.commits)])
        .args(["--size", &run.size.to_string()])
        .args(["--publishers", &run.publishers.to_string()])
        .args(["--records", &run.records.to_string()])
        .output()
        .context("start a contestant")?;
    let name = run.contestant.name();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    Figures::of_line(&text).with_context(|| format!("{name} said {text:?}"))
}

/// A count as a figure. Counts here are far below the 2^53 from which on this would round.
fn figure(count: u64) -> f64 {
    count as f64
}
