//! `tidegate doctor`: what it says of folders and cards that are not as they should be, that it
//! leaves nothing behind, and that it disturbs no gateway. Nothing here looks at how fast anything
//! is: where a card has to be slow, it is made slow.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::broker_process::binary;
use tests::command_line::{self, Ended};
use tests::deadline::{PATIENCE, wait_for};
use tests::gateway::{Around, Gateway, LOOPBACK};
use tests::mqtt::{Publish, SUCCESS};
use tests::supervised::{ExitCode, Files, Supervised};
use tests::{program, skip};

/// On disk: the target folder of this test is.
fn on_disk() -> TempDir {
    let test = std::env::current_exe().unwrap();
    tempfile::tempdir_in(test.parent().unwrap()).unwrap()
}

/// The doctor, with what is to be around it.
fn command(around: &Around, arguments: &[&str]) -> Command {
    let mut line = around.wrapper.clone();
    line.extend([binary().unwrap().into_os_string(), OsString::from("doctor")]);
    line.extend(arguments.iter().map(OsString::from));
    let mut line = line.into_iter();
    let mut command = Command::new(line.next().unwrap());
    command.args(line).envs(around.environment.iter().cloned());
    command
}

fn doctor(around: &Around, arguments: &[&str]) -> Ended {
    command_line::run(&command(around, arguments)).unwrap()
}

/// What it says of a folder, as JSON; its status has to agree with the number of problems.
fn report(around: &Around, folder: &Path) -> Value {
    let ended = doctor(around, &["--json", "--data", folder.to_str().unwrap()]);
    parse(&ended)
}

fn parse(ended: &Ended) -> Value {
    let report: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", ended.stdout, ended.stderr));
    let findings = report["findings"].as_array().unwrap();
    for level in ["problem", "warning"] {
        let count = findings.iter().filter(|one| one["level"] == level).count();
        assert_eq!(report[format!("{level}s")], count, "{report:#}");
    }
    let status = if report["problems"] == 0 { 0 } else { 1 };
    assert_eq!(ended.code, ExitCode(status), "{report:#}");
    report
}

/// The level of the finding about `about` that says `words`.
fn level<'a>(report: &'a Value, about: &str, words: &str) -> &'a str {
    let says = |one: &Value, field: &str| one[field].as_str().unwrap().contains(words);
    let findings = report["findings"].as_array().unwrap();
    let found = findings
        .iter()
        .find(|one| one["about"] == about && (says(one, "seen") || says(one, "means")));
    let found = found.unwrap_or_else(|| panic!("no {about} says `{words}`: {report:#}"));
    found["level"].as_str().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn memory_is_told_as_not_surviving_a_reboot() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let data = folder.path().join("data");
    let report = report(&Around::default(), &data);
    assert_eq!(
        level(&report, "file system", "does not survive a reboot"),
        "problem"
    );
    assert_eq!(names(folder.path()), [""; 0]);
    let ended = doctor(&Around::default(), &["--data", data.to_str().unwrap()]);
    assert_eq!(ended.code, ExitCode(1));
    assert!(
        ended.stdout.contains("problem  file system"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stderr.contains("tidegate: 1 problem, "),
        "{}",
        ended.stderr
    );
}

#[test]
fn missing_folder_is_judged_where_it_will_be_and_stays_missing() {
    let folder = on_disk();
    let data = folder.path().join("a/b");
    let report = report(&Around::default(), &data);
    assert_eq!(level(&report, "folder", "not there yet"), "note");
    assert_eq!(report["format"], 1);
    let figures = &report["figures"];
    assert_eq!(figures["measured_in"], folder.path().to_str().unwrap());
    for kind in ["append", "overwrite"] {
        let sync = &figures["sync"][kind];
        let at = |figure: &str| sync[figure].as_u64().unwrap();
        assert!(at("count") >= 3, "{sync}");
        assert!(
            at("p50_us") <= at("p90_us") && at("p90_us") <= at("max_us"),
            "{sync}"
        );
    }
    assert!(figures["fence_syncs"].as_u64().unwrap() > 0, "{figures}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn read_only_folder_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let Some(around) = skip::unless(read_only(folder.path())) else {
        return;
    };
    let report = report(&around, folder.path());
    assert_eq!(level(&report, "folder", "cannot be written"), "problem");
    assert_eq!(level(&report, "file system", "read-only"), "problem");
}

/// Makes a folder read-only for what is started; the error is a reason to skip.
fn read_only(folder: &Path) -> Result<Around, String> {
    let unshare = program::require("unshare", "util-linux")?;
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    // Without root by a user namespace, where the system allows them.
    for arguments in [&["--mount"][..], &["--mount", "--map-root-user"]] {
        let mut wrapper = vec![unshare.clone().into_os_string()];
        wrapper.extend(arguments.iter().map(OsString::from));
        wrapper.extend(["sh", "-c", script].map(OsString::from));
        wrapper.push(folder.as_os_str().to_owned());
        let mut probe = Command::new(&wrapper[0]);
        probe.args(&wrapper[1..]).arg("true");
        let ended = command_line::run(&probe).map_err(|error| format!("{error:#}"))?;
        if ended.code == ExitCode(0) {
            return Ok(Around {
                wrapper,
                ..Around::default()
            });
        }
    }
    Err("a small file system cannot be mounted here (root or user namespaces needed)".to_owned())
}

