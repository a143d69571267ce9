//! What the tests need beside Rust: installed as root or in CI, otherwise checked, with the one line
//! that installs it.
//!
//! Everything that is not a Debian package lies in the cache folder (see `tests::cache`). A run
//! that finds it complete downloads nothing.

pub(crate) mod cargo_deny;
mod debian;
mod entry;
pub(crate) mod kafka_jars;
mod node_packages;
mod python_venv;

use std::process::ExitCode;

use ::tests::cache::Cache;
use anyhow::{Context, Result};

use crate::workspace;
pub(crate) use debian::install as install_packages;

/// What became of one prerequisite.
#[derive(Debug)]
pub(crate) enum Readiness {
    Present,
    Installed,
}

/// `cargo xtask setup`.
pub(crate) fn run() -> Result<ExitCode> {
    Ok(if complete()? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Installs what Kafka needs, for `cargo xtask kafka up` before the first `./test`.
pub(crate) fn for_kafka() -> Result<()> {
    let cache = Cache::locate()?;
    let _lock = entry::lock(&cache)?;
    debian::ensure().context("install Debian packages")?;
    kafka_jars::ensure(&cache)?;
    Ok(())
}

/// Installs or checks everything. Something missing fails in CI; elsewhere tests are skipped.
pub(crate) fn complete() -> Result<bool> {
    let cache = Cache::locate()?;
    let _lock = entry::lock(&cache)?;
    let mut complete = true;
    let mut note = |what: &str, result: Result<Readiness>| match result {
        Ok(Readiness::Present) => println!("{what}: there"),
        Ok(Readiness::Installed) => println!("{what}: installed"),
        Err(error) => {
            complete = false;
            println!("{what}: MISSING: {error:#}");
        }
    };
    note("Debian packages", debian::ensure());
    note("Kafka's jars", kafka_jars::ensure(&cache));
    note("Python packages", python_venv::ensure(&cache));
    note("Node packages", node_packages::ensure(&cache));
    note("cargo-deny", cargo_deny::ensure(&cache));
    entry::remove_unused(&cache).context("clean the cache folder")?;
    if !complete && !workspace::is_ci() {
        println!("Tests that need what is missing are skipped.");
        return Ok(true);
    }
    Ok(complete)
}
