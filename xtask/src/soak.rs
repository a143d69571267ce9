//! `cargo xtask soak …`: long measurements of the log, built as the product is.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::workspace;

/// `arguments` are those of `storage-bench`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut cargo = workspace::cargo();
    cargo
        .args(["run", "--locked", "--release", "--quiet"])
        .args(["--package", "storage-bench", "--"])
        .args(arguments);
    let status = cargo.status().context("start cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
