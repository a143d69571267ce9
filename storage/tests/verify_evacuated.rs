//! What `verify` finds in segments that were evacuated.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use storage::{Finding, FindingKind, Severity, Verified, VerifyProgress, View};
use support::damage::{cut, overwrite, position};
use support::evacuated_folder::{
    Harm, LONG, ROUND, ROUNDS, evacuated, filled, harm_commit, logs, turn_over,
};
use support::{open, wait_for};

const ERROR: Severity = Severity::Error;

fn verified(folder: &Path) -> (Verified, Vec<Finding>) {
    let copy = tempfile::tempdir().unwrap();
    let view = View::open(folder, copy.path()).unwrap();
    let mut findings = Vec::new();
    let totals = view.verify(Some("long"), |progress| {
        if let VerifyProgress::Finding(finding) = progress {
            findings.push(finding);
        }
        ControlFlow::Continue(())
    });
    view.close();
    (totals, findings)
}

fn kinds(findings: &[Finding]) -> Vec<(Severity, FindingKind)> {
    let kinds = findings.iter();
    kinds
        .map(|finding| (finding.severity, finding.kind))
        .collect()
}

/// Without those of a kind that follow one of the same.
fn distinct(findings: &[Finding]) -> Vec<(Severity, FindingKind)> {
    let mut kinds = kinds(findings);
    kinds.dedup();
    kinds
}

/// Offsets of `long` that are told as missing; there is nothing else of it that is not read.
fn holes(totals: Verified, findings: &[Finding]) -> u64 {
    let is_long = |f: &&Finding| f.partition.is_some_and(|partition| partition.log == LONG);
    let holes = findings
        .iter()
        .filter(|f| f.kind == FindingKind::Hole)
        .filter(is_long);
    let missing: u64 = holes
        .map(|hole| {
            let (from, to) = hole.offsets.unwrap();
            to.0 - from.0
        })
        .sum();
    assert_eq!(totals.records + missing, (ROUNDS * ROUND) as u64);
    missing
}

#[test]
fn what_retention_and_evacuation_took_is_no_finding() {
    let (folder, copy) = filled();
    let (totals, findings) = verified(folder.path());
    assert_eq!(findings, []);
    assert_eq!(totals.records, (ROUNDS * ROUND) as u64);
    // Of an evacuation that was interrupted.
    let name = copy.file_name().unwrap().to_str().unwrap();
    let (range, _) = name.split_once('.').unwrap();
    let left = folder.path().join(format!("log/{range}.9.new"));
    fs::create_dir(&left).unwrap();
    let (totals, findings) = verified(folder.path());
    assert_eq!(
        kinds(&findings),
        [(Severity::Note, FindingKind::Unknown)],
        "{findings:?}"
    );
    assert!(totals.is_clean() && left.exists());
    // Not one of ours.
    fs::create_dir(folder.path().join("log/0000000001.new")).unwrap();
    let (totals, _) = verified(folder.path());
    assert_eq!((totals.notes, totals.warnings, totals.errors), (1, 1, 0));
}

#[test]
fn damage_in_an_evacuated_segment_is_told_with_its_offsets() {
    let (folder, copy) = filled();
    harm_commit(&copy, 24, &Harm::Damage);
    let (totals, findings) = verified(folder.path());
    assert_eq!(
        distinct(&findings),
        [(ERROR, FindingKind::Damage), (ERROR, FindingKind::Hole)],
        "{findings:?}"
    );
    assert!(findings.iter().all(|f| f.segment == findings[0].segment));
    assert!(findings[0].segment.is_some());
    assert!(holes(totals, &findings) > 0);
}

/// What it says of itself was written last.
#[test]
fn end_that_sled_cut_off_an_evacuated_segment_is_told_and_its_beginning_read() {
    let (folder, copy) = filled();
    let place = position(&copy.join("db"), format!("{:>100}", 120).as_bytes());
    cut(&copy.join("db"), place as u64);
    let (totals, findings) = verified(folder.path());
    assert_eq!(
        distinct(&findings),
        [
            (Severity::Warning, FindingKind::Manifest),
            (ERROR, FindingKind::Damage),
            (ERROR, FindingKind::Hole)
        ],
        "{findings:?}"
    );
    // It may have held some of `short`, too.
    let is_of_long = |f: &&Finding| f.partition.is_some_and(|partition| partition.log == LONG);
    let hole = findings.iter().find(is_of_long).unwrap();
    assert_eq!(hole.segment, findings[1].segment);
    let from = hole.offsets.unwrap().0;
    assert!((100..=120).contains(&from.0), "{findings:?}");
    assert!(holes(totals, &findings) > 0);
}

/// Commits are not dense there, so that no commit tells of it.
#[test]
fn commit_that_is_missing_in_the_middle_is_told() {
    let (folder, copy) = filled();
    harm_commit(&copy, 20, &Harm::Remove);
    let (totals, findings) = verified(folder.path());
    assert_eq!(
        distinct(&findings),
        [(ERROR, FindingKind::Hole), (ERROR, FindingKind::Damage)],
        "{findings:?}"
    );
    let last = findings.last().unwrap();
    assert_eq!(last.what, "commits are missing in it");
    assert!((1..=5).contains(&holes(totals, &findings)), "{findings:?}");
}

#[test]
fn damaged_manifest_is_told_and_costs_no_record() {
    let (folder, copy) = filled();
    overwrite(&copy.join("db"), b"short");
    let (totals, findings) = verified(folder.path());
    let warning = (Severity::Warning, FindingKind::Manifest);
    assert_eq!(kinds(&findings), [warning], "{findings:?}");
    assert_eq!(holes(totals, &findings), 0);
}

#[test]
fn evacuated_segment_that_is_gone_is_told() {
    let (folder, copy) = filled();
    fs::remove_dir_all(&copy).unwrap();
    let (_, findings) = verified(folder.path());
    let recovery = (ERROR, FindingKind::Recovery);
    assert_eq!(kinds(&findings), [recovery], "{findings:?}");
    assert!(findings[0].what.ends_with("is missing"), "{findings:?}");
}

/// Segments of which some are read are replaced by one.
#[test]
fn segments_evacuated_meanwhile_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path(), &logs(8 << 20));
    turn_over(&store, 0..4);
    assert_eq!(evacuated(folder.path()), [] as [&Path; 0]);
    let (mut findings, mut is_evacuated) = (Vec::new(), false);
    let totals = store.verify(Some("long"), |progress| {
        match progress {
            VerifyProgress::Finding(finding) => findings.push(finding),
            VerifyProgress::Reading { segments: 2, .. } if !is_evacuated => {
                turn_over(&store, 4..14);
                wait_for("evacuation of what is read and what is not", || {
                    evacuated(folder.path()).iter().any(|path| {
                        let name = path.file_name().unwrap().to_str().unwrap();
                        let (first, rest) = name.split_once('-').unwrap();
                        first <= "0000000002" && rest > "0000000004"
                    }) && !folder.path().join("log/0000000003").exists()
                });
                is_evacuated = true;
            }
            VerifyProgress::Reading { .. } => {}
        }
        ControlFlow::Continue(())
    });
    assert_eq!(findings, []);
    assert!(is_evacuated);
    assert_eq!(totals.records, 4 * ROUND as u64);
    threads.close();
}
