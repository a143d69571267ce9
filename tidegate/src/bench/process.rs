//! A child process of a measurement: a broker, or the writer of bare files.
//!
//! Invariants:
//! - It ends with this value, and with this process (see [`crate::child`]).
//! - Waiting for it is bounded, and every error shows what it said last.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep};

use crate::child;
use crate::cli::bench::BenchChildOptions;

/// Between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Bytes of its log that an error shows.
const LOG_TAIL_BYTES: usize = 2000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it prints goes into `log`. Only for the main thread.
    ///
    /// # Errors
    /// It cannot be started. That the program does not exist shows only as its end.
    pub(super) fn start<S: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        arguments: &[S],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let this_program = std::env::current_exe().context("find this program")?;
        let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new(this_program);
        command
            .args([
                "bench",
                "child",
                "--parent",
                &std::process::id().to_string(),
                "--",
            ])
            .arg(program)
            .args(arguments)
            // Tidegate tells then when each step of its start was done, see `steps`.
            .env("TIDEGATE_LOG", "info,start=debug")
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("open a log")?)
            .stderr(file)
            // Ctrl-C is for this process, which then ends the child itself.
            .process_group(0);
        Ok(Self {
            name,
            child: command.spawn().with_context(|| format!("start {name}"))?,
            log: log.to_owned(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the process has ended on its own.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("look at a child process")? {
            None => Ok(()),
            Some(status) => bail!(self.with_log(&format!("has ended: {status}"))),
        }
    }

    /// Waits until it has ended with success; `look` is called in between.
    ///
    /// # Errors
    /// It fails.
    pub(super) async fn wait(&mut self, mut look: impl FnMut()) -> anyhow::Result<()> {
        loop {
            match self.child.try_wait().context("wait for a child process")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!(self.with_log(&format!("has ended: {status}"))),
                None => sleep(LOOK_EVERY).await,
            }
            look();
        }
    }

    /// What it has printed.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub(super) fn output(&self) -> anyhow::Result<String> {
        let read = fs::read_to_string(&self.log);
        read.with_context(|| format!("read {}", self.log.display()))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.context("not a process id")?;
        rustix::process::kill_process(pid, signal)
            .with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let name = self.name;
        self.child.kill().with_context(|| format!("kill {name}"))?;
        self.child
            .wait()
            .with_context(|| format!("wait for {name}"))?;
        Ok(())
    }

    /// Probes until there is a value.
    ///
    /// # Errors
    /// The process ends, or there is none within `limit`.
    pub(super) async fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl AsyncFnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(value) = probe().await {
                return Ok(value);
            }
            self.check()?;
            if Instant::now() >= deadline {
                let waited = limit.as_secs();
                bail!(self.with_log(&format!("has not come to {what} within {waited} s")));
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// An error about the process, with what it has printed last.
    pub(super) fn with_log(&self, what: &str) -> anyhow::Error {
        let text = fs::read(&self.log).unwrap_or_default();
        let tail = text.get(text.len().saturating_sub(LOG_TAIL_BYTES)..);
        let tail = String::from_utf8_lossy(tail.unwrap_or_default());
        let (name, pid) = (self.name, self.pid());
        anyhow!(
            "{name} (pid {pid}) {what}; it said last:\n{}",
            tail.trim_end()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or the system is past helping.
        let _ = self.kill();
    }
}

/// In the child: becomes the program.
///
/// # Errors
/// The measurement has ended meanwhile, or the program cannot be started.
pub(super) fn become_child(options: &BenchChildOptions) -> anyhow::Result<()> {
    child::end_with_parent(options.parent)?;
    let (program, arguments) = options.program.split_first().context("no program")?;
    Err(child::become_program(Command::new(program).args(arguments)))
}
