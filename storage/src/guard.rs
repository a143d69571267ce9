//! Keeping what a damaged segment of the log still holds before sled opens it.
//!
//! sled takes damage for the end of its log and overwrites with zeros what follows. So what it is
//! about to read is looked at first, and if something is damaged that was durable, and something can
//! be read behind it, the segment is copied into quarantine as it is
//! (`docs/decisions/0017-reading-before-sled.md`).
//!
//! Invariants: what a crash leaves of the commit that was being written is no damage; a segment is
//! not copied when quarantine has all of it that sled would destroy; what is not copied is told.

mod copy;
mod evidence;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::database::Purpose;
use crate::ids::CommitNumber;
use crate::raw::{RawLog, RawPieces};
use crate::view;

use copy::{COPIES_MAX, copies, copy};
use evidence::is_damaged;

pub use copy::{DamageCopy, NoCopy};
pub(crate) use copy::{Room, remove_unfinished};

/// What sled will read of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What is not in its snapshot, if that is whole.
    Tail,
    /// All.
    Whole,
}

/// A damaged segment behind whose damage something can be read, which sled would destroy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// What is left of that.
    pub(crate) copy: DamageCopy,
    /// Whole commits that are not, or not wholly, before the damage.
    pub(crate) commits_behind: u64,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commits = self.commits_behind;
        match &self.copy {
            DamageCopy::Whole(copy) => write!(
                f,
                "{commits} commits behind the damage can be read in the copy quarantine/{copy}"
            ),
            DamageCopy::Behind(copy) => write!(
                f,
                "{commits} commits behind the damage can be read in quarantine/{copy}, a copy of that \
                 part, since there was no room for all of the segment"
            ),
            DamageCopy::Planned => write!(
                f,
                "{commits} commits behind the damage can be read, and a gateway copies it into \
                 quarantine before it opens it"
            ),
            DamageCopy::Lost(why) => write!(
                f,
                "{commits} commits behind the damage could be read and are lost without a copy: {why}"
            ),
        }
    }
}

/// What was kept of the segments that were opened, and what copies leave free.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    pub(crate) room: Room,
    pub(crate) kept: Vec<Kept>,
    /// The newest commit that was whole in a segment that was found damaged, before sled opened it.
    pub(crate) newest: CommitNumber,
}

impl Keeping {
    pub(crate) fn new(room: Room) -> Self {
        Self {
            room,
            ..Self::default()
        }
    }

    /// Copies the segment at `path` into the quarantine of its data folder if sled, reading `extent`,
    /// would destroy something, as far as there is room, and remembers that. One that is in no data
    /// folder is a copy itself and left alone.
    ///
    /// # Errors
    /// If the copy cannot be made, for another reason than room; sled must not open the database then.
    pub(crate) fn keep(&mut self, path: &Path, extent: Extent) -> io::Result<()> {
        let Some(root) = folder_of(path) else {
            return Ok(());
        };
        let Some(pieces) = read_damaged(path, extent)? else {
            return Ok(());
        };
        self.newest = self.newest.max(pieces.newest());
        let Some(copy) = keep_behind(path, root, &pieces, &self.room)? else {
            return Ok(());
        };
        let kept = Kept {
            copy,
            commits_behind: pieces.count().behind,
        };
        match kept.copy {
            DamageCopy::Lost(_) => {
                tracing::error!(path = %path.display(), "A segment is damaged: {kept}.");
            }
            _ => tracing::warn!(path = %path.display(), "A segment is damaged: {kept}."),
        }
        // A second attempt to open it finds the same.
        if !self.kept.contains(&kept) {
            self.kept.push(kept);
        }
        Ok(())
    }
}

/// What can be read of a segment, if something of it is damaged that was durable and sled reads it.
fn read_damaged(path: &Path, extent: Extent) -> io::Result<Option<RawPieces>> {
    let from = match extent {
        Extent::Tail => snapshot_lsn(path),
        Extent::Whole => 0,
    };
    let Some(log) = look(path)? else {
        return Ok(None);
    };
    let is_damaged = is_damaged(&log, from)?;
    let bytes_read = log.bytes_read();
    tracing::debug!(path = %path.display(), bytes_read, is_damaged, "Looked at before it is opened.");
    is_damaged.then(|| RawPieces::read(path)).transpose()
}

