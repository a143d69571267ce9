//! Manual pages and completions: made by an example of the program itself, on the machine that builds.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::staging::Staging;
use crate::dist::rfc3339;
use crate::{command, cross, workspace};

/// Generates them, and puts them where they belong.
pub(super) fn stage(staging: &Staging, epoch: u64) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder for manual pages")?;
    let day = rfc3339(epoch);
    let day = day.split('T').next().unwrap_or_default();
    let mut cargo = workspace::cargo();
    cargo
        .args(["run", "--quiet", "--locked", "--package", "tidegate"])
        .args(["--example", "manual", "--target-dir"])
        .arg(cross::target_folder()?)
        .arg("--")
        .arg(folder.path())
        .arg(day);
    ensure!(
        command::cargo(&mut cargo)?,
        "the manual pages could not be made"
    );
    for name in names(&folder.path().join("man"))? {
        let text = fs::read(folder.path().join("man").join(&name))?;
        let (_, section) = name.rsplit_once('.').context("a page without a section")?;
        staging.compressed(&format!("usr/share/man/man{section}/{name}.gz"), &text)?;
    }
    for (from, to) in [
        (
            "tidegate.bash",
            "usr/share/bash-completion/completions/tidegate",
        ),
        (
            "tidegate.fish",
            "usr/share/fish/vendor_completions.d/tidegate.fish",
        ),
        ("_tidegate", "usr/share/zsh/vendor-completions/_tidegate"),
    ] {
        let path = folder.path().join("completions").join(from);
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        staging.file(to, text, 0o644)?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
