//! How much of a file system a folder may fill before retention and evacuation hold it.
//!
//! Pure arithmetic on the options, so that it can be asked before there is a folder. It says what
//! the store works towards, not what it takes today: less at first, and for moments more while a
//! reader holds segments of which nothing is left.
//!
//! Invariant: [`DiskNeed::retention_that_fits`] never names more than fits by the same arithmetic.

use serde::Serialize;

use crate::evacuation::{self, DISK_PERCENT_MAX};
use crate::logs::LogOptions;
use crate::store::StoreOptions;

/// Segments beside those that the logs are in: the next one, made ahead; the newest sealed one, kept
/// for its journal; one that evacuation fills; one that retention is giving up.
const SEGMENTS_BESIDE: u64 = 4;
/// Damaged segments that find room in `quarantine/` before somebody empties it.
const SEGMENTS_IN_QUARANTINE: u64 = 2;
/// What the logs take if every commit holds little, in percent of their bytes: sled writes its pages and
/// lists again for each (measured by `raw::written_again`, commits of 150 and 300 bytes).
const SMALL_COMMITS_PERCENT: u64 = 250;
/// The metadata without the retained messages, MARK, LOCK and the rest of the folder.
const METADATA_BYTES: u64 = 32 * 1024 * 1024;
/// sled gives up a piece of its file when less than half of it is live.
const METADATA_BYTES_PER_RETAINED_BYTE: u64 = 2;
/// Files and folders of a segment.
const FILES_OF_SEGMENT: u64 = 8;
const FILES_BESIDE: u64 = 100;

/// What a folder may fill, by what it is for. All in bytes, as allocated on flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiskNeed {
    /// What the logs keep: the sum of [`LogOptions::retention_bytes`].
    pub retention_bytes: u64,
    /// What the segments take that hold it. Evacuation keeps it near this where logs of different
    /// retention share segments; a segment's file is larger than its commits in any case.
    pub segments_bytes: u64,
    /// Segments beside these: made ahead, being copied, being removed.
    pub beside_bytes: u64,
    /// Metadata, retained messages among it.
    pub metadata_bytes: u64,
    /// Room for what recovery puts aside.
    pub quarantine_bytes: u64,
    /// [`StoreOptions::free_space_reserve_bytes`]: with less free, records are refused.
    pub reserve_bytes: u64,
    /// Files and folders.
    pub files: u64,
    segment_bytes: u64,
    /// Logs that share the segments.
    #[serde(skip)]
    logs: u64,
}

/// The most that a segment with commits of `bytes` takes: sled fills its file up to a whole MiB when it
/// is opened to be read.
fn segment_on_flash(bytes: u64) -> u64 {
    const GRAIN_BYTES: u64 = 1024 * 1024;
    let bytes = evacuation::disk_bytes(bytes);
    bytes.div_ceil(GRAIN_BYTES).saturating_mul(GRAIN_BYTES)
}

impl DiskNeed {
    /// What a folder with these options and logs may fill; `retained_bytes` is the most that the
    /// payloads of all retained messages have.
    pub fn of(options: &StoreOptions, logs: &[LogOptions], retained_bytes: u64) -> Self {
        let segment_bytes = options.segment_bytes.max(1);
        let retention_bytes = logs
            .iter()
            .fold(0, |sum: u64, log| sum.saturating_add(log.retention_bytes));
        let segment = segment_on_flash(segment_bytes);
        let segments = retention_bytes
            .div_ceil(segment_bytes)
            .saturating_add(SEGMENTS_BESIDE + SEGMENTS_IN_QUARANTINE);
        let need = Self {
            retention_bytes,
            segments_bytes: 0,
            beside_bytes: segment.saturating_mul(SEGMENTS_BESIDE),
            metadata_bytes: retained_bytes
                .saturating_mul(METADATA_BYTES_PER_RETAINED_BYTE)
                .saturating_add(METADATA_BYTES),
            quarantine_bytes: segment.saturating_mul(SEGMENTS_IN_QUARANTINE),
            reserve_bytes: options.free_space_reserve_bytes,
            files: segments
                .saturating_mul(FILES_OF_SEGMENT)
                .saturating_add(FILES_BESIDE),
            segment_bytes,
            logs: logs.len() as u64,
        };
        let segments_bytes = need.segments_for(retention_bytes);
        Self {
            segments_bytes,
            ..need
        }
    }

    /// All of it together.
    pub fn total_bytes(&self) -> u64 {
        self.segments_bytes.saturating_add(self.fixed_bytes())
    }

    /// The same if commits hold no more than one small message each, as those of a gateway to which few
    /// devices publish now and then.
    pub fn total_of_small_commits_bytes(&self) -> u64 {
        let segments = percent(self.retention_bytes, SMALL_COMMITS_PERCENT, 100);
        self.segments_bytes
            .max(segments)
            .saturating_add(self.fixed_bytes())
    }

