//! Debian's packages for the guest and for the emulator, fetched through apt roots of our own: the
//! host's apt and dpkg learn of no foreign architecture, and nothing is installed on the host.
//!
//! A day long, a run asks no mirror which versions there are; what a version was made into stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use ::tests::{cache, program};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::programs;

/// What the guest has beside Debian's smallest base.
pub(crate) const GUEST_PACKAGES: &[&str] = &[
    "iproute2",
    "kmod",
    "procps",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// The release that is tested on.
pub(crate) const RELEASE: &str = "bookworm";

/// Depends on the kernel of the day.
const KERNEL_META_PACKAGE: &str = "linux-image-cloud-arm64";

/// For how long known versions are taken for the newest.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Where apt's sources of Debian stand.
const SOURCES: &[&str] = &[
    "/etc/apt/sources.list.d/debian.sources",
    "/etc/apt/sources.list",
];

/// What there is to be had.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Versions {
    /// Name of the kernel's package, with its version behind a `=`.
    pub(crate) kernel: String,
    /// `busybox-static` likewise.
    pub(crate) busybox: String,
    /// A key of the names and versions of all packages of the guest.
    pub(crate) guest: String,
}

/// The apt root for the guest's architecture.
#[derive(Debug)]
pub(crate) struct Packages {
    folder: PathBuf,
}

impl Packages {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.join("apt-arm64"),
        }
    }

    /// Versions, asked for at most once a day. Without a network those of the last time hold.
    ///
    /// # Errors
    /// When no mirror answers and none ever did.
    pub(crate) fn versions(&self) -> Result<Versions> {
        let path = self.folder.join("versions.json");
        let known = read(&path);
        if let Some(versions) = &known
            && is_fresh(&path)
        {
            return Ok(versions.clone());
        }
        match (self.ask(), known) {
            (Ok(versions), _) => {
                fs::write(&path, serde_json::to_vec(&versions)?).context("note versions")?;
                Ok(versions)
            }
            (Err(error), Some(versions)) => {
                crate::say(&format!("Versions of the last time are used: {error:#}"));
                Ok(versions)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn ask(&self) -> Result<Versions> {
        self.prepare()?;
        programs::run(self.apt("apt-get").arg("update"))?;
        let install = ["install", "--simulate", "--no-install-recommends"];
        let kernel = programs::run(self.apt("apt-get").args(install).arg(KERNEL_META_PACKAGE))?;
        let kernel = installed(&kernel)
            .find(|package| package.starts_with("linux-image-6") || package.contains("-cloud-"))
            .with_context(|| format!("{KERNEL_META_PACKAGE} brings no kernel"))?;
        let busybox = programs::run(self.apt("apt-get").args(install).arg("busybox-static"))?;
        let busybox = installed(&busybox).find(|package| package.starts_with("busybox"));
        let mut guest = self.apt("apt-get");
        guest.args(install).args(["?essential", "apt"]);
        let guest = programs::run(guest.args(GUEST_PACKAGES))?;
        let mut guest: Vec<String> = installed(&guest).collect();
        guest.sort();
        Ok(Versions {
            kernel,
            busybox: busybox.context("no busybox-static")?,
            guest: cache::key(&guest.join("\n")),
        })
    }

    /// Folders and configuration of the apt root.
    fn prepare(&self) -> Result<()> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = self.folder.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let root = self.folder.display();
        let sources = sources()?;
        let configuration = format!(
            "APT::Architecture \"arm64\";\nAPT::Architectures {{ \"arm64\"; }};\n\
             Dir::State \"{root}\";\nDir::State::lists \"{root}/lists\";\n\
             Dir::State::status \"{root}/status\";\nDir::Cache \"{root}/cache\";\n\
             Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\nAPT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n",
            sources.display()
        );
        fs::write(self.folder.join("status"), "").context("write an empty list of packages")?;
        fs::write(self.configuration(), configuration).context("write apt's configuration")
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("apt.conf")
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.configuration());
        command.current_dir(&self.folder);
        command
    }

    /// Fetches packages, given as `name=version`, and unpacks them into a folder, which appears
    /// whole or not at all.
    ///
    /// # Errors
    /// When the mirror has them no more, or there is no room.
    pub(crate) fn unpack(&self, packages: &[&str], into: &Path) -> Result<()> {
        if into.is_dir() {
            return Ok(());
        }
        let scratch = tempfile::tempdir_in(&self.folder).context("make a folder")?;
        let mut download = self.apt("apt-get");
        download.arg("download").args(packages);
        programs::run(download.current_dir(scratch.path()))?;
        unpack_all(scratch.path(), into)
    }
}

