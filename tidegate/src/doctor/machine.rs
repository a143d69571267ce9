//! The machine and the process: memory, files, processors, pages, what is preloaded, and the
//! durability fence. Everything here is a function of texts and numbers.

use serde::Serialize;

use super::finding::{Finding, Level};
use super::mebibytes;

/// Files beside connections: databases, listeners, the uplink.
const FILES_BESIDE: u64 = 200;
/// Those of most machines.
const USUAL_PAGE_BYTES: u64 = 4096;
/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    pub(super) memory_bytes: Option<u64>,
    /// Of the cgroup of the gateway if it runs and can be seen, else of this process.
    pub(super) cgroup_limit_bytes: Option<u64>,
    /// Likewise.
    pub(super) open_files_limit: Option<u64>,
    /// Whether the two above are the running gateway's.
    pub(super) is_of_gateway: bool,
    pub(super) processors: u64,
    pub(super) kernel: String,
    pub(super) architecture: String,
    pub(super) page_bytes: u64,
    /// Where libraries are named that are put before all others, and which.
    pub(super) preloaded: Vec<(String, String)>,
}

/// What the configuration may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Demand {
    /// The board whose defaults hold, and why it is that one.
    pub(super) board: String,
    pub(super) board_why: String,
    /// All bounds together.
    pub(super) memory_bytes: u64,
    /// What it may have of the memory, in words.
    pub(super) budget: String,
    /// Whether it fits that; `None` where it is not known.
    pub(super) fits_budget: Option<bool>,
    /// What all connections may have beyond that, each in the worst place.
    pub(super) beyond_bytes: u64,
    pub(super) segment_bytes: u64,
    pub(super) commit_queue_bytes: u64,
    pub(super) retained_bytes: u64,
    /// For one slow subscriber.
    pub(super) mailbox_bytes: u64,
    /// For all of them together.
    pub(super) all_mailboxes_bytes: u64,
    /// One message and its packet each may have waiting beyond that.
    pub(super) packet_bytes: u64,
    /// Of all listeners.
    pub(super) connections: u64,
}

/// The soft limit of open files in /proc/PID/limits.
pub(super) fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// What it means.
pub(super) fn judge(machine: &Machine, demand: &Demand) -> Vec<Finding> {
    let mut findings = memory(machine, demand);
    findings.push(open_files(machine, demand));
    let pages = format!(
        "{} processors, pages of {} KiB, Linux {} on {}",
        machine.processors,
        machine.page_bytes >> 10,
        machine.kernel,
        machine.architecture
    );
    findings.push(if machine.page_bytes > USUAL_PAGE_BYTES {
        Finding::new("machine", Level::Note, pages).meaning(
            "pages are larger than usual (a Raspberry Pi 5 has 16 KiB): a small commit dirties \
             more, so linger spares the card more",
        )
    } else {
        Finding::ok("machine", pages)
    });
    findings.extend(
        machine
            .preloaded
            .iter()
            .map(|(place, what)| preloaded(place, what)),
    );
    findings
}

/// The board, and whether what the configuration may take fits its memory.
fn memory(machine: &Machine, demand: &Demand) -> Vec<Finding> {
    let seen = format!("{}, {}", demand.board, demand.board_why);
    let mut findings = vec![Finding::ok("board", seen)];
    let limits = [machine.memory_bytes, machine.cgroup_limit_bytes];
    let limit = limits.into_iter().flatten().min();
    let needed = demand.memory_bytes;
    let group = match machine.cgroup_limit_bytes {
        Some(bytes) => format!(", the cgroup allows {}", mebibytes(bytes)),
        None => String::new(),
    };
    let seen = format!(
        "{} of memory{group}; this configuration may take {}, its budget is {}",
        machine
            .memory_bytes
            .map_or_else(|| String::from("an unknown amount"), mebibytes),
        mebibytes(needed),
        demand.budget
    );
    let remedy = "lower what `tidegate check` lists";
    let finding = |level| Finding::new("memory", level, seen.clone());
    findings.push(match (limit, demand.fits_budget) {
        (Some(limit), _) if needed > limit => finding(Level::Problem)
            .meaning("under load the kernel ends the process")
            .remedy(remedy),
        (_, Some(false)) => finding(Level::Problem)
            .meaning(
                "it does not fit: under load little is left for the rest of the machine and for its \
                 file cache, or the kernel ends the process",
            )
            .remedy(remedy),
        (_, None) => finding(Level::Note).meaning("whether it fits is not known"),
        (_, Some(true)) => Finding::ok("memory", seen),
    });
    if limit.is_some_and(|limit| needed.saturating_add(demand.beyond_bytes) > limit) {
        let seen = format!(
            "{} connections may have {} beyond that",
            demand.connections,
            mebibytes(demand.beyond_bytes)
        );
        findings.push(
            Finding::new("memory", Level::Note, seen)
                .meaning(
                    "if all of them sent and took the largest packets at one time, and none read, \
                     memory would not be enough",
                )
                .remedy("lower listener[].connections_max or limits.packet_bytes_max"),
        );
    }
    findings
}

