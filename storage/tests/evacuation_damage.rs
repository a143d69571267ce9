//! Evacuated segments that are damaged, and folders in the middle of an evacuation: whatever is there
//! twice is taken once, the better one of two is used, and what is lost is in the ledger to the record.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use storage::{RecoveryEvent, Store};
use support::append;
use support::damage::length;
use support::halves::{
    ROUNDS, ROUNDS_LATER, add, copies, directories, expected, halves, is_covered, logs_kept,
    open_for, partition, retained,
};
use support::template::{copy_all, names, read_with_gaps, sled, snapshots};

struct Case {
    folder: tempfile::TempDir,
}

/// What was found.
#[derive(Debug)]
struct Outcome {
    events: Vec<RecoveryEvent>,
    /// Records of `long` that cannot be read, in the ledger or not.
    missing: u64,
    /// Those of all logs that are in the ledger for certain.
    ledger: u64,
    /// Those that only readers were told of.
    only_told: u64,
    leapt: bool,
}

impl Case {
    fn of(base: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_all(base, folder.path());
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn copies(&self) -> Vec<PathBuf> {
        let names = copies(self.path()).into_iter();
        names
            .map(|name| self.path().join("log").join(name))
            .collect()
    }

    fn take_metadata_of(&self, other: &Path) {
        self.lose_metadata();
        copy_all(&other.join("meta"), &self.path().join("meta"));
    }

    fn lose_metadata(&self) {
        fs::remove_dir_all(self.path().join("meta")).unwrap();
    }

    fn quarantined(&self) -> Vec<String> {
        names(&self.path().join("quarantine"))
    }

    /// Opens it and checks what must hold in any case.
    fn check(&self, rounds: usize) -> Outcome {
        // Without the metadata, a copy that is lost takes its retained messages along.
        let has_metadata = self.path().join("meta").exists();
        let (store, threads) = open_for(self.path(), &logs_kept(), false);
        let outcome = look(&store, rounds);
        let may_tell_retained = has_metadata || outcome.missing == 0;
        if may_tell_retained {
            assert_eq!(retained(&store)["topic"], "new", "{outcome:?}");
        }
        let ledger = store.gaps();
        threads.close();
        drop(store);
        let left = directories(self.path());
        assert!(left.iter().all(|name| !name.ends_with(".new")), "{left:?}");
        for copy in left.iter().filter(|name| name.contains('.')) {
            let twice = |name: &&String| *name != copy && is_covered(copy, name);
            let twice: Vec<_> = left.iter().filter(twice).collect();
            assert_eq!(twice, [] as [&String; 0], "{copy} is there");
            let first = copy.split_once('-').unwrap().0;
            let indexed = indexed(self.path()).into_iter();
            let stale: Vec<_> = indexed
                .filter(|id| id != first && is_covered(copy, id))
                .collect();
            assert_eq!(stale, [] as [&str; 0], "{copy} is in the index");
        }
        let (store, threads) = open_for(self.path(), &logs_kept(), false);
        assert_eq!(
            store.recovery_events(),
            [],
            "told once; at first {outcome:?}"
        );
        assert_eq!(store.gaps(), ledger, "noted once");
        assert_eq!(look(&store, rounds).missing, outcome.missing);
        if may_tell_retained {
            assert_eq!(retained(&store)["topic"], "new", "{outcome:?}");
        }
        threads.close();
        outcome
    }

    fn check_whole(&self, rounds: usize) -> Outcome {
        let outcome = self.check(rounds);
        assert_eq!((outcome.missing, outcome.ledger), (0, 0), "{outcome:?}");
        assert!(!outcome.leapt, "{outcome:?}");
        outcome
    }
}

/// Segments that the index of a closed folder names.
fn indexed(folder: &Path) -> BTreeSet<String> {
    let database = sled(&folder.join("meta"), 512 * 1024).open().unwrap();
    let index = database.open_tree("segments").unwrap();
    let ids = index.iter().keys().map(|key| {
        let id = u64::from_be_bytes(key.unwrap()[..8].try_into().unwrap());
        format!("{id:010}")
    });
    ids.collect()
}

fn look(store: &Store, rounds: usize) -> Outcome {
    let mut outcome = Outcome {
        events: store.recovery_events().to_vec(),
        missing: 0,
        ledger: 0,
        only_told: 0,
        leapt: false,
    };
    let written: BTreeMap<_, _> = expected(rounds).into_iter().collect();
    for log in ["short", "long", "state"] {
        let partition = partition(store, log);
        let (found, gaps) = read_with_gaps(store, partition);
        let ledger = store.gaps().into_iter();
        let ledger: Vec<_> = ledger.filter(|gap| gap.partition == partition).collect();
        let end = store.high_watermark(partition).0;
        let start = match log {
            "short" => store.log_start(partition).0,
            _ => 0,
        };
        for offset in start..end.min(40_000) {
            let noted = |gap: &&storage::Gap| gap.from.0 <= offset && offset < gap.to.0;
            let exact = ledger
                .iter()
                .filter(|gap| !gap.at_most)
                .filter(noted)
                .count();
            let at_most = ledger
                .iter()
                .filter(|gap| gap.at_most)
                .filter(noted)
                .count();
            let told = gaps.iter().any(|gap| (gap.0..gap.1).contains(&offset));
            outcome.ledger += exact as u64;
            if found.contains_key(&offset) {
                assert_eq!(exact + at_most, 0, "{log}: {offset} is there; {ledger:?}");
                continue;
            }
            assert!(
                told,
                "{log}: {offset} is missing without a word: {outcome:?}"
            );
            assert!(exact + at_most <= 1, "{log}: {offset} twice in {ledger:?}");
            outcome.only_told += u64::from(exact + at_most == 0);
        }
        if log == "long" {
            for (offset, payload) in &written {
                match found.get(offset) {
                    Some(found) => assert_eq!(found, payload, "{offset}"),
                    None => outcome.missing += 1,
                }
            }
            let at = append(store, log, "k", "goes on");
            assert!(at.offset.0 >= written.len() as u64, "{} again", at.offset);
            outcome.leapt = at.offset.0 > 1 << 24;
            store.wait_durable(at.commit).unwrap();
        }
    }
    outcome
}

/// Nothing of the database can be read.
fn ruin(database: &Path) {
    for snapshot in snapshots(database) {
        fs::remove_file(snapshot).unwrap();
    }
    let bytes = usize::try_from(length(&database.join("db"))).unwrap();
    fs::write(database.join("db"), vec![0xa5; bytes]).unwrap();
}

fn ruin_copies(case: &Case) {
    for copy in case.copies() {
        ruin(&copy);
    }
}

fn is_quarantined(outcome: &Outcome) -> bool {
    let is_told = |e: &RecoveryEvent| matches!(e, RecoveryEvent::SegmentQuarantined { .. });
    outcome.events.iter().any(is_told)
}

#[test]
fn half_states_are_whole() {
    let halves = halves();
    let case = Case::of(&halves.before);
    for name in copies(&halves.after) {
        add(&halves.after, case.path(), &name, ".new");
    }
    assert_eq!(case.check_whole(ROUNDS).events, [], "copy not complete");

    for but in 0..3 {
        // The index is as before the switch: retention had removed nothing yet.
        let case = Case::of(&halves.before);
        for name in copies(&halves.after) {
            add(&halves.after, case.path(), &name, "");
            let sources = directories(&halves.before).into_iter();
            for source in sources.filter(|source| is_covered(&name, source)).take(but) {
                fs::remove_dir_all(case.path().join("log").join(source)).unwrap();
            }
        }
        assert_eq!(
            case.check_whole(ROUNDS).events,
            [],
            "not switched, {but} removed"
        );

        let case = Case::of(&halves.after);
        halves.add_sources(case.path(), but);
        assert_eq!(
            case.check_whole(ROUNDS).events,
            [],
            "switched, {but} removed"
        );

        let case = Case::of(&halves.after);
        halves.add_sources(case.path(), but);
        case.lose_metadata();
        let events = case.check_whole(ROUNDS).events;
        assert_eq!(events, [RecoveryEvent::MetadataMissing], "{but} removed");
    }
}

#[test]
fn of_two_generations_the_later_one_is_taken() {
    let halves = halves();
    for has_metadata in [true, false] {
        let case = Case::of(&halves.later);
        for copy in copies(&halves.after) {
            let covering = copies(&halves.later).into_iter();
            if covering.clone().any(|later| is_covered(&later, &copy)) {
                add(&halves.after, case.path(), &copy, "");
            }
        }
        halves.add_sources(case.path(), 1);
        let count = copies(case.path()).len();
        assert!(count > copies(&halves.later).len(), "nothing was added");
        if !has_metadata {
            case.lose_metadata();
        }
        case.check_whole(ROUNDS_LATER);
    }
}

/// The one that was made of two others cannot be read, and those are still there.
#[test]
fn of_two_generations_the_readable_one_is_taken() {
    let halves = halves();
    for has_metadata in [true, false] {
        let case = Case::of(&halves.later);
        let later = copies(case.path()).into_iter();
        let earlier = copies(&halves.after);
        let is_of_two = |name: &String| {
            earlier
                .iter()
                .any(|copy| copy != name && is_covered(name, copy))
        };
        let later: Vec<_> = later.filter(is_of_two).collect();
        assert!(!later.is_empty());
        for name in &later {
            ruin(&case.path().join("log").join(name));
        }
        // How far the first evacuation came is a matter of time: the rest is there as it was before.
        for name in directories(&halves.after) {
            if name.contains('.') || later.iter().any(|copy| is_covered(copy, &name)) {
                add(&halves.after, case.path(), &name, "");
            }
        }
        if !has_metadata {
            case.lose_metadata();
        }
        let outcome = case.check(ROUNDS_LATER);
        assert!(is_quarantined(&outcome), "{outcome:?}");
        // What had been written by then is there, in the first generation or in its segments.
        assert!(
            outcome.missing <= (ROUNDS_LATER - ROUNDS) as u64 * 50,
            "{outcome:?}"
        );
        assert!(!outcome.leapt, "{outcome:?}");
        for name in later {
            assert!(
                case.quarantined().contains(&name),
                "{:?}",
                case.quarantined()
            );
        }
    }
}

#[test]
fn damaged_copy_costs_nothing_while_its_sources_are_there() {
    let halves = halves();
    for (is_switched, has_metadata) in [(false, true), (true, true), (true, false)] {
        let case = Case::of(&halves.after);
        halves.add_sources(case.path(), 0);
        if !is_switched {
            let base = Case::of(&halves.before);
            for name in copies(&halves.after) {
                add(&halves.after, base.path(), &name, "");
            }
            ruin_copies(&base);
            let outcome = base.check_whole(ROUNDS);
            assert!(is_quarantined(&outcome), "{outcome:?}");
            continue;
        }
        ruin_copies(&case);
        if !has_metadata {
            case.lose_metadata();
        }
        let outcome = case.check_whole(ROUNDS);
        assert!(is_quarantined(&outcome), "{outcome:?}");
        assert_eq!(case.quarantined().len(), copies(&halves.after).len());
    }
}

#[test]
fn damaged_copy_costs_no_more_than_the_sources_that_are_gone() {
    let halves = halves();
    for has_metadata in [true, false] {
        let case = Case::of(&halves.after);
        halves.add_sources(case.path(), 1);
        ruin_copies(&case);
        if !has_metadata {
            case.lose_metadata();
        }
        let outcome = case.check(ROUNDS);
        assert!(is_quarantined(&outcome), "{outcome:?}");
        assert!((1..=200).contains(&outcome.missing), "{outcome:?}");
        assert_eq!(outcome.only_told, 0, "{outcome:?}");
        assert!(
            outcome.ledger >= outcome.missing && !outcome.leapt,
            "{outcome:?}"
        );
    }
}

#[test]
fn damaged_copy_without_its_sources_is_an_exact_loss() {
    let halves = halves();
    let case = Case::of(&halves.after);
    ruin_copies(&case);
    case.lose_metadata();
    let outcome = case.check(ROUNDS);
    assert!(
        is_quarantined(&outcome) && outcome.missing > 0,
        "{outcome:?}"
    );
    assert_eq!(
        (outcome.only_told, outcome.leapt),
        (0, false),
        "{outcome:?}"
    );

    // The index is of before the switch: it names sources that are gone.
    let case = Case::of(&halves.after);
    case.take_metadata_of(&halves.before);
    ruin_copies(&case);
    let outcome = case.check(ROUNDS);
    assert!(outcome.missing > 0, "{outcome:?}");
    assert_eq!(
        (outcome.only_told, outcome.leapt),
        (0, false),
        "{outcome:?}"
    );

    // As every sealed segment, it is not read by the start; readers are told.
    let case = Case::of(&halves.after);
    ruin_copies(&case);
    let outcome = case.check(ROUNDS);
    assert!(outcome.missing > 0 && !outcome.leapt, "{outcome:?}");
    assert_eq!((outcome.ledger, outcome.events), (0, vec![]));
}

#[test]
fn copy_without_its_end_is_used_up_to_there() {
    let halves = halves();
    let case = Case::of(&halves.after);
    // Whole pages, and the manifest, are there; the newer half of the chunks has no pages any more.
    let mut dropped = 0;
    for copy in case.copies() {
        let database = sled(&copy, 1024 * 1024).open().unwrap();
        let mut chunks = database.tree_names();
        chunks.retain(|name| name.len() == 10);
        chunks.sort();
        for chunk in chunks.split_off(chunks.len().div_ceil(2)) {
            assert!(database.drop_tree(chunk).unwrap());
            dropped += 1;
        }
        database.flush().unwrap();
    }
    assert!(dropped > 0);
    case.lose_metadata();
    let outcome = case.check(ROUNDS);
    assert!(outcome.missing > 0 && !outcome.leapt, "{outcome:?}");
    assert_eq!(outcome.only_told, 0, "{outcome:?}");
    let is_cut = |e: &RecoveryEvent| matches!(e, RecoveryEvent::SegmentCut { .. });
    assert!(outcome.events.iter().any(is_cut), "{outcome:?}");
}

/// The index has lost its record: the directory says the same.
#[test]
fn torn_index_record_of_a_copy_costs_nothing() {
    let halves = halves();
    let case = Case::of(&halves.after);
    let database = sled(&case.path().join("meta"), 512 * 1024).open().unwrap();
    let index = database.open_tree("segments").unwrap();
    let mut torn = 0;
    for entry in &index {
        let (key, mut piece) = entry.unwrap();
        if piece[4] == 2 {
            let last = piece.len() - 1;
            piece[last] ^= 1;
            index.insert(key, piece).unwrap();
            torn += 1;
        }
    }
    database.flush().unwrap();
    drop((index, database));
    assert_eq!(torn, copies(&halves.after).len());
    assert_eq!(case.check_whole(ROUNDS).events, []);
}

/// Then the copy is the newest there is, and its journal is the state.
#[test]
fn copy_stands_for_the_log_when_all_after_it_is_lost() {
    let halves = halves();
    for has_metadata in [true, false] {
        let case = Case::of(&halves.after);
        let copy = copies(case.path()).pop().unwrap();
        for name in directories(case.path()) {
            if name > copy {
                fs::remove_dir_all(case.path().join("log").join(name)).unwrap();
            }
        }
        if !has_metadata {
            case.lose_metadata();
        }
        let (store, threads) = open_for(case.path(), &logs_kept(), false);
        let found = read_with_gaps(&store, partition(&store, "long")).0;
        let copied = found.len();
        assert!(copied >= 100, "{copied} records");
        for (offset, payload) in expected(ROUNDS).into_iter().take(copied) {
            assert_eq!(found[&offset], payload);
        }
        // The logs are known by their ids, and no offset is used again.
        let at = append(&store, "long", "k", "goes on");
        assert!(at.offset.0 > 1 << 24, "{at:?}");
        store.wait_durable(at.commit).unwrap();
        assert!(store.span().0 > 0);
        assert!(store.gaps().iter().any(|gap| gap.at_most));
        threads.close();
    }
}
