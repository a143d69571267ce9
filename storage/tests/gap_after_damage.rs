//! Damage in a sealed segment takes from the readers of a partition what it lies before, and nothing
//! that it lies behind.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::ops::Range;
use std::path::{Path, PathBuf};

use storage::{
    GapReason, LogOptions, LogPartition, Offset, Read, Store, StoreOptions, StoreThreads,
};
use support::evacuated_folder::{Harm, harm_commit};
use support::halves::{directories, partition};
use support::template::read_with_gaps;
use support::{append_many, options};

/// Commits of the log `little` in each of its three segments, a record each.
const LITTLE: usize = 20;
/// Records of the log `much` that are waited for together: a commit at least.
const MUCH: usize = 20;
/// A commit of `much` in the first segment: behind all of `little` in it, before `once`.
const DAMAGED: usize = 30;

/// Segments stay as they are written.
fn open_still(folder: &Path) -> (Store, StoreThreads) {
    let options = StoreOptions {
        evacuation_bytes_per_second: 0,
        ..options()
    };
    let logs = ["little", "much", "once"].map(|name| LogOptions::new(name, 1));
    Store::open(folder, options, &logs).unwrap()
}

/// `little` in the first segment, then `much` up to somewhere in the next one, and so three times;
/// `once` in the first one, behind the damage.
fn filled() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open_still(folder.path());
    for round in 0..3 {
        for number in round * LITTLE..(round + 1) * LITTLE {
            append_many(&store, "little", number..number + 1, 10);
        }
        for first in (round * 1500..(round + 1) * 1500).step_by(MUCH) {
            append_many(&store, "much", first..first + MUCH, 1000);
            if first == DAMAGED * MUCH {
                append_many(&store, "once", 0..3, 10);
            }
        }
    }
    threads.close();
    let names = directories(folder.path()).into_iter();
    let segments = names.map(|name| folder.path().join("log").join(name));
    let segments = segments.collect();
    (folder, segments)
}

/// Reads a commit at a time, as one who follows the log does; gives what was found and the gaps.
fn read_slowly(store: &Store, partition: LogPartition) -> (Vec<u64>, Vec<Range<u64>>) {
    let mut reader = store.partition_reader(partition, Offset(0));
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match reader.read(1).unwrap() {
            Read::UpToDate => return (found, gaps),
            Read::Gap { from, to, reason } => {
                assert_eq!(reason, GapReason::Quarantine);
                gaps.push(from.0..to.0);
            }
            Read::Batches(batches) => {
                let records = batches.iter().flat_map(|stored| stored.batch.records());
                found.extend(records.map(|record| u64::try_from(record.unwrap().offset).unwrap()));
            }
        }
    }
}

fn whole(records: usize) -> Vec<u64> {
    (0..records as u64).collect()
}

#[test]
fn damage_behind_the_last_record_of_a_partition_takes_nothing_from_it() {
    let (folder, segments) = filled();
    // Behind the snapshot, the commits of `little` and some of `much`.
    harm_commit(&segments[0], DAMAGED, &Harm::Damage);
    let (store, threads) = open_still(folder.path());
    assert_eq!(store.recovery_events(), []);
    let (found, gaps) = read_slowly(&store, partition(&store, "little"));
    assert_eq!(gaps, []);
    assert_eq!(found, whole(3 * LITTLE));
    // The other one loses what is behind the damage in that segment, to the record.
    let much = partition(&store, "much");
    let (found, gaps) = read_slowly(&store, much);
    let [gap] = &gaps[..] else {
        panic!("{gaps:?}");
    };
    assert!(gap.start > 0 && gap.end < 1500, "{gap:?}");
    let written = whole(3 * 1500);
    let missing: Vec<_> = written.into_iter().filter(|n| !found.contains(n)).collect();
    assert_eq!(missing, gap.clone().collect::<Vec<_>>());
    // The same for one who takes as much as there is.
    let (quick, gaps) = read_with_gaps(&store, much);
    assert_eq!(quick.into_keys().collect::<Vec<_>>(), found);
    assert_eq!(gaps, [(gap.start, gap.end, GapReason::Quarantine)]);
    threads.close();
}

/// Then what is lost ends where the partition goes on, and not at its end.
#[test]
fn damage_before_records_of_a_partition_takes_them_and_no_others() {
    let (folder, segments) = filled();
    harm_commit(&segments[0], LITTLE / 2, &Harm::Damage);
    let (store, threads) = open_still(folder.path());
    let (found, gaps) = read_slowly(&store, partition(&store, "little"));
    let [gap] = &gaps[..] else {
        panic!("{gaps:?}");
    };
    assert_eq!(gap.end, LITTLE as u64, "{gap:?}");
    let kept = whole(3 * LITTLE).into_iter().filter(|n| !gap.contains(n));
    assert_eq!(found, kept.collect::<Vec<_>>());
    threads.close();
}

/// Then there is no other segment that says where it goes on.
#[test]
fn partition_of_which_all_is_behind_the_damage_is_a_gap() {
    let (folder, segments) = filled();
    harm_commit(&segments[0], DAMAGED, &Harm::Damage);
    let (store, threads) = open_still(folder.path());
    let once = partition(&store, "once");
    let told = |(found, gaps): (Vec<u64>, Vec<Range<u64>>)| {
        let gaps: Vec<_> = gaps.iter().map(|gap| (gap.start, gap.end)).collect();
        (found, gaps)
    };
    assert_eq!(told(read_slowly(&store, once)), (vec![], vec![(0, 3)]));
    let at = support::append(&store, "once", "k", "goes on");
    store.wait_durable(at.commit).unwrap();
    assert_eq!(told(read_slowly(&store, once)), (vec![3], vec![(0, 3)]));
    threads.close();
}
