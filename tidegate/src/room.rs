//! Whether what the configuration may fill fits the disk (and in `memory`, what it may take, the memory): one judgement for `check`, which refuses,
//! `run`, which warns, and `doctor`, which tells.
//!
//! How much that is, `storage::DiskNeed` says; here it meets a file system. Nothing is written, and
//! the data folder need not exist: what counts is the nearest folder above it that does.

mod advice;
pub(crate) mod memory;

use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use firmware_config::Config;
use serde::Serialize;
use storage::DiskNeed;

use crate::status::size;
use crate::wiring;

pub(crate) use advice::advice;

/// The gateway holds fewer files than this, also with small segments.
const FILES_MAX: usize = 200_000;

/// What `statvfs` says, and what the folder has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Space {
    /// 0 where the file system has no size of its own.
    pub(crate) total_bytes: u64,
    /// The same without what is kept for root.
    pub(crate) usable_bytes: u64,
    /// For those who are not root.
    pub(crate) free_bytes: u64,
    /// 0 where the file system has no fixed number of them.
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
    /// Allocated to the data folder; `None` if not all of it could be seen.
    pub(crate) used_bytes: Option<u64>,
}

impl Space {
    /// Of the file system of `data_dir`, which is absolute, and of what the folder has. The latter
    /// takes as long as it takes to look at every file in it.
    pub(crate) fn of(data_dir: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(nearest_existing(data_dir))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        let kept_for_root = found.f_bfree.saturating_sub(found.f_bavail);
        Ok(Self {
            total_bytes: bytes(found.f_blocks),
            usable_bytes: bytes(found.f_blocks.saturating_sub(kept_for_root)),
            free_bytes: bytes(found.f_bavail),
            inodes: found.f_files,
            free_inodes: found.f_favail,
            used_bytes: allocated(data_dir),
        })
    }

    /// Of a file system that is not here, empty.
    pub(crate) fn elsewhere(bytes: u64) -> Self {
        Self {
            total_bytes: bytes,
            usable_bytes: bytes,
            free_bytes: bytes,
            used_bytes: Some(0),
            ..Self::default()
        }
    }
}

/// Whether there is room for what a folder may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is, beside what others have there.
    Fits,
    /// Not on this file system, whatever is removed from it.
    Never,
    /// Not beside what others have there.
    NotNow,
    /// What is free is too little, and what the folder has already cannot be seen.
    Hidden,
    /// The file system does not say how large it is.
    NoSize,
}

/// Judges by the size of the file system, what is free, and what the folder has already.
pub(crate) fn judge(space: &Space, need: &DiskNeed) -> Verdict {
    let total = need.total_bytes();
    let has = space
        .free_bytes
        .saturating_add(space.used_bytes.unwrap_or(0));
    match space.used_bytes {
        _ if space.total_bytes == 0 => Verdict::NoSize,
        _ if total > space.usable_bytes => Verdict::Never,
        _ if total <= has => Verdict::Fits,
        None => Verdict::Hidden,
        Some(_) => Verdict::NotNow,
    }
}

/// What the configuration may fill.
pub(crate) fn need(config: &Config) -> DiskNeed {
    DiskNeed::of(
        &wiring::store_options(config),
        &wiring::log_options(config),
        config.limits.retained_bytes_max.get(),
    )
}

/// The parts of it, for people.
pub(crate) fn parts(need: &DiskNeed) -> String {
    format!(
        "logs {} on flash for {} that they keep, segments beside them {}, metadata {}, quarantine \
         {}, reserve {}",
        size(need.segments_bytes),
        size(need.retention_bytes),
        size(need.beside_bytes),
        size(need.metadata_bytes),
        size(need.quarantine_bytes),
        size(need.reserve_bytes),
    )
}

/// The folder itself, or what is there of the path to it, without links.
pub(crate) fn nearest_existing(path: &Path) -> PathBuf {
    let found = path
        .ancestors()
        .find_map(|path| fs::canonicalize(path).ok());
    found.unwrap_or_else(|| PathBuf::from("/"))
}

