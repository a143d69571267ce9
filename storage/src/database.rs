//! Opening and making sled databases: the only place that does it.
//!
//! sled 0.34 refuses or panics on some damage that is harmless or can be repaired; what is done about
//! which is in `docs/storage-format.md`. Every database is opened without sled's own flusher, since
//! the committer decides when to sync, and without blobs (values are kept small), since sled never
//! syncs those.

use std::any::Any;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::durable_file::{create_directory, sync_directory};
use crate::fence;
use crate::guard::{self, Extent, Keeping};
use crate::io_threads;
use crate::view;

/// How long a database that was just closed may take to let go of its file.
const CLOSING_MAX: Duration = Duration::from_secs(20);
/// What is read at once to see whether a file can be read, how often it is tried in all, and the pause.
const READ_BYTES: usize = 256 * 1024;
const READ_ATTEMPTS: u32 = 3;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// What sled keeps in its directory from the beginning.
const FILES: [&str; 2] = ["conf", "db"];

/// What a database is for; decides its page and cache sizes. Never changed for an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A segment of the log.
    Segment,
    /// The metadata.
    Metadata,
}

impl Purpose {
    /// Bytes of sled's own segments: a page may have a quarter before it would become a blob.
    pub(crate) fn segment_bytes(self) -> usize {
        match self {
            Self::Segment => 1024 * 1024,
            Self::Metadata => 512 * 1024,
        }
    }

    fn config(self, path: &Path) -> sled::Config {
        let cache_bytes = match self {
            Self::Segment => 8 * 1024 * 1024,
            Self::Metadata => 2 * 1024 * 1024,
        };
        sled::Config::new()
            .path(path)
            .segment_size(self.segment_bytes())
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
    }
}

/// A database that cannot be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A thread that sled needs for every database has panicked in this process.
    #[error(
        "an I/O thread of the databases has panicked; what it met has been put aside if it could \
         be: start this process again"
    )]
    Broken,
    /// Damage that could not be repaired.
    #[error("the database {path} is damaged: {what}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What sled said last.
        what: String,
    },
    /// The files cannot be read or written; that is not damage.
    #[error("open the database {path}")]
    Io {
        /// The database.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The durability fence is not in this binary.
    #[error(transparent)]
    Fence(#[from] fence::FenceError),
}

/// As [`open`], for a database whose content decides what is lost: its file is read through first. sled
/// passes over a page that it gets no answer for and goes on as if nothing had been there; a card that
/// cannot read a block must not be taken for one that holds none. What cannot be read is damaged: it is
/// put aside as it is, and may be readable elsewhere.
pub(crate) fn open_readable(
    path: &Path,
    purpose: Purpose,
    keeping: &mut Keeping,
) -> Result<sled::Db, DatabaseError> {
    match read_through(&path.join("db")) {
        Err(error) if is_unreadable(&error) => Err(DatabaseError::Damaged {
            path: path.to_owned(),
            what: format!("its file cannot be read: {error}"),
        }),
        // Whatever else is wrong with it, opening it says what.
        _ => open(path, purpose, keeping),
    }
}

/// Reads a file from its beginning to its end. A block that cannot be read gets a few chances.
fn read_through(path: &Path) -> io::Result<()> {
    let file = fs::File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let (mut at, mut failures) = (0, 0);
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(()),
            Ok(count) => at += count as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                failures += 1;
                if failures == READ_ATTEMPTS {
                    return Err(error);
                }
                thread::sleep(READ_AGAIN_AFTER);
            }
        }
    }
}

/// Whether this is what reading a block says that the card does not give back.
fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// How reading a database's files fails, if the card does not give one of them back.
fn find_unreadable(path: &Path) -> Option<Failure> {
    let what = |name: &str, error| format!("its files cannot be read: {name}: {error}");
    // The one that cannot be made again.
    if let Some(error) = read_through(&path.join("db")).err().filter(is_unreadable) {
        return Some(Failure::Unreadable(what("db", error)));
    }
    let mut entries = fs::read_dir(path).ok()?.filter_map(Result::ok);
    entries.find_map(|entry| {
        let error = fs::read(entry.path()).err().filter(is_unreadable)?;
        let name = entry.file_name();
        Some(Failure::Damage(what(&name.to_string_lossy(), error)))
    })
}

