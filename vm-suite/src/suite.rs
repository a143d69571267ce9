//! The order of things: what is prepared, what is played, and what is kept for a run that goes on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tests::cache::Cache;

use crate::books::Books;
use crate::kernel::Kernel;
use crate::machine::{Hardware, Ports};
use crate::packages::{Emulator, Packages};
use crate::publishers::Publishers;
use crate::report::Report;
use crate::scenarios::{install, measures, power_cuts, restarts, service};
use crate::stage::{DEVICES, Stage, copy};
use crate::upstream::{Kind, Upstream};
use crate::write_log::Fate;
use crate::{programs, root_file_system, say};

/// Cuts of a run.
const CUTS_SHORT: u64 = 2;
const CUTS_LONG: u64 = 100;
/// Flushes that a device in the control claims and does not do: those of the last seconds under load.
const FALSE_FLUSHES: usize = 40;

/// The drop-in by which the configuration becomes a credential.
const CREDENTIALS: &str = include_str!("../../systemd/drop-ins/credentials.conf");

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// For CI: two cuts, and a model in the place of Apache Kafka
    #[arg(long)]
    short: bool,
    /// Decides when the power is cut; another one each time by default
    #[arg(long)]
    seed: Option<u64>,
    /// Go on with this cut, on what an earlier run has left; nothing else is played
    #[arg(long, value_name = "K")]
    from: Option<u64>,
    /// How many cuts
    #[arg(long, value_name = "N")]
    cuts: Option<u64>,
    /// The package for arm64
    #[arg(long, value_name = "PATH")]
    deb: Option<PathBuf>,
    /// Install, then measure memory, and nothing else: a quarter of an hour and more
    #[arg(long, conflicts_with_all = ["from", "only_cuts", "control"])]
    measure: bool,
    /// Size of the backlog that is measured with, in MB
    #[arg(long, value_name = "MB", default_value_t = 1000)]
    backlog: u64,
    /// The package of the next version; by default the same with a later version number
    #[arg(long, value_name = "PATH")]
    next_deb: Option<PathBuf>,
    /// Install, then cut the power, and nothing else
    #[arg(long)]
    only_cuts: bool,
    /// Which Kafka is replicated to
    #[arg(long)]
    kafka: Option<Kind>,
    /// Per cent of the writes after the last flush that survive a cut
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    keep: u8,
    /// Break a promise on purpose: the run must find a loss
    #[arg(long)]
    control: Option<Control>,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Control {
    /// The log acknowledges before it commits
    Early,
    /// The disk only claims its last flushes
    FalseFlush,
}

/// What the next run needs to go on.
#[derive(Debug, Default, Deserialize, Serialize)]
struct State {
    seed: u64,
    /// Cuts that were made.
    cuts: u64,
    /// Runs that had devices: those of the next one have other names.
    runs: u16,
    books: Books,
}

