//! The store as its users see it: append, read, reopen, roll, retain.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use storage::{
    AppendError, CommitNumber, EraId, Fingerprint, Gap, GapReason, Health, JournalKey, JournalKind,
    LogOptions, LogPartition, Message, Offset, PartitionId, Read, Store, StoreOptions, TimeQuality,
    fence,
};
use support::{
    FakeClock, append, append_many, log_of, open, options, read_all, read_from, wait_for,
};

#[test]
fn records_come_back_in_order_with_dense_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 4)]);
    let mut expected: BTreeMap<PartitionId, Vec<(u64, String)>> = BTreeMap::new();
    for number in 0..1000 {
        let key = format!("device-{}", number % 17);
        let payload = format!("payload {number}");
        let at = append(&store, "a", &key, &payload);
        let records = expected.entry(at.partition.partition).or_default();
        assert_eq!(at.offset, Offset(records.len() as u64), "dense");
        records.push((at.offset.0, payload));
    }
    store
        .wait_durable(append(&store, "a", "x", "last").commit)
        .unwrap();
    for partition in store.log("a").unwrap().partitions() {
        let mut found = read_all(&store, partition);
        found.retain(|(_, payload)| payload != "last");
        assert_eq!(
            found,
            expected.remove(&partition.partition).unwrap_or_default()
        );
    }
    threads.close();
}

#[test]
fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let key = JournalKey::new(JournalKind::BridgeRoute, b"r");
    let incarnation = {
        let (store, threads) = open(folder.path(), &[LogOptions::new("a", 1)]);
        append_many(&store, "a", 0..100, 50);
        store
            .put_journal_entry(key.clone(), Some(vec![1, 2]), Duration::from_secs(60))
            .unwrap();
        let retained = Message {
            topic: "t".into(),
            client_id: "c".into(),
            payload: "kept".into(),
            retain: true,
            ..Message::default()
        };
        store.append(log_of(&store, "a"), b"c", &retained).unwrap();
        threads.close();
        store.incarnation()
    };
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 1)]);
    assert_eq!(store.recovery_events(), []);
    assert_eq!(store.incarnation(), incarnation);
    assert_eq!(store.journal_entry(&key), Some(vec![1, 2]));
    let retained = store.take_recovered_retained();
    assert_eq!(retained.len(), 1);
    assert_eq!(
        (&*retained[0].message.topic, &*retained[0].message.payload),
        (&b"t"[..], &b"kept"[..])
    );
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    assert_eq!(read_all(&store, partition).len(), 101);
    assert_eq!(append(&store, "a", "k", "next").offset, Offset(101));
    threads.close();
}

#[test]
fn retained_message_outlives_its_segment_and_goes_when_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let small = LogOptions {
        retention_bytes: 2 << 20,
        ..LogOptions::new("a", 1)
    };
    let retain = |store: &Store, topic: &'static str, payload: &'static str| {
        let message = Message {
            topic: topic.into(),
            client_id: "c".into(),
            payload: payload.into(),
            retain: true,
            ..Message::default()
        };
        store.append(log_of(store, "a"), b"c", &message).unwrap();
    };
    {
        let (store, threads) = open(folder.path(), std::slice::from_ref(&small));
        retain(&store, "kept", "old");
        retain(&store, "cleared", "x");
        append_many(&store, "a", 0..1500, 1000);
        retain(&store, "kept", "new");
        retain(&store, "cleared", "");
        append_many(&store, "a", 0..6000, 1000);
        let partition = store.log("a").unwrap().partitions().next().unwrap();
        wait_for("retention", || store.log_start(partition) > Offset(1600));
        threads.close();
    }
    let (store, threads) = open(folder.path(), &[small]);
    let retained = store.take_recovered_retained();
    let found: Vec<_> = retained
        .iter()
        .map(|r| {
            (
                String::from_utf8_lossy(&r.message.topic),
                String::from_utf8_lossy(&r.message.payload),
            )
        })
        .collect();
    assert_eq!(found, [("kept".into(), "new".into())]);
    threads.close();
}

