//! The product's commands, run to their end.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::broker_process::binary;
use crate::deadline::PATIENCE;
use crate::supervised::{ExitCode, Files, Supervised};

/// How a command ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub code: ExitCode,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `tidegate` with these arguments to its end.
///
/// # Errors
/// When it cannot be built or started, or does not end.
pub fn tidegate<S: AsRef<OsStr>>(arguments: &[S]) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.args(arguments);
    run(&command)
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn run(command: &Command) -> Result<Ended> {
    let scratch = tempfile::tempdir().context("create a temporary folder")?;
    let (stdout, stderr) = (scratch.path().join("stdout"), scratch.path().join("stderr"));
    let files = Files {
        stdout: &stdout,
        stderr: &stderr,
        scratch: Some(scratch.path()),
    };
    let mut process = Supervised::spawn("a command", command, &files)?;
    let code = process
        .wait(PATIENCE)
        .map_err(|error| anyhow!("{command:?}: {error:#}"))?;
    let text = |path| {
        let bytes = fs::read(path).context("read what a command printed")?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Ended {
        code,
        stdout: text(&stdout)?,
        stderr: text(&stderr)?,
    })
}
