//! `tidegate doctor`: measures the card, looks at the machine, and says what it means.
//!
//! Gathering ([`facts`], [`measure`]), judging (a function of texts and numbers in each module) and
//! printing ([`report`]) are apart.
//!
//! Invariants: nothing is written but a temporary folder in the data folder or beside it, which is
//! gone at the end, also after an error, SIGINT, SIGTERM or SIGHUP; the data folder is not opened
//! and its lock not touched, so that a gateway may run meanwhile, or start.

mod clock;
mod device;
mod facts;
mod finding;
mod folder;
mod machine;
mod measure;
mod mount;
mod report;
mod space;
mod sync;

use std::io::{self, IsTerminal as _, Write as _};
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use firmware_config::Config;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::doctor::DoctorOptions;
use crate::exit::Failure;
use crate::room::nearest_existing;
use crate::run::load_config;
use crate::stdout;
use facts::Facts;
use finding::{Level, count};
use folder::Presence;
use measure::Step;
use sync::Measured;

/// How long an end waits for the sync that is under way.
const SYNC_END_TIMEOUT: Duration = Duration::from_secs(10);
/// With less, nothing is measured: the disk is full, and the gateway needs what there is.
const FREE_BYTES_LEAST: u64 = 32 << 20;

/// Measures, judges and prints; fails if there is a problem.
pub(crate) fn run(options: &DoctorOptions) -> Result<(), Failure> {
    let mut config = match &options.config {
        Some(path) => load_config(path, &crate::machine::detect())?,
        None => Config::without_file(&crate::machine::detect()),
    };
    if let Some(data) = &options.data {
        config.data_dir.clone_from(data);
    }
    let data_dir = std::path::absolute(&config.data_dir)
        .with_context(|| format!("find the data folder {}", config.data_dir.display()))?;
    let mut facts = Facts::gather(&config, data_dir);
    measure_all(&mut facts)?;
    let findings = facts.judge();
    let out = if options.json {
        report::json(&facts, &findings)?
    } else {
        report::text(&facts, &findings)
    };
    stdout::print(&out)?;
    match count(&findings, Level::Problem) {
        0 => Ok(()),
        _ => Err(anyhow!("{}", report::summary(&findings)).into()),
    }
}

/// Whether the file system of a folder, which is absolute and need not exist, is only memory.
pub(crate) fn lies_in_memory(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = nearest_existing(path);
    mount::of_path(&mounts, &place.to_string_lossy()).is_some_and(|mount| mount.is_memory())
}

/// Puts what is measured into the facts.
fn measure_all(facts: &mut Facts) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(measure_in_place(facts));
    // A sync that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn measure_in_place(facts: &mut Facts) -> anyhow::Result<()> {
    // Before there is anything to be removed.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let free = facts.space.map_or(0, |space| space.free_bytes);
    if free < FREE_BYTES_LEAST {
        facts.measured = Measured::NotBegun {
            why: format!("only {} are free", mebibytes(free)),
            remedy: "free space",
        };
        return Ok(());
    }
    let temporary = match temporary_folder(&facts.data_dir, &facts.folder.presence) {
        Ok(folder) => folder,
        Err(error) => {
            facts.measured = Measured::NotBegun {
                why: error.to_string(),
                remedy: "call it as the user that the gateway runs as, or as root",
            };
            return Ok(());
        }
    };
    facts.measured_in = temporary.path().parent().map(Path::to_owned);
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, path) = (Arc::clone(&stop), temporary.path().to_owned());
    let mut work = tokio::task::spawn_blocking(move || measure_and_prove(&path, &stopped));
    let signal = tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = hang_up.recv() => "SIGHUP",
        done = &mut work => {
            let (measured, fence) = done.context("measure")?;
            facts.measured = measured;
            facts.fence = fence;
            return remove(temporary);
        }
    };
    stop.store(true, Ordering::Relaxed);
    // Otherwise it might make a file in the folder that is being removed.
    let _ = tokio::time::timeout(SYNC_END_TIMEOUT, work).await;
    remove(temporary)?;
    Err(anyhow!("ended by {signal} before there was a result"))
}

fn remove(temporary: TempDir) -> anyhow::Result<()> {
    let shown = temporary.path().display().to_string();
    temporary.close().with_context(|| format!("remove {shown}"))
}

/// A temporary folder in the file system of the data folder: in it if it is ours, where nothing else
/// looks at it; else beside it, since what is left there by SIGKILL would make it foreign.
fn temporary_folder(data_dir: &Path, presence: &Presence) -> io::Result<TempDir> {
    let existing = nearest_existing(data_dir);
    let mut places: Vec<PathBuf> = vec![existing.clone()];
    let parent = existing.parent().filter(|parent| {
        let device = |path: &Path| std::fs::metadata(path).map(|found| found.st_dev()).ok();
        *presence != Presence::Missing && device(parent) == device(&existing)
    });
    match (parent, presence) {
        (Some(parent), Presence::Ours(_)) => places.push(parent.to_owned()),
        (Some(parent), _) => places.insert(0, parent.to_owned()),
        (None, _) => {}
    }
    let mut result = Err(io::ErrorKind::NotFound.into());
    for place in places {
        result = tempfile::Builder::new()
            .prefix(folder::TEMPORARY_PREFIX)
            .tempdir_in(place);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn measure_and_prove(path: &Path, stop: &AtomicBool) -> (Measured, Option<Result<u64, String>>) {
    let figures = match measure::measure(path, stop, &show) {
        Ok(figures) => figures,
        Err(error) => {
            hide();
            return (Measured::Failed(error.to_string()), None);
        }
    };
    let mut fence = None;
    if !stop.load(Ordering::Relaxed) {
        show(Step::Fence);
        let proved = measure::prove_fence(&path.join("store"));
        fence = Some(proved.map_err(|error| format!("{error:#}")));
    }
    hide();
    (Measured::Figures(figures), fence)
}

/// One line that changes, for people at a terminal.
fn show(step: Step) {
    let what = match step {
        Step::Append => "measuring: appending and syncing",
        Step::Overwrite => "measuring: overwriting and syncing",
        Step::Sequential => "measuring: writing",
        Step::Fence => "measuring: opening a small store",
    };
    if io::stderr().is_terminal() {
        // If nobody can read it, the measurement goes on.
        let _ = write!(io::stderr(), "\r\x1b[K{what} …");
    }
}

fn hide() {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

/// A size for people, in MiB or GiB.
fn mebibytes(bytes: u64) -> String {
    const GIB: f64 = (1_u64 << 30) as f64;
    match bytes as f64 / GIB {
        gibibytes if gibibytes >= 10.0 => format!("{gibibytes:.0} GiB"),
        gibibytes if gibibytes >= 1.0 => format!("{gibibytes:.1} GiB"),
        _ => format!("{} MiB", bytes >> 20),
    }
}
