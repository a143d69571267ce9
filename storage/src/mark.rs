//! A witness of how far the log was durable, apart from the log.
//!
//! sled takes damage in the middle of what was written last for the end of it, and so forgets what
//! follows without a word. This file says that there was more. It is written by the keeper, twice a second
//! while commits come and within two seconds after a rest, and left to the system to sync, so it may
//! lag behind, after a power cut by half a minute; it never runs ahead. A new one is synced before the
//! first commit, so one that is missing or says nothing was damaged: then nothing proves the end.
//!
//! ```text
//! commit number u64 | CRC-32C of it u32      (big endian)
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::durable_file::sync_directory;
use crate::ids::CommitNumber;

/// The open file.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    written: CommitNumber,
}

impl Mark {
    /// Opens or makes the file and reads it, and whether it was there and whole. One that was not tells
    /// nothing, and stays as it is until something is noted: only then is it written down that the end of
    /// the log is not proven.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, bool)> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let mut content = [0; 12];
        let read = match file.read_exact_at(&mut content, 0) {
            Ok(()) => decode(content),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            // It may say what nothing else does.
            Err(error) => return Err(error),
        };
        let written = read.unwrap_or_default();
        Ok((Self { file, written }, read.is_some()))
    }

    /// Notes that nothing was durable yet, and makes that durable; `path` is the file's.
    pub(crate) fn begin(&self, path: &Path) -> io::Result<()> {
        self.file.write_all_at(&encode(self.written), 0)?;
        self.file.sync_all()?;
        path.parent().map_or(Ok(()), sync_directory)
    }

    /// What the file says, without making one; `None` if it is missing or damaged.
    pub(crate) fn look(path: &Path) -> io::Result<Option<CommitNumber>> {
        match std::fs::read(path) {
            Ok(content) => Ok(content.try_into().ok().and_then(decode)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The newest commit that was durable for certain.
    pub(crate) fn commit(&self) -> CommitNumber {
        self.written
    }

    /// Notes that `durable` is.
    pub(crate) fn note(&mut self, durable: CommitNumber) -> io::Result<()> {
        if durable != self.written {
            self.file.write_all_at(&encode(durable), 0)?;
            self.written = durable;
        }
        Ok(())
    }

    /// Makes the last note durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(commit: CommitNumber) -> [u8; 12] {
    let number = commit.0.to_be_bytes();
    let mut content = [0; 12];
    let (place, checksum) = content.split_at_mut(number.len());
    place.copy_from_slice(&number);
    checksum.copy_from_slice(&crc32c::crc32c(&number).to_be_bytes());
    content
}

fn decode(content: [u8; 12]) -> Option<CommitNumber> {
    let (number, checksum) = content.split_first_chunk::<8>()?;
    let intact = checksum == crc32c::crc32c(number).to_be_bytes();
    intact.then(|| CommitNumber(u64::from_be_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_comes_back_unless_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("MARK");
        let open = || {
            let (mark, is_whole) = Mark::open(&path).unwrap();
            (mark.commit().0, is_whole)
        };
        let (mut mark, is_whole) = Mark::open(&path).unwrap();
        assert_eq!((mark.commit(), is_whole), (CommitNumber(0), false), "new");
        assert_eq!(open(), (0, false), "nothing is noted by opening it");
        mark.begin(&path).unwrap();
        assert_eq!(open(), (0, true));
        assert_eq!(Mark::look(&path).unwrap(), Some(CommitNumber(0)));
        mark.note(CommitNumber(77)).unwrap();
        assert_eq!(open(), (77, true));
        for content in [&[1; 12][..], &[1; 5], &[]] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(Mark::look(&path).unwrap(), None);
            assert_eq!(open(), (0, false), "{content:?}");
        }
    }
}
