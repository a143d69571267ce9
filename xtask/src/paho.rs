//! `cargo xtask paho`: Eclipse Paho's interoperability suite against the product as it ships.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use ::tests::paho;
use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::chaos::product;
use crate::{command, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A checkout of eclipse/paho.mqtt.testing, or its folder `interoperability`
    #[arg(long, value_name = "DIR")]
    suite: PathBuf,
}

/// Builds the product (or takes what `TIDEGATE_BIN` names), runs the suite and prints what passed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let program = product()?;
    let forbidding = forbidding()?;
    let say = |line: &str| println!("{line}");
    let report = paho::run(&arguments.suite, &program, &forbidding, say)?;
    print!("{report}");
    Ok(if report.is_right() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds the broker that forbids a topic.
fn forbidding() -> Result<PathBuf> {
    // <target>/<profile>/xtask
    let own = env::current_exe().context("find this program's path")?;
    let target = own.ancestors().nth(2).context("no target folder")?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--locked", "--package", "broker"])
        .args(["--example", "forbidding", "--target-dir"])
        .arg(target);
    ensure!(command::cargo(&mut cargo)?, "the example does not compile");
    Ok(target.join("debug/examples/forbidding"))
}
