//! Room: what is free against what the configuration may fill.

use storage::DiskNeed;

use super::finding::{Finding, Level};
use super::mebibytes;
use crate::room::{self, Space, Verdict};

/// What it means.
pub(super) fn judge(space: Option<&Space>, need: &DiskNeed) -> Vec<Finding> {
    let Some(space) = space else {
        return vec![Finding::new(
            "space",
            Level::Warning,
            "free space cannot be seen",
        )];
    };
    let mut findings = vec![room(space, need)];
    if space.free_bytes < need.reserve_bytes {
        let seen = format!(
            "{} free, less than the reserve of {}",
            mebibytes(space.free_bytes),
            mebibytes(need.reserve_bytes)
        );
        findings.push(
            Finding::new("space", Level::Problem, seen)
                .meaning("publishes that would be stored are refused")
                .remedy("free space, or lower storage.free_space_reserve"),
        );
    }
    findings.push(inodes(space, need));
    findings
}

fn room(space: &Space, need: &DiskNeed) -> Finding {
    let seen = format!(
        "{} free of {}, the folder has {}; the configuration may fill {} ({})",
        mebibytes(space.free_bytes),
        mebibytes(space.total_bytes),
        space
            .used_bytes
            .map_or_else(|| String::from("a size that cannot be seen"), mebibytes),
        mebibytes(need.total_bytes()),
        room::parts(need),
    );
    let finding = |level| Finding::new("space", level, seen.clone());
    match room::judge(space, need) {
        Verdict::Fits => Finding::ok("space", seen),
        Verdict::Never => finding(Level::Problem)
            .meaning("it can never fit: the disk is full before retention removes anything")
            .remedy(
                "lower log[].retention.bytes, or use a larger card; `tidegate check` says what fits",
            ),
        Verdict::NotNow => finding(Level::Problem)
            .meaning(
                "it does not fit beside what else is there: the disk is full before retention \
                 removes anything, and publishes are refused",
            )
            .remedy("free space, or lower log[].retention.bytes"),
        Verdict::Hidden => finding(Level::Note)
            .meaning("whether it fits depends on what the folder has already")
            .remedy("call it as the user that the gateway runs as, or as root"),
        Verdict::NoSize => finding(Level::Note)
            .meaning("the file system does not say how large it is: whether it fits is not known"),
    }
}

fn inodes(space: &Space, need: &DiskNeed) -> Finding {
    if space.inodes == 0 {
        return Finding::ok("inodes", "the file system makes them as needed");
    }
    let needed = need.files;
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
    use storage::{LogOptions, StoreOptions};

    use super::super::finding::expect::{find, worst};
    use super::*;

    const GIB: u64 = 1 << 30;

    fn space(total: u64, free: u64, used: u64) -> Space {
        Space {
            total_bytes: total,
            usable_bytes: total,
            free_bytes: free,
            inodes: 1_000_000,
            free_inodes: 900_000,
            used_bytes: Some(used),
        }
    }

    /// One log of 2 GiB.
    fn need() -> DiskNeed {
        let log = LogOptions {
            retention_bytes: 2 * GIB,
            ..LogOptions::new("log", 1)
        };
        DiskNeed::of(&StoreOptions::default(), &[log], 16 << 20)
    }

    #[test]
    fn budget_that_cannot_fit_is_a_problem() {
        for (total, free, used, level, word) in [
            (8 * GIB, 3 * GIB, 0, Level::Ok, "may fill"),
            (8 * GIB, GIB, 0, Level::Problem, "beside what else is there"),
            // What the folder has already is part of the budget.
            (8 * GIB, GIB, 2 * GIB, Level::Ok, "may fill"),
            (2 * GIB, 2 * GIB, 0, Level::Problem, "never fit"),
        ] {
            let findings = judge(Some(&space(total, free, used)), &need());
            assert_eq!(find(&findings, word).level, level, "{total} {free} {used}");
        }
        let hidden = Space {
            used_bytes: None,
            ..space(8 * GIB, GIB, 0)
        };
        assert_eq!(worst(&judge(Some(&hidden), &need())), Level::Note);
        assert_eq!(worst(&judge(None, &need())), Level::Warning);
    }

    #[test]
    fn less_than_the_reserve_is_a_problem() {
        let findings = judge(Some(&space(8 * GIB, 63 << 20, 4 * GIB)), &need());
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
                self::inodes(&space, &need()).level,
                level,
                "{inodes} {free}"
            );
        }
    }
}
