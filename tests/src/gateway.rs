//! The product started on a configuration exactly as it is written, for suites about configuration
//! and about starting and ending. Where an ordinary broker will do, `broker_process` is shorter.
//!
//! It runs in a temporary folder of its own, which is also its working directory; listeners may use
//! port 0, the addresses come from `run/addresses.json`.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::broker_process::binary;
use crate::command_line::{self, Ended};
use crate::exposition::Metrics;
use crate::mqtt::{Client, Connect, Version};
use crate::supervised::{ExitCode, Files, Supervised};
use crate::{deadline, http, program};

/// One MQTT listener and the admin server, both on free loopback ports.
pub const LOOPBACK: &str =
    "[[listener]]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n";

/// How to start it; the default is the program itself with nothing around it.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// A program with arguments that is to start the product, such as `strace`. It must become the
    /// product or leave it as the child.
    pub wrapper: Vec<OsString>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// The data folder that the configuration names, if it does.
    pub data_dir: Option<PathBuf>,
}

impl Around {
    /// Started by `strace`, which is to tamper with system calls as these arguments say.
    ///
    /// # Errors
    /// When strace is not installed; a reason to skip.
    pub fn tampered(arguments: &[&str]) -> Result<Self, String> {
        let strace = program::require("strace", "strace")?;
        // -D: the product is our child, strace its grandchild, so that signals reach the product.
        let always = ["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"];
        let arguments = always.iter().chain(arguments).map(OsString::from);
        Ok(Self {
            wrapper: [strace.into_os_string()]
                .into_iter()
                .chain(arguments)
                .collect(),
            ..Self::default()
        })
    }
}

/// A running gateway. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct Gateway {
    around: Around,
    process: Option<Supervised>,
    addresses: Addresses,
    folder: TempDir,
}

#[derive(Debug, Default)]
struct Addresses {
    mqtt: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Gateway {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it ends instead or falls silent, with the end of its log.
    pub fn start(configuration: &str) -> Result<Self> {
        Self::start_around(Around::default(), configuration)
    }

    /// Starts it as `around` says, and waits until it listens.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn start_around(around: Around, configuration: &str) -> Result<Self> {
        let mut gateway = Self::spawn(around, configuration)?;
        gateway.wait_listening()?;
        Ok(gateway)
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be built or its folder cannot be made.
    pub fn spawn(around: Around, configuration: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tidegate-gateway-")
            .tempdir();
        let mut gateway = Self {
            around,
            process: None,
            addresses: Addresses::default(),
            folder: folder.context("create the gateway's folder")?,
        };
        gateway.run(configuration)?;
        Ok(gateway)
    }

    /// Starts it again on the same folder with this configuration, killing it first if it runs.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn restart(&mut self, configuration: &str) -> Result<()> {
        self.kill()?;
        self.run(configuration)?;
        self.wait_listening()
    }

    fn run(&mut self, configuration: &str) -> Result<()> {
        let file = self.folder.path().join("tidegate.toml");
        fs::write(&file, configuration).context("write the configuration")?;
        let mut arguments = self.around.wrapper.clone();
        arguments.extend([
            binary()?.into_os_string(),
            "run".into(),
            "--config".into(),
            file.into_os_string(),
        ]);
        let mut arguments = arguments.into_iter();
        let program = arguments.next().context("a program to start")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(self.around.environment.iter().cloned())
            .current_dir(self.folder.path());
        let log = self.log_path();
        let files = Files {
            stdout: &log,
            stderr: &log,
            scratch: Some(self.folder.path()),
        };
        self.process = Some(Supervised::spawn("tidegate", &command, &files)?);
        Ok(())
    }

    fn wait_listening(&mut self) -> Result<()> {
        let file = self.data_dir().join("run").join("addresses.json");
        let process = self
            .process
            .as_mut()
            .context("the gateway is not running")?;
        let pid = process.pid();
        self.addresses = process.wait_ready(|| read_addresses(&file, pid))?;
        Ok(())
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let named = self.around.data_dir.as_deref();
        self.folder
            .path()
            .join(named.unwrap_or_else(|| Path::new("tidegate-data")))
    }

