//! A gateway whose addresses and folder are known beforehand, what it must do in degraded mode, and
//! ways to break its folder.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::command_line::tidegate;
use tests::deadline::{PATIENCE, retry, wait_for};
use tests::exposition::Metrics;
use tests::gateway::{Around, Gateway};
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version};
use tests::supervised::ExitCode;
use tests::{http, ports, skip};

/// "Quota exceeded" of MQTT 5.
const QUOTA_EXCEEDED: u8 = 0x97;
pub(crate) const STORE_FAILED: ExitCode = ExitCode(74);

/// A gateway at addresses that are known without asking it.
pub(crate) struct Place {
    pub(crate) scratch: TempDir,
    pub(crate) data: PathBuf,
    mqtt: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Place {
    pub(crate) fn new() -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], ports::free().unwrap()));
        let scratch = tempfile::tempdir().unwrap();
        Self {
            data: scratch.path().join("data"),
            mqtt: address(),
            admin: address(),
            scratch,
        }
    }

    pub(crate) fn configuration(&self) -> String {
        format!(
            "data_dir = {:?}\n[[listener]]\nbind = \"{}\"\n[admin]\nbind = \"{}\"\n\
             [[log]]\nname = \"kept\"\nfilters = [\"kept/#\"]\npartitions = 1\n\
             [[log]]\nname = \"panel\"\nfilters = [\"panel/#\"]\ndurability = \"memory\"\n",
            self.data, self.mqtt, self.admin
        )
    }

    /// systemd's folder for what is to survive a restart and does not lie on the card.
    pub(crate) fn runtime(&self) -> PathBuf {
        let runtime = self.scratch.path().join("runtime");
        fs::create_dir_all(&runtime).unwrap();
        runtime
    }

    pub(crate) fn supervised(&self, mut around: Around) -> Around {
        let runtime = self.runtime().to_str().unwrap().to_owned();
        around.data_dir = Some(self.data.clone());
        around.environment = vec![
            ("RUNTIME_DIRECTORY".to_owned(), runtime),
            // Cargo's folders, in which the loader looks for each library before the right one: files
            // that are opened are to be as many however this test is started.
            ("LD_LIBRARY_PATH".to_owned(), String::new()),
        ];
        around
    }

    pub(crate) fn start(&self, around: Around) -> Gateway {
        Gateway::spawn(self.supervised(around), &self.configuration()).unwrap()
    }

    pub(crate) fn client(&self, version: Version, name: &str) -> Client {
        let connect = Connect::new(version, name);
        let what = format!("a connection of {name}");
        retry(&what, PATIENCE, || Client::connect(self.mqtt, &connect)).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> http::Answer {
        retry(path, PATIENCE, || http::get(self.admin, path)).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").body).unwrap()
    }

    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = self.get("/metrics").body;
        Metrics::parse(&metrics).sum(name, labels).unwrap()
    }

    pub(crate) fn wait_degraded(&self, is_degraded: bool) {
        let expected = if is_degraded { 1.0 } else { 0.0 };
        wait_for("degraded mode, or its end", PATIENCE, || {
            Ok((self.metric("tidegate_degraded", &[]) == expected).then_some(()))
        })
        .unwrap();
    }

    /// Sees everything that degraded mode is.
    pub(crate) fn expect_degraded(&self, gateway: &Gateway, reason: &str) {
        self.wait_degraded(true);
        for path in ["/healthz", "/readyz", "/log/list"] {
            let answer = self.get(path);
            assert_eq!(answer.status, 503, "{path}");
            assert!(answer.body.contains(reason), "{path}: {}", answer.body);
        }
        assert_eq!(self.metric("tidegate_log_takes_messages", &[]), 0.0);
        let status = self.status();
        let said = status["degraded"]["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
        assert_eq!(status["store"], Value::Null);
        let admin = self.admin.to_string();
        let printed = tidegate(&["status", "--admin", &admin]).unwrap().stdout;
        let first = printed.lines().next().unwrap();
        assert!(
            first.starts_with("DEGRADED") && first.contains(reason),
            "{printed}"
        );
        assert!(printed.contains("what to do: "), "{printed}");
        let log = gateway.log();
        assert!(log.contains("DEGRADED: only QoS 0 is served"), "{log}");
        self.expect_live_only();
    }

    pub(crate) fn expect_live_only(&self) {
        let mut watcher = self.client(Version::V5, "watcher");
        assert_eq!(watcher.subscribe("#").unwrap(), 1);
        let mut new = self.client(Version::V5, "new");
        let refused = Publish::new("kept/a", "refused");
        assert_eq!(new.publish_acknowledged(refused).unwrap(), QUOTA_EXCEEDED);
        new.publish("kept/a", b"live", None).unwrap();
        assert_eq!(watcher.receive_publish().unwrap().payload, b"live");
        let shown = Publish::new("panel/a", "shown");
        assert_eq!(new.publish_acknowledged(shown).unwrap(), SUCCESS);
        assert_eq!(watcher.receive_publish().unwrap().payload, b"shown");
        let mut old = self.client(Version::V311, "old");
        old.publish("kept/a", b"held", Some(1)).unwrap();
        assert_eq!(old.ping().unwrap(), [], "MQTT 3.1.1 has no words for it");
        assert_eq!(watcher.ping().unwrap(), []);
    }

    pub(crate) fn publish(&self, payload: &str) {
        let mut client = self.client(Version::V5, "publisher");
        let publish = Publish::new("kept/a", payload);
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }

    /// Publishes one by one until the connection ends; what was acknowledged.
    pub(crate) fn publish_until_the_end(&self, name: &str) -> Vec<String> {
        let mut client = self.client(Version::V5, name);
        let mut acknowledged = Vec::new();
        for number in 0..100_000 {
            let payload = format!("{name}-{number}");
            match client.publish_acknowledged(Publish::new("kept/a", &payload)) {
                Ok(SUCCESS) => acknowledged.push(payload),
                Ok(code) => panic!("{code:#x}"),
                Err(_) => return acknowledged,
            }
        }
        panic!("the store has not failed");
    }

    pub(crate) fn payloads(&self) -> BTreeSet<String> {
        let data = self.data.to_str().unwrap();
        let read = [
            "log", "read", "kept", "--json", "--count", "1000000", "--data", data,
        ];
        let ended = tidegate(&read).unwrap();
        assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
        let payload = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            record["payload"].as_str().unwrap().to_owned()
        };
        ended.stdout.lines().map(payload).collect()
    }

    pub(crate) fn expect_all(&self, acknowledged: &[String]) {
        let found = self.payloads();
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|payload| !found.contains(*payload))
            .collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
}

