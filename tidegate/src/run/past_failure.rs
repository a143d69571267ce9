//! Whether the process before this one ended because its store failed.
//!
//! A store that fails ends the process once: the start after it recovers, and most often that is all
//! there was. If it fails again soon after, another start would not help, and devices would see a
//! broker that comes and goes. What was before is remembered in a file `store-failure`, in the first
//! of these places that can be written: `$RUNTIME_DIRECTORY`, which systemd keeps over a restart and
//! which does not lie on the card, or `run/` in the data folder.
//!
//! Invariant: a process ends by this only when the next one will know of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE: &str = "store-failure";

/// How long a store must have worked for its failure not to be the same one again.
pub(super) const PROBATION: Duration = Duration::from_secs(10 * 60);

/// See the module's documentation.
pub(super) struct PastFailure {
    /// Where the file may lie, the best place first.
    files: Vec<PathBuf>,
    is_noted: bool,
}

impl PastFailure {
    /// Looks for the file.
    pub(super) fn look(data_dir: &Path) -> Self {
        Self::look_in(std::env::var_os("RUNTIME_DIRECTORY"), data_dir)
    }

    fn look_in(runtime: Option<std::ffi::OsString>, data_dir: &Path) -> Self {
        // systemd gives a list; the first is the unit's own.
        let runtime = runtime.and_then(|list| std::env::split_paths(&list).next());
        let runtime = runtime.filter(|path| path.is_absolute());
        let folders = runtime.into_iter().chain([data_dir.join("run")]);
        let files: Vec<_> = folders.map(|folder| folder.join(FILE)).collect();
        let is_noted = files.iter().any(|file| file.exists());
        Self { files, is_noted }
    }

    /// Whether a store has failed before, and none has worked for long since.
    pub(super) fn is_noted(&self) -> bool {
        self.is_noted
    }

    /// Notes a failure for the next process.
    ///
    /// # Errors
    /// It cannot be written anywhere; that of the last place.
    pub(super) fn note(&mut self, problem: &str) -> io::Result<()> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for file in &self.files {
            result = write(file, problem);
            if result.is_ok() {
                self.is_noted = true;
                return result;
            }
        }
        result
    }

    /// A store has worked for long: what was before does not matter any more.
    pub(super) fn forget(&mut self) {
        for file in &self.files {
            // If it stays, the next failure leads to degraded mode one restart early.
            let _ = fs::remove_file(file);
        }
        self.is_noted = false;
    }
}

fn write(file: &Path, problem: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        match fs::create_dir(folder) {
            // Not its parents: a data folder that is gone must not be begun by this.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let temporary = file.with_extension("new");
    fs::write(&temporary, format!("{problem}\n"))?;
    fs::rename(&temporary, file)?;
    // What cannot be read back is not remembered.
    fs::metadata(file).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_noted_for_the_next_process_in_the_first_place_that_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let (data, runtime) = (folder.path().join("data"), folder.path().join("runtime"));
        let look = |runtime: Option<&Path>| {
            PastFailure::look_in(runtime.map(|path| path.as_os_str().to_owned()), &data)
        };
        // Nowhere.
        let mut past = look(Some(Path::new("/proc/none")));
        past.note("EIO").unwrap_err();
        assert!(!past.is_noted() && !data.exists());
        // In the data folder.
        fs::create_dir(&data).unwrap();
        let mut past = look(Some(Path::new("/proc/none")));
        past.note("EIO").unwrap();
        assert!(data.join("run/store-failure").exists());
        assert!(look(None).is_noted());
        let mut next = look(Some(&runtime));
        assert!(next.is_noted());
        next.forget();
        assert!(!look(None).is_noted());
        // In the runtime directory.
        fs::create_dir(&runtime).unwrap();
        look(Some(&runtime)).note("EIO").unwrap();
        assert!(runtime.join("store-failure").exists());
        assert!(look(Some(&runtime)).is_noted());
        assert!(!look(None).is_noted());
    }
}
