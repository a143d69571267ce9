//! SHA-256: of one content, and `SHA256SUMS` over a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The file with the sums.
pub(super) const NAME: &str = "SHA256SUMS";

/// Lower-case hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes)
        .into_iter()
        .map(|b| format!("{b:02x}"));
    digits.collect()
}

/// Writes `SHA256SUMS` over every other file below `folder`, as `sha256sum --check` reads it.
pub(super) fn write(folder: &Path) -> Result<()> {
    let mut lines = String::new();
    for path in files(folder)? {
        let name = path.strip_prefix(folder)?.display().to_string();
        if name != NAME {
            lines.push_str(&format!("{}  {name}\n", sha256(&super::read(&path)?)));
        }
    }
    super::write(&folder.join(NAME), &lines)
}

/// Every file below a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{NAME, write};

    #[test]
    fn sums_are_of_every_file_but_themselves_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/x"), "a").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        write(folder.path()).unwrap();
        let first = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(
            first,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
             ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  b/x\n"
        );
        // Once more, with the file there.
        write(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), first);
    }
}
