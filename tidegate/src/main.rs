//! Tidegate: an edge broker for gateways. Devices publish over MQTT, every message is kept in
//! partitioned logs on the gateway's own flash, and a bridge replicates the logs to a central
//! Kafka-compatible cluster whenever the link allows.
//!
//! This crate is the composition root: it reads files, environment and command line, turns the
//! configuration into the libraries' options, and runs them. It decides nothing about messages.

mod addresses;
mod admin;
mod bench;
mod check;
mod child;
mod cli;
mod client;
mod demo;
mod doctor;
mod exit;
mod log;
mod machine;
mod port_holder;
mod room;
mod run;
mod status;
mod stderr;
mod stdout;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Bench(options) => bench::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Log(options) => log::run(&options),
        Command::Pub(options) => client::publish(&options),
        Command::Run(options) => run::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Sub(options) => client::subscribe(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::tell(&error),
    }
}
