//! Damage that makes one of sled's I/O threads panic: no database of that process works any more, and
//! all of the next one do.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tests::gateway::Around;

use crate::place::{BrokenFile, Place, STORE_FAILED, end};

/// What it says of it.
const REASON: &str = "start this process again";

/// A folder after a kill, with one segment, which is damaged.
fn damaged(place: &Place) -> PathBuf {
    let mut gateway = place.start(Around::default());
    place.publish("before");
    gateway.kill().unwrap();
    let segment = place.data.join("log/0000000001");
    impossible_header(&segment);
    segment
}

/// Puts a header of one of sled's own segments, with the right checksum and an impossible number, in
/// front of the database.
fn impossible_header(segment: &Path) {
    let mut bytes = fs::read(segment.join("db")).unwrap();
    bytes[..20].fill(0);
    // CRC-32 of 16 zeros is 0xecbb4b55; sled stores it inverted.
    bytes[..4].copy_from_slice(&(!0xecbb_4b55_u32).to_le_bytes());
    fs::write(segment.join("db"), bytes).unwrap();
}

#[test]
fn start_that_loses_the_threads_of_the_databases_ends_and_the_next_one_serves() {
    let place = Place::new();
    damaged(&place);
    let mut gateway = place.start(Around::default());
    assert_eq!(gateway.wait_end().unwrap(), STORE_FAILED);
    let log = gateway.log();
    assert!(log.lines().last().unwrap().contains(REASON), "{log}");
    assert!(!log.contains("DEGRADED"), "{log}");
    assert!(place.runtime().join("store-failure").exists());

    let mut gateway = place.start(Around::default());
    place.wait_degraded(false);
    place.publish("after");
    end(&mut gateway);
    place.expect_all(&["after".to_owned()]);
}

#[test]
fn second_start_that_loses_them_serves_degraded_and_does_not_try_in_vain() {
    let place = Place::new();
    let segment = damaged(&place);
    let copy = place.scratch.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["conf", "db"] {
        fs::copy(segment.join(name), copy.join(name)).unwrap();
    }
    let mut gateway = place.start(Around::default());
    assert_eq!(gateway.wait_end().unwrap(), STORE_FAILED);

    // The first start has put it aside; the card has more of the kind.
    fs::rename(&copy, &segment).unwrap();
    let mut gateway = place.start(Around::default());
    place.expect_degraded(&gateway, REASON);
    gateway.process().unwrap().signal(Signal::USR1).unwrap();
    let degraded = place.status()["degraded"].clone();
    assert_eq!(degraded["needs_new_process"], true, "{degraded}");
    assert_eq!(degraded["attempts"], 0, "{degraded}");
    let log = gateway.log();
    assert!(
        log.contains("This process cannot open the store any more"),
        "{log}"
    );
    end(&mut gateway);

    let mut gateway = place.start(Around::default());
    place.wait_degraded(false);
    place.publish("after");
    end(&mut gateway);
}

#[test]
fn attempt_that_loses_them_ends_the_process_and_the_next_one_serves() {
    let place = Place::new();
    damaged(&place);
    let broken = BrokenFile::new(&place.data);
    let mut gateway = place.start(Around::default());
    place.expect_degraded(&gateway, "open the store");
    broken.mend();
    gateway.process().unwrap().signal(Signal::USR1).unwrap();
    assert_eq!(gateway.wait_end().unwrap(), STORE_FAILED);
    let log = gateway.log();
    assert!(log.lines().last().unwrap().contains(REASON), "{log}");

    let mut gateway = place.start(Around::default());
    place.wait_degraded(false);
    place.publish("after");
    end(&mut gateway);
}
