//! The machine and the process: memory, files, processors, pages, what is preloaded, and the
//! durability fence. Everything here is a function of texts and numbers.

use serde::Serialize;

use super::finding::{Finding, Level};
use super::mebibytes;

/// Most memory that was measured with the default configuration (docs/bench.md, `memory at most
/// before`) is this and [`SEGMENTS_IN_MEMORY`] segments.
const PROCESS_BYTES: u64 = 60 << 20;
/// Of segments, as far as the databases of the one that is written and of those that are read keep
/// them.
const SEGMENTS_IN_MEMORY: u64 = 4;
/// Files beside connections: databases, listeners, the uplink.
const FILES_BESIDE: u64 = 200;
/// Those of most machines.
const USUAL_PAGE_BYTES: u64 = 4096;
/// Above it a limit is none: cgroup v1 writes it so.
const NO_LIMIT: u64 = 1 << 60;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Demand {
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

impl Demand {
    /// What a busy gateway may come to, slow subscribers aside.
    fn memory_bytes(&self) -> u64 {
        PROCESS_BYTES
            .saturating_add(self.segment_bytes.saturating_mul(SEGMENTS_IN_MEMORY))
            .saturating_add(self.retained_bytes)
            .saturating_add(self.commit_queue_bytes)
    }

    /// What subscribers may make it hold if each connection is one that does not read.
    fn mailboxes_bytes(&self) -> u64 {
        let each = self.mailbox_bytes.saturating_mul(self.connections);
        let beyond = self.packet_bytes.saturating_mul(2);
        let beyond = beyond.saturating_mul(self.connections);
        each.min(self.all_mailboxes_bytes.saturating_add(beyond))
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
pub(super) fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
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

/// Files below /sys/fs/cgroup that may hold a limit of memory, from what is in /proc/PID/cgroup: of
/// the group and of all above it, in both versions of cgroups.
pub(super) fn memory_limit_files(cgroup: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (folder, file) = match controllers {
            "" => ("", "memory.max"),
            "memory" => ("memory/", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_matches('/');
        loop {
            let slash = if path.is_empty() { "" } else { "/" };
            files.push(format!("{folder}{path}{slash}{file}"));
            if path.is_empty() {
                break;
            }
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }
    files
}

/// The least of the limits in such files.
pub(super) fn least_limit<'a>(texts: impl Iterator<Item = &'a str>) -> Option<u64> {
    texts
        .filter_map(|text| text.trim().parse().ok())
        .filter(|limit| *limit < NO_LIMIT)
        .min()
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

fn memory(machine: &Machine, demand: &Demand) -> Vec<Finding> {
    let limits = [machine.memory_bytes, machine.cgroup_limit_bytes];
    let Some(limit) = limits.into_iter().flatten().min() else {
        return vec![Finding::new(
            "memory",
            Level::Note,
            "how much there is cannot be seen",
        )];
    };
    let needed = demand.memory_bytes();
    let group = match machine.cgroup_limit_bytes {
        Some(bytes) => format!(", the cgroup allows {}", mebibytes(bytes)),
        None => String::new(),
    };
    let seen = format!(
        "{} of memory{group}; this configuration may take about {}",
        machine
            .memory_bytes
            .map_or_else(|| String::from("an unknown amount"), mebibytes),
        mebibytes(needed)
    );
    let remedy = "lower storage.segment_bytes, limits.retained_bytes_max or \
                  limits.commit_queue_bytes_max";
    let finding = |level| Finding::new("memory", level, seen.clone());
    let mut findings = vec![if needed > limit {
        finding(Level::Problem)
            .meaning("under load the kernel ends the process")
            .remedy(remedy)
    } else if needed > limit / 2 {
        finding(Level::Warning)
            .meaning("little is left for the rest of the machine and for its file cache")
            .remedy(remedy)
    } else {
        Finding::ok("memory", seen)
    }];
    if needed.saturating_add(demand.mailboxes_bytes()) > limit {
        let seen = format!(
            "{} connections may have {} waiting for them together",
            demand.connections,
            mebibytes(demand.mailboxes_bytes())
        );
        findings.push(
            Finding::new("memory", Level::Note, seen)
                .meaning(
                    "if all of them subscribed to the largest packets and none read, memory would \
                     not be enough",
                )
                .remedy(
                    "lower listener[].connections_max, limits.packet_bytes_max or \
                     limits.all_mailboxes_bytes_max",
                ),
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

    const DEMAND: Demand = Demand {
        segment_bytes: 16 << 20,
        commit_queue_bytes: 8 << 20,
        retained_bytes: 16 << 20,
        mailbox_bytes: 1 << 20,
        all_mailboxes_bytes: 32 << 20,
        packet_bytes: 256 << 10,
        connections: 100,
    };

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
            (256, None, Level::Warning),
            (64, Some(1024), Level::Problem),
        ] {
            let machine = Machine {
                cgroup_limit_bytes: group.map(|group: u64| group << 20),
                ..machine(memory)
            };
            let findings = judge(&machine, &DEMAND);
            assert_eq!(
                find(&findings, "may take about").level,
                level,
                "{memory} {group:?}"
            );
        }
        let many = Demand {
            connections: 2000,
            ..DEMAND
        };
        let findings = judge(&machine(1024), &many);
        assert_eq!(find(&findings, "none read").level, Level::Note);
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
            assert_eq!(open_files(&machine, &DEMAND).level, level, "{limit}");
        }
    }

    #[test]
    fn library_against_syncs_is_a_problem() {
        let mut machine = machine(4096);
        let place = || String::from("LD_PRELOAD");
        machine.preloaded = vec![(place(), String::from("/usr/lib/libeatmydata.so"))];
        assert_eq!(worst(&judge(&machine, &DEMAND)), Level::Problem);
        machine.preloaded = vec![(place(), String::from("/usr/lib/libjemalloc.so"))];
        assert_eq!(worst(&judge(&machine, &DEMAND)), Level::Note);
        machine.preloaded.clear();
        machine.page_bytes = 16_384;
        assert_eq!(
            find(&judge(&machine, &DEMAND), "pages of 16 KiB").level,
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
        assert_eq!(
            memory_total("MemFree: 1 kB\nMemTotal:   2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(memory_total("MemTotal: x kB"), None);
        let limits = "Limit  Soft Hard Units\nMax open files            1024    4096  files\n";
        assert_eq!(open_files_limit(limits), Some(1024));
        assert_eq!(
            open_files_limit("Max open files  unlimited unlimited"),
            Some(u64::MAX)
        );
        assert_eq!(open_files_limit(""), None);
        assert_eq!(
            memory_limit_files("4:memory:/a/b\n3:cpu:/a\n0::/system.slice\nnonsense"),
            [
                "memory/a/b/memory.limit_in_bytes",
                "memory/a/memory.limit_in_bytes",
                "memory/memory.limit_in_bytes",
                "system.slice/memory.max",
                "memory.max"
            ]
        );
        let texts = ["max\n", "9223372036854771712\n", "4096\n", "8192\n"];
        assert_eq!(least_limit(texts.into_iter()), Some(4096));
        assert_eq!(least_limit(["max"].into_iter()), None);
    }
}
