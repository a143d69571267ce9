//! `cargo xtask arm-tests`: tests of the crates that decide what is on flash and on the wire, built for
//! the ARM targets that ship and run in an emulator of the processor (qemu-user).
//!
//! The emulator has the processor's instructions, word size and address space, and passes system calls
//! to this machine's kernel: what it shows is whether the program is right on that processor, nothing
//! of speed or of a card.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cross::{self, Target};
use crate::report::{Counts, Report};
use crate::{cargo_test, command, workspace};

/// What is tested without `--target`: every ARM target that ships.
const ARM: [&str; 2] = [
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-gnueabihf",
];

/// Test programs of the short form, beside the unit tests of all three crates: kills, damage, a folder
/// of another processor, a full log.
const SHORT: [&str; 9] = [
    "protocol",
    "crash",
    "cold",
    "damage_kept",
    "evacuation",
    "fixture",
    "on_full",
    "store",
    "successor",
];

/// Unit tests that the short form leaves out: long ones, of arithmetic that this machine's word size has
/// tried, and of a hundred thousand commits.
const LONG: [&str; 2] = ["evacuation::simulation", "raw::written_again"];

const IMAGES: usize = 1000;
/// Three of each workload.
const IMAGES_SHORT: usize = 27;
/// Of the control, in which the fence counts for nothing: a third is bad.
const IMAGES_CONTROL: usize = 18;

#[derive(Args)]
pub(crate) struct Arguments {
    /// aarch64-unknown-linux-musl or armv7-unknown-linux-gnueabihf; several times for several, both by
    /// default
    #[arg(long)]
    target: Vec<String>,
    /// What CI runs: unit tests, the protocol, kills and damage; few images of power cuts
    #[arg(long)]
    short: bool,
    /// Crash images for each target [default: 1000, 27 with --short]
    #[arg(long)]
    images: Option<usize>,
}

/// Runs everything and prints a table.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let targets = Target::chosen(&arguments.target, &ARM)?;
    let mut report = Report::default();
    for target in targets {
        println!("{}:", target.triple);
        let images = arguments.images;
        report.tests(target.debian, || one(target, arguments.short, images));
    }
    Ok(report.finish())
}

/// The short form, for CI: its counts are of all targets.
pub(crate) fn short() -> Result<Counts> {
    let mut sum = Counts::default();
    for triple in ARM {
        let counts = one(Target::named(triple, &ARM)?, true, None)?;
        sum.passed += counts.passed;
        sum.failed += counts.failed;
        sum.skipped += counts.skipped;
    }
    Ok(sum)
}

/// Optimised a little, since each instruction is emulated: a third of the time. Assertions and checks of
/// overflow stay. Nothing is shared with what is built for this machine anyway.
const PROFILE: [(&str, &str); 2] = [
    ("CARGO_PROFILE_DEV_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
];

fn environment(target: &Target) -> Vec<(String, String)> {
    let mut environment = target.environment();
    let runner = target.runner().join(" ");
    environment.push((String::from("TIDEGATE_TEST_RUNNER"), runner));
    let profile = PROFILE.map(|(name, value)| (name.to_owned(), value.to_owned()));
    environment.extend(profile);
    environment
}

fn one(target: &Target, short: bool, images: Option<usize>) -> Result<Counts> {
    target.prepare_run()?;
    let environment = environment(target);
    let mut counts = cargo_test::run_with(&test_arguments(target, short), &environment)?;
    let images = images.unwrap_or(if short { IMAGES_SHORT } else { IMAGES });
    let simulator = Simulator::build(target)?;
    for (images, control) in [(images, None), (IMAGES_CONTROL, Some("flush"))] {
        let passed = simulator.run(images, control)?;
        counts.passed += u64::from(passed);
        counts.failed += u64::from(!passed);
    }
    Ok(counts)
}

fn test_arguments(target: &Target, short: bool) -> Vec<String> {
    let mut arguments = vec!["--locked", "--target", target.triple];
    for package in ["mqtt", "storage", "firmware-config"] {
        arguments.extend(["--package", package]);
    }
    if short {
        arguments.push("--lib");
        arguments.extend(SHORT.iter().flat_map(|program| ["--test", program]));
        arguments.push("--");
        arguments.extend(LONG.iter().flat_map(|test| ["--skip", test]));
    }
    arguments.into_iter().map(str::to_owned).collect()
}

/// The simulator of power cuts, with the assertions of a debug build: an overflow that only 32 bits have
/// is a failure, not a wrong number.
struct Simulator<'a> {
    target: &'a Target,
    program: PathBuf,
}

impl<'a> Simulator<'a> {
    fn build(target: &'a Target) -> Result<Self> {
        let folder = cross::target_folder()?;
        let mut cargo = workspace::cargo();
        cargo
            .args(["build", "--locked", "--package", "power-cut"])
            .args(["--target", target.triple, "--target-dir"])
            .arg(&folder)
            .envs(environment(target));
        ensure!(command::cargo(&mut cargo)?, "power-cut does not compile");
        let program = folder.join(target.triple).join("debug").join("power-cut");
        Ok(Self { target, program })
    }

    /// Whether it found what it must: nothing, and with a control something.
    fn run(&self, images: usize, control: Option<&str>) -> Result<bool> {
        let again = format!("cargo xtask power-cut --target {}", self.target.triple);
        let mut simulator = self.target.command(&self.program);
        simulator
            .current_dir(workspace::root())
            .args(["run", "--jobs=2"])
            .args([format!("--images={images}"), format!("--again={again}")])
            .args(control.map(|control| format!("--control={control}")))
            .arg("--runner")
            .args(self.target.runner());
        println!(
            "Power cuts on {}{}:",
            self.target.triple,
            control.map_or_else(String::new, |control| format!(", control {control}"))
        );
        command::flush();
        let status = simulator.status();
        let status = status.with_context(|| format!("run {}", self.program.display()))?;
        Ok(status.success())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ARM, SHORT, test_arguments};
    use crate::cross::{SHIPPED, Target};
    use crate::workspace;

    #[test]
    fn every_arm_target_that_ships_is_tested() {
        let shipped = SHIPPED.iter().filter(|triple| !triple.starts_with("x86"));
        assert_eq!(shipped.copied().collect::<Vec<_>>(), ARM);
    }

    #[test]
    fn test_programs_of_the_short_form_exist() {
        for program in SHORT {
            let is_there = |folder: &str| {
                let tests = workspace::root().join(folder);
                let file = Path::new(program).with_extension("rs");
                tests.join(file).is_file() || tests.join(program).join("main.rs").is_file()
            };
            assert!(
                is_there("storage/tests") || is_there("mqtt/tests"),
                "{program}"
            );
        }
    }

    #[test]
    fn long_form_leaves_no_test_out() {
        let target = Target::named(ARM[0], &ARM).unwrap();
        let long = test_arguments(target, false);
        assert!(
            !long
                .iter()
                .any(|argument| argument == "--test" || argument == "--lib")
        );
        assert!(test_arguments(target, true).contains(&String::from("--lib")));
    }
}