/// Keeps what is behind the damage, if quarantine does not have all of it.
fn keep_behind(
    path: &Path,
    root: &Path,
    pieces: &RawPieces,
    room: &Room,
) -> io::Result<Option<DamageCopy>> {
    if view::is_view(root) {
        return Ok(Some(DamageCopy::Planned));
    }
    let quarantine = root.join("quarantine");
    let copies = copies(path, &quarantine)?;
    let has_all =
        |copy: &PathBuf| RawPieces::read(copy).is_ok_and(|copy| copy.has_all_behind_of(pieces));
    if copies.iter().any(has_all) {
        return Ok(None);
    }
    Ok(Some(match copies.len() {
        ..COPIES_MAX => copy(path, pieces, &quarantine, room)?,
        COPIES_MAX.. => DamageCopy::Lost(NoCopy::Count),
    }))
}

/// Takes away the part of a segment's file from which on sled must not read it: sled passes over damage
/// before its last segments, and gives up at the pages that are missing then. What is cut off was kept
/// before, as far as there was room. Whether there was anything to cut off.
///
/// # Errors
/// If the file cannot be read or written.
pub(crate) fn cut_behind(path: &Path) -> io::Result<bool> {
    let is_in_log = path.parent().is_some_and(|parent| parent.ends_with("log"));
    if is_in_log && folder_of(path).is_none() {
        // Somebody removed quarantine: nothing was kept.
        return Ok(false);
    }
    let Some(log) = look(path)? else {
        return Ok(false);
    };
    // Else nothing was kept: what a crash leaves is no damage.
    if !is_damaged(&log, 0)? {
        return Ok(false);
    }
    let Some(bytes) = RawPieces::read(path)?.bytes_up_to_damage() else {
        return Ok(false);
    };
    tracing::warn!(path = %path.display(), bytes, "A damaged segment is cut off behind the damage.");
    let file = OpenOptions::new().write(true).open(path.join("db"))?;
    file.set_len(bytes)?;
    file.sync_all()?;
    Ok(true)
}

/// The file of a segment; `None` if it is none.
fn look(path: &Path) -> io::Result<Option<RawLog>> {
    match RawLog::open(&path.join("db"), Purpose::Segment.segment_bytes()) {
        Ok(log) => Ok(Some(log)),
        // Without looking, sled must not destroy anything because of a passing trouble of the machine.
        Err(error) if is_passing(&error) => Err(error),
        // What is no file is sled's to refuse.
        Err(_) => Ok(None),
    }
}

fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR];
    error
        .raw_os_error()
        .is_some_and(|code| passing.contains(&code))
}

/// The data folder that a segment is in.
fn folder_of(path: &Path) -> Option<&Path> {
    let log = path.parent()?;
    let root = log.parent().filter(|_| log.ends_with("log"))?;
    root.join("quarantine").is_dir().then_some(root)
}

/// Up to where sled has a snapshot of a database; 0 if it is damaged or there is none.
fn snapshot_lsn(path: &Path) -> i64 {
    let newest = || {
        let names = fs::read_dir(path).ok()?.filter_map(Result::ok);
        let paths = names.map(|entry| entry.path());
        let is_snapshot = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("snap."))
        };
        let bytes = fs::read(paths.filter(is_snapshot).max()?).ok()?;
        let (rest, checksum) = bytes.split_last_chunk::<4>()?;
        let (content, _) = rest.split_last_chunk::<8>()?;
        // One more than the number, so that none is 0.
        let lsn = i64::from_le_bytes(*content.first_chunk::<8>()?);
        (crc32fast::hash(content) == u32::from_le_bytes(*checksum)).then_some(lsn.saturating_sub(1))
    };
    newest().unwrap_or(0).max(0)
}
