//! The product as a child process, and what that process has used, as Linux and its own metrics
//! count it.
//!
//! Invariant: the process ends with this value.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::usage::value;

const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const SYNCS: &str = "tidegate_log_syncs_total";

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// `write_bytes` and `wchar` of `/proc/PID/io`.
    pub(super) dirtied_bytes: u64,
    pub(super) written_bytes: u64,
    /// Of log and metadata.
    pub(super) syncs: u64,
    /// How often a thread went to sleep, which it does as often as it is woken.
    pub(super) wake_ups: u64,
    /// User and system time of all threads.
    pub(super) cpu: Duration,
}

impl Used {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            dirtied_bytes: self.dirtied_bytes.saturating_sub(earlier.dirtied_bytes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            syncs: self.syncs.saturating_sub(earlier.syncs),
            wake_ups: self.wake_ups.saturating_sub(earlier.wake_ups),
            cpu: self.cpu.saturating_sub(earlier.cpu),
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    mqtt: SocketAddr,
    admin: SocketAddr,
}

impl Gateway {
    /// With the default configuration but for ports and, if it is given, linger.
    pub(super) fn start(
        program: &Path,
        place: &Path,
        linger: Option<&str>,
    ) -> anyhow::Result<Self> {
        let data = place.join("data");
        let linger = linger.map_or_else(String::new, |linger| format!("linger = \"{linger}\"\n"));
        let config = place.join("tidegate.toml");
        let text = format!(
            "data_dir = {data:?}\n\n[[listener]]\nbind = \"127.0.0.1:0\"\n\n[admin]\n\
             bind = \"127.0.0.1:0\"\n\n[[log]]\nname = \"default\"\nfilters = [\"#\"]\n{linger}"
        );
        fs::write(&config, text).context("write a configuration")?;
        let log = place.join("tidegate.log");
        let output = File::create(&log).context("create a log")?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self {
            child,
            mqtt: nowhere,
            admin: nowhere,
        };
        gateway.wait_until_up(&data.join("run/addresses.json"), &log)?;
        Ok(gateway)
    }

    fn wait_until_up(&mut self, addresses: &PathBuf, log: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let text = fs::read_to_string(addresses).unwrap_or_default();
            if let Some((mqtt, admin)) = addresses_in(&text) {
                (self.mqtt, self.admin) = (mqtt, admin);
                return Ok(());
            }
            let ended = self.child.try_wait().context("look at the gateway")?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("the gateway does not come up; it said:\n{said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// What it has used until now. Asking costs it something, the same each time.
    pub(super) fn used(&self) -> anyhow::Result<Used> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let io = fs::read_to_string(process.join("io")).context("read the gateway's counters")?;
        let mut used = Used {
            dirtied_bytes: value(&io, "write_bytes").context("no write_bytes")?,
            written_bytes: value(&io, "wchar").context("no wchar")?,
            ..Used::default()
        };
        for entry in fs::read_dir(process.join("task"))? {
            let task = entry?.path();
            // A thread may just have ended.
            let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
            let (status, times) = (read("status"), read("schedstat"));
            used.wake_ups += value(&status, "voluntary_ctxt_switches").unwrap_or_default();
            let ns = times.split_whitespace().next();
            let ns = ns.and_then(|ns| ns.parse().ok()).unwrap_or_default();
            used.cpu += Duration::from_nanos(ns);
        }
        used.syncs = self.syncs().context("read the gateway's metrics")?;
        Ok(used)
    }

    fn syncs(&self) -> anyhow::Result<u64> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let mut syncs = lines.filter(|(name, _)| *name == SYNCS).map(|(_, n)| n);
        let syncs = syncs.next_back().with_context(|| format!("no {SYNCS}"))?;
        syncs.trim().parse().context("a count")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Its folder goes with it: there is nothing to be ended in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The addresses of the listener and of the admin server.
fn addresses_in(json: &str) -> Option<(SocketAddr, SocketAddr)> {
    let after = |name: &str| {
        let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
        rest.split_once('"')?.0.parse().ok()
    };
    Some((after("address")?, after("admin")?))
}

#[cfg(test)]
mod tests {
    use super::addresses_in;

    #[test]
    fn addresses_are_found_or_not_there_yet() {
        let text = r#"{"listeners":[{"kind":"mqtt","address":"127.0.0.1:1883"}],"admin":"127.0.0.1:9","pid":1}"#;
        let (mqtt, admin) = addresses_in(text).unwrap();
        assert_eq!((mqtt.port(), admin.port()), (1883, 9));
        assert!(addresses_in("").is_none());
    }
}
