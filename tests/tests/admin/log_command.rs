//! `tidegate log list` and `tidegate log read`, of a running gateway and of a folder.

use rustix::process::Signal;
use serde_json::Value;
use tests::command_line::{Ended, tidegate};
use tests::gateway::{Gateway, LOOPBACK};
use tests::supervised::ExitCode;

/// Bytes that would do something to a terminal, and are no UTF-8.
const BINARY: &[u8] = b"\xff\xfe\x1b[2J\x07";
/// UTF-8 that would do something to a terminal.
const CONTROL: &[u8] = b"a\x1b[2Jb\nc\x9b";
const PLAIN: &[u8] = b"21.5";

/// A gateway with the records 0 `first`, 1 binary, 2 control, 3 plain, each in `readings`.
fn start() -> Gateway {
    let gateway = Gateway::start(&format!(
        "{LOOPBACK}\n\
         [[log]]\nname = \"readings\"\nfilters = [\"sensors/#\"]\npartitions = 2\n\
         key = \"same\"\n"
    ))
    .unwrap();
    let control = String::from_utf8_lossy(CONTROL).into_owned();
    super::publish(
        &gateway,
        "sensors/1",
        &[b"first", BINARY, control.as_bytes(), PLAIN],
    );
    gateway
}

/// The partition that has the records.
fn partition(list: &Value) -> String {
    let log = list
        .as_array()
        .unwrap()
        .iter()
        .find(|log| log["name"] == "readings");
    let partitions = log.unwrap()["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 2);
    let full = partitions
        .iter()
        .find(|partition| partition["high_watermark"] == 4);
    full.unwrap()["partition"].to_string()
}

fn run(arguments: &[&str], source: &[&str]) -> Ended {
    let ended = tidegate(&[&["log"], arguments, source].concat()).unwrap();
    assert_eq!(ended.code, ExitCode(0), "{arguments:?}: {}", ended.stderr);
    ended
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn expect_everything(source: &[&str]) {
    let list = run(&["list", "--json"], source);
    let partition = partition(&serde_json::from_str(&list.stdout).unwrap());
    let table = run(&["list"], source).stdout;
    let is_line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.starts_with(&["readings", &partition, "0", "4", "4"])
            && words.get(6..8) == Some(&["1", "0"])
            && words.len() == 10
    };
    assert!(table.lines().any(is_line), "{table}");

    let records = json_lines(&run(&["read", "readings", "--json"], source).stdout);
    let offsets: Vec<_> = records
        .iter()
        .map(|record| record["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    assert_eq!(records[0]["topic"], "sensors/1");
    assert_eq!(records[0]["client_id"], "publisher");
    assert_eq!(records[0]["qos"], 1);
    assert_eq!(records[3]["payload"], "21.5");
    assert_eq!(records[1]["payload_hex"], "fffe1b5b324a07");

    let some = [
        "read",
        "readings",
        "--json",
        "--partition",
        &partition,
        "--from",
        "1",
        "--count",
        "2",
    ];
    let some = json_lines(&run(&some, source).stdout);
    let offsets: Vec<_> = some
        .iter()
        .map(|record| record["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [1, 2]);
    let other = if partition == "0" { "1" } else { "0" };
    let none = run(&["read", "readings", "--partition", other], source);
    assert_eq!(none.stdout, "");
    let said = format!("partition {other} of log `readings` has no records");
    assert!(none.stderr.contains(&said), "{}", none.stderr);
    let arguments = ["read", "readings", "--partition", &partition, "--from", "4"];
    let none = run(&arguments, source);
    assert_eq!(none.stdout, "");
    let said = "has offsets 0 to 3, none from 4 on";
    assert!(none.stderr.contains(said), "{}", none.stderr);

    let human = run(&["read", "readings"], source).stdout;
    assert!(
        human.lines().any(|line| line.ends_with("q1 21.5")),
        "{human:?}"
    );
    assert!(human.contains("0xfffe1b5b324a07"), "{human:?}");
    assert_eq!(human.lines().count(), 4, "one line a record: {human:?}");
    let harmful = |c: char| c.is_control() && c != '\n';
    assert!(
        !human.contains(harmful),
        "nothing that a terminal obeys: {human:?}"
    );
}

fn expect_refusals(source: &[&str]) {
    for (arguments, said) in [
        (
            vec!["read", "nothing"],
            "there is no log `nothing`; there are: ",
        ),
        (
            vec!["read", "readings", "--partition", "7"],
            "no partition 7; it has 0 to 1",
        ),
    ] {
        let ended = tidegate(&[&["log"], &*arguments, source].concat()).unwrap();
        assert_eq!(ended.code, ExitCode(1), "{arguments:?}");
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    // An offset means nothing without its partition.
    let ended = tidegate(&[&["log", "read", "readings", "--from", "1"], source].concat()).unwrap();
    assert_eq!(ended.code, ExitCode(2), "{}", ended.stderr);
}

#[test]
fn records_are_shown_alike_from_a_running_gateway_and_from_its_folder() {
    let mut gateway = start();
    let admin = gateway.admin().unwrap().to_string();
    let data = gateway.data_dir().to_str().unwrap().to_owned();
    expect_everything(&["--admin", &admin]);
    expect_refusals(&["--admin", &admin]);
    // The folder is the gateway's while it runs.
    let ended = tidegate(&["log", "list", "--data", &data]).unwrap();
    assert_eq!(ended.code, ExitCode(75), "{}", ended.stderr);
    assert!(ended.stderr.contains("--admin"), "{}", ended.stderr);
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    expect_everything(&["--data", &data]);
    expect_refusals(&["--data", &data]);
}

#[test]
fn all_records_are_read_when_they_are_more_than_one_answer_holds() {
    let gateway = Gateway::start(LOOPBACK).unwrap();
    let payload = vec![b'x'; 200 << 10];
    super::publish(&gateway, "t", &[payload.as_slice(); 60]);
    let admin = gateway.admin().unwrap().to_string();
    let ended = run(
        &["read", "default", "--json", "--count", "50"],
        &["--admin", &admin],
    );
    assert_eq!(ended.stdout.lines().count(), 50);
    let ended = run(&["read", "default", "--json"], &["--admin", &admin]);
    assert_eq!(ended.stdout.lines().count(), 60);
}

#[test]
fn folder_that_is_none_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let ended = tidegate(&["log", "list", "--data", path]).unwrap();
    assert_eq!(ended.code, ExitCode(78), "{}", ended.stderr);
    assert!(ended.stderr.contains(path), "{}", ended.stderr);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}
