//! The guest's root file system: Debian's smallest base and systemd, configured by an emulated dpkg;
//! then the disk image with what the suite adds. Made once for each set of package versions.
//!
//! No loop device and no mount is used on the host but in a mount namespace that ends with its process.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tests::cache;

use crate::packages::{self, GUEST_PACKAGES, RELEASE, Versions};
use crate::programs;

const MAKE: &str = include_str!("rootfs.sh");

/// Size of the disk: that of a small card. The image is sparse.
const DISK_SIZE: &str = "4G";

/// Files that the suite adds, by their place in the guest.
const FILES: &[(&str, &str)] = &[
    ("etc/fstab", "/dev/vda / ext4 rw,noatime 0 1\n"),
    ("etc/hostname", "gateway\n"),
    ("etc/machine-id", "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e\n"),
    (
        "etc/systemd/journald.conf.d/vm-suite.conf",
        include_str!("../guest/journald.conf"),
    ),
    (
        "etc/systemd/system/suite-network.service",
        include_str!("../guest/suite-network.service"),
    ),
    (
        "etc/systemd/system/suite-shell.socket",
        include_str!("../guest/suite-shell.socket"),
    ),
    (
        "etc/systemd/system/suite-shell@.service",
        include_str!("../guest/suite-shell@.service"),
    ),
    (
        "etc/systemd/system/suite-admin.socket",
        include_str!("../guest/suite-admin.socket"),
    ),
    (
        "etc/systemd/system/suite-admin.service",
        include_str!("../guest/suite-admin.service"),
    ),
    (
        "usr/local/sbin/suite-shell",
        include_str!("../guest/suite-shell.sh"),
    ),
];

/// Units of ours that are started, and by which target.
const ENABLED: &[(&str, &str)] = &[
    ("suite-network.service", "multi-user.target.wants"),
    ("suite-shell.socket", "sockets.target.wants"),
    ("suite-admin.socket", "sockets.target.wants"),
];

/// Units that cost an emulated processor seconds and have no part in what is tested. What the product's
/// unit depends on is not among them.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "ldconfig.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyAMA0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

/// An image of a disk with the system and without the product.
///
/// # Errors
/// When packages cannot be fetched or configured, or there is no room.
pub(crate) fn image(folder: &Path, versions: &Versions) -> Result<PathBuf> {
    let tar = root_tar(folder, versions)?;
    let files: String = FILES
        .iter()
        .map(|(place, text)| format!("{place}{text}"))
        .collect();
    let key = cache::key(&format!("{files}{DISK_SIZE}{}", MASKED.join(" ")));
    let image = tar.with_extension(format!("{key}.img"));
    if image.is_file() {
        return Ok(image);
    }
    let root = tempfile::tempdir_in(folder).context("make a folder")?;
    fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).context("open a folder")?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xpf").arg(&tar).arg("-C").arg(root.path());
    programs::run(unpack.args(["--numeric-owner", "--exclude=./dev/*"]))?;
    furnish(root.path())?;
    let half = image.with_extension("half");
    let _ = fs::remove_file(&half);
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-L", "root", "-m", "0", "-i", "65536"])
        .args([
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
            "-J",
            "size=16",
        ])
        .arg("-d")
        .arg(root.path())
        .arg(&half)
        .arg(DISK_SIZE);
    programs::run(&mut make)?;
    fs::rename(&half, &image).context("name the image")?;
    Ok(image)
}

/// The root file system as it comes of Debian's packages.
fn root_tar(folder: &Path, versions: &Versions) -> Result<PathBuf> {
    let key = cache::key(&format!("{}{MAKE}", versions.guest));
    let tar = folder.join(format!("root-{key}.tar"));
    if tar.is_file() {
        return Ok(tar);
    }
    crate::say("Debian for the guest is made; this takes minutes, once.");
    let half = folder.join("root-half.tar");
    let _ = fs::remove_file(&half);
    let mut make = Command::new("unshare");
    make.args(["--mount", "sh", "-c", MAKE, "rootfs.sh"])
        .arg(&half)
        .args([RELEASE, &GUEST_PACKAGES.join(",")])
        .arg(packages::sources()?);
    programs::run(&mut make)?;
    fs::rename(&half, &tar).context("name the root file system")?;
    Ok(tar)
}

/// Adds what is ours.
fn furnish(root: &Path) -> Result<()> {
    for (place, text) in FILES {
        let path = root.join(place);
        let parent = path.parent().context("a file without a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let mode = if place.contains("/sbin/") {
            0o755
        } else {
            0o644
        };
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).context("set permissions")?;
    }
    let units = root.join("etc/systemd/system");
    for (unit, target) in ENABLED {
        let folder = units.join(target);
        fs::create_dir_all(&folder).context("make a folder of a target")?;
        link(&format!("../{unit}"), &folder.join(unit))?;
    }
    for unit in MASKED {
        link("/dev/null", &units.join(unit))?;
    }
    link(
        "/lib/systemd/system/multi-user.target",
        &units.join("default.target"),
    )
}

fn link(to: &str, path: &Path) -> Result<()> {
    let _ = fs::remove_file(path);
    symlink(to, path).with_context(|| format!("link {}", path.display()))
}
