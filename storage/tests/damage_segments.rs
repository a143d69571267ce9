//! Damage in the files of a segment: of the one that is written to, the newest sealed one, one in the
//! middle, and several at once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::Path;

use storage::{GapReason, RecoveryEvent};
use support::damage::{Damage, HARMLESS, cut, length, spoil_journal, with_snapshot, zero_block};
use support::template::{BLOCK, Copy, Outcome, snapshots, template};

/// Every how manyth block a sweep damages; with `TIDEGATE_SWEEP=1` it is each one.
fn stride() -> usize {
    let chosen = std::env::var("TIDEGATE_SWEEP").ok();
    chosen.and_then(|stride| stride.parse().ok()).unwrap_or(61)
}

/// Which segments of the template.
fn kinds() -> [(&'static str, usize); 3] {
    let active = template().active();
    [
        ("active", active),
        ("newest sealed", active - 1),
        ("middle", 1),
    ]
}

/// Whether sled finds a snapshot of all that the database holds, or none.
#[derive(Clone, Copy, Debug)]
enum Snapshot {
    Whole,
    None,
}

fn prepare(database: &Path, snapshot: Snapshot) {
    with_snapshot(database, 1024 * 1024);
    if matches!(snapshot, Snapshot::None) {
        for path in snapshots(database) {
            fs::remove_file(path).unwrap();
        }
    }
}

/// What must hold beyond [`Copy::check`]: the end that cannot be proven leaps, a loss is told.
fn judge(copy: &Copy, kind: &str, segment: usize, what: &str) -> Outcome {
    let outcome = copy.check(&[segment], false);
    let is_active = segment == template().active();
    if outcome.missing > 0 {
        if is_active {
            assert!(outcome.leapt, "{kind}, {what}: {outcome:?}");
            assert!(!outcome.events.is_empty(), "{kind}, {what}: {outcome:?}");
        } else {
            assert_eq!(
                outcome.reasons,
                [GapReason::Quarantine],
                "{kind}, {what}: {outcome:?}"
            );
            assert!(!outcome.leapt, "{kind}, {what}: {outcome:?}");
        }
    }
    outcome
}

#[test]
fn undamaged_copy_is_whole_and_tells_nothing() {
    let outcome = template().copy().check(&[], false);
    assert_eq!(
        (outcome.missing, outcome.leapt, outcome.events),
        (0, false, vec![])
    );
}

#[test]
fn zeroed_block_loses_no_more_than_its_segment_and_not_silently() {
    let mut cases = 0;
    for (kind, segment) in kinds() {
        for snapshot in [Snapshot::Whole, Snapshot::None] {
            let prepared = template().copy();
            prepare(&prepared.segment(segment), snapshot);
            let blocks =
                usize::try_from(length(&prepared.segment(segment).join("db"))).unwrap() / BLOCK;
            let (mut lossy, mut whole) = (0, 0);
            for block in (0..blocks).step_by(stride()) {
                let copy = template().copy();
                prepare(&copy.segment(segment), snapshot);
                zero_block(&copy.segment(segment).join("db"), block);
                let what = format!("block {block} of {blocks}, snapshot {snapshot:?}");
                let outcome = judge(&copy, kind, segment, &what);
                if outcome.missing > 0 {
                    lossy += 1
                } else {
                    whole += 1
                }
                cases += 1;
            }
            println!("{kind}, snapshot {snapshot:?}: {lossy} lossy, {whole} whole");
        }
    }
    println!("{cases} cases");
}

#[test]
fn cut_tail_loses_no_more_than_its_segment_and_not_silently() {
    for (kind, segment) in kinds() {
        for snapshot in [Snapshot::Whole, Snapshot::None] {
            for part in [
                0, 1, 20, 4095, 4096, 500_000, 1_048_576, 1_048_577, 1_500_000,
            ] {
                let copy = template().copy();
                prepare(&copy.segment(segment), snapshot);
                let file = copy.segment(segment).join("db");
                if length(&file) <= part {
                    continue;
                }
                cut(&file, part);
                judge(
                    &copy,
                    kind,
                    segment,
                    &format!("cut to {part}, snapshot {snapshot:?}"),
                );
            }
        }
    }
}

#[test]
fn zeroed_tail_loses_no_more_than_its_segment_and_not_silently() {
    for (kind, segment) in kinds() {
        for snapshot in [Snapshot::Whole, Snapshot::None] {
            for part in [0, 4096, 300_000, 900_000] {
                let copy = template().copy();
                prepare(&copy.segment(segment), snapshot);
                let file = copy.segment(segment).join("db");
                let whole = length(&file);
                if whole <= part {
                    continue;
                }
                cut(&file, part);
                cut(&file, whole);
                judge(
                    &copy,
                    kind,
                    segment,
                    &format!("zeros from {part}, snapshot {snapshot:?}"),
                );
            }
        }
    }
}

#[test]
fn damaged_snapshot_or_configuration_or_leftover_costs_nothing() {
    for (kind, segment) in kinds() {
        for (what, damage) in HARMLESS {
            let copy = template().copy();
            prepare(&copy.segment(segment), Snapshot::Whole);
            damage(&copy.segment(segment));
            let outcome = judge(&copy, kind, segment, what);
            assert_eq!(
                (outcome.missing, outcome.leapt),
                (0, false),
                "{kind}, {what}"
            );
            assert_eq!(outcome.events, [], "{kind}, {what}");
            assert_eq!(copy.quarantined(), [] as [&str; 0], "{kind}, {what}");
        }
    }
}

/// Cases in which nothing of the segment is left.
const FATAL: [Damage; 6] = [
    ("db missing", |database| {
        fs::remove_file(database.join("db")).unwrap();
    }),
    ("db empty", |database| cut(&database.join("db"), 0)),
    ("db garbage", |database| {
        let bytes = usize::try_from(length(&database.join("db"))).unwrap();
        fs::write(database.join("db"), vec![0xa5; bytes]).unwrap();
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
fn segment_that_is_lost_altogether_is_told_and_accounted_for() {
    for (kind, segment) in kinds() {
        for (what, damage) in FATAL {
            let copy = template().copy();
            for path in snapshots(&copy.segment(segment)) {
                fs::remove_file(path).unwrap();
            }
            damage(&copy.segment(segment));
            let outcome = judge(&copy, kind, segment, what);
            assert!(outcome.missing > 0, "{kind}, {what}: {outcome:?}");
            let is_told = outcome.events.iter().any(|event| {
                matches!(
                    event,
                    RecoveryEvent::SegmentQuarantined { .. } | RecoveryEvent::SegmentMissing { .. }
                )
            });
            // A sealed one is not opened by the start, unless it is not there.
            let is_noticed = segment == template().active() || what.contains("directory missing");
            assert!(is_told || !is_noticed, "{kind}, {what}: {outcome:?}");
        }
    }
}

#[test]
fn several_damaged_segments_are_accounted_for_one_by_one() {
    let active = template().active();
    let sets: [&[usize]; 4] = [
        &[0, 2],
        &[1, active],
        &[active - 1, active],
        &[0, 1, active],
    ];
    for damaged in sets {
        for (what, damage) in FATAL {
            let copy = template().copy();
            for segment in damaged {
                damage(&copy.segment(*segment));
            }
            let outcome = copy.check(damaged, false);
            assert!(outcome.missing > 0, "{damaged:?}, {what}: {outcome:?}");
            assert_eq!(
                outcome.leapt,
                damaged.contains(&active),
                "{damaged:?}, {what}: {outcome:?}"
            );
        }
    }
}

#[test]
fn folder_without_a_readable_segment_goes_on_above_all_offsets() {
    for (what, damage) in FATAL {
        let copy = template().copy();
        let all: Vec<usize> = (0..template().segments.len()).collect();
        for segment in &all {
            damage(&copy.segment(*segment));
        }
        let outcome = copy.check(&all, true);
        assert!(outcome.leapt, "{what}: {outcome:?}");
    }
}

#[test]
fn segment_whose_journal_makes_no_sense_is_put_aside() {
    let active = template().active();
    let copy = template().copy();
    spoil_journal(&copy.segment(active));
    let outcome = judge(&copy, "active", active, "journal");
    assert!(outcome.missing > 0 && outcome.leapt, "{outcome:?}");
    let name = &template().segments[active].name;
    assert_eq!(copy.quarantined(), std::slice::from_ref(name));

    // Nobody reads the journal of a sealed segment that others follow.
    let copy = template().copy();
    spoil_journal(&copy.segment(1));
    let outcome = judge(&copy, "middle", 1, "journal");
    assert_eq!((outcome.missing, outcome.events), (0, vec![]));
}
