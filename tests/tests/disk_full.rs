//! A disk that is really full: a small file system that the test fills.
//!
//! Each test runs in a process of its own with a mount namespace of its own, so that the file system
//! is gone with it whatever happens, and nobody else ever sees it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, thread};

use rustix::process::Signal;
use serde_json::Value;
use tests::command_line::{self, tidegate};
use tests::deadline::{PATIENCE, retry, wait_for};
use tests::gateway::{Around, Gateway, LOOPBACK};
use tests::mqtt::{Client, Connect, Packet, Publish, Received, SUCCESS, Version};
use tests::supervised::ExitCode;
use tests::{http, ports, program, skip};

/// "Quota exceeded" of MQTT 5.
const QUOTA_EXCEEDED: u8 = 0x97;

/// Says to the inner process where the small file system is to be.
const FOLDER_VARIABLE: &str = "TIDEGATE_TEST_SMALL_DISK";

/// Size of the file system, and of what the product keeps free.
const DISK: &str = "32m";
const RESERVE_BYTES: u64 = 8 << 20;
/// A file that is in the way.
const BALLAST_BYTES: usize = 6 << 20;

/// How to have mounts of one's own; the error is a reason to skip.
fn unshare() -> Result<Command, String> {
    let unshare = program::require("unshare", "util-linux")?;
    // Without root by a user namespace, where the system allows them.
    for arguments in [&["--mount"][..], &["--mount", "--map-root-user"]] {
        let mut command = Command::new(&unshare);
        command.args(arguments);
        let mut probe = Command::new(&unshare);
        probe
            .args(arguments)
            .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
        let ended = command_line::run(&probe).map_err(|error| format!("{error:#}"))?;
        if ended.code == ExitCode(0) {
            return Ok(command);
        }
    }
    Err("a small file system cannot be mounted here (root or user namespaces needed)".to_owned())
}

