//! What a process has used, as Linux counts it in /proc.
//!
//! What the counters mean (proc(5), proc_pid_io(5)):
//! - `utime` and `stime` are the processor time of all threads, shown in ticks, commonly of 10 ms.
//!   `schedstat` has the same for one thread in nanoseconds, as long as the thread lives.
//! - `wchar` is what was given to `write`, `writev`, `pwrite` and the like, sockets and pipes
//!   included, but not to `send`. What is written through mapped memory is not in it.
//! - `write_bytes` is what the process made dirty of files on a block device, in whole pages, when
//!   it made it dirty: a page that is filled in two steps with a sync between them counts twice.
//!   Memory file systems count nothing.
//! - `rchar` and `read_bytes` are their twins for reading: asked for, and fetched from the device.
//! - `VmRSS` and `VmHWM`: memory in use now, and at its most since the program began.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    /// User and system time, in whole ticks.
    pub(super) ticks: Duration,
    /// The same of the threads that live, exactly; zero if the kernel does not say.
    pub(super) threads: Duration,
    /// `wchar`.
    pub(super) written_bytes: u64,
    /// `write_bytes`.
    pub(super) dirtied_bytes: u64,
    /// `rchar`.
    pub(super) read_bytes: u64,
    /// `read_bytes`.
    pub(super) fetched_bytes: u64,
    /// `VmRSS`.
    pub(super) rss_bytes: u64,
    /// `VmHWM`.
    pub(super) rss_peak_bytes: u64,
}

impl Usage {
    /// Of a process of this user.
    ///
    /// # Errors
    /// It has ended, or the kernel does not count.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |name| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("read {path}"))
        };
        let ticks = rustix::param::clock_ticks_per_second();
        let usage = parse(&read("stat")?, &read("io")?, &read("status")?, ticks);
        let usage = usage.with_context(|| format!("/proc/{pid} is not as expected"))?;
        Ok(Self {
            threads: threads(pid),
            ..usage
        })
    }

    /// Of this process.
    ///
    /// # Errors
    /// As [`Usage::of`].
    pub(super) fn of_this_process() -> anyhow::Result<Self> {
        Self::of(std::process::id())
    }

    /// What was used since `earlier`. Memory is as it is now.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            ticks: self.ticks.saturating_sub(earlier.ticks),
            threads: self.threads.saturating_sub(earlier.threads),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            dirtied_bytes: self.dirtied_bytes.saturating_sub(earlier.dirtied_bytes),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            fetched_bytes: self.fetched_bytes.saturating_sub(earlier.fetched_bytes),
            ..self
        }
    }

    /// Processor time: to the nanosecond, unless ticks tell of much more, because a thread has ended.
    pub(super) fn cpu(self) -> Duration {
        if self.ticks > self.threads + TICKS_GRAIN {
            self.ticks
        } else {
            self.threads
        }
    }
}

/// By how much ticks may be off: one at either end, and user and system time apart.
const TICKS_GRAIN: Duration = Duration::from_millis(40);

/// Time that the living threads of a process have run.
fn threads(pid: u32) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let of_task = |task: fs::DirEntry| {
        // Nanoseconds run, nanoseconds waited, time slices. A thread may end meanwhile.
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let nanoseconds = tasks.filter_map(|task| of_task(task.ok()?));
    nanoseconds.map(Duration::from_nanos).sum()
}

fn parse(stat: &str, io: &str, status: &str, ticks_per_second: u64) -> Option<Usage> {
    // The name of the program stands in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // utime and stime are fields 14 and 15; the first after the name is field 3.
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()?.checked_add(ticks()?)?;
    let kibibytes = |name| value(status, name)?.checked_mul(1024);
    Some(Usage {
        ticks: Duration::from_millis(ticks.checked_mul(1000)?.checked_div(ticks_per_second)?),
        threads: Duration::ZERO,
        written_bytes: value(io, "wchar")?,
        dirtied_bytes: value(io, "write_bytes")?,
        read_bytes: value(io, "rchar")?,
        fetched_bytes: value(io, "read_bytes")?,
        rss_bytes: kibibytes("VmRSS")?,
        rss_peak_bytes: kibibytes("VmHWM")?,
    })
}

/// The number in the line `name: number`, with or without a unit behind it.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| *found == name)?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "77 (a) b (c) S 1 77 77 0 -1 4194560 9 0 0 0 120 30 0 0 20 0 1 0 5 6 7 8";
    const IO: &str = "rchar: 10\nwchar: 20\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\n\
                      write_bytes: 8192\ncancelled_write_bytes: 5\n";
    const STATUS: &str = "Name:\ta\nVmHWM:\t    300 kB\nVmRSS:\t    200 kB\n";

    #[test]
    fn files_of_proc_are_understood() {
        let expected = Usage {
            ticks: Duration::from_millis(1500),
            threads: Duration::ZERO,
            written_bytes: 20,
            dirtied_bytes: 8192,
            read_bytes: 10,
            fetched_bytes: 4096,
            rss_bytes: 200 * 1024,
            rss_peak_bytes: 300 * 1024,
        };
        assert_eq!(parse(STAT, IO, STATUS, 100), Some(expected));
    }

    #[test]
    fn files_that_lack_something_are_refused() {
        assert_eq!(parse("77 (a) S 1 2", IO, STATUS, 100), None);
        assert_eq!(parse(STAT, "rchar: 10\n", STATUS, 100), None);
        // A process that has ended and was not waited for has no memory.
        assert_eq!(parse(STAT, IO, "Name:\ta\n", 100), None);
        assert_eq!(parse(STAT, IO, STATUS, 0), None);
    }

    #[test]
    fn this_process_has_used_something_and_a_missing_one_is_named() {
        let usage = Usage::of_this_process().unwrap();
        assert!(usage.read_bytes > 0 && usage.rss_bytes > 0);
        assert!(usage.rss_peak_bytes >= usage.rss_bytes);
        assert!(usage.cpu() > Duration::ZERO);
        let error = Usage::of(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/"), "{error}");
    }

    #[test]
    fn ticks_count_only_when_a_thread_must_have_ended() {
        let cpu = |ticks, threads| {
            let usage = Usage {
                ticks: Duration::from_millis(ticks),
                threads: Duration::from_micros(threads),
                ..Usage::default()
            };
            usage.cpu().as_micros()
        };
        assert_eq!(cpu(20, 12_345), 12_345);
        assert_eq!(cpu(0, 9_999), 9_999);
        assert_eq!(cpu(900, 12_345), 900_000);
    }

    #[test]
    fn difference_counts_what_came_since_and_keeps_memory() {
        let earlier = parse(STAT, IO, STATUS, 100).unwrap();
        let later = Usage {
            threads: earlier.threads + Duration::from_millis(7),
            written_bytes: 21,
            ..earlier
        };
        let since = later.since(earlier);
        assert_eq!((since.cpu().as_millis(), since.written_bytes), (7, 1));
        assert_eq!(
            (since.dirtied_bytes, since.rss_bytes),
            (0, earlier.rss_bytes)
        );
    }
}
