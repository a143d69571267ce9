//! What the flash takes: bytes and syncs, since the store was opened and by days.
//!
//! Four sums stand beside each other, from what a publisher gave to what the card has to do:
//! payloads, commits, bytes that the databases wrote, pages of files that were dirtied. The last is
//! what the kernel counts for the process (`/proc/self/io`); where it does not, the sum is unknown,
//! which is not 0. What the file system's own journal and the card's controller add to it, nobody
//! outside them can count.
//!
//! The days are kept in the journal, one entry each (docs/decisions/0011). They are UTC days of the
//! corrected clock; what happened before the clock was known stands under no day.
//!
//! Invariant: a sum never goes back, and at most [`DAYS_MAX`] days are kept.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::encoding::Stored;
use crate::fence;
use crate::journal::{JournalKey, JournalKind};
use crate::store::StoreCounters;

/// Days that are kept.
pub(crate) const DAYS_MAX: usize = 31;
/// Days of the average.
const DAYS_OF_AVERAGE: u32 = 7;
/// Whoever wrote this much and is said to have dirtied nothing is not counted by the kernel.
const WRITTEN_UNSEEN_BYTES: u64 = 1024 * 1024;
const DAY_MS: i64 = 86_400_000;

/// What was done to the flash in some time. Stored with a leading version byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlashUse {
    /// How much time it is the sum of, in milliseconds: the gateway may not have run all day.
    pub running_ms: u64,
    /// Records committed.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Commits written.
    pub commits: u64,
    /// Their bytes, before the databases add their own.
    pub commit_bytes: u64,
    /// Bytes that the databases wrote to their logs, metadata included.
    pub written_bytes: u64,
    /// Bytes of the pages that the process dirtied in files, which the card has to write; `None`:
    /// the kernel does not say.
    pub dirtied_bytes: Option<u64>,
    /// Syncs of the databases.
    pub syncs: u64,
}

impl Stored for FlashUse {
    const VERSION: u8 = 1;
}

impl FlashUse {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        running_ms: 0,
        records: 0,
        payload_bytes: 0,
        commits: 0,
        commit_bytes: 0,
        written_bytes: 0,
        dirtied_bytes: Some(0),
        syncs: 0,
    };

    /// All that this process did until now; `running_ms` is the caller's.
    pub(crate) fn of_process(counters: &StoreCounters, running_ms: u64) -> Self {
        let written_bytes = fence::written_bytes();
        Self {
            running_ms,
            records: counters.records(),
            payload_bytes: counters.payload_bytes(),
            commits: counters.commits(),
            commit_bytes: counters.commit_bytes(),
            written_bytes,
            dirtied_bytes: dirtied_bytes().filter(|bytes| is_counted(*bytes, written_bytes)),
            syncs: fence::calls(),
        }
    }

    /// What came since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// Both together; what is unknown of one is unknown of both.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn with(&self, other: &Self, of: impl Fn(u64, u64) -> u64) -> Self {
        let dirtied = self.dirtied_bytes.zip(other.dirtied_bytes);
        Self {
            running_ms: of(self.running_ms, other.running_ms),
            records: of(self.records, other.records),
            payload_bytes: of(self.payload_bytes, other.payload_bytes),
            commits: of(self.commits, other.commits),
            commit_bytes: of(self.commit_bytes, other.commit_bytes),
            written_bytes: of(self.written_bytes, other.written_bytes),
            dirtied_bytes: dirtied.map(|(this, other)| of(this, other)),
            syncs: of(self.syncs, other.syncs),
        }
    }

    fn divided_by(&self, parts: u64) -> Self {
        self.with(self, |value, _| value.checked_div(parts).unwrap_or(0))
    }

    /// What wears the card, as well as it is known: dirtied pages, else what was written.
    pub fn wearing_bytes(&self) -> u64 {
        self.dirtied_bytes.unwrap_or(self.written_bytes)
    }
}

/// Bytes of pages that this process dirtied, without those that were dropped before they were
/// written (proc(5), `/proc/pid/io`).
fn dirtied_bytes() -> Option<u64> {
    dirtied_in(&fs::read_to_string("/proc/self/io").ok()?)
}

/// Whether the kernel counts what goes to this file system at all.
fn is_counted(dirtied_bytes: u64, written_bytes: u64) -> bool {
    dirtied_bytes > 0 || written_bytes < WRITTEN_UNSEEN_BYTES
}

