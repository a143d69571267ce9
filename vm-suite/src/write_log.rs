//! What the guest wrote to its disk, in order, with its flushes: the log that qemu's driver `blklogwrites`
//! keeps, in the format of Linux' dm-log-writes. From it the disk is made as a power cut leaves it
//! when the device has a cache that does not last.
//!
//! ```text
//! sector 0: magic u64, version u64, entries u64, sector size u32
//! then for each entry one sector: sector u64, sectors u64, flags u64, length of data u64,
//! and as many sectors of data as it says, unless it is a discard
//! ```
//!
//! The number of entries in the first sector is only right after an orderly end; after a kill the log
//! ends where an entry is all zero.
//! <https://www.kernel.org/doc/Documentation/device-mapper/log-writes.txt>

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use ::tests::chaos::seeded::Seeded;

const MAGIC: u64 = 0x006a_7366_7773_6872;
/// Sector size that the emulator is told to use.
pub(crate) const SECTOR_BYTES: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;

/// What becomes of writes after the last flush, and of those before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    /// Per cent of the writes after the last flush that reached the medium all the same, in no
    /// order.
    pub(crate) kept_percent: u8,
    /// Flushes at the end that the device only claimed to have done: the control, which must lose
    /// something.
    pub(crate) false_flushes: usize,
}

/// What was found and done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) flushes: usize,
    pub(crate) applied: usize,
    /// Writes after the last flush that were dropped.
    pub(crate) dropped: usize,
    /// The log goes on behind its first empty entry: an entry was on its way to the file when the
    /// emulator was killed, and what lies behind it cannot be read. Something of it may have been
    /// flushed.
    pub(crate) has_hole: bool,
}

/// An entry: where its data lies in the log, and what it says.
#[derive(Clone, Copy, Debug)]
struct Entry {
    data_at: u64,
    sector: u64,
    sectors: u64,
    flags: u64,
}

/// Applies a log to the disk as it was when the log began.
///
/// # Errors
/// When a file cannot be read or written, or is no such log.
pub(crate) fn replay(log: &Path, disk: &Path, fate: Fate, random: &mut Seeded) -> Result<Replayed> {
    let mut log = File::open(log).with_context(|| format!("open {}", log.display()))?;
    let (entries, has_hole) = entries(&mut log)?;
    let flushes: Vec<usize> = (0..entries.len())
        .filter(|index| {
            entries
                .get(*index)
                .is_some_and(|entry| entry.flags & FLUSH != 0)
        })
        .collect();
    let counted = flushes.len().saturating_sub(fate.false_flushes);
    let last_flush = counted
        .checked_sub(1)
        .and_then(|index| flushes.get(index).copied());
    let mut out = OpenOptions::new().write(true).open(disk);
    let out = out
        .as_mut()
        .map_err(|error| anyhow::anyhow!("open {}: {error}", disk.display()))?;
    let mut replayed = Replayed {
        flushes: flushes.len(),
        has_hole,
        ..Replayed::default()
    };
    for (index, entry) in entries.iter().enumerate() {
        if entry.flags & DISCARD != 0 || entry.sectors == 0 {
            continue;
        }
        let is_safe = last_flush.is_some_and(|last| index <= last) || entry.flags & FUA != 0;
        if !is_safe && random.below(100) >= u64::from(fate.kept_percent) {
            replayed.dropped += 1;
            continue;
        }
        apply(&mut log, entry, out)?;
        replayed.applied += 1;
    }
    out.sync_data().context("write the disk")?;
    Ok(replayed)
}

fn apply(log: &mut File, entry: &Entry, disk: &mut File) -> Result<()> {
    let place = |sector: u64| SeekFrom::Start(sector.saturating_mul(SECTOR_BYTES));
    log.seek(SeekFrom::Start(entry.data_at))
        .context("find data in the log")?;
    disk.seek(place(entry.sector))
        .context("find a sector of the disk")?;
    let mut data = log.take(entry.sectors.saturating_mul(SECTOR_BYTES));
    std::io::copy(&mut data, disk).context("write to the disk")?;
    Ok(())
}

