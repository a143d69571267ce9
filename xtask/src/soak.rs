//! `cargo xtask soak …`: long measurements of the log, built as the product is.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::workspace;

/// fjall and redb need a newer compiler than the product, hence a workspace of their own.
pub(crate) const ENGINES: &str = "storage-bench/engines/Cargo.toml";

/// `arguments` are those of `storage-bench`, or `engines` and those of `storage-bench/engines`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--locked", "--release", "--quiet"]);
    match arguments.split_first() {
        Some((first, others)) if first == "engines" => {
            cargo.args(["--manifest-path", ENGINES, "--"]).args(others);
        }
        Some((first, _)) if first == "quiet" => {
            let program = product()?;
            cargo.args(["--package", "storage-bench", "--"]);
            cargo.args(arguments).arg("--program").arg(program);
        }
        _ => {
            cargo.args(["--package", "storage-bench", "--"]);
            cargo.args(arguments);
        }
    }
    Ok(if succeeds(&mut cargo)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The program, built as it ships but for the last optimisations.
fn product() -> Result<PathBuf> {
    let mut build = workspace::cargo();
    build.args(["build", "--locked", "--release", "--quiet"]);
    build.args(["--package", "tidegate"]);
    anyhow::ensure!(succeeds(&mut build)?, "tidegate was not built");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Ok(workspace::root().join(target).join("release/tidegate"))
}

fn succeeds(cargo: &mut Command) -> Result<bool> {
    Ok(cargo.status().context("start cargo")?.success())
}
