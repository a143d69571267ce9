//! Damage in the metadata database: whatever it is, the segments have what it was to say.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::Path;

use storage::{LogOptions, Message, Offset, RecoveryEvent, Store, StoreOptions};
use support::damage::{Damage, HARMLESS, cut, length, with_snapshot, zero_block};
use support::template::{BLOCK, Copy, Outcome, copy_all, logs, names, snapshots, template};
use support::{append, append_many, log_of, open, wait_for};

/// sled's own segments in the metadata.
const SLED_SEGMENT: usize = 512 * 1024;

/// Every how manyth block the sweep damages; `TIDEGATE_SWEEP=1`: each one.
fn stride() -> usize {
    let chosen = std::env::var("TIDEGATE_SWEEP").ok();
    chosen.and_then(|stride| stride.parse().ok()).unwrap_or(11)
}

/// A copy whose metadata has a snapshot, or none.
fn prepared(has_snapshot: bool) -> Copy {
    let copy = template().copy();
    with_snapshot(&copy.metadata(), SLED_SEGMENT);
    if !has_snapshot {
        fs::remove_file(&snapshots(&copy.metadata())[0]).unwrap();
    }
    copy
}

/// Nothing may be missing: all of it stands in the segments, too.
fn judge(copy: &Copy, what: &str) -> Outcome {
    let outcome = copy.check(&[], false);
    assert!(!outcome.leapt, "{what}: {outcome:?}");
    outcome
}

#[test]
fn damaged_snapshot_or_configuration_or_leftover_costs_nothing() {
    for (what, damage) in HARMLESS {
        let copy = prepared(true);
        damage(&copy.metadata());
        let outcome = judge(&copy, what);
        assert_eq!(outcome.events, [], "{what}");
    }
}

#[test]
fn zeroed_block_loses_nothing() {
    let mut made_again = 0;
    let mut cases = 0;
    for has_snapshot in [true, false] {
        let database = prepared(has_snapshot).metadata().join("db");
        let blocks = length(&prepared(has_snapshot).metadata().join("db"));
        let blocks = usize::try_from(blocks).unwrap() / BLOCK;
        drop(database);
        for block in (0..blocks).step_by(stride()) {
            let copy = prepared(has_snapshot);
            zero_block(&copy.metadata().join("db"), block);
            let outcome = judge(&copy, &format!("block {block}, snapshot {has_snapshot}"));
            made_again += usize::from(!outcome.events.is_empty());
            cases += 1;
        }
    }
    println!("{cases} cases, {made_again} times made again");
}

/// Their segment was sealed long ago: the start has to notice that the index knows less than before.
#[test]
fn damaged_page_of_retained_messages_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    for number in 0..200 {
        let message = Message {
            topic: format!("topic-{number:04}").into(),
            client_id: "c".into(),
            payload: vec![b'x'; 500].into(),
            retain: true,
            ..Message::default()
        };
        let at = store.append(log_of(&store, "a"), b"c", &message).unwrap();
        store.wait_durable(at.commit).unwrap();
    }
    threads.close();
    drop(store);
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(store.take_recovered_retained().len(), 200);
    threads.close();
    drop(store);

    let metadata = folder.path().join("meta");
    with_snapshot(&metadata, SLED_SEGMENT);
    let mut bytes = fs::read(metadata.join("db")).unwrap();
    let needle = b"topic-0100";
    let places: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(needle))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + needle.len()].fill(0);
    }
    fs::write(metadata.join("db"), bytes).unwrap();

    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(store.take_recovered_retained().len(), 200);
    threads.close();
}

#[test]
fn cut_or_zeroed_tail_loses_nothing() {
    for has_snapshot in [true, false] {
        for part in [1, 20, 4096, 10_000, 100_001] {
            for zeroed in [false, true] {
                let copy = prepared(has_snapshot);
                let file = copy.metadata().join("db");
                let whole = length(&file);
                if whole <= part {
                    continue;
                }
                cut(&file, part);
                if zeroed {
                    cut(&file, whole);
                }
                judge(
                    &copy,
                    &format!("from {part}, snapshot {has_snapshot}, zeroed {zeroed}"),
                );
            }
        }
    }
}

