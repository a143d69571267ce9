//! Copies in quarantine: what they are called, what of a segment they have, and what they may take.
//!
//! A copy is of the whole segment or, where there is no room for that, of what sled is about to
//! destroy. Without room for that either, none is made, and sled is let at it: what lies before the
//! damage stays with its readers, who cannot have what lies behind it in any case.
//!
//! Invariants: a copy leaves the reserve free; `quarantine/` does not grow by copies beyond its share of
//! the disk; a copy has its name only when it is complete and durable.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::durable_file::sync_directory;
use crate::raw::RawPieces;
use crate::segment_name::SegmentName;
use crate::view;

/// Endings of a copy that is being made, one of all of a segment, and one of what lies behind damage.
const UNFINISHED: &str = ".copy";
const WHOLE: &str = ".damaged";
const BEHIND: &str = ".behind";
/// More copies of one segment are not made: a card that dies must not fill itself with them.
pub(super) const COPIES_MAX: usize = 4;
/// What `quarantine/` may take with a copy: this part of the file system …
const SHARE: u64 = 8;
/// … or, in a small one, so many segments; so many more must be free when a whole one is copied.
const SEGMENTS: u64 = 2;

/// What is left of what lies behind damage in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageCopy {
    /// The name in quarantine of a copy of the whole segment.
    Whole(String),
    /// The name in quarantine of a copy of what lies behind the damage: there was no room for more.
    Behind(String),
    /// Nothing yet: the folder is only looked at, and the next start makes a copy.
    Planned,
    /// Nothing: no copy could be made, and it was lost when the segment was opened.
    Lost(NoCopy),
}

impl DamageCopy {
    /// The name of the copy, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Whole(name) | Self::Behind(name) => Some(name),
            Self::Planned | Self::Lost(_) => None,
        }
    }
}

/// Why no copy was made of what lies behind damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCopy {
    /// The file system is too full: the reserve would not stay free.
    Full,
    /// `quarantine/` has its share of the file system.
    Share,
    /// There are enough copies of the segment.
    Count,
}

impl fmt::Display for NoCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the disk has no room for a copy beside the reserve"),
            Self::Share => write!(
                f,
                "quarantine/ takes an eighth of the disk already, or {SEGMENTS} segments; remove what \
                 is of no more use there"
            ),
            Self::Count => write!(
                f,
                "quarantine/ has {COPIES_MAX} copies of the segment already; remove those of no more use"
            ),
        }
    }
}

/// What copies leave free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// [`crate::StoreOptions::free_space_reserve_bytes`].
    pub(crate) reserve_bytes: u64,
    /// [`crate::StoreOptions::free_space`].
    pub(crate) free_space: fn(&Path) -> io::Result<u64>,
}

/// For databases of which no copies are made.
impl Default for Room {
    fn default() -> Self {
        Self {
            reserve_bytes: 0,
            free_space: |_| Ok(u64::MAX),
        }
    }
}

/// What is there before a copy is made, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) reserve: u64,
    pub(super) free: u64,
    pub(super) disk: u64,
    pub(super) in_quarantine: u64,
    /// The file of the segment.
    pub(super) segment: u64,
}

impl Bounds {
    fn of(quarantine: &Path, room: &Room, segment: u64) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(quarantine)?;
        Ok(Self {
            reserve: room.reserve_bytes,
            free: (room.free_space)(quarantine)?,
            disk: stat.f_blocks.saturating_mul(stat.f_frsize),
            in_quarantine: bytes_below(quarantine)?,
            segment,
        })
    }

    /// Whether a copy of `bytes` may be made; `more` must be free beside it.
    pub(super) fn check(&self, bytes: u64, more: u64) -> Result<(), NoCopy> {
        // Nothing is taken again until a quarter more than the reserve is free.
        let reserve = self.reserve.saturating_add(self.reserve / 4);
        let needed = [bytes, more].into_iter().fold(reserve, u64::saturating_add);
        let share = (self.disk / SHARE).max(self.segment.saturating_mul(SEGMENTS));
        if self.free < needed {
            Err(NoCopy::Full)
        } else if self.in_quarantine.saturating_add(bytes) > share {
            Err(NoCopy::Share)
        } else {
            Ok(())
        }
    }
}

