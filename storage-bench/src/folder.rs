//! The temporary folder of a measurement, on the file system that is measured, and what it takes
//! there.
//!
//! Invariant: it is gone when this is dropped, whatever happened; only SIGKILL leaves it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// What has to stay free besides.
const SPARE_BYTES: u64 = 1 << 30;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// A new folder in `dir`, if there is room for `bytes` there.
///
/// # Errors
/// There is too little room, or it cannot be made.
pub(crate) fn create(dir: &Path, bytes: u64) -> anyhow::Result<TempDir> {
    let shown = dir.display();
    let stat = rustix::fs::statvfs(dir)
        .with_context(|| format!("look for free space in {shown} (--dir)"))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = bytes.saturating_add(SPARE_BYTES);
    if free < needed {
        bail!(
            "not measured: {shown} has {:.1} GiB free and the measurement needs {:.1} GiB; name \
             another folder with --dir, or measure less",
            crate::figure(free) / GIB,
            crate::figure(needed) / GIB,
        );
    }
    let dir = fs::canonicalize(dir).with_context(|| format!("find {shown}"))?;
    tempfile::Builder::new()
        .prefix("storage-bench-")
        .tempdir_in(&dir)
        .with_context(|| format!("create a folder in {shown} (--dir)"))
}

/// Bytes of all blocks that are allocated to a folder and what is in it.
///
/// # Errors
/// Something in it cannot be read, unless it has just been removed.
pub(crate) fn allocated_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("read {}", folder.display()))?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(found) => {
                    bytes += found.blocks() * 512;
                    if found.is_dir() {
                        folders.push(entry.path());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_a_failure_that_names_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let error = create(dir.path(), 1 << 60).unwrap_err().to_string();
        assert!(error.contains("needs 1073741825.0 GiB"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn blocks_are_counted_and_the_folder_goes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = create(dir.path(), 0).unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), [1; 5000]).unwrap();
        assert!(allocated_bytes(folder.path()).unwrap() >= 5000);
        drop(folder);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
