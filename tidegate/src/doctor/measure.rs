//! Measures the card: how long a sync takes, how fast it writes, and whether our syncs are syncs.
//!
//! Invariants: writes only into the folder that it is given, at most about ten MiB; takes a few
//! seconds, unless single syncs are slower than that; looks at `stop` between any two of them.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use storage::{LogOptions, SEGMENT_BYTES_MIN, Store, StoreOptions};

/// What a commit of few messages writes: one page.
const PAGE_BYTES: usize = 4096;
/// Of each kind; the bound of time comes first on most cards.
const SYNCS_MAX: u32 = 200;
/// Fewer would say nothing, however slow they are.
const SYNCS_MIN: u32 = 3;
/// For all syncs of one kind.
const SYNCS_TIME: Duration = Duration::from_millis(1200);
const CHUNK_BYTES: usize = 256 << 10;
const SEQUENTIAL_BYTES_MAX: u64 = 4 << 20;
const SEQUENTIAL_TIME: Duration = Duration::from_millis(600);

/// Times of syncs, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    pub(super) count: u32,
    pub(super) p50_us: u64,
    pub(super) p90_us: u64,
    pub(super) max_us: u64,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Figures {
    /// A page appended to a file, and `fdatasync`.
    pub(super) append: Latency,
    /// A page of a file overwritten, and `fdatasync`.
    pub(super) overwrite: Latency,
    pub(super) sequential_bytes: u64,
    /// With the sync at the end.
    pub(super) sequential_bytes_per_second: u64,
}

/// How far it is; for whoever shows progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Append,
    Overwrite,
    Sequential,
    Fence,
}

/// Measures in `folder`.
///
/// # Errors
/// A write or sync fails, or `stop` was set ([`io::ErrorKind::Interrupted`]).
pub(super) fn measure(
    folder: &Path,
    stop: &AtomicBool,
    show: &(dyn Fn(Step) + Sync),
) -> io::Result<Figures> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut file = File::create_new(folder.join("pages"))?;
    // Its entry in the folder is none of the measurement's business.
    file.sync_all()?;
    show(Step::Append);
    let append = latency(stop, |_| {
        file.write_all(&noise.bytes(PAGE_BYTES))?;
        file.sync_data()
    })?;
    let pages = append.count.max(1);
    show(Step::Overwrite);
    let overwrite = latency(stop, |number| {
        let at = u64::from(number % pages) * PAGE_BYTES as u64;
        file.write_all_at(&noise.bytes(PAGE_BYTES), at)?;
        file.sync_data()
    })?;
    show(Step::Sequential);
    let (bytes, took) = sequential(&folder.join("sequential"), stop, &mut noise)?;
    let per_second = u128::from(bytes) * 1_000_000 / took.as_micros().max(1);
    Ok(Figures {
        append,
        overwrite,
        sequential_bytes: bytes,
        sequential_bytes_per_second: u64::try_from(per_second).unwrap_or(u64::MAX),
    })
}

fn latency(
    stop: &AtomicBool,
    mut write_and_sync: impl FnMut(u32) -> io::Result<()>,
) -> io::Result<Latency> {
    let begin = Instant::now();
    let mut times = Vec::new();
    for number in 0..SYNCS_MAX {
        if number >= SYNCS_MIN && begin.elapsed() > SYNCS_TIME {
            break;
        }
        go_on(stop)?;
        let before = Instant::now();
        write_and_sync(number)?;
        times.push(u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(summary(times))
}

fn summary(mut times: Vec<u64>) -> Latency {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = times.len().saturating_sub(1) * percent / 100;
        times.get(index).copied().unwrap_or(0)
    };
    Latency {
        count: u32::try_from(times.len()).unwrap_or(u32::MAX),
        p50_us: at(50),
        p90_us: at(90),
        max_us: at(100),
    }
}

fn sequential(path: &Path, stop: &AtomicBool, noise: &mut Noise) -> io::Result<(u64, Duration)> {
    let mut file = File::create_new(path)?;
    let begin = Instant::now();
    let mut bytes = 0;
    while bytes < SEQUENTIAL_BYTES_MAX && (bytes == 0 || begin.elapsed() < SEQUENTIAL_TIME) {
        go_on(stop)?;
        file.write_all(&noise.bytes(CHUNK_BYTES))?;
        // Otherwise the bound of time would only bound how much memory is filled.
        file.sync_data()?;
        bytes += CHUNK_BYTES as u64;
    }
    Ok((bytes, begin.elapsed()))
}

fn go_on(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(())
}

/// Bytes that no file system and no drive can compress.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = (0..count.div_ceil(8)).flat_map(|_| {
            // xorshift64
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_ne_bytes()
        });
        words.take(count).collect()
    }
}

/// Opens the smallest store there is, in a new folder: it proves the durability fence at its start,
/// as every start of the gateway does. Returns how many syncs that took.
///
/// # Errors
/// The fence is not in this binary, or the store cannot be made.
pub(super) fn prove_fence(folder: &Path) -> anyhow::Result<u64> {
    let before = storage::fence::calls();
    let options = StoreOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        free_space_reserve_bytes: SEGMENT_BYTES_MIN,
        ..StoreOptions::default()
    };
    let log = LogOptions::new("doctor", 1);
    let (_store, threads) =
        Store::open(folder, options, &[log]).context("open a store in a temporary folder")?;
    threads.close();
    let syncs = storage::fence::calls().saturating_sub(before);
    anyhow::ensure!(syncs > 0, "the store was opened without a sync");
    Ok(syncs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let figures = summary((1..=101).rev().collect());
        assert_eq!((figures.count, figures.p50_us), (101, 51));
        assert_eq!((figures.p90_us, figures.max_us), (91, 101));
        assert_eq!(summary(vec![]), Latency::default());
        assert_eq!(summary(vec![7]).max_us, 7);
    }

    #[test]
    fn measurement_stays_small_and_ends_when_it_is_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let figures = measure(folder.path(), &AtomicBool::new(false), &|_| ()).unwrap();
        assert!(figures.append.count >= SYNCS_MIN, "{figures:?}");
        assert!(figures.sequential_bytes_per_second > 0);
        let sizes = std::fs::read_dir(folder.path()).unwrap();
        let bytes: u64 = sizes
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes <= 6 << 20, "{bytes}");
        let other = tempfile::tempdir().unwrap();
        let error = measure(other.path(), &AtomicBool::new(true), &|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn fence_is_proved_by_a_small_store() {
        let folder = tempfile::tempdir().unwrap();
        assert!(prove_fence(&folder.path().join("fence")).unwrap() > 0);
    }

    #[test]
    fn noise_does_not_repeat() {
        let mut noise = Noise(1);
        assert_ne!(noise.bytes(64), noise.bytes(64));
        assert_eq!(noise.bytes(13).len(), 13);
    }
}
