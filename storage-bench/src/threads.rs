//! Processor time of this process by the names of its threads, as Linux counts it in
//! `/proc/self/task/*/schedstat`.
//!
//! A thread's time ends with it: look before threads are ended on purpose.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct ThreadTimes {
    /// Nanoseconds of each thread, by its directory's name, when it was last looked at.
    seen: HashMap<String, u64>,
    by_name: BTreeMap<String, Duration>,
}

impl ThreadTimes {
    /// Adds what each thread has used since the last look.
    ///
    /// # Errors
    /// `/proc/self/task` cannot be read.
    pub(crate) fn look(&mut self) -> anyhow::Result<()> {
        let mut seen = HashMap::new();
        for entry in fs::read_dir("/proc/self/task").context("read /proc/self/task")? {
            let folder = entry?.path();
            let read = |file| fs::read_to_string(folder.join(file));
            // It may have ended.
            let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else {
                continue;
            };
            let ns = times.split_whitespace().next();
            let Some(ns) = ns.and_then(|ns| ns.parse::<u64>().ok()) else {
                continue;
            };
            let id = folder.to_string_lossy().into_owned();
            let before = self.seen.get(&id).copied().unwrap_or_default();
            // A number may be given to a new thread.
            let used = if ns < before { ns } else { ns - before };
            *self.by_name.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(used);
            seen.insert(id, ns);
        }
        self.seen = seen;
        Ok(())
    }

    /// Names and times since the first look, those that used most first.
    pub(crate) fn most_first(&self) -> Vec<(&str, Duration)> {
        let times = self.by_name.iter();
        let mut times: Vec<_> = times.map(|(name, time)| (name.as_str(), *time)).collect();
        times.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_thread_is_found_under_its_name() {
        let mut times = ThreadTimes::default();
        let busy = || {
            let mut sum = 0_u64;
            for number in 0..20_000_000_u64 {
                sum = std::hint::black_box(sum ^ number);
            }
            let mut looked = ThreadTimes::default();
            looked.look().unwrap();
            (sum, looked)
        };
        let thread = std::thread::Builder::new().name("busy".to_owned());
        let (_, looked) = thread.spawn(busy).unwrap().join().unwrap();
        let found = looked.most_first().into_iter().find(|(n, _)| *n == "busy");
        assert!(found.unwrap().1 > Duration::ZERO);
        times.look().unwrap();
        assert!(!times.most_first().is_empty());
    }
}
