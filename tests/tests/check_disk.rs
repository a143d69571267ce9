//! `tidegate check` against the disk and the memory, and what `run` says of a disk that is too small.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tests::command_line::{Ended, tidegate};
use tests::deadline::{PATIENCE, wait_for};
use tests::gateway::{Gateway, LOOPBACK};
use tests::mqtt::{Publish, SUCCESS};
use tests::supervised::ExitCode;

/// No machine has so much.
const TOO_LARGE: &str = "[[log]]\nname = \"kept\"\nfilters = [\"kept/#\"]\n\
                         retention = { bytes = \"512TiB\" }\n";
/// About as little as can be asked for.
const SMALL: &str = "[storage]\nsegment_bytes = \"1MiB\"\nfree_space_reserve = \"1MiB\"\n\
                     [limits]\nretained_bytes_max = \"1KiB\"\n\
                     [[log]]\nname = \"default\"\nretention = { bytes = \"2MiB\" }\n";

/// On disk: the target folder of this test is.
fn on_disk() -> TempDir {
    let test = std::env::current_exe().unwrap();
    tempfile::tempdir_in(test.parent().unwrap()).unwrap()
}

fn file(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("tidegate.toml");
    fs::write(&path, text).unwrap();
    path
}

fn check(file: &Path, arguments: &[&str]) -> Ended {
    let mut line = vec!["check", "--config", file.to_str().unwrap()];
    line.extend(arguments);
    tidegate(&line).unwrap()
}

fn expect_refusal(ended: &Ended, says: &[&str]) {
    assert_eq!(
        ended.code,
        ExitCode(78),
        "{} {}",
        ended.stdout,
        ended.stderr
    );
    assert_eq!(ended.stdout, "");
    for words in says {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

fn expect_passed(ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, ExitCode(0), "{} {}", ended.stdout, ended.stderr);
    for words in says {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
}

#[test]
fn budget_that_cannot_fit_the_disk_is_refused_with_what_would() {
    let folder = on_disk();
    let data = folder.path().join("not/there");
    let data = data.to_str().unwrap();
    let ended = check(&file(&folder, TOO_LARGE), &["--data", data]);
    expect_refusal(
        &ended,
        &[
            "tidegate.toml: the logs cannot fit the disk",
            "they may fill 660.5 TiB",
            data,
            "log `kept`: retention.bytes is \"512TiB\"",
            "in all logs together",
            "log[].retention.bytes",
            "storage.free_space_reserve",
            "--disk SIZE",
        ],
    );
    assert!(!folder.path().join("not").exists());
}

#[test]
fn disk_of_another_machine_is_given_by_its_size() {
    let folder = on_disk();
    let default = file(&folder, "");
    let fits = check(&default, &["--disk", "2GB"]);
    expect_passed(&fits, &["may fill 1.3 GiB", "no problems found"]);
    let ended = check(&default, &["--disk", "1GB"]);
    expect_refusal(&ended, &["log `default`", "\"1GiB\", the default"]);
    // What is advised is taken.
    let advised = ended.stderr.split("would fit: \"").nth(1).unwrap();
    let advised = advised.split('"').next().unwrap();
    let text = format!("[[log]]\nname = \"default\"\nretention = {{ bytes = \"{advised}\" }}\n");
    expect_passed(&check(&file(&folder, &text), &["--disk", "1GB"]), &[]);
    let skipped = check(&file(&folder, TOO_LARGE), &["--no-disk"]);
    expect_passed(&skipped, &["compared with no disk (--no-disk)"]);
    for wrong in ["8", "", "0B", "-1GiB", "8 GiB", "9999999999999TiB"] {
        let ended = check(&default, &[&format!("--disk={wrong}")]);
        assert_eq!(ended.code, ExitCode(2), "{wrong}: {}", ended.stderr);
        assert!(ended.stderr.contains("such as 8GiB"), "{}", ended.stderr);
    }
}

#[test]
fn check_needs_nothing_but_to_look() {
    let folder = on_disk();
    let small = file(&folder, SMALL);
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).unwrap();
    for data in [data.join("below"), data.clone()] {
        let ended = check(&small, &["--data", data.to_str().unwrap()]);
        expect_passed(&ended, &["the logs may fill", data.to_str().unwrap()]);
    }
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    // Neither can become a data folder.
    for wrong in [small.clone(), small.join("below")] {
        let ended = check(&small, &["--data", wrong.to_str().unwrap()]);
        expect_refusal(&ended, &["data_dir: ", "tidegate.toml is no folder"]);
    }
}

#[test]
fn folder_in_memory_is_warned_of() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let data = folder.path().to_str().unwrap().to_owned();
    let small = file(&folder, SMALL);
    let ended = check(&small, &["--data", &data]);
    expect_passed(&ended, &["does not survive a reboot", "no problems found"]);
    // What is printed is a configuration, warnings or not.
    let ended = check(&small, &["--data", &data, "--print"]);
    expect_passed(&ended, &["# warning: "]);
    fs::write(&small, &ended.stdout).unwrap();
    let again = check(&small, &["--print"]);
    expect_passed(&again, &[&format!("data_dir = \"{data}\"")]);
}

