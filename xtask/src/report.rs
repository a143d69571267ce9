//! The end of a run: a table of the steps with their times, and the one line that counts.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command::flush;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// An earlier step failed, so that this one could only repeat its errors.
    NotRun,
}

/// What tests came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// The steps so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<(&'static str, Outcome, Duration)>,
    counts: Counts,
}

impl Report {
    /// Runs a step that passes or fails. An error is printed and counts as failed.
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<bool>,
    ) -> Outcome {
        self.timed(name, step)
    }

    /// Runs the tests, whose counts go into the last line.
    pub(crate) fn tests(&mut self, name: &'static str, run: impl FnOnce() -> Result<Counts>) {
        let mut counts = Counts::default();
        let outcome = self.timed(name, || {
            counts = run()?;
            Ok(counts.failed == 0)
        });
        if outcome == Outcome::Failed && counts.failed > 0 {
            // The failed tests stand in the line themselves.
            self.counts.failed = self.counts.failed.saturating_sub(1);
        }
        self.counts.passed += counts.passed;
        self.counts.failed += counts.failed;
        self.counts.skipped += counts.skipped;
    }

    /// Notes that a step was left out.
    pub(crate) fn not_run(&mut self, name: &'static str) {
        self.steps.push((name, Outcome::NotRun, Duration::ZERO));
    }

    /// Prints the table and the line; the exit status is a failure if anything failed.
    pub(crate) fn finish(&self) -> ExitCode {
        print!("{}", self.text());
        flush();
        if self.counts.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn timed(&mut self, name: &'static str, step: impl FnOnce() -> Result<bool>) -> Outcome {
        println!("== {name}");
        flush();
        let start = Instant::now();
        let passed = step().unwrap_or_else(|error| {
            println!("error: {error:#}");
            false
        });
        let outcome = if passed {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        self.counts.failed += u64::from(!passed);
        self.steps.push((name, outcome, start.elapsed()));
        outcome
    }

    /// A failed step that is not the tests' counts as one failure, so that the line never says
    /// "0 failed" of a run that failed.
    fn text(&self) -> String {
        let mut text = String::from("\nstep      result       time\n");
        for (name, outcome, time) in &self.steps {
            let outcome = match outcome {
                Outcome::Passed => "ok",
                Outcome::Failed => "FAILED",
                Outcome::NotRun => "not run",
            };
            let (minutes, seconds) = (time.as_secs() / 60, time.as_secs() % 60);
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<9} {outcome:<9} {minutes:>3}:{seconds:02}");
        }
        let Counts {
            passed,
            failed,
            skipped,
        } = self.counts;
        let _ = writeln!(
            text,
            "\n{passed} passed, {failed} failed, {skipped} skipped"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Outcome, Report};

    fn last_line(report: &Report) -> String {
        report.text().lines().last().unwrap().to_owned()
    }

    #[test]
    fn failed_steps_count_as_failures_in_the_last_line() {
        let mut report = Report::default();
        assert_eq!(report.step("format", || Ok(false)), Outcome::Failed);
        assert_eq!(report.step("tidy", || Ok(true)), Outcome::Passed);
        report.tests("tests", || {
            Ok(Counts {
                passed: 5,
                failed: 0,
                skipped: 2,
            })
        });
        assert_eq!(last_line(&report), "5 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn failed_tests_are_counted_once() {
        let mut report = Report::default();
        report.tests("tests", || {
            Ok(Counts {
                passed: 5,
                failed: 3,
                skipped: 0,
            })
        });
        assert_eq!(last_line(&report), "5 passed, 3 failed, 0 skipped");
    }

    #[test]
    fn run_that_could_not_count_is_a_failure() {
        let mut report = Report::default();
        report.tests("tests", || anyhow::bail!("no cargo"));
        assert_eq!(last_line(&report), "0 passed, 1 failed, 0 skipped");
    }
}