/// All entries, and whether something lies behind the end.
fn entries(log: &mut File) -> Result<(Vec<Entry>, bool)> {
    let len = log.metadata().context("size of the log")?.len();
    let head = sector(log, 0)?.context("the log has no first sector")?;
    ensure!(
        number(&head, 0) == MAGIC,
        "no log of writes: wrong magic number"
    );
    ensure!(
        number(&head, 3) & 0xffff_ffff == SECTOR_BYTES,
        "a log of writes with sectors of another size"
    );
    let (mut entries, mut at) = (Vec::new(), SECTOR_BYTES);
    while let Some(head) = sector(log, at)? {
        let [sector, sectors, flags] = [0, 1, 2].map(|index| number(&head, index));
        if (sector, sectors, flags) == (0, 0, 0) {
            break;
        }
        let data_at = at + SECTOR_BYTES;
        let data_sectors = if flags & DISCARD == 0 { sectors } else { 0 };
        let end = data_sectors
            .checked_mul(SECTOR_BYTES)
            .and_then(|bytes| data_at.checked_add(bytes));
        let end = end.context("a log of writes with an entry that is too long")?;
        if end > len {
            break;
        }
        entries.push(Entry {
            data_at,
            sector,
            sectors,
            flags,
        });
        at = end;
    }
    Ok((entries, at < len))
}

/// A sector; none at the end of the file.
fn sector(log: &mut File, at: u64) -> Result<Option<[u8; 512]>> {
    log.seek(SeekFrom::Start(at))
        .context("find an entry of the log")?;
    let mut bytes = [0; 512];
    match log.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error).context("read the log"),
    }
}

/// The number at this place, of eight bytes each.
fn number(bytes: &[u8; 512], index: usize) -> u64 {
    let bytes = bytes
        .get(index * 8..index * 8 + 8)
        .and_then(|part| part.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// Puts a new, empty log there.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn create(path: &Path) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    file.flush().context("make a log")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{DISCARD, FLUSH, FUA, Fate, MAGIC, Replayed, replay};
    use ::tests::chaos::seeded::Seeded;

    fn head(words: [u64; 4]) -> Vec<u8> {
        let mut sector: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        sector.resize(512, 0);
        sector
    }

    /// A log of writes of one sector each: sector and flags; the data are the number of the entry.
    fn log(entries: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut bytes = head([MAGIC, 1, 0, 512]);
        for (number, (sector, sectors, flags)) in (1_u8..).zip(entries) {
            bytes.extend(head([*sector, *sectors, *flags, 0]));
            if flags & DISCARD == 0 {
                bytes.extend(vec![number; usize::try_from(sectors * 512).unwrap()]);
            }
        }
        bytes
    }

    /// The disk, by its first byte in each of four sectors.
    fn replayed(log: &[u8], fate: Fate) -> ([u8; 4], Replayed) {
        let folder = tempfile::tempdir().unwrap();
        let (log_path, disk) = (folder.path().join("log"), folder.path().join("disk"));
        fs::write(&log_path, log).unwrap();
        fs::write(&disk, [0; 4 * 512]).unwrap();
        let replayed = replay(&log_path, &disk, fate, &mut Seeded::new(1)).unwrap();
        let bytes = fs::read(&disk).unwrap();
        ([0, 1, 2, 3].map(|sector| bytes[sector * 512]), replayed)
    }

    #[test]
    fn what_was_flushed_is_there_and_nothing_else() {
        let log = log(&[
            (0, 1, 0),
            (1, 1, 0),
            (0, 0, FLUSH),
            (1, 1, 0),
            (2, 1, FUA),
            (3, 1, 0),
        ]);
        let (disk, replayed) = replayed(&log, Fate::default());
        assert_eq!(disk, [1, 2, 5, 0]);
        assert_eq!(
            (replayed.flushes, replayed.applied, replayed.dropped),
            (1, 3, 2)
        );
        assert!(!replayed.has_hole);
    }

    #[test]
    fn writes_behind_the_last_flush_are_kept_when_they_are_to_be() {
        let log = log(&[(0, 0, FLUSH), (1, 1, 0), (1, 2, DISCARD), (3, 1, 0)]);
        let fate = Fate {
            kept_percent: 100,
            ..Fate::default()
        };
        assert_eq!(replayed(&log, fate).0, [0, 2, 0, 4]);
    }

    #[test]
    fn flushes_that_were_only_claimed_keep_nothing() {
        let log = log(&[(0, 1, 0), (0, 0, FLUSH), (1, 1, 0), (0, 0, FLUSH)]);
        let fate = Fate {
            false_flushes: 1,
            ..Fate::default()
        };
        assert_eq!(replayed(&log, fate).0, [1, 0, 0, 0]);
    }

    #[test]
    fn hole_ends_the_log_and_is_told() {
        let mut log = log(&[(0, 1, 0), (0, 0, FLUSH)]);
        log.extend(head([0; 4]));
        log.extend(head([1, 0, FLUSH, 0]));
        let (disk, replayed) = replayed(&log, Fate::default());
        assert_eq!(disk, [1, 0, 0, 0]);
        assert!(replayed.has_hole);
    }
}
