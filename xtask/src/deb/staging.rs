//! A folder that becomes a package: files with their modes, whatever the umask is.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

/// See the module's documentation.
pub(super) struct Staging {
    root: PathBuf,
}

impl Staging {
    /// In an empty folder.
    pub(super) fn new(root: &Path) -> Result<Self> {
        let staging = Self {
            root: root.to_owned(),
        };
        mode(root, 0o755)?;
        Ok(staging)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file, and makes the folders above it.
    pub(super) fn file(&self, path: &str, content: impl AsRef<[u8]>, bits: u32) -> Result<()> {
        self.folders_above(path)?;
        let path = self.root.join(path);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        mode(&path, bits)
    }

    /// The same, compressed as Debian wants documentation: as small as it gets, and without a time.
    pub(super) fn compressed(&self, path: &str, content: &[u8]) -> Result<()> {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        gzip.write_all(content)?;
        self.file(path, gzip.finish()?, 0o644)
    }

    pub(super) fn folder_mode(&self, path: &str, bits: u32) -> Result<()> {
        mode(&self.root.join(path), bits)
    }

    fn folders_above(&self, path: &str) -> Result<()> {
        let mut folder = self.root.clone();
        let above = Path::new(path).parent().into_iter();
        for part in above.flat_map(Path::components) {
            folder.push(part);
            if !folder.is_dir() {
                fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
                mode(&folder, 0o755)?;
            }
        }
        Ok(())
    }

    /// Paths of all files below the root, sorted.
    pub(super) fn files(&self) -> Result<Vec<String>> {
        let (mut found, mut folders) = (Vec::new(), vec![self.root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&self.root)?.display().to_string());
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn mode(path: &Path, bits: u32) -> Result<()> {
    let permissions = fs::Permissions::from_mode(bits);
    fs::set_permissions(path, permissions).with_context(|| format!("chmod {}", path.display()))
}
