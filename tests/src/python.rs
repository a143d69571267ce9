//! The Python scripts of `tests/python/`: independent Kafka and MQTT clients.
//!
//! A script prints one JSON object a line on standard output; what it has to say to people goes to
//! standard error.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::cache::Cache;
use crate::supervised::{ExitCode, Files, Supervised};

/// The interpreter with paho-mqtt and confluent-kafka, or the reason for a skip.
///
/// # Errors
/// When the virtual environment has not been made.
pub fn available() -> Result<PathBuf, String> {
    let venv = Cache::locate()
        .map_err(|error| format!("{error:#}"))?
        .python_venv();
    let interpreter = venv.join("bin").join("python");
    if interpreter.exists() {
        Ok(interpreter)
    } else {
        Err(String::from(
            "the Python environment is not installed (run ./test)",
        ))
    }
}

/// A command that runs `tests/python/<script>`.
///
/// # Errors
/// The reason for a skip, as [`available`].
pub fn command(script: &str) -> Result<Command, String> {
    Ok(command_with(&available()?, script))
}

fn command_with(interpreter: &Path, script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let mut command = Command::new(interpreter);
    // Unbuffered, so that what it has printed can be read while it runs.
    command
        .arg("-u")
        .arg(folder.join(script))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a script to its end and returns the objects that it printed.
///
/// # Errors
/// When it does not end within `limit`, ends with another status than 0, or prints something else.
pub fn run(script: &str, arguments: &[&str], limit: Duration) -> Result<Vec<Value>> {
    Script::spawn(script, arguments)?.finish(limit)
}

/// A script that runs beside the test. Dropping it kills it.
#[derive(Debug)]
pub struct Script {
    name: String,
    process: Supervised,
    stdout: PathBuf,
    _scratch: TempDir,
}

impl Script {
    /// Starts `tests/python/<script>`.
    ///
    /// # Errors
    /// When Python is not there or cannot be started.
    pub fn spawn(script: &str, arguments: &[&str]) -> Result<Self> {
        let interpreter = available().map_err(|reason| anyhow!(reason))?;
        Self::spawn_with(&interpreter, script, arguments)
    }

    /// The same with another interpreter, for a script that needs none of the packages.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_with(interpreter: &Path, script: &str, arguments: &[&str]) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("tidegate-python-")
            .tempdir();
        let scratch = scratch.context("create a temporary folder")?;
        let (stdout, stderr) = (scratch.path().join("stdout"), scratch.path().join("stderr"));
        let mut command = command_with(interpreter, script);
        command.args(arguments);
        let files = Files {
            stdout: &stdout,
            stderr: &stderr,
            scratch: Some(scratch.path()),
        };
        let process = Supervised::spawn(script, &command, &files)?;
        Ok(Self {
            name: script.to_owned(),
            process,
            stdout,
            _scratch: scratch,
        })
    }

    /// What it has printed so far; a line that is not yet complete is left out.
    ///
    /// # Errors
    /// When a line is not JSON.
    pub fn printed(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.stdout)
            .with_context(|| format!("read the output of {}", self.name))?;
        let complete = text
            .rfind('\n')
            .and_then(|end| text.get(..end))
            .unwrap_or_default();
        let parse = |line: &str| {
            serde_json::from_str(line).with_context(|| format!("{} printed {line:?}", self.name))
        };
        complete.lines().map(parse).collect()
    }

    /// Waits for its end and hands over what it printed line by line, without keeping it.
    ///
    /// # Errors
    /// As [`run`], or when `each` fails.
    pub fn finish_each(
        mut self,
        limit: Duration,
        mut each: impl FnMut(Value) -> Result<()>,
    ) -> Result<()> {
        self.wait(limit)?;
        let output = File::open(&self.stdout)
            .with_context(|| format!("read the output of {}", self.name))?;
        for line in BufReader::new(output).lines() {
            let line = line.with_context(|| format!("read the output of {}", self.name))?;
            let value = serde_json::from_str(&line)
                .with_context(|| format!("{} printed {line:?}", self.name))?;
            each(value)?;
        }
        Ok(())
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// That it has ended, with the end of its standard error.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.check_running()
    }

    /// Waits for its end and returns what it printed.
    ///
    /// # Errors
    /// As [`run`].
    pub fn finish(mut self, limit: Duration) -> Result<Vec<Value>> {
        self.wait(limit)?;
        self.printed()
    }

    fn wait(&mut self, limit: Duration) -> Result<()> {
        let code = self.process.wait(limit)?;
        if code != ExitCode(0) {
            bail!("{} ended with {code}{}", self.name, self.process.log_tail());
        }
        Ok(())
    }
}
