//! The temporary folder of a measurement, on the file system that is measured.
//!
//! Invariant: it is gone when this is dropped, whatever happened; only SIGKILL leaves it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use firmware_config::ByteCount;
use tempfile::TempDir;

/// What tmpfs and ramfs call themselves in `statfs`.
const MEMORY_FILE_SYSTEMS: [i128; 2] = [0x0102_1994, 0x8584_58f6];
/// What has to stay free besides.
const SPARE_BYTES: u64 = 256 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Folder {
    folder: TempDir,
}

impl Folder {
    /// A new one in `dir`, if there is room for `bytes` there.
    ///
    /// # Errors
    /// It cannot be made, or there is not enough room.
    pub(super) fn create(dir: &Path, bytes: u64) -> anyhow::Result<Self> {
        let shown = dir.display();
        let space = rustix::fs::statvfs(dir)
            .with_context(|| format!("look for free space in {shown} (--dir)"))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let needed = bytes.saturating_add(SPARE_BYTES);
        if free < needed {
            let mebibytes = |bytes: u64| ByteCount::new(bytes.div_ceil(1 << 20) << 20);
            bail!(
                "not measured: {shown} has {} free and the measurement needs {}; name another folder with --dir, \
                 or measure less",
                mebibytes(free),
                mebibytes(needed),
            );
        }
        // Absolute, because it goes into configuration files.
        let dir = fs::canonicalize(dir).with_context(|| format!("find {shown}"))?;
        let folder = tempfile::Builder::new()
            .prefix("tidegate-bench-")
            .tempdir_in(&dir)
            .with_context(|| format!("create a folder in {shown} (--dir)"))?;
        Ok(Self { folder })
    }

    /// A new folder in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn subfolder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }
}

/// Whether files there are only memory, so that nothing is written and a sync costs nothing.
pub(super) fn is_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir)
        .is_ok_and(|found| MEMORY_FILE_SYSTEMS.contains(&i128::from(found.f_type)))
}

/// Bytes of all files in a folder and below.
///
/// # Errors
/// Something in it cannot be read, unless it has just been removed.
pub(super) fn size(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry?;
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => bytes += found.len(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folder_and_everything_in_it_goes_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path(), 0).unwrap();
        let inner = folder.subfolder("inner").unwrap();
        fs::write(inner.join("a"), [0; 10]).unwrap();
        fs::create_dir(inner.join("b")).unwrap();
        fs::write(inner.join("b").join("c"), [0; 5]).unwrap();
        assert_eq!(size(dir.path()).unwrap(), 15);
        drop(folder);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn too_little_room_is_refused_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let error = Folder::create(dir.path(), 1 << 60).unwrap_err().to_string();
        assert!(error.contains("needs 1099511628032MiB"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = Folder::create(&dir.path().join("none"), 0).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
