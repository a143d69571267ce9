//! Eclipse Paho's interoperability suite (the repository eclipse/paho.mqtt.testing) against the product.
//!
//! The suite is other people's: it is run from a copy beside the checkout and is no part of it. A test
//! that fails fails the run, except where `EXCLUDED` says why it must; one that is listed there and
//! passes, or does not exist, fails the run, too, so that the list stays true.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::broker_process::{BrokerProcess, Options};
use crate::program;
use crate::python::Script;

/// Tests that may fail: name, version or both, and why.
const EXCLUDED: &[(&str, &[Version], &str)] = &[(
    FORBIDDEN_TEST,
    &[Version::V5],
    "asks for 0x80 where the broker says 0x87, Not authorized, which is the better word (MQTT 5, 3.9.3)",
)];

/// The test that wants a server which forbids a topic. The product has no permissions yet, so that it
/// is run with the broker's library and an authorizer of its own: its example `forbidding`.
const FORBIDDEN_TEST: &str = "test_subscribe_failure";
/// The topic.
const FORBIDDEN_TOPIC: &str = "test/nosubscribe";

/// What the suite is made of, as far as it is used.
const FILES: &[&str] = &["client_test.py", "client_test5.py", "mqtt/clients"];
/// Where the files are in a checkout of the suite.
const FOLDER: &str = "interoperability";
/// The suite asks for 120 s and expects the server to say 60 s.
const LIMITS: &str = "[limits]\nkeep_alive_max = \"60s\"\n";
/// It sleeps a lot: four minutes for version 5, and a test may wait for what never comes.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V311,
    V5,
}

/// How all tests of both versions ended.
#[derive(Debug)]
pub struct Report {
    outcomes: Vec<Outcome>,
    /// Exclusions for which the suite has no test.
    unknown: Vec<&'static str>,
}

#[derive(Debug)]
struct Outcome {
    test: String,
    version: Version,
    /// What went wrong.
    failure: Option<String>,
}

/// Runs the tests of both versions, each on a product that was never started before. `forbidding` is the
/// broker's example of that name.
///
/// # Errors
/// When `suite` is no copy of the suite, Python is not installed, or the product does not start.
pub fn run(
    suite: &Path,
    program: &Path,
    forbidding: &Path,
    mut say: impl FnMut(&str),
) -> Result<Report> {
    let folder = folder(suite)?;
    let Some(python) = program::find("python3") else {
        bail!("python3 is not installed (Debian package python3)");
    };
    let mut outcomes = Vec::new();
    for version in [Version::V311, Version::V5] {
        say(&format!("{version}: some minutes"));
        let ended = run_version(version, &folder, &python, program);
        let ended = ended.with_context(|| format!("the tests of {version}"))?;
        outcomes.extend(ended.into_iter().filter(|it| it.test != FORBIDDEN_TEST));
        let ended = run_forbidden(version, &folder, &python, forbidding);
        outcomes.extend(ended.with_context(|| format!("{FORBIDDEN_TEST} of {version}"))?);
    }
    Ok(Report::new(outcomes))
}

/// The folder with the test modules: `suite` itself, or the one in it.
fn folder(suite: &Path) -> Result<PathBuf> {
    let missing = |folder: &Path| FILES.iter().find(|file| !folder.join(file).exists());
    let inside = suite.join(FOLDER);
    let folder = if inside.is_dir() { &inside } else { suite };
    if let Some(file) = missing(folder) {
        bail!(
            "{} is not a copy of eclipse/paho.mqtt.testing: there is no {file} in {}",
            suite.display(),
            folder.display()
        );
    }
    let absolute = folder.canonicalize();
    absolute.with_context(|| format!("find {}", folder.display()))
}

fn run_version(
    version: Version,
    folder: &Path,
    python: &Path,
    program: &Path,
) -> Result<Vec<Outcome>> {
    let broker = BrokerProcess::start(Options {
        tables: LIMITS.to_owned(),
        program: Some(program.to_owned()),
        ..Options::default()
    })?;
    outcomes(version, folder, python, broker.mqtt().port(), None)
}

/// The one test for which a topic is forbidden.
fn run_forbidden(
    version: Version,
    folder: &Path,
    python: &Path,
    forbidding: &Path,
) -> Result<Vec<Outcome>> {
    let mut broker = Command::new(forbidding)
        .arg(FORBIDDEN_TOPIC)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", forbidding.display()))?;
    let mut address = String::new();
    let output = broker.stdout.take().context("no output")?;
    BufReader::new(output).read_line(&mut address)?;
    let outcomes = address
        .trim()
        .parse::<SocketAddr>()
        .with_context(|| format!("read where it listens: {address:?}"))
        .and_then(|at| outcomes(version, folder, python, at.port(), Some(FORBIDDEN_TEST)));
    // It ends with its input.
    drop(broker.stdin.take());
    broker.wait()?;
    outcomes
}

