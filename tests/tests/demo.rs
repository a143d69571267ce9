//! `tidegate demo`: it passes when all is well, fails and names the record when the cluster lies,
//! and leaves nothing behind, however it ends.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tests::broker_process::binary;
use tests::command_line::{self, Ended};
use tests::deadline::{PATIENCE, wait_for};
use tests::kafka::{self, Kafka};
use tests::skip;
use tests::supervised::{ExitCode, Files, Supervised};

/// The demo with a folder of its own for temporary files.
struct Demo {
    temporary: TempDir,
    command: Command,
}

impl Demo {
    fn new(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary().unwrap());
        command
            .env("TMPDIR", temporary.path())
            .arg("demo")
            .args(arguments);
        Self { temporary, command }
    }

    fn run(&self) -> Ended {
        command_line::run(&self.command).unwrap()
    }

    /// What lies where its folder was.
    fn left_behind(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.temporary.path()).unwrap();
        folders.map(|folder| folder.unwrap().path()).collect()
    }

    fn starts_nothing(&self) -> Ended {
        let ended = self.run();
        assert_eq!(self.left_behind(), Vec::<PathBuf>::new());
        assert_eq!(ended.stdout, "");
        ended
    }
}

fn number(value: &Value, pointer: &str) -> u64 {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn summary_of(ended: &Ended) -> Value {
    let summary = serde_json::from_str(&ended.stdout);
    summary.unwrap_or_else(|error| panic!("no summary ({error}): {}", ended.stderr))
}

/// The summary says that all went well and that everything was tried.
fn check_passed(ended: &Ended) -> Value {
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    let summary = summary_of(ended);
    assert_eq!(summary["passed"], true, "{summary:#}");
    assert_eq!(number(&summary, "/faults/kills"), 2);
    assert!(number(&summary, "/faults/uplink_cuts") >= 4);
    assert!(number(&summary, "/faults/answers_lost") >= 4);
    let balance = |name: &str| number(&summary, &format!("/balance/{name}"));
    assert!(balance("acknowledged") > 100, "{summary:#}");
    assert_eq!(balance("acknowledged_upstream"), balance("acknowledged"));
    let parts = balance("acknowledged_upstream") + balance("copies") + balance("qos0_upstream");
    assert_eq!(balance("upstream_records"), parts, "{summary:#}");
    assert_eq!(balance("gateway/waiting"), 0);
    let checks = summary.pointer("/balance/checks").and_then(Value::as_array);
    assert_eq!(checks.unwrap().len(), 7);
    summary
}

/// Fails with the balance off; the folder that it names is there, and nothing else.
fn check_off(demo: &Demo, ended: &Ended) -> Value {
    assert_eq!(ended.code, ExitCode(1), "{}", ended.stderr);
    let folders = demo.left_behind();
    assert_eq!(folders.len(), 1, "{folders:?}");
    let folder = folders[0].to_str().unwrap();
    assert!(ended.stderr.contains(folder), "{}", ended.stderr);
    assert!(folders[0].join("gateway.log").is_file());
    let summary = summary_of(ended);
    assert_eq!(summary["passed"], false);
    summary
}

#[test]
fn balance_is_right_and_nothing_is_left_behind_after_kills_and_cuts() {
    let demo = Demo::new(&["--seconds", "15", "--json", "--seed", "7"]);
    let ended = demo.run();
    let summary = check_passed(&ended);
    assert_eq!(number(&summary, "/seed"), 7);
    assert_eq!(
        summary.pointer("/upstream/is_model"),
        Some(&Value::Bool(true))
    );
    assert_eq!(demo.left_behind(), Vec::<PathBuf>::new());
    for act in 1..=6 {
        assert!(
            ended.stderr.contains(&format!("\nAct {act}: ")),
            "{}",
            ended.stderr
        );
    }
    assert!(ended.stderr.contains("uplink cut"), "{}", ended.stderr);
    // Nothing is redrawn where nobody sees it.
    assert!(!ended.stderr.contains('\x1b'), "{}", ended.stderr);
}

#[test]
fn lost_record_is_named_when_the_cluster_drops_one() {
    let demo = Demo::new(&["--seconds", "15", "--json", "--tamper", "drop"]);
    let ended = demo.run();
    let summary = check_off(&demo, &ended);
    let balance = |name: &str| number(&summary, &format!("/balance/{name}"));
    assert_eq!(
        balance("acknowledged_upstream"),
        balance("acknowledged") - 1
    );
    let error = ended.stderr.lines().last().unwrap();
    // device, topic, number, and the neighbours' offsets in the partition
    for part in [
        "not upstream: ",
        " alarms/line",
        " message ",
        ": demo.alarms-0 has nothing ",
        "(offset ",
    ] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn doubled_record_is_named_when_the_cluster_stores_one_twice() {
    let demo = Demo::new(&["--seconds", "15", "--json", "--tamper", "duplicate"]);
    let ended = demo.run();
    let summary = check_off(&demo, &ended);
    let balance = |name: &str| number(&summary, &format!("/balance/{name}"));
    assert_eq!(
        balance("upstream_records"),
        balance("gateway/replicated") + 1
    );
    let error = ended.stderr.lines().last().unwrap();
    for part in [
        "1 records repeat a tg-id",
        " alarms/line",
        " message ",
        " at demo.alarms-0 offset ",
        " and at offset ",
        "tg-id demo-gateway/",
    ] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn balance_is_right_on_a_real_kafka() {
    let Some(_) = skip::unless(kafka::available()) else {
        return;
    };
    let kafka = Kafka::shared().unwrap();
    let address = kafka.bootstrap().to_string();
    let demo = Demo::new(&["--seconds", "15", "--json", "--kafka", &address]);
    let summary = check_passed(&demo.run());
    assert_eq!(
        summary.pointer("/upstream/is_model"),
        Some(&Value::Bool(false))
    );
    let topics = summary
        .pointer("/upstream/topics")
        .and_then(Value::as_array);
    let ends = topics.unwrap().iter().flat_map(|topic| {
        let topic = topic.as_str().unwrap();
        kafka.end_offsets(topic).unwrap()
    });
    let records = u64::try_from(ends.sum::<i64>()).unwrap();
    assert_eq!(records, number(&summary, "/balance/upstream_records"));
}

/// Processes that have `folder` in their command line.
fn processes_of(folder: &Path) -> BTreeSet<u32> {
    let folder = folder.to_str().unwrap();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line)
            .contains(folder)
            .then_some(pid)
    });
    pids.collect()
}

