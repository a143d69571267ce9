//! A broker under measurement: Tidegate or mosquitto, as a child process in a temporary folder.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::probe::Probe;
use super::process::Process;
use super::usage::Usage;
use crate::admin;
use crate::admin::status_page::{StatusPage, StorePage};

/// For a broker to come up; one with a large log and a slow card may take long.
const START_LIMIT: Duration = Duration::from_secs(600);
/// For mosquitto to write its database, and for a broker to come to rest.
const REST_LIMIT: Duration = Duration::from_secs(30);
/// A broker that has written nothing for so long is at rest.
const REST: Duration = Duration::from_millis(300);
/// Answers of two bytes with which it is found out how sockets are counted.
const PINGS: usize = 1000;
/// Where the ports are taken from: below those that Linux gives to outgoing connections, so that a
/// port is still free when its broker comes back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Where Debian puts daemons, which is not in everybody's path.
const FOLDERS_OF_DAEMONS: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Broker {
    process: Process,
    mqtt: SocketAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Mosquitto { database: PathBuf },
    Tidegate { admin: SocketAddr },
}

/// How Tidegate is to run.
#[derive(Clone, Debug)]
pub(super) struct TidegateOptions {
    /// For configuration, data and log.
    pub(super) folder: PathBuf,
    /// QoS 1 publishes that one client may have unacknowledged.
    pub(super) receive_maximum: u16,
    /// So that nothing is removed.
    pub(super) retention_bytes: u64,
    mqtt: SocketAddr,
    admin: SocketAddr,
}

impl TidegateOptions {
    /// On free ports, which stay the same for every start with these options.
    ///
    /// # Errors
    /// No port is free.
    pub(super) fn new(
        folder: PathBuf,
        receive_maximum: u16,
        retention_bytes: u64,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            folder,
            receive_maximum,
            retention_bytes,
            mqtt: free_address()?,
            admin: free_address()?,
        })
    }

    /// Its data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where it writes its log lines.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("tidegate.log")
    }

    /// The default configuration but for what has to be another.
    fn configuration(&self) -> String {
        let Self {
            receive_maximum,
            retention_bytes,
            mqtt,
            admin,
            ..
        } = self;
        let data = toml_string(&self.data());
        format!(
            "data_dir = {data}\n\n[[listener]]\nbind = \"{mqtt}\"\n\n[admin]\nbind = \"{admin}\"\n\n\
             [[log]]\nname = \"default\"\nfilters = [\"#\"]\n\
             retention = {{ bytes = {retention_bytes} }}\n\n\
             [limits]\nreceive_maximum = {receive_maximum}\n"
        )
    }
}

impl Broker {
    /// Starts Tidegate; comes back with the first CONNACK and the time that it took.
    ///
    /// # Errors
    /// It does not come up.
    pub(super) async fn start_tidegate(
        options: &TidegateOptions,
    ) -> anyhow::Result<(Self, Duration)> {
        let this_program = std::env::current_exe().context("find this program")?;
        let config = options.folder.join("tidegate.toml");
        write(&config, &options.configuration())?;
        let arguments = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let log = options.log();
        let began = Instant::now();
        let process = Process::start("tidegate", &this_program, &arguments, &log)?;
        let mut broker = Self {
            process,
            mqtt: options.mqtt,
            kind: Kind::Tidegate {
                admin: options.admin,
            },
        };
        broker.wait_connack().await?;
        Ok((broker, began.elapsed()))
    }

