//! `cargo xtask paho`: Eclipse Paho's interoperability suite against the product as it ships.

use std::path::PathBuf;
use std::process::ExitCode;

use ::tests::paho;
use anyhow::Result;
use clap::Args;

use crate::chaos::product;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A checkout of eclipse/paho.mqtt.testing, or its folder `interoperability`
    #[arg(long, value_name = "DIR")]
    suite: PathBuf,
}

/// Builds the product (or takes what `TIDEGATE_BIN` names), runs the suite and prints what passed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let program = product()?;
    let report = paho::run(&arguments.suite, &program, |line| println!("{line}"))?;
    print!("{report}");
    Ok(if report.is_right() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
