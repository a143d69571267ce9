//! The data folder: whose it is, which format it has, who has it open.
//!
//! ```text
//! FORMAT        what made the folder, in plain text; written once, before anything else
//! MARK          how far the log was durable, see `crate::mark`
//! LOCK          locked (flock) while a process has the folder; holds who that is
//! meta/         metadata database
//! log/<id>/     segments
//! quarantine/   what could not be opened, kept for a look
//! run/          what the running process says of itself; not data
//! ```
//!
//! Invariant: a folder of a later format, or one that is not ours, is refused before a single byte
//! in it is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::durable_file::{create_directory, sync_directory, write_file};
use crate::version::Version;

/// Newest format of a data folder that this version reads, and the one it writes.
pub const FOLDER_FORMAT: u32 = 1;
/// The first version of Tidegate that reads everything which this one writes. It is raised, durably,
/// before anything is written that earlier ones cannot read: docs/decisions/0013.
const NEEDS: Version = Version::new(0, 1, 0);
const FORMAT_FIRST_LINE: &str = "tidegate data folder";
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const RUN_FOLDER: &str = "run";
/// What the product writes there; see `tidegate/src/addresses.rs` and `tidegate/src/run/`.
const RUN_FILES: [&str; 4] = [
    "addresses.json",
    "addresses.json.new",
    "store-failure",
    "store-failure.new",
];
const FORMAT_BYTES_MAX: u64 = 4096;

/// A data folder that this process alone has open.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Unlocked when the file is closed, also by the death of the process.
    lock: File,
}

/// The data folder was removed, unmounted or covered while it was in use.
#[derive(Debug, thiserror::Error)]
#[error(
    "the data folder {path} was taken away while it was in use ({how}): removed, unmounted, or \
     something is mounted over it"
)]
pub(crate) struct DisplacedError {
    path: PathBuf,
    how: &'static str,
}

/// A data folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Not ours.
    #[error(
        "{path} is not a data folder of tidegate: it has no FORMAT file, but holds {found}; \
         name an empty or a new folder"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// A few of the names in it.
        found: String,
    },
    /// Its FORMAT file is not one of ours.
    #[error("{path}/FORMAT is not a tidegate format file ({what}); nothing was changed")]
    FormatFile {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// I/O.
    #[error("{action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// In use.
    #[error(
        "the data folder {path} is in use by {holder}; stop that process or name another folder"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// What the process that has it wrote into LOCK.
        holder: String,
    },
    /// A folder that has to be there is missing or empty.
    #[error("{path} is no data folder: there is nothing in it; name the data_dir of a gateway")]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// Made by a later version.
    #[error(
        "the data folder {path} has format {found}: it needs tidegate {needs} or newer, and this is \
         tidegate {version}, which reads up to format {FOLDER_FORMAT}; nothing was changed",
        version = env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The version that its FORMAT file asks for.
        needs: String,
    },
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> FolderError + 'a {
    move |source| FolderError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

impl Folder {
    /// Takes the folder at `path`, which is made if it is not there or empty.
    ///
    /// # Errors
    /// See [`FolderError`]; in each case nothing in the folder was changed.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let needs = Self::needs(path)?;
        if needs.is_none() {
            fs::create_dir_all(path).map_err(io_error("create", path))?;
            create_directory(path).map_err(io_error("create", path))?;
        }
        let lock = lock(path)?;
        if needs.is_none_or(|needs| needs < NEEDS) {
            // Last of all made and first of all read: a folder with FORMAT is a folder of ours.
            let format = path.join(FORMAT_FILE);
            let text =
                format!("{FORMAT_FIRST_LINE}\nformat {FOLDER_FORMAT}\nneeds tidegate {NEEDS}\n");
            write_file(&format, text.as_bytes()).map_err(io_error("write", &format))?;
        }
        for name in ["quarantine", "log"] {
            let below = path.join(name);
            clear_place(path, name).map_err(io_error("put aside", &below))?;
            create_directory(&below).map_err(io_error("create", &below))?;
        }
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// Takes a folder only if it exists.
    ///
    /// # Errors
    /// As [`Self::open`]; a missing or empty folder is [`FolderError::Foreign`].
    pub(crate) fn open_existing(path: &Path) -> Result<Self, FolderError> {
        if Self::needs(path)?.is_some() {
            return Self::open(path);
        }
        Err(FolderError::Missing {
            path: path.to_owned(),
        })
    }