/// A file of the data folder that cannot be opened for now: it leads in a circle.
pub(crate) struct BrokenFile {
    file: PathBuf,
    aside: PathBuf,
}

impl BrokenFile {
    pub(crate) fn new(data: &Path) -> Self {
        let (file, aside) = (data.join("MARK"), data.join("aside"));
        fs::rename(&file, &aside).unwrap();
        symlink("MARK", &file).unwrap();
        Self { file, aside }
    }

    pub(crate) fn mend(self) {
        fs::rename(self.aside, self.file).unwrap();
    }
}

pub(crate) fn end(gateway: &mut Gateway) {
    let code = gateway.end(Signal::TERM).unwrap();
    assert_eq!(code, ExitCode(0), "{}", gateway.log());
}

/// strace that lets this many calls pass and fails all others.
pub(crate) fn failing(call: &str, error: &str, after: u32) -> Option<Around> {
    let inject = format!("inject={call}:error={error}:when={after}+");
    let trace = format!("trace={call}");
    skip::unless(Around::tampered(&["-e", &trace, "-e", &inject]))
}

pub(crate) fn damage(segment: &Path) {
    let database = segment.join("db");
    let length = fs::metadata(&database).unwrap().len();
    fs::write(&database, vec![0xff; usize::try_from(length).unwrap()]).unwrap();
}
