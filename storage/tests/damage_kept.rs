//! What could be read of a damaged segment can be read after starts: in the log, or in quarantine;
//! and what lies behind the damage is told.
//!
//! A few blocks of each kind of segment; `TIDEGATE_SWEEP=1 cargo test -p storage --release --test
//! damage_kept` damages each one, `TIDEGATE_SWEEP=7` every 7th.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use storage::{CommitNumber, DamageCopy, Finding, FindingKind, LogPartition, RecoveryEvent, View};
use support::damage::{length, with_snapshot, zero_block};
use support::findings::findings_and_notes;
use support::template::{BLOCK, Copy, copy_all, logs, names, read_with_gaps, snapshots, template};

/// The blocks to damage of so many: by default the first one and one in the middle.
fn blocks(count: usize) -> Vec<usize> {
    let chosen = std::env::var("TIDEGATE_SWEEP").ok();
    match chosen.and_then(|stride| stride.parse().ok()) {
        Some(stride) => (0..count).step_by(stride).collect(),
        None => vec![0, count * 5 / 9],
    }
}

/// A folder in whose quarantine segments are read as they are.
struct Bench {
    folder: tempfile::TempDir,
    _copy: tempfile::TempDir,
    view: View,
}

impl Bench {
    fn new() -> Self {
        let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, threads) = support::open(folder.path(), &[]);
        drop(store);
        threads.close();
        let view = View::open(folder.path(), copy.path()).unwrap();
        Self {
            folder,
            _copy: copy,
            view,
        }
    }

    /// The commits that can be read in directories that are segments.
    fn commits(&self, segments: &[PathBuf]) -> BTreeSet<CommitNumber> {
        let quarantine = self.folder.path().join("quarantine");
        fs::remove_dir_all(&quarantine).unwrap();
        fs::create_dir(&quarantine).unwrap();
        let mut found = BTreeSet::new();
        for (number, segment) in segments.iter().enumerate() {
            let name = number.to_string();
            copy_all(segment, &quarantine.join(&name));
            let read = self.view.read_quarantined(&name, |commit| {
                found.insert(commit.number());
                ControlFlow::Continue(())
            });
            read.unwrap();
        }
        found
    }
}

/// Where a segment or copies of it are.
fn all_of(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in ["log", "quarantine"] {
        let below = folder.join(place);
        let of_it = names(&below).into_iter().filter(|n| n.starts_with(name));
        found.extend(of_it.map(|name| below.join(name)));
    }
    found
}

fn prepared(segment: usize, has_snapshot: bool) -> Copy {
    let copy = template().copy();
    if has_snapshot {
        with_snapshot(&copy.segment(segment), 1024 * 1024);
    } else {
        for path in snapshots(&copy.segment(segment)) {
            fs::remove_file(path).unwrap();
        }
    }
    copy
}

/// How many blocks a segment has; later the file is longer, with nothing in it.
fn blocks_of(segment: usize) -> usize {
    let copy = template().copy();
    usize::try_from(length(&copy.segment(segment).join("db"))).unwrap() / BLOCK
}

/// Starts the gateway's store, reads everything and stops it: what it told, and how many segments it
/// copied because of what lay behind damage in them, while it recovered and afterwards.
fn start_and_read(copy: &Copy) -> (Vec<RecoveryEvent>, usize) {
    let (store, threads) = support::open(copy.path(), &logs());
    let partitions: Vec<_> = store
        .logs()
        .iter()
        .flat_map(|log| log.partitions())
        .collect();
    for partition in partitions {
        read_with_gaps(&store, partition);
    }
    let told = (
        store.recovery_events().to_vec(),
        store.status().damage_copies,
    );
    threads.close();
    told
}

