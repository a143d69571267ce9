//! `cargo xtask power-cut`: the recovery of store and broker on simulated power cuts. The tests run a
//! short form.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cross::{self, Target};
use crate::{command, workspace};

/// The other processors that the simulator's file calls were tried on.
const EMULATED: [&str; 3] = [
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-gnueabihf",
];

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
    /// Another processor, emulated: aarch64-unknown-linux-gnu, aarch64-unknown-linux-musl or
    /// armv7-unknown-linux-gnueabihf
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
    let target = arguments.target.as_deref();
    let target = target.map(|triple| Target::named(triple, &EMULATED));
    let target = target.transpose()?;
    if let Some(target) = target {
        target.prepare_run()?;
    }
    let program = build(target)?;
    let mut simulator = match target {
        Some(target) => target.command(&program),
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
            if let Some(target) = target {
                simulator.arg("--runner").args(target.runner());
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
fn build(target: Option<&Target>) -> Result<PathBuf> {
    let mut folder = cross::target_folder()?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--locked", "--release", "--package", "power-cut"])
        .arg("--target-dir")
        .arg(&folder);
    if let Some(target) = target {
        cargo.args(["--target", target.triple]);
        cargo.envs(target.environment());
        folder.push(target.triple);
    }
    ensure!(command::cargo(&mut cargo)?, "power-cut does not compile");
    Ok(folder.join("release").join("power-cut"))
}
