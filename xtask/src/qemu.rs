//! `cargo xtask qemu`: the package on a real Debian on an emulated ARM machine. CI runs its short form.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

use crate::{command, workspace};

/// Where `cargo xtask dist` leaves packages, below the target folder.
const PACKAGES: &str = "dist-out";

/// Whether there is a package to install, and this may make a root file system.
pub(crate) fn can_run() -> bool {
    let package = programs_folder().and_then(|folder| package(&packages(&folder)));
    geteuid().is_root() && package.is_ok()
}

/// The short form, for CI; whether it passed.
pub(crate) fn short() -> Result<bool> {
    Ok(run(&[String::from("--short")])? == ExitCode::SUCCESS)
}

/// Builds the suite and lets it run. `arguments` are the suite's own; the package is that of
/// `cargo xtask dist` unless they name one.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let folder = programs_folder()?;
    let target = folder.parent().context("no target folder")?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--locked", "--package", "vm-suite"])
        .arg("--target-dir")
        .arg(target);
    ensure!(command::cargo(&mut cargo)?, "vm-suite does not compile");
    let program = target.join("debug").join("vm-suite");
    let mut suite = Command::new(&program);
    suite.args(arguments).current_dir(workspace::root());
    let names = |option: &str| {
        let mut given = arguments.iter();
        given.any(|argument| argument == option || argument.starts_with(&format!("{option}=")))
    };
    let wants_none = ["--deb", "--from", "--help", "-h"];
    if !wants_none.into_iter().any(names) {
        suite.arg("--deb").arg(package(&packages(&folder))?);
    }
    let status = suite.status();
    let status = status.with_context(|| format!("run {}", program.display()))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `<target>/<profile>`, where this program lies.
fn programs_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's path")?;
    Ok(own.parent().context("no folder of programs")?.to_owned())
}

fn packages(programs: &Path) -> PathBuf {
    programs.with_file_name(PACKAGES)
}

/// The newest package for arm64 in a folder.
fn package(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let packages = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with("_arm64.deb")
    });
    let newest = packages.max_by_key(|path| path.metadata().and_then(|of| of.modified()).ok());
    let Some(newest) = newest else {
        bail!(
            "no package for arm64 in {}: make one with `cargo xtask dist`, or name one with --deb",
            folder.display()
        );
    };
    Ok(newest)
}
