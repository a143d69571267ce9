//! Measures Tidegate's log on the machine that it runs on, for hours if need be: what it costs when
//! it is full and goes on for years, and what reading a large one costs. docs/bench.md says what the
//! figures mean.
//!
//! Not for the whole program, which `tidegate bench` measures. No part of the product.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring program talks to its user"
)]

mod cli;
mod folder;
mod plot;
mod publishers;
mod quiet;
mod rare;
mod raw;
mod records;
mod scan;
mod sys;
mod threads;
mod turnover;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Arguments, Command};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Turnover(options) => turnover::run(&options),
        Command::Scan(options) => scan::run(&options),
        Command::Quiet(options) => quiet::run(&options).map(|()| true),
        Command::Plot(options) => plot::run(&options).map(|()| true),
        Command::Rare(options) => rare::run(&options),
        Command::ReadRare(options) => rare::read(&options).map(|()| true),
        Command::Read(options) => scan::read(&options).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A count as a figure. Counts here are far below the 2^53 from which on this would round.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn figure(count: u64) -> f64 {
    count as f64
}