#[test]
fn reader_starts_anywhere_in_a_rolled_log() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 3)]);
    append_many(&store, "a", 0..12_000, 500);
    assert!(store.status().segments > 4, "{:?}", store.status());
    for partition in store.log("a").unwrap().partitions() {
        let all = read_all(&store, partition);
        let end = store.high_watermark(partition).0;
        assert_eq!(all.len() as u64, end);
        for from in [0, 1, end / 7, end / 3, end / 2, end - 1, end] {
            let found = read_from(&store, partition, from);
            assert_eq!(found, all[usize::try_from(from).unwrap()..], "from {from}");
        }
    }
    let mut commits = store.commit_reader(CommitNumber(1));
    let (mut records, mut last) = (0, CommitNumber(0));
    loop {
        let read = commits.read(100_000).unwrap();
        if read.is_empty() && commits.next_commit() > store.durable() {
            break;
        }
        for commit in read {
            assert_eq!(commit.number(), last.next());
            last = commit.number();
            records += commit
                .batches()
                .map(|b| b.next_offset.since(b.base_offset))
                .sum::<u64>();
        }
    }
    assert_eq!((records, last), (12_000, store.durable()));
    threads.close();
}

#[test]
fn log_over_its_bytes_loses_whole_segments_and_the_reader_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let small = LogOptions {
        retention_bytes: 3 << 20,
        ..LogOptions::new("small", 1)
    };
    let (store, threads) = open(folder.path(), &[small, LogOptions::new("large", 1)]);
    append_many(&store, "large", 0..10, 10);
    append_many(&store, "small", 0..9000, 1000);
    let small = store.log("small").unwrap().partitions().next().unwrap();
    let large = store.log("large").unwrap().partitions().next().unwrap();
    wait_for("retention", || store.log_start(small) > Offset(4000));
    wait_for("removal", || store.status().bytes < 6 << 20);
    assert_eq!(store.log_start(large), Offset(0));
    assert_eq!(
        read_all(&store, large).len(),
        10,
        "another log keeps its segment"
    );

    // Retention goes on in rounds: what is read and where the log starts belong together only if it did
    // not move meanwhile.
    wait_for("a reading with no retention in it", || {
        let start = store.log_start(small);
        let found = read_behind_gap(&store, small);
        if store.log_start(small) != start {
            return false;
        }
        let kept = store.high_watermark(small).since(start);
        assert_eq!(found, (start, kept));
        true
    });
    let oldest = store.status().oldest_segment.unwrap();
    let names: Vec<_> = oldest.logs.iter().map(|log| &log.name).collect();
    assert_eq!(names, ["large"]);
    threads.close();
}

/// Where the gap at the start of a log ends for a reader, and how many records it is given behind it.
fn read_behind_gap(store: &Store, partition: LogPartition) -> (Offset, u64) {
    let mut reader = store.partition_reader(partition, Offset(5));
    let Read::Gap { from, to, reason } = reader.read(1000).unwrap() else {
        panic!("no gap")
    };
    assert_eq!((from, reason), (Offset(5), GapReason::Retention));
    assert_eq!(reader.next_offset(), to);
    let mut records = 0;
    while let Read::Batches(batches) = reader.read(50_000).unwrap() {
        let batches = batches.iter().map(|stored| stored.batch.records().count());
        records += batches.sum::<usize>() as u64;
    }
    (to, records)
}

#[test]
fn age_removes_records_of_a_known_clock_only() {
    for known in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let clock = FakeClock::new();
        if known {
            clock.set(|times| times.error_ms = Some(5));
        }
        let options = StoreOptions {
            clock: clock.clone(),
            ..options()
        };
        let log = LogOptions {
            retention_age: Some(Duration::from_secs(3600)),
            ..LogOptions::new("a", 1)
        };
        let (store, threads) = Store::open(folder.path(), options, &[log]).unwrap();
        append_many(&store, "a", 0..3000, 1000);
        clock.set(|times| times.pass(Duration::from_secs(2 * 3600)));
        append_many(&store, "a", 0..10, 10);
        let partition = store.log("a").unwrap().partitions().next().unwrap();
        if known {
            wait_for("age retention", || {
                store.log_start(partition) > Offset(1500)
            });
        } else {
            std::thread::sleep(Duration::from_millis(1200));
            assert_eq!(store.log_start(partition), Offset(0));
        }
        threads.close();
    }
}