fn open_files(machine: &Machine, demand: &Demand) -> Finding {
    let whose = if machine.is_of_gateway {
        "of the running gateway"
    } else {
        "of this shell; the unit in systemd/ sets its own"
    };
    let Some(limit) = machine.open_files_limit else {
        return Finding::new("open files", Level::Note, "the limit cannot be seen");
    };
    let needed = demand.connections.saturating_add(FILES_BESIDE);
    let seen = format!("{limit} open files allowed ({whose}), {needed} may be needed");
    if limit >= needed {
        return Finding::ok("open files", seen);
    }
    let level = if machine.is_of_gateway {
        Level::Warning
    } else {
        Level::Note
    };
    Finding::new("open files", level, seen)
        .meaning("with that many connections the store cannot open its files, and ends with 74")
        .remedy("raise LimitNOFILE (ulimit -n), or lower listener[].connections_max")
}

fn preloaded(place: &str, what: &str) -> Finding {
    let seen = format!("{place}: {what}");
    let is_against_syncs = ["eatmydata", "nosync", "libfsync", "nofsync"]
        .iter()
        .any(|name| what.contains(name));
    if is_against_syncs {
        return Finding::new("preload", Level::Problem, seen)
            .meaning("it turns syncs into nothing: what is acknowledged is lost at a power cut")
            .remedy("remove it");
    }
    Finding::new("preload", Level::Note, seen)
        .meaning("a library stands before all others, and may change what a sync does")
}

/// What came of opening a small store: how many syncs it made, or why it could not be opened.
pub(super) fn judge_fence(fence: Option<&Result<u64, String>>) -> Finding {
    match fence {
        None => Finding::new("fence", Level::Note, "the durability fence was not tried"),
        Some(Ok(syncs)) => Finding::ok(
            "fence",
            format!("the durability fence is in this binary: a small store made {syncs} syncs"),
        ),
        Some(Err(why)) => Finding::new("fence", Level::Problem, why.clone())
            .meaning("the gateway would not start here")
            .remedy("use another build if it is the fence; otherwise see the findings on the card"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::expect::{find, worst};
    use super::*;

    /// With a budget that it fits.
    fn demand(connections: u64) -> Demand {
        Demand {
            board: String::from("pi-3"),
            memory_bytes: 148 << 20,
            fits_budget: Some(true),
            beyond_bytes: connections * (768 << 10),
            connections,
            ..Demand::default()
        }
    }

    fn machine(memory_mib: u64) -> Machine {
        Machine {
            memory_bytes: Some(memory_mib << 20),
            open_files_limit: Some(1024),
            page_bytes: 4096,
            ..Machine::default()
        }
    }

    #[test]
    fn memory_is_judged_against_the_smaller_limit() {
        for (memory, group, level) in [
            (1024, None, Level::Ok),
            (1024, Some(128), Level::Problem),
            (64, Some(1024), Level::Problem),
        ] {
            let machine = Machine {
                cgroup_limit_bytes: group.map(|group: u64| group << 20),
                ..machine(memory)
            };
            let findings = judge(&machine, &demand(100));
            assert_eq!(
                find(&findings, "may take 148 MiB").level,
                level,
                "{memory} {group:?}"
            );
        }
        let findings = judge(&machine(1024), &demand(2000));
        assert_eq!(find(&findings, "none read").level, Level::Note);
    }

    #[test]
    fn board_is_told_and_a_budget_that_is_too_small() {
        for (fits_budget, level) in [
            (Some(true), Level::Ok),
            (Some(false), Level::Problem),
            (None, Level::Note),
        ] {
            let demand = Demand {
                fits_budget,
                ..demand(100)
            };
            let findings = judge(&machine(1024), &demand);
            assert_eq!(find(&findings, "its budget is").level, level);
            assert_eq!(find(&findings, "pi-3").level, Level::Ok);
        }
    }

    #[test]
    fn limit_of_open_files_below_the_connections_is_told() {
        for (limit, is_of_gateway, level) in [
            (300, true, Level::Ok),
            (299, true, Level::Warning),
            (299, false, Level::Note),
        ] {
            let machine = Machine {
                open_files_limit: Some(limit),
                is_of_gateway,
                ..machine(1024)
            };
            assert_eq!(open_files(&machine, &demand(100)).level, level, "{limit}");
        }
    }

    #[test]
    fn library_against_syncs_is_a_problem() {
        let mut machine = machine(4096);
        let place = || String::from("LD_PRELOAD");
        machine.preloaded = vec![(place(), String::from("/usr/lib/libeatmydata.so"))];
        assert_eq!(worst(&judge(&machine, &demand(100))), Level::Problem);
        machine.preloaded = vec![(place(), String::from("/usr/lib/libjemalloc.so"))];
        assert_eq!(worst(&judge(&machine, &demand(100))), Level::Note);
        machine.preloaded.clear();
        machine.page_bytes = 16_384;
        assert_eq!(
            find(&judge(&machine, &demand(100)), "pages of 16 KiB").level,
            Level::Note
        );
    }

    #[test]
    fn fence_that_is_not_there_is_a_problem() {
        assert_eq!(judge_fence(Some(&Ok(3))).level, Level::Ok);
        assert_eq!(
            judge_fence(Some(&Err(String::from("x")))).level,
            Level::Problem
        );
        assert_eq!(judge_fence(None).level, Level::Note);
    }

    #[test]
    fn texts_of_the_kernel_are_read() {
        let limits = "Limit  Soft Hard Units\nMax open files            1024    4096  files\n";
        assert_eq!(open_files_limit(limits), Some(1024));
        assert_eq!(
            open_files_limit("Max open files  unlimited unlimited"),
            Some(u64::MAX)
        );
        assert_eq!(open_files_limit(""), None);
    }
}