/// Bytes that a directory takes with all in it.
fn bytes_below(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes: u64 = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let below = match entry.metadata()? {
            metadata if metadata.is_dir() => bytes_below(&entry.path())?,
            metadata => metadata.blocks().saturating_mul(512),
        };
        bytes = bytes.saturating_add(below);
    }
    Ok(bytes)
}

/// What quarantine has of the segment at `path`: copies, and what was put aside.
pub(super) fn copies(path: &Path, quarantine: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut copies = Vec::new();
    for entry in fs::read_dir(quarantine)? {
        let entry = entry?;
        let found = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = found.strip_prefix(name.as_ref()) else {
            continue;
        };
        let endings = [WHOLE, BEHIND];
        let number = endings.iter().find_map(|ending| rest.strip_prefix(ending));
        // Not a later generation of the same evacuated segment, whose number only begins alike.
        let is_number = |rest: &str| {
            let number = rest.strip_prefix('.').map(str::parse::<u32>);
            matches!(number, Some(Ok(_)))
        };
        let number = number.unwrap_or(rest);
        if number.is_empty() || is_number(number) {
            copies.push(entry.path());
        }
    }
    Ok(copies)
}

/// Copies of the segment at `path` into quarantine what there is room for, durably.
pub(super) fn copy(
    path: &Path,
    pieces: &RawPieces,
    quarantine: &Path,
    room: &Room,
) -> io::Result<DamageCopy> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = quarantine.join(format!("{name}{UNFINISHED}"));
    // One that was interrupted takes the room that this one needs.
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let whole = fs::metadata(path.join("db"))?.len();
    let bounds = Bounds::of(quarantine, room, whole)?;
    let copied = bounds
        .check(whole, whole.saturating_mul(SEGMENTS))
        .and_then(|()| {
            let copied = view::copy_all(path, &unfinished);
            finish(copied, &unfinished, &format!("{name}{WHOLE}"))
        });
    let why = match copied {
        Ok(copied) => return copied.map(DamageCopy::Whole),
        Err(why) => why,
    };
    tracing::warn!(path = %path.display(), "The segment is not copied whole: {why}.");
    let copied = bounds.check(pieces.bytes_behind(), 0).and_then(|()| {
        let copied = copy_behind(pieces, &unfinished);
        finish(copied, &unfinished, &format!("{name}{BEHIND}"))
    });
    match copied {
        Ok(copied) => copied.map(DamageCopy::Behind),
        Err(why) => Ok(DamageCopy::Lost(why)),
    }
}

/// Names a copy that was made, or removes what was made of it; tells a full disk from other errors.
fn finish(
    copied: io::Result<()>,
    unfinished: &Path,
    name: &str,
) -> Result<io::Result<String>, NoCopy> {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let named = copied.and_then(|()| name_copy(unfinished, name));
    if named.is_err() {
        // It only takes the room that is missing.
        let _ = fs::remove_dir_all(unfinished);
    }
    match named {
        Err(error) if matches!(error.kind(), QuotaExceeded | StorageFull) => Err(NoCopy::Full),
        named => Ok(named),
    }
}

fn copy_behind(pieces: &RawPieces, unfinished: &Path) -> io::Result<()> {
    fs::create_dir(unfinished)?;
    pieces.copy_behind(&File::create(unfinished.join("db"))?)
}

/// Makes a copy durable and gives it `name`, or one like it that is free; which one.
fn name_copy(unfinished: &Path, name: &str) -> io::Result<String> {
    File::open(unfinished.join("db"))?.sync_all()?;
    sync_directory(unfinished)?;
    let quarantine = unfinished.parent().unwrap_or(unfinished);
    let names = std::iter::once(name.to_owned()).chain((1_u32..).map(|n| format!("{name}.{n}")));
    let free = names
        .into_iter()
        .find(|name| !quarantine.join(name).exists());
    let name = free.unwrap_or_else(|| name.to_owned());
    fs::rename(unfinished, quarantine.join(&name))?;
    sync_directory(quarantine)?;
    Ok(name)
}

/// Removes copies that were being made when the process ended.
///
/// # Errors
/// If quarantine cannot be read, or one cannot be removed.
pub(crate) fn remove_unfinished(quarantine: &Path) -> io::Result<()> {
    for entry in fs::read_dir(quarantine)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let of = name.strip_suffix(UNFINISHED).and_then(SegmentName::parse);
        if of.is_some() && entry.file_type()?.is_dir() {
            tracing::info!(path = %entry.path().display(), "Unfinished copy is removed.");
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
