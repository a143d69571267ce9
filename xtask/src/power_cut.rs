//! `cargo xtask power-cut`: the recovery of store and broker on simulated power cuts. The tests run a
//! short form.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use ::tests::program;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::process::geteuid;

use crate::{command, setup, workspace};

/// The only other processor that the simulator's file calls were tried on.
const AARCH64: &str = "aarch64-unknown-linux-gnu";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Crash images, of all workloads together
    #[arg(long, default_value_t = 1000)]
    images: usize,
    /// Decides workloads, cuts and what is left
    #[arg(long)]
    seed: Option<u64>,
    /// gentle, rough, rolling, retention, metadata, tiny, sessions, recovery or broker; several
    /// times for several, all by default
    #[arg(long)]
    workload: Vec<String>,
    /// flush (sled's own flush counts for nothing) or own-fdatasync (an fdatasync after the commit
    /// instead): fails if no image is bad
    #[arg(long)]
    control: Option<String>,
    /// Runs at the same time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Another processor, emulated: aarch64-unknown-linux-gnu
    #[arg(long)]
    target: Option<String>,
    /// Make an image of a kept recording again and check it: with --image
    #[arg(long, requires = "image")]
    trace: Option<PathBuf>,
    /// The number of that image
    #[arg(long, requires = "trace")]
    image: Option<usize>,
    /// Where that image is made; must not exist
    #[arg(long, requires = "trace", default_value = "target/power-cut/image")]
    folder: PathBuf,
}

/// Builds the simulator and lets it run.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(target) = &arguments.target {
        ensure!(target == AARCH64, "--target {target}; allowed: {AARCH64}");
        prepare_aarch64()?;
    }
    let program = build(arguments.target.is_some())?;
    let runner: &[&str] = match arguments.target {
        Some(_) => &["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"],
        None => &[],
    };
    let mut simulator = match runner.split_first() {
        Some((emulator, its)) => {
            let mut simulator = Command::new(emulator);
            simulator.args(its).arg(&program);
            simulator
        }
        None => Command::new(&program),
    };
    simulator.current_dir(workspace::root());
    match (&arguments.trace, arguments.image) {
        (Some(trace), Some(image)) => {
            simulator.args(["image", "--image", &image.to_string()]);
            simulator.arg("--trace").arg(trace);
            simulator.arg("--folder").arg(&arguments.folder);
        }
        _ => {
            simulator.arg("run").args(run_arguments(arguments));
            if !runner.is_empty() {
                simulator.arg("--runner").args(runner);
            }
        }
    }
    let status = simulator.status();
    let status = status.with_context(|| format!("run {}", program.display()))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_arguments(arguments: &Arguments) -> Vec<String> {
    let mut all = vec![
        format!("--images={}", arguments.images),
        format!("--jobs={}", arguments.jobs),
        String::from("--again=cargo xtask power-cut"),
    ];
    all.extend(arguments.seed.map(|seed| format!("--seed={seed}")));
    let workloads = arguments.workload.iter();
    all.extend(workloads.map(|workload| format!("--workload={workload}")));
    all.extend(
        arguments
            .control
            .iter()
            .map(|control| format!("--control={control}")),
    );
    all
}

/// The optimised simulator: an image costs a tenth of what it costs without.
fn build(for_aarch64: bool) -> Result<PathBuf> {
    // <target>/<profile>/xtask
    let own = std::env::current_exe().context("find this program's path")?;
    let mut target = own
        .ancestors()
        .nth(2)
        .context("no target folder")?
        .to_owned();
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--locked", "--release", "--package", "power-cut"])
        .arg("--target-dir")
        .arg(&target);
    if for_aarch64 {
        cargo.args(["--target", AARCH64]);
        cargo.env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
            "aarch64-linux-gnu-gcc",
        );
        target.push(AARCH64);
    }
    ensure!(command::cargo(&mut cargo)?, "power-cut does not compile");
    Ok(target.join("release").join("power-cut"))
}

/// The cross compiler, the emulator and the standard library; installed as root or in CI, else the
/// line that does it.
fn prepare_aarch64() -> Result<()> {
    let needed = [
        ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("aarch64-linux-gnu-gcc", "libc6-dev-arm64-cross"),
        ("qemu-aarch64-static", "qemu-user-static"),
    ];
    let missing: Vec<_> = needed
        .into_iter()
        .filter(|(name, _)| program::find(name).is_none())
        .map(|(_, package)| package)
        .collect();
    let may_install = geteuid().is_root() || workspace::is_ci();
    if !missing.is_empty() {
        if !may_install {
            bail!("install with: sudo apt-get install {}", missing.join(" "));
        }
        println!("Installing {}.", missing.join(", "));
        setup::install_packages(&missing)?;
    }
    if has_std() {
        return Ok(());
    }
    ensure!(may_install, "install with: rustup target add {AARCH64}");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", AARCH64]);
    command::quiet(rustup.current_dir(workspace::root()))
        .with_context(|| format!("no standard library for {AARCH64}"))
}

/// Whether the compiler that cargo uses here has a standard library for the other processor.
fn has_std() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", AARCH64]);
    let output = command.current_dir(workspace::root()).output();
    output.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && PathBuf::from(path).is_dir()
    })
}
