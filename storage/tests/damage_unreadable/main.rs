//! Files of a database that the card does not give back: what can be made again costs nothing, and what
//! cannot is told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;
mod sys;

use std::fs;
use std::path::{Path, PathBuf};

use storage::{GapReason, RecoveryEvent};
use support::damage::with_snapshot;
use support::template::{Copy, snapshots, template};
use sys::Unreadable;

/// As segments are made.
const SEGMENT_OF_SLED: usize = 1024 * 1024;
/// As the metadata are made.
const METADATA_OF_SLED: usize = 512 * 1024;

/// A database of a copy, and how it is called when something is wrong.
struct Case {
    what: &'static str,
    copy: Copy,
    database: PathBuf,
}

/// The metadata, the segment that was written to, and sealed ones; each in a copy of its own. Those that
/// no start reads are read by readers.
fn cases() -> Vec<Case> {
    let active = template().active();
    let segments = [
        ("segment that was written to", active),
        ("newest sealed segment", active - 1),
        ("sealed segment in the middle", 1),
    ];
    let case = |what, of: &dyn Fn(&Copy) -> PathBuf| {
        let copy = template().copy();
        let database = of(&copy);
        Case {
            what,
            copy,
            database,
        }
    };
    let mut cases = vec![case("metadata", &Copy::metadata)];
    with_snapshot(&cases[0].database, METADATA_OF_SLED);
    for (what, number) in segments {
        let case = case(what, &|copy| copy.segment(number));
        with_snapshot(&case.database, SEGMENT_OF_SLED);
        cases.push(case);
    }
    cases
}

fn costs_nothing(file: fn(&Path) -> PathBuf) {
    for Case {
        what,
        copy,
        database,
    } in cases()
    {
        let unreadable = Unreadable::new(&file(&database));
        let outcome = copy.check(&[], false);
        assert!(unreadable.attempts() > 0, "{what}: it was not read");
        assert_eq!(outcome.events, [], "{what}");
        assert_eq!((outcome.missing, outcome.ledger), (0, 0), "{what}");
        assert!(!outcome.leapt, "{what}: {outcome:?}");
        assert_eq!(copy.quarantined(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn snapshot_that_cannot_be_read_costs_nothing() {
    costs_nothing(|database| snapshots(database)[0].clone());
}

#[test]
fn configuration_that_cannot_be_read_costs_nothing() {
    costs_nothing(|database| database.join("conf"));
}

/// Neither a start nor a reader may wait for such a card for ever.
#[test]
fn snapshot_and_file_that_cannot_be_read_are_put_aside_or_a_gap() {
    let active = template().active();
    for number in [active, 1] {
        let copy = template().copy();
        let database = copy.segment(number);
        with_snapshot(&database, SEGMENT_OF_SLED);
        let length = fs::metadata(database.join("db")).unwrap().len();
        let files = [snapshots(&database)[0].clone(), database.join("db")];
        let _unreadable = files.map(|file| Unreadable::new(&file));
        let outcome = copy.check(&[number], false);
        assert!(outcome.missing > 0, "{number}: {outcome:?}");
        let aside = copy.path().join("quarantine");
        let aside = aside.join(&template().segments[number].name);
        if number == active {
            let told = |event: &RecoveryEvent| {
                matches!(event, RecoveryEvent::SegmentQuarantined { reason, .. }
                    if reason.contains("cannot be read"))
            };
            assert!(outcome.events.iter().any(told), "{outcome:?}");
            assert_eq!(fs::metadata(aside.join("db")).unwrap().len(), length);
        } else {
            assert_eq!(outcome.reasons, [GapReason::Quarantine], "{outcome:?}");
            // It may be readable elsewhere.
            assert_eq!(fs::metadata(database.join("db")).unwrap().len(), length);
        }
    }
}
