//! Whether a soak met its targets, with the figures that say so.
//!
//! Judged is what came after the oldest log was full: before, nothing is in its final state.

use std::fmt;

use super::samples::{Sample, per};
use crate::figure;
use crate::usage::Usage;

/// From this payload on the strict limit for bytes written holds; smaller records carry relatively
/// more key, topic and framing.
const LARGE_RECORD_BYTES: u32 = 1024;

/// A target and what was found.
#[derive(Debug)]
struct Line {
    what: &'static str,
    found: Option<f64>,
    most: f64,
    /// What was missing, if it is not found.
    needs: String,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Verdict {
    steady: usize,
    lines: Vec<Line>,
}

/// Judges a soak whose oldest log is full after so many hours.
pub(super) fn judge(samples: &[Sample], steady_after_hours: f64, size: u32) -> Verdict {
    let first = samples
        .iter()
        .position(|sample| sample.hours > steady_after_hours)
        .unwrap_or(samples.len());
    let steady = samples.get(first..).unwrap_or_default();
    let before = first.checked_sub(1).and_then(|at| samples.get(at));
    let before = before.copied().unwrap_or_default();
    let last = steady.last().copied().unwrap_or_default();
    let payload = last.payload_bytes.saturating_sub(before.payload_bytes);
    let (mut store, mut bare) = (Usage::default(), Usage::default());
    for sample in steady {
        add(&mut store, sample.store);
        add(&mut bare, sample.bare);
    }
    let (earlier, later) = steady.split_at(steady.len() / 2);
    let halves = [earlier, later];
    let drift = |of: fn(&Sample) -> Option<f64>| Some(median(later, of)? / median(earlier, of)?);
    let written_most = if size >= LARGE_RECORD_BYTES { 1.3 } else { 2.0 };
    let is_measured = payload > 0;
    let line = |what, found: Option<f64>, most| Line {
        what,
        found: found.filter(|_| is_measured),
        most,
        needs: "samples after the oldest log was full".to_owned(),
    };
    // What else the machine does makes some openings longer, and none shorter.
    let least = |half: &[Sample]| half.iter().filter_map(|s| s.open_ms).reduce(f64::min);
    let opening = || Some(least(later)? / least(earlier)?);
    let reopened = halves.map(|half| half.iter().filter(|s| s.open_ms.is_some()).count());
    let disk = |sample: &Sample| Some(per(sample.disk_bytes, sample.live_bytes));
    let cpu = store.cpu.as_secs_f64() / bare.cpu.as_secs_f64().max(1e-9);
    let dirtied = per(store.dirtied_bytes, bare.dirtied_bytes);
    let written = per(store.written_bytes, payload);
    let lines = vec![
        line("disk/live, median", median(steady, disk), 1.3),
        line(
            "disk/live, most",
            steady.iter().filter_map(disk).reduce(f64::max),
            1.6,
        ),
        line("write() bytes/payload byte", Some(written), written_most),
        line("dirtied bytes/those of bare files", Some(dirtied), 1.5),
        line("CPU/that of bare files", Some(cpu), 2.0),
        line("disk/live, second half/first half", drift(disk), 1.1),
        line(
            "memory, second half/first half",
            drift(|sample| Some(figure(sample.rss_bytes))),
            1.25,
        ),
        Line {
            needs: format!(
                "a reopening in each half of these samples; there were {} and {} (--reopen-every)",
                reopened[0], reopened[1]
            ),
            ..line("least time to open, second half/first half", opening(), 2.0)
        },
    ];
    Verdict {
        steady: steady.len(),
        lines,
    }
}

fn add(sum: &mut Usage, more: Usage) {
    sum.written_bytes += more.written_bytes;
    sum.dirtied_bytes += more.dirtied_bytes;
    sum.cpu += more.cpu;
    sum.syncs += more.syncs;
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = samples.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Verdict {
    /// Whether every target was measured and met.
    pub(super) fn is_met(&self) -> bool {
        self.lines.iter().all(Line::is_met)
    }
}

impl Line {
    fn is_met(&self) -> bool {
        self.found.is_some_and(|found| found <= self.most)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "of {} samples after the oldest log was full:",
            self.steady
        )?;
        for line in &self.lines {
            let found = line
                .found
                .map_or_else(|| "not measured".to_owned(), |found| format!("{found:.3}"));
            let word = if line.is_met() { "met" } else { "MISSED" };
            let (what, most) = (line.what, line.most);
            let needs = match line.found {
                Some(_) => String::new(),
                None => format!("; needs {}", line.needs),
            };
            writeln!(
                f,
                "{word:<7} {what:<38} {found:>12}   at most {most}{needs}"
            )?;
        }
        let word = if self.is_met() {
            "all targets are met"
        } else {
            "targets are missed"
        };
        f.write_str(word)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soak(disk_of: impl Fn(u64) -> u64) -> Vec<Sample> {
        let used = |bytes, ms| Usage {
            read_bytes: 0,
            written_bytes: bytes,
            dirtied_bytes: bytes,
            cpu: Duration::from_millis(ms),
            syncs: 1,
        };
        (1..=20)
            .map(|n| Sample {
                hours: figure(n * 100),
                records: n,
                payload_bytes: n * 1000,
                live_payload_bytes: 1000,
                live_bytes: 1000,
                disk_bytes: disk_of(n),
                store: used(1200, 15),
                bare: used(1000, 10),
                rss_bytes: 1000,
                open_ms: Some(10.0),
                segments: 10,
                open_databases: 1,
            })
            .collect()
    }

    #[test]
    fn flat_soak_below_its_limits_is_met() {
        let verdict = judge(&soak(|_| 1250), 336.0, 1024);
        assert!(verdict.is_met(), "{verdict}");
    }

    #[test]
    fn disk_that_is_not_given_back_is_missed() {
        let verdict = judge(&soak(|_| 2900), 336.0, 1024);
        assert!(verdict.to_string().contains("MISSED  disk/live, median"));
        assert!(!verdict.is_met());
    }

    #[test]
    fn disk_that_creeps_up_is_missed_although_it_is_small() {
        let verdict = judge(&soak(|n| 1000 + n * 14), 336.0, 1024);
        let text = verdict.to_string();
        assert!(text.contains("MISSED  disk/live, second half"), "{text}");
    }

    #[test]
    fn openings_that_take_longer_and_longer_are_missed_and_one_long_one_is_not() {
        let with = |open_ms: fn(u64) -> f64| {
            let mut soak = soak(|_| 1250);
            for (n, sample) in (1..).zip(&mut soak) {
                sample.open_ms = Some(open_ms(n));
            }
            judge(&soak, 336.0, 1024)
        };
        let text = with(|n| if n > 11 { 25.0 } else { 10.0 }).to_string();
        assert!(text.contains("MISSED  least time to open"), "{text}");
        assert!(with(|n| if n > 14 { 100.0 } else { 10.0 }).is_met());
    }

    #[test]
    fn soak_that_was_reopened_too_seldom_says_how_often_it_must_be() {
        let mut soak = soak(|_| 1250);
        let last = soak.len() - 1;
        for sample in &mut soak[..last] {
            sample.open_ms = None;
        }
        let verdict = judge(&soak, 336.0, 1024);
        let text = verdict.to_string();
        assert!(!verdict.is_met());
        let expected = "needs a reopening in each half of these samples; there were 0 and 1";
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.matches("needs").count(), 1, "{text}");
    }

    #[test]
    fn soak_that_was_too_short_is_not_met() {
        let verdict = judge(&soak(|_| 1250), 5000.0, 1024);
        assert!(verdict.to_string().contains("not measured"));
        assert!(!verdict.is_met());
    }
}
