//! The folder of the demonstration's gateway: configuration, log, data.
//!
//! Invariant: a folder that nobody asked to keep is gone when this is dropped, unless something went
//! wrong that only its files can explain.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    /// A temporary folder, or the one that is to be kept.
    ///
    /// # Errors
    /// It cannot be made, or the one to be kept has something in it.
    pub(super) fn create(keep: Option<&Path>) -> anyhow::Result<Self> {
        let Some(keep) = keep else {
            let temporary = tempfile::Builder::new().prefix("tidegate-demo-").tempdir();
            let temporary = temporary.context("create a temporary folder")?;
            return Ok(Self {
                path: temporary.path().to_owned(),
                temporary: Some(temporary),
            });
        };
        let create = || format!("create folder {}", keep.display());
        fs::create_dir_all(keep).with_context(create)?;
        let path = fs::canonicalize(keep).with_context(create)?;
        if fs::read_dir(&path).with_context(create)?.next().is_some() {
            bail!(
                "folder {} is not empty; --keep wants a new one",
                keep.display()
            );
        }
        Ok(Self {
            path,
            temporary: None,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn config(&self) -> PathBuf {
        self.path.join("tidegate.toml")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("gateway.log")
    }

    /// Whether it will be there after the end.
    pub(super) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// Keeps it after all.
    pub(super) fn keep(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Folder;

    #[test]
    fn temporary_folder_goes_unless_it_is_kept_after_all() {
        let folder = Folder::create(None).unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir() && !folder.is_kept());
        drop(folder);
        assert!(!path.exists());

        let mut folder = Folder::create(None).unwrap();
        let path = folder.path().to_owned();
        folder.keep();
        drop(folder);
        assert!(path.is_dir());
        fs::remove_dir(path).unwrap();
    }

    #[test]
    fn folder_to_keep_is_refused_when_something_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let keep = parent.path().join("kept");
        assert!(Folder::create(Some(&keep)).unwrap().is_kept());
        fs::write(keep.join("file"), "").unwrap();
        let error = Folder::create(Some(&keep)).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
    }
}