/// Runs `test` with the path of an empty small file system, in a process of its own.
fn on_a_small_disk(test: impl FnOnce(&Path)) {
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        test(Path::new(&folder));
        return;
    }
    let Some(mut command) = skip::unless(unshare()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let name = thread::current().name().unwrap().to_owned();
    let script = format!("mount -t tmpfs -o size={DISK} tmpfs \"$0\" && exec \"$@\"");
    command
        .args(["sh", "-c", &script])
        .arg(folder.path())
        .arg(env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(FOLDER_VARIABLE, folder.path());
    let ended = command_line::run(&command).unwrap();
    let said = format!("{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, ExitCode(0), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

/// The product on the small file system, with a ballast beside its data.
struct Disk {
    gateway: Gateway,
    configuration: String,
    folder: PathBuf,
}

impl Disk {
    fn start(folder: &Path) -> Self {
        let mut ballast = File::create(folder.join("ballast")).unwrap();
        ballast.write_all(&vec![1; BALLAST_BYTES]).unwrap();
        let data_dir = folder.join("data");
        let configuration = format!(
            "data_dir = {data_dir:?}\n{LOOPBACK}\n\
             [storage]\nsegment_bytes = \"4MiB\"\nfree_space_reserve = {RESERVE_BYTES}\n\
             [[log]]\nname = \"kept\"\nfilters = [\"kept/#\"]\npartitions = 1\n"
        );
        let around = Around {
            data_dir: Some(data_dir),
            ..Around::default()
        };
        Self {
            gateway: Gateway::start_around(around, &configuration).unwrap(),
            configuration,
            folder: folder.to_owned(),
        }
    }

    fn restart(&mut self) {
        self.gateway.restart(&self.configuration).unwrap();
    }

    fn client(&self, version: Version, name: &str) -> Client {
        let connect = Connect::new(version, name);
        Client::connect(self.gateway.mqtt().unwrap(), &connect).unwrap()
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.gateway.metric(name, labels).unwrap()
    }

    fn wait_full(&self, is_full: bool) {
        let takes = if is_full { 0.0 } else { 1.0 };
        let name = "tidegate_log_takes_messages";
        self.gateway
            .wait_metric(name, &[], |value| value == takes)
            .unwrap();
    }

    /// Publishes until the first refusal; what was acknowledged.
    fn publish_until_full(&self, name: &str) -> Vec<String> {
        let mut client = self.client(Version::V5, name);
        let mut acknowledged = Vec::new();
        for number in 0..5_000 {
            let payload = format!("{name}-{number}-{}", "x".repeat(20_000));
            match client
                .publish_acknowledged(Publish::new("kept/a", &payload))
                .unwrap()
            {
                SUCCESS => acknowledged.push(payload),
                code => {
                    assert_eq!(code, QUOTA_EXCEEDED);
                    return acknowledged;
                }
            }
        }
        panic!(
            "{} messages were acknowledged on a small disk",
            acknowledged.len()
        );
    }

    fn free_space(&self) {
        fs::remove_file(self.folder.join("ballast")).unwrap();
    }

    /// Ends it, and sees that all these are in the log, each once and in order.
    fn expect_exactly(mut self, acknowledged: &[String]) {
        assert_eq!(self.gateway.end(Signal::TERM).unwrap(), ExitCode(0));
        let data = self.folder.join("data");
        let arguments = [
            "log", "read", "kept", "--json", "--count", "1000000", "--data",
        ];
        let mut arguments: Vec<_> = arguments.map(Into::into).into();
        arguments.push(data.into_os_string());
        let ended = tidegate(&arguments).unwrap();
        assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
        let payload = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            record["payload"].as_str().unwrap().to_owned()
        };
        let found: Vec<_> = ended.stdout.lines().map(payload).collect();
        let short = |payloads: &[String]| {
            let short = payloads
                .iter()
                .map(|payload| payload.chars().take(20).collect::<String>());
            short.collect::<Vec<_>>()
        };
        assert_eq!(short(&found), short(acknowledged));
    }
}

#[test]
fn publishes_are_refused_until_there_is_room_and_nothing_acknowledged_is_lost() {
    on_a_small_disk(|folder| {
        let disk = Disk::start(folder);
        let mut acknowledged = disk.publish_until_full("before");
        assert!(acknowledged.len() > 20, "{}", acknowledged.len());

        // It says so everywhere.
        let ready = http::get(disk.gateway.admin().unwrap(), "/readyz").unwrap();
        assert_eq!(ready.status, 503);
        assert!(ready.body.contains("disk is full"), "{}", ready.body);
        let status = disk.gateway.json("/status").unwrap();
        assert_eq!(status["store"]["health"], "disk full");
        disk.wait_full(true);
        let refused = "tidegate_broker_publishes_refused_total";
        assert!(disk.metric(refused, &[("reason", "disk_full")]) >= 1.0);
        assert!(disk.metric("tidegate_log_free_bytes", &[]) < RESERVE_BYTES as f64);
        let log = disk.gateway.log();
        assert!(log.contains("Disk is full: publishes are refused"), "{log}");

        // An old client cannot be told: it is not acknowledged, and everything else it is answered.
        let mut old = disk.client(Version::V311, "old");
        old.publish("kept/a", b"old", Some(1)).unwrap();
        assert_eq!(old.ping().unwrap(), []);
        assert_eq!(old.subscribe("live/#").unwrap(), 1);

        // What is not to be stored goes on.
        let mut new = disk.client(Version::V5, "new");
        new.publish("live/a", b"live", None).unwrap();
        assert_eq!(old.receive_publish().unwrap().payload, b"live");

        // With room everything goes on by itself, the old client's publish first.
        disk.free_space();
        let puback = Packet::Puback {
            packet_id: 1,
            code: SUCCESS,
        };
        assert_eq!(old.receive().unwrap(), Some(puback));
        acknowledged.push("old".to_owned());
        let after = Publish::new("kept/a", "after");
        assert_eq!(new.publish_acknowledged(after).unwrap(), SUCCESS);
        acknowledged.push("after".to_owned());
        disk.wait_full(false);
        let log = disk.gateway.log();
        assert!(log.contains("Disk has room again"), "{log}");
        disk.expect_exactly(&acknowledged);
    });
}

#[test]
fn it_starts_after_a_kill_on_a_full_disk_and_goes_on_when_there_is_room() {
    on_a_small_disk(|folder| {
        let mut disk = Disk::start(folder);
        let mut acknowledged = disk.publish_until_full("before");
        disk.gateway.kill().unwrap();
        for start in 1..=3 {
            disk.restart();
            // The segment that was made ahead of time is gone with the kill, which may leave some room.
            acknowledged.extend(disk.publish_until_full(&format!("start{start}")));
            disk.wait_full(true);
        }
        disk.free_space();
        disk.wait_full(false);
        let mut client = disk.client(Version::V5, "after");
        for number in 0..50 {
            let payload = format!("after-{number}");
            let code = client.publish_acknowledged(Publish::new("kept/a", &payload));
            assert_eq!(code.unwrap(), SUCCESS);
            acknowledged.push(payload);
        }
        disk.expect_exactly(&acknowledged);
    });
}

/// The reserve is used up by somebody else, down to the last byte.
#[test]
fn it_survives_when_somebody_else_takes_the_last_byte() {
    on_a_small_disk(|folder| {
        let mut disk = Disk::start(folder);
        let acknowledged = disk.publish_until_full("before");
        let mut greedy = File::create(folder.join("greedy")).unwrap();
        while greedy.write_all(&[1; 4096]).is_ok() {}
        let mut client = disk.client(Version::V5, "c");
        let code = client
            .publish_acknowledged(Publish::new("kept/a", "refused"))
            .unwrap();
        assert_eq!(code, QUOTA_EXCEEDED);
        let live = client.subscribe("live").unwrap();
        assert_eq!(live, 1);
        client.publish("live", b"live", None).unwrap();
        assert_eq!(client.receive_publish().unwrap().payload, b"live");
        disk.gateway
            .process()
            .unwrap()
            .signal(Signal::TERM)
            .unwrap();
        let nothing_more = client.receive_within(PATIENCE).unwrap();
        assert!(matches!(
            nothing_more,
            Received::Packet(Packet::Disconnect { .. })
        ));
        let code = disk.gateway.wait_end().unwrap();
        assert_eq!(code, ExitCode(0), "{}", disk.gateway.log());

        // Without room for anything it serves what needs none, and says why.
        let [mqtt, admin] =
            [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], ports::free().unwrap())));
        let fixed = format!("[[listener]]\nbind = \"{mqtt}\"\n[admin]\nbind = \"{admin}\"\n");
        let configuration = disk.configuration.replace(LOOPBACK, &fixed);
        disk.gateway = Gateway::spawn(Around::default(), &configuration).unwrap();
        let health = || retry("an answer", PATIENCE, || http::get(admin, "/healthz")).unwrap();
        let said = health();
        assert_eq!(said.status, 503);
        assert!(said.body.contains("No space left"), "{}", said.body);
        let mut client = Client::connect(mqtt, &Connect::new(Version::V5, "c")).unwrap();
        let code = client.publish_acknowledged(Publish::new("kept/a", "refused"));
        assert_eq!(code.unwrap(), QUOTA_EXCEEDED);

        // With room it goes on, without being started again.
        drop(greedy);
        fs::remove_file(folder.join("greedy")).unwrap();
        disk.free_space();
        let process = disk.gateway.process().unwrap();
        process.signal(Signal::USR1).unwrap();
        wait_for("the store", PATIENCE, || {
            Ok((health().status == 200).then_some(()))
        })
        .unwrap();
        disk.expect_exactly(&acknowledged);
    });
}