/// Allocated to everything in a folder and below; `None` if not all of it can be seen.
fn allocated(path: &Path) -> Option<u64> {
    if !path.exists() {
        return Some(0);
    }
    let mut bytes: u64 = 0;
    let mut seen = 0;
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Retention removes segments while we look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        for entry in entries {
            seen += 1;
            if seen > FILES_MAX {
                return None;
            }
            let Ok(found) = entry.and_then(|entry| Ok((entry.metadata()?, entry.path()))) else {
                continue;
            };
            bytes = bytes.saturating_add(found.0.st_blocks().saturating_mul(512));
            if found.0.is_dir() {
                folders.push(found.1);
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use firmware_config::Machine;

    use super::*;

    pub(super) const GIB: u64 = 1 << 30;

    pub(super) fn config(text: &str) -> Config {
        Config::from_toml(text, "test", &wiring::checks(), &Machine::default()).unwrap()
    }

    pub(super) fn logs(sizes: &[(&str, &str)]) -> Config {
        let log = |(name, bytes): &(&str, &str)| {
            format!(
                "[[log]]\nname = \"{name}\"\nfilters = [\"{name}/#\"]\n\
                 retention = {{ bytes = \"{bytes}\" }}\n"
            )
        };
        config(&sizes.iter().map(log).collect::<String>())
    }

    /// The smallest card that is still sold, with a file system on it.
    #[test]
    fn default_configuration_fits_a_card_of_two_gigabytes() {
        let card = 2_000_000_000 / 100 * 95;
        let need = need(&Config::default());
        assert_eq!(judge(&Space::elsewhere(card), &need), Verdict::Fits);
        assert_eq!(judge(&Space::elsewhere(GIB), &need), Verdict::Never);
    }

    #[test]
    fn what_is_kept_for_root_and_what_others_have_do_not_count() {
        let need = need(&Config::default());
        let total = need.total_bytes();
        let space = |usable, free, used| Space {
            total_bytes: 8 * GIB,
            usable_bytes: usable,
            free_bytes: free,
            used_bytes: used,
            ..Space::default()
        };
        for (space, verdict) in [
            (space(total, total, Some(0)), Verdict::Fits),
            (space(total - 1, total, Some(0)), Verdict::Never),
            (space(total, total - 1, Some(0)), Verdict::NotNow),
            (space(total, total - GIB, Some(GIB)), Verdict::Fits),
            (space(total, total - GIB, None), Verdict::Hidden),
            (space(total, total, None), Verdict::Fits),
            (space(total - 1, total, None), Verdict::Never),
            (Space::default(), Verdict::NoSize),
        ] {
            assert_eq!(judge(&space, &need), verdict, "{space:?}");
        }
    }

    #[test]
    fn log_that_keeps_nothing_needs_nothing() {
        let stored = logs(&[("a", "2GiB")]);
        let text = "[[log]]\nname = \"b\"\nfilters = [\"b\"]\ndurability = \"memory\"\n\
                    [[log]]\nname = \"a\"\nfilters = [\"a/#\"]\n\
                    retention = { bytes = \"2GiB\" }\n";
        assert_eq!(need(&config(text)), need(&stored));
    }

    #[test]
    fn folder_that_is_not_there_is_judged_where_it_will_be() {
        let folder = tempfile::tempdir().unwrap();
        let here = Space::of(folder.path()).unwrap();
        let there = Space::of(&folder.path().join("a/b")).unwrap();
        assert_eq!(here.total_bytes, there.total_bytes);
        assert_eq!(there.used_bytes, Some(0));
        fs::write(folder.path().join("file"), [0; 9000]).unwrap();
        let with_file = Space::of(folder.path()).unwrap();
        assert!(with_file.used_bytes >= Some(8192), "{with_file:?}");
    }
}
