//! `cargo xtask fuzz`: the long form of fuzzing, with libFuzzer. The short form is a test of
//! `mqtt-fuzz`.
//!
//! Nothing of it is for git: what libFuzzer finds is in `fuzz/corpus`, a failing input in
//! `fuzz/artifacts`.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{command, workspace};

/// A line of progress comes at most this often.
const PROGRESS: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Arguments {
    /// One target only
    target: Option<Target>,
    /// How long for each target
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
}

/// A program of `fuzz/`.
#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Bytes to the codec
    #[value(name = "mqtt_decode")]
    Decode,
    /// Operations on the server's state machine
    #[value(name = "mqtt_server")]
    Server,
}

/// What is known of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    executions: u64,
    /// Inputs that lead to different code.
    corpus: u64,
    /// What did not hold.
    message: Option<String>,
    /// Where the failing input is.
    artifact: Option<String>,
    /// The next line is what did not hold.
    is_panicking: bool,
}

/// Runs the targets one after the other, and says what was found.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    check_tools()?;
    let targets = match &arguments.target {
        Some(target) => std::slice::from_ref(target),
        None => Target::value_variants(),
    };
    let mut findings = 0;
    let mut summary = String::new();
    for &target in targets {
        let run = fuzz(target, arguments.minutes)?;
        findings += usize::from(run.is_finding());
        summary += &format!("{}: {run}\n", target.name());
        if let Some(artifact) = &run.artifact {
            let name = target.name();
            summary += &format!("again: cargo run -p mqtt-fuzz -- run {name} {artifact}\n");
        }
    }
    print!("\n{summary}");
    Ok(match findings {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn check_tools() -> Result<()> {
    let has = |program: &str, arguments: &[&str]| {
        command::succeeds(Command::new(program).args(arguments))
    };
    ensure!(
        has("rustup", &["run", "nightly", "rustc", "--version"]),
        "libFuzzer needs the nightly compiler, and rustup has none: rustup toolchain install nightly"
    );
    ensure!(
        has("rustup", &["run", "nightly", "cargo", "fuzz", "--version"]),
        "cargo-fuzz is not installed: cargo install cargo-fuzz --locked"
    );
    ensure!(
        has("c++", &["--version"]),
        "libFuzzer is compiled here, and there is no C++ compiler: apt-get install g++"
    );
    Ok(())
}

fn fuzz(target: Target, minutes: u64) -> Result<Run> {
    let (name, begun) = (target.name(), Instant::now());
    let corpus = format!("fuzz/corpus/{name}");
    write_seeds(name, &corpus)?;
    let mut fuzzer = Command::new("rustup");
    fuzzer
        .current_dir(workspace::root())
        .args(["run", "nightly", "cargo", "fuzz", "run"])
        .args(["--sanitizer", target.sanitizer(), name, &corpus, "--"])
        .arg(format!("-max_total_time={}", 60 * minutes))
        .args([
            "-print_final_stats=1",
            "-rss_limit_mb=2048",
            "-malloc_limit_mb=8",
        ])
        .args([
            "-dict=fuzz/mqtt.dict",
            &format!("-max_len={}", target.input_bytes_max()),
        ]);
    println!("{name}: {minutes} minutes");
    let mut run = Run::default();
    let mut last = begun;
    let status = command::lines(&mut fuzzer, |line| {
        run.take(line);
        if last.elapsed() >= PROGRESS {
            last = Instant::now();
            let seconds = begun.elapsed().as_secs();
            println!("{name}: {seconds} s, {run}");
            command::flush();
        }
    })?;
    ensure!(
        status.success() || run.is_finding(),
        "{name} ended with {status} and says of no finding; see: cargo +nightly fuzz run {name}"
    );
    Ok(run)
}

fn write_seeds(name: &str, corpus: &str) -> Result<()> {
    let corpus = workspace::root().join(corpus);
    let mut writer = workspace::cargo();
    writer
        .args(["run", "--locked", "--quiet", "--package", "mqtt-fuzz", "--"])
        .args([Path::new("seeds"), Path::new(name), &corpus]);
    command::quiet(&mut writer).context("write the seeds")
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Decode => "mqtt_decode",
            Self::Server => "mqtt_server",
        }
    }

    /// The decoder slices what comes from outside and is watched for it; the state machine has more
    /// states than time, and is eight times as fast unwatched.
    fn sanitizer(self) -> &'static str {
        match self {
            Self::Decode => "address",
            Self::Server => "none",
        }
    }

    /// More than the limits that the target sets.
    fn input_bytes_max(self) -> usize {
        match self {
            Self::Decode => 6_000,
            Self::Server => 2_000,
        }
    }
}

impl Run {
    fn is_finding(&self) -> bool {
        self.artifact.is_some()
    }

    /// Takes a line of libFuzzer, or of a panic.
    fn take(&mut self, line: &str) {
        let after = |word: &str| line.split_once(word).map(|(_, rest)| rest.trim());
        if std::mem::take(&mut self.is_panicking) && self.message.is_none() {
            self.message = Some(line.to_owned());
        }
        self.is_panicking = line.contains("panicked at ");
        if let Some(executions) = after("stat::number_of_executed_units:").or_else(|| after("#")) {
            let digits = executions.split_whitespace().next().map(str::parse);
            if let Some(Ok(executions)) = digits {
                self.executions = self.executions.max(executions);
            }
        }
        if let Some(corpus) = after(" corp: ") {
            let count = corpus.split('/').next().map(str::parse);
            self.corpus = count.and_then(Result::ok).unwrap_or(self.corpus);
        }
        if let Some(path) = after("Test unit written to ") {
            self.artifact = Some(path.to_owned());
        }
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            executions, corpus, ..
        } = self;
        write!(f, "{executions} executions, corpus of {corpus}")?;
        match &self.artifact {
            None => write!(f, ", no finding"),
            Some(artifact) => {
                let message = self.message.as_deref().unwrap_or("no panic");
                write!(f, ", FINDING: {message}; the input is in {artifact}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Run;

    fn taken(lines: &[&str]) -> Run {
        let mut run = Run::default();
        for line in lines {
            run.take(line);
        }
        run
    }

    #[test]
    fn executions_and_corpus_are_the_last_ones() {
        let run = taken(&[
            "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#4096\tpulse  cov: 12 ft: 13 corp: 5/77b lim: 4 exec/s: 2048 rss: 31Mb",
            "stat::number_of_executed_units: 5000",
            "stat::new_units_added:          4",
        ]);
        assert_eq!(run.to_string(), "5000 executions, corpus of 5, no finding");
        assert!(!run.is_finding());
    }

    #[test]
    fn finding_has_its_message_and_its_input() {
        let run = taken(&[
            "#7\tNEW    cov: 12 ft: 13 corp: 5/77b lim: 4 exec/s: 0 rss: 31Mb L: 1/1 MS: 1 ChangeBit-",
            "thread '<unnamed>' (1) panicked at mqtt-fuzz/src/decode.rs:148:5:",
            "half a packet was taken",
            "    #0 0x560547a57591 in __sanitizer_print_stack_trace",
            "artifact_prefix='fuzz/artifacts/'; Test unit written to fuzz/artifacts/crash-1",
        ]);
        assert_eq!(
            run.to_string(),
            "7 executions, corpus of 5, FINDING: half a packet was taken; the input is in \
             fuzz/artifacts/crash-1"
        );
        assert!(run.is_finding());
    }
}
