//! The product on a real Debian: an emulated ARM machine on which the package is installed by dpkg,
//! systemd watches over it, and the power is cut.
//!
//! `cargo xtask qemu` calls this; `docs/vm-suite.md` says what is played. Everything that is fetched and
//! made lies in the cache folder (see `tests::cache`), and nothing is installed on the host.

mod books;
mod cpio;
mod guest;
mod kernel;
mod machine;
mod packages;
mod programs;
mod publishers;
mod relay;
mod report;
mod root_file_system;
mod scenarios;
mod stage;
mod suite;
mod upstream;
mod write_log;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "vm-suite",
    about = "The package on a real Debian on an emulated ARM machine"
)]
struct Arguments {
    #[command(subcommand)]
    inner: Option<Inner>,
    #[command(flatten)]
    options: suite::Options,
}

#[derive(Subcommand)]
enum Inner {
    /// Called by the emulator: standard input and output to a port of 127.0.0.1
    #[command(hide = true)]
    Relay { port: u16 },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.inner {
        // Its standard error is the guest's connection, too: it may say nothing.
        Some(Inner::Relay { port }) => {
            return ExitCode::from(u8::from(relay::run(port).is_err()));
        }
        None => suite::run(&arguments.options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever runs the suite.
#[expect(
    clippy::print_stderr,
    reason = "what the suite does takes minutes and is told as it goes"
)]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
