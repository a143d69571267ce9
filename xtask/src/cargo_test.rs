//! Running `cargo test` and counting: passed, failed, and skipped with a reason.
//!
//! A test that cannot run appends `<test name>: <reason>` to the file named by `TIDEGATE_SKIPS` and
//! returns, which looks to cargo like a pass; it is taken off. An `#[ignore]`d test is a skip whose
//! reason is the attribute's. In CI a skip is a failure unless its reason stands in
//! `tests/allowed-skips.txt`.

use std::collections::HashSet;
use std::env;
use std::fs;

use anyhow::{Context, Result};

use crate::command::{self, is_progress};
use crate::report::Counts;
use crate::workspace;

/// Runs the tests of the workspace. `arguments` are cargo's.
pub(crate) fn run(arguments: &[String]) -> Result<Counts> {
    run_with(arguments, &[])
}

/// The same with environment variables, for instance those of another target.
pub(crate) fn run_with(arguments: &[String], environment: &[(String, String)]) -> Result<Counts> {
    let skips = tempfile::NamedTempFile::new().context("make the file of skips")?;
    let mut command = workspace::cargo();
    command
        .args(["test", "--no-fail-fast"])
        .args(arguments)
        .env("TIDEGATE_SKIPS", skips.path())
        // A failing test shows where it panicked; where its error was made is noise beside it.
        .env("RUST_LIB_BACKTRACE", "0")
        .envs(environment.iter().map(|(name, value)| (name, value)));
    if env::var_os("TIDEGATE_BIN").is_none() {
        // The product lies beside this program.
        let own = env::current_exe().context("find this program's path")?;
        command.env("TIDEGATE_BIN", own.with_file_name("tidegate"));
    }
    let mut tally = Tally::default();
    let status = command::lines(&mut command, |line| {
        if let Some(shown) = tally.line(line) {
            println!("{shown}");
            command::flush();
        }
    })?;
    let noted = fs::read_to_string(skips.path()).context("read the file of skips")?;
    let allowed = fs::read_to_string(workspace::root().join("tests/allowed-skips.txt"))
        .context("read tests/allowed-skips.txt")?;
    let counts = tally.counts(status.success(), &noted, &allowed, workspace::is_ci());
    command::flush();
    Ok(counts)
}

/// What the lines of `cargo test` add up to.
#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Test programs that announced their tests and did not come to a result.
    unfinished: u64,
    /// `name: reason`
    ignored: Vec<String>,
    /// The heading of the test program that runs, until something of it is shown.
    heading: Option<String>,
}

impl Tally {
    /// Takes in a line; what of it is worth showing.
    fn line(&mut self, line: &str) -> Option<String> {
        let bare = line.trim_start();
        if is_progress(line) || bare.is_empty() {
            return None;
        }
        if bare.starts_with("Running ") || bare.starts_with("Doc-tests ") {
            self.heading = Some(line.to_owned());
            return None;
        }
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.unfinished += 1;
            return None;
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.unfinished = self.unfinished.saturating_sub(1);
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            if result.starts_with("ok. 0 passed; 0 failed; 0 ignored") {
                self.heading = None;
                return None;
            }
        } else if let Some(test) = line.strip_prefix("test ") {
            if test.ends_with(" ... ok") {
                return None;
            }
            if let Some((name, reason)) = test.split_once(" ... ignored") {
                let reason = reason
                    .strip_prefix(", ")
                    .unwrap_or("ignored without a reason");
                self.ignored.push(format!("{name}: {reason}"));
                return None;
            }
        }
        let heading = self
            .heading
            .take()
            .map(|heading| heading + "\n")
            .unwrap_or_default();
        Some(heading + line)
    }

    /// The counts, with a line for each skip.
    fn counts(&self, succeeded: bool, noted: &str, allowed: &str, is_ci: bool) -> Counts {
        let allowed: HashSet<&str> = allowed
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .collect();
        let noted: Vec<&str> = noted.lines().filter(|line| !line.is_empty()).collect();
        let mut refused = 0;
        for skip in noted
            .iter()
            .copied()
            .chain(self.ignored.iter().map(String::as_str))
        {
            let reason = skip.split_once(": ").map_or(skip, |(_, reason)| reason);
            let is_refused = is_ci && !allowed.contains(reason);
            refused += u64::from(is_refused);
            let verdict = if is_refused {
                "FAILED: skipped in CI: "
            } else {
                "skipped: "
            };
            println!("{verdict}{skip}");
        }
        let (noted, ignored) = (noted.len() as u64, self.ignored.len() as u64);
        let failed = self.failed + self.unfinished;
        // Cargo fails for a reason of its own when nothing compiles or a program does not start.
        let failed = if succeeded { failed } else { failed.max(1) };
        Counts {
            passed: self.passed.saturating_sub(noted),
            failed: failed + refused,
            skipped: noted + ignored - refused,
        }
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = text
        .find(word)
        .and_then(|at| text.get(..at))
        .unwrap_or_default();
    before
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::report::Counts;

    const OUTPUT: &str = "\
   Compiling a v0.1.0
     Running unittests src/lib.rs (target/debug/deps/a-0)

running 3 tests
test a::works ... ok
test a::slow ... ignored, needs a board
test a::fails ... FAILED

failures:
    a::fails

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.52s

     Running tests/b.rs (target/debug/deps/b-0)

running 12 tests
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.52s

   Doc-tests a

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn tally(output: &str) -> (Tally, Vec<String>) {
        let mut tally = Tally::default();
        let shown = output.lines().filter_map(|line| tally.line(line)).collect();
        (tally, shown)
    }

    #[test]
    fn results_are_summed_over_test_programs() {
        let (tally, _) = tally(OUTPUT);
        let counts = tally.counts(false, "", "", false);
        assert_eq!(
            counts,
            Counts {
                passed: 13,
                failed: 1,
                skipped: 1
            }
        );
    }

    #[test]
    fn passes_and_empty_programs_are_not_shown() {
        let (_, shown) = tally(OUTPUT);
        let shown = shown.join("\n");
        assert!(
            shown.contains("a::fails ... FAILED") && shown.contains("deps/b-0"),
            "{shown}"
        );
        assert!(
            !shown.contains("a::works") && !shown.contains("Doc-tests"),
            "{shown}"
        );
    }

    #[test]
    fn noted_skips_are_taken_off_the_passed() {
        let (tally, _) = tally(OUTPUT);
        let counts = tally.counts(true, "b::x: no Kafka\nb::y: no Kafka\n", "", false);
        assert_eq!(
            counts,
            Counts {
                passed: 11,
                failed: 1,
                skipped: 3
            }
        );
    }

    #[test]
    fn skip_is_a_failure_in_ci_unless_its_reason_is_listed() {
        let (tally, _) = tally(OUTPUT);
        let allowed = "# none of CI's machines is a board\nneeds a board\n";
        let counts = tally.counts(false, "b::x: no Kafka\n", allowed, true);
        assert_eq!(
            counts,
            Counts {
                passed: 12,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn crashed_test_program_and_failed_build_are_failures() {
        // The first program dies before it comes to a result, the second has a failure of its own.
        let (crashed, _) = tally(
            "running 4 tests\ntest a ... ok\nrunning 1 test\ntest result: FAILED. 0 passed; 1 failed;",
        );
        assert_eq!(crashed.counts(false, "", "", false).failed, 2);
        let (broken, _) = tally("error: could not compile `a`\n");
        assert_eq!(broken.counts(false, "", "", false).failed, 1);
    }
}