/// A demo that has started its gateway, and the gateway.
fn running(demo: &Demo, scratch: &Path) -> (Supervised, Pid) {
    let (stdout, stderr) = (scratch.join("stdout"), scratch.join("stderr"));
    let files = Files {
        stdout: &stdout,
        stderr: &stderr,
        scratch: Some(scratch),
    };
    let process = Supervised::spawn("the demo", &demo.command, &files).unwrap();
    wait_for("the uplink to be cut", PATIENCE, || {
        let said = fs::read_to_string(&stdout).unwrap_or_default();
        Ok(said.contains("Act 2: ").then_some(()))
    })
    .unwrap();
    let gateways = processes_of(demo.temporary.path());
    assert_eq!(gateways.len(), 1, "{gateways:?}");
    let gateway = gateways.first().and_then(|pid| i32::try_from(*pid).ok());
    (process, gateway.and_then(Pid::from_raw).unwrap())
}

#[test]
fn nothing_is_left_behind_when_a_signal_ends_it() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let scratch = tempfile::tempdir().unwrap();
        let demo = Demo::new(&["--seconds", "15"]);
        let (mut process, _) = running(&demo, scratch.path());
        process.signal(signal).unwrap();
        assert_eq!(process.wait(PATIENCE).unwrap(), ExitCode(1));
        assert_eq!(processes_of(demo.temporary.path()), BTreeSet::new());
        assert_eq!(demo.left_behind(), Vec::<PathBuf>::new());
        let said = fs::read_to_string(scratch.path().join("stderr")).unwrap();
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn gateway_ends_when_the_demo_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let demo = Demo::new(&["--seconds", "15"]);
    let (mut process, _) = running(&demo, scratch.path());
    process.kill().unwrap();
    wait_for("the gateway's end", PATIENCE, || {
        Ok(processes_of(demo.temporary.path()).is_empty().then_some(()))
    })
    .unwrap();
}