/// Opens the database at `path`, which must exist, and repairs what can be repaired. What sled would
/// destroy is copied first, and said in `keeping`, whether or not it can be opened.
pub(crate) fn open(
    path: &Path,
    purpose: Purpose,
    keeping: &mut Keeping,
) -> Result<sled::Db, DatabaseError> {
    let io_error = |source| DatabaseError::Io {
        path: path.to_owned(),
        source,
    };
    if !path.is_dir() {
        return Err(io_error(io::ErrorKind::NotFound.into()));
    }
    check_threads()?;
    view::own(path).map_err(io_error)?;
    // A snapshot that was being written is taken for THE snapshot by sled: it must go first.
    remove_files(path, |name| {
        name.starts_with("snap.") && name.ends_with(".generating")
    })
    .map_err(io_error)?;
    keep(path, purpose, Extent::Tail, keeping)?;
    // A power cut can leave the directory without them; sled makes them again. Those of the metadata may
    // be there and not on the flash, if the process was killed before it came to that.
    let is_complete =
        purpose == Purpose::Segment && FILES.iter().all(|name| path.join(name).exists());
    let mut last = match attempt(path, purpose) {
        Ok(database) => {
            if !is_complete {
                sync_files(path).map_err(io_error)?;
            }
            return Ok(database);
        }
        Err(failure) => failure,
    };
    // A snapshot only saves time, and the configuration is known: both can be made again.
    for (what, stale) in [
        (
            "snapshots",
            (|name: &str| name.starts_with("snap.")) as fn(&str) -> bool,
        ),
        ("configuration", |name: &str| name == "conf"),
    ] {
        match last {
            Failure::Io(source) => return Err(io_error(source)),
            Failure::Unreadable(_) => break,
            Failure::Damage(_) => {}
        }
        if io_threads::have_failed() {
            break; // By this database: there were none before, and there is no second attempt.
        }
        keep(path, purpose, Extent::Whole, keeping)?;
        tracing::warn!(path = %path.display(), problem = %last, "Opening without {what}.");
        remove_files(path, stale).map_err(io_error)?;
        last = match attempt(path, purpose) {
            Ok(database) => {
                sync_files(path).map_err(io_error)?;
                return Ok(database);
            }
            Err(failure) => failure,
        };
    }
    match attempt_before_damage(path, purpose, last).map_err(io_error)? {
        Ok(database) => Ok(database),
        Err(Failure::Io(source)) => Err(io_error(source)),
        Err(Failure::Damage(what) | Failure::Unreadable(what)) => Err(DatabaseError::Damaged {
            path: path.to_owned(),
            what,
        }),
    }
}

/// As [`attempt`], without what is behind the damage in a segment, which was kept, as far as there was
/// room; the last failure if that is no way.
fn attempt_before_damage(
    path: &Path,
    purpose: Purpose,
    last: Failure,
) -> io::Result<Result<sled::Db, Failure>> {
    let is_damage = matches!(last, Failure::Damage(_)) && !io_threads::have_failed();
    if !is_damage || purpose != Purpose::Segment || !guard::cut_behind(path)? {
        return Ok(Err(last));
    }
    let opened = attempt(path, purpose);
    if opened.is_ok() {
        sync_files(path)?;
    }
    Ok(opened)
}

/// Keeps what sled would destroy.
fn keep(
    path: &Path,
    purpose: Purpose,
    extent: Extent,
    keeping: &mut Keeping,
) -> Result<(), DatabaseError> {
    if purpose == Purpose::Metadata {
        // It is made again from the segments, and a crash may leave it as damage does.
        return Ok(());
    }
    keeping
        .keep(path, extent)
        .map_err(|source| DatabaseError::Io {
            path: path.to_owned(),
            source,
        })
}

/// Makes a database at `path`, where nothing may be, so that it is there after a power cut.
pub(crate) fn create(path: &Path, purpose: Purpose) -> Result<sled::Db, DatabaseError> {
    let io_error = |source| DatabaseError::Io {
        path: path.to_owned(),
        source,
    };
    check_threads()?;
    create_directory(path).map_err(io_error)?;
    let database = match attempt(path, purpose) {
        Ok(database) => database,
        Err(Failure::Io(source)) => return Err(io_error(source)),
        Err(Failure::Damage(what) | Failure::Unreadable(what)) => {
            return Err(DatabaseError::Damaged {
                path: path.to_owned(),
                what,
            });
        }
    };
    sync_files(path).map_err(io_error)?;
    Ok(database)
}

/// Makes certain that files which sled has made are there after a power cut: it syncs neither its
/// directory nor the file that it calls `conf`.
fn sync_files(path: &Path) -> io::Result<()> {
    for name in FILES {
        fs::File::open(path.join(name))?.sync_all()?;
    }
    sync_directory(path)
}

/// After a panic in one of sled's threads nothing that fails says anything of the database.
fn check_threads() -> Result<(), DatabaseError> {
    io_threads::watch();
    if io_threads::have_failed() {
        return Err(DatabaseError::Broken);
    }
    Ok(())
}

/// How an attempt failed.
#[derive(Debug)]
enum Failure {
    Damage(String),
    /// The database's file cannot be read. sled is not let at it in another way: it would overwrite what
    /// may be readable elsewhere.
    Unreadable(String),
    Io(io::Error),
}