fn dirtied_in(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let cancelled = field("cancelled_write_bytes:").unwrap_or(0);
    Some(field("write_bytes:")?.saturating_sub(cancelled))
}

/// A UTC day: days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UtcDay(pub u32);

impl UtcDay {
    /// The day of a time in milliseconds since 1970.
    pub fn of(ms: i64) -> Self {
        Self(u32::try_from(ms.div_euclid(DAY_MS)).unwrap_or(0))
    }
}

/// How the flash is used, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlashStatus {
    /// Since the store was opened.
    pub since_start: FlashUse,
    /// Of this UTC day; `None` while the clock is not known.
    pub today: Option<FlashUse>,
    /// Of the day before; `None` if there is no account of it.
    pub yesterday: Option<FlashUse>,
    /// Of an average day among the last seven, without today; `None` if there is no such day yet.
    pub average_day: Option<FlashUse>,
    /// What was done while the clock was not known, of all times.
    pub unknown_day: FlashUse,
    /// The flash budget, if there is one.
    pub budget: Option<crate::flash_budget::BudgetStatus>,
}

/// The days, and what is under no day.
#[derive(Clone, Debug)]
pub(crate) struct Days {
    days: BTreeMap<UtcDay, FlashUse>,
    unknown: FlashUse,
}

impl Default for Days {
    fn default() -> Self {
        Self {
            days: BTreeMap::new(),
            unknown: FlashUse::NONE,
        }
    }
}

/// Rest of the journal key of what is under no day.
const UNKNOWN: u32 = u32::MAX;

impl Days {
    /// From the journal; an entry that cannot be read tells nothing, as it is only statistics.
    pub(crate) fn from_journal<'a>(
        entries: impl Iterator<Item = (&'a JournalKey, &'a [u8])>,
    ) -> Self {
        let mut days = Self::default();
        for (key, value) in entries {
            let day = key.rest().try_into().map(u32::from_be_bytes);
            let (Ok(day), Ok(used)) = (day, FlashUse::from_stored(value)) else {
                tracing::warn!(%key, "An account of the flash cannot be read and is left out.");
                continue;
            };
            match day {
                UNKNOWN => days.unknown = used,
                day => drop(days.days.insert(UtcDay(day), used)),
            }
        }
        days
    }

    /// Counts `used` for `day`.
    pub(crate) fn add(&mut self, day: Option<UtcDay>, used: &FlashUse) {
        let sum = match day {
            None => &mut self.unknown,
            Some(day) => self.days.entry(day).or_insert(FlashUse::NONE),
        };
        *sum = sum.plus(used);
    }

    /// Journal entry of `day`.
    pub(crate) fn entry(&self, day: Option<UtcDay>) -> (JournalKey, Option<Vec<u8>>) {
        let used = match day {
            None => &self.unknown,
            Some(day) => self.days.get(&day).unwrap_or(&FlashUse::NONE),
        };
        (key_of(day), Some(used.to_stored()))
    }

    /// Forgets the oldest days above the bound; gives the journal entries that go.
    pub(crate) fn forget_oldest(&mut self) -> Vec<(JournalKey, Option<Vec<u8>>)> {
        let mut gone = Vec::new();
        while self.days.len() > DAYS_MAX
            && let Some((day, _)) = self.days.pop_first()
        {
            gone.push((key_of(Some(day)), None));
        }
        gone
    }

    pub(crate) fn unknown(&self) -> FlashUse {
        self.unknown
    }

    pub(crate) fn of(&self, day: UtcDay) -> Option<FlashUse> {
        self.days.get(&day).copied()
    }

    /// An average day of the seven before `today`, or of those since the first that is known: one on
    /// which the gateway was off counts as nothing.
    pub(crate) fn average_before(&self, today: UtcDay) -> Option<FlashUse> {
        let first = *self.days.first_key_value()?.0;
        let from = UtcDay(today.0.saturating_sub(DAYS_OF_AVERAGE)).max(first);
        let days = today.0.checked_sub(from.0).filter(|days| *days > 0)?;
        let sum = self
            .days
            .range(from..today)
            .fold(FlashUse::NONE, |sum, (_, used)| sum.plus(used));
        Some(sum.divided_by(u64::from(days)))
    }
}

