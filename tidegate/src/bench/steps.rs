//! What the time of a start went into: Tidegate tells on its log when a step is done.
//!
//! The lines' times are the wall clock, which may be set in between: a step that then seems to end
//! before it began is left out.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Serialize;

const DAY: f64 = 86_400.0;

/// Seconds of each step, in order; they add up to the time to the first CONNACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Steps {
    pub(super) step_process_seconds: Option<f64>,
    pub(super) step_configuration_seconds: Option<f64>,
    pub(super) step_lock_seconds: Option<f64>,
    pub(super) step_metadata_seconds: Option<f64>,
    pub(super) step_index_seconds: Option<f64>,
    pub(super) step_segments_seconds: Option<f64>,
    pub(super) step_store_seconds: Option<f64>,
    pub(super) step_listeners_seconds: Option<f64>,
    pub(super) step_connack_seconds: Option<f64>,
}

impl Steps {
    /// From the log of a process that was started at `began` and answered after `elapsed`.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn of_log(log: &Path, began: SystemTime, elapsed: Duration) -> anyhow::Result<Self> {
        let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
        let began = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self::of_text(&text, began.as_secs_f64() % DAY, elapsed))
    }

    /// `began` in seconds since midnight.
    fn of_text(text: &str, began: f64, elapsed: Duration) -> Self {
        let mut before = 0.0;
        let mut step = |name: &str| {
            let marked = format!("step=\"{name}\"");
            let line = text.lines().find(|line| line.contains(&marked))?;
            let until = (seconds_of_day(line)? - began).rem_euclid(DAY);
            let seconds = until - before;
            if until > elapsed.as_secs_f64() + 1.0 || seconds < 0.0 {
                return None;
            }
            before = until;
            Some(seconds)
        };
        let steps = Self {
            step_process_seconds: step("process"),
            step_configuration_seconds: step("configuration"),
            step_lock_seconds: step("lock"),
            step_metadata_seconds: step("metadata"),
            step_index_seconds: step("index"),
            step_segments_seconds: step("segments"),
            step_store_seconds: step("store"),
            step_listeners_seconds: step("listeners"),
            step_connack_seconds: None,
        };
        Self {
            step_connack_seconds: Some((elapsed.as_secs_f64() - before).max(0.0)),
            ..steps
        }
    }
}

/// Of a line that begins like `2026-11-22T23:59:01.500000Z`.
fn seconds_of_day(line: &str) -> Option<f64> {
    let stamp = line.split_whitespace().next()?;
    let (_, time) = stamp.split_once('T')?;
    let mut parts = time.trim_end_matches('Z').splitn(3, ':');
    let mut part = || parts.next()?.parse::<f64>().ok();
    Some(part()? * 3600.0 + part()? * 60.0 + part()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_apart_also_over_midnight() {
        let text = "2026-11-22T23:59:59.500000Z DEBUG start: Start goes on. step=\"process\"\n\
                    2026-11-22T23:59:59.750000Z  INFO tidegate::run: Starting.\n\
                    2026-11-23T00:00:00.250000Z DEBUG start: Start goes on. step=\"lock\"\n";
        let steps = Steps::of_text(text, DAY - 1.0, Duration::from_secs(2));
        let expected = Steps {
            step_process_seconds: Some(0.5),
            step_lock_seconds: Some(0.75),
            step_connack_seconds: Some(0.75),
            ..Steps::default()
        };
        assert_eq!(steps, expected);
    }

    #[test]
    fn step_that_ends_before_it_began_is_left_out() {
        let text = "2026-11-22T10:00:01.000000Z DEBUG start: Start goes on. step=\"process\"\n\
                    2026-11-22T09:00:00.000000Z DEBUG start: Start goes on. step=\"lock\"\n";
        let steps = Steps::of_text(text, 36_000.0, Duration::from_secs(2));
        assert_eq!(steps.step_lock_seconds, None);
        assert_eq!(steps.step_connack_seconds, Some(1.0));
    }
}
