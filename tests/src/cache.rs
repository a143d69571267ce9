//! Where what the tests need lies: one folder outside every checkout, filled by `cargo xtask setup`.
//!
//! Each entry is named by a key of the file that pins its contents, so that two checkouts with
//! different pins never disturb each other, and an entry that exists is complete: it is built
//! under another name and renamed.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// `sha256sum` lines of every jar of the tests' Kafka.
pub const KAFKA_CHECKSUMS: &str = include_str!("../kafka/jars.sha256");

/// Pinned Python packages with their hashes.
pub const PYTHON_REQUIREMENTS: &str = include_str!("../python/requirements.txt");

/// npm's lock file: exact versions of Node packages with their hashes.
pub const NODE_LOCK: &str = include_str!("../node/package-lock.json");

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The folder named by `TIDEGATE_CACHE`, else `tidegate` in the user's cache folder.
    ///
    /// # Errors
    /// When neither `TIDEGATE_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set, or the path is relative.
    pub fn locate() -> Result<Self> {
        let folder = |name: &str| {
            env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let root = folder("TIDEGATE_CACHE")
            .or_else(|| folder("XDG_CACHE_HOME").map(|f| f.join("tidegate")))
            .or_else(|| folder("HOME").map(|f| f.join(".cache").join("tidegate")))
            .context("no cache folder: set TIDEGATE_CACHE to an absolute path")?;
        if root.is_relative() {
            bail!(
                "the cache folder {} is not an absolute path",
                root.display()
            );
        }
        Ok(Self { root })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The jars of the tests' Kafka.
    #[must_use]
    pub fn kafka_jars(&self) -> PathBuf {
        self.root.join(format!("kafka-{}", key(KAFKA_CHECKSUMS)))
    }

    /// The Python virtual environment.
    #[must_use]
    pub fn python_venv(&self) -> PathBuf {
        self.root
            .join(format!("python-{}", key(PYTHON_REQUIREMENTS)))
    }

    /// The folder with `package.json` and `node_modules`.
    #[must_use]
    pub fn node_packages(&self) -> PathBuf {
        self.root.join(format!("node-{}", key(NODE_LOCK)))
    }

    /// A command line tool that cargo builds, by name and exact version.
    #[must_use]
    pub fn tool(&self, name: &str, version: &str) -> PathBuf {
        self.root.join(format!("{name}-{version}"))
    }
}

/// A short name for a file's contents: FNV-1a, 64 bits. It tells pins apart; that the contents are
/// the right ones is the business of the checksums inside them.
#[must_use]
pub fn key(contents: &str) -> String {
    let hash = contents
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn key_matches_the_published_fnv_1a_vectors() {
        assert_eq!(key(""), "cbf29ce484222325");
        assert_eq!(key("foobar"), "85944171f73967e8");
    }
}
