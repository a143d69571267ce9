//! What this process, or one of its threads, has used, as Linux counts it in /proc.
//!
//! `wchar` is what was given to `write` and its kin; `write_bytes` is what became dirty of files on
//! a block device, in whole pages, each time it did. Closest to what a card gets; what the file
//! system and the card make of it is not in it.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use anyhow::Context as _;
use rustix::time::ClockId;

use crate::sys;

/// Counters; they only grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// `rchar`.
    pub(crate) read_bytes: u64,
    /// `wchar`.
    pub(crate) written_bytes: u64,
    /// `write_bytes`.
    pub(crate) dirtied_bytes: u64,
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Syncs of the process, or zero for a thread.
    pub(crate) syncs: u64,
}

impl Usage {
    /// Of this process with all threads that it has had.
    pub(crate) fn of_process() -> anyhow::Result<Self> {
        let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(time).unwrap_or_default();
        Ok(Self {
            cpu,
            syncs: sys::syncs(),
            ..Self::of_io("/proc/self/io")?
        })
    }

    /// Of the calling thread.
    pub(crate) fn of_thread() -> anyhow::Result<Self> {
        Ok(Self {
            cpu: cpu_of_thread(),
            ..Self::of_io("/proc/thread-self/io")?
        })
    }

    fn of_io(path: &str) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
        Self::of_io_text(&text).with_context(|| format!("{path} is not as expected"))
    }

    fn of_io_text(text: &str) -> Option<Self> {
        Some(Self {
            read_bytes: value(text, "rchar")?,
            written_bytes: value(text, "wchar")?,
            dirtied_bytes: value(text, "write_bytes")?,
            ..Self::default()
        })
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            dirtied_bytes: self.dirtied_bytes.saturating_sub(earlier.dirtied_bytes),
            cpu: self.cpu.saturating_sub(earlier.cpu),
            syncs: self.syncs.saturating_sub(earlier.syncs),
        }
    }
}

/// User and system time of the calling thread.
pub(crate) fn cpu_of_thread() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Memory of this process, in bytes: now, and at its most.
pub(crate) fn memory() -> anyhow::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let kibibytes = |name| value(&text, name).map(|kib| kib * 1024);
    let found = kibibytes("VmRSS").zip(kibibytes("VmHWM"));
    found.context("/proc/self/status has no VmRSS")
}

/// The number in the line `name: number`, with or without a unit behind it.
pub(crate) fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| *found == name)?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_a_file_that_lacks_one_is_refused() {
        let usage = Usage::of_io_text("rchar: 1\nwchar: 20\nwrite_bytes: 8192\n").unwrap();
        assert_eq!(usage.read_bytes, 1);
        assert_eq!((usage.written_bytes, usage.dirtied_bytes), (20, 8192));
        assert!(Usage::of_io_text("wchar: 20\n").is_none());
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(Usage::of_process().unwrap().cpu > Duration::ZERO);
        Usage::of_thread().unwrap();
        let (now, most) = memory().unwrap();
        assert!(now > 0 && most >= now);
    }
}
