//! Retention where it meets the index, the journal and the evacuator.

use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::clock::RELEASE_TIME_MS;
use crate::clock::fake::{FakeClock, Times};
use crate::evacuation::Run;
use crate::ids::PartitionId;
use crate::logs::LogOptions;
use crate::message::Message;
use crate::retention::Keeps;
use crate::segment_name::SegmentName;
use crate::store::{SEGMENT_BYTES_MIN, Store, StoreOptions, StoreThreads};

const HOUR: Duration = Duration::from_secs(3600);

fn options(evacuation_bytes_per_second: u64) -> StoreOptions {
    StoreOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        evacuation_bytes_per_second,
        ..StoreOptions::default()
    }
}

fn open(folder: &Path, names: &[&str]) -> (Store, StoreThreads) {
    let logs: Vec<_> = names.iter().map(|name| LogOptions::new(name, 1)).collect();
    // No evacuation but what a test orders.
    Store::open(folder, options(0), &logs).unwrap()
}

/// Appends so many records of 10 kB to the log `a`.
fn append(store: &Store, records: usize) {
    let log = store.log("a").unwrap().id;
    for _ in 0..records {
        let message = Message {
            topic: "t".into(),
            payload: vec![7; 10_000].into(),
            ..Message::default()
        };
        let commit = store.append(log, b"k", &message).unwrap().commit;
        store.wait_durable(commit).unwrap();
    }
}

fn partition(store: &Store) -> LogPartition {
    store.log("a").unwrap().partitions().next().unwrap()
}

fn first_sealed(shared: &Shared) -> (SegmentId, SegmentRecord) {
    let index = shared.segments.index();
    let (id, record) = index.sealed.first_key_value().unwrap();
    (*id, SegmentRecord::clone(record))
}

/// A folder with one sealed segment of so many records.
fn sealed(records: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &["a"]);
    append(&store, records);
    threads.close();
    folder
}

#[test]
fn plan_is_made_again_when_segments_change_or_the_active_one_grows() {
    let folder = sealed(1);
    let (store, threads) = open(folder.path(), &["a"]);
    let shared = store.shared();
    let before = planned_of(&shared, None);
    let (id, record) = first_sealed(&shared);
    shared.segments.replace(id, record);
    let changed = planned_of(&shared, None);
    assert_ne!(changed, before, "a segment");
    append(&store, 20);
    assert_ne!(planned_of(&shared, None), changed, "growth");
    threads.close();
}

#[test]
fn active_segment_is_not_the_newest_that_stays_for_its_journal() {
    let folder = sealed(1);
    let (store, threads) = open(folder.path(), &["a"]);
    append(&store, 1);
    let shared = store.shared();
    let start = Operation::LogStart {
        partition: partition(&store),
        offset: Offset(2),
    };
    shared
        .state()
        .operate(start, Instant::now(), Duration::ZERO);
    shared.wake_committer();
    append(&store, 1);
    assert_eq!(starts_of(&shared)[&partition(&store)], Offset(2));
    let planned = plan(&shared, None, &mut AgeClock::default());
    assert_eq!(planned, Plan::default());
    threads.close();
}

/// The copy would stand for records that the index knows no more of.
#[test]
fn segment_that_is_being_copied_is_not_removed() {
    let folder = sealed(70);
    let (store, threads) = open(folder.path(), &["a"]);
    let shared = store.shared();
    let (id, _) = first_sealed(&shared);
    let source = SegmentName::written(id);
    // After half a MiB it waits for the end.
    shared.evacuations.order(Run {
        sources: vec![source],
        target: SegmentName {
            generation: 1,
            ..source
        },
        live_bytes: 0,
    });
    assert!(shared.evacuations.holds(id));
    remove(&shared, id).unwrap();
    assert!(shared.segments.index().sealed.contains_key(&id));
    assert!(source.path(&shared.segments_path()).is_dir());
    threads.close();
}

#[test]
fn nothing_is_given_up_while_somebody_only_looks_at_the_folder() {
    let folder = sealed(1);
    let starts = |store: &Store| {
        let shared = store.shared();
        let (id, mut record) = first_sealed(&shared);
        // More than a log keeps that the configuration does not name.
        record.partitions[0].bytes = 2 << 30;
        shared.segments.replace(id, record);
        plan(&shared, None, &mut AgeClock::default()).starts
    };
    let (store, threads) = Store::open_existing(folder.path(), options(0)).unwrap();
    assert_eq!(starts(&store), []);
    threads.close();
    drop(store);
    let (store, threads) = open(folder.path(), &["other"]);
    assert_eq!(starts(&store), [(partition(&store), Offset(1))]);
    threads.close();
}

/// Only such segments go slowly, and each that is counted makes the others wait.
#[test]
fn segment_is_made_old_by_a_step_alone_and_only_for_a_log_with_records_there() {
    let partition = LogPartition {
        log: LogId(1),
        partition: PartitionId(0),
    };
    let mut record = SegmentRecord::created();
    record.partitions.push(crate::metadata::SegmentPartition {
        partition,
        base_offset: Offset(10),
        next_offset: Offset(20),
        bytes: 100,
    });
    for (certain, believed, limit, start, expected) in [
        (1, 5, Some(3), 0, true),
        (3, 5, Some(3), 19, true),
        (1, 3, Some(3), 0, false),
        (4, 5, Some(3), 0, false),
        (4, 4, Some(3), 0, false),
        (1, 5, Some(3), 20, false),
        (1, 5, None, 0, false),
    ] {
        let age = RecordAge {
            certain: certain * HOUR,
            believed: believed * HOUR,
        };
        let need = Need {
            bytes: u64::MAX,
            age: limit.map(|hours: u32| hours * HOUR),
            keeps: Keeps::Nothing,
        };
        let found = is_made_old(&record, age, |_| need, |_| Offset(start));
        assert_eq!(found, expected, "{age:?} {limit:?} {start}");
    }
}

/// What was written after a month switched off makes nothing that was written before certainly older,
/// and is itself as old as it is; also where two boots look like one.
#[test]
fn records_of_this_boot_say_nothing_of_the_time_that_it_was_off() {
    for boot in [2, 0] {
        let clock = Arc::new(FakeClock(Mutex::new(Times {
            boot: boot / 2,
            since_boot_ms: 5000,
            wall_ms: RELEASE_TIME_MS + 1000,
            error_ms: Some(5),
        })));
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let options = StoreOptions {
                clock: clock.clone(),
                ..options(0)
            };
            Store::open(folder.path(), options, &[LogOptions::new("a", 1)]).unwrap()
        };
        let (store, threads) = open();
        append(&store, 1);
        threads.close();
        drop(store);
        clock.set(|times| {
            times.boot = boot;
            times.wall_ms += 30 * 24 * 3_600_000;
        });
        let (store, threads) = open();
        append(&store, 1);
        let pass = Duration::from_secs(60);
        clock.set(|times| {
            times.since_boot_ms += 60_000;
            times.wall_ms += 60_000;
        });
        let shared = store.shared();
        let mut retaining = Retaining::default();
        let records = [
            first_sealed(&shared).1,
            shared.segments.index().active.1.clone(),
        ];
        let ages = certain_ages(&shared, &mut retaining, &records);
        assert_eq!(
            ages,
            [Some(pass + Duration::from_secs(5)), Some(pass)],
            "boot {boot}"
        );
        threads.close();
    }
}
