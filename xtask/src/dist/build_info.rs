//! Which toolchain built a binary: `BUILD-INFO` beside it, and properties of its SBOM.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::build::{self, Built};
use super::checksums::sha256;
use crate::cross::{self, Target};

/// Names and values, in the order in which they are written.
pub(super) type Pairs = Vec<(&'static str, String)>;

/// What built the binary.
pub(super) fn of(built: &Built, version: &str, epoch: u64) -> Result<Pairs> {
    let target = built.target;
    let rustc = cross::rustc(&["-vV"])?;
    let line = |start: &str| {
        let found = rustc.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or("unknown").to_owned()
    };
    let c_library = match built.facts.glibc() {
        None => String::from("musl of that standard library, in the binary"),
        Some((major, minor)) => format!("glibc of the system, at least {major}.{minor}"),
    };
    Ok(vec![
        ("program", format!("tidegate {version}")),
        ("commit", commit()),
        ("source-date-epoch", epoch.to_string()),
        ("target", target.triple.to_owned()),
        ("profile", String::from("dist")),
        ("rustc", line("rustc ")),
        ("llvm", line("LLVM version: ")),
        ("standard-library", standard_library(target)?),
        ("c-library", c_library),
        ("linker", linker(target)?),
        ("c-compiler", c_compiler(target)?),
        ("bytes", built.bytes.len().to_string()),
        ("sha256", sha256(&built.bytes)),
    ])
}

/// `name: value` lines.
pub(super) fn text(pairs: &Pairs) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

fn commit() -> String {
    let Ok(commit) = build::git(&["rev-parse", "HEAD"]) else {
        return String::from("unknown");
    };
    let changes = build::git(&["status", "--porcelain", "--untracked-files=no"]);
    match changes.as_deref() {
        Ok("") => commit,
        _ => format!("{commit} and changes"),
    }
}

/// A rustup toolchain says so by a file of its own.
fn standard_library(target: &Target) -> Result<String> {
    let sysroot = cross::rustc(&["--print", "sysroot"])?;
    let manifest = Path::new(&sysroot).join("lib/rustlib/multirust-channel-manifest.toml");
    let from = if manifest.is_file() {
        "rustup"
    } else {
        "the package of rustc"
    };
    Ok(format!("rust-std of {}, from {from}", target.triple))
}

fn linker(target: &Target) -> Result<String> {
    if !target.is_static {
        let mut linker = Command::new(target.c_compiler.replace("-gcc", "-ld"));
        let version = build::output(linker.arg("--version"))?;
        return Ok(version.lines().next().unwrap_or_default().to_owned());
    }
    let folder = cross::rustc(&["--print", "target-libdir"])?;
    let lld = Path::new(&folder).with_file_name("bin").join("rust-lld");
    let version = build::output(Command::new(lld).args(["-flavor", "gnu", "--version"]))?;
    // What follows is where it was compiled.
    let version = version.split(" (").next().unwrap_or_default();
    Ok(format!("rust-lld of rustc, {version}"))
}

fn c_compiler(target: &Target) -> Result<String> {
    let version = build::output(Command::new(target.c_compiler).arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn build_info_is_one_line_a_name() {
        let pairs = vec![("a", String::from("1")), ("b", String::from("2 3"))];
        assert_eq!(text(&pairs), "a: 1\nb: 2 3\n");
    }
}
