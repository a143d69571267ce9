//! The product as a process: started on a temporary folder, watched, killed, started again.
//!
//! What it is told: a configuration file. What it tells: `<data_dir>/run/addresses.json` with its
//! process id and the addresses that it listens on, and its admin endpoint. Ports are chosen here,
//! not by the kernel, so that clients find a broker that was killed at the same address again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::exposition::Metrics;
use crate::supervised::{ExitCode, Files, Supervised};
use crate::{deadline, http, ports};

/// A route tells its lag ten times a second at most: an older 0 is not the end.
const LAG_TOLD_WITHIN: Duration = Duration::from_millis(300);

/// How to start the product; the default is a broker with one open MQTT listener on loopback.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Top-level keys of the configuration beside `data_dir`, as TOML lines.
    pub keys: String,
    /// Further keys of the MQTT listener, as TOML lines.
    pub listener: String,
    /// Further tables of the configuration, as TOML; the MQTT listener and `[admin]` stand already.
    pub tables: String,
    /// Arguments after `run --config FILE`.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Another data folder than the temporary one; it stays when the process ends.
    pub data_dir: Option<PathBuf>,
    /// Another program than the product of this workspace.
    pub program: Option<PathBuf>,
}

impl Options {
    /// With a bridge to `kafka` and a route for each (log, topic), named as the topic. Its timeouts
    /// are short, so that what waits for them in a test does not wait long.
    #[must_use]
    pub fn bridged(mut self, kafka: SocketAddr, routes: &[(&str, &str)]) -> Self {
        self.keys.push_str("\ngateway_id = \"gw-1\"\n");
        self.tables.push_str(&format!(
            "\n[bridge]\nbootstrap = [\"{kafka}\"]\nrequest_timeout = \"3s\"\n\
             backoff_max = \"1s\"\ncheckpoint_interval = \"1s\"\n"
        ));
        for (log, topic) in routes {
            self.tables.push_str(&format!(
                "\n[[bridge.route]]\nname = \"{}\"\nlog = \"{log}\"\ntopic = \"{topic}\"\n",
                topic.replace('.', "-")
            ));
        }
        self
    }
}

/// A running broker. Dropping it kills it and removes its temporary folder.
#[derive(Debug)]
pub struct BrokerProcess {
    program: PathBuf,
    options: Options,
    data_dir: PathBuf,
    mqtt: SocketAddr,
    admin: SocketAddr,
    process: Option<Supervised>,
    scratch: TempDir,
}

impl BrokerProcess {
    /// Starts the product and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it cannot be built, or ends or falls silent instead, with the end of its log.
    pub fn start(options: Options) -> Result<Self> {
        let program = options.program.clone().map_or_else(binary, Ok)?;
        let scratch = tempfile::Builder::new()
            .prefix("tidegate-broker-")
            .tempdir();
        let scratch = scratch.context("create the broker's temporary folder")?;
        let data_dir = options
            .data_dir
            .clone()
            .unwrap_or_else(|| scratch.path().join("data"));
        let port = || ports::free().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let (mqtt, admin) = (port()?, port()?);
        let mut broker = Self {
            program,
            options,
            data_dir,
            mqtt,
            admin,
            process: None,
            scratch,
        };
        broker.spawn()?;
        Ok(broker)
    }

