//! Programs of the host that are run to their end.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::program;

/// Characters of a failed program's output that are shown: its end.
const SHOWN_CHARS_MAX: usize = 3000;

/// What the suite calls, and the Debian packages that bring it.
const NEEDED: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("arch-test", "arch-test"),
    ("dpkg-deb", "dpkg"),
    ("mke2fs", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("qemu-aarch64-static", "qemu-user-static"),
    ("unshare", "util-linux"),
];

/// That everything is there that the host must have.
///
/// # Errors
/// The line that installs what is missing.
pub(crate) fn check() -> Result<()> {
    let missing = NEEDED
        .iter()
        .filter(|(name, _)| program::find(name).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    ensure!(
        missing.is_empty(),
        "install with: apt-get install {}",
        missing.join(" ")
    );
    ensure!(
        rustix::process::geteuid().is_root(),
        "only root may make a root file system with the owners that it must have: run as root, \
         or with sudo"
    );
    Ok(())
}

/// Runs a program to its end; what it printed on its standard output.
///
/// # Errors
/// When it cannot be started or fails, with the end of what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {name}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success(),
        "{name} ended with {}; it printed:\n{}",
        output.status,
        tail(&said)
    );
    Ok(stdout)
}

/// The end of a text.
pub(crate) fn tail(text: &str) -> &str {
    let surplus = text.len().saturating_sub(SHOWN_CHARS_MAX);
    let begin = (surplus..=text.len()).find(|at| text.is_char_boundary(*at));
    text.get(begin.unwrap_or(0)..).unwrap_or(text)
}
