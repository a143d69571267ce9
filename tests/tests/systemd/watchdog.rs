//! systemd kills what does not feed the watchdog: it is fed while the store makes progress or rests, and not
//! when a commit never ends.

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use tests::command_line;
use tests::gateway::{Around, Gateway, LOOPBACK};
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version};
use tests::supervised::ExitCode;
use tests::{program, skip};

use crate::notices::{Notices, feeds};

/// The limit; it is fed at least twice as often.
const WATCHDOG_MS: u64 = 2_000;

#[test]
fn watchdog_is_fed_while_nothing_happens_and_while_much_is_published() {
    let notices = Notices::new();
    let around = notices.around(Around::default(), Some(WATCHDOG_MS));
    let gateway = Gateway::start_around(around, LOOPBACK).unwrap();
    let fed = |what: &str| {
        for _ in 0..3 {
            notices.until(what, |line| line == "WATCHDOG=1");
        }
    };
    fed("food while nothing happens");
    let mqtt = gateway.mqtt().unwrap();
    thread::spawn(move || {
        let mut client = Client::connect(mqtt, &Connect::new(Version::V5, "c")).unwrap();
        // Until the gateway is gone.
        while client
            .publish_acknowledged(Publish::new("t", "payload"))
            .is_ok()
        {}
    });
    gateway
        .wait_metric("tidegate_log_records_total", &[], |count| count > 100.0)
        .unwrap();
    fed("food while much is published");
}

/// A `fdatasync` that never returns once there is a file `$HANG_SYNCS`: like a card that does not answer, but
/// one that a signal ends.
const HANGING: &str = "
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
    const char *file = getenv(\"HANG_SYNCS\");
    while (file && access(file, F_OK) == 0) pause();
    return (int) syscall(SYS_fdatasync, fd);
}
";

/// Puts [`HANGING`] before the C library, as soon as `file` is there.
fn hanging(folder: &Path, file: &Path) -> Result<Around, String> {
    let compiler = program::require("cc", "gcc")?;
    let (source, library) = (folder.join("hang.c"), folder.join("hang.so"));
    fs::write(&source, HANGING).unwrap();
    let mut command = Command::new(compiler);
    command
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    let ended = command_line::run(&command).unwrap();
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    let variable = |name: &str, path: &Path| (name.to_owned(), path.to_str().unwrap().to_owned());
    Ok(Around {
        environment: vec![
            variable("LD_PRELOAD", &library),
            variable("HANG_SYNCS", file),
        ],
        ..Around::default()
    })
}

#[test]
fn watchdog_is_not_fed_any_more_when_a_commit_never_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hang");
    let Some(around) = skip::unless(hanging(folder.path(), &file)) else {
        return;
    };
    let notices = Notices::new();
    let around = notices.around(around, Some(WATCHDOG_MS));
    let gateway = Gateway::start_around(around, LOOPBACK).unwrap();
    let mut client = gateway.client("c").unwrap();
    let publish = Publish::new("t", "acknowledged");
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    notices.until("food before", |line| line == "WATCHDOG=1");
    fs::write(&file, "").unwrap();
    client.publish("t", b"never acknowledged", Some(2)).unwrap();
    // The I/O thread answers all the same, and says for how long it has waited.
    let slow = |line: &str| line.contains("a commit has taken ");
    notices.until("a slow commit", slow);
    for _ in 0..4 {
        let (text, before) = notices.until("the status", slow);
        let fed = feeds(&text) || before.iter().any(|notice| feeds(notice));
        assert!(!fed, "{before:?} {text}");
    }
}