#[test]
fn times_are_corrected_once_the_clock_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    clock.set(|times| times.wall_ms = 1000);
    let options = StoreOptions {
        clock: clock.clone(),
        ..options()
    };
    let (store, threads) = Store::open(folder.path(), options, &[LogOptions::new("a", 1)]).unwrap();
    append_many(&store, "a", 0..1, 10);
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    let Read::Batches(batches) = store
        .partition_reader(partition, Offset(0))
        .read(1)
        .unwrap()
    else {
        panic!("no batch")
    };
    let (era, stamped) = (batches[0].era, batches[0].batch.header().max_timestamp_ms);
    let unknown = store.era(era).unwrap().corrected(stamped);
    assert_eq!(unknown.quality, TimeQuality::Estimated);
    assert!(unknown.ms >= storage::RELEASE_TIME_MS, "1970 is no time");

    let real = storage::RELEASE_TIME_MS + 1_000_000_000;
    clock.set(|times| {
        times.wall_ms = real;
        times.error_ms = Some(3);
    });
    wait_for("the clock", || store.era(era).unwrap().correction.is_some());
    let known = store.era(era).unwrap().corrected(stamped);
    assert_eq!((known.ms, known.quality), (real, TimeQuality::Synced));
    threads.close();
}

/// The clock of a box without a battery begins in 1970, or where it was set to long ago.
#[test]
fn time_never_begins_before_the_newest_record_whatever_was_written_last() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let real = storage::RELEASE_TIME_MS + 1_000_000_000;
    let boot = |number: u8, wall_ms: i64| {
        clock.set(|times| {
            times.boot = number;
            times.since_boot_ms = 5000;
            times.wall_ms = wall_ms;
        });
        let options = StoreOptions {
            clock: clock.clone(),
            ..options()
        };
        Store::open(folder.path(), options, &[LogOptions::new("a", 1)]).unwrap()
    };
    let (store, threads) = boot(1, real);
    append_many(&store, "a", 0..1, 10);
    threads.close();
    drop(store);
    // A boot in which nobody publishes, but something is written down.
    let (store, threads) = boot(2, real + 1000);
    let key = JournalKey::new(JournalKind::BridgeRoute, b"r");
    let put = store.put_journal_entry(key, Some(vec![1]), Duration::ZERO);
    store.wait_durable(put.unwrap()).unwrap();
    threads.close();
    drop(store);
    let (store, threads) = boot(3, 0);
    assert!(
        store.now_ms() >= real,
        "{} is before {real}",
        store.now_ms()
    );
    threads.close();
}

#[test]
fn frozen_era_does_not_change_and_a_new_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let options = || StoreOptions {
        clock: clock.clone(),
        ..options()
    };
    let (store, threads) =
        Store::open(folder.path(), options(), &[LogOptions::new("a", 1)]).unwrap();
    append_many(&store, "a", 0..1, 10);
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    let first = support::eras(&store, partition)[0];
    let frozen_with = store.freeze_era(first).unwrap();
    store.wait_durable(frozen_with).unwrap();
    assert_eq!(store.freeze_era(first).unwrap(), frozen_with);
    let before = store.era(first).unwrap();
    clock.set(|times| {
        times.wall_ms += 5_000_000;
        times.error_ms = Some(3);
    });
    wait_for("a new era", || {
        append_many(&store, "a", 0..1, 10);
        support::eras(&store, partition).last() != Some(&first)
    });
    assert_eq!(store.era(first).unwrap(), before);
    assert_eq!(store.now().quality, TimeQuality::Synced);
    threads.close();
    drop(store);
    let (store, threads) =
        Store::open(folder.path(), options(), &[LogOptions::new("a", 1)]).unwrap();
    assert_eq!(store.era(first).unwrap(), before, "also on flash");
    assert_eq!(
        store.now().quality,
        TimeQuality::Synced,
        "the era of this boot goes on"
    );
    threads.close();
}

#[test]
fn eras_without_a_record_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let options = || StoreOptions {
        clock: clock.clone(),
        ..options()
    };
    let log = || LogOptions {
        retention_bytes: 2 << 20,
        ..LogOptions::new("a", 1)
    };
    let mut first = EraId(0);
    for boot in 1..=4 {
        clock.set(|times| times.boot = boot);
        let (store, threads) = Store::open(folder.path(), options(), &[log()]).unwrap();
        let partition = store.log("a").unwrap().partitions().next().unwrap();
        append_many(&store, "a", 0..3000, 1000);
        if boot == 1 {
            first = support::eras_kept(&store, partition)[0];
        }
        assert!(
            store
                .era(*support::eras_kept(&store, partition).last().unwrap())
                .is_some()
        );
        if boot == 4 {
            wait_for("the first era to go", || store.era(first).is_none());
        }
        threads.close();
    }
    let (store, threads) = Store::open(folder.path(), options(), &[log()]).unwrap();
    assert!(
        store.journal_entries(JournalKind::Era).len() <= 3,
        "on flash too"
    );
    threads.close();
}

