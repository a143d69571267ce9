//! Repairing segments that were evacuated: they stay what they are, with less in them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use storage::{
    Finding, FindingKind, LogOptions, Offset, Read, RepairStep, Severity, plan_repair, repair,
};
use support::damage::{cut, position};
use support::evacuated_folder::{Harm, LONG, ROUND, ROUNDS, filled, harm_commit, logs};
use support::findings::findings;
use support::open;

fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

fn run(folder: &Path, steps: &[RepairStep]) {
    let copies = tempfile::tempdir().unwrap();
    repair(folder, copies.path(), steps, |_| {}).unwrap();
}

/// What is lost of `long`.
fn losses(steps: &[RepairStep]) -> Vec<(u64, u64)> {
    let losses = steps.iter().filter_map(|step| match step {
        RepairStep::NoteLoss(partition, from, to) if partition.log == LONG => Some((from.0, to.0)),
        _ => None,
    });
    losses.collect()
}

/// Files below `path`.
fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files
        .map(|p| (p.file_name().unwrap().into(), fs::read(&p).unwrap()))
        .collect()
}

/// A start has nothing to say, and `long` has every record but those in `lost`, which the gap ledger
/// has, too.
fn check(folder: &Path, lost: &[(u64, u64)]) {
    let kept = logs(2 << 20).map(|log| LogOptions {
        retention_bytes: 1 << 30,
        ..log
    });
    let (store, threads) = open(folder, &kept);
    assert_eq!(store.recovery_events(), []);
    let partition = store.log("long").unwrap().partitions().next().unwrap();
    let gaps = store.gaps();
    assert!(gaps.iter().all(|gap| !gap.at_most));
    let of_long = gaps.iter().filter(|gap| gap.partition == partition);
    let known: Vec<_> = of_long.map(|gap| (gap.from.0, gap.to.0)).collect();
    assert_eq!(known, lost);
    let mut reader = store.partition_reader(partition, Offset(0));
    let (mut offsets, mut passed) = (Vec::new(), Vec::new());
    loop {
        match reader.read(100_000).unwrap() {
            Read::UpToDate => break,
            Read::Gap { from, to, .. } => passed.push((from.0, to.0)),
            Read::Batches(batches) => {
                let records = batches.iter().flat_map(|stored| stored.batch.records());
                offsets
                    .extend(records.map(|record| u64::try_from(record.unwrap().offset).unwrap()));
            }
        }
    }
    assert_eq!(passed, lost);
    let all = 0..(ROUNDS * ROUND) as u64;
    let is_lost = |offset: &u64| lost.iter().any(|(from, to)| (*from..*to).contains(offset));
    let expected: Vec<_> = all.filter(|offset| !is_lost(offset)).collect();
    assert_eq!(offsets, expected);
    drop(store);
    threads.close();
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The metadata is lost afterwards: what stands in the folder is enough.
fn check_without_metadata(folder: &Path, lost: &[(u64, u64)]) {
    fs::remove_dir_all(folder.join("meta")).unwrap();
    let (store, threads) = open(folder, &logs(1 << 30));
    let events: Vec<_> = store.recovery_events().iter().map(|e| e.kind()).collect();
    assert_eq!(events, ["metadata_missing"]);
    drop(store);
    threads.close();
    check(folder, lost);
}

#[test]
fn damaged_segment_changes_places_with_its_readable_beginning() {
    let (folder, copy) = filled();
    harm_commit(&copy, 24, &Harm::Damage);
    let damaged = content(&copy);
    let steps = plan_repair(&findings(folder.path()));
    assert!(
        matches!(
            steps[..],
            [RepairStep::Replace(_), RepairStep::NoteLoss(..), ..]
        ),
        "{steps:?}"
    );
    run(folder.path(), &steps);
    assert!(copy.exists(), "it keeps its name");
    let aside = folder.path().join("quarantine").join(name(&copy));
    assert!(content(&aside) == damaged, "the original is as it was");
    assert_eq!(kinds(&findings(folder.path())), [FindingKind::Quarantine]);
    let lost = losses(&steps);
    assert_eq!(lost.len(), 1);
    check(folder.path(), &lost);
    check_without_metadata(folder.path(), &lost);
}

#[test]
fn commit_that_is_missing_costs_no_other() {
    let (folder, copy) = filled();
    harm_commit(&copy, 20, &Harm::Remove);
    let steps = plan_repair(&findings(folder.path()));
    assert!(
        matches!(
            steps[..],
            [RepairStep::Replace(_), RepairStep::NoteLoss(..), ..]
        ),
        "{steps:?}"
    );
    run(folder.path(), &steps);
    assert_eq!(kinds(&findings(folder.path())), [FindingKind::Quarantine]);
    let lost = losses(&steps);
    assert!(
        lost[0].1 - lost[0].0 <= 5,
        "records of one commit: {lost:?}"
    );
    check(folder.path(), &lost);
    check_without_metadata(folder.path(), &lost);
}

/// As of one that evacuation made.
#[test]
fn segment_that_was_repaired_can_be_read_up_to_new_damage() {
    let (folder, copy) = filled();
    harm_commit(&copy, 40, &Harm::Remove);
    run(folder.path(), &plan_repair(&findings(folder.path())));
    let place = position(&copy.join("db"), format!("{:>100}", 60).as_bytes());
    cut(&copy.join("db"), place as u64);
    let found = findings(folder.path());
    let mut damage = found.iter();
    let damage = damage.find(|finding| finding.kind == FindingKind::Damage);
    let what = &damage.unwrap().what;
    assert!(what.starts_with("it ends at commit"), "{found:?}");
}

/// Without its manifest nothing can take its place.
#[test]
fn segment_that_does_not_say_what_it_is_stays_and_the_index_says_how_far_it_goes() {
    let (folder, copy) = filled();
    let place = position(&copy.join("db"), format!("{:>100}", 120).as_bytes());
    cut(&copy.join("db"), place as u64);
    let steps = plan_repair(&findings(folder.path()));
    assert!(
        matches!(
            steps[..],
            [RepairStep::Cut(_), RepairStep::NoteLoss(..), ..]
        ),
        "{steps:?}"
    );
    let damaged = content(&copy);
    run(folder.path(), &steps);
    assert!(content(&copy) == damaged);
    let left = findings(folder.path());
    assert!(
        left.iter()
            .all(|finding| finding.severity == Severity::Warning),
        "{left:?}"
    );
    assert_eq!(plan_repair(&left), []);
    check(folder.path(), &losses(&steps));

    // Whoever asks for more is refused, and nothing is changed.
    let RepairStep::Cut(segment) = steps[0] else {
        panic!("{steps:?}");
    };
    let copies = tempfile::tempdir().unwrap();
    let refused = repair(
        folder.path(),
        copies.path(),
        &[RepairStep::Replace(segment)],
        |_| {},
    );
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.ends_with("its manifest lacks the record"),
        "{refused}"
    );
    assert_eq!(findings(folder.path()), left);
}

