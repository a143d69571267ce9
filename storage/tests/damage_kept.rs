//! What could be read of a damaged segment can be read after starts: in the log, or in quarantine.
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

use storage::{CommitNumber, View};
use support::damage::{length, with_snapshot, zero_block};
use support::template::{BLOCK, copy_all, names, snapshots, template};

/// Every how manyth block is damaged; with `TIDEGATE_SWEEP=1` it is each one.
fn stride() -> usize {
    let chosen = std::env::var("TIDEGATE_SWEEP").ok();
    chosen.and_then(|stride| stride.parse().ok()).unwrap_or(127)
}

/// A folder in whose quarantine segments are read as they are.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, threads) = support::open(folder.path(), &[]);
        drop(store);
        threads.close();
        Self { folder }
    }

    /// The commits that can be read in directories that are segments.
    fn commits(&self, segments: &[PathBuf]) -> BTreeSet<CommitNumber> {
        let quarantine = self.folder.path().join("quarantine");
        fs::remove_dir_all(&quarantine).unwrap();
        fs::create_dir(&quarantine).unwrap();
        for (number, segment) in segments.iter().enumerate() {
            copy_all(segment, &quarantine.join(number.to_string()));
        }
        let copy = tempfile::tempdir().unwrap();
        let view = View::open(self.folder.path(), copy.path()).unwrap();
        let mut found = BTreeSet::new();
        for number in 0..segments.len() {
            let read = view.read_quarantined(&number.to_string(), |commit| {
                found.insert(commit.number());
                ControlFlow::Continue(())
            });
            read.unwrap();
        }
        view.close();
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

#[test]
fn zeroed_block_costs_only_what_was_in_it() {
    let bench = Bench::new();
    let active = template().active();
    for segment in [active, active - 1, 1] {
        for with_snapshots in [true, false] {
            let prepared = template().copy();
            with_snapshot(&prepared.segment(segment), 1024 * 1024);
            let whole = bench.commits(&[prepared.segment(segment)]);
            let blocks = usize::try_from(length(&prepared.segment(segment).join("db"))).unwrap();
            let (mut lost_most, mut copies) = (0, 0);
            for block in (0..blocks / BLOCK).step_by(stride()) {
                let copy = template().copy();
                with_snapshot(&copy.segment(segment), 1024 * 1024);
                if !with_snapshots {
                    for path in snapshots(&copy.segment(segment)) {
                        fs::remove_file(path).unwrap();
                    }
                }
                zero_block(&copy.segment(segment).join("db"), block);
                let before = bench.commits(&[copy.segment(segment)]);
                copy.check(&[segment], false);
                let name = &template().segments[segment].name;
                let after = bench.commits(&all_of(copy.path(), name));
                assert!(
                    after.is_superset(&before),
                    "segment {segment}, block {block}, snapshots {with_snapshots}: {:?} are gone",
                    before.difference(&after)
                );
                lost_most = lost_most.max(whole.len() - before.len());
                copies += copy.quarantined().len();
            }
            println!(
                "segment {segment}, snapshots {with_snapshots}: {} commits, at most {lost_most} \
                 lost, {copies} copies",
                whole.len()
            );
            assert!(lost_most <= 4, "a block holds no more commits than that");
        }
    }
}
