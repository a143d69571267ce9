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
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::durable_file::{create_directory, write_file};

/// Newest format of a data folder that this version reads, and the one it writes.
pub const FOLDER_FORMAT: u32 = 1;
/// The first version of Tidegate that reads [`FOLDER_FORMAT`].
const FORMAT_NEEDS: &str = "0.1.0";
const FORMAT_FIRST_LINE: &str = "tidegate data folder";
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const FORMAT_BYTES_MAX: u64 = 4096;

/// A data folder that this process alone has open.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Unlocked when the file is closed, also by the death of the process.
    _lock: File,
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
        "the data folder {path} has format {found}, this is tidegate {version}, which reads up to \
         format {FOLDER_FORMAT}: it needs tidegate {needs} or newer; nothing was changed",
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
        let new = !Self::is_ours(path)?;
        if new {
            fs::create_dir_all(path).map_err(io_error("create", path))?;
            create_directory(path).map_err(io_error("create", path))?;
        }
        let lock = lock(path)?;
        if new {
            // Last of all made and first of all read: a folder with FORMAT is a folder of ours.
            let format = path.join(FORMAT_FILE);
            let text = format!(
                "{FORMAT_FIRST_LINE}\nformat {FOLDER_FORMAT}\nneeds tidegate {FORMAT_NEEDS}\n"
            );
            write_file(&format, text.as_bytes()).map_err(io_error("write", &format))?;
        }
        for name in ["log", "quarantine"] {
            let below = path.join(name);
            create_directory(&below).map_err(io_error("create", &below))?;
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Takes a folder only if it exists.
    ///
    /// # Errors
    /// As [`Self::open`]; a missing or empty folder is [`FolderError::Foreign`].
    pub(crate) fn open_existing(path: &Path) -> Result<Self, FolderError> {
        if Self::is_ours(path)? {
            return Self::open(path);
        }
        Err(FolderError::Missing {
            path: path.to_owned(),
        })
    }

    /// Keeps everybody else out of a folder that is only read, and changes nothing in it. `None` if
    /// it has no LOCK: then no process can have it either.
    ///
    /// # Errors
    /// As [`Self::open_existing`].
    pub(crate) fn lock_to_look(path: &Path) -> Result<Option<File>, FolderError> {
        if !Self::is_ours(path)? {
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

    /// Whether `path` is a folder of ours in a format that we read; false if it is missing or empty.
    fn is_ours(path: &Path) -> Result<bool, FolderError> {
        let format = path.join(FORMAT_FILE);
        match File::open(&format) {
            Ok(file) => {
                let mut text = String::new();
                let read = file.take(FORMAT_BYTES_MAX).read_to_string(&mut text);
                read.map_err(io_error("read", &format))?;
                check_format(path, &text).map(|()| true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_foreign(path).map(|()| false)
            }
            Err(error) => Err(io_error("read", &format)(error)),
        }
    }
}

fn check_format(path: &Path, text: &str) -> Result<(), FolderError> {
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
    if found > FOLDER_FORMAT {
        let needs = lines
            .next()
            .and_then(|line| line.strip_prefix("needs tidegate "));
        let needs = needs.unwrap_or("(unknown)").to_owned();
        return Err(FolderError::Newer {
            path: path.to_owned(),
            found,
            needs,
        });
    }
    if found == 0 {
        return Err(wrong("there is no format 0".to_owned()));
    }
    Ok(())
}

/// A folder without FORMAT must be empty, but for what an interrupted start of ours leaves.
fn refuse_foreign(path: &Path) -> Result<(), FolderError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let harmless = [LOCK_FILE, "FORMAT.new", "lost+found"];
    let mut found: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| !harmless.contains(&name.as_str()))
        .collect();
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
            error.contains("needs tidegate 0.4.0 or newer; nothing was changed"),
            "{error}"
        );
        assert_eq!(names(path.path()), ["FORMAT"]);
        assert_eq!(
            fs::read_to_string(path.path().join("FORMAT")).unwrap(),
            text
        );
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
        ] {
            let path = tempfile::tempdir().unwrap();
            fs::write(path.path().join("FORMAT"), text).unwrap();
            let error = Folder::open(path.path()).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
