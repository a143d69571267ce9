//! The task runner: `cargo xtask …` is what a developer, `./test` and CI call.
//!
//! It holds no product code and the product knows nothing of it. Programs that a task needs are
//! called by name; what they print reaches the terminal, less the noise of success.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task runner talks to its user"
)]

mod arm_tests;
mod cargo_test;
mod chaos;
mod ci;
mod command;
mod cross;
mod deb;
mod dist;
mod fuzz;
mod instructions;
mod kafka;
mod kill_loop;
mod newcomer;
mod paho;
mod power_cut;
mod qemu;
mod report;
mod sessions;
mod setup;
mod soak;
mod statements;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the Tidegate workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install or check what the tests need (Debian packages, Kafka, Python packages, cargo-deny)
    Setup,
    /// Everything that CI checks: setup, format, tidy, build, deny (also of
    /// storage-bench/engines), clippy, tests, docs
    Ci,
    /// Run the tests and count them
    Test {
        /// Arguments for `cargo test`, for instance `-p storage` or `-- name_of_a_test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check the rules of the code base that no compiler checks
    Tidy,
    /// Kill the product, kill Kafka and cut the link between them while clients publish
    Chaos(chaos::Arguments),
    /// Kill the product under load and while it starts, and look at its logs after each kill
    KillLoop(kill_loop::Arguments),
    /// Many sessions away and back over kills of the product; slow subscribers; random steps
    Sessions(sessions::Arguments),
    /// Recover the store from simulated power cuts and look for what it had acknowledged
    PowerCut(power_cut::Arguments),
    /// Build what is given out: binaries for arm64, armhf and amd64, an SBOM for each, an OCI image, checksums
    Dist(dist::Arguments),
    /// Build a Debian package of a binary that `dist` has built
    Deb(deb::Arguments),
    /// Tests of storage, mqtt and firmware-config, and simulated power cuts, on emulated ARM processors
    ArmTests(arm_tests::Arguments),
    /// Instructions of an ARM processor for each QoS 1 message, counted in the emulator
    Instructions(instructions::Arguments),
    /// The package on a real Debian on an emulated ARM machine: installed, upgraded, its power cut
    /// (root; see docs/vm-suite.md)
    #[command(disable_help_flag = true)]
    Qemu {
        /// Arguments for the suite, for instance `--short`, `--seed N`, `--deb PATH`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Fuzz the MQTT codec and the server's state machine with libFuzzer (needs the nightly compiler)
    Fuzz(fuzz::Arguments),
    /// Long measurements of the log: `turnover`, `scan`, `rare`, `plot` (see docs/bench.md)
    Soak {
        /// Arguments for `storage-bench`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Which test answers for which normative statement of MQTT 5 and 3.1.1
    Statements(statements::Arguments),
    /// Eclipse Paho's interoperability suite, from a copy beside the checkout
    Paho(paho::Arguments),
    /// A real Apache Kafka on loopback, in the background
    #[command(subcommand)]
    Kafka(kafka::Task),
    /// Write the checksums of the jars that tests/kafka/pom.xml names
    Checksums,
    /// Run the README's commands in a bare Debian, as a newcomer would (needs root)
    Newcomer(newcomer::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Ci => ci::run(),
        Task::Test { arguments } => ci::run_tests(&arguments),
        Task::Tidy => tidy::run(),
        Task::Chaos(arguments) => chaos::run(&arguments),
        Task::KillLoop(arguments) => kill_loop::run(&arguments),
        Task::Sessions(arguments) => sessions::run(&arguments),
        Task::PowerCut(arguments) => power_cut::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Deb(arguments) => deb::run(&arguments),
        Task::ArmTests(arguments) => arm_tests::run(&arguments),
        Task::Instructions(arguments) => instructions::run(&arguments),
        Task::Qemu { arguments } => qemu::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Soak { arguments } => soak::run(&arguments),
        Task::Statements(arguments) => statements::run(&arguments),
        Task::Paho(arguments) => paho::run(&arguments),
        Task::Kafka(task) => kafka::run(task),
        Task::Checksums => setup::kafka_jars::write_checksums(),
        Task::Newcomer(arguments) => newcomer::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