#[test]
fn segment_that_cannot_be_opened_is_put_aside_whole() {
    let (folder, copy) = filled();
    for path in content(&copy).into_keys() {
        if path.to_str().unwrap().starts_with("snap.") {
            fs::remove_file(copy.join(path)).unwrap();
        }
    }
    fs::write(copy.join("db"), vec![0xa5; 600_000]).unwrap();
    let steps = plan_repair(&findings(folder.path()));
    run(folder.path(), &steps);
    assert!(folder.path().join("quarantine").join(name(&copy)).exists());
    assert_eq!(kinds(&findings(folder.path())), [FindingKind::Quarantine]);
    check(folder.path(), &losses(&steps));
}

#[test]
fn interrupted_repair_is_begun_again() {
    let (folder, copy) = filled();
    harm_commit(&copy, 24, &Harm::Damage);
    let damaged = content(&copy);
    let steps = plan_repair(&findings(folder.path()));
    let quarantine = folder.path().join("quarantine");
    // Killed while the beginning was written.
    fs::create_dir(quarantine.join(format!("{}.new", name(&copy)))).unwrap();
    let metadata = tempfile::tempdir().unwrap();
    fs::rename(folder.path().join("meta"), metadata.path().join("meta")).unwrap();
    copy_flat(&metadata.path().join("meta"), &folder.path().join("meta"));
    run(folder.path(), &steps[..1]);
    // Killed when the segments had changed places: the index was not written.
    fs::remove_dir_all(folder.path().join("meta")).unwrap();
    fs::rename(metadata.path().join("meta"), folder.path().join("meta")).unwrap();
    let original = quarantine.join(format!("{}.1", name(&copy)));
    fs::rename(&original, quarantine.join(format!("{}.new", name(&copy)))).unwrap();
    let again = plan_repair(&findings(folder.path()));
    assert!(
        matches!(
            again[..],
            [RepairStep::Reindex(_), RepairStep::NoteLoss(..), ..]
        ),
        "{again:?}"
    );
    assert_eq!(losses(&again), losses(&steps));
    run(folder.path(), &again);
    let aside = quarantine.join(format!("{}.new", name(&copy)));
    assert!(
        content(&aside) == damaged,
        "the original is never thrown away"
    );
    check(folder.path(), &losses(&steps));
}

fn copy_flat(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (name, bytes) in content(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}