fn outcomes(
    version: Version,
    folder: &Path,
    python: &Path,
    port: u16,
    only: Option<&str>,
) -> Result<Vec<Outcome>> {
    let (folder, port) = (folder.to_string_lossy(), port.to_string());
    let mut arguments = vec![&*folder, &port, "--version", version.argument()];
    arguments.extend(only.iter().flat_map(|test| ["--only", test]));
    let script = Script::spawn_with(python, "paho_suite.py", &arguments)?;
    let printed = script.finish(PATIENCE)?;
    ensure!(!printed.is_empty(), "no test was found in {folder}");
    printed
        .iter()
        .map(|line| Outcome::parse(version, line))
        .collect()
}

impl Version {
    fn argument(self) -> &'static str {
        match self {
            Self::V311 => "3",
            Self::V5 => "5",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::V311 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5",
        })
    }
}

impl Outcome {
    fn parse(version: Version, line: &Value) -> Result<Self> {
        let test = line.get("test").and_then(Value::as_str);
        let failure = line.get("failure").and_then(Value::as_str);
        Ok(Self {
            test: test
                .with_context(|| format!("no test in {line}"))?
                .to_owned(),
            version,
            failure: failure.map(str::to_owned),
        })
    }

    /// Why it may fail.
    fn excuse(&self) -> Option<&'static str> {
        let excluded = EXCLUDED
            .iter()
            .find(|(test, versions, _)| *test == self.test && versions.contains(&self.version));
        excluded.map(|(_, _, reason)| *reason)
    }

    /// Whether it is as it must be.
    fn is_right(&self) -> bool {
        self.failure.is_some() == self.excuse().is_some()
    }
}

impl Report {
    fn new(outcomes: Vec<Outcome>) -> Self {
        let is_there = |name: &str, version: Version| {
            let mut all = outcomes.iter();
            all.any(|outcome| outcome.test == name && outcome.version == version)
        };
        let unknown = EXCLUDED
            .iter()
            .filter(|(test, versions, _)| {
                let mut versions = versions.iter();
                versions.any(|version| !is_there(test, *version))
            })
            .map(|(test, _, _)| *test)
            .collect();
        Self { outcomes, unknown }
    }

    /// Whether every test passed, except those that cannot.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.unknown.is_empty() && self.outcomes.iter().all(Outcome::is_right)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            let Outcome { test, version, .. } = outcome;
            write!(formatter, "{test:<30} {version:<10} ")?;
            match (&outcome.failure, outcome.excuse()) {
                (None, None) => writeln!(formatter, "passed")?,
                (None, Some(_)) => writeln!(
                    formatter,
                    "passed, although it is on the list of those that cannot"
                )?,
                (Some(failure), None) => writeln!(formatter, "FAILED: {failure}")?,
                (Some(_), Some(reason)) => writeln!(formatter, "failed: {reason}")?,
            }
        }
        for test in &self.unknown {
            writeln!(
                formatter,
                "{test}: on the list of those that cannot pass, and not in the suite"
            )?;
        }
        for version in [Version::V311, Version::V5] {
            let all = self.outcomes.iter().filter(|test| test.version == version);
            let (passed, failed): (Vec<_>, Vec<_>) = all.partition(|test| test.failure.is_none());
            let all = passed.len() + failed.len();
            writeln!(formatter, "{version}: {} of {all} passed", passed.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Outcome, Report, Version, folder};

    /// A run of one test, and of the excluded one that fails as it must.
    fn run_of(test: &str, failure: Option<&str>) -> Report {
        let outcome = |version, test: &str, failure: Option<&str>| Outcome {
            test: test.to_owned(),
            version,
            failure: failure.map(str::to_owned),
        };
        let excluded = "test_subscribe_failure";
        Report::new(vec![
            outcome(Version::V311, excluded, None),
            outcome(Version::V5, excluded, Some("TimeoutError: x")),
            outcome(Version::V5, test, failure),
        ])
    }

    #[test]
    fn run_is_right_when_only_what_is_excluded_fails() {
        let report = run_of("test_basic", None);
        assert!(report.is_right(), "{report}");
        let table = report.to_string();
        assert!(table.contains("failed: asks for 0x80 where the broker says 0x87"));
        assert!(table.ends_with("MQTT 3.1.1: 1 of 1 passed\nMQTT 5: 1 of 2 passed\n"));
        let report = run_of("test_basic", Some("AssertionError: 1 != 2"));
        assert!(!report.is_right());
        assert!(
            report
                .to_string()
                .contains("FAILED: AssertionError: 1 != 2")
        );
    }

    #[test]
    fn exclusion_that_is_not_needed_fails_the_run() {
        assert!(!run_of("test_subscribe_failure", None).is_right());
        let report = Report::new(Vec::new());
        assert!(!report.is_right());
        assert!(
            report
                .to_string()
                .starts_with("test_subscribe_failure: on the list")
        );
    }

    #[test]
    fn folder_that_is_not_the_suite_is_refused_with_what_is_missing() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let error = folder(here).unwrap_err().to_string();
        let expected = "is not a copy of eclipse/paho.mqtt.testing: there is no client_test.py in ";
        assert!(error.contains(expected), "{error}");
        assert!(folder(&here.join("nowhere")).is_err());
    }
}
