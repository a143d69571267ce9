//! `tidegate bench`: what it prints has all its fields and adds up, and nothing is left behind.
//! Nothing here looks at how fast anything is.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own functions fail by panicking, as the tests do"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::broker_process::binary;
use tests::command_line::{Ended, tidegate};
use tests::deadline::{PATIENCE, wait_for};
use tests::mosquitto;
use tests::supervised::{ExitCode, Files, Supervised};

const FIGURES: [&str; 9] = [
    "messages_per_second",
    "cpu_us_per_message",
    "written_bytes_per_payload_byte",
    "dirtied_bytes_per_payload_byte",
    "rss_bytes",
    "rss_peak_bytes",
    "messages_per_commit",
    "load_cpu_us_per_message",
    "seconds",
];

/// On disk: what is written into memory is not counted as dirty. The target folder of this test is.
fn on_disk() -> TempDir {
    let test = std::env::current_exe().unwrap();
    tempfile::tempdir_in(test.parent().unwrap()).unwrap()
}

fn bench(dir: &Path, arguments: &str) -> Ended {
    let dir = dir.to_str().unwrap();
    let mut line = vec!["bench"];
    line.extend(arguments.split_whitespace());
    line.extend(["--dir", dir]);
    tidegate(&line).unwrap()
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
}

/// A number in the JSON.
fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number {pointer} in {value:#}"))
}

/// Processes of which the command line contains the path.
fn processes_of(dir: &Path) -> Vec<String> {
    let needle = dir.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap();
    let lines = entries.filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(needle)).collect()
}

fn assert_nothing_left(dir: &Path) {
    let left: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let processes = processes_of(dir);
    assert!(processes.is_empty(), "{processes:?}");
}

fn contestant<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["contestants"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap()
}

#[test]
fn publish_counts_every_byte_when_it_prints_json() {
    let dir = on_disk();
    let ended = bench(
        dir.path(),
        "publish --clients 5 --messages 503 --size 300 --inflight 7 --rounds 2 --json",
    );
    let report = json(&ended);
    assert_eq!(
        (&report["format"], &report["bench"]),
        (&1.into(), &"publish".into())
    );
    assert_eq!(report["options"]["messages"], 503);
    assert_eq!(report["options"]["size_bytes"], 300);
    assert!(number(&report, "/machine/processors") >= 1.0);
    // Nothing is dirty where files are memory.
    let is_memory = report["machine"]["memory_file_system"] == true;
    let dirtied_least = if is_memory { 0.0 } else { 503.0 * 300.0 };
    for name in ["tidegate", "files"] {
        let one = contestant(&report, name);
        assert_eq!(
            (&one["installed"], &one["acknowledges"]),
            (&true.into(), &"after sync".into())
        );
        let rounds = one["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        for round in rounds {
            assert_eq!(number(round, "/payload_bytes"), 503.0 * 300.0);
            assert!(
                number(round, "/written_bytes") >= 503.0 * 300.0,
                "{round:#}"
            );
            assert!(
                number(round, "/dirtied_bytes") >= dirtied_least,
                "{round:#}"
            );
            assert!(number(round, "/messages_per_commit") >= 1.0, "{round:#}");
            assert!(number(round, "/rss_peak_bytes") >= number(round, "/rss_bytes"));
        }
        for figure in FIGURES.iter().filter(|name| !name.starts_with("load")) {
            let [min, median, max] = ["min", "median", "max"]
                .map(|end| number(one, &format!("/summary/{figure}/{end}")));
            assert!(min <= median && median <= max, "{figure}: {one:#}");
        }
    }
    let of_tidegate = contestant(&report, "tidegate");
    // A PUBACK of MQTT 3.1.1 for each message.
    assert_eq!(number(of_tidegate, "/rounds/0/socket_bytes"), 4.0 * 503.0);
    assert!(number(of_tidegate, "/summary/cpu_us_per_message/min") > 0.0);
    assert!(number(of_tidegate, "/summary/load_cpu_us_per_message/min") > 0.0);
    assert_nothing_left(dir.path());
}

#[test]
fn publish_compares_with_mosquitto_when_it_is_installed() {
    let dir = on_disk();
    let ended = bench(
        dir.path(),
        "--clients 5 --messages 500 --inflight 7 --rounds 1 --only tidegate,mosquitto --json",
    );
    let report = json(&ended);
    let one = contestant(&report, "mosquitto");
    assert_eq!(one["acknowledges"], "from memory");
    assert_eq!(one["installed"], mosquitto::available().is_ok());
    if mosquitto::available().is_err() {
        assert_eq!(report["ratio_to_mosquitto"], Value::Null);
        return;
    }
    // Its database has every message, for the session that is away.
    assert!(
        number(one, "/rounds/0/written_bytes") >= 500.0 * 200.0,
        "{one:#}"
    );
    let ratios = report["ratio_to_mosquitto"].as_object().unwrap();
    let found: BTreeSet<_> = ratios.keys().map(String::as_str).collect();
    let expected = FIGURES
        .iter()
        .filter(|name| **name != "messages_per_commit");
    assert_eq!(found, expected.copied().collect());
    let ratio = number(&report, "/ratio_to_mosquitto/seconds");
    let seconds = |name| number(contestant(&report, name), "/summary/seconds/median");
    assert!((ratio - seconds("tidegate") / seconds("mosquitto")).abs() < 1e-9);
    assert_nothing_left(dir.path());
}

