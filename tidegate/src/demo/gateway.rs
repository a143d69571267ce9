//! The gateway: this program as a child process, `tidegate run`, on the demonstration's folder.
//!
//! Invariants:
//! - The process ends with this value, whatever ends it, and with the demonstration's process, even
//!   if that is killed (see [`crate::child`]); so only the main thread may start it.
//! - Waiting for it is bounded, and every error names where its log is.

mod config;

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::folder::Folder;
use super::upstream::Topic;
use crate::child;

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at the process.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of its log that an error shows.
const LOG_TAIL_BYTES: usize = 2000;

/// A life of the gateway: it takes connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// Counts the starts, from 1.
    pub(super) life: u32,
    pub(super) pid: u32,
    pub(super) mqtt: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// `run/addresses.json`.
#[derive(Deserialize)]
struct Addresses {
    listeners: Vec<Listener>,
    admin: Option<SocketAddr>,
    pid: u32,
}

#[derive(Deserialize)]
struct Listener {
    address: SocketAddr,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Gateway {
    config: PathBuf,
    addresses: PathBuf,
    log: PathBuf,
    process: Option<Child>,
    lives: u32,
    live: watch::Sender<Option<Live>>,
}

impl Gateway {
    /// A gateway that has not been started and will replicate `topics` to the cluster at `uplink`.
    ///
    /// # Errors
    /// Its configuration cannot be written.
    pub(super) fn new(
        folder: &Folder,
        uplink: SocketAddr,
        topics: &[Topic],
    ) -> anyhow::Result<Self> {
        let text = config::text(folder, uplink, topics);
        fs::write(folder.config(), text).context("write the gateway's configuration")?;
        Ok(Self {
            config: folder.config(),
            addresses: folder.data().join("run").join("addresses.json"),
            log: folder.log(),
            process: None,
            lives: 0,
            live: watch::Sender::new(None),
        })
    }

    /// Where it is, as long as it takes connections.
    pub(super) fn live(&self) -> watch::Receiver<Option<Live>> {
        self.live.subscribe()
    }

    /// How often it was started.
    pub(super) fn lives(&self) -> u32 {
        self.lives
    }

    /// Starts the process and waits until it takes connections.
    ///
    /// # Errors
    /// It cannot be started, or ends or falls silent instead; with the end of its log.
    pub(super) async fn start(&mut self) -> anyhow::Result<Live> {
        let program = std::env::current_exe().context("find this program")?;
        let log = self.open_log()?;
        let mut command = Command::new(program);
        command
            .args(["demo", "--gateway-of", &std::process::id().to_string()])
            .arg("--gateway-config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open the gateway's log")?)
            .stderr(log)
            // Ctrl-C is for the demonstration, which then ends the gateway itself.
            .process_group(0);
        let child = command.spawn().context("start the gateway")?;
        let pid = child.id();
        self.process = Some(child);
        self.lives += 1;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            self.check()?;
            if let Some(live) = self.read_addresses(pid) {
                self.live.send_replace(Some(live.clone()));
                return Ok(live);
            }
            if Instant::now() >= deadline {
                let waited = START_LIMIT.as_secs();
                bail!(self.with_log(&format!(
                    "the gateway (pid {pid}) does not listen after {waited} s"
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Fails when the process has ended on its own.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let pid = process.id();
        if let Some(status) = process.try_wait().context("look at the gateway")? {
            self.process = None;
            self.live.send_replace(None);
            bail!(self.with_log(&format!(
                "the gateway (pid {pid}) has ended on its own: {status}"
            )));
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().context("kill the gateway")?;
            process.wait().context("wait for the gateway")?;
        }
        self.live.send_replace(None);
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not end in time, or with another status than 0.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let pid = process.id();
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.context("the gateway's process id")?;
        rustix::process::kill_process(raw, Signal::TERM).context("stop the gateway")?;
        let deadline = Instant::now() + STOP_LIMIT;
        let status: ExitStatus = loop {
            if let Some(status) = process.try_wait().context("wait for the gateway")? {
                break status;
            }
            if Instant::now() >= deadline {
                let waited = STOP_LIMIT.as_secs();
                bail!(self.with_log(&format!(
                    "the gateway (pid {pid}) still runs {waited} s after SIGTERM"
                )));
            }
            sleep(LOOK_EVERY).await;
        };
        self.process = None;
        self.live.send_replace(None);
        if !status.success() {
            bail!(self.with_log(&format!("the gateway (pid {pid}) ended with {status}")));
        }
        Ok(())
    }

    /// An error about the gateway, with what it has logged last.
    pub(super) fn with_log(&self, what: &str) -> anyhow::Error {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut from = text.len().saturating_sub(LOG_TAIL_BYTES);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let tail = text.get(from..).unwrap_or_default().trim_end();
        anyhow!("{what}; its log {} ends so:\n{tail}", self.log.display())
    }

    fn open_log(&self) -> anyhow::Result<File> {
        let open = OpenOptions::new().create(true).append(true).open(&self.log);
        open.with_context(|| format!("open {}", self.log.display()))
    }

    /// Where it listens, once the process itself has written it.
    fn read_addresses(&self, pid: u32) -> Option<Live> {
        let text = fs::read(&self.addresses).ok()?;
        let addresses: Addresses = serde_json::from_slice(&text).ok()?;
        (addresses.pid == pid).then_some(Live {
            life: self.lives,
            pid,
            mqtt: addresses.listeners.first()?.address,
            admin: addresses.admin?,
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended already, or the system is past helping.
        let _ = self.kill();
    }
}

/// In the child: binds this process to the life of the demonstration and becomes the gateway.
///
/// # Errors
/// The demonstration has ended meanwhile, or the program cannot be started again.
pub(super) fn become_gateway(parent: i32, config: &Path) -> anyhow::Result<()> {
    child::end_with_parent(parent)?;
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(config);
    Err(child::become_program(&mut command))
}
