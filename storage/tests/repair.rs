//! Repairing a folder: what is damaged is put aside whole, what is lost is written down.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use storage::{
    FindingKind, GapReason, LogOptions, Offset, Read, RepairStep, SegmentId, View, plan_repair,
    repair,
};
use support::findings::findings;
use support::{append_many, open, read_from};

const RECORDS: u64 = 5000;

fn logs() -> [LogOptions; 1] {
    [LogOptions::new("a", 1)]
}

fn filled() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    for from in (0..usize::try_from(RECORDS).unwrap()).step_by(20) {
        append_many(&store, "a", from..from + 20, 1000);
    }
    let count = store.status().segments;
    drop(store);
    threads.close();
    // Opened once more, sled writes down what is in a database: without that it takes damage for
    // its end.
    let (store, threads) = open(folder.path(), &logs());
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    assert_eq!(read_from(&store, partition, 0).len() as u64, RECORDS);
    drop(store);
    threads.close();
    let log = fs::read_dir(folder.path().join("log")).unwrap();
    let mut segments: Vec<PathBuf> = log.map(|e| e.unwrap().path()).collect();
    segments.sort();
    segments.truncate(count);
    assert!(count >= 5);
    (folder, segments)
}

fn run(folder: &Path, steps: &[RepairStep]) {
    let copies = tempfile::tempdir().unwrap();
    repair(folder, copies.path(), steps, |_| {}).unwrap();
}

/// Destroys the record of `number`; the segment that had it.
fn destroy(segments: &[PathBuf], number: usize) -> PathBuf {
    let payload = format!("{number:>100}");
    for segment in segments {
        let path = segment.join("db");
        let content = fs::read(&path).unwrap();
        let places = content.windows(100).enumerate();
        let mut places = places.filter(|(_, bytes)| *bytes == payload.as_bytes());
        if let Some((at, _)) = places.next_back() {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[0; 100], at as u64).unwrap();
            return segment.clone();
        }
    }
    panic!("record {number} is nowhere");
}

fn id(segment: &Path) -> SegmentId {
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

/// Every record is there or in a gap, and a start has nothing to say.
fn check(folder: &Path, lost: (u64, u64)) {
    let found = findings(folder);
    let kinds: Vec<_> = found.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::Quarantine], "{found:?}");
    assert_eq!(plan_repair(&found), []);
    let (store, threads) = open(folder, &logs());
    assert_eq!(store.recovery_events(), []);
    let gaps = store.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = &gaps[0];
    assert_eq!((gap.from, gap.to), (Offset(lost.0), Offset(lost.1)));
    assert_eq!((gap.records, gap.at_most), (lost.1 - lost.0, false));
    assert_eq!(gap.reason, GapReason::Quarantine);
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    let mut reader = store.partition_reader(partition, Offset(0));
    let mut offsets = Vec::new();
    loop {
        match reader.read(100_000).unwrap() {
            Read::UpToDate => break,
            Read::Gap { from, to, .. } => assert_eq!((from.0, to.0), lost),
            Read::Batches(batches) => {
                let records = batches.iter().flat_map(|stored| stored.batch.records());
                offsets
                    .extend(records.map(|record| u64::try_from(record.unwrap().offset).unwrap()));
            }
        }
    }
    let expected: Vec<u64> = (0..lost.0).chain(lost.1..RECORDS).collect();
    assert_eq!(offsets, expected);
    drop(store);
    threads.close();
}

fn loss_in(steps: &[RepairStep]) -> (u64, u64) {
    match steps.last() {
        Some(RepairStep::NoteLoss(_, from, to)) => (from.0, to.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damaged_segment_is_put_aside_and_its_beginning_stays() {
    let (folder, segments) = filled();
    let segment = destroy(&segments, 1500);
    let damaged = fs::read(segment.join("db")).unwrap();
    let steps = plan_repair(&findings(folder.path()));
    assert_eq!(steps[0], RepairStep::Replace(id(&segment)));
    assert_eq!(steps.len(), 2);
    run(folder.path(), &steps);
    let name = segment.file_name().unwrap().to_str().unwrap();
    let aside = folder.path().join("quarantine").join(name).join("db");
    assert!(
        fs::read(aside).unwrap() == damaged,
        "the original is as it was"
    );
    check(folder.path(), loss_in(&steps));

    // It can still be read there, as far as sled can.
    let copy = tempfile::tempdir().unwrap();
    let view = View::open(folder.path(), copy.path()).unwrap();
    let mut offsets = Vec::new();
    let salvaged = view.read_quarantined(name, |commit| {
        offsets.extend(commit.batches().map(|batch| batch.base_offset.0));
        ControlFlow::Continue(())
    });
    assert_eq!(salvaged.unwrap().commits, offsets.len() as u64);
    assert!(offsets.is_sorted() && offsets.iter().all(|offset| *offset != 1500));
    assert!(!offsets.is_empty());
    let error = view.read_quarantined("x", |_| ControlFlow::Continue(()));
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with(&format!("there is: {name}")), "{error}");
    view.close();
}

#[test]
fn segment_that_cannot_be_opened_is_put_aside_whole() {
    let (folder, segments) = filled();
    for entry in fs::read_dir(&segments[2]).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("snap.")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .open(segments[2].join("db"))
        .unwrap();
    file.write_all_at(&vec![0; 600_000], 0).unwrap();
    let steps = plan_repair(&findings(folder.path()));
    assert_eq!(steps[0], RepairStep::Replace(SegmentId(3)));
    run(folder.path(), &steps);
    assert!(folder.path().join("quarantine/0000000003").exists());
    check(folder.path(), loss_in(&steps));
}

#[test]
fn interrupted_repair_is_begun_again() {
    let (folder, segments) = filled();
    let segment = destroy(&segments, 1500);
    let damaged = fs::read(segment.join("db")).unwrap();
    let steps = plan_repair(&findings(folder.path()));
    let lost = loss_in(&steps);
    // Killed when the segments had changed places: the index was not written, the original has the
    // name of something unfinished.
    run(folder.path(), &steps[..1]);
    let quarantine = folder.path().join("quarantine");
    let name = segment.file_name().unwrap().to_str().unwrap();
    let (whole, unfinished) = (quarantine.join(name), format!("{name}.new"));
    fs::rename(&whole, quarantine.join(unfinished)).unwrap();
    let again = plan_repair(&findings(folder.path()));
    assert_eq!(loss_in(&again), lost);
    run(folder.path(), &[steps[0], again[0]]);
    let kept = fs::read(whole.join("db")).unwrap();
    assert!(kept == damaged, "the original is never thrown away");
    fs::remove_dir_all(quarantine.join(format!("{name}.1"))).unwrap();
    check(folder.path(), lost);
}
