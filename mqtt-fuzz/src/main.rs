//! `mqtt-fuzz`: runs one input again, shows it as a person writes it, and writes the seeds as
//! libFuzzer reads them. The long form of fuzzing is `cargo xtask fuzz`.

#![expect(clippy::print_stdout, reason = "a tool talks to its user")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use mqtt_fuzz::{Seen, Target, hold, notation};

/// Inputs of the fuzz targets.
#[derive(Parser)]
enum Command {
    /// Run an input, and say what does not hold
    Run {
        /// Which target
        target: Target,
        /// A file, or the input in hexadecimal
        input: String,
    },
    /// Print an input as seeds are written
    Show {
        /// Which target
        target: Target,
        /// A file, or the input in hexadecimal
        input: String,
    },
    /// Write the seeds as files that libFuzzer reads
    Seeds {
        /// Which target
        target: Target,
        /// Where to; made when it is not there
        folder: PathBuf,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Run { target, input } => run(target, &read(&input)?),
        Command::Show { target, input } => {
            print!("{}", notation::format(target, &read(&input)?));
            Ok(())
        }
        Command::Seeds { target, folder } => write_seeds(target, &folder),
    }
}

fn read(input: &str) -> Result<Vec<u8>> {
    if Path::new(input).is_file() {
        return fs::read(input).with_context(|| format!("read {input}"));
    }
    notation::bytes(input).with_context(|| format!("{input}: neither a file nor hexadecimal"))
}

fn run(target: Target, input: &[u8]) -> Result<()> {
    print!("{}", notation::format(target, input));
    match hold(target, input, &mut Seen::default()) {
        Ok(()) => println!("everything holds"),
        Err(message) => bail!("{message}"),
    }
    Ok(())
}

fn write_seeds(target: Target, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    for seed in target.seeds()? {
        let path = folder.join(seed.name.replace(['/', ' '], "-"));
        fs::write(&path, &seed.input).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
