//! The guest's kernel and what it begins with: an archive with busybox and the drivers of virtio, which
//! are modules in Debian's kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::packages::{Packages, Versions};

/// The order counts: each needs those before it.
const MODULES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio-rng",
];

/// Loads the drivers, waits for the disk and goes over to what is on it.
const INIT: &str = include_str!("init.sh");

/// The files that the emulator is given.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) version: String,
}

impl Kernel {
    /// Fetches and makes what is not in the cache.
    ///
    /// # Errors
    /// When packages cannot be fetched or have not what they should.
    pub(crate) fn prepare(folder: &Path, packages: &Packages, versions: &Versions) -> Result<Self> {
        let (package, _) = versions
            .kernel
            .split_once('=')
            .context("kernel's version")?;
        let version = package.trim_start_matches("linux-image-").to_owned();
        let key = tests::cache::key(&format!("{}{}", versions.kernel, versions.busybox));
        let root = folder.join(format!("kernel-{key}"));
        packages.unpack(&[&versions.kernel, &versions.busybox], &root)?;
        // Told which kernel is used: it counts as used now.
        let _ = fs::File::open(&root).and_then(|file| file.set_modified(SystemTime::now()));
        let initrd = root.join("initrd.cpio");
        fs::write(&initrd, archive(&root, &version)?).context("write the first root")?;
        Ok(Self {
            image: root.join(format!("boot/vmlinuz-{version}")),
            initrd,
            version,
        })
    }
}

fn archive(root: &Path, version: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules", "new", "proc", "sys"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    let busybox = fs::read(root.join("bin/busybox")).context("read busybox")?;
    archive.program("bin/busybox", &busybox);
    let modules = root.join(format!("lib/modules/{version}/kernel"));
    for (number, name) in MODULES.iter().enumerate() {
        let file = find(&modules, &format!("{name}.ko"));
        let file = file.with_context(|| format!("no module {name} in kernel {version}"))?;
        let content = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        // Loaded in the order of their names.
        archive.program(&format!("modules/{number:02}-{name}.ko"), &content);
    }
    archive.program("init", INIT.as_bytes());
    Ok(archive.finish())
}

/// A file of this name somewhere below.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let found = paths.iter().find(|path| path.ends_with(name));
    let below = || paths.iter().filter(|path| path.is_dir());
    found
        .cloned()
        .or_else(|| below().find_map(|path| find(path, name)))
}
