//! Flash that cannot be opened, written or synced, or is taken away.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use serde_json::Value;
use tests::command_line::tidegate;
use tests::deadline::{PATIENCE, wait_for};
use tests::gateway::{Around, Gateway};
use tests::mqtt::{Packet, Version};

use crate::place::{BrokenFile, Place, STORE_FAILED, damage, end, failing};

/// "Server shutting down" of MQTT 5.
const SERVER_SHUTTING_DOWN: u8 = 0x8b;

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
