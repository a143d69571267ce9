//! cargo-deny at a pinned version, built by cargo into the cache folder, and its run.

use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::cache::Cache;
use anyhow::{Context, Result, ensure};

use super::{Readiness, entry};
use crate::{command, soak, workspace};

const VERSION: &str = "0.20.2";

pub(crate) fn ensure(cache: &Cache) -> Result<Readiness> {
    let folder = folder(cache);
    if !folder.is_dir() {
        println!("Building cargo-deny {VERSION} (once, some minutes).");
    }
    entry::ensure(&folder, verify, build)
}

/// Whether it could be built: a developer may be without network.
pub(crate) fn is_there() -> bool {
    Cache::locate().is_ok_and(|cache| program(&folder(&cache)).exists())
}

/// Whether the crates of `storage-bench/engines` could be judged: nothing else needs them, and a
/// developer without network may not have them.
pub(crate) fn engines_are_there() -> bool {
    let mut metadata = workspace::cargo();
    metadata.args(["metadata", "--locked", "--offline", "--format-version=1"]);
    command::succeeds(metadata.args(["--manifest-path", soak::ENGINES]))
}

/// Licences, bans and sources of every dependency, as `deny.toml` has them. Advisories are not
/// checked: their database is not in the package registry.
pub(crate) fn check() -> Result<bool> {
    check_manifest("Cargo.toml")
}

/// The same for `storage-bench/engines`, a workspace of its own with a `deny.toml` of its own.
pub(crate) fn check_engines() -> Result<bool> {
    check_manifest(soak::ENGINES)
}

/// The nearest `deny.toml` above `manifest` is the one that holds.
fn check_manifest(manifest: &str) -> Result<bool> {
    let mut deny = Command::new(program(&folder(&Cache::locate()?)));
    deny.args(["--manifest-path", manifest])
        .args([
            "--locked",
            "--all-features",
            "check",
            "--hide-inclusion-graph",
        ])
        .args(["bans", "licenses", "sources"])
        .current_dir(workspace::root());
    command::cargo(&mut deny).context("cargo-deny is not installed (cargo xtask setup)")
}

fn folder(cache: &Cache) -> PathBuf {
    cache.tool("cargo-deny", VERSION)
}

fn program(folder: &Path) -> PathBuf {
    folder.join("bin/cargo-deny")
}

fn verify(folder: &Path) -> Result<()> {
    ensure!(
        command::succeeds(Command::new(program(folder)).arg("--version")),
        "cargo-deny does not start"
    );
    Ok(())
}

/// It runs for seconds, so it is built to be built quickly.
fn build(folder: &Path) -> Result<()> {
    let target = tempfile::tempdir().context("create a temporary folder")?;
    let mut install = workspace::cargo();
    install
        .args([
            "install",
            "--quiet",
            "--locked",
            "--version",
            &format!("={VERSION}"),
            "--root",
        ])
        .arg(folder)
        .arg("cargo-deny")
        .env("CARGO_TARGET_DIR", target.path())
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    command::quiet(&mut install).context("build cargo-deny with cargo (is there network?)")
}
