//! `cargo xtask dist`: what is given out. For each target the binary, what built it and what is in it;
//! an image of all; checksums.
//!
//! ```text
//! OUT/<architecture>/tidegate         arm64, armhf, amd64: Debian's names
//! OUT/<architecture>/BUILD-INFO
//! OUT/<architecture>/tidegate.cdx.json
//! OUT/tidegate_VERSION_ARCHITECTURE.deb
//! OUT/oci/                            an OCI image layout
//! OUT/SHA256SUMS
//! ```

mod build;
mod build_info;
mod checksums;
mod elf;
mod oci;
pub(crate) mod sbom;
mod sizes;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cross::{self, SHIPPED, Target};
use crate::deb;
use build::{Built, Places};
use sbom::Lock;

pub(crate) use build::epoch as build_epoch;
pub(crate) use sbom::{rfc2822, rfc3339, workspace_version};

#[derive(Args)]
pub(crate) struct Arguments {
    /// aarch64-unknown-linux-musl, armv7-unknown-linux-gnueabihf or x86_64-unknown-linux-musl; several
    /// times for several, all by default
    #[arg(long)]
    target: Vec<String>,
    /// Empty, or of an earlier run, which is replaced [default: `dist-out` in cargo's target folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Instead, build with symbols and print how many bytes of the binary are which crate's
    #[arg(long)]
    sizes: bool,
}

/// Builds and writes everything.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let targets = Target::chosen(&arguments.target, &SHIPPED)?;
    let epoch = build::epoch()?;
    build::fetch()?;
    let places = Places::here()?;
    for target in &targets {
        target.prepare_build()?;
    }
    if arguments.sizes {
        for target in targets {
            let binary = build::compile(target, &places, epoch, false)?;
            println!("{}:\n{}", target.triple, sizes::table(&binary)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => cross::target_folder()?.join("dist-out"),
    };
    clear(&out)?;
    let lock = Lock::read()?;
    let mut all = Vec::new();
    for target in targets {
        println!("Building for {}.", target.triple);
        let built = build::build(target, &places, epoch)?;
        write_binary(&out, &built, &lock, epoch)?;
        all.push(built);
    }
    let version = deb::Version::of_workspace()?;
    let mut packages = Vec::new();
    for built in &all {
        let binary = out.join(built.target.debian).join("tidegate");
        packages.push(deb::build(built.target, &binary, &out, &version)?);
    }
    oci::write(&out.join("oci"), &all, &lock.version()?, epoch)?;
    checksums::write(&out)?;
    for built in &all {
        println!("{:<6} {:>9} bytes", built.target.debian, built.bytes.len());
    }
    for package in &packages {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        println!("{name} {} bytes", fs::metadata(package)?.len());
    }
    println!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// The binary with what is to be known of it.
fn write_binary(out: &Path, built: &Built, lock: &Lock, epoch: u64) -> Result<()> {
    let folder = out.join(built.target.debian);
    fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    let program = folder.join("tidegate");
    write(&program, &built.bytes)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let info = build_info::of(built, &lock.version()?, epoch)?;
    write(&folder.join("BUILD-INFO"), build_info::text(&info))?;
    let bom = sbom::of(lock, built, &info, epoch)?;
    let bom = serde_json::to_string_pretty(&bom)? + "\n";
    write(&folder.join("tidegate.cdx.json"), bom)
}

/// Makes the folder, or removes from it what an earlier run wrote. Anything else in it is refused: it
/// would get into the checksums, or be lost.
fn clear(out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let entries = fs::read_dir(out).with_context(|| format!("list {}", out.display()))?;
    let mut ours = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = ["arm64", "armhf", "amd64", "oci", checksums::NAME].contains(&&*name)
            || name.starts_with("tidegate_") && name.ends_with(".deb");
        if !is_ours {
            bail!(
                "--out {}: {name} there is of no earlier run; give an empty folder",
                out.display()
            );
        }
        ours.push(path);
    }
    for path in ours {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, contents).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::clear;

    #[test]
    fn earlier_run_is_replaced_and_anything_else_refused_before_anything_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("a/b");
        clear(&out).unwrap();
        fs::create_dir(out.join("arm64")).unwrap();
        fs::write(out.join("arm64/tidegate"), "").unwrap();
        fs::write(out.join("SHA256SUMS"), "").unwrap();
        fs::write(out.join("thesis.odt"), "").unwrap();
        let error = clear(&out).unwrap_err().to_string();
        assert!(error.contains("thesis.odt"), "{error}");
        assert!(out.join("arm64/tidegate").is_file());
        fs::remove_file(out.join("thesis.odt")).unwrap();
        clear(&out).unwrap();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }
}