    /// Whether the folder is still where it was taken: the LOCK file there is the one that is held.
    ///
    /// # Errors
    /// See [`DisplacedError`]. That it could not be looked at for want of memory or files is none.
    pub(crate) fn check_place(&self) -> Result<(), DisplacedError> {
        let displaced = |how: &'static str| DisplacedError {
            path: self.path.clone(),
            how,
        };
        let there = match fs::metadata(self.path.join(LOCK_FILE)) {
            Ok(there) => there,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                        Err(displaced("its LOCK file is gone from there"))
                    }
                    _ => Ok(()),
                };
            }
        };
        let Ok(held) = self.lock.metadata() else {
            return Ok(());
        };
        match (there.dev(), there.ino()) == (held.dev(), held.ino()) {
            true => Ok(()),
            false => Err(displaced("another LOCK file lies there")),
        }
    }

    /// Keeps everybody else out of a folder that is only read, and changes nothing in it. `None` if
    /// it has no LOCK: then no process can have it either.
    ///
    /// # Errors
    /// As [`Self::open_existing`].
    pub(crate) fn lock_to_look(path: &Path) -> Result<Option<File>, FolderError> {
        if Self::needs(path)?.is_none() {
            return Err(FolderError::Missing {
                path: path.to_owned(),
            });
        }
        let lock = path.join(LOCK_FILE);
        match File::open(&lock) {
            Ok(file) => hold(path, &lock, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("open", &lock)(error)),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn metadata(&self) -> PathBuf {
        self.path.join("meta")
    }

    pub(crate) fn mark(&self) -> PathBuf {
        self.path.join("MARK")
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.path.join("quarantine")
    }

    /// The version that a folder of ours asks for, which is none later than this one; `None` if the
    /// folder is missing or empty.
    fn needs(path: &Path) -> Result<Option<Version>, FolderError> {
        let format = path.join(FORMAT_FILE);
        match File::open(&format) {
            Ok(file) => {
                let mut text = String::new();
                let read = file.take(FORMAT_BYTES_MAX).read_to_string(&mut text);
                read.map_err(io_error("read", &format))?;
                check_format(path, &text).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_foreign(path).map(|()| None)
            }
            Err(error) => Err(io_error("read", &format)(error)),
        }
    }
}

fn check_format(path: &Path, text: &str) -> Result<Version, FolderError> {
    let wrong = |what: String| FolderError::FormatFile {
        path: path.to_owned(),
        what,
    };
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT_FIRST_LINE) {
        return Err(wrong(format!(
            "its first line is not `{FORMAT_FIRST_LINE}`"
        )));
    }
    let format = lines.next().and_then(|line| line.strip_prefix("format "));
    let format = format.and_then(|number| number.parse::<u32>().ok());
    let found = format.ok_or_else(|| wrong("its second line is not `format NUMBER`".to_owned()))?;
    if found == 0 {
        return Err(wrong("there is no format 0".to_owned()));
    }
    let line = lines.next().unwrap_or_default();
    let needs = line.strip_prefix("needs tidegate ");
    match needs.and_then(Version::parse) {
        Some(needs) if found <= FOLDER_FORMAT && needs <= Version::own() => Ok(needs),
        None if found <= FOLDER_FORMAT => Err(wrong(
            "its third line is not `needs tidegate VERSION`".to_owned(),
        )),
        _ => Err(FolderError::Newer {
            path: path.to_owned(),
            found,
            needs: needs.unwrap_or("(unknown)").to_owned(),
        }),
    }
}

/// A folder without FORMAT must be empty, but for what an interrupted start of ours leaves, or one
/// that found no space: see [`is_of_a_start`].
fn refuse_foreign(path: &Path) -> Result<(), FolderError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("read", path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_of_a_start(&name, &entry.path()) {
            found.push(name);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    found.sort();
    let more = found.len().saturating_sub(3);
    found.truncate(3);
    let mut names = found
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        names = format!("{names} and {more} more");
    }
    Err(FolderError::Foreign {
        path: path.to_owned(),
        found: names,
    })
}

