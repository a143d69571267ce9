//! Data folders that earlier versions made, as they lay on flash: this version opens each of them and
//! finds everything in it. A fixture is never changed; `examples/make_fixture.rs` made it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use storage::{Fingerprint, LogOptions, RecoveryEvent, Store, StoreOptions};
use support::listing::listing;
use support::{FakeClock, append, options, runs};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn unpacked(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(fixture(name).join("folder.txt")).unwrap();
    runs::unpack(&text, folder.path());
    folder
}

/// The machine and the boot in which the fixture was written to last.
fn where_it_was_made() -> StoreOptions {
    let clock = FakeClock::new();
    clock.set(|times| times.boot = 2);
    StoreOptions {
        clock,
        fingerprint: Some(Fingerprint::of(b"second board")),
        ..options()
    }
}

/// The index knows of evacuated segments only what they know of themselves.
#[test]
fn folder_of_format_1_is_whole_without_its_metadata() {
    let folder = unpacked("format-1");
    fs::remove_dir_all(folder.path().join("meta")).unwrap();
    let expected = fs::read_to_string(fixture("format-1").join("content.txt")).unwrap();
    let (store, threads) = Store::open_existing(folder.path(), where_it_was_made()).unwrap();
    assert_eq!(store.recovery_events(), [RecoveryEvent::MetadataMissing]);
    compare(&expected, &listing(&store));
    threads.close();
}

/// The first difference, which is shorter than two listings.
fn compare(expected: &str, found: &str) {
    for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn folder_of_format_1_is_opened_and_everything_is_in_it() {
    let folder = unpacked("format-1");
    let expected = fs::read_to_string(fixture("format-1").join("content.txt")).unwrap();
    // What it is there for, beside what every folder has.
    let copies = support::halves::copies(folder.path());
    assert_eq!(copies.len(), 1, "an evacuated segment: {copies:?}");
    assert!(
        expected.contains("journal kind 10 "),
        "an account of the flash"
    );
    for life in 1..=2 {
        let (store, threads) = Store::open_existing(folder.path(), where_it_was_made()).unwrap();
        assert_eq!(store.recovery_events(), [], "life {life}");
        compare(&expected, &listing(&store));
        let mut retained: Vec<(Vec<u8>, usize)> = store
            .take_recovered_retained()
            .into_iter()
            .map(|retained| {
                (
                    retained.message.topic.to_vec(),
                    retained.message.payload.len(),
                )
            })
            .collect();
        retained.sort();
        assert_eq!(
            retained,
            [(b"large".to_vec(), 20_000), (b"state".to_vec(), 3)]
        );
        assert_eq!(
            support::template::names(&folder.path().join("quarantine")).len(),
            1
        );
        threads.close();
        assert_eq!(
            support::halves::copies(folder.path()),
            copies,
            "life {life}"
        );
    }
}

#[test]
fn folder_of_format_1_goes_on_where_it_ended() {
    let folder = unpacked("format-1");
    let logs = [LogOptions::new("a", 3), LogOptions::new("b", 1)];
    let (store, threads) = Store::open(folder.path(), options(), &logs).unwrap();
    for log in ["a", "b"] {
        let next: Vec<_> = store
            .log(log)
            .unwrap()
            .partitions()
            .map(|partition| (partition, store.high_watermark(partition)))
            .collect();
        let at = append(&store, log, "k", "goes on");
        store.wait_durable(at.commit).unwrap();
        // On this machine it is a copy: another incarnation, but the offsets are the same ones.
        assert!(
            next.contains(&(at.partition, at.offset)),
            "{at:?}: {next:?}"
        );
    }
    threads.close();
}