    /// Its working directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The MQTT listeners, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.addresses.mqtt
    }

    /// The first MQTT listener.
    ///
    /// # Errors
    /// When there is none.
    pub fn mqtt(&self) -> Result<SocketAddr> {
        self.listeners().first().copied().context("no listener")
    }

    /// The admin server.
    ///
    /// # Errors
    /// When there is none.
    pub fn admin(&self) -> Result<SocketAddr> {
        self.addresses.admin.context("no admin server")
    }

    /// A client of MQTT 5 at the first listener.
    ///
    /// # Errors
    /// When it is not let in.
    pub fn client(&self, client_id: &str) -> Result<Client> {
        Client::connect(self.mqtt()?, &Connect::new(Version::V5, client_id))
    }

    /// The JSON behind a path of the admin server.
    ///
    /// # Errors
    /// When it does not answer, or with something else.
    pub fn json(&self, path: &str) -> Result<Value> {
        let answer = http::get(self.admin()?, path)?;
        serde_json::from_str(&answer.body)
            .with_context(|| format!("{path}: {} {}", answer.status, answer.body))
    }

    /// A metric, summed over the series that carry these labels.
    ///
    /// # Errors
    /// When there is no such metric.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let answer = http::get(self.admin()?, "/metrics")?;
        Metrics::parse(&answer.body)
            .sum(name, labels)
            .with_context(|| format!("no {name} with {labels:?}"))
    }

    /// Waits until a metric is what it should be; the value that it had then.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        is_right: impl Fn(f64) -> bool,
    ) -> Result<f64> {
        deadline::wait_for(
            &format!("the right {name} {labels:?}"),
            deadline::PATIENCE,
            || Ok(Some(self.metric(name, labels)?).filter(|value| is_right(*value))),
        )
    }

    /// Everything that it has printed so far, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("gateway.log")
    }

    /// The process.
    ///
    /// # Errors
    /// When it was waited for or killed.
    pub fn process(&mut self) -> Result<&mut Supervised> {
        self.process.as_mut().context("the gateway is not running")
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it is not running or does not end.
    pub fn wait_end(&mut self) -> Result<ExitCode> {
        let mut process = self.process.take().context("the gateway is not running")?;
        process.wait(deadline::PATIENCE)
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// As [`Gateway::wait_end`].
    pub fn end(&mut self, signal: Signal) -> Result<ExitCode> {
        self.process()?.signal(signal)?;
        self.wait_end()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().map(drop),
            None => Ok(()),
        }
    }
}

fn read_addresses(file: &Path, pid: u32) -> Option<Addresses> {
    let json: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    if json.get("pid")?.as_u64()? != u64::from(pid) {
        return None;
    }
    let address = |value: &Value| value.as_str()?.parse().ok();
    let listeners = json.get("listeners")?.as_array()?.iter();
    let mqtt = listeners.map(|listener| address(listener.get("address")?));
    Some(Addresses {
        mqtt: mqtt.collect::<Option<_>>()?,
        admin: json.get("admin").and_then(address),
    })
}

/// Starts the product on a configuration that it is to refuse; how it ended.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn refused(configuration: &str) -> Result<Ended> {
    let folder = tempfile::tempdir().context("create a folder")?;
    let file = folder.path().join("tidegate.toml");
    fs::write(&file, configuration).context("write the configuration")?;
    let mut command = Command::new(binary()?);
    command
        .args(["run", "--config"])
        .arg(&file)
        .current_dir(folder.path());
    let ended = command_line::run(&command)?;
    if folder.path().join("tidegate-data").exists() && ended.code == ExitCode(0) {
        bail!("it ran: {}", ended.stderr);
    }
    Ok(ended)
}