/// Prepares and plays.
///
/// # Errors
/// When something cannot be prepared. What fails in a scenario stands in the table.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    programs::check()?;
    check_packages(options)?;
    let folder = Cache::locate()?.root().join("vm-suite");
    let life = folder.join("life");
    fs::create_dir_all(&life).with_context(|| format!("make {}", life.display()))?;
    let _lock = lock(&folder)?;
    let mut state = match options.from {
        Some(cut) => load(&life, cut)?,
        None => State {
            seed: options.seed.map_or_else(seed_of_the_moment, Ok)?,
            ..State::default()
        },
    };
    if options.from.is_none() {
        fs::remove_dir_all(&life).context("remove what the last run left")?;
        fs::create_dir_all(&life).context("make a folder")?;
    }
    say(&format!("seed {}", state.seed));
    let begin = Instant::now();
    let mut stage = set(options, &folder, &life, &mut state)?;
    say(&format!(
        "prepared in {:.0} s",
        begin.elapsed().as_secs_f64()
    ));
    let mut report = Report::default();
    play(options, &life, &mut state, &mut stage, &mut report)?;
    if stage.machine.is_some() {
        report.play("power off", || {
            stage.power_off().map(|()| "in good order".to_owned())
        });
    }
    let code = report.finish();
    if options.control.is_some() {
        let is_found = code != ExitCode::SUCCESS;
        say(if is_found {
            "found, as it must be"
        } else {
            "nothing was found: the suite is blind"
        });
        return Ok(if is_found {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    Ok(code)
}

/// Two runs would play on one disk.
fn lock(folder: &Path) -> Result<File> {
    let file = File::create(folder.join(".lock")).context("make a lock")?;
    let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    locked.with_context(|| {
        let folder = folder.display();
        format!("another run has {folder}; end it, or set TIDEGATE_CACHE to another folder")
    })?;
    Ok(file)
}

/// A run that goes on has the product on its disk.
fn check_packages(options: &Options) -> Result<()> {
    let is_needed = options.from.is_none();
    ensure!(
        !is_needed || options.deb.is_some(),
        "no package: name one with --deb"
    );
    for (option, path) in [("--deb", &options.deb), ("--next-deb", &options.next_deb)] {
        if let Some(path) = path {
            ensure!(path.is_file(), "{option} {}: no such file", path.display());
        }
    }
    Ok(())
}

/// Fetches and makes what the scenarios need.
fn set(options: &Options, folder: &Path, life: &Path, state: &mut State) -> Result<Stage> {
    let emulator = Emulator::find(folder)?;
    let packages = Packages::new(folder);
    let versions = packages.versions()?;
    let kernel = Kernel::prepare(folder, &packages, &versions)?;
    let disk = life.join("disk");
    if options.from.is_none() {
        copy(&root_file_system::image(folder, &versions)?, &disk)?;
    }
    let kind = if options.short {
        Kind::Model
    } else {
        Kind::Apache
    };
    let upstream = Upstream::start(options.kafka.unwrap_or(kind), life)?;
    let ports = Ports::new()?;
    say(&format!(
        "Debian {}, kernel {}",
        crate::packages::RELEASE,
        kernel.version
    ));
    let devices = Publishers::new(ports.mqtt(), DEVICES, state.runs)?;
    state.runs += 1;
    Ok(Stage {
        hardware: Hardware {
            emulator,
            kernel,
            ports,
            upstream_port: upstream.port(),
            folder: life.to_owned(),
        },
        upstream,
        books: std::mem::take(&mut state.books),
        devices,
        disk,
        machine: None,
    })
}

fn play(
    options: &Options,
    life: &Path,
    state: &mut State,
    stage: &mut Stage,
    report: &mut Report,
) -> Result<()> {
    let durability = match options.control {
        Some(Control::Early) => "interval:2s",
        _ => "commit",
    };
    if options.from.is_none() {
        let package = options.deb.as_deref().context("no package")?;
        if !report.play("install", || install::play(stage, package, durability)) {
            say("Without the product nothing else can be played.");
            return Ok(());
        }
        play_service(options, package, life, stage, report)?;
    }
    let count = options
        .cuts
        .unwrap_or(if options.short { CUTS_SHORT } else { CUTS_LONG });
    let fate = Fate {
        kept_percent: options.keep,
        false_flushes: match options.control {
            Some(Control::FalseFlush) => FALSE_FLUSHES,
            _ => 0,
        },
    };
    if options.measure {
        return Ok(());
    }
    let first = options.from.unwrap_or(1);
    for number in first..first + count {
        let cut = power_cuts::Options {
            seed: state.seed,
            fate,
            is_full: options.short || number + 1 == first + count,
        };
        let name = format!("power cut {number}");
        let is_ok = report.play(&name, || power_cuts::play(stage, life, number, cut));
        if !is_ok {
            say(&format!("What is left of it lies in {}.", life.display()));
            break;
        }
        state.cuts = number;
        save(life, state, &stage.books)?;
    }
    Ok(())
}

/// What happens to an installed gateway but for power cuts; the machine is off afterwards.
fn play_service(
    options: &Options,
    package: &Path,
    life: &Path,
    stage: &mut Stage,
    report: &mut Report,
) -> Result<()> {
    if options.measure {
        report.play("idle for five minutes", || measures::idle(stage));
        report.play("connections", || measures::connections(stage));
        report.play("backlog", || {
            measures::backlog(stage, options.backlog * 1_000_000)
        });
    } else if options.control.is_none() && !options.only_cuts {
        report.play("sandbox", || service::sandbox(stage, CREDENTIALS));
        report.play("disk full", || service::disk_full(stage));
        let next = options.next_deb.as_deref();
        report.play("upgrade and downgrade", || {
            restarts::upgrade_and_downgrade(stage, package, next, life)
        });
        report.play("reboot", || restarts::reboot(stage, true));
        report.play("watchdog", || service::watchdog(stage));
    }
    stage
        .power_off()
        .context("switch off before the first cut")?;
    stage.devices.server_is_dead()
}

fn state_file(life: &Path) -> PathBuf {
    life.join("state.json")
}

fn save(life: &Path, state: &State, books: &Books) -> Result<()> {
    let mut value = serde_json::to_value(state).context("state of the run")?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert(
            "books".to_owned(),
            serde_json::to_value(books).context("the books")?,
        );
    }
    let half = life.join("state.half");
    fs::write(&half, serde_json::to_vec(&value)?).context("write the state of the run")?;
    fs::rename(&half, state_file(life)).context("name the state of the run")
}

fn load(life: &Path, from: u64) -> Result<State> {
    let path = state_file(life);
    let bytes =
        fs::read(&path).with_context(|| format!("--from {from}: read {}", path.display()))?;
    let state: State = serde_json::from_slice(&bytes).context("state of the earlier run")?;
    ensure!(
        from == state.cuts + 1,
        "--from {from}: the earlier run has made {} cuts; allowed: {}",
        state.cuts,
        state.cuts + 1
    );
    Ok(state)
}

/// Small enough to be typed again.
fn seed_of_the_moment() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(u64::from(now.context("read the clock")?.subsec_micros()))
}
