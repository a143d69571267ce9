//! Looking at a data folder without changing a byte of it.
//!
//! sled writes to every database that it opens, and recovery moves and removes what it must. So a
//! look is at a copy: a folder of its own, made elsewhere, with the metadata and the mark copied and
//! every segment a symbolic link. The first time that a segment is opened, its link is replaced by a
//! copy of what it points to ([`own`]); before that, copies that nobody has open become links again.
//! So the copy needs the room of a few segments, however long the log is, and the store that opens it
//! is the ordinary one, with the ordinary recovery: what it shows is what a start would find.
//!
//! Invariants: the original is only read; it is locked meanwhile, so that no gateway starts in it;
//! no link in any other folder is ever followed or replaced.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::folder::Folder;
use crate::recovery::RecoveryError;
use crate::store::{OpenError, Store, StoreOptions, StoreThreads};

/// Marks a folder as a copy to look at. No gateway makes it.
const VIEW_FILE: &str = "VIEW";
/// In a copied database: where it was copied from.
const ORIGIN_LINK: &str = "ORIGIN";
/// What a card that cannot be read well is read in, one by one.
const BLOCK_BYTES: usize = 4096;

/// A data folder that is looked at.
#[derive(Debug)]
pub struct View {
    store: Store,
    threads: StoreThreads,
    path: PathBuf,
    _lock: Option<File>,
}

impl View {
    /// Looks at the data folder `path` by means of a copy in `copy`, an empty folder that the caller
    /// removes afterwards.
    ///
    /// # Errors
    /// As [`Store::open_existing`]; also if there is no room for the copy.
    pub fn open(path: &Path, copy: &Path) -> Result<Self, OpenError> {
        let lock = Folder::lock_to_look(path)?;
        prepare(path, copy)?;
        let options = StoreOptions {
            // Nothing is appended, and a folder that was carried here is not to count as moved.
            free_space_reserve_bytes: 0,
            fingerprint: None,
            ..StoreOptions::default()
        };
        let (store, threads) = Store::open_existing(copy, options)?;
        Ok(Self {
            store,
            threads,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The store that shows what is in the folder.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The folder that is looked at.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the look; the copy can be removed.
    pub fn close(self) {
        drop(self.store);
        self.threads.close();
    }
}

/// Makes the folder that stands for `path`.
fn prepare(path: &Path, copy: &Path) -> Result<(), RecoveryError> {
    let failed = |action: &'static str, path: &Path, source| RecoveryError::Io {
        action,
        path: path.to_owned(),
        source,
    };
    let original = fs::canonicalize(path).map_err(|source| failed("find", path, source))?;
    for name in ["log", "quarantine"] {
        let below = copy.join(name);
        fs::create_dir(&below).map_err(|source| failed("create", &below, source))?;
    }
    let marker = copy.join(VIEW_FILE);
    fs::write(&marker, b"").map_err(|source| failed("create", &marker, source))?;
    for name in ["FORMAT", "MARK", "meta"] {
        let from = original.join(name);
        if from.exists() {
            copy_all(&from, &copy.join(name)).map_err(|source| failed("copy", &from, source))?;
        }
    }
    let log = original.join("log");
    let entries = match fs::read_dir(&log) {
        // A start would put a file aside that lies there, and make the folder.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        entries => entries.map_err(|source| failed("read", &log, source))?,
    };
    for entry in entries {
        let entry = entry.map_err(|source| failed("read", &log, source))?;
        let link = copy.join("log").join(entry.file_name());
        symlink(entry.path(), &link).map_err(|source| failed("create", &link, source))?;
    }
    Ok(())
}

/// Before a database is opened: if it is a link in a copy to look at, it becomes a copy itself.
pub(crate) fn own(path: &Path) -> io::Result<()> {
    if !path.is_symlink() || !is_in_view(path) {
        return Ok(());
    }
    let original = fs::read_link(path)?;
    if let Some(siblings) = path.parent() {
        give_back(siblings)?;
    }
    let failed = |source: io::Error| {
        let (from, to) = (original.display(), path.display());
        io::Error::new(source.kind(), format!("copy {from} to {to}: {source}"))
    };
    fs::remove_file(path)?;
    copy_all(&original, path).map_err(failed)?;
    symlink(&original, path.join(ORIGIN_LINK))
}

fn is_in_view(path: &Path) -> bool {
    let root = path.parent().and_then(Path::parent);
    root.is_some_and(is_view)
}

/// Whether a folder is a copy to look at.
pub(crate) fn is_view(root: &Path) -> bool {
    root.join(VIEW_FILE).exists()
}

/// Makes copies that nobody has open links again.
fn give_back(siblings: &Path) -> io::Result<()> {
    for entry in fs::read_dir(siblings)? {
        let path = entry?.path();
        let Ok(original) = fs::read_link(path.join(ORIGIN_LINK)) else {
            continue;
        };
        if path.is_symlink() || is_open(&path) {
            continue;
        }
        fs::remove_dir_all(&path)?;
        symlink(original, &path)?;
    }
    Ok(())
}

/// Whether sled has the database: it locks its file.
fn is_open(database: &Path) -> bool {
    let Ok(file) = File::open(database.join("db")) else {
        return false;
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Copies a file, or a directory with all that is in it.
pub(crate) fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return copy_file(from, to);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_file() {
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from, to) {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => {
            let file = File::open(from)?;
            let bytes = file.metadata()?.len();
            let lost = copy_blocks(bytes, &mut File::create(to)?, |block, at| {
                file.read_at(block, at)
            })?;
            tracing::error!(path = %from.display(), lost, "Blocks cannot be read; they are taken as zeros.");
            Ok(())
        }
        copied => copied.map(|_| ()),
    }
}

/// Copies block by block, with zeros for those that cannot be read; their number.
fn copy_blocks(
    bytes: u64,
    to: &mut impl io::Write,
    read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<u64> {
    let (mut at, mut lost) = (0, 0);
    while at < bytes {
        let mut block = [0; BLOCK_BYTES];
        let wanted = usize::try_from(bytes - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        let place = block.get_mut(..wanted).unwrap_or_default();
        let read = match read_at(place, at) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                lost += 1;
                place.fill(0);
                wanted
            }
            Err(error) => return Err(error),
        };
        to.write_all(place.get(..read).unwrap_or_default())?;
        at += read as u64;
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_cannot_be_read_are_zeros() {
        let content: Vec<u8> = (1..=250).cycle().take(10_000).collect();
        let mut out = Vec::new();
        let read_at = |place: &mut [u8], at: u64| {
            if at == 4096 {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let at = usize::try_from(at).unwrap();
            let count = place.len().min(content.len() - at);
            place[..count].copy_from_slice(&content[at..at + count]);
            Ok(count)
        };
        assert_eq!(copy_blocks(10_000, &mut out, read_at).unwrap(), 1);
        let mut expected = content.clone();
        expected[4096..8192].fill(0);
        assert!(out == expected);
    }

    #[test]
    fn link_outside_of_a_view_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::create_dir_all(folder.path().join("elsewhere")).unwrap();
        fs::create_dir(&log).unwrap();
        let link = log.join("0000000001");
        symlink(folder.path().join("elsewhere"), &link).unwrap();
        own(&link).unwrap();
        assert!(link.is_symlink());
    }
}