    /// Starts mosquitto with persistence and a session that is away and gets every message.
    ///
    /// # Errors
    /// It does not come up.
    pub(super) async fn start_mosquitto(
        program: &Path,
        folder: &Path,
        inflight: u16,
    ) -> anyhow::Result<Self> {
        let mqtt = free_address()?;
        let config = folder.join("mosquitto.conf");
        let location = folder.to_string_lossy();
        // As root it would become a user who cannot write here.
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {location}/\nmax_inflight_messages {inflight}\n\
             max_queued_messages 0\nmax_queued_bytes 0\n",
            mqtt.port()
        );
        write(&config, &text)?;
        let arguments = ["-c".as_ref(), config.as_os_str()];
        let log = folder.join("mosquitto.log");
        let mut broker = Self {
            process: Process::start("mosquitto", program, &arguments, &log)?,
            mqtt,
            kind: Kind::Mosquitto {
                database: folder.join("mosquitto.db"),
            },
        };
        broker.wait_connack().await?;
        let session = Probe::leave_session(mqtt).await;
        session.map_err(|error| {
            broker
                .process
                .with_log(&format!("made no session: {error}"))
        })?;
        Ok(broker)
    }

    async fn wait_connack(&mut self) -> anyhow::Result<()> {
        let mqtt = self.mqtt;
        let connack = async || Probe::connect(mqtt).await.ok();
        let waited = self.process.wait_for("a CONNACK", START_LIMIT, connack);
        waited.await.map(drop)
    }

    /// Where it listens.
    pub(super) fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// What its process has used.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.process.pid())
    }

    /// SIGKILL, and waits for the end.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// An error with what the broker said last.
    pub(super) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        self.process
            .with_log(&format!("failed under load: {error:#}"))
    }

    /// Whether what it sends to clients is in its `wchar`: it is for `write`, not for `send`. Found
    /// out by letting it send a known number of bytes while it has nothing else to write.
    pub(super) async fn counts_sockets(&self) -> anyhow::Result<bool> {
        let mut probe = Probe::connect(self.mqtt)
            .await
            .context("connect to the broker")?;
        let mut least = u64::MAX;
        for _ in 0..3 {
            let before = self.usage()?;
            probe.ping(PINGS).await.context("ping the broker")?;
            least = least.min(self.usage()?.since(before).written_bytes);
        }
        Ok(least >= 2 * PINGS as u64)
    }

    /// What Tidegate says of its store; `None` for mosquitto.
    pub(super) async fn store(&self) -> anyhow::Result<Option<StorePage>> {
        let Kind::Tidegate { admin } = self.kind else {
            return Ok(None);
        };
        let page: StatusPage = admin::fetch(admin, "/status").await?;
        Ok(page.store)
    }

    /// Lets it write what it has not written, and waits until it writes nothing more. What mosquitto
    /// has not written is everything: SIGUSR1 tells it to.
    pub(super) async fn come_to_rest(&mut self) -> anyhow::Result<()> {
        if let Kind::Mosquitto { database } = &self.kind {
            let database = database.clone();
            self.process.signal(Signal::USR1)?;
            let exists = async || database.exists().then_some(());
            let what = "write its database";
            self.process.wait_for(what, REST_LIMIT, exists).await?;
        }
        let deadline = Instant::now() + REST_LIMIT;
        let written = |usage: Usage| (usage.written_bytes, usage.dirtied_bytes);
        let mut before = written(self.usage()?);
        loop {
            sleep(REST).await;
            self.process.check()?;
            let now = written(self.usage()?);
            if now == before || Instant::now() >= deadline {
                return Ok(());
            }
            before = now;
        }
    }
}

/// Where mosquitto is, and its version.
pub(super) fn find_mosquitto() -> Option<(PathBuf, String)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS_OF_DAEMONS.map(PathBuf::from));
    let program = folders
        .map(|folder| folder.join("mosquitto"))
        .find(|p| p.is_file())?;
    // "mosquitto version 2.0.11", with an exit status of its own.
    let output = Command::new(&program).arg("-h").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().next()?.rsplit(' ').next()?.to_owned();
    Some((program, version))
}

/// A loopback address that nobody listens at. Taken at random, because several measurements may be
/// looking.
fn free_address() -> anyhow::Result<SocketAddr> {
    let count = u64::from(PORTS.end - PORTS.start);
    for _ in 0..1000 {
        let random = RandomState::new().build_hasher().finish() % count;
        let port = PORTS.start + u16::try_from(random).unwrap_or_default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!(
        "no free port found from {} to {}",
        PORTS.start,
        PORTS.end - 1
    )
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// A path as a string of TOML. JSON escapes are among those of TOML.
fn toml_string(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{TidegateOptions, write};
    use crate::run::load_config;

    #[test]
    fn configuration_is_valid_whatever_the_folder_is_called() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["plain", "with \"quotes\" and \\", "tab\tand ü"] {
            let options = TidegateOptions::new(PathBuf::from(name), 1000, 5 << 30).unwrap();
            let file = folder.path().join("tidegate.toml");
            write(&file, &options.configuration()).unwrap();
            let config = load_config(&file, &crate::machine::detect()).unwrap();
            assert_eq!(config.data_dir, options.data());
            assert_eq!(config.limits.receive_maximum, 1000);
        }
    }
}
