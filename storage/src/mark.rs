//! A witness of how far the log was durable, apart from the log.
//!
//! sled takes damage in the middle of what was written last for the end of it, and so forgets what
//! follows without a word. This file says that there was more. It is written by the keeper, twice a second
//! while commits come and within two seconds after a rest, and left to the system to sync, so it may
//! lag behind, after a power cut by half a minute; it never runs ahead.
//!
//! ```text
//! commit number u64 | CRC-32C of it u32      (big endian)
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::ids::CommitNumber;

/// The open file.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    written: CommitNumber,
}

impl Mark {
    /// Opens or makes the file and reads it. One that is damaged or new tells nothing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let mut content = [0; 12];
        let written = match file.read_exact_at(&mut content, 0) {
            Ok(()) => decode(content).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let nothing = CommitNumber::default();
                // So that the file is not taken for damaged until there is something to note. If it
                // cannot be written, the next note will say so.
                let _ = file.write_all_at(&encode(nothing), 0);
                nothing
            }
            // It may say what nothing else does.
            Err(error) => return Err(error),
        };
        Ok(Self { file, written })
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
        let mut mark = Mark::open(&path).unwrap();
        assert_eq!(mark.commit(), CommitNumber(0));
        assert_eq!(Mark::look(&path).unwrap(), Some(CommitNumber(0)), "new");
        mark.note(CommitNumber(77)).unwrap();
        assert_eq!(Mark::open(&path).unwrap().commit(), CommitNumber(77));
        std::fs::write(&path, [1; 12]).unwrap();
        assert_eq!(Mark::open(&path).unwrap().commit(), CommitNumber(0));
        std::fs::write(&path, [1; 5]).unwrap();
        assert_eq!(Mark::look(&path).unwrap(), None);
        assert_eq!(Mark::open(&path).unwrap().commit(), CommitNumber(0));
        assert_eq!(Mark::look(&path).unwrap(), Some(CommitNumber(0)));
    }
}
