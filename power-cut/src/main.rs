//! Power cuts, simulated: `cargo xtask power-cut` builds and runs this program.
//!
//! A process runs the real store on a folder and records every change, sync and promise
//! ([`recorder`]). Of the record, images are made: what the folder may look like after the power
//! went ([`image`]). Each is opened in a process of its own with the store's own recovery, and what
//! it shows is compared with what had been promised ([`mod@check`]).
//!
//! In one workload the whole broker runs on the store, with clients that come back after the cut
//! ([`gateway`]).
//!
//! docs/decisions/0012 says what the model covers and what not.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that talks to its user"
)]

mod check;
mod cold;
mod content;
mod expectation;
mod gateway;
mod image;
mod random;
mod recorder;
mod simulate;
mod sys;
mod trace;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum as _};

use check::Finding;
use expectation::Expectation;
use image::Index;
use recorder::Control;
use simulate::{DONE, FINDING, Options};
use trace::Trace;
use workload::{Recorded, Run, Workload};

/// Events before the cut that are told of an image.
const EVENTS_SHOWN: usize = 20;

/// Simulated power cuts of the store, and of the broker on it.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run workloads and check images of them
    Run(RunArguments),
    /// Make an image of a recording again, check it, and keep it
    Image {
        /// The recording, as a run has kept it
        #[arg(long)]
        trace: PathBuf,
        /// Number of the image
        #[arg(long)]
        image: usize,
        /// Where the image is made; must not exist
        #[arg(long)]
        folder: PathBuf,
    },
    /// Run a workload and record it
    #[command(hide = true)]
    Record {
        #[arg(long)]
        workload: Workload,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        control: Option<Control>,
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        trace: PathBuf,
        #[arg(long)]
        before: Option<PathBuf>,
    },
    /// Open a folder and compare
    #[command(hide = true)]
    Check {
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        expectation: PathBuf,
    },
}

#[derive(Args)]
struct RunArguments {
    /// Images of all workloads together
    #[arg(long, default_value_t = 1000)]
    images: usize,
    /// Decides workloads, cuts and what is left
    #[arg(long, default_value_t = 20_261_122)]
    seed: u64,
    /// One workload or several; all by default
    #[arg(long)]
    workload: Vec<Workload>,
    /// Let some syncs not count; it fails if no image is bad then
    #[arg(long)]
    control: Option<Control>,
    /// Runs at the same time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Where recordings of bad images are kept
    #[arg(long, default_value = "target/power-cut")]
    keep: PathBuf,
    /// What runs this program on this machine, with its arguments
    #[arg(long, num_args = 0.., allow_hyphen_values = true)]
    runner: Vec<String>,
    /// How an image is made again, for the messages
    #[arg(long, default_value = "power-cut image --folder FOLDER")]
    again: String,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Run(arguments) => run(arguments),
        Task::Image {
            trace,
            image,
            folder,
        } => again(&trace, image, &folder),
        Task::Record {
            workload,
            seed,
            control,
            folder,
            trace,
            before,
        } => {
            let run = Run {
                workload,
                seed,
                control,
            };
            record(run, &folder, &trace, before.as_deref())
        }
        Task::Check {
            folder,
            expectation,
        } => check(&folder, &expectation),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: RunArguments) -> Result<bool> {
    let mut workloads = arguments.workload;
    if workloads.is_empty() {
        workloads = Workload::value_variants().to_vec();
    }
    let options = Options {
        images: arguments.images,
        seed: arguments.seed,
        workloads,
        control: arguments.control,
        jobs: arguments.jobs,
        keep: arguments.keep,
        runner: arguments.runner,
        again: arguments.again,
    };
    println!("seed {}", options.seed);
    let (begun, before) = (Instant::now(), cpu_seconds()?);
    let rows = simulate::simulate(&options)?;
    simulate::report(&rows, &mut std::io::stdout().lock())?;
    let images: usize = rows.values().map(|row| row.images).sum();
    let bad: usize = rows.values().map(|row| row.bad).sum();
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds()? - before);
    let each = 1000.0 / f64::from(u32::try_from(images.max(1))?);
    print!(
        "{bad} bad of {images} in {wall:.1} s; {:.1} ms",
        wall * each
    );
    // An emulator of user programs does not tell.
    if cpu > 0.0 {
        print!(", {:.1} ms of CPU", cpu * each);
    }
    println!(" an image");
    match options.control {
        None => Ok(bad == 0),
        Some(_) if bad == 0 => {
            println!("A control without a bad image: the simulator sees nothing.");
            Ok(false)
        }
        Some(_) => Ok(true),
    }
}

/// Of this process and those that it has waited for.
fn cpu_seconds() -> Result<f64> {
    /// Linux tells times in hundredths of a second, whatever its clock does.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // utime, stime, cutime, cstime
    let times = fields.split_whitespace().skip(11).take(4);
    let ticks = times.filter_map(|time| time.parse::<u32>().ok());
    Ok(ticks.map(f64::from).sum::<f64>() / TICKS_PER_SECOND)
}

fn again(trace: &Path, number: usize, folder: &Path) -> Result<bool> {
    ensure!(!folder.exists(), "{} exists", folder.display());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let trace = Trace::load(trace)?;
    let index = Index::new(&trace);
    let (cut, _) = index.cut(u64::try_from(number)?);
    println!("cut before event {} of {}", cut.at, trace.events.len());
    println!("left: {:?}", cut.model);
    for (number, event) in trace
        .events
        .iter()
        .enumerate()
        .take(cut.at)
        .skip(cut.at.saturating_sub(EVENTS_SHOWN))
    {
        println!("  {number}: {event}");
    }
    let expected = simulate::make_image(&trace, &index, number, folder)?;
    let opened = folder.with_extension("opened");
    simulate::make_image(&trace, &index, number, &opened)?;
    println!("the image: {}", folder.display());
    println!("the image after it was opened: {}", opened.display());
    let findings = check::check(&opened, &expected);
    tell(&findings);
    Ok(findings.is_empty())
}

fn record(run: Run, folder: &Path, trace: &Path, before: Option<&Path>) -> Result<bool> {
    let before = before.map_or_else(|| Ok(Expectation::default()), expectation)?;
    let is_good = match workload::record(run, folder, before)? {
        Recorded::Trace(recorded) => {
            recorded.save(trace)?;
            true
        }
        Recorded::Bad(findings) => {
            tell(&findings);
            false
        }
    };
    println!("{DONE}");
    Ok(is_good)
}

fn check(folder: &Path, expected: &Path) -> Result<bool> {
    let findings = check::check(folder, &expectation(expected)?);
    tell(&findings);
    println!("{DONE}");
    Ok(findings.is_empty())
}

fn expectation(path: &Path) -> Result<Expectation> {
    let encoded = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let short = || format!("{} is no expectation", path.display());
    postcard::from_bytes(&encoded).with_context(short)
}

fn tell(findings: &[Finding]) {
    for Finding { kind, what } in findings {
        println!("{FINDING}{kind}\t{}", what.replace(['\n', '\t'], " "));
    }
}