/// What is acknowledged before it is committed may be lost, but not in silence.
#[test]
fn it_says_so_when_there_is_no_space_for_the_last_commit() {
    on_a_small_disk(|folder| {
        let mut disk = Disk::start(folder);
        disk.configuration = disk.configuration.replace(
            "filters = [\"kept/#\"]\n",
            "filters = [\"kept/#\"]\ndurability = \"interval:1m\"\n",
        );
        disk.restart();
        let mut client = disk.client(Version::V5, "c");
        let payload = "x".repeat(200_000);
        let code = client.publish_acknowledged(Publish::new("kept/a", &payload));
        assert_eq!(code.unwrap(), SUCCESS);
        let mut greedy = File::create(folder.join("greedy")).unwrap();
        while greedy.write_all(&[1; 4096]).is_ok() {}
        let code = disk.gateway.end(Signal::TERM).unwrap();
        assert_eq!(code, ExitCode(74), "{}", disk.gateway.log());
        let log = disk.gateway.log();
        assert!(
            log.contains("the store failed while it was closed"),
            "{log}"
        );
        assert!(!folder.join("data/run/store-failure").exists());
    });
}

#[test]
fn new_folder_without_space_is_served_degraded_and_taken_up_when_there_is_room() {
    on_a_small_disk(|folder| {
        let mut greedy = File::create(folder.join("greedy")).unwrap();
        while greedy.write_all(&[1; 4096]).is_ok() {}
        let [mqtt, admin] =
            [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], ports::free().unwrap())));
        let data_dir = folder.join("data");
        let configuration = format!(
            "data_dir = {data_dir:?}\n[[listener]]\nbind = \"{mqtt}\"\n[admin]\nbind = \"{admin}\"\n\
             [storage]\nfree_space_reserve = {RESERVE_BYTES}\n"
        );
        let mut gateway = Gateway::spawn(Around::default(), &configuration).unwrap();
        let health = || retry("an answer", PATIENCE, || http::get(admin, "/healthz")).unwrap();
        let said = health();
        assert_eq!(said.status, 503);
        assert!(said.body.contains("No space left"), "{}", said.body);
        drop(greedy);
        fs::remove_file(folder.join("greedy")).unwrap();
        gateway.process().unwrap().signal(Signal::USR1).unwrap();
        wait_for("the store", PATIENCE, || {
            Ok((health().status == 200).then_some(()))
        })
        .unwrap();
        let mut client = Client::connect(mqtt, &Connect::new(Version::V5, "c")).unwrap();
        let code = client.publish_acknowledged(Publish::new("a", "taken"));
        assert_eq!(code.unwrap(), SUCCESS);
        assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    });
}
