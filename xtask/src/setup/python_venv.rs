//! The Python environment of tests/python/: pinned packages with hashes, wheels only.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::cache::Cache;
use anyhow::{Context, Result};

use super::{Readiness, entry};
use crate::{command, workspace};

/// What `python3 -c` must agree to: new enough, and able to make a virtual environment (Debian's
/// is not without python3-venv).
const IS_SUITABLE: &str = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))";

pub(crate) fn ensure(cache: &Cache) -> Result<Readiness> {
    entry::ensure(&cache.python_venv(), check, build)
}

/// The first suitable `python3` of the path.
pub(crate) fn interpreter() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("python3"))
        .find(|python| command::succeeds(Command::new(python).args(["-c", IS_SUITABLE])))
}

/// The interpreter of the environment is a link: an upgrade of the system's Python can break it.
fn check(venv: &Path) -> Result<()> {
    let import = "import confluent_kafka, gmqtt, paho.mqtt.client";
    let mut python = Command::new(venv.join("bin/python"));
    command::quiet(python.args(["-c", import])).context("import the Python packages")
}

fn build(venv: &Path) -> Result<()> {
    let python = interpreter().context("no python3 of at least 3.9 that can make a venv")?;
    command::quiet(Command::new(&python).args(["-m", "venv"]).arg(venv))
        .context("make a Python environment")?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .args([
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--requirement",
    ])
    .arg(workspace::root().join("tests/python/requirements.txt"));
    command::quiet(&mut pip).context("fetch Python packages with pip (is there network?)")
}