/// Whether an entry of a folder without FORMAT may come from a start of ours that did not get far:
/// nothing that holds data, and directories only as we make them.
fn is_of_a_start(name: &str, path: &Path) -> bool {
    let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    match name {
        LOCK_FILE | "FORMAT.new" | "lost+found" => true,
        "log" | "quarantine" => is_empty(),
        RUN_FOLDER => fs::read_dir(path).is_ok_and(|mut entries| {
            entries.all(|entry| {
                entry.is_ok_and(|entry| {
                    let name = entry.file_name();
                    RUN_FILES.iter().any(|known| name == *known)
                })
            })
        }),
        _ => false,
    }
}

/// Puts aside what lies in the place of the folder `name` and is none: a file system that was
/// repaired after a power cut may leave that.
fn clear_place(path: &Path, name: &str) -> io::Result<()> {
    let below = path.join(name);
    if !fs::metadata(&below).is_ok_and(|there| !there.is_dir()) {
        return Ok(());
    }
    let folder = match name {
        "quarantine" => path.to_owned(),
        _ => path.join("quarantine"),
    };
    let names = std::iter::once(name.to_owned()).chain((1_u32..).map(|n| format!("{name}.{n}")));
    let mut places = names.map(|name| folder.join(name));
    let Some(aside) = places.find(|place| !place.exists()) else {
        return Ok(());
    };
    tracing::warn!(
        path = %below.display(), aside = %aside.display(),
        "There is no folder, but something else in its place, which is put aside."
    );
    fs::rename(&below, &aside)?;
    sync_directory(&folder)
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let lock = path.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&lock);
    let mut file = hold(path, &lock, file.map_err(io_error("open", &lock))?)?;
    let command = std::env::args().next().unwrap_or_default();
    let text = format!("process {} ({command})\n", std::process::id());
    let write = file
        .set_len(0)
        .and_then(|()| file.write_all(text.as_bytes()));
    write.map_err(io_error("write", &lock))?;
    Ok(file)
}