#[test]
fn full_disk_refuses_messages_and_takes_them_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        free_space_reserve_bytes: u64::MAX / 4,
        ..options()
    };
    let (store, threads) = Store::open(folder.path(), options, &[LogOptions::new("a", 1)]).unwrap();
    assert!(
        matches!(store.health(), Health::DiskFull { .. }),
        "it is known before the first message: {:?}",
        store.health()
    );
    let refused = store
        .append(log_of(&store, "a"), b"k", &Message::default())
        .unwrap_err();
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    let key = JournalKey::new(JournalKind::BridgeRoute, b"r");
    let commit = store
        .put_journal_entry(key, Some(vec![1]), Duration::ZERO)
        .unwrap();
    store.wait_durable(commit).unwrap();
    threads.close();
}

#[test]
fn queue_in_front_of_the_committer_is_bounded_and_empties_when_it_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        queue_bytes_max: 100_000,
        ..options()
    };
    let slow = LogOptions {
        commit_within: Duration::from_secs(3600),
        ..LogOptions::new("a", 1)
    };
    let (store, threads) = Store::open(folder.path(), options, &[slow]).unwrap();
    let message = Message {
        payload: vec![1; 10_000].into(),
        ..Message::default()
    };
    let log = log_of(&store, "a");
    for number in 0..9 {
        store.append(log, b"k", &message).unwrap();
        assert_eq!(store.durable(), CommitNumber(0), "record {number} waits");
    }
    let full = store.append(log, b"k", &message);
    assert_eq!(full, Err(AppendError::QueueFull));
    // Not in an hour: whoever found no room is waiting for it.
    wait_for("room", || store.append(log, b"k", &message).is_ok());
    threads.close();
    assert_eq!(store.append(log, b"k", &message), Err(AppendError::Closing));
    assert_eq!(
        store.high_watermark(store.log("a").unwrap().partitions().next().unwrap()),
        Offset(10)
    );
}

#[test]
fn gaps_are_written_down_once_and_continue_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 1)]);
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    let gap = |from, to, route: &str| Gap {
        partition,
        route: Some(route.to_owned()),
        from: Offset(from),
        to: Offset(to),
        records: to - from,
        at_most: false,
        bytes: None,
        reason: GapReason::Retention,
        noted_ms: 1,
    };
    let counted = JournalKey::new(JournalKind::BridgeStream, b"r");
    // Without a wait in between: the ledger knows what is only on its way to flash.
    store
        .record_gap(&gap(0, 5, "r"), Some((counted.clone(), vec![1])))
        .unwrap();
    store.record_gap(&gap(0, 5, "other"), None).unwrap();
    let last = store
        .record_gap(&gap(5, 9, "r"), Some((counted.clone(), vec![2])))
        .unwrap();
    store.wait_durable(last).unwrap();
    threads.close();
    drop(store);
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 1)]);
    assert_eq!(store.gaps(), [gap(0, 9, "r"), gap(0, 5, "other")]);
    assert_eq!(store.journal_entry(&counted), Some(vec![2]));
    threads.close();
}

#[test]
fn gap_ledger_is_bounded_and_counts_every_record() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 1)]);
    let log = store.log("a").unwrap();
    for number in 0..2_000 {
        let from = number * 10;
        let gap = Gap {
            partition: log.partitions().next().unwrap(),
            route: Some("slow".to_owned()),
            from: Offset(from),
            to: Offset(from + 3),
            records: 3,
            at_most: false,
            bytes: None,
            reason: GapReason::Retention,
            noted_ms: 1,
        };
        store.record_gap(&gap, None).unwrap();
    }
    let gaps = store.gaps();
    assert!(gaps.len() <= 512, "{} entries", gaps.len());
    assert_eq!(gaps.iter().map(|gap| gap.records).sum::<u64>(), 6_000);
    threads.close();
    drop(store);
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 1)]);
    assert_eq!(store.gaps(), gaps);
    threads.close();
}

