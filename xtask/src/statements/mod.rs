//! `cargo xtask statements`: which test answers for which normative statement of MQTT 5 and 3.1.1.
//!
//! `tests/conformance/statements.toml` lists every statement that concerns a server, with the test
//! that would fail if the broker broke it, or the reason why there can be none. This command refuses
//! a list that cannot be right: statements that are missing, tests that do not exist, tests that
//! claim too much to be believed.

mod check;
mod file;
mod named_tests;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{cargo_test, workspace};
use file::{List, Proof};
use named_tests::{Binary, TestName};

const PATH: &str = "tests/conformance/statements.toml";

#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// List the statements that have no test yet, with what is missing
    #[arg(long)]
    open: bool,
    /// Fail if a statement has no test yet
    #[arg(long)]
    complete: bool,
    /// Run exactly the tests that the list names
    #[arg(long)]
    run: bool,
}

/// Checks the list, and does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    Ok(match is_right(arguments)? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Whether each statement has its test, which is there, or the reason why none can be.
pub(crate) fn check() -> Result<bool> {
    is_right(&Arguments {
        complete: true,
        ..Arguments::default()
    })
}

fn is_right(arguments: &Arguments) -> Result<bool> {
    let text = fs::read_to_string(workspace::root().join(PATH)).context("read the statements")?;
    let list = List::parse(&text).with_context(|| format!("understand {PATH}"))?;
    let mut findings = check::check(&list);
    let named = named(&list);
    for (binary, names) in &named {
        findings.extend(binary.missing(names)?);
    }
    if arguments.open {
        print!("{}", summary::open(&list));
    }
    print!("{}", summary::table(&list));
    let open = summary::open_count(&list);
    if arguments.complete && open > 0 {
        findings.push(format!("{open} statements have no test yet (--open)"));
    }
    for finding in &findings {
        println!("{PATH}: {finding}");
    }
    Ok(findings.is_empty() && (!arguments.run || run_tests(&named)?))
}

/// The tests that the list names, by the program that they are in. A name that is none is a finding
/// of its own.
fn named(list: &List) -> BTreeMap<Binary, BTreeSet<String>> {
    let mut named: BTreeMap<Binary, BTreeSet<String>> = BTreeMap::new();
    let tests = list.statements.iter().filter_map(|s| match &s.proof {
        Proof::Test(test) => TestName::parse(test).ok(),
        Proof::None(_) | Proof::Open(_) => None,
    });
    for TestName { binary, path } in tests {
        named.entry(binary).or_default().insert(path);
    }
    named
}

/// Runs the named tests and no others; whether all of them ran and passed.
fn run_tests(named: &BTreeMap<Binary, BTreeSet<String>>) -> Result<bool> {
    let mut has_passed = true;
    for (binary, names) in named {
        let mut arguments = binary.arguments();
        arguments.extend(["--", "--exact"].map(String::from));
        arguments.extend(names.iter().cloned());
        let counts = cargo_test::run(&arguments)?;
        println!(
            "{binary}: {} passed, {} failed, {} skipped",
            counts.passed, counts.failed, counts.skipped
        );
        has_passed &= counts.failed == 0;
        let ran = counts.passed + counts.failed + counts.skipped;
        ensure!(
            counts.failed > 0 || ran == names.len() as u64,
            "{binary}: {ran} tests ran, {} are named",
            names.len()
        );
    }
    Ok(has_passed)
}