#[test]
fn failure_is_told_when_the_gateway_ends_on_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let demo = Demo::new(&["--seconds", "15"]);
    let (mut process, gateway) = running(&demo, scratch.path());
    kill_process(gateway, Signal::TERM).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap(), ExitCode(1));
    let said = fs::read_to_string(scratch.path().join("stderr")).unwrap();
    let folders = demo.left_behind();
    assert_eq!(folders.len(), 1, "{folders:?}");
    for part in [
        folders[0].to_str().unwrap(),
        "has ended on its own",
        "SIGTERM: ending.",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert_eq!(processes_of(demo.temporary.path()), BTreeSet::new());
}

#[test]
fn folder_stays_when_it_is_to_be_kept() {
    let parent = tempfile::tempdir().unwrap();
    let keep = parent.path().join("kept");
    let demo = Demo::new(&[
        "--seconds",
        "15",
        "--devices",
        "3",
        "--keep",
        keep.to_str().unwrap(),
    ]);
    let ended = demo.run();
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    assert!(
        ended.stdout.contains(keep.to_str().unwrap()),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("The balance is right"),
        "{}",
        ended.stdout
    );
    // The gateway's data can be looked into with the gateway's own commands.
    let data = keep.join("data");
    let arguments = ["log", "list", "--json", "--data", data.to_str().unwrap()];
    let listed = command_line::tidegate(&arguments).unwrap();
    assert_eq!(listed.code, ExitCode(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("\"alarms\""), "{}", listed.stdout);
    let again = Demo::new(&["--keep", keep.to_str().unwrap()]);
    let refused = again.run();
    assert_eq!(refused.code, ExitCode(1));
    assert!(
        refused.stderr.contains("is not empty"),
        "{}",
        refused.stderr
    );
}

#[test]
fn cluster_that_does_not_answer_is_named() {
    let port = tests::ports::free().unwrap();
    let address = format!("127.0.0.1:{port}");
    let ended = Demo::new(&["--kafka", &address]).starts_nothing();
    assert_eq!(ended.code, ExitCode(1));
    let expected = format!("prepare the Kafka cluster at {address}: connect to kafka broker");
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
}

#[test]
fn bad_options_are_refused_with_what_is_allowed() {
    for (arguments, expected) in [
        (&["--devices", "0"][..], "1..=500"),
        (&["--rate", "201"], "1..=200"),
        (&["--seconds", "14"], "15..=3600"),
        (&["--kafka", "no-port"], "HOST:PORT"),
        (
            &["--kafka", "a:1", "--tamper", "drop"],
            "cannot be used with",
        ),
        (&["--tamper", "lie"], "drop, duplicate"),
        (&["--gateway-of", "1"], "--gateway-config"),
    ] {
        let ended = Demo::new(arguments).starts_nothing();
        assert_eq!(ended.code, ExitCode(2), "{arguments:?}");
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    let too_many = ["--devices", "500", "--rate", "200", "--seconds", "60"];
    let ended = Demo::new(&too_many).starts_nothing();
    assert_eq!(ended.code, ExitCode(1));
    assert!(
        ended.stderr.contains("6,000,000 messages"),
        "{}",
        ended.stderr
    );
}
