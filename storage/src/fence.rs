//! The durability fence proves that it is there.
//!
//! `crate::sys` defines the symbol `sync_file_range`, which sled calls after each write of its
//! log, as `fdatasync`, and `rename`, by which it names its snapshots, so that it syncs the directory.
//! Whether the linker took ours depends on how a binary was made, so every process looks before it
//! acknowledges anything. See docs/decisions/0002 and 0018.

use std::fs;

use crate::sys;

/// The binary was linked without the fence: nothing that it acknowledged would be durable.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// sled's flush did not come through our `sync_file_range`, or a rename through our `rename`.
    #[error(
        "this binary has no durability fence: a flush of the database (`sync_file_range`) or a `rename` \
         did not pass through it, so acknowledged data would not survive a power cut; use another build"
    )]
    NotCalled,
    /// Random numbers are not to be had.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The test itself failed.
    #[error("test the durability fence")]
    Database(#[from] sled::Error),
}

/// Writes and flushes a value and sees whether the fence was called.
pub(crate) fn verify(database: &sled::Db) -> Result<(), FenceError> {
    let before = calls();
    // A value that was not there before: sled writes nothing for one that is.
    let value = getrandom::u64().map_err(FenceError::Random)?;
    database.insert("fence", value.to_be_bytes().as_slice())?;
    database.flush()?;
    let renames = sys::renames();
    // There is nothing of that name; whether the call comes by is what is asked.
    let _ = fs::rename("", "");
    if calls() == before || sys::renames() == renames {
        Err(FenceError::NotCalled)
    } else {
        Ok(())
    }
}

/// How often this process synced a database since it started.
pub fn calls() -> u64 {
    sys::fence_calls()
}

/// Bytes that the databases of this process wrote and synced since it started: what sled passed to
/// write calls for its logs. Not in it: what it writes when it opens a database (free space filled
/// with zeros, snapshots).
pub fn written_bytes() -> u64 {
    sys::fence_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Purpose, create};

    #[test]
    fn flush_passes_through_the_fence() {
        let parent = tempfile::tempdir().unwrap();
        let database = create(&parent.path().join("db"), Purpose::Metadata).unwrap();
        for _ in 0..3 {
            verify(&database).unwrap();
        }
    }
}
