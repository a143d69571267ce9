//! Entries of the cache folder: complete or absent, whoever else fills it at the same time.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ::tests::cache::Cache;
use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use super::Readiness;

/// Touched whenever an entry is used.
const USED: &str = ".used";

/// An entry that no checkout has used for so long belongs to pins of the past.
const UNUSED_MAX: Duration = Duration::from_secs(60 * 24 * 3600);

/// Beginnings of the names of entries that [`remove_unused`] may remove.
const REMOVABLE: &[&str] = &["kafka-", "python-", "node-", "cargo-deny-"];

/// Held while the cache folder is looked at and filled.
pub(crate) fn lock(cache: &Cache) -> Result<File> {
    fs::create_dir_all(cache.root())
        .with_context(|| format!("create the cache folder {}", cache.root().display()))?;
    let path = cache.root().join(".lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        println!(
            "Another run fills {}: waiting for it.",
            cache.root().display()
        );
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}

/// Makes sure that the entry is there and passes `check`. `build` fills a folder under another
/// name, which then gets the entry's.
pub(crate) fn ensure(
    entry: &Path,
    check: impl Fn(&Path) -> Result<()>,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<Readiness> {
    let touch = || File::create(entry.join(USED)).context("touch the cache entry");
    if entry.is_dir() {
        match check(entry) {
            Ok(()) => return touch().map(|_| Readiness::Present),
            Err(error) => {
                println!("{} is damaged ({error:#}): made again.", entry.display());
                fs::remove_dir_all(entry).context("remove the damaged entry")?;
            }
        }
    }
    let parent = entry.parent().context("a cache entry has a parent")?;
    // Removed when anything below fails.
    let unfinished = tempfile::Builder::new()
        .prefix(".unfinished-")
        .tempdir_in(parent);
    let unfinished = unfinished.context("create a folder in the cache")?;
    let contents = unfinished.path().join("contents");
    fs::create_dir(&contents).context("create a folder in the cache")?;
    build(&contents)?;
    check(&contents)?;
    fs::rename(&contents, entry).with_context(|| format!("name {}", entry.display()))?;
    touch().map(|_| Readiness::Installed)
}

/// Removes entries that have not been used for two months, and what was left unfinished.
pub(crate) fn remove_unused(cache: &Cache) -> Result<()> {
    for entry in fs::read_dir(cache.root())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_unused = REMOVABLE.iter().any(|start| name.starts_with(start))
            && fs::metadata(entry.path().join(USED))
                .and_then(|used| used.modified())
                .is_ok_and(|used| age(used) > UNUSED_MAX);
        // Nobody else builds: we hold the lock.
        if is_unused || name.starts_with(".unfinished-") {
            println!("Removing {}: no longer used.", entry.path().display());
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn age(time: SystemTime) -> Duration {
    SystemTime::now().duration_since(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use anyhow::{Context, Result, bail};

    use super::{Readiness, ensure};

    fn check(entry: &Path) -> Result<()> {
        let text = fs::read_to_string(entry.join("file")).context("no file")?;
        if text == "good" {
            Ok(())
        } else {
            bail!("the file is {text}")
        }
    }

    fn write(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| fs::write(folder.join("file"), text).context("write")
    }

    #[test]
    fn entry_is_built_once_and_again_when_it_is_damaged() {
        let cache = tempfile::tempdir().unwrap();
        let entry = cache.path().join("entry");
        let first = ensure(&entry, check, write("good")).unwrap();
        assert!(matches!(first, Readiness::Installed));
        let second = ensure(&entry, check, |_| bail!("built twice")).unwrap();
        assert!(matches!(second, Readiness::Present));
        fs::write(entry.join("file"), "bad").unwrap();
        let third = ensure(&entry, check, write("good")).unwrap();
        assert!(matches!(third, Readiness::Installed));
    }

    #[test]
    fn nothing_is_left_when_building_fails_or_gives_the_wrong_thing() {
        let cache = tempfile::tempdir().unwrap();
        let entry = cache.path().join("entry");
        assert!(ensure(&entry, check, |_| bail!("no network")).is_err());
        assert!(ensure(&entry, check, write("bad")).is_err());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}