#[test]
fn running_gateway_is_seen_and_not_disturbed() {
    let mut gateway = Gateway::start(LOOPBACK).unwrap();
    let pid = gateway.process().unwrap().pid();
    let before = names(&gateway.data_dir());
    let report = report(&Around::default(), &gateway.data_dir());
    assert_eq!(report["figures"]["folder"]["held_by"], pid, "{report:#}");
    assert_eq!(report["figures"]["machine"]["is_of_gateway"], true);
    assert_eq!(level(&report, "folder", "format 1"), "ok");
    assert_eq!(level(&report, "folder", "in use by process"), "ok");
    assert_eq!(names(&gateway.data_dir()), before);
    let mut client = gateway.client("c").unwrap();
    let publish = Publish::new("t", "after");
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let report = self::report(&Around::default(), &gateway.data_dir());
    assert!(
        report["figures"]["folder"]["held_by"].is_null(),
        "{report:#}"
    );
}

/// Each `fdatasync` takes 300 ms longer.
const SLOW: [&str; 4] = [
    "-e",
    "trace=fdatasync",
    "-e",
    "inject=fdatasync:delay_exit=300000",
];

#[test]
fn slow_sync_is_told() {
    let Some(around) = skip::unless(Around::tampered(&SLOW)) else {
        return;
    };
    let folder = on_disk();
    let report = report(&around, folder.path());
    assert_eq!(level(&report, "sync", "a sync is slow here"), "warning");
    let append = &report["figures"]["sync"]["append"]["p50_us"];
    assert!(append.as_u64().unwrap() >= 300_000, "{report:#}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn failed_sync_is_a_problem_and_nothing_is_left() {
    let tampering = [
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO:when=9+",
    ];
    let Some(around) = skip::unless(Around::tampered(&tampering)) else {
        return;
    };
    let folder = on_disk();
    let report = report(&around, folder.path());
    assert_eq!(level(&report, "sync", "a write or sync failed"), "problem");
    assert!(report["figures"]["sync"].is_null(), "{report:#}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn nothing_is_left_when_it_is_ended_in_the_middle() {
    let Some(around) = skip::unless(Around::tampered(&SLOW)) else {
        return;
    };
    for (signal, name) in [
        (Signal::INT, "SIGINT"),
        (Signal::TERM, "SIGTERM"),
        (Signal::HUP, "SIGHUP"),
    ] {
        let folder = on_disk();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let output = tempfile::tempdir().unwrap();
        let (stdout, stderr) = (output.path().join("stdout"), output.path().join("stderr"));
        let files = Files {
            stdout: &stdout,
            stderr: &stderr,
            scratch: None,
        };
        let command = command(&around, &["--data", data.to_str().unwrap()]);
        let mut process = Supervised::spawn("the doctor", &command, &files).unwrap();
        wait_for("its temporary file", PATIENCE, || {
            process.check_running()?;
            let mut found = names(folder.path()).into_iter();
            let found = found.find(|name| name.starts_with(".tidegate-doctor-"));
            let found = found.map(|name| folder.path().join(name).join("pages"));
            Ok(found.filter(|file| file.exists()))
        })
        .unwrap();
        process.signal(signal).unwrap();
        let code = process.wait(PATIENCE).unwrap();
        let said = fs::read_to_string(&stderr).unwrap();
        assert_eq!(code, ExitCode(1), "{said}");
        assert!(said.contains(&format!("ended by {name}")), "{said}");
        assert_eq!(fs::read_to_string(&stdout).unwrap(), "");
        assert_eq!(names(folder.path()), ["data"]);
        assert_eq!(names(&data), [""; 0]);
    }
}

#[test]
fn library_that_turns_syncs_into_nothing_is_a_problem() {
    // The loader cannot find it, says so, and goes on.
    let around = Around {
        wrapper: vec!["env".into(), "LD_PRELOAD=/nowhere/libeatmydata.so".into()],
        ..Around::default()
    };
    let report = report(&around, on_disk().path());
    assert_eq!(level(&report, "preload", "libeatmydata"), "problem");
}

#[test]
fn budgets_of_the_configuration_are_judged() {
    let folder = on_disk();
    let file = folder.path().join("tidegate.toml");
    let data = folder.path().join("data");
    let configuration = |retention: &str| {
        format!(
            "data_dir = {data:?}\n[[log]]\nname = \"kept\"\nfilters = [\"#\"]\n\
             retention = {{ bytes = \"{retention}\" }}\n"
        )
    };
    fs::write(&file, configuration("512TiB")).unwrap();
    let arguments = ["--json", "--config", file.to_str().unwrap()];
    let report = parse(&doctor(&Around::default(), &arguments));
    assert_eq!(level(&report, "space", "it can never fit"), "problem");
    assert_eq!(report["figures"]["data_dir"], data.to_str().unwrap());
    fs::write(&file, configuration("1 parsec")).unwrap();
    let ended = doctor(&Around::default(), &arguments);
    assert_eq!(ended.code, ExitCode(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("1 parsec"), "{}", ended.stderr);
    let ended = doctor(&Around::default(), &["--data", "a", "--config", "b"]);
    assert_eq!(ended.code, ExitCode(2), "{}", ended.stderr);
}