/// Locks the open file LOCK, or says who has it.
fn hold(path: &Path, lock: &Path, file: File) -> Result<File, FolderError> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // Whoever has the lock may be writing this very line: then it is shorter, no more.
            let _ = file.take(FORMAT_BYTES_MAX).read_to_string(&mut holder);
            let holder = if holder.is_empty() {
                "another process"
            } else {
                holder.trim()
            };
            Err(FolderError::Locked {
                path: path.to_owned(),
                holder: holder.to_owned(),
            })
        }
        Err(errno) => Err(io_error("lock", lock)(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_that_was_begun_without_space_is_taken_up_again() {
        let path = tempfile::tempdir().unwrap();
        let path = path.path();
        for name in ["log", "quarantine", "run", "lost+found"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        for name in ["LOCK", "FORMAT.new", "run/addresses.json"] {
            fs::write(path.join(name), "").unwrap();
        }
        Folder::open(path).unwrap();
        assert!(path.join("FORMAT").exists());
    }

    #[test]
    fn folder_with_data_and_without_format_is_not_taken_for_one_that_was_begun() {
        for (folder, file) in [("log", "log/1"), ("run", "run/1"), ("data", "data/1")] {
            let path = tempfile::tempdir().unwrap();
            fs::create_dir(path.path().join(folder)).unwrap();
            fs::write(path.path().join(file), "").unwrap();
            let error = Folder::open(path.path()).unwrap_err();
            assert!(matches!(error, FolderError::Foreign { .. }), "{error}");
        }
    }

    #[test]
    fn folder_that_was_moved_or_covered_is_noticed() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let folder = Folder::open(&path).unwrap();
        folder.check_place().unwrap();
        fs::rename(&path, parent.path().join("elsewhere")).unwrap();
        let error = folder.check_place().unwrap_err().to_string();
        assert!(error.contains("its LOCK file is gone"), "{error}");
        let _other = Folder::open(&path).unwrap();
        let error = folder.check_place().unwrap_err().to_string();
        assert!(error.contains("another LOCK file lies there"), "{error}");
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn new_folder_is_made_and_opens_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let folder = Folder::open(&path).unwrap();
        drop(folder);
        assert_eq!(names(&path), ["FORMAT", "LOCK", "log", "quarantine"]);
        Folder::open_existing(&path).unwrap();
    }

    #[test]
    fn missing_folder_is_not_made_when_it_must_exist() {
        let parent = tempfile::tempdir().unwrap();
        let error = Folder::open_existing(&parent.path().join("x"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("x is no data folder: there is nothing in it"),
            "{error}"
        );
        assert_eq!(names(parent.path()), [] as [&str; 0]);
    }

    #[test]
    fn second_process_is_told_who_has_the_folder() {
        let path = tempfile::tempdir().unwrap();
        let _held = Folder::open(path.path()).unwrap();
        let error = Folder::open(path.path()).unwrap_err().to_string();
        let holder = format!("is in use by process {} (", std::process::id());
        assert!(error.contains(&holder), "{error}");
        assert!(
            error.contains("stop that process or name another folder"),
            "{error}"
        );
    }

    #[test]
    fn foreign_folder_is_left_alone() {
        let path = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "c", "d", "e"] {
            fs::write(path.path().join(name), "x").unwrap();
        }
        let error = Folder::open(path.path()).unwrap_err().to_string();
        assert!(
            error
                .ends_with("holds `a.txt`, `b.txt`, `c` and 2 more; name an empty or a new folder"),
            "{error}"
        );
        assert_eq!(names(path.path()), ["a.txt", "b.txt", "c", "d", "e"]);
    }

    #[test]
    fn newer_format_is_refused_untouched() {
        let path = tempfile::tempdir().unwrap();
        let text = "tidegate data folder\nformat 2\nneeds tidegate 0.4.0\n";
        fs::write(path.path().join("FORMAT"), text).unwrap();
        let error = Folder::open(path.path()).unwrap_err().to_string();
        assert!(error.contains("has format 2"), "{error}");
        assert!(
            error.contains("needs tidegate 0.4.0 or newer")
                && error.contains("nothing was changed"),
            "{error}"
        );
        assert_eq!(names(path.path()), ["FORMAT"]);
        assert_eq!(
            fs::read_to_string(path.path().join("FORMAT")).unwrap(),
            text
        );
    }

    /// A later version may have written into format 1 what this one cannot read.
    #[test]
    fn folder_that_needs_a_later_version_is_refused_untouched() {
        let path = tempfile::tempdir().unwrap();
        let text = "tidegate data folder\nformat 1\nneeds tidegate 99.0.0\n";
        fs::write(path.path().join("FORMAT"), text).unwrap();
        let error = Folder::open(path.path()).unwrap_err().to_string();
        assert!(error.contains("needs tidegate 99.0.0 or newer"), "{error}");
        assert_eq!(names(path.path()), ["FORMAT"]);
        let unchanged = fs::read_to_string(path.path().join("FORMAT")).unwrap();
        assert_eq!(unchanged, text);
    }

    #[test]
    fn needed_version_is_raised_before_anything_is_written_and_never_lowered() {
        for (before, after) in [
            ("0.0.9", NEEDS),
            (env!("CARGO_PKG_VERSION"), Version::own()),
        ] {
            let path = tempfile::tempdir().unwrap();
            let format = path.path().join("FORMAT");
            let text = format!("tidegate data folder\nformat 1\nneeds tidegate {before}\n");
            fs::write(&format, text).unwrap();
            drop(Folder::open(path.path()).unwrap());
            let expected = format!("tidegate data folder\nformat 1\nneeds tidegate {after}\n");
            assert_eq!(fs::read_to_string(&format).unwrap(), expected);
        }
    }

    #[test]
    fn damaged_format_file_is_named() {
        for (text, what) in [
            ("hello", "its first line is not `tidegate data folder`"),
            (
                "tidegate data folder\nformat x\n",
                "its second line is not `format NUMBER`",
            ),
            ("tidegate data folder\nformat 0\n", "there is no format 0"),
            (
                "tidegate data folder\nformat 1\nneeds tidegate 0.x\n",
                "its third line is not `needs tidegate VERSION`",
            ),
        ] {
            let path = tempfile::tempdir().unwrap();
            fs::write(path.path().join("FORMAT"), text).unwrap();
            let error = Folder::open(path.path()).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
