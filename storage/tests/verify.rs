//! What `verify` finds, in a running store and in a folder that is only looked at.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use storage::{
    Finding, FindingKind, LogOptions, Message, Severity, Verified, VerifyProgress, View,
};
use support::evacuated_folder::{Harm, harm_commit};
use support::{append_many, log_of, open};

const RECORDS: u64 = 5000;

fn logs() -> [LogOptions; 1] {
    [LogOptions::new("a", 1)]
}

/// A folder of several segments with a retained message, and the segments.
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
    segments.truncate(count);
    assert!(count >= 5);
    (folder, segments)
}

/// Every file below `path` with its content.
fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
                found.insert(path, Vec::new());
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// Looks at a folder, which must not change by it.
fn verified(folder: &Path) -> (Verified, Vec<Finding>) {
    let before = content(folder);
    let copy = tempfile::tempdir().unwrap();
    let view = View::open(folder, copy.path()).unwrap();
    let mut findings = Vec::new();
    let totals = view.verify(None, |progress| {
        if let VerifyProgress::Finding(finding) = progress {
            findings.push(finding);
        }
        let copies = fs::read_dir(copy.path().join("log")).unwrap();
        let copies = copies.filter(|entry| !entry.as_ref().unwrap().path().is_symlink());
        assert!(copies.count() <= 5, "a few segments are copied at a time");
        ControlFlow::Continue(())
    });
    view.close();
    assert!(before == content(folder), "looking changed nothing");
    (totals, findings)
}

fn kinds(findings: &[Finding]) -> Vec<(Severity, FindingKind)> {
    findings
        .iter()
        .filter(|finding| finding.severity != Severity::Note)
        .map(|finding| (finding.severity, finding.kind))
        .collect()
}

/// Destroys a stretch in the middle of a segment's database.
fn damage(segment: &Path) {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(segment.join("db"))
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2 / 4096 * 4096;
    file.write_all_at(&[0; 4096], middle).unwrap();
}

#[test]
fn folder_without_damage_is_clean_and_stays_as_it_was() {
    let (folder, segments) = filled();
    let (totals, findings) = verified(folder.path());
    assert_eq!(findings, []);
    assert!(totals.is_clean());
    assert_eq!((totals.records, totals.retained), (RECORDS, 1));
    assert!(totals.segments >= segments.len() as u64);
    assert!(totals.bytes > RECORDS * 1000);
}

#[test]
fn running_store_verifies_what_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs());
    append_many(&store, "a", 0..3000, 1000);
    let mut told = Vec::new();
    let totals = store.verify(Some("a"), |progress| {
        told.push(progress);
        ControlFlow::Continue(())
    });
    assert!(totals.is_clean(), "{told:?}");
    assert_eq!(totals.records, 3000);
    let other = store.verify(Some("b"), |_| ControlFlow::Continue(()));
    assert_eq!((other.records, other.commits), (0, totals.commits));
    let mut told = 0;
    let stopped = store.verify(None, |_| {
        told += 1;
        if told == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!(told, 2);
    assert!(stopped.records < 3000, "it stops when it is told to");
    threads.close();
}

#[test]
fn mark_that_goes_while_the_store_runs_is_told() {
    let (folder, _) = filled();
    let (store, threads) = open(folder.path(), &logs());
    fs::remove_file(folder.path().join("MARK")).unwrap();
    let mut findings = Vec::new();
    store.verify(None, |progress| {
        if let VerifyProgress::Finding(finding) = progress {
            findings.push(finding);
        }
        ControlFlow::Continue(())
    });
    assert_eq!(kinds(&findings), [(Severity::Warning, FindingKind::Mark)]);
    threads.close();
}

#[test]
fn damage_in_a_sealed_segment_is_told_with_its_offsets() {
    let (folder, segments) = filled();
    damage(&segments[1]);
    let (totals, findings) = verified(folder.path());
    assert!(!totals.is_clean());
    let error = Severity::Error;
    assert_eq!(
        kinds(&findings),
        [(error, FindingKind::Damage), (error, FindingKind::Hole)]
    );
    assert!(findings.iter().all(|f| f.segment.unwrap().0 == 2));
    let (from, to) = findings[1].offsets.unwrap();
    assert!(from < to && to.0 < RECORDS);
    assert_eq!(totals.records, RECORDS - (to.0 - from.0));
}

/// A commit that makes no sense, and one that is not there.
#[test]
fn what_is_missing_is_told_of_the_segment_that_had_it() {
    for harm in [Harm::Damage, Harm::Remove] {
        let (folder, segments) = filled();
        harm_commit(&segments[1], 0, &harm);
        let (totals, findings) = verified(folder.path());
        let error = Severity::Error;
        let found = kinds(&findings);
        let damaged = [(error, FindingKind::Damage), (error, FindingKind::Hole)];
        // A commit of one piece is gone without a trace but for what it held.
        let gone = [FindingKind::Journal, FindingKind::Hole, FindingKind::Index];
        let may_be_gone = matches!(harm, Harm::Remove);
        assert!(
            found == damaged || (may_be_gone && found == gone.map(|kind| (error, kind))),
            "{found:?}"
        );
        assert!(
            findings.iter().all(|f| f.segment.unwrap().0 == 2),
            "{findings:?}"
        );
        let (from, to) = findings[1].offsets.unwrap();
        assert_eq!(totals.records, RECORDS - (to.0 - from.0));
    }
}

#[test]
fn loss_that_the_gap_ledger_has_is_no_finding() {
    let (folder, segments) = filled();
    fs::remove_dir_all(&segments[2]).unwrap();
    let (_, findings) = verified(folder.path());
    assert_eq!(kinds(&findings), [(Severity::Error, FindingKind::Recovery)]);
    assert_eq!(findings[0].what, "segment 3 is missing");
    // A start writes it down; from then on all is accounted for.
    let (store, threads) = open(folder.path(), &logs());
    drop(store);
    threads.close();
    let (totals, findings) = verified(folder.path());
    assert_eq!(kinds(&findings), []);
    assert!(totals.gaps >= 1 && totals.records < RECORDS);
}

#[test]
fn files_that_do_not_belong_there_are_told() {
    let (folder, segments) = filled();
    let path = folder.path();
    fs::write(path.join("notes.txt"), "x").unwrap();
    fs::create_dir(path.join("log/old")).unwrap();
    fs::create_dir_all(path.join("quarantine/0000000099")).unwrap();
    fs::create_dir_all(segments[0].join("blobs")).unwrap();
    fs::write(segments[0].join("blobs/7"), "x").unwrap();
    fs::write(segments[0].join("snap.00FF.generating"), "x").unwrap();
    fs::remove_file(path.join("MARK")).unwrap();
    let (totals, findings) = verified(path);
    assert_eq!(
        kinds(&findings),
        [
            (Severity::Error, FindingKind::Recovery),
            (Severity::Warning, FindingKind::Unknown),
            (Severity::Error, FindingKind::Blob),
            (Severity::Warning, FindingKind::Unknown),
            (Severity::Warning, FindingKind::Quarantine),
        ]
    );
    assert!(
        findings[0].what.starts_with("MARK is missing"),
        "{:?}",
        findings[0]
    );
    assert_eq!((totals.notes, totals.warnings, totals.errors), (1, 3, 2));
}

#[test]
fn folder_in_use_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, threads) = open(folder.path(), &logs());
    let copy = tempfile::tempdir().unwrap();
    let error = View::open(folder.path(), copy.path()).unwrap_err();
    assert!(
        error.to_string().contains("is in use by process"),
        "{error}"
    );
    threads.close();
}
