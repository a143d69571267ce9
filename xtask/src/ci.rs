//! What CI checks, in the order in which a mistake is cheapest to find.

use std::process::ExitCode;

use anyhow::Result;

use crate::report::{Outcome, Report};
use crate::{arm_tests, cargo_test, command, qemu, setup, statements, tidy, workspace};

/// Every check; all of them run, also after one has failed, except those that need a workspace
/// that compiles when it does not.
pub(crate) fn run() -> Result<ExitCode> {
    let mut report = Report::default();
    report.step("setup", setup::complete);
    report.step("format", format);
    report.step("tidy", tidy::check);
    let built = report.step("build", || Ok(build_tests(&[])? && build_product()?));
    if workspace::is_ci() || setup::cargo_deny::is_there() {
        report.step("deny", setup::cargo_deny::check);
    } else {
        report.not_run("deny");
    }
    let is_there = || setup::cargo_deny::is_there() && setup::cargo_deny::engines_are_there();
    if workspace::is_ci() || is_there() {
        report.step("engines", setup::cargo_deny::check_engines);
    } else {
        report.not_run("engines");
    }
    if built == Outcome::Passed {
        report.step("clippy", clippy);
        report.step("statements", statements::check);
        report.tests("tests", || cargo_test::run(&workspace_arguments(&[])));
        report.tests("arm", arm_tests::short);
        report.step("docs", docs);
        // What it installs, `cargo xtask dist` makes.
        if qemu::can_run() {
            report.step("qemu", qemu::short);
        } else {
            report.not_run("qemu");
        }
    } else {
        for step in ["clippy", "statements", "tests", "arm", "docs", "qemu"] {
            report.not_run(step);
        }
    }
    Ok(report.finish())
}

/// Names the files only: the difference is a `cargo fmt` away.
fn format() -> Result<bool> {
    let formatted = cargo(&["fmt", "--all", "--", "--check", "--files-with-diff"], &[])?;
    if !formatted {
        println!("These files are not formatted: cargo fmt --all");
    }
    Ok(formatted)
}

/// The tests alone. `arguments` are cargo's; without any, the whole workspace.
pub(crate) fn run_tests(arguments: &[String]) -> Result<ExitCode> {
    let mut report = Report::default();
    let arguments = workspace_arguments(arguments);
    if report.step("build", build_product) == Outcome::Passed {
        report.tests("tests", || cargo_test::run(&arguments));
    } else {
        report.not_run("tests");
    }
    Ok(report.finish())
}

fn workspace_arguments(arguments: &[String]) -> Vec<String> {
    let names_package = arguments.iter().any(|argument| {
        argument.starts_with("-p") || argument.starts_with("--package") || argument == "--workspace"
    });
    let mut all = vec![String::from("--locked")];
    if !names_package {
        all.push(String::from("--workspace"));
    }
    all.extend(arguments.iter().cloned());
    all
}

fn build_tests(arguments: &[String]) -> Result<bool> {
    let arguments = workspace_arguments(arguments);
    command::cargo(
        workspace::cargo()
            .args(["test", "--no-run"])
            .args(arguments),
    )
}

/// The program that the black-box suites start, with the features that it ships with.
fn build_product() -> Result<bool> {
    cargo(&["build", "--locked", "--package", "tidegate"], &[])
}

fn clippy() -> Result<bool> {
    cargo(
        &[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
        &[],
    )
}

fn docs() -> Result<bool> {
    cargo(
        &["doc", "--locked", "--workspace", "--no-deps"],
        &[("RUSTDOCFLAGS", "--deny warnings")],
    )
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<bool> {
    let environment = environment.iter().copied();
    command::cargo(workspace::cargo().args(arguments).envs(environment))
}
