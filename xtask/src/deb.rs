//! `cargo xtask deb`: a Debian package of a binary that was built for an architecture.
//!
//! What is put into it comes from `packaging/` (maintainer scripts, the default configuration), `systemd/`
//! (units), the definition of the command line (manual pages, completions) and the crates (notices). It is
//! staged in a folder, which `dpkg-deb` packs.

mod control;
mod manual;
mod notices;
mod staging;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::cross::{SHIPPED, Target};
use crate::dist::build_epoch;
use crate::{command, workspace};
pub(crate) use control::Version;
use staging::Staging;

#[derive(Args)]
pub(crate) struct Arguments {
    /// arm64, armhf or amd64
    #[arg(long)]
    arch: String,
    /// The program, as `cargo xtask dist` builds it for that architecture
    #[arg(long)]
    binary: PathBuf,
    /// Where the package goes; made if it is not there
    #[arg(long)]
    out: PathBuf,
    /// The package's version [default: the workspace's, with `-1`]
    #[arg(long)]
    version: Option<String>,
}

/// Builds one package and prints its path and size.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let target = of_architecture(&arguments.arch)?;
    let version = match &arguments.version {
        Some(version) => Version::parse(version)?,
        None => Version::of_workspace()?,
    };
    let package = build(target, &arguments.binary, &arguments.out, &version)?;
    let bytes = fs::metadata(&package)?.len();
    println!("{} {bytes} bytes", package.display());
    Ok(ExitCode::SUCCESS)
}

fn of_architecture(name: &str) -> Result<&'static Target> {
    let shipped: Vec<_> = SHIPPED
        .iter()
        .map(|triple| Target::named(triple, &SHIPPED))
        .collect::<Result<_>>()?;
    let names: Vec<_> = shipped.iter().map(|target| target.debian).collect();
    let found = shipped.iter().find(|target| target.debian == name);
    found
        .copied()
        .with_context(|| format!("--arch {name}; allowed: {}", names.join(", ")))
}

/// Builds the package of `binary` in `out`; its path.
pub(crate) fn build(
    target: &'static Target,
    binary: &Path,
    out: &Path,
    version: &Version,
) -> Result<PathBuf> {
    let program = fs::read(binary).with_context(|| format!("--binary {}", binary.display()))?;
    if !program.starts_with(b"\x7fELF") {
        bail!("--binary {}: not a program (ELF)", binary.display());
    }
    let epoch = build_epoch()?;
    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let folder = tempfile::tempdir().context("make a folder to stage the package in")?;
    let staging = Staging::new(folder.path())?;
    stage(&staging, target, &program, version, epoch)?;
    control::write(&staging, target, version)?;
    let package = out.join(format!("tidegate_{version}_{}.deb", target.debian));
    pack(folder.path(), &package, epoch)?;
    judge(&package)?;
    Ok(package)
}

/// Lintian's word on the package; what it may say is in `packaging/lintian-overrides`, with reasons.
fn judge(package: &Path) -> Result<()> {
    if !command::succeeds(Command::new("lintian").arg("--version")) {
        println!("lintian is not installed (Debian package lintian): not checked.");
        return Ok(());
    }
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]);
    command::quiet(lintian.arg(package))
}

/// Everything but the control files.
fn stage(
    staging: &Staging,
    target: &'static Target,
    program: &[u8],
    version: &Version,
    epoch: u64,
) -> Result<()> {
    let source = |path: &str| {
        let path = workspace::root().join(path);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    staging.file("usr/bin/tidegate", program, 0o755)?;
    staging.file(
        "etc/tidegate/tidegate.toml",
        source("packaging/tidegate.toml")?,
        0o640,
    )?;
    staging.folder_mode("etc/tidegate", 0o750)?;
    for unit in ["tidegate.service", "tidegate.socket"] {
        let path = format!("lib/systemd/system/{unit}");
        staging.file(&path, source(&format!("systemd/{unit}"))?, 0o644)?;
    }
    let sysusers = source("systemd/tidegate.sysusers")?;
    staging.file("usr/lib/sysusers.d/tidegate.conf", sysusers, 0o644)?;
    let tmpfiles = source("packaging/tidegate.tmpfiles")?;
    staging.file("usr/lib/tmpfiles.d/tidegate.conf", tmpfiles, 0o644)?;
    let overrides = source("packaging/lintian-overrides")?;
    staging.file("usr/share/lintian/overrides/tidegate", overrides, 0o644)?;
    for folder in ["drop-ins", "image"] {
        let from = workspace::root().join("systemd").join(folder);
        for entry in fs::read_dir(&from).with_context(|| format!("list {}", from.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let to = format!("usr/share/doc/tidegate/examples/{folder}/{name}");
            staging.file(&to, fs::read(&path)?, 0o644)?;
        }
    }
    staging.compressed(
        "usr/share/doc/tidegate/changelog.gz",
        &source("CHANGELOG.md")?,
    )?;
    let debian = control::changelog(version, epoch);
    staging.compressed(
        "usr/share/doc/tidegate/changelog.Debian.gz",
        debian.as_bytes(),
    )?;
    let notices = notices::of(target)?;
    staging.file("usr/share/doc/tidegate/copyright", notices.copyright, 0o644)?;
    let texts = notices.texts.as_bytes();
    staging.compressed("usr/share/doc/tidegate/third-party-notices.gz", texts)?;
    manual::stage(staging, epoch)
}

fn pack(folder: &Path, package: &Path, epoch: u64) -> Result<()> {
    ensure!(
        command::succeeds(Command::new("dpkg-deb").arg("--version")),
        "dpkg-deb is not installed (Debian package dpkg)"
    );
    let mut pack = Command::new("dpkg-deb");
    // xz: what every release still served understands.
    pack.args(["--build", "--root-owner-group", "-Zxz"])
        .arg(folder)
        .arg(package)
        .env("SOURCE_DATE_EPOCH", epoch.to_string());
    command::quiet(&mut pack)
}

#[cfg(test)]
#[path = "deb/tests.rs"]
mod tests;
