//! Writes the manual pages and the shells' completions of `tidegate`, for the packages:
//! `cargo run --package tidegate --example manual -- DIR DATE`.
//!
//! All of it is made of what the program itself is made of: the definition of its command line, and the
//! list of the configuration's keys with the reference in `docs/configuration.md`. The modules of the
//! command line are compiled here a second time, by their path, so that what makes pages of them is in no
//! program that ships, and runs on the machine that builds, whatever the package is for.

#[path = "../../src"]
mod source {
    pub(crate) mod cli;
}

#[path = "../../src/log"]
mod log {
    #[expect(dead_code, reason = "the command line reads times and writes none")]
    mod time;

    pub(crate) use time::parse_time;
}

mod commands;
mod configuration;
mod page;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;

use page::Edition;

/// Writes the manual pages and the shells' completions of tidegate.
#[derive(Parser)]
struct Arguments {
    /// Folder, made if it is not there: pages go to DIR/man, completions to DIR/completions
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What the pages say they are of, such as 2026-11-24
    #[arg(value_name = "DATE", value_parser = date)]
    date: String,
}

fn main() -> ExitCode {
    match write(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a program for whoever builds packages")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments) -> Result<()> {
    let (man, completions) = (
        arguments.folder.join("man"),
        arguments.folder.join("completions"),
    );
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let edition = Edition {
        date: arguments.date.clone(),
        version: env!("CARGO_PKG_VERSION"),
    };
    // `help SUBCOMMAND` prints what the pages say.
    let mut command = source::cli::Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = commands::pages(&command, &edition)?;
    pages.push(configuration::page(&edition)?);
    for page in pages {
        let path = man.join(&page.name);
        fs::write(&path, page.text).with_context(|| format!("write {}", path.display()))?;
    }
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut command = source::cli::Arguments::command();
        clap_complete::generate_to(shell, &mut command, "tidegate", &completions)
            .with_context(|| format!("write completions into {}", completions.display()))?;
    }
    Ok(())
}

/// A day, as manual pages write it.
fn date(text: &str) -> Result<String, &'static str> {
    let is_day = text.len() == 10
        && text.char_indices().all(|(at, char)| match at {
            4 | 7 => char == '-',
            _ => char.is_ascii_digit(),
        });
    is_day
        .then(|| text.to_owned())
        .ok_or("allowed: a day such as 2026-11-24")
}
