//! Debian packages, and the parts of the Rust tool chain that come as such.

use std::env;
use std::fs;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::Command;

use ::tests::program;
use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use super::{Readiness, python_venv};
use crate::{command, workspace};

const INSTALL: &str = include_str!("apt_install.sh");

/// Installs what is missing, or says how.
pub(crate) fn ensure() -> Result<Readiness> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(Readiness::Present);
    }
    let line = format!("sudo apt-get install {}", missing.join(" "));
    if program::find("apt-get").is_none() {
        bail!(
            "no apt-get here; install what Debian calls {}",
            missing.join(", ")
        );
    }
    let is_root = geteuid().is_root();
    if !is_root && !workspace::is_ci() && !confirmed(&line)? {
        bail!("install with: {line}");
    }
    println!("Installing {}.", missing.join(", "));
    install(&missing)?;
    let still = self::missing()?;
    if !still.is_empty() {
        bail!("apt-get brought no working {}", still.join(", "));
    }
    Ok(Readiness::Installed)
}

/// Installs packages, by way of sudo when this is not root.
pub(crate) fn install<S: AsRef<str>>(packages: &[S]) -> Result<()> {
    let packages: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
    let is_root = geteuid().is_root();
    let mut install = Command::new(if is_root { "sh" } else { "sudo" });
    if !is_root {
        install.arg("sh");
    }
    install
        .args(["-c", INSTALL, "apt_install.sh"])
        .args(&packages);
    command::quiet(&mut install).with_context(|| {
        let packages = packages.join(" ");
        format!("no network? By hand: apt-get update && apt-get install {packages}")
    })
}

/// Packages of tests/debian-packages.txt whose program is not there, and cargo's subcommands.
fn missing() -> Result<Vec<String>> {
    let path = workspace::root().join("tests/debian-packages.txt");
    let list = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut missing = Vec::new();
    for (package, probe) in parse(&list)? {
        let is_there = match probe {
            "venv" => python_venv::interpreter().is_some(),
            program => program::find(program).is_some(),
        };
        if !is_there {
            missing.push(package.to_owned());
        }
    }
    missing.extend(missing_rust_parts());
    Ok(missing)
}

/// Pairs of package and probe.
fn parse(list: &str) -> Result<Vec<(&str, &str)>> {
    let lines = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(
            |line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [package, probe] => Ok((package, probe)),
                _ => bail!("tests/debian-packages.txt: not a package and a program: {line}"),
            },
        )
        .collect()
}

/// Debian's cargo comes without clippy and rustfmt; a rustup profile may, too.
fn missing_rust_parts() -> Vec<String> {
    let has = |name: &str| command::succeeds(workspace::cargo().args([name, "--version"]));
    let (clippy, rustfmt) = (has("clippy"), has("fmt"));
    if clippy && rustfmt {
        return Vec::new();
    }
    let names = match cargo_package().as_deref() {
        Some("cargo-web") => ["rust-web-clippy", "rustfmt-web"],
        Some(_) => ["rust-clippy", "rustfmt"],
        None => {
            println!("clippy or rustfmt is missing: rustup component add clippy rustfmt");
            return Vec::new();
        }
    };
    let is_missing = [!clippy, !rustfmt];
    names
        .iter()
        .zip(is_missing)
        .filter(|(_, is)| *is)
        .map(|(name, _)| (*name).into())
        .collect()
}

/// The Debian package that cargo is from, if it is from one.
fn cargo_package() -> Option<String> {
    let cargo = env::var_os("CARGO")
        .map(PathBuf::from)
        .or_else(|| program::find("cargo"))?;
    let mut candidates = vec![cargo.clone()];
    candidates.extend(cargo.canonicalize().ok());
    candidates.iter().find_map(|path| {
        let output = Command::new("dpkg").arg("-S").arg(path).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines()
            .next()?
            .split(':')
            .next()
            .map(str::to_owned)
            .filter(|name| !name.is_empty())
    })
}

fn confirmed(line: &str) -> Result<bool> {
    println!("The tests need Debian packages that are not installed:\n\n    {line}\n");
    if !stdin().is_terminal() {
        return Ok(false);
    }
    print!("Run it now? [y/N] ");
    stdout().flush().context("ask")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("read the answer")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn list_of_packages_is_read_with_its_comments() {
        let list = "# what\n\nkcat   kcat\npython3-venv venv\n";
        assert_eq!(
            parse(list).unwrap(),
            [("kcat", "kcat"), ("python3-venv", "venv")]
        );
        assert!(parse("kcat\n").is_err());
        assert!(parse(include_str!("../../../tests/debian-packages.txt")).is_ok());
    }
}
