//! A damaged segment is copied into quarantine, and the disk is full before the copy is complete.
//!
//! On a small file system of its own, mounted for one process; where that is not allowed the tests
//! say so and pass.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write as _;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::process::Command;
use std::thread;

use storage::{DamageCopy, LogOptions, LogPartition, NoCopy, RecoveryEvent, StoreOptions, View};
use storage::{LogId, PartitionId, Store};
use support::damage::{length, zero_block};
use support::template::{BLOCK, names, read_with_gaps};
use support::{again, append_many};

/// Says to the inner process where the small file system is.
const FOLDER_VARIABLE: &str = "STORAGE_TEST_SMALL_DISK";
const DISK_BYTES: u64 = 48 << 20;
/// What a start needs for databases of its own; less than half of the segment.
const FREE_BYTES: u64 = 5 << 20;
/// Records of 1000 bytes, so that the segment has more than ten MiB.
const RECORDS: usize = 11_000;
/// Twenty records a commit, of which a lost block touches two or three.
const TOUCHED: usize = 60;

const P: LogPartition = LogPartition {
    log: LogId(1),
    partition: PartitionId(0),
};

#[expect(clippy::print_stdout, reason = "whoever runs the tests is told")]
fn skip() {
    println!("skipped: a small file system cannot be mounted here");
}

/// Runs `test` with the path of an empty small file system, in a process of its own.
fn on_a_small_disk(test: impl FnOnce(&Path)) {
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        test(Path::new(&folder));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={DISK_BYTES} tmpfs \"$0\" && exec \"$@\"");
    // Without root by a user namespace, where the system allows them.
    let allowed = [&["--mount"][..], &["--mount", "--map-root-user"]];
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(arguments).args(["sh", "-c", &script]);
        command.arg(folder.path());
        command
    };
    let can = |arguments: &&&[&str]| {
        let tried = unshare(arguments).arg("true").output();
        tried.is_ok_and(|ended| ended.status.success())
    };
    let Some(arguments) = allowed.iter().find(can) else {
        skip();
        return;
    };
    let name = thread::current().name().unwrap().to_owned();
    let mut command = unshare(arguments);
    command
        .args(again::words())
        .args(["--exact", &name, "--nocapture"])
        .env(FOLDER_VARIABLE, folder.path());
    let ended = command.output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        ended.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

/// A store that takes the disk for an empty one, so that it learns in the middle of a copy.
fn open(path: &Path) -> (Store, storage::StoreThreads) {
    let options = StoreOptions {
        segment_bytes: 64 << 20,
        free_space_reserve_bytes: 0,
        free_space: |_| Ok(u64::MAX),
        ..support::options()
    };
    Store::open(path, options, &[LogOptions::new("a", 1)]).unwrap()
}

/// A folder whose only segment is damaged at a part of 10, on a disk that is nearly full.
fn damaged_at(disk: &Path, part: usize) -> std::path::PathBuf {
    let path = disk.join("data");
    let (store, threads) = open(&path);
    for first in (0..RECORDS).step_by(20) {
        append_many(&store, "a", first..first + 20, 1000);
    }
    threads.close();
    drop(store);
    let database = path.join("log/0000000001/db");
    let bytes = usize::try_from(length(&database)).unwrap();
    assert!(bytes as u64 > 2 * FREE_BYTES, "{bytes}");
    zero_block(&database, bytes / BLOCK * part / 10);
    let free = || {
        let stat = rustix::fs::statvfs(disk).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    let mut ballast = fs::File::create(disk.join("ballast")).unwrap();
    let size = usize::try_from(free() - FREE_BYTES).unwrap();
    ballast.write_all(&vec![1; size]).unwrap();
    path
}

/// What a start tells of the damage, and how many records there are from the first one on.
fn start(path: &Path) -> (DamageCopy, usize) {
    let (store, threads) = open(path);
    let events = store.recovery_events().to_vec();
    let (found, gaps) = read_with_gaps(&store, P);
    threads.close();
    let told = events.iter().find_map(|event| match event {
        RecoveryEvent::DamageCopied { copy, .. } => Some((copy.clone(), event.kind())),
        _ => None,
    });
    let (copy, kind) = told.unwrap_or_else(|| panic!("{events:?}"));
    let expected = match copy {
        DamageCopy::Lost(_) => "damage_not_copied",
        _ => "damage_copied",
    };
    assert_eq!(kind, expected);
    let readable = (0..)
        .take_while(|offset| found.contains_key(offset))
        .count();
    assert_eq!(found.len(), readable, "{gaps:?}");
    (copy, readable)
}

/// Offsets that stand in a copy.
fn offsets_in(path: &Path, name: &str) -> BTreeSet<u64> {
    let aside = tempfile::tempdir().unwrap();
    let view = View::open(path, aside.path()).unwrap();
    let mut found = BTreeSet::new();
    let read = view.read_quarantined(name, |commit| {
        let ranges = commit.batches().map(|b| b.base_offset.0..b.next_offset.0);
        found.extend(ranges.flat_map(|range: Range<u64>| range));
        ControlFlow::Continue(())
    });
    read.unwrap();
    view.close();
    found
}

#[test]
fn what_lies_behind_the_damage_is_copied_when_the_disk_is_full_before_all_is() {
    on_a_small_disk(|disk| {
        let path = damaged_at(disk, 9);
        let (copy, readable) = start(&path);
        assert_eq!(copy, DamageCopy::Behind("0000000001.behind".to_owned()));
        assert_eq!(names(&path.join("quarantine")), ["0000000001.behind"]);
        assert!(readable > RECORDS / 2, "{readable} before the damage");
        let copied = offsets_in(&path, "0000000001.behind");
        let all = (0..RECORDS as u64).filter(|at| *at < readable as u64 || copied.contains(at));
        let missing = RECORDS - all.count();
        assert!(missing <= TOUCHED, "{missing} are gone");
    });
}

#[test]
fn what_lies_before_the_damage_stays_in_the_log_when_the_disk_has_no_room_for_a_copy() {
    on_a_small_disk(|disk| {
        let path = damaged_at(disk, 3);
        let (copy, readable) = start(&path);
        assert_eq!(copy, DamageCopy::Lost(NoCopy::Full));
        assert_eq!(
            names(&path.join("quarantine")),
            [] as [&str; 0],
            "no half copy"
        );
        assert!(readable > RECORDS / 5, "{readable} before the damage");
        let (store, threads) = open(&path);
        assert_eq!(store.recovery_events(), [], "told once");
        assert_eq!(read_with_gaps(&store, P).0.len(), readable);
        threads.close();
    });
}