#[test]
fn gateway_serves_on_a_disk_that_is_too_small_and_says_so() {
    let gateway = Gateway::start(&format!("{LOOPBACK}{TOO_LARGE}")).unwrap();
    let mut client = gateway.client("c").unwrap();
    let publish = Publish::new("kept/a", "payload");
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    wait_for("the warning", PATIENCE, || {
        let is_told = gateway.log().contains("The logs cannot fit the disk");
        Ok(is_told.then_some(()))
    })
    .unwrap();
}

/// As much as fits no Zero 2 W: its board has 208 MiB for everything.
const LARGE: &str = "board = \"x86-64\"\n[limits]\nall_mailboxes_bytes_max = \"256MiB\"\n";

#[test]
fn configuration_that_does_not_fit_the_memory_is_refused_with_the_keys() {
    let folder = on_disk();
    let text = format!("memory_budget = \"300MiB\"\n{LARGE}");
    let ended = check(&file(&folder, &text), &["--no-disk"]);
    expect_refusal(
        &ended,
        &[
            "tidegate.toml: the configuration does not fit the memory: it may take",
            "the budget is 300.0 MiB, as `memory_budget` says",
            "256.0 MiB  what waits for subscribers",
            "most is taken by limits.all_mailboxes_bytes_max, which is \"256MiB\"",
            "keys to lower: limits.all_mailboxes_bytes_max, storage.segment_bytes",
        ],
    );
    // What is advised is taken.
    let advised = ended.stderr.split("which is \"256MiB\": ").nth(1).unwrap();
    let advised = advised.split(" would fit").next().unwrap();
    let text = text.replace("\"256MiB\"", advised);
    let fits = check(&file(&folder, &text), &["--no-disk"]);
    expect_passed(&fits, &["the budget is 300.0 MiB", "no problems found"]);
}

#[test]
fn board_of_another_machine_is_given_by_its_name() {
    let folder = on_disk();
    let default = file(&folder, "board = \"pi-4\"\n");
    for board in ["pi-zero-2w", "pi-3", "pi-4", "pi-5"] {
        let fits = check(&default, &["--no-disk", "--board", board]);
        let says = format!("board {board}, as the command line says");
        expect_passed(&fits, &[&says, "half of the memory, which is"]);
    }
    let ended = check(&file(&folder, LARGE), &["--no-disk", "--board=pi-zero-2w"]);
    let says = "the budget is 208.0 MiB, half of the memory, which is 416.0 MiB";
    expect_refusal(&ended, &[says, "board pi-zero-2w"]);
    let generic = check(&default, &["--no-disk", "--board=generic-armv7"]);
    expect_passed(&generic, &["warning: ", "memory_budget says how much"]);
    let unknown = check(&default, &["--board", "pi-2"]);
    assert_eq!(unknown.code, ExitCode(2), "{}", unknown.stderr);
    let names = "generic-arm64, generic-armv7, pi-3, pi-4, pi-5, pi-zero-2w, x86-64";
    assert!(unknown.stderr.contains(names), "{}", unknown.stderr);
}

#[test]
fn what_is_printed_says_the_board_and_can_be_read() {
    let folder = on_disk();
    let default = file(&folder, "");
    let here = check(&default, &["--no-disk", "--print"]);
    expect_passed(&here, &["# detected from "]);
    let print = ["--no-disk", "--board=pi-zero-2w", "--print"];
    let there = check(&default, &print);
    let board = "board = \"pi-zero-2w\" # as the command line says\n";
    let says = [board, "segment_bytes = \"8MiB\"\n", "= \"208MiB\" # half"];
    expect_passed(&there, &says);
    let again = check(&file(&folder, &there.stdout), &["--no-disk"]);
    expect_passed(&again, &["board pi-zero-2w, as `board` says"]);
}
