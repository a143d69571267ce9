//! Ends that sled cuts off without a word: of segments that others follow, and of the newest one when
//! it is sealed. What is missing then is known from what comes after, from the index, or from MARK.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::Path;

use storage::RecoveryEvent;
use support::damage::{cut, length};
use support::open;
use support::template::{Copy, Outcome, exact_losses, logs, snapshots, template};

/// Takes the end of a database away, and what would tell sled that there was one.
fn cut_silently(database: &Path, bytes: u64) {
    for snapshot in snapshots(database) {
        fs::remove_file(snapshot).unwrap();
    }
    let file = database.join("db");
    assert!(length(&file) > bytes);
    cut(&file, bytes);
}

fn cut_events(outcome: &Outcome) -> usize {
    let is_cut = |event: &&RecoveryEvent| matches!(event, RecoveryEvent::SegmentCut { .. });
    outcome.events.iter().filter(is_cut).count()
}

fn forget_metadata(copy: &Copy) {
    fs::remove_dir_all(copy.metadata()).unwrap();
}

/// Without the metadata every segment is read, as are those that a crash left unsealed.
#[test]
fn end_that_is_missing_before_a_whole_segment_is_in_the_ledger() {
    for cut_segments in [vec![0], vec![1], vec![0, 2], vec![1, 2]] {
        for bytes in [400_000, 900_000] {
            let copy = template().copy();
            forget_metadata(&copy);
            for segment in &cut_segments {
                cut_silently(&copy.segment(*segment), bytes);
            }
            let outcome = copy.check(&cut_segments, true);
            assert!(outcome.missing > 0, "{outcome:?}");
            assert_eq!(outcome.ledger, outcome.missing, "{outcome:?}");
            assert!(!outcome.leapt, "{outcome:?}");
            assert_eq!(cut_events(&outcome), cut_segments.len(), "{outcome:?}");
        }
    }
}

#[test]
fn end_that_is_missing_before_a_lost_segment_is_in_the_ledger_too() {
    let copy = template().copy();
    cut_silently(&copy.segment(1), 600_000);
    fs::remove_dir_all(copy.segment(2)).unwrap();
    let outcome = copy.check(&[1, 2], false);
    assert_eq!(outcome.ledger, outcome.missing, "{outcome:?}");
    assert!(!outcome.leapt, "{outcome:?}");
}

/// The index knows how far a sealed segment went, and the log must not begin before that.
#[test]
fn sealed_end_that_is_missing_leaps() {
    for bytes in [0, 100_000] {
        let copy = template().copy();
        // So that the last segment is sealed, and the one after it empty.
        for _ in 0..2 {
            let (_store, threads) = open(copy.path(), &logs());
            threads.close();
        }
        let active = template().active();
        cut_silently(&copy.segment(active), bytes);
        fs::remove_file(copy.path().join("MARK")).unwrap();
        let outcome = copy.check(&[active], false);
        assert!(outcome.missing > 0 && outcome.leapt, "{outcome:?}");
        assert!(!outcome.events.is_empty(), "{outcome:?}");
    }
}

/// The next start, with the metadata lost as well, meets the same gap again.
#[test]
fn loss_that_is_in_the_ledger_is_not_counted_again() {
    let copy = template().copy();
    fs::remove_dir_all(copy.segment(1)).unwrap();
    let outcome = copy.check(&[1], false);
    assert!(outcome.missing > 0 && outcome.ledger == outcome.missing);
    forget_metadata(&copy);
    let (store, threads) = open(copy.path(), &logs());
    assert_eq!(exact_losses(&store), outcome.ledger, "{:?}", store.gaps());
    assert_eq!(store.recovery_events(), [RecoveryEvent::MetadataMissing]);
    threads.close();
}