#[test]
fn zeroed_block_costs_only_what_was_in_it() {
    let bench = Bench::new();
    let active = template().active();
    let mut copied = 0;
    for segment in [active, active - 1, 1] {
        for has_snapshot in [true, false] {
            let whole = prepared(segment, has_snapshot);
            let whole = bench.commits(&[whole.segment(segment)]);
            let (mut lost_most, mut copies) = (0, 0);
            for block in blocks(blocks_of(segment)) {
                let copy = prepared(segment, has_snapshot);
                zero_block(&copy.segment(segment).join("db"), block);
                let before = bench.commits(&[copy.segment(segment)]);
                start_and_read(&copy);
                let after = bench.commits(&all_of(copy.path(), &template().segments[segment].name));
                assert!(
                    after.is_superset(&before),
                    "segment {segment}, block {block}, snapshot {has_snapshot}: {:?} are gone",
                    before.difference(&after)
                );
                lost_most = lost_most.max(whole.len() - before.len());
                copies += copy.quarantined().len();
            }
            println!(
                "segment {segment}, snapshot {has_snapshot}: {} commits, at most {lost_most} \
                 lost, {copies} copies",
                whole.len()
            );
            assert!(lost_most <= 4, "a block holds no more commits than that");
            copied += copies;
        }
    }
    assert!(copied > 0, "nothing was worth a copy");
}

fn is_told_of(finding: &Finding, kind: FindingKind) -> bool {
    finding.kind == kind && finding.what.contains("behind the damage can be read")
}

#[test]
fn what_lies_behind_damage_is_told_by_verify_before_a_start_and_by_the_start() {
    let active = template().active();
    let copy = prepared(active, false);
    zero_block(&copy.segment(active).join("db"), blocks_of(active) / 3);
    let findings = findings_and_notes(copy.path());
    let told = findings
        .iter()
        .any(|finding| is_told_of(finding, FindingKind::Recovery));
    assert!(told, "{findings:?}");
    assert_eq!(copy.quarantined(), [] as [&str; 0], "it only looks");

    let (events, _) = start_and_read(&copy);
    let name = format!("{}.damaged", template().segments[active].name);
    let behind = events.iter().find_map(|event| match event {
        RecoveryEvent::DamageCopied {
            copy: DamageCopy::Whole(copy),
            commits_behind: commits,
            ..
        } if *copy == name => Some(*commits),
        _ => None,
    });
    assert!(behind.is_some_and(|commits| commits > 0), "{events:?}");
    assert_eq!(copy.quarantined(), std::slice::from_ref(&name));
    assert_eq!(start_and_read(&copy), (vec![], 0), "told once");
    assert_eq!(copy.quarantined(), std::slice::from_ref(&name));
}

#[test]
fn sealed_segment_is_copied_when_it_is_first_read() {
    let copy = prepared(1, false);
    zero_block(&copy.segment(1).join("db"), blocks_of(1) / 3);
    let findings = findings_and_notes(copy.path());
    let told = findings
        .iter()
        .any(|finding| is_told_of(finding, FindingKind::Damage));
    assert!(told, "{findings:?}");
    assert_eq!(start_and_read(&copy), (vec![], 1));
    assert_eq!(start_and_read(&copy), (vec![], 0), "once");
    let name = format!("{}.damaged", template().segments[1].name);
    assert_eq!(copy.quarantined(), std::slice::from_ref(&name));
}

/// Offsets that a reader is told are not there, with their partition.
fn gaps(copy: &Copy) -> BTreeSet<(LogPartition, u64)> {
    let (store, threads) = support::open(copy.path(), &logs());
    let mut missing = BTreeSet::new();
    for partition in store.logs().iter().flat_map(|log| log.partitions()) {
        let (_, gaps) = read_with_gaps(&store, partition);
        let offsets = gaps.into_iter().flat_map(|(from, to, _)| from..to);
        missing.extend(offsets.map(|offset| (partition, offset)));
    }
    threads.close();
    missing
}

#[test]
fn what_the_log_has_a_gap_for_is_read_from_quarantine_but_for_the_lost_block() {
    let copy = prepared(1, false);
    zero_block(&copy.segment(1).join("db"), blocks_of(1) / 3);
    let mut missing = gaps(&copy);
    let all = missing.len();
    let aside = tempfile::tempdir().unwrap();
    let view = View::open(copy.path(), aside.path()).unwrap();
    let name = format!("{}.damaged", template().segments[1].name);
    let read = view.read_quarantined(&name, |commit| {
        for batch in commit.batches() {
            for offset in batch.base_offset.0..batch.next_offset.0 {
                missing.remove(&(batch.partition, offset));
            }
        }
        ControlFlow::Continue(())
    });
    view.close();
    assert_eq!(read.unwrap().damaged_places, 1);
    // Twenty records a commit.
    assert!(
        all > 100 && missing.len() <= 40,
        "{} of {all} are gone",
        missing.len()
    );
}
