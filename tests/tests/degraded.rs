//! A gateway whose flash fails: it restarts once, then serves what needs no flash, and comes back by
//! itself; nothing that it acknowledged is lost.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

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
use tests::mqtt::{Client, Connect, Packet, Publish, SUCCESS, Version};
use tests::supervised::ExitCode;
use tests::{http, ports, skip};

/// "Quota exceeded" and "Server shutting down" of MQTT 5.
const QUOTA_EXCEEDED: u8 = 0x97;
const SERVER_SHUTTING_DOWN: u8 = 0x8b;
const STORE_FAILED: ExitCode = ExitCode(74);

/// A gateway at addresses that are known without asking it.
struct Place {
    scratch: TempDir,
    data: PathBuf,
    mqtt: SocketAddr,
    admin: SocketAddr,
}

impl Place {
    fn new() -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], ports::free().unwrap()));
        let scratch = tempfile::tempdir().unwrap();
        Self {
            data: scratch.path().join("data"),
            mqtt: address(),
            admin: address(),
            scratch,
        }
    }

    fn configuration(&self) -> String {
        format!(
            "data_dir = {:?}\n[[listener]]\nbind = \"{}\"\n[admin]\nbind = \"{}\"\n\
             [[log]]\nname = \"kept\"\nfilters = [\"kept/#\"]\npartitions = 1\n\
             [[log]]\nname = \"panel\"\nfilters = [\"panel/#\"]\ndurability = \"memory\"\n",
            self.data, self.mqtt, self.admin
        )
    }

    /// systemd's folder for what is to survive a restart and does not lie on the card.
    fn runtime(&self) -> PathBuf {
        let runtime = self.scratch.path().join("runtime");
        fs::create_dir_all(&runtime).unwrap();
        runtime
    }

    fn supervised(&self, mut around: Around) -> Around {
        let runtime = self.runtime().to_str().unwrap().to_owned();
        around.data_dir = Some(self.data.clone());
        around.environment = vec![("RUNTIME_DIRECTORY".to_owned(), runtime)];
        around
    }

    fn start(&self, around: Around) -> Gateway {
        Gateway::spawn(self.supervised(around), &self.configuration()).unwrap()
    }

    fn client(&self, version: Version, name: &str) -> Client {
        let connect = Connect::new(version, name);
        let what = format!("a connection of {name}");
        retry(&what, PATIENCE, || Client::connect(self.mqtt, &connect)).unwrap()
    }

    fn get(&self, path: &str) -> http::Answer {
        retry(path, PATIENCE, || http::get(self.admin, path)).unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").body).unwrap()
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = self.get("/metrics").body;
        Metrics::parse(&metrics).sum(name, labels).unwrap()
    }

    fn wait_degraded(&self, is_degraded: bool) {
        let expected = if is_degraded { 1.0 } else { 0.0 };
        wait_for("degraded mode, or its end", PATIENCE, || {
            Ok((self.metric("tidegate_degraded", &[]) == expected).then_some(()))
        })
        .unwrap();
    }

    /// Sees everything that degraded mode is.
    fn expect_degraded(&self, gateway: &Gateway, reason: &str) {
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

    fn expect_live_only(&self) {
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

    fn publish(&self, payload: &str) {
        let mut client = self.client(Version::V5, "publisher");
        let publish = Publish::new("kept/a", payload);
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }

    /// Publishes one by one until the connection ends; what was acknowledged.
    fn publish_until_the_end(&self, name: &str) -> Vec<String> {
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

    fn payloads(&self) -> BTreeSet<String> {
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

    fn expect_all(&self, acknowledged: &[String]) {
        let found = self.payloads();
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|payload| !found.contains(*payload))
            .collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
}

/// A file of the data folder that cannot be opened for now: it leads in a circle.
struct BrokenFile {
    file: PathBuf,
    aside: PathBuf,
}

impl BrokenFile {
    fn new(data: &Path) -> Self {
        let (file, aside) = (data.join("MARK"), data.join("aside"));
        fs::rename(&file, &aside).unwrap();
        symlink("MARK", &file).unwrap();
        Self { file, aside }
    }

    fn mend(self) {
        fs::rename(self.aside, self.file).unwrap();
    }
}

fn end(gateway: &mut Gateway) {
    let code = gateway.end(Signal::TERM).unwrap();
    assert_eq!(code, ExitCode(0), "{}", gateway.log());
}

/// strace that lets this many calls pass and fails all others.
fn failing(call: &str, error: &str, after: u32) -> Option<Around> {
    let inject = format!("inject={call}:error={error}:when={after}+");
    let trace = format!("trace={call}");
    skip::unless(Around::tampered(&["-e", &trace, "-e", &inject]))
}

#[test]
fn it_serves_degraded_when_the_store_cannot_be_opened_and_normally_when_it_can() {
    let place = Place::new();
    let mut first = place.start(Around::default());
    place.publish("before");
    end(&mut first);
    let broken = BrokenFile::new(&place.data);

    let mut gateway = place.start(Around::default());
    place.expect_degraded(&gateway, "open the store");
    let mut witness = place.client(Version::V5, "witness");
    // An attempt that fails changes nothing for anybody.
    gateway.process().unwrap().signal(Signal::USR1).unwrap();
    wait_for("an attempt", PATIENCE, || {
        Ok((place.status()["degraded"]["attempts"] == 1).then_some(()))
    })
    .unwrap();
    assert_eq!(witness.ping().unwrap(), []);

    broken.mend();
    gateway.process().unwrap().signal(Signal::USR1).unwrap();
    let code = SERVER_SHUTTING_DOWN;
    assert_eq!(
        witness.receive().unwrap(),
        Some(Packet::Disconnect { code })
    );
    place.wait_degraded(false);
    place.publish("after");
    assert_eq!(place.get("/healthz").status, 200);
    assert_eq!(place.status()["degraded"], Value::Null);
    end(&mut gateway);
    place.expect_all(&["before".to_owned(), "after".to_owned()]);
}

#[test]
fn it_tries_again_by_itself() {
    let place = Place::new();
    let mut first = place.start(Around::default());
    place.publish("before");
    end(&mut first);
    let broken = BrokenFile::new(&place.data);
    let mut gateway = place.start(Around::default());
    place.wait_degraded(true);
    broken.mend();
    place.wait_degraded(false);
    place.publish("after");
    end(&mut gateway);
}

#[test]
fn it_ends_as_asked_while_it_is_degraded() {
    let place = Place::new();
    fs::create_dir(&place.data).unwrap();
    symlink("LOCK", place.data.join("LOCK")).unwrap();
    let mut gateway = place.start(Around::default());
    place.expect_degraded(&gateway, "LOCK");
    end(&mut gateway);
}

/// Each way in which a write can fail: the first failure ends the process for one restart, the
/// second one leads to degraded mode, and what was acknowledged is there in the end.
fn expect_one_restart(call: &str, error: &str, after: u32) {
    let Some(around) = failing(call, error, after) else {
        return;
    };
    let place = Place::new();
    // An ordinary life before it, so that the folder is not new.
    let mut gateway = place.start(Around::default());
    place.publish("before");
    end(&mut gateway);
    let mut acknowledged = vec!["before".to_owned()];

    let mut gateway = place.start(around.clone());
    acknowledged.extend(place.publish_until_the_end("first"));
    assert_eq!(gateway.wait_end().unwrap(), STORE_FAILED);
    let log = gateway.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains("the store has failed"), "{log}");
    assert!(place.runtime().join("store-failure").exists());

    let mut gateway = place.start(around);
    acknowledged.extend(place.publish_until_the_end("second"));
    place.expect_degraded(&gateway, "the store failed again soon after a restart");
    // It stays, and it ends as asked.
    end(&mut gateway);
    assert!(acknowledged.len() > 3, "{acknowledged:?}");

    // With good flash everything is as it was.
    let mut gateway = place.start(Around::default());
    place.publish("after");
    acknowledged.push("after".to_owned());
    end(&mut gateway);
    place.expect_all(&acknowledged);
}

#[test]
fn sync_that_fails_leads_to_one_restart_and_then_to_degraded_mode() {
    expect_one_restart("fdatasync", "EIO", 120);
}

#[test]
fn write_that_fails_leads_to_one_restart_and_then_to_degraded_mode() {
    expect_one_restart("pwrite64", "EIO", 120);
}

#[test]
fn write_without_space_leads_to_one_restart_and_then_to_degraded_mode() {
    expect_one_restart("pwrite64", "ENOSPC", 120);
}

#[test]
fn read_only_file_system_leads_to_one_restart_and_then_to_degraded_mode() {
    expect_one_restart("pwrite64", "EROFS", 120);
}

#[test]
fn it_does_not_restart_when_the_failure_cannot_be_remembered() {
    let Some(around) = failing("fdatasync", "EIO", 120) else {
        return;
    };
    let place = Place::new();
    let mut around = place.supervised(around);
    around.environment = vec![("RUNTIME_DIRECTORY".to_owned(), "/proc/none".to_owned())];
    let mut gateway = Gateway::spawn(around, &place.configuration()).unwrap();
    place.wait_degraded(false);
    // In the way of the file.
    fs::create_dir_all(place.data.join("run/store-failure")).unwrap();
    fs::write(place.data.join("run/store-failure/x"), "").unwrap();
    place.publish_until_the_end("c");
    place.expect_degraded(&gateway, "the store has failed");
    let log = gateway.log();
    assert!(log.contains("cannot be noted for the next start"), "{log}");
    end(&mut gateway);
}

#[test]
fn folder_that_is_removed_while_it_runs_fails_the_store() {
    let place = Place::new();
    let mut gateway = place.start(Around::default());
    place.publish("before");
    fs::remove_dir_all(&place.data).unwrap();
    assert_eq!(gateway.wait_end().unwrap(), STORE_FAILED);
    let log = gateway.log();
    assert!(
        log.contains("was taken away while it was in use (its LOCK file is gone"),
        "{log}"
    );
    assert!(!place.data.exists(), "nothing is begun in its place");
}

#[test]
fn folder_that_another_one_covers_fails_the_store_and_both_are_intact() {
    let place = Place::new();
    let mut gateway = place.start(Around::default());
    place.publish("before");
    let aside = place.scratch.path().join("aside");
    let other = place.scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("LOCK"), "").unwrap();
    fs::rename(&place.data, &aside).unwrap();
    fs::rename(&other, &place.data).unwrap();
    assert_eq!(gateway.wait_end().unwrap(), STORE_FAILED);
    let log = gateway.log();
    assert!(log.contains("another LOCK file lies there"), "{log}");
    fs::remove_dir_all(&place.data).unwrap();
    fs::rename(&aside, &place.data).unwrap();
    let mut gateway = place.start(Around::default());
    place.publish("after");
    end(&mut gateway);
    place.expect_all(&["before".to_owned(), "after".to_owned()]);
}

fn damage(segment: &Path) {
    let database = segment.join("db");
    let length = fs::metadata(&database).unwrap().len();
    fs::write(&database, vec![0xff; usize::try_from(length).unwrap()]).unwrap();
}

#[test]
fn what_recovery_did_is_in_status_and_metrics_as_long_as_the_process_lives() {
    let place = Place::new();
    let mut gateway = place.start(Around::default());
    place.publish("before");
    // The witness of how far the log was durable is written a little later.
    wait_for("the mark", PATIENCE, || {
        let mark = fs::read(place.data.join("MARK"))?;
        Ok(mark.get(7).is_some_and(|last| *last > 0).then_some(()))
    })
    .unwrap();
    gateway.kill().unwrap();
    let segments = fs::read_dir(place.data.join("log")).unwrap();
    for segment in segments {
        damage(&segment.unwrap().path());
    }
    let mut gateway = place.start(Around::default());
    place.wait_degraded(false);
    let events = place.status()["last_start"]["events"].clone();
    let kinds: Vec<_> = events.as_array().unwrap().iter().collect();
    assert!(!kinds.is_empty());
    let kind = kinds[0]["kind"].as_str().unwrap();
    let count = place.metric("tidegate_log_recovery_events", &[("kind", kind)]);
    assert!(count >= 1.0);
    let admin = place.admin.to_string();
    let printed = tidegate(&["status", "--admin", &admin]).unwrap().stdout;
    let line = format!("last start {kind}: ");
    assert!(printed.contains(&line), "{printed}");
    assert!(printed.contains("tidegate log verify"), "{printed}");
    end(&mut gateway);
}