#[test]
fn table_names_every_contestant_and_what_it_does_not_promise() {
    let dir = on_disk();
    let ended = bench(dir.path(), "--clients 2 --messages 50 --rounds 1");
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    for words in [
        "tidegate",
        "mosquitto",
        "files",
        "messages/s",
        "CPU µs/message",
        "bytes written/payload byte",
        "bytes dirtied/payload byte",
        "never syncs",
        "wall clock",
    ] {
        assert!(
            ended.stdout.contains(words),
            "no {words:?} in:\n{}",
            ended.stdout
        );
    }
    assert!(
        ended.stderr.contains("round 1/1: tidegate"),
        "{}",
        ended.stderr
    );
    assert_nothing_left(dir.path());
}

#[test]
fn start_finds_the_log_again_when_it_was_killed() {
    let dir = on_disk();
    let report = json(&bench(
        dir.path(),
        "start --bytes 8MiB --messages 500 --rounds 2 --json",
    ));
    assert_eq!(
        (&report["format"], &report["bench"]),
        (&1.into(), &"start".into())
    );
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        let log = number(round, "/log_bytes");
        assert!(log >= f64::from(8 << 20), "{round:#}");
        assert!(number(round, "/data_folder_bytes") >= log, "{round:#}");
        assert!(number(round, "/start_to_connack_seconds") > 0.0);
        for when in ["before", "after"] {
            let rss = number(round, &format!("/rss_{when}_bytes"));
            assert!(rss > 0.0 && number(round, &format!("/rss_peak_{when}_bytes")) >= rss);
        }
        assert!(number(round, "/start_read_bytes") > 0.0);
        number(round, "/start_fetched_bytes");
    }
    // The second round has what the first one published besides.
    assert!(number(&report, "/rounds/1/log_bytes") > number(&report, "/rounds/0/log_bytes"));
    assert!(number(&report, "/empty/start_to_connack_seconds") > 0.0);
    number(&report, "/summary/start_to_connack_seconds/median");
    assert_nothing_left(dir.path());
}

#[test]
fn bad_options_are_refused_with_what_is_allowed() {
    let dir = on_disk();
    for (arguments, words) in [
        ("--clients 0", "1..=500"),
        ("--size 131073", "1..=131072"),
        ("--only redis", "tidegate, mosquitto, files"),
        ("start --bytes 1KiB", "a size from 1MiB to 1TiB is allowed"),
        ("start --bytes 12", "has no unit"),
        ("--rounds 1 start", "cannot be used with"),
    ] {
        let ended = bench(dir.path(), arguments);
        assert_eq!(ended.code, ExitCode(2), "{arguments}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(words),
            "{arguments}: {}",
            ended.stderr
        );
    }
    let ended = bench(&dir.path().join("none"), "--rounds 1");
    assert_eq!(ended.code, ExitCode(1));
    assert!(ended.stderr.contains("none (--dir)"), "{}", ended.stderr);
    let ended = bench(dir.path(), "start --bytes 1TiB");
    assert_eq!(ended.code, ExitCode(1));
    assert!(
        ended.stderr.contains("free and the measurement needs"),
        "{}",
        ended.stderr
    );
    assert_nothing_left(dir.path());
}

#[test]
fn child_of_another_process_is_not_started() {
    let ended = tidegate(&["bench", "child", "--parent", "1", "--", "/bin/echo", "ran"]).unwrap();
    assert_eq!(ended.code, ExitCode(1));
    assert!(ended.stdout.is_empty(), "{}", ended.stdout);
    assert!(
        ended
            .stderr
            .contains("process 1, which started this one, has ended")
    );
}

/// Starts a measurement that would take long, waits until its broker runs, and sends a signal.
fn end_in_the_middle(dir: &Path, arguments: &[&str], signal: Signal) -> (ExitCode, String) {
    let logs = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (logs.path().join("stdout"), logs.path().join("stderr"));
    let mut command = Command::new(binary().unwrap());
    command.arg("bench").args(arguments).arg("--dir").arg(dir);
    let files = Files {
        stdout: &stdout,
        stderr: &stderr,
        scratch: None,
    };
    let mut process = Supervised::spawn("the measurement", &command, &files).unwrap();
    wait_for("a broker at work", PATIENCE, || {
        process.check_running()?;
        let is_broker = |line: &String| line.contains(" run --config ");
        Ok(processes_of(dir).iter().any(is_broker).then_some(()))
    })
    .unwrap();
    process.signal(signal).unwrap();
    let code = process.wait(PATIENCE).unwrap();
    (code, fs::read_to_string(stderr).unwrap())
}

#[test]
fn nothing_is_left_when_it_is_ended_in_the_middle() {
    let publish: &[&str] = &["--messages", "1000000", "--size", "1", "--only", "tidegate"];
    let start: &[&str] = &["start", "--bytes", "1GiB"];
    for (arguments, signal, name) in [
        (publish, Signal::TERM, "SIGTERM"),
        (start, Signal::INT, "SIGINT"),
    ] {
        let dir = on_disk();
        let (code, stderr) = end_in_the_middle(dir.path(), arguments, signal);
        assert_eq!(code, ExitCode(1), "{stderr}");
        assert!(stderr.contains(&format!("ended by {name}")), "{stderr}");
        assert_nothing_left(dir.path());
    }
}

#[test]
fn broker_ends_when_the_measurement_is_killed() {
    let dir = on_disk();
    let arguments = ["--messages", "1000000", "--size", "1", "--only", "tidegate"];
    let (code, _) = end_in_the_middle(dir.path(), &arguments, Signal::KILL);
    assert_eq!(code, ExitCode(128 + 9));
    // The kernel kills it at once, and it may take a moment to go.
    wait_for("the end of the broker", PATIENCE, || {
        Ok(processes_of(dir.path()).is_empty().then_some(()))
    })
    .unwrap();
}