    /// What does not depend on what the logs keep.
    pub fn fixed_bytes(&self) -> u64 {
        [
            self.beside_bytes,
            self.metadata_bytes,
            self.quarantine_bytes,
            self.reserve_bytes,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// The most that all logs together may keep where there are `disk_bytes`; `None` if these are
    /// not enough for two segments of each log, the least that a log may keep.
    pub fn retention_that_fits(&self, disk_bytes: u64) -> Option<u64> {
        let room = disk_bytes.checked_sub(self.fixed_bytes())?;
        let segments = room / segment_on_flash(self.segment_bytes);
        let whole = segments.saturating_mul(self.segment_bytes);
        let most = match self.shares_segments() {
            true => whole.min(percent(room, 100, DISK_PERCENT_MAX)),
            false => whole,
        };
        let least = self.segment_bytes.saturating_mul(2 * self.logs.max(1));
        (most >= least).then_some(most)
    }

    fn segments_for(&self, retention_bytes: u64) -> u64 {
        let segments = retention_bytes.div_ceil(self.segment_bytes);
        let whole = segments.saturating_mul(segment_on_flash(self.segment_bytes));
        match self.shares_segments() {
            true => whole.max(percent(retention_bytes, DISK_PERCENT_MAX, 100)),
            false => whole,
        }
    }

    /// A log alone gives up its segments whole: nothing dead stays in them.
    fn shares_segments(&self) -> bool {
        self.logs > 1
    }
}

/// `bytes` times `numerator / denominator`, without the overflow of the product.
fn percent(bytes: u64, numerator: u64, denominator: u64) -> u64 {
    let scaled = u128::from(bytes) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn need(segment_mib: u64, retention_mib: &[u64]) -> DiskNeed {
        let options = StoreOptions {
            segment_bytes: segment_mib * MIB,
            ..StoreOptions::default()
        };
        let logs: Vec<_> = retention_mib
            .iter()
            .map(|mib| LogOptions {
                retention_bytes: mib.saturating_mul(MIB),
                ..LogOptions::new("log", 1)
            })
            .collect();
        DiskNeed::of(&options, &logs, 16 * MIB)
    }

    #[test]
    fn lone_log_needs_its_segments_and_what_is_beside_them() {
        let need = need(16, &[1024]);
        let segment = segment_on_flash(16 * MIB);
        assert_eq!(need.segments_bytes, 64 * segment);
        let fixed = (4 + 2) * segment + (32 + 2 * 16 + 64) * MIB;
        assert_eq!(need.fixed_bytes(), fixed);
        assert_eq!(need.total_bytes(), need.segments_bytes + need.fixed_bytes());
        assert_eq!(need.files, (64 + 4 + 2) * 8 + 100);
    }

    #[test]
    fn small_commits_need_more_than_twice_as_much() {
        let need = need(16, &[1024]);
        let total = need.total_of_small_commits_bytes();
        assert_eq!(total, 2560 * MIB + need.fixed_bytes());
        assert!(total > need.total_bytes());
    }

    #[test]
    fn logs_that_share_segments_need_what_evacuation_allows() {
        assert_eq!(
            need(16, &[1024, 1024]).segments_bytes,
            percent(2048 * MIB, DISK_PERCENT_MAX, 100)
        );
        let small = need(1, &[100, 100]).segments_bytes;
        assert!(small >= 200 * segment_on_flash(MIB), "{small}");
    }

    #[test]
    fn need_that_no_number_holds_is_the_largest_number() {
        assert_eq!(need(16, &[u64::MAX, 7]).total_bytes(), u64::MAX);
        assert_eq!(
            need(256, &[u64::MAX; 64]).files,
            u64::MAX / 256 / MIB * 8 + 156
        );
    }

    #[test]
    fn nothing_fits_where_a_log_has_no_room_for_two_segments() {
        let need = need(16, &[1024]);
        let least = need.fixed_bytes() + 2 * segment_on_flash(16 * MIB);
        assert_eq!(need.retention_that_fits(least), Some(32 * MIB));
        assert_eq!(need.retention_that_fits(least - 1), None);
        assert_eq!(need.retention_that_fits(0), None);
    }

    proptest! {
        #[test]
        fn what_is_said_to_fit_fits_and_a_segment_more_does_not(
            segment in 1_u64..=256,
            logs in 1_usize..6,
            disk_mib in 1_u64..1 << 30,
        ) {
            let need = need(segment, &vec![2 * segment; logs]);
            let disk = disk_mib * MIB;
            if let Some(most) = need.retention_that_fits(disk) {
                let takes = |bytes| need.segments_for(bytes) + need.fixed_bytes();
                prop_assert!(takes(most) <= disk);
                prop_assert!(takes(most + segment * MIB) > disk);
            }
        }
    }
}