const FATAL: [Damage; 6] = [
    ("db missing", |database| {
        fs::remove_file(database.join("db")).unwrap();
    }),
    ("db empty", |database| cut(&database.join("db"), 0)),
    ("db garbage", |database| {
        fs::write(database.join("db"), vec![0xa5; 600_000]).unwrap();
    }),
    ("db a directory", |database| {
        fs::remove_file(database.join("db")).unwrap();
        fs::create_dir(database.join("db")).unwrap();
    }),
    ("directory missing", |database| {
        fs::remove_dir_all(database).unwrap();
    }),
    ("a file in the place of the directory", |database| {
        fs::remove_dir_all(database).unwrap();
        fs::write(database, "not a database").unwrap();
    }),
];

#[test]
fn lost_metadata_is_made_again() {
    for has_snapshot in [true, false] {
        for (what, damage) in FATAL {
            let copy = prepared(has_snapshot);
            damage(&copy.metadata());
            let outcome = judge(&copy, what);
            let told: Vec<_> = outcome.events.iter().map(kind).collect();
            assert_eq!(
                told,
                ["metadata"],
                "{what}, snapshot {has_snapshot}: {outcome:?}"
            );
        }
    }
}

/// An index that fell back to an earlier state names segments that retention has removed since: no
/// record is lost by that.
#[test]
fn index_of_an_earlier_state_makes_no_gap_of_what_retention_took() {
    let folder = tempfile::tempdir().unwrap();
    let small = LogOptions {
        retention_bytes: 2 << 20,
        ..LogOptions::new("a", 1)
    };
    let small = [small];
    // A copy of a segment would stand for it, whatever the index says.
    let options = || StoreOptions {
        evacuation_bytes_per_second: 0,
        ..support::options()
    };
    let open_here = || Store::open(folder.path(), options(), &small).unwrap();
    let (store, threads) = open_here();
    append_many(&store, "a", 0..3000, 1000);
    threads.close();
    drop(store);
    let earlier = tempfile::tempdir().unwrap();
    copy_all(&folder.path().join("meta"), earlier.path());

    let (store, threads) = open_here();
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    append_many(&store, "a", 3000..9000, 1000);
    wait_for("retention", || store.log_start(partition) > Offset(4000));
    let segments = || names(&folder.path().join("log"));
    wait_for("removed segments", || {
        !segments().contains(&"0000000002".to_owned())
    });
    threads.close();
    drop(store);
    fs::remove_dir_all(folder.path().join("meta")).unwrap();
    copy_all(earlier.path(), &folder.path().join("meta"));

    let (store, threads) = open_here();
    let is_missing = |event: &RecoveryEvent| matches!(event, RecoveryEvent::SegmentMissing { .. });
    assert!(store.recovery_events().iter().any(is_missing));
    assert_eq!(store.gaps(), []);
    let at = append(&store, "a", "k", "goes on");
    assert_eq!(at.offset, Offset(9000), "nothing leaps");
    threads.close();
}

#[test]
fn metadata_and_segments_damaged_together_are_accounted_for() {
    let active = template().active();
    for segment in [1, active - 1, active] {
        for (what, damage) in FATAL {
            let copy = prepared(false);
            damage(&copy.metadata());
            garbage(&copy.segment(segment).join("db"));
            for path in snapshots(&copy.segment(segment)) {
                fs::remove_file(path).unwrap();
            }
            let outcome = copy.check(&[segment], true);
            assert!(
                outcome.missing > 0,
                "{what}, segment {segment}: {outcome:?}"
            );
            assert_eq!(
                outcome.leapt,
                segment == active,
                "{what}, segment {segment}: {outcome:?}"
            );
        }
    }
}

fn garbage(file: &Path) {
    let bytes = usize::try_from(length(file)).unwrap();
    fs::write(file, vec![0xa5; bytes]).unwrap();
}

fn kind(event: &RecoveryEvent) -> &'static str {
    match event {
        RecoveryEvent::MetadataQuarantined { .. } | RecoveryEvent::MetadataMissing => "metadata",
        _ => "other",
    }
}
