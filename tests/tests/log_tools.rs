//! `tidegate log verify | export | repair`, of a running gateway and of its folder.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tests::broker_process::binary;
use tests::command_line::{self, Ended, tidegate};
use tests::deadline;
use tests::gateway::{Gateway, LOOPBACK};
use tests::kafka::{self, dump_log::dump_log};
use tests::mqtt::{Publish, SUCCESS};
use tests::skip;
use tests::supervised::ExitCode;

const RECORDS: usize = 75;

fn configuration() -> String {
    format!(
        "{LOOPBACK}\n[storage]\nsegment_bytes = \"1MiB\"\n\
         [[log]]\nname = \"readings\"\nfilters = [\"sensors/#\"]\npartitions = 2\n\
         key = \"same\"\n"
    )
}

/// A gateway with records of 40 KiB in `readings`, in several segments, and one that is no text.
fn start() -> Gateway {
    let gateway = Gateway::start(&configuration()).unwrap();
    let mut client = gateway.client("publisher").unwrap();
    for number in 0..RECORDS {
        let mut payload = format!("{number:040960}").into_bytes();
        if number == 7 {
            payload = vec![0xff, 0xfe, 0x00];
        }
        let publish = Publish::new("sensors/1", &payload);
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
    gateway
}

fn run(arguments: &[&str], source: &[&str]) -> Ended {
    tidegate(&[&["log"], arguments, source].concat()).unwrap()
}

fn fine(arguments: &[&str], source: &[&str]) -> Ended {
    let ended = run(arguments, source);
    assert_eq!(ended.code, ExitCode(0), "{arguments:?}: {}", ended.stderr);
    ended
}

fn refused(arguments: &[&str], source: &[&str], code: i32, what: &str) {
    let ended = run(arguments, source);
    assert_eq!(
        ended.code,
        ExitCode(code),
        "{arguments:?}: {}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains(what),
        "{arguments:?}: {}",
        ended.stderr
    );
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every file below `path` with its content.
fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// The partition that has the records.
fn partition(source: &[&str]) -> String {
    let list: Value = serde_json::from_str(&fine(&["list", "--json"], source).stdout).unwrap();
    let mut logs = list.as_array().unwrap().iter();
    let log = logs.find(|log| log["name"] == "readings").unwrap();
    let mut partitions = log["partitions"].as_array().unwrap().iter();
    let full = partitions.find(|partition| partition["high_watermark"] == RECORDS);
    full.unwrap()["partition"].to_string()
}

/// What `verify`, `export` and their refusals are to be, wherever they look.
fn expect_everything(source: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let verified = json_lines(&fine(&["verify", "--json"], source).stdout);
    let human = fine(&["verify", "readings"], source).stdout;
    assert!(human.contains("0 errors, 0 warnings"), "{human}");
    let totals = &verified.last().unwrap()["verified"];
    assert_eq!(totals["records"], RECORDS, "{verified:?}");
    assert!(totals["segments"].as_u64().unwrap() >= 3);

    let records = json_lines(&fine(&["export", "readings"], source).stdout);
    assert_eq!(records.len(), RECORDS);
    assert_eq!(records[7]["payload_base64"], "//4A");
    assert!(records[8]["payload"].as_str().unwrap().ends_with("00008"));
    let number = partition(source);
    for (offset, record) in records.iter().enumerate() {
        assert_eq!(
            (&record["kind"], &record["offset"]),
            (&"record".into(), &offset.into())
        );
        let id = record["tg_id"].as_str().unwrap();
        assert!(
            id.ends_with(&format!("/readings-{number}/{offset}")),
            "{id}"
        );
    }
    let some = [
        "export",
        "readings",
        "--partition",
        &number,
        "--from",
        "8",
        "--to",
        "11",
    ];
    let some = json_lines(&fine(&some, source).stdout);
    assert_eq!(some, records[8..11]);
    let time = records[30]["time_ms"].to_string();
    let since = json_lines(&fine(&["export", "readings", "--since", &time], source).stdout);
    let is_since = |record: &&Value| record["time_ms"].as_i64() >= records[30]["time_ms"].as_i64();
    assert_eq!(
        since,
        records.iter().filter(is_since).cloned().collect::<Vec<_>>()
    );
    let until = json_lines(&fine(&["export", "readings", "--until", &time], source).stdout);
    assert_eq!(since.len() + until.len(), RECORDS);

    expect_refusals(source, &number);
    let findings = verified.into_iter();
    let findings = findings.filter(|line| line.get("verified").is_none());
    (findings.collect(), records)
}

fn expect_refusals(source: &[&str], number: &str) {
    for (arguments, what) in [
        (
            &["verify", "nothing"][..],
            "there is no log `nothing`; there are: ",
        ),
        (
            &["export", "nothing"],
            "there is no log `nothing`; there are: ",
        ),
        (
            &["export", "readings", "--partition", "7"],
            "no partition 7; it has 0 to 1",
        ),
        (
            &[
                "export",
                "readings",
                "--partition",
                number,
                "--from",
                "9",
                "--to",
                "8",
            ],
            "from offset 9 to offset 8",
        ),
        (
            &["export", "readings", "--partition", number, "--from", "900"],
            "has no offset 900",
        ),
        (
            &["export", "readings", "--since", "9", "--until", "8"],
            "the first time is behind",
        ),
    ] {
        refused(arguments, source, 1, what);
    }
}

#[test]
fn log_is_verified_and_exported_alike_from_a_running_gateway_and_from_its_folder() {
    let mut gateway = start();
    let admin = gateway.admin().unwrap().to_string();
    let data = gateway.data_dir().to_str().unwrap().to_owned();
    let online = expect_everything(&["--admin", &admin]);
    for command in [&["verify"][..], &["export", "readings"]] {
        refused(command, &["--data", &data], 75, "is in use by process");
    }
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let before = content(gateway.folder());
    let offline = expect_everything(&["--data", &data]);
    assert_eq!(online, offline);
    assert!(
        before == content(gateway.folder()),
        "looking changed nothing"
    );
}

#[test]
fn exported_files_are_whole_or_not_there() {
    let mut gateway = start();
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let data = gateway.data_dir().to_str().unwrap().to_owned();
    let source = ["--data", data.as_str()];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.jsonl");
    let path = file.to_str().unwrap();
    fine(&["export", "readings", "--output", path], &source);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(json_lines(&text).len(), RECORDS);
    let again = ["export", "readings", "--output", path];
    refused(&again, &source, 1, "is there already; --force replaces it");
    fine(&[&again[..], &["--force"]].concat(), &source);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    refused(
        &["export", "readings", "--output", "/dev/full/x"],
        &source,
        1,
        "/dev/full",
    );
    let names = |path: &Path| fs::read_dir(path).unwrap().count();
    assert_eq!(names(folder.path()), 1, "no part of a file is left");
}

#[test]
fn export_that_cannot_be_written_or_is_not_read_fails() {
    let mut gateway = start();
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let data = gateway.data_dir();
    let number = partition(&["--data", data.to_str().unwrap()]);
    let one = ["--partition", &number, "--from", "7", "--to", "8"];
    for (line, some, what) in [
        (
            "exec \"$0\" \"$@\" > /dev/full",
            &one[..0],
            "write standard output",
        ),
        (
            "exec \"$0\" \"$@\" > /dev/full",
            &one,
            "write standard output",
        ),
        (
            "{ \"$0\" \"$@\"; echo \"status $?\" >&2; } | true; exit 1",
            &[],
            "nobody reads standard output any more: the export is not whole",
        ),
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", line]).arg(binary().unwrap());
        let command = command.args(["log", "export", "readings", "--data"]);
        let ended = command_line::run(command.arg(&data).args(some)).unwrap();
        assert_eq!(ended.code, ExitCode(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(what), "{}", ended.stderr);
        assert!(!ended.stderr.contains("status 0"), "{}", ended.stderr);
    }
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" > /dev/full"]);
    let command = command.arg(binary().unwrap());
    let ended = command_line::run(command.args(["log", "verify", "--data"]).arg(&data)).unwrap();
    assert_eq!(ended.code, ExitCode(1), "{}", ended.stderr);
}

#[test]
fn existing_export_stays_until_there_is_something_in_its_place() {
    let mut gateway = start();
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let data = gateway.data_dir().to_str().unwrap().to_owned();
    let source = ["--data", data.as_str()];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.jsonl");
    let kafka = folder.path().join("kafka");
    let (file_path, kafka_path) = (file.to_str().unwrap(), kafka.to_str().unwrap());
    let number = partition(&source);
    let lines = ["export", "readings", "--output", file_path];
    let files = [
        "export", "readings", "--format", "kafka", "--output", kafka_path,
    ];
    for export in [&lines[..], &files] {
        fine(export, &source);
    }
    let exported = content(folder.path());
    assert!(kafka.join(format!("readings-{number}")).exists());
    for export in [&lines[..], &files] {
        // Told before anything is read: there is no such folder.
        refused(
            export,
            &["--data", "/nowhere"],
            1,
            "is there already; --force replaces it",
        );
        // The log is not there, or nothing of it is asked for.
        let unknown = [&export[..1], &["nothing"], &export[2..], &["--force"]].concat();
        refused(&unknown, &source, 1, "there is no log");
        let none = [export, &["--force", "--since", "2999-01-01T00:00:00Z"]].concat();
        let _ = run(&none, &source);
        assert!(content(folder.path()) == exported, "{export:?}");
        fine(&[export, &["--force"]].concat(), &source);
        assert!(content(folder.path()) == exported, "{export:?}");
    }
    let none = [&lines[..], &["--force", "--since", "2999-01-01T00:00:00Z"]].concat();
    refused(&none, &source, 1, "out.jsonl stays as it is");
}

/// What a start met is told by the gateway that met it; all else is the same wherever it is looked
/// at.
#[test]
fn verify_after_a_start_that_lost_something_tells_of_it() {
    let mut gateway = start();
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let data = gateway.data_dir();
    let source = ["--data", data.to_str().unwrap()];
    fs::remove_dir_all(data.join("log/0000000002")).unwrap();
    fs::create_dir_all(data.join("quarantine/0000000099")).unwrap();
    fs::write(data.join("notes.txt"), "x").unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(data.join("log/0000000001/db"))
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2 / 4096 * 4096;
    file.write_all_at(&[0; 4096], middle).unwrap();
    let before = run(&["verify"], &source).stdout;
    assert!(
        before.contains("error recovery segment 2: segment 2 is missing"),
        "{before}"
    );

    gateway.restart(&configuration()).unwrap();
    let admin = gateway.admin().unwrap().to_string();
    let online = run(&["verify"], &["--admin", &admin]);
    assert_eq!(online.code, ExitCode(1));
    let (met, others): (Vec<_>, Vec<_>) = online
        .stdout
        .lines()
        .partition(|line| line.contains(" recovery "));
    let [copied, cut, missing] = met[..] else {
        panic!("{met:?}")
    };
    assert!(
        copied.contains("behind the damage can be read in the copy quarantine/0000000001"),
        "{copied}"
    );
    assert!(
        cut.contains("met and dealt with at the last start: segment 1 ends at commit"),
        "{cut}"
    );
    assert_eq!(
        missing,
        "warning recovery segment 2: met and dealt with at the last start: segment 2 is missing; \
         what was lost is in the gap ledger"
    );
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let offline = run(&["verify"], &source).stdout;
    // All but the totals, since another start made another segment.
    let findings = |lines: &[&str]| -> Vec<String> {
        let lines = lines.iter().filter(|line| line.contains(": "));
        let lines = lines.filter(|line| !line.starts_with("read "));
        lines.map(|line| (*line).to_owned()).collect()
    };
    let offline: Vec<_> = offline.lines().collect();
    assert_eq!(findings(&others), findings(&offline));
    // What was lost is in the ledger; what does not belong there, and the copy, are still told.
    assert_eq!(findings(&offline).len(), 3, "{offline:?}");
}

#[test]
fn kafka_reads_what_is_exported_for_it() {
    let Some(_) = skip::unless(kafka::available()) else {
        return;
    };
    let gateway = start();
    let admin = gateway.admin().unwrap().to_string();
    let source = ["--admin", admin.as_str()];
    let number = partition(&source);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let export = ["export", "readings", "--format", "kafka", "--output", path];
    fine(&export, &source);
    refused(&export, &source, 1, "is there already; --force replaces it");
    let file = folder
        .path()
        .join(format!("readings-{number}/00000000000000000000.log"));
    let dumped = dump_log(&file).unwrap();
    assert!(dumped.contains("Log starting offset: 0"), "{dumped}");
    let offsets: Vec<usize> = dumped
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| offset: ")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    assert_eq!(offsets, (0..RECORDS).collect::<Vec<_>>());
    let batches = dumped
        .lines()
        .filter(|line| line.starts_with("baseOffset: "));
    assert!(batches.clone().count() > 0);
    assert!(
        batches.clone().all(|line| line.contains("isvalid: true")),
        "{dumped}"
    );
    assert!(dumped.contains(&format!("payload: {:040960}", RECORDS - 2)));
}

#[test]
fn damage_is_found_and_ends_with_status_1() {
    let mut gateway = start();
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let data = gateway.data_dir();
    let source = ["--data", data.to_str().unwrap()];
    let file = fs::OpenOptions::new()
        .write(true)
        .open(data.join("log/0000000002/db"))
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2 / 4096 * 4096;
    file.write_all_at(&[0; 4096], middle).unwrap();
    let ended = run(&["verify"], &source);
    assert_eq!(ended.code, ExitCode(1), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("found 2 errors and 0 warnings"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stdout.contains("error damage segment 2"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("error hole segment 2"),
        "{}",
        ended.stdout
    );
    let found = json_lines(&run(&["verify", "--json"], &source).stdout);
    let hole = &found[1]["finding"];
    assert_eq!(hole["log"], "readings");

    // What is left of it can be exported, with the gap.
    let exported = fine(&["export", "readings"], &source);
    let lines = json_lines(&exported.stdout);
    let gap = lines.iter().find(|line| line["kind"] == "gap").unwrap();
    assert_eq!((&gap["from"], &gap["to"]), (&hole["from"], &hole["to"]));
    assert!(
        exported.stderr.contains("are not there (damaged)"),
        "{}",
        exported.stderr
    );
    let missing = gap["to"].as_u64().unwrap() - gap["from"].as_u64().unwrap();
    assert_eq!(lines.len() as u64 - 1 + missing, RECORDS as u64);
}

#[test]
fn damaged_folder_is_repaired_and_loses_nothing_more() {
    let mut gateway = start();
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let data = gateway.data_dir();
    let source = ["--data", data.to_str().unwrap()];
    fine(&["repair", "--dry-run"], &source);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(data.join("log/0000000002/db"))
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2 / 4096 * 4096;
    file.write_all_at(&[0; 4096], middle).unwrap();
    let damaged = content(&data);

    refused(
        &["repair", "--dry-run"],
        &source,
        1,
        "nothing was changed: --dry-run",
    );
    refused(
        &["repair"],
        &source,
        1,
        "nobody is there to ask; --yes does it",
    );
    assert!(damaged == content(&data), "nothing was changed");
    let repaired = fine(&["repair", "--yes"], &source).stdout;
    for said in [
        "found: error damage segment 2",
        "to do: put segment 2 into quarantine",
        "doing: put segment 2 into quarantine",
        "left: warning quarantine",
    ] {
        assert!(repaired.contains(said), "{repaired}");
    }
    assert!(!repaired.contains("left: error"), "{repaired}");
    let aside = data.join("quarantine/0000000002/db");
    assert!(fs::read(aside).unwrap() == damaged[&data.join("log/0000000002/db")]);
    let again = fine(&["repair", "--yes"], &source).stdout;
    assert!(
        again.ends_with("there is nothing that can be repaired\n"),
        "{again}"
    );

    let lines = json_lines(&fine(&["export", "readings"], &source).stdout);
    let gap = lines.iter().find(|line| line["kind"] == "gap").unwrap();
    assert_eq!(gap["reason"], "quarantine");
    let missing = gap["to"].as_u64().unwrap() - gap["from"].as_u64().unwrap();
    assert_eq!(lines.len() as u64 - 1 + missing, RECORDS as u64);

    check_quarantined_export(&source, &lines, gap);
    refused(
        &["export", "readings", "--quarantined", "x"],
        &source,
        1,
        "there is: 0000000002",
    );
}

/// What stands in quarantine can be exported too, before the damage, where the log ends or has
/// `gap`, and behind it. `lines` is an export of the log.
fn check_quarantined_export(source: &[&str], lines: &[Value], gap: &Value) {
    let missing = gap["to"].as_u64().unwrap() - gap["from"].as_u64().unwrap();
    let aside = ["export", "readings", "--quarantined", "0000000002"];
    let aside = json_lines(&fine(&aside, source).stdout);
    let records = aside.iter().filter(|line| line["kind"] == "record");
    let (kept, behind): (Vec<_>, Vec<_>) = records.partition(|record| lines.contains(record));
    assert!(!kept.is_empty());
    let gap_offsets = gap["from"].as_u64()..gap["to"].as_u64();
    for record in &behind {
        let is_in_gap = record["partition"] == gap["partition"]
            && gap_offsets.contains(&record["offset"].as_u64());
        assert!(is_in_gap, "{}", record["offset"]);
    }
    let lost = missing - behind.len() as u64;
    assert!(lost <= 2, "{lost} of {missing} are in the lost block");
}

/// A client that goes in the middle must not keep its place, of which there are two.
#[test]
fn streams_of_clients_that_went_end() {
    let gateway = start();
    let admin = gateway.admin().unwrap();
    for _ in 0..6 {
        let mut client = TcpStream::connect(admin).unwrap();
        let request = format!("GET /log/export?log=readings HTTP/1.1\r\nHost: {admin}\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).unwrap();
        if head != *b"HTTP/1.1 200" {
            // The thread of an earlier one is on its way out.
            assert_eq!(&head, b"HTTP/1.1 503");
        }
    }
    let admin = admin.to_string();
    deadline::wait_for("a free place", deadline::PATIENCE, || {
        let ended = run(&["verify"], &["--admin", &admin]);
        let is_busy = ended.stderr.contains("is being read by 2 others");
        assert!(is_busy || ended.code == ExitCode(0), "{}", ended.stderr);
        Ok((!is_busy).then_some(()))
    })
    .unwrap();
    let unknown = run(&["verify", "nothing"], &["--admin", &admin]);
    assert!(
        unknown.stderr.contains("there is no log"),
        "{}",
        unknown.stderr
    );
}
