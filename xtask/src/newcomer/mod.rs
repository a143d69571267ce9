//! `cargo xtask newcomer`: the README's commands in a bare Debian, from a fresh clone.
//!
//! The Debian lies in a folder of the cache and is removed at the end. What runs in it has mount and
//! process namespaces of its own: mounts and processes are gone when it ends, in whatever way.

mod network;
mod root_folder;

use std::ffi::OsStr;
use std::process::{Command, ExitCode};
use std::time::Instant;

use ::tests::cache::Cache;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rustix::process::geteuid;

use crate::command::flush;
use crate::workspace;
use root_folder::RootFolder;

/// Where the clone lies in the bare Debian.
const CLONE: &str = "/srv/tidegate";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Keep the Debian with the clone, to look around in it afterwards
    #[arg(long)]
    keep: bool,
    /// Only one of the two commands
    #[arg(long)]
    only: Option<Attempt>,
}

/// One of the README's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attempt {
    /// `cargo run --release -- demo`
    Demo,
    /// `./test`
    Test,
}

impl Attempt {
    fn command_line(self) -> &'static str {
        match self {
            Self::Demo => "cargo run --release -- demo",
            Self::Test => "./test",
        }
    }

    /// Tests skip what is missing unless they are told that nothing may be.
    fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Demo => &[],
            Self::Test => &[("CI", "true")],
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(
        geteuid().is_root(),
        "making a bare Debian needs root: run it with sudo"
    );
    let root_folder = RootFolder::make(&Cache::locate()?)?;
    clone_into(&root_folder)?;
    let attempts = arguments
        .only
        .map_or_else(|| vec![Attempt::Demo, Attempt::Test], |a| vec![a]);
    let mut verdicts = Vec::new();
    for attempt in attempts {
        println!("== {}", attempt.command_line());
        flush();
        let start = Instant::now();
        let succeeded = run_inside(&root_folder, attempt)?;
        verdicts.push((attempt, succeeded, start.elapsed().as_secs()));
    }
    println!();
    for (attempt, succeeded, seconds) in &verdicts {
        let verdict = if *succeeded { "ok" } else { "FAILED" };
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        println!(
            "{:<28} {verdict:<6} {minutes:>3}:{seconds:02}",
            attempt.command_line()
        );
    }
    if arguments.keep {
        let path = root_folder.keep();
        println!("Kept: chroot {} (clone in {CLONE})", path.display());
    } else {
        root_folder.remove()?;
    }
    let all = verdicts.iter().all(|(_, succeeded, _)| *succeeded);
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is committed, as a newcomer gets it.
fn clone_into(root_folder: &RootFolder) -> Result<()> {
    let git = |arguments: &[&OsStr]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(workspace::root())
            .output();
        output.context("run git")
    };
    let changes = git(&["status".as_ref(), "--porcelain".as_ref()])?;
    if !changes.stdout.is_empty() {
        println!("Changes that are not committed take no part.");
    }
    let target = root_folder.path().join(CLONE.trim_start_matches('/'));
    let source = workspace::root();
    let output = git(&[
        "clone".as_ref(),
        "--quiet".as_ref(),
        source.as_ref(),
        target.as_ref(),
    ])?;
    ensure!(
        output.status.success(),
        "git clone failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Runs the command as a newcomer's shell would.
fn run_inside(root_folder: &RootFolder, attempt: Attempt) -> Result<bool> {
    let line = format!("cd {CLONE} && exec {} </dev/null", attempt.command_line());
    let status = root_folder
        .shell(&line)
        .envs(attempt.environment().iter().copied())
        .status()
        .context("enter the bare Debian")?;
    Ok(status.success())
}