fn key_of(day: Option<UtcDay>) -> JournalKey {
    let number = day.map_or(UNKNOWN, |day| day.0);
    JournalKey::new(JournalKind::Flash, &number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(bytes: u64) -> FlashUse {
        FlashUse {
            payload_bytes: bytes,
            dirtied_bytes: Some(bytes * 3),
            ..FlashUse::NONE
        }
    }

    #[test]
    fn dirtied_pages_are_told_without_those_never_written() {
        let text = "rchar: 1\nwchar: 2\nwrite_bytes: 40960\ncancelled_write_bytes: 4096\n";
        assert_eq!(dirtied_in(text), Some(36_864));
        assert_eq!(dirtied_in("rchar: 1\nwchar: 2\n"), None, "unknown is not 0");
        assert_eq!(dirtied_in(""), None);
    }

    #[test]
    fn dirtied_pages_are_unknown_when_much_was_written_and_none_are_counted() {
        assert!(!is_counted(0, WRITTEN_UNSEEN_BYTES));
        assert!(is_counted(4096, WRITTEN_UNSEEN_BYTES));
        assert!(is_counted(0, 100), "nothing may have reached the disk yet");
    }

    #[test]
    fn unknown_part_makes_the_sum_unknown() {
        let unknown = FlashUse {
            dirtied_bytes: None,
            ..used(7)
        };
        let sum = used(1).plus(&unknown);
        assert_eq!((sum.payload_bytes, sum.dirtied_bytes), (8, None));
        assert_eq!(used(9).since(&used(4)), used(5));
    }

    #[test]
    fn days_come_back_from_the_journal() {
        let mut days = Days::default();
        days.add(Some(UtcDay(20_000)), &used(5));
        days.add(Some(UtcDay(20_000)), &used(6));
        days.add(None, &used(2));
        let entries = [days.entry(Some(UtcDay(20_000))), days.entry(None)];
        let bad = (key_of(Some(UtcDay(3))), Some(vec![9, 9]));
        let stored: Vec<_> = entries.into_iter().chain([bad]).collect();
        let read = Days::from_journal(
            stored
                .iter()
                .map(|(key, value)| (key, value.as_deref().unwrap())),
        );
        assert_eq!(read.of(UtcDay(20_000)), Some(used(11)));
        assert_eq!(read.unknown(), used(2));
        assert_eq!(read.of(UtcDay(3)), None);
    }

    #[test]
    fn oldest_days_are_forgotten_above_the_bound() {
        let mut days = Days::default();
        for day in 0..40 {
            days.add(Some(UtcDay(day)), &used(1));
        }
        let gone = days.forget_oldest();
        let expected: Vec<_> = (0..9)
            .map(|day| (key_of(Some(UtcDay(day))), None))
            .collect();
        assert_eq!(gone, expected);
        assert_eq!(
            (days.of(UtcDay(8)), days.of(UtcDay(9))),
            (None, Some(used(1)))
        );
    }

    #[test]
    fn average_counts_days_without_the_gateway_as_nothing() {
        let mut days = Days::default();
        let today = UtcDay(100);
        assert_eq!(days.average_before(today), None);
        days.add(Some(today), &used(1_000));
        assert_eq!(days.average_before(today), None, "today is not over");
        days.add(Some(UtcDay(98)), &used(30));
        assert_eq!(days.average_before(today), Some(used(15)));
        days.add(Some(UtcDay(70)), &used(900));
        assert_eq!(days.average_before(today).unwrap().payload_bytes, 30 / 7);
    }

    #[test]
    fn day_of_a_time_is_utc() {
        assert_eq!(UtcDay::of(86_400_000 * 20_000), UtcDay(20_000));
        assert_eq!(UtcDay::of(86_400_000 * 20_000 - 1), UtcDay(19_999));
        assert_eq!(UtcDay::of(-5), UtcDay(0));
    }

    /// The bytes stand in the files of every gateway.
    #[test]
    fn stored_form_does_not_change() {
        let used = FlashUse {
            running_ms: 1,
            records: 2,
            payload_bytes: 3,
            commits: 4,
            commit_bytes: 5,
            written_bytes: 6,
            dirtied_bytes: Some(7),
            syncs: 8,
        };
        assert_eq!(used.to_stored(), [1, 1, 2, 3, 4, 5, 6, 1, 7, 8]);
    }
}
