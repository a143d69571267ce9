//! A sealed segment that is so damaged that it cannot be opened: a gap for whoever reads it, from
//! wherever it begins.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;

use storage::{GapReason, Offset, Read};
use support::open;
use support::template::{logs, template};

#[test]
fn reader_that_begins_inside_of_it_is_told_of_a_gap_up_to_the_next_segment() {
    let copy = template().copy();
    let segment = copy.segment(1);
    // sled has a directory of this name.
    fs::remove_dir_all(segment.join("blobs")).unwrap();
    fs::write(segment.join("blobs"), b"").unwrap();
    let (store, threads) = open(copy.path(), &logs());
    for (partition, range) in template().offsets(1) {
        for begin in [range.start, range.start.midpoint(range.end), range.end - 1] {
            let mut reader = store.partition_reader(partition, Offset(begin));
            let mut found = reader.read(100_000).unwrap();
            // What lies before it in memory or in the segments is none of this partition's.
            while matches!(&found, Read::Batches(batches) if batches.is_empty()) {
                found = reader.read(100_000).unwrap();
            }
            let Read::Gap { from, to, reason } = found else {
                panic!("{partition} from {begin}: {found:?}");
            };
            assert_eq!(
                (from, to, reason),
                (Offset(begin), Offset(range.end), GapReason::Quarantine),
                "{partition}"
            );
        }
    }
    threads.close();
}