impl Failure {
    /// Of an error that speaks of the machine. sled reads its snapshot and its configuration at once,
    /// and gives up at a block of them that the card does not give back: that does not pass. The same
    /// error of a write says nothing of what is there.
    fn of_machine(error: io::Error, path: &Path) -> Self {
        let unreadable = is_unreadable(&error).then(|| find_unreadable(path));
        unreadable.flatten().unwrap_or(Self::Io(error))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damage(what) | Self::Unreadable(what) => f.write_str(what),
            Self::Io(error) => error.fmt(f),
        }
    }
}

fn attempt(path: &Path, purpose: Purpose) -> Result<sled::Db, Failure> {
    let end = Instant::now() + CLOSING_MAX;
    loop {
        // sled panics on some damage while it rebuilds its pages.
        let opened = panic::catch_unwind(AssertUnwindSafe(|| purpose.config(path).open()));
        return match opened {
            Ok(Ok(database)) => Ok(database),
            Ok(Err(sled::Error::Io(error))) if is_lock_error(&error) => {
                if Instant::now() < end {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
                Err(Failure::Io(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    error.to_string(),
                )))
            }
            Ok(Err(sled::Error::Io(error))) if is_resource_error(&error) => {
                Err(Failure::of_machine(error, path))
            }
            Ok(Err(error)) => Err(Failure::Damage(error.to_string())),
            Err(payload) => Err(Failure::Damage(panic_text(payload.as_ref()))),
        };
    }
}

/// Whether the database is still open elsewhere. Nobody but this process has the folder, so that is
/// a handle of ours whose last reference sled's background threads are about to drop.
fn is_lock_error(error: &io::Error) -> bool {
    // sled makes its own error of it, of no telling kind.
    error.to_string().contains("could not acquire lock")
}

/// Whether an error of sled speaks of the machine and not of the content of its files.
pub(crate) fn is_of_the_machine(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if is_resource_error(error))
}

/// Whether an error speaks of the machine (space, permission, descriptors, the card) and not of the
/// content. What the system refuses is of the machine, but for calls that damage makes senseless:
/// places before the beginning of a file, directories where files should be.
fn is_resource_error(error: &io::Error) -> bool {
    let senseless = [libc::EINVAL, libc::EISDIR, libc::ENOTDIR];
    match error.raw_os_error() {
        Some(code) => !senseless.contains(&code),
        // sled makes errors of its own for what it finds in its files; of these kinds it makes none.
        None => matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::WouldBlock
        ),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!(
        "sled panicked: {}",
        text.as_deref().unwrap_or("(no message)")
    )
}

fn remove_files(path: &Path, stale: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !stale(&entry.file_name().to_string_lossy()) {
            continue;
        }
        // What the repair of a file system leaves need not be a file.
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_content() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("db");
        let database = create(&path, Purpose::Segment).unwrap();
        database.insert("key", "value").unwrap();
        database.flush().unwrap();
        drop(database);
        // A second opening writes a snapshot.
        drop(open(&path, Purpose::Segment, &mut Keeping::default()).unwrap());
        (parent, path)
    }

    fn reads_back(path: &Path) {
        let database = open(path, Purpose::Segment, &mut Keeping::default()).unwrap();
        assert_eq!(database.get("key").unwrap().unwrap(), "value");
    }

    fn snapshots(path: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .filter(|p| {
                p.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with("snap.")
            })
            .collect()
    }

    #[test]
    fn unfinished_snapshot_is_removed() {
        let (_parent, path) = with_content();
        fs::write(path.join("snap.0000000000000FFF.generating"), b"half").unwrap();
        reads_back(&path);
    }

    #[test]
    fn damaged_snapshot_is_rebuilt() {
        let (_parent, path) = with_content();
        assert_eq!(snapshots(&path).len(), 1);
        fs::write(&snapshots(&path)[0], vec![0; 100]).unwrap();
        reads_back(&path);
    }

    #[test]
    fn damaged_configuration_is_rebuilt() {
        let (_parent, path) = with_content();
        fs::write(path.join("conf"), b"\xff garbage \xff").unwrap();
        reads_back(&path);
    }

    /// A closing database must never be taken for a damaged one.
    #[test]
    fn database_opens_again_right_after_it_was_closed() {
        let (_parent, path) = with_content();
        for round in 0..50_u32 {
            let database = open(&path, Purpose::Segment, &mut Keeping::default()).unwrap();
            database
                .insert("round", round.to_be_bytes().as_slice())
                .unwrap();
            database.flush().unwrap();
        }
        reads_back(&path);
    }

    #[test]
    fn missing_database_is_not_made() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("none");
        assert!(matches!(
            open(&path, Purpose::Segment, &mut Keeping::default()),
            Err(DatabaseError::Io { .. })
        ));
        assert!(!path.exists());
    }
}
