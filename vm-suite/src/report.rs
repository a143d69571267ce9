//! What was played and how it went: a line when a scenario begins and ends, a table at the end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::say;

/// The scenarios so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    took: Duration,
    result: Result<String, String>,
}

impl Report {
    /// Plays one; whether it went well. The suite goes on after a failure.
    pub(crate) fn play(&mut self, name: &str, scenario: impl FnOnce() -> Result<String>) -> bool {
        say(&format!("--- {name}"));
        let begin = Instant::now();
        let result = scenario().map_err(|error| format!("{error:#}"));
        let took = begin.elapsed();
        match &result {
            Ok(text) => say(&format!(
                "{name}: ok in {:.0} s: {text}",
                took.as_secs_f64()
            )),
            Err(text) => say(&format!(
                "{name}: FAILED in {:.0} s: {text}",
                took.as_secs_f64()
            )),
        }
        let is_ok = result.is_ok();
        self.lines.push(Line {
            name: name.to_owned(),
            took,
            result,
        });
        is_ok
    }

    /// The table.
    pub(crate) fn finish(&self) -> ExitCode {
        let width = self
            .lines
            .iter()
            .map(|line| line.name.len())
            .max()
            .unwrap_or(0);
        say("");
        for Line { name, took, result } in &self.lines {
            let word = if result.is_ok() { "ok" } else { "FAILED" };
            say(&format!(
                "{name:width$}  {word:6}  {:5.0} s",
                took.as_secs_f64()
            ));
        }
        let failed = self
            .lines
            .iter()
            .filter(|line| line.result.is_err())
            .count();
        say(&format!("{} played, {failed} failed", self.lines.len()));
        if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
