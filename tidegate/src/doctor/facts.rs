//! Everything that is known, gathered from the machine; judging is elsewhere.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use firmware_config::Config;
use storage::{ClockSource as _, DiskNeed, RELEASE_TIME_MS, SystemClock};

use super::clock::{self, Clock};
use super::device::{self, Device};
use super::finding::Finding;
use super::folder::{self, Folder};
use super::machine::{self, Demand, Machine};
use super::mount::{self, Mount};
use super::space;
use super::sync::{self, Measured};
use crate::machine::{memory_limit, memory_total};
use crate::room::memory::{self, MemoryVerdict};
use crate::room::{self, Space, nearest_existing};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Facts {
    /// Absolute.
    pub(super) data_dir: PathBuf,
    /// Where the temporary folder was, if one could be made.
    pub(super) measured_in: Option<PathBuf>,
    pub(super) measured: Measured,
    /// What came of opening a small store; `None`: not tried.
    pub(super) fence: Option<Result<u64, String>>,
    pub(super) mount: Option<Mount>,
    pub(super) device: Option<Device>,
    pub(super) space: Option<Space>,
    pub(super) need: DiskNeed,
    pub(super) clock: Clock,
    pub(super) has_retention_age: bool,
    pub(super) machine: Machine,
    pub(super) demand: Demand,
    pub(super) folder: Folder,
}

impl Facts {
    /// Looks at everything that is not measured. `config` has the data folder.
    pub(super) fn gather(config: &Config, data_dir: PathBuf) -> Self {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let folder = folder::look(&data_dir, &locks);
        let existing = nearest_existing(&data_dir);
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = mount::of_path(&mountinfo, &existing.to_string_lossy());
        let device = mount.as_ref().and_then(read_device);
        Self {
            measured_in: None,
            measured: Measured::NotBegun {
                why: String::from("nobody asked for it"),
                remedy: "",
            },
            fence: None,
            device,
            mount,
            space: Space::of(&data_dir).ok(),
            need: room::need(config),
            clock: read_clock(),
            has_retention_age: config.logs.iter().any(|log| log.retention.age.is_some()),
            machine: read_machine(folder.held_by),
            demand: demand(config),
            folder,
            data_dir,
        }
    }

    /// What all of it means.
    pub(super) fn judge(&self) -> Vec<Finding> {
        let is_memory = self.mount.as_ref().is_some_and(Mount::is_memory);
        let device = self.device.as_ref();
        let mut findings = folder::judge(&self.folder);
        findings.extend(mount::judge(self.mount.as_ref()));
        if !is_memory {
            findings.extend(device::judge(device));
        }
        findings.extend(sync::judge(&self.measured, device, is_memory));
        findings.push(machine::judge_fence(self.fence.as_ref()));
        findings.extend(space::judge(self.space.as_ref(), &self.need));
        findings.extend(clock::judge(
            &self.clock,
            RELEASE_TIME_MS,
            self.has_retention_age,
        ));
        findings.extend(machine::judge(&self.machine, &self.demand));
        findings
    }
}

fn read_device(mount: &Mount) -> Option<Device> {
    let sys = Path::new("/sys");
    device::read(sys, &mount.device_number).or_else(|| {
        // btrfs and overlay have no device number of their own.
        let number = fs::metadata(&mount.source).ok()?.st_rdev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        (major > 0).then(|| device::read(sys, &format!("{major}:{minor}")))?
    })
}

fn read_clock() -> Clock {
    let clock = SystemClock::new();
    let has_entries = |path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    Clock {
        wall_ms: clock.wall_ms(),
        error_ms: clock.wall_error_ms(),
        has_rtc: has_entries("/sys/class/rtc") || Path::new("/dev/rtc0").exists(),
    }
}

fn read_machine(gateway: Option<u32>) -> Machine {
    let read = |path: &str| fs::read_to_string(path).ok();
    let of_gateway = gateway.and_then(|pid| read(&format!("/proc/{pid}/limits")));
    let is_of_gateway = of_gateway.is_some();
    let process = gateway
        .filter(|_| is_of_gateway)
        .map_or_else(|| String::from("self"), |pid| pid.to_string());
    let limits = of_gateway
        .or_else(|| read("/proc/self/limits"))
        .unwrap_or_default();
    let system = rustix::system::uname();
    Machine {
        memory_bytes: read("/proc/meminfo").as_deref().and_then(memory_total),
        cgroup_limit_bytes: memory_limit(Path::new("/"), &process),
        open_files_limit: machine::open_files_limit(&limits),
        is_of_gateway,
        processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        kernel: system.release().to_string_lossy().into_owned(),
        architecture: system.machine().to_string_lossy().into_owned(),
        page_bytes: rustix::param::page_size() as u64,
        preloaded: preloaded(gateway),
    }
}

fn preloaded(gateway: Option<u32>) -> Vec<(String, String)> {
    const VARIABLE: &str = "LD_PRELOAD";
    const FILE: &str = "/etc/ld.so.preload";
    let mut found = Vec::new();
    if let Some(value) = std::env::var_os(VARIABLE) {
        found.push((VARIABLE.to_owned(), value.to_string_lossy().into_owned()));
    }
    if let Ok(text) = fs::read_to_string(FILE) {
        found.push((FILE.to_owned(), text.trim().to_owned()));
    }
    if let Some(pid) = gateway {
        // Only its own user and root may read it.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        let value = environment
            .split('\0')
            .find_map(|entry| entry.strip_prefix("LD_PRELOAD="));
        let place = format!("{VARIABLE} of process {pid}");
        found.extend(value.map(|value| (place, value.to_owned())));
    }
    found.retain(|(_, what)| !what.is_empty());
    found
}

fn demand(config: &Config) -> Demand {
    let need = memory::need(config);
    Demand {
        board: config.board.board.to_string(),
        board_why: config.board.why.clone(),
        memory_bytes: need.total_bytes(),
        budget: memory::budget(config),
        fits_budget: match memory::judge(config, &need) {
            MemoryVerdict::Fits => Some(true),
            MemoryVerdict::TooMuch | MemoryVerdict::BudgetTooLarge => Some(false),
            MemoryVerdict::Unknown => None,
        },
        beyond_bytes: need.beyond_bytes,
        segment_bytes: config.storage.segment_bytes.get(),
        commit_queue_bytes: config.limits.commit_queue_bytes_max.get(),
        retained_bytes: config.limits.retained_bytes_max.get(),
        mailbox_bytes: config.limits.mailbox_bytes_max.get(),
        all_mailboxes_bytes: config.limits.all_mailboxes_bytes_max.get(),
        packet_bytes: config.limits.packet_bytes_max.get(),
        connections: config.listeners.iter().fold(0, |sum: u64, listener| {
            sum.saturating_add(u64::from(listener.connections_max))
        }),
    }
}
