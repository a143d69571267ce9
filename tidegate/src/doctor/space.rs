//! Room: what is free against what the configuration may fill.

use serde::Serialize;

use super::finding::{Finding, Level};
use super::mebibytes;

/// Metadata, positions, a segment that is being moved: beside the logs.
const BESIDE_BYTES: u64 = 32 << 20;
/// The one that is written, the one made ahead of time, and one that is emptied.
const SEGMENTS_BESIDE: u64 = 3;
/// Files and folders of a segment.
const INODES_OF_SEGMENT: u64 = 8;
const INODES_BESIDE: u64 = 100;

/// What `statvfs` says, and what the folder has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Space {
    pub(super) total_bytes: u64,
    /// For those who are not root.
    pub(super) free_bytes: u64,
    /// 0 where the file system has no fixed number of them.
    pub(super) inodes: u64,
    pub(super) free_inodes: u64,
    /// Allocated to the data folder; `None` if not all of it could be seen.
    pub(super) used_bytes: Option<u64>,
}

/// What the configuration may fill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Budget {
    /// Of all logs that are stored.
    pub(super) retention_bytes: u64,
    pub(super) reserve_bytes: u64,
    pub(super) segment_bytes: u64,
}

impl Budget {
    fn needed_bytes(&self) -> u64 {
        self.retention_bytes
            .saturating_add(self.reserve_bytes)
            .saturating_add(self.segment_bytes.saturating_mul(SEGMENTS_BESIDE))
            .saturating_add(BESIDE_BYTES)
    }

    fn needed_inodes(&self) -> u64 {
        let segments = self.retention_bytes / self.segment_bytes.max(1) + SEGMENTS_BESIDE;
        segments
            .saturating_mul(INODES_OF_SEGMENT)
            .saturating_add(INODES_BESIDE)
    }
}

/// What it means.
pub(super) fn judge(space: Option<&Space>, budget: &Budget) -> Vec<Finding> {
    let Some(space) = space else {
        return vec![Finding::new(
            "space",
            Level::Warning,
            "free space cannot be seen",
        )];
    };
    let mut findings = vec![room(space, budget)];
    if space.free_bytes < budget.reserve_bytes {
        let seen = format!(
            "{} free, less than the reserve of {}",
            mebibytes(space.free_bytes),
            mebibytes(budget.reserve_bytes)
        );
        findings.push(
            Finding::new("space", Level::Problem, seen)
                .meaning("publishes that would be stored are refused")
                .remedy("free space, or lower storage.free_space_reserve"),
        );
    }
    findings.push(inodes(space, budget));
    findings
}

fn room(space: &Space, budget: &Budget) -> Finding {
    let needed = budget.needed_bytes();
    let used = space.used_bytes.unwrap_or(0);
    let seen = format!(
        "{} free of {}, the folder has {}; the configuration may fill {} (logs {}, reserve {}, \
         segments ahead and metadata)",
        mebibytes(space.free_bytes),
        mebibytes(space.total_bytes),
        space
            .used_bytes
            .map_or_else(|| String::from("a size that cannot be seen"), mebibytes),
        mebibytes(needed),
        mebibytes(budget.retention_bytes),
        mebibytes(budget.reserve_bytes),
    );
    let remedy = "lower log[].retention.bytes, or use a larger card";
    if needed > space.total_bytes {
        return Finding::new("space", Level::Problem, seen)
            .meaning("it can never fit: the disk is full before retention removes anything")
            .remedy(remedy);
    }
    if needed <= space.free_bytes.saturating_add(used) {
        return Finding::ok("space", seen);
    }
    if space.used_bytes.is_none() {
        return Finding::new("space", Level::Note, seen)
            .meaning("whether it fits depends on what the folder has already")
            .remedy("call it as the user that the gateway runs as, or as root");
    }
    Finding::new("space", Level::Problem, seen)
        .meaning(
            "it does not fit beside what else is there: the disk is full before retention removes \
             anything, and publishes are refused",
        )
        .remedy("free space, or lower log[].retention.bytes")
}

fn inodes(space: &Space, budget: &Budget) -> Finding {
    if space.inodes == 0 {
        return Finding::ok("inodes", "the file system makes them as needed");
    }
    let needed = budget.needed_inodes();
    let seen = format!(
        "{} of {} inodes free; the configuration may need about {needed}",
        space.free_inodes, space.inodes
    );
    match space.free_inodes {
        0 => Finding::new("inodes", Level::Problem, seen)
            .meaning("no file can be made: the store fails at its next segment")
            .remedy("remove files"),
        free if free < needed => Finding::new("inodes", Level::Warning, seen)
            .meaning("they may run out before the space does, if few files are there already")
            .remedy("remove files, or raise storage.segment_bytes"),
        _ => Finding::ok("inodes", seen),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::expect::{find, worst};
    use super::*;

    const GIB: u64 = 1 << 30;

    fn space(total: u64, free: u64, used: u64) -> Space {
        Space {
            total_bytes: total,
            free_bytes: free,
            inodes: 1_000_000,
            free_inodes: 900_000,
            used_bytes: Some(used),
        }
    }

    const BUDGET: Budget = Budget {
        retention_bytes: 2 * GIB,
        reserve_bytes: 64 << 20,
        segment_bytes: 16 << 20,
    };

    #[test]
    fn budget_that_cannot_fit_is_a_problem() {
        for (total, free, used, level, word) in [
            (8 * GIB, 3 * GIB, 0, Level::Ok, "may fill"),
            (8 * GIB, GIB, 0, Level::Problem, "beside what else is there"),
            // What the folder has already is part of the budget.
            (8 * GIB, GIB, 2 * GIB, Level::Ok, "may fill"),
            (2 * GIB, 2 * GIB, 0, Level::Problem, "never fit"),
        ] {
            let findings = judge(Some(&space(total, free, used)), &BUDGET);
            assert_eq!(find(&findings, word).level, level, "{total} {free} {used}");
        }
        let hidden = Space {
            used_bytes: None,
            ..space(8 * GIB, GIB, 0)
        };
        assert_eq!(worst(&judge(Some(&hidden), &BUDGET)), Level::Note);
        assert_eq!(worst(&judge(None, &BUDGET)), Level::Warning);
    }

    #[test]
    fn less_than_the_reserve_is_a_problem() {
        let findings = judge(Some(&space(8 * GIB, 63 << 20, 4 * GIB)), &BUDGET);
        assert_eq!(find(&findings, "are refused").level, Level::Problem);
    }

    #[test]
    fn shortage_of_inodes_is_told() {
        for (inodes, free, level) in [
            (0, 0, Level::Ok),
            (1000, 0, Level::Problem),
            (1000, 500, Level::Warning),
            (100_000, 50_000, Level::Ok),
        ] {
            let space = Space {
                inodes,
                free_inodes: free,
                ..Space::default()
            };
            assert_eq!(
                self::inodes(&space, &BUDGET).level,
                level,
                "{inodes} {free}"
            );
        }
    }
}
