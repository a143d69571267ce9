//! Readers are told of a loss as the gap ledger has it: the same offsets, the same reason.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;

use storage::GapReason;
use support::open;
use support::template::{logs, read_with_gaps, template};

/// Removes segments, and compares what readers are told with the ledger.
fn check(removed: &[usize], reasons: &[GapReason]) {
    let copy = template().copy();
    for segment in removed {
        fs::remove_dir_all(copy.segment(*segment)).unwrap();
    }
    let (store, threads) = open(copy.path(), &logs());
    let mut met = Vec::new();
    for log in store.logs() {
        for partition in log.partitions() {
            let ledger = store.gaps().into_iter();
            let ledger = ledger.filter(|gap| gap.partition == partition);
            let mut ledger: Vec<_> = ledger
                .map(|gap| (gap.from.0, gap.to.0, gap.reason))
                .collect();
            ledger.sort_unstable_by_key(|gap| gap.0);
            let (_, told) = read_with_gaps(&store, partition);
            assert_eq!(told, ledger, "{partition} without {removed:?}");
            met.extend(told.into_iter().map(|gap| gap.2));
        }
    }
    met.sort_unstable();
    met.dedup();
    assert_eq!(met, reasons, "without {removed:?}");
    threads.close();
}

#[test]
fn records_of_the_oldest_segments_are_not_said_to_be_taken_by_retention() {
    check(&[0], &[GapReason::Quarantine]);
    check(&[0, 1], &[GapReason::Quarantine]);
}

#[test]
fn records_that_are_missing_in_the_middle_and_at_the_end_are_told_as_the_ledger_has_them() {
    check(&[1], &[GapReason::Quarantine]);
    let active = template().active();
    check(&[1, active], &[GapReason::Quarantine, GapReason::LostEnd]);
    check(&[active], &[GapReason::LostEnd]);
}
