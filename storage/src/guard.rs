//! Keeping what a damaged segment of the log still holds before sled opens it.
//!
//! sled takes damage for the end of its log and overwrites with zeros what follows. So what it is
//! about to read is looked at first, and if something is damaged that was durable, and something can
//! be read behind it, the segment is copied into quarantine as it is
//! (`docs/decisions/0017-reading-before-sled.md`).
//!
//! Invariants: what a crash leaves of the commit that was being written is no damage; a segment is
//! not copied when quarantine has all its pieces already, or [`COPIES_MAX`] copies; a copy in
//! quarantine is whole and durable or has a name that ends in `.copy`.

mod evidence;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::database::Purpose;
use crate::durable_file::sync_directory;
use crate::raw::{RawLog, RawPieces};
use crate::view;

use evidence::is_damaged;

/// Ending of a copy that is being made.
const UNFINISHED: &str = "copy";
/// More copies of one segment are not made: a card that dies must not fill itself with them.
const COPIES_MAX: usize = 4;
/// Bytes that a copy leaves free, or a quarter of a small file system: what is published from now on
/// needs them more. The default reserve, below which nothing is taken until a quarter more is free, and
/// two segments.
const LEFT_FREE: u64 = 128 * 1024 * 1024;

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
    /// What its copy in quarantine is called; none is made in a folder that is only looked at.
    pub(crate) copy: Option<String>,
    /// Whole commits that are not, or not wholly, before the damage.
    pub(crate) commits_behind: u64,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commits behind the damage can be read",
            self.commits_behind
        )?;
        match &self.copy {
            Some(copy) => write!(f, " in the copy quarantine/{copy}"),
            None => f.write_str(", and a gateway copies it into quarantine before it opens it"),
        }
    }
}

/// Copies the segment at `path` into the quarantine of its data folder if sled, reading `extent`,
/// would destroy something, and says so. One that is in no data folder is a copy itself and
/// left alone.
///
/// # Errors
/// If the copy cannot be made; sled must not open the database then.
pub(crate) fn keep(path: &Path, extent: Extent) -> io::Result<Option<Kept>> {
    let Some(root) = folder_of(path) else {
        return Ok(None);
    };
    let from = match extent {
        Extent::Tail => snapshot_lsn(path),
        Extent::Whole => 0,
    };
    let log = match RawLog::open(&path.join("db"), Purpose::Segment.segment_bytes()) {
        Ok(log) => log,
        // Without looking, sled must not destroy anything because of a passing trouble of the machine.
        Err(error) if is_passing(&error) => return Err(error),
        // What is no file is sled's to refuse.
        Err(_) => return Ok(None),
    };
    let is_damaged = is_damaged(&log, from)?;
    let bytes_read = log.bytes_read();
    tracing::debug!(path = %path.display(), bytes_read, is_damaged, "Looked at before it is opened.");
    if !is_damaged {
        return Ok(None);
    }
    let pieces = RawPieces::read(path)?;
    let mut kept = Kept {
        copy: None,
        commits_behind: pieces.count().behind,
    };
    if !view::is_view(root) {
        let quarantine = root.join("quarantine");
        if is_kept(path, &pieces, &quarantine)? {
            return Ok(None);
        }
        kept.copy = Some(copy(path, &quarantine)?);
    }
    tracing::warn!(path = %path.display(), "A segment is damaged: {kept}.");
    Ok(Some(kept))
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

/// Whether quarantine has all `wanted` pieces of a segment, or copies enough.
fn is_kept(path: &Path, wanted: &RawPieces, quarantine: &Path) -> io::Result<bool> {
    let copies = copies(path, quarantine)?;
    let has_all =
        |copy: &PathBuf| RawPieces::read(copy).is_ok_and(|pieces| pieces.has_all_of(wanted));
    Ok(copies.len() >= COPIES_MAX || copies.iter().any(has_all))
}

/// What is in quarantine under the name of `path`, or one that was made of it.
fn copies(path: &Path, quarantine: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut copies = Vec::new();
    for entry in fs::read_dir(quarantine)? {
        let entry = entry?;
        let found = entry.file_name().to_string_lossy().into_owned();
        let rest = found.strip_prefix(name.as_ref());
        // Not a later generation of the same evacuated segment, whose number only begins alike.
        let is_number = |rest: &str| {
            let number = rest.strip_prefix('.').map(str::parse::<u32>);
            matches!(number, Some(Ok(_)))
        };
        if rest.is_some_and(|rest| rest.is_empty() || is_number(rest)) {
            copies.push(entry.path());
        }
    }
    Ok(copies)
}

/// Whether a file of `bytes` can be copied in a file system of `total` bytes, `free` of them free.
fn has_room(bytes: u64, free: u64, total: u64) -> bool {
    free >= bytes.saturating_add(LEFT_FREE.min(total / 4))
}

/// Copies a segment into quarantine, durably; the name that it got.
fn copy(path: &Path, quarantine: &Path) -> io::Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = quarantine.join(format!("{name}.{UNFINISHED}"));
    // One that was interrupted takes the room that this one needs.
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let stat = rustix::fs::statvfs(quarantine)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let needed = fs::metadata(path.join("db"))?.len();
    if !has_room(needed, bytes(stat.f_bavail), bytes(stat.f_blocks)) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let copied = view::copy_all(path, &unfinished).and_then(|()| {
        File::open(unfinished.join("db"))?.sync_all()?;
        sync_directory(&unfinished)
    });
    if let Err(error) = copied {
        // What was copied so far only takes the room that is missing.
        let _ = fs::remove_dir_all(&unfinished);
        return Err(error);
    }
    let names = std::iter::once(name.to_string()).chain((1_u32..).map(|n| format!("{name}.{n}")));
    let free = names
        .into_iter()
        .find(|name| !quarantine.join(name).exists());
    let name = free.unwrap_or_else(|| format!("{name}.{UNFINISHED}"));
    fs::rename(&unfinished, quarantine.join(&name))?;
    sync_directory(quarantine)?;
    Ok(name)
}