#[test]
fn lone_publisher_pays_one_sync_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 1)]);
    append_many(&store, "a", 0..1, 10);
    let before = (fence::calls(), store.counters().commits());
    for _ in 0..100 {
        append_many(&store, "a", 0..1, 10);
    }
    let commits = store.counters().commits() - before.1;
    // Other tests of this process sync too, so this is asserted where the store alone counts.
    assert_eq!(commits, 100);
    assert!(fence::calls() - before.0 >= 100);
    threads.close();
}

#[test]
fn publishers_that_come_together_share_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 4)]);
    let before = store.counters().commits();
    append_many(&store, "a", 0..5000, 100);
    assert!(
        store.counters().commits() - before < 500,
        "{}",
        store.counters().commits()
    );
    threads.close();
}

#[test]
fn copied_folder_on_other_hardware_is_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    let on = |name: &[u8]| StoreOptions {
        fingerprint: Some(Fingerprint::of(name)),
        ..options()
    };
    let logs = [LogOptions::new("a", 1)];
    let (store, threads) = Store::open(folder.path(), on(b"board 1"), &logs).unwrap();
    append_many(&store, "a", 0..10, 10);
    let (first, span) = (store.incarnation(), store.span());
    threads.close();
    drop(store);

    let (store, threads) = Store::open(folder.path(), on(b"board 1"), &logs).unwrap();
    assert_eq!((store.incarnation(), store.span()), (first, span));
    threads.close();
    drop(store);

    let (store, threads) = Store::open(folder.path(), on(b"board 2"), &logs).unwrap();
    assert_eq!(store.recovery_events(), []);
    assert_ne!(store.incarnation(), first);
    assert_ne!(store.span(), span);
    assert_eq!(store.span_of(span).unwrap().incarnation, first);
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    assert_eq!(
        store.span_of(store.span()).unwrap().starts,
        [(partition, Offset(10))]
    );
    let second = store.incarnation();
    threads.close();
    drop(store);

    let unknown = StoreOptions {
        fingerprint: None,
        ..options()
    };
    let (store, threads) = Store::open(folder.path(), unknown, &logs).unwrap();
    assert_eq!(
        store.incarnation(),
        second,
        "a machine without a name is no other machine"
    );
    threads.close();
}

#[test]
fn log_keeps_its_place_when_it_is_configured_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(
        folder.path(),
        &[LogOptions::new("a", 4), LogOptions::new("b", 1)],
    );
    append_many(&store, "a", 0..100, 10);
    let id = log_of(&store, "a");
    threads.close();
    drop(store);

    let (store, threads) = open(
        folder.path(),
        &[LogOptions::new("b", 1), LogOptions::new("c", 1)],
    );
    let forgotten = store.log("a").unwrap();
    assert_eq!((forgotten.id, forgotten.options), (id, None));
    let refused = store.append(id, b"k", &Message::default()).unwrap_err();
    assert_eq!(refused, AppendError::UnknownLog { log: id });
    assert_ne!(log_of(&store, "c"), id);
    append_many(&store, "c", 0..1, 10);
    threads.close();
    drop(store);

    let (store, threads) = open(folder.path(), &[LogOptions::new("a", 2)]);
    let again = store.log("a").unwrap();
    assert_eq!(
        (again.id, again.partitions, again.partitions_in_use()),
        (id, 4, 2)
    );
    let records: usize = again
        .partitions()
        .map(|partition| read_all(&store, partition).len())
        .sum();
    assert_eq!(records, 100);
    threads.close();
}

#[test]
fn newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = "tidegate data folder\nformat 7\nneeds tidegate 3.1.0\n";
    std::fs::write(folder.path().join("FORMAT"), text).unwrap();
    let error = Store::open(folder.path(), options(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("it needs tidegate 3.1.0 or newer"),
        "{error}"
    );
}

#[test]
fn impossible_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |options, logs: &[LogOptions]| {
        Store::open(folder.path(), options, logs)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let tiny = StoreOptions {
        segment_bytes: 5,
        ..options()
    };
    assert_eq!(
        open(tiny, &[]),
        "a segment of 5 bytes; allowed: 1048576 to 268435456"
    );
    let wide = LogOptions::new("a", 300);
    assert_eq!(
        open(options(), &[wide]),
        "log `a` with 300 partitions; allowed: 1 to 256"
    );
    let twice = [LogOptions::new("a", 1), LogOptions::new("a", 1)];
    assert_eq!(open(options(), &twice), "two logs called `a`");
}