    /// Where MQTT clients connect; the same after every restart.
    #[must_use]
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// Where health, metrics and status are asked for; the same after every restart.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The process id, for `/proc`.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pid(&self) -> Result<u32> {
        self.process
            .as_ref()
            .map(Supervised::pid)
            .context("the broker is not running")
    }

    /// Everything that it has logged, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// `/metrics`.
    ///
    /// # Errors
    /// When the endpoint does not answer with 200.
    pub fn metrics(&self) -> Result<Metrics> {
        self.ask("/metrics").map(|body| Metrics::parse(&body))
    }

    /// `/status`.
    ///
    /// # Errors
    /// When the endpoint does not answer with 200 and JSON.
    pub fn status(&self) -> Result<Value> {
        serde_json::from_str(&self.ask("/status")?).context("/status is not JSON")
    }

    /// A route of `/status`.
    ///
    /// # Errors
    /// As [`BrokerProcess::status`], or when there is no such route.
    pub fn route(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let route = status.pointer(&format!("/bridge/routes/{name}"));
        route
            .cloned()
            .with_context(|| format!("no route {name} in {status}"))
    }

    /// Waits until a route has brought everything to the cluster that the log has.
    ///
    /// # Errors
    /// When it does not, with its status.
    pub fn wait_replicated(&self, name: &str) -> Result<()> {
        let mut last = Value::Null;
        let mut empty_since = None;
        let waited = deadline::wait_for("an empty route", deadline::PATIENCE, || {
            last = self.route(name)?;
            let is_empty = |field| last.get(field).and_then(Value::as_u64) == Some(0);
            let partitions = last.get("partitions").and_then(Value::as_array);
            let is_known = partitions.is_some_and(|partitions| !partitions.is_empty());
            let is_done = is_known && is_empty("lag_records") && is_empty("in_doubt");
            if !is_done {
                empty_since = None;
                return Ok(None);
            }
            let since = *empty_since.get_or_insert_with(Instant::now);
            Ok((since.elapsed() >= LAG_TOLD_WITHIN).then_some(()))
        });
        waited.with_context(|| format!("route {name} stands at {last}"))
    }

    /// The configuration file that it was started with last.
    #[must_use]
    pub fn configuration_path(&self) -> PathBuf {
        self.scratch.path().join("tidegate.toml")
    }

    /// How the next start is to be done.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// When it is not running or does not end.
    pub fn wait_end(&mut self) -> Result<ExitCode> {
        let mut process = self.process.take().context("the broker is not running")?;
        process.wait(deadline::PATIENCE)
    }

    /// SIGKILL, as a power cut of the process.
    ///
    /// # Errors
    /// When the process does not end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it is not running or does not end.
    pub fn terminate(&mut self) -> Result<ExitCode> {
        let mut process = self.process.take().context("the broker is not running")?;
        process.signal(Signal::TERM)?;
        process
            .wait(deadline::PATIENCE)
            .with_context(|| process.log_tail())
    }

    /// Starts it on the same data and addresses, killing it first if it runs.
    ///
    /// # Errors
    /// As [`BrokerProcess::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.spawn()
    }

    /// Starts it and kills it so long after that, whatever it does then; whether it was ready. It
    /// must not be running.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn start_and_kill(&mut self, after: Duration) -> Result<bool> {
        let mut process = self.launch()?;
        thread::sleep(after);
        let is_ready = self.is_ready();
        process.kill()?;
        Ok(is_ready)
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(30)..);
        format!(
            "the end of its log:\n{}",
            tail.unwrap_or_default().join("\n")
        )
    }

    /// Sends another signal, for instance SIGHUP or SIGSTOP.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process
            .as_mut()
            .context("the broker is not running")?
            .signal(signal)
    }

    fn ask(&self, path: &str) -> Result<String> {
        let answer = http::get(self.admin, path)?;
        ensure!(
            answer.status == 200,
            "GET {path}: status {}: {}",
            answer.status,
            answer.body
        );
        Ok(answer.body)
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("broker.log")
    }

    fn launch(&self) -> Result<Supervised> {
        let configuration = self.configuration_path();
        fs::write(&configuration, self.configuration()).context("write the configuration")?;
        let mut command = Command::new(&self.program);
        command
            .arg("run")
            .arg("--config")
            .arg(&configuration)
            .args(&self.options.arguments);
        command.envs(
            self.options
                .environment
                .iter()
                .map(|(key, value)| (key, value)),
        );
        let log = self.log_path();
        let files = Files {
            stdout: &log,
            stderr: &log,
            scratch: Some(self.scratch.path()),
        };
        Supervised::spawn("tidegate", &command, &files)
    }

    fn spawn(&mut self) -> Result<()> {
        let mut process = self.launch()?;
        let pid = u64::from(process.pid());
        let addresses = self.data_dir.join("run").join("addresses.json");
        process
            .wait_ready(|| (writer_of(&addresses) == Some(pid) && self.is_ready()).then_some(()))?;
        self.process = Some(process);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        http::get(self.admin, "/readyz").is_ok_and(|answer| answer.status == 200)
    }

    fn configuration(&self) -> String {
        let Self {
            data_dir,
            mqtt,
            admin,
            options,
            ..
        } = self;
        let Options {
            keys,
            listener,
            tables,
            ..
        } = options;
        format!(
            "data_dir = {data_dir:?}\n{keys}\n\n[[listener]]\nkind = \"mqtt\"\nbind = \"{mqtt}\"\n\
             allow_anonymous = true\n{listener}\n\n[admin]\nbind = \"{admin}\"\n\n{tables}\n"
        )
    }
}

/// The process that wrote the addresses: an older life's file may still lie there.
fn writer_of(addresses: &Path) -> Option<u64> {
    let text = fs::read_to_string(addresses).ok()?;
    serde_json::from_str::<Value>(&text)
        .ok()?
        .get("pid")?
        .as_u64()
}

/// The product: what `TIDEGATE_BIN` names, else what cargo builds for the profile of this test.
///
/// # Errors
/// When it does not compile.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = env::var_os("TIDEGATE_BIN").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

fn build() -> Result<PathBuf> {
    // <target>/<profile>/deps/<this test>
    let test = env::current_exe().context("find this test's path")?;
    let profile = test
        .parent()
        .and_then(Path::parent)
        .context("no profile folder")?;
    let target = profile.parent().context("no target folder")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "tidegate", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let output = command.output().context("run cargo")?;
    if !output.status.success() {
        bail!(
            "tidegate does not compile:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(profile.join("tidegate"))
}
