//! Damaged and missing files: the store opens, keeps what can be read, and accounts for the rest.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use storage::{
    GapReason, LogOptions, LogPartition, Message, OFFSET_LEAP, Offset, Read, RecoveryEvent,
    SegmentId, SpanReason, Store,
};
use support::{append, append_many, log_of, open, read_from};

const RECORDS: u64 = 5000;

fn logs() -> [LogOptions; 1] {
    [LogOptions::new("a", 1)]
}

/// A folder with several segments, a retained message in the first of them.
fn filled() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    let retained = Message {
        topic: "state".into(),
        client_id: "c".into(),
        payload: "on".into(),
        retain: true,
        ..Message::default()
    };
    store.append(log_of(&store, "a"), b"c", &retained).unwrap();
    append_many(&store, "a", 1..usize::try_from(RECORDS).unwrap(), 1000);
    let count = store.status().segments;
    threads.close();
    drop(store);
    let mut segments: Vec<PathBuf> = fs::read_dir(folder.path().join("log"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    segments.sort();
    assert!(count >= 5);
    // Behind the one that is written to, an empty one may stand ready.
    segments.truncate(count);
    (folder, segments)
}

fn partition(store: &Store) -> LogPartition {
    store.log("a").unwrap().partitions().next().unwrap()
}

/// Offsets that can be read and the gaps between them.
fn read_with_gaps(store: &Store) -> (Vec<u64>, Vec<(u64, u64, GapReason)>) {
    let mut reader = store.partition_reader(partition(store), Offset(0));
    let (mut offsets, mut gaps) = (Vec::new(), Vec::new());
    let mut empty = 0;
    loop {
        assert!(empty < 1000, "the reader goes on: {reader:?}");
        match reader.read(100_000).unwrap() {
            Read::Batches(batches) if batches.is_empty() => empty += 1,
            Read::UpToDate => return (offsets, gaps),
            Read::Gap { from, to, reason } => gaps.push((from.0, to.0, reason)),
            Read::Batches(batches) => {
                for record in batches.iter().flat_map(|stored| stored.batch.records()) {
                    offsets.push(u64::try_from(record.unwrap().offset).unwrap());
                }
            }
        }
    }
}

/// After the end of the log was lost: offsets leapt, a new span and incarnation, a gap "at most".
fn check_leap(store: &Store, last_readable: u64) {
    let after = last_readable + 1;
    let gaps = store.gaps();
    let lost_end = gaps.iter().find(|gap| gap.reason == GapReason::LostEnd);
    let gap = lost_end.unwrap();
    assert_eq!(
        (gap.from, gap.to, gap.at_most),
        (Offset(after), Offset(after + OFFSET_LEAP), true)
    );
    let span = store.span_of(store.span()).unwrap();
    assert_eq!(span.reason, SpanReason::LostEnd);
    assert_eq!(
        span.starts,
        [(partition(store), Offset(after + OFFSET_LEAP))]
    );
    let at = append(store, "a", "k", "after the loss");
    assert_eq!(at.offset, Offset(after + OFFSET_LEAP));
    store.wait_durable(at.commit).unwrap();
    let (offsets, gaps) = read_with_gaps(store);
    assert_eq!(offsets.last(), Some(&(after + OFFSET_LEAP)));
    assert_eq!(
        gaps.last(),
        Some(&(after, after + OFFSET_LEAP, GapReason::LostEnd))
    );
}

fn quarantined(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("quarantine")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn name(segment: &Path) -> SegmentId {
    SegmentId(
        segment
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap(),
    )
}

#[test]
fn folder_without_damage_opens_without_a_word() {
    let (folder, _) = filled();
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(store.recovery_events(), []);
    let (offsets, gaps) = read_with_gaps(&store);
    assert_eq!((offsets, gaps), ((0..RECORDS).collect(), vec![]));
    threads.close();
}

#[test]
fn lost_last_segment_makes_offsets_leap() {
    let (folder, segments) = filled();
    fs::remove_dir_all(segments.last().unwrap()).unwrap();
    let (store, threads) = open(folder.path(), &logs());
    let missing = RecoveryEvent::SegmentMissing {
        segment: name(segments.last().unwrap()),
    };
    assert_eq!(store.recovery_events(), [missing]);
    let (offsets, _) = read_with_gaps(&store);
    check_leap(&store, *offsets.last().unwrap());
    threads.close();
    drop(store);
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(store.recovery_events(), [], "told once");
    assert_eq!(
        append(&store, "a", "k", "x").offset.0,
        offsets.last().unwrap() + OFFSET_LEAP + 2
    );
    threads.close();
}

#[test]
fn unreadable_last_segment_goes_into_quarantine() {
    let (folder, segments) = filled();
    let last = segments.last().unwrap();
    let database = last.join("db");
    let bytes = fs::metadata(&database).unwrap().len();
    fs::write(&database, vec![0xa5; usize::try_from(bytes).unwrap()]).unwrap();
    let (store, threads) = open(folder.path(), &logs());
    let events = store.recovery_events();
    assert!(
        matches!(events, [RecoveryEvent::SegmentQuarantined { segment, .. }] if *segment == name(last)),
        "{events:?}"
    );
    assert_eq!(
        quarantined(folder.path()),
        [last.file_name().unwrap().to_str().unwrap()]
    );
    let (offsets, _) = read_with_gaps(&store);
    check_leap(&store, *offsets.last().unwrap());
    threads.close();
}

#[test]
fn damage_inside_the_last_segment_leaves_what_is_before_it() {
    let (folder, segments) = filled();
    let database = segments.last().unwrap().join("db");
    let mut bytes = fs::read(&database).unwrap();
    // In the middle of what is written, in one page of it.
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let at = written / 2;
    bytes[at..at + 64].fill(0);
    fs::write(&database, bytes).unwrap();
    let (store, threads) = open(folder.path(), &logs());
    let events = store.recovery_events();
    // MARK need not tell: what could be read behind the damage does. Which of the two depends on whether
    // the damage is in the first commit of the segment.
    let lost = |event: &RecoveryEvent| {
        matches!(
            event,
            RecoveryEvent::SegmentCut { .. } | RecoveryEvent::SegmentQuarantined { .. }
        )
    };
    assert!(events.iter().any(lost), "{events:?}");
    let (offsets, _) = read_with_gaps(&store);
    assert!(offsets.len() > 3000 && offsets.len() < usize::try_from(RECORDS).unwrap());
    check_leap(&store, *offsets.last().unwrap());
    threads.close();
}

#[test]
fn lost_segment_in_the_middle_is_an_exact_gap() {
    let (folder, segments) = filled();
    fs::remove_dir_all(&segments[1]).unwrap();
    let (store, threads) = open(folder.path(), &logs());
    let (offsets, gaps) = read_with_gaps(&store);
    let [(from, to, GapReason::Quarantine)] = gaps[..] else {
        panic!("{gaps:?}")
    };
    assert_eq!(offsets, (0..from).chain(to..RECORDS).collect::<Vec<_>>());
    let ledger = store.gaps();
    assert_eq!(ledger.len(), 1);
    assert_eq!(
        (ledger[0].from.0, ledger[0].to.0, ledger[0].records),
        (from, to, to - from)
    );
    assert!(!ledger[0].at_most);
    assert_eq!(
        append(&store, "a", "k", "x").offset,
        Offset(RECORDS),
        "nothing leaps"
    );
    threads.close();
}

#[test]
fn sealed_segment_that_is_damaged_later_is_a_gap_for_the_reader() {
    let (folder, segments) = filled();
    let database = segments[1].join("db");
    let bytes = fs::metadata(&database).unwrap().len();
    fs::write(&database, vec![0xa5; usize::try_from(bytes).unwrap()]).unwrap();
    let (store, threads) = open(folder.path(), &logs());
    let (offsets, gaps) = read_with_gaps(&store);
    let [(from, to, GapReason::Quarantine)] = gaps[..] else {
        panic!("{gaps:?}")
    };
    assert_eq!(offsets, (0..from).chain(to..RECORDS).collect::<Vec<_>>());
    threads.close();
}

#[test]
fn lost_or_damaged_metadata_is_made_again_from_the_log() {
    for damage in ["lost", "damaged"] {
        let (folder, _) = filled();
        let metadata = folder.path().join("meta");
        if damage == "lost" {
            fs::remove_dir_all(&metadata).unwrap();
        } else {
            fs::write(metadata.join("db"), vec![0xa5; 600_000]).unwrap();
        }
        let (store, threads) = open(folder.path(), &logs());
        let (offsets, gaps) = read_with_gaps(&store);
        assert_eq!(
            (offsets, gaps),
            ((0..RECORDS).collect(), vec![]),
            "{damage}"
        );
        let retained = store.take_recovered_retained();
        assert_eq!(retained.len(), 1, "{damage}");
        assert_eq!(&*retained[0].message.payload, b"on");
        assert_eq!(
            append(&store, "a", "k", "x").offset,
            Offset(RECORDS),
            "{damage}"
        );
        threads.close();
    }
}

#[test]
fn files_that_an_interrupted_process_left_do_no_harm() {
    let (folder, segments) = filled();
    fs::write(
        segments[0].join("snap.00000000000000FF.generating"),
        b"half",
    )
    .unwrap();
    fs::write(
        folder.path().join("meta/snap.00000000000000FF.generating"),
        b"",
    )
    .unwrap();
    fs::create_dir(folder.path().join("log/0000009999")).unwrap();
    fs::write(folder.path().join("log/notes.txt"), b"not ours").unwrap();
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(
        read_from(&store, partition(&store), 0).len() as u64,
        RECORDS
    );
    append_many(&store, "a", 0..10, 10);
    threads.close();
}

/// A segment that the index no longer knows as sealed is read again; what later segments said of the
/// retained messages still stands.
#[test]
fn old_retained_message_does_not_come_back_when_an_old_segment_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    let retain = |topic: &'static str, payload: &'static str| {
        let message = Message {
            topic: topic.into(),
            client_id: "c".into(),
            payload: payload.into(),
            retain: true,
            ..Message::default()
        };
        store.append(log_of(&store, "a"), b"c", &message).unwrap();
    };
    retain("changed", "old");
    retain("cleared", "old");
    append_many(&store, "a", 0..2000, 1000);
    retain("changed", "new");
    retain("cleared", "");
    append_many(&store, "a", 2000..4000, 1000);
    threads.close();
    drop(store);

    let meta = sled::Config::new()
        .path(folder.path().join("meta"))
        .segment_size(512 * 1024)
        .open()
        .unwrap();
    let index = meta.open_tree("segments").unwrap();
    let (key, value) = index.first().unwrap().unwrap();
    assert_eq!(key.as_ref(), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    let mut torn = value.to_vec();
    torn[10] ^= 1;
    index.insert(key, torn).unwrap();
    meta.flush().unwrap();
    drop((index, meta));

    for _ in 0..2 {
        let (store, threads) = open(folder.path(), &logs());
        let found = store.take_recovered_retained();
        let found: Vec<_> = found
            .iter()
            .map(|retained| (&*retained.message.topic, &*retained.message.payload))
            .collect();
        assert_eq!(found, [(b"changed".as_slice(), b"new".as_slice())]);
        let (offsets, gaps) = read_with_gaps(&store);
        assert_eq!((offsets.len(), gaps), (4004, Vec::new()));
        threads.close();
    }
}

/// Whoever goes back to an older version must not lose what the newer one wrote.
#[test]
fn journal_of_a_later_version_is_refused_and_nothing_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    append_many(&store, "a", 0..10, 100);
    threads.close();
    drop(store);

    let segment = folder.path().join("log/0000000001");
    let set_version = |version: u8| {
        let database = sled::Config::new()
            .path(&segment)
            .segment_size(1024 * 1024)
            .open()
            .unwrap();
        let mut names = database.tree_names();
        names.retain(|name| name.len() == 10);
        names.sort();
        let chunk = database.open_tree(&names[0]).unwrap();
        let (key, value) = chunk.first().unwrap().unwrap();
        let mut value = value.to_vec();
        // Behind the piece's header of 6 bytes, the era of 4 and the entry's header of 8.
        value[18] = version;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&key), &value[..2]);
        let checksum = crc32c::crc32c_append(checksum, &value[6..]);
        value[2..6].copy_from_slice(&checksum.to_be_bytes());
        chunk.insert(key, value).unwrap();
        database.flush().unwrap();
    };
    set_version(2);
    for _ in 0..2 {
        let error = Store::open(folder.path(), support::options(), &logs()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(
            source.to_string(),
            "the journal has version 2; this version reads up to 1"
        );
    }
    set_version(1);
    let (store, threads) = open(folder.path(), &logs());
    assert_eq!(store.recovery_events(), []);
    assert_eq!(read_with_gaps(&store), ((0..10).collect(), Vec::new()));
    threads.close();
}