/// The emulator: that of the host, if it is installed, else fetched and unpacked beside it. Installing
/// it could take another package away from the host, such as a newer `qemu-utils`.
#[derive(Clone, Debug)]
pub(crate) struct Emulator {
    root: Option<PathBuf>,
}

impl Emulator {
    /// Finds or fetches it.
    ///
    /// # Errors
    /// When it is not there and cannot be fetched.
    pub(crate) fn find(folder: &Path) -> Result<Self> {
        if program::find("qemu-system-aarch64").is_some() {
            return Ok(Self { root: None });
        }
        let root = folder.join("emulator");
        if !root.is_dir() {
            let archives = folder.join("emulator-packages");
            fs::create_dir_all(archives.join("partial")).context("make a folder")?;
            let mut download = Command::new("apt-get");
            download
                .arg(format!("-oDir::Cache::archives={}", archives.display()))
                .args(["-oAPT::Sandbox::User=root", "--yes", "--download-only"])
                .args(["--no-install-recommends", "install", "qemu-system-arm"]);
            if programs::run(&mut download).is_err() {
                programs::run(Command::new("apt-get").arg("update"))?;
                programs::run(&mut download)?;
            }
            unpack_all(&archives, &root)?;
            fs::remove_dir_all(&archives).context("remove fetched packages")?;
        }
        Ok(Self { root: Some(root) })
    }

    /// Its command.
    pub(crate) fn command(&self) -> Command {
        let Some(root) = &self.root else {
            return Command::new("qemu-system-aarch64");
        };
        let libraries = |of: &str| root.join(of).join("x86_64-linux-gnu");
        let (usr, lib) = (libraries("usr/lib"), libraries("lib"));
        let mut command = Command::new(root.join("usr/bin/qemu-system-aarch64"));
        command
            .env(
                "LD_LIBRARY_PATH",
                format!("{}:{}", usr.display(), lib.display()),
            )
            .env("QEMU_MODULE_DIR", usr.join("qemu"))
            .arg("-L")
            .arg(root.join("usr/share/qemu"));
        command
    }
}

/// Unpacks every package of a folder.
fn unpack_all(packages: &Path, into: &Path) -> Result<()> {
    let half = into.with_extension("half");
    if half.exists() {
        fs::remove_dir_all(&half).with_context(|| format!("remove {}", half.display()))?;
    }
    let mut count = 0;
    for entry in fs::read_dir(packages).context("list fetched packages")? {
        let path = entry.context("list fetched packages")?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            programs::run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&half))?;
            count += 1;
        }
    }
    ensure!(count > 0, "nothing was fetched into {}", packages.display());
    fs::rename(&half, into).with_context(|| format!("name {}", into.display()))
}

/// `name=version` of each line `Inst name (version …`.
fn installed(simulated: &str) -> impl Iterator<Item = String> {
    let lines = simulated.lines();
    lines.filter_map(|line| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        let name = name.split(' ').next()?;
        Some(format!("{name}={}", rest.split(' ').next()?))
    })
}

/// The host's sources of Debian's packages.
pub(crate) fn sources() -> Result<&'static Path> {
    let found = SOURCES.iter().map(Path::new).find(|path| path.is_file());
    found.with_context(|| format!("no sources of Debian packages in {}", SOURCES.join(" or ")))
}

fn read(path: &Path) -> Option<Versions> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn is_fresh(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
    changed.is_ok_and(|at| {
        SystemTime::now()
            .duration_since(at)
            .is_ok_and(|age| age < FRESH)
    })
}

#[cfg(test)]
mod tests {
    use super::installed;

    #[test]
    fn packages_are_read_from_a_simulation() {
        let text = "Reading package lists...\n\
                    Inst linux-base (4.12 Debian:12.15/oldstable [all])\n\
                    Inst a [1.0] (2.0 Debian:12 [arm64]) []\n\
                    Conf linux-base (4.12 Debian:12.15/oldstable [all])\n";
        let packages: Vec<_> = installed(text).collect();
        assert_eq!(packages, ["linux-base=4.12", "a=2.0"]);
    }
}
