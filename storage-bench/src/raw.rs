//! Bare files: the least that the same records and commits can cost. A commit is one `write` of its
//! records with a checksum in front, and one `fdatasync`; a file is as large as a segment.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct RawLog {
    folder: PathBuf,
    file: File,
    number: u32,
    bytes: u64,
    file_bytes: u64,
    /// Older files than so many are removed.
    keep: Option<u32>,
    buffer: Vec<u8>,
}

impl RawLog {
    /// A new log in an existing folder.
    pub(crate) fn create(
        folder: &Path,
        file_bytes: u64,
        keep: Option<u32>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            file: Self::file(folder, 0)?,
            number: 0,
            bytes: 0,
            file_bytes,
            keep,
            buffer: Vec::new(),
        })
    }

    fn path(folder: &Path, number: u32) -> PathBuf {
        folder.join(format!("{number:010}"))
    }

    fn file(folder: &Path, number: u32) -> anyhow::Result<File> {
        let path = Self::path(folder, number);
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        // The entry of the file has to survive as well.
        File::open(folder)?.sync_all()?;
        Ok(file)
    }

    /// Writes what `fill` puts into the buffer, and syncs.
    pub(crate) fn commit(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 8]);
        fill(&mut self.buffer);
        if let Some((header, body)) = self.buffer.split_at_mut_checked(8) {
            let length = u32::try_from(body.len()).context("a commit of more than 4 GiB")?;
            let (of_length, of_checksum) = header.split_at_mut(4);
            of_length.copy_from_slice(&length.to_be_bytes());
            of_checksum.copy_from_slice(&crc32c::crc32c(body).to_be_bytes());
        }
        let length = self.buffer.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.file_bytes {
            self.number += 1;
            self.file = Self::file(&self.folder, self.number)?;
            self.bytes = 0;
            if let Some(old) = self.keep.and_then(|keep| self.number.checked_sub(keep)) {
                fs::remove_file(Self::path(&self.folder, old))?;
            }
        }
        self.file.write_all(&self.buffer).context("write")?;
        self.file.sync_data().context("sync")?;
        self.bytes += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_begun_when_full_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RawLog::create(folder.path(), 1000, Some(2)).unwrap();
        for _ in 0..9 {
            log.commit(|buffer| buffer.extend_from_slice(&[7; 392]))
                .unwrap();
        }
        let mut sizes: Vec<u64> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [400, 800]);
    }
}
