//! A bare Debian 12 in a folder, with what the README tells a newcomer to install and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::cache::Cache;
use ::tests::program;
use anyhow::{Context, Result};

use super::network::Network;
use crate::{command, setup};

const RELEASE: &str = "bookworm";

/// As the README says them.
const PACKAGES: &str = "gcc,libc6-dev,git,ca-certificates,rustc-web,cargo-web";

/// `$1` is the root folder, `$2` the line to run. The namespaces are this shell's own.
const ENTER: &str = r#"
set -e
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -t sysfs sys "$1/sys"
mount -t tmpfs tmpfs "$1/run"
exec chroot "$1" /bin/bash -c "$2"
"#;

#[derive(Debug)]
pub(super) struct RootFolder {
    path: PathBuf,
    environment: Vec<(String, String)>,
}

impl RootFolder {
    /// Makes it anew; one that an earlier run has left is removed.
    pub(super) fn make(cache: &Cache) -> Result<Self> {
        if program::find("mmdebstrap").is_none() {
            println!("Installing mmdebstrap.");
            setup::install_packages(&["mmdebstrap"])?;
        }
        let path = cache.root().join("newcomer");
        remove(&path)?;
        fs::create_dir_all(cache.root()).context("create the cache folder")?;
        println!("Making a bare Debian ({RELEASE}) in {}.", path.display());
        command::flush();
        let network = Network::of_this_machine();
        let mut debootstrap = Command::new("mmdebstrap");
        debootstrap
            .args(["--mode=root", "--variant=minbase", "--quiet"])
            .arg(format!("--include={PACKAGES}"));
        for option in network.apt_options() {
            debootstrap.arg(format!("--aptopt={option}"));
        }
        debootstrap
            .arg(RELEASE)
            .arg(&path)
            .args(network.apt_sources(RELEASE));
        command::quiet(&mut debootstrap).context("make a bare Debian")?;
        network.copy_files_into(&path)?;
        let environment = network.environment_inside(&path);
        let root_folder = Self { path, environment };
        command::quiet(&mut root_folder.shell("update-ca-certificates"))
            .context("make certificates known in the bare Debian")?;
        Ok(root_folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A shell in it that runs a line, with the environment of a login and what the network needs.
    pub(super) fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                ENTER,
                "enter",
            ])
            .arg(&self.path)
            .arg(line)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(super) fn keep(self) -> PathBuf {
        self.path
    }

    pub(super) fn remove(self) -> Result<()> {
        remove(&self.path)
    }
}

/// Never into another file system, should anything be mounted there after all.
fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        let mut remove = Command::new("rm");
        command::quiet(remove.args(["-rf", "--one-file-system", "--"]).arg(path))?;
    }
    Ok(())
}
