//! The Node packages of tests/node/: pinned by npm's lock file, which has their hashes. No script of
//! a package is run.

use std::fs;
use std::path::Path;
use std::process::Command;

use ::tests::cache::Cache;
use ::tests::program;
use anyhow::{Context, Result, anyhow};

use super::{Readiness, entry};
use crate::{command, workspace};

/// What npm reads: the two files that pin, and its settings.
const FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

pub(crate) fn ensure(cache: &Cache) -> Result<Readiness> {
    entry::ensure(&cache.node_packages(), check, build)
}

/// A folder with all packages that a Node of the past has filled may not suit that of today.
fn check(folder: &Path) -> Result<()> {
    let node = program::require("node", "nodejs").map_err(|reason| anyhow!(reason))?;
    let mut node = Command::new(node);
    node.args(["--eval", "require('mqtt')"]).current_dir(folder);
    command::quiet(&mut node).context("load the Node packages")
}

fn build(folder: &Path) -> Result<()> {
    for file in FILES {
        let from = workspace::root().join("tests/node").join(file);
        fs::copy(&from, folder.join(file)).with_context(|| format!("copy {}", from.display()))?;
    }
    let npm = program::require("npm", "npm").map_err(|reason| anyhow!(reason))?;
    let mut npm = Command::new(npm);
    npm.args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ])
    .current_dir(folder);
    command::quiet(&mut npm).context("fetch Node packages with npm (is there network?)")
}
