//! Keeps the account of the flash for an open store: adds to the days, hands them to the journal,
//! and lets the flash budget decide the linger.
//!
//! Invariant: an account causes no write of its own unless records were committed since the last
//! one, and then at most one an hour: otherwise it would be what it counts.

use std::time::{Duration, Instant};

use crate::clock::TimeQuality;
use crate::flash::{Days, FlashStatus, FlashUse, UtcDay};
use crate::flash_budget::FlashBudget;
use crate::journal::{JournalKey, JournalState};
use crate::store::{Shared, StoreCounters};

/// How often sums are taken.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// How often the days are handed to the journal.
const NOTE_EVERY: Duration = Duration::from_secs(600);
/// How long they may wait for a commit to ride on.
pub(crate) const NOTE_WITHIN: Duration = Duration::from_secs(3600);

/// Journal entries to be written.
pub(crate) type Entries = Vec<(JournalKey, Option<Vec<u8>>)>;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct FlashAccount {
    opened: Instant,
    /// What the process had done when the store was opened.
    before: FlashUse,
    /// Sums since then that stand in the days.
    counted: FlashUse,
    sampled: Instant,
    days: Days,
    day: Option<UtcDay>,
    noted: Instant,
    /// Records in the journal's account.
    noted_records: u64,
    budget: FlashBudget,
}

/// What came out of a look at the sums.
#[derive(Debug)]
pub(crate) struct Taken {
    /// What commits are to wait for company.
    pub(crate) linger: Duration,
    /// For the journal.
    pub(crate) entries: Entries,
}

impl FlashAccount {
    /// Begins with the days in the journal. `before`: what the process had done before it opened the
    /// store.
    pub(crate) fn new(
        journal: &JournalState,
        before: FlashUse,
        bytes_per_day: Option<u64>,
        now: Instant,
    ) -> Self {
        let kind = crate::journal::JournalKind::Flash;
        Self {
            opened: now,
            before,
            counted: FlashUse::NONE,
            sampled: now,
            days: Days::from_journal(journal.of_kind(kind)),
            day: None,
            noted: now,
            noted_records: 0,
            budget: FlashBudget::new(bytes_per_day),
        }
    }

    /// Whether it is time for [`Self::take`].
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.sampled) >= SAMPLE_EVERY
    }

    /// Takes the sums. `day`: today, if the clock is known.
    pub(crate) fn take(
        &mut self,
        counters: &StoreCounters,
        day: Option<UtcDay>,
        now: Instant,
    ) -> Taken {
        let sums = self.sums(counters, now);
        self.sampled = now;
        let ended = (self.day != day).then_some(self.day);
        self.days.add(day, &sums.since(&self.counted));
        self.counted = sums;
        self.day = day;
        let linger = self.budget.sample(now, sums.wearing_bytes());
        let is_time = now.saturating_duration_since(self.noted) >= NOTE_EVERY;
        let entries = match is_time || ended.is_some() {
            true => self.note(now, ended.flatten()),
            false => Entries::new(),
        };
        Taken { linger, entries }
    }

    /// The entries for the journal, if there is anything to say; `ended`: a day that is over.
    fn note(&mut self, now: Instant, ended: Option<UtcDay>) -> Entries {
        if self.counted.records == self.noted_records {
            return Entries::new();
        }
        self.noted = now;
        self.noted_records = self.counted.records;
        let mut entries = self.days.forget_oldest();
        entries.push(self.days.entry(self.day));
        if ended.is_some() {
            entries.push(self.days.entry(ended));
        }
        if self.day.is_some() && self.days.unknown() != FlashUse::NONE {
            entries.push(self.days.entry(None));
        }
        entries
    }

    /// The last entries before the store closes.
    pub(crate) fn close(
        &mut self,
        counters: &StoreCounters,
        day: Option<UtcDay>,
        now: Instant,
    ) -> Entries {
        let ended = (self.day != day).then_some(self.day).flatten();
        let mut entries = self.take(counters, day, now).entries;
        entries.extend(self.note(now, ended));
        entries
    }

    fn sums(&self, counters: &StoreCounters, now: Instant) -> FlashUse {
        let ms = now.saturating_duration_since(self.opened).as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        FlashUse::of_process(counters, ms).since(&self.before)
    }

    /// How it stands now.
    pub(crate) fn status(
        &self,
        counters: &StoreCounters,
        day: Option<UtcDay>,
        now: Instant,
    ) -> FlashStatus {
        let since_start = self.sums(counters, now);
        let mut days = self.days.clone();
        days.add(day, &since_start.since(&self.counted));
        FlashStatus {
            since_start,
            today: day.and_then(|day| days.of(day)),
            yesterday: day.and_then(|day| days.of(UtcDay(day.0.checked_sub(1)?))),
            average_day: day.and_then(|day| days.average_before(day)),
            unknown_day: days.unknown(),
            budget: self.budget.status(),
        }
    }
}

impl Shared {
    /// Begins it at what the process had done before it opened the store.
    pub(crate) fn begin_flash_account(&self, before: FlashUse) {
        let budget = self.options.flash_budget_bytes_per_day;
        let account = FlashAccount::new(&self.state().journal, before, budget, Instant::now());
        *self.flash() = account;
    }

    /// Once in a while: brings the account up to date, and the linger that follows from it.
    pub(crate) fn keep_flash_account(&self) {
        let now = Instant::now();
        if !self.flash().is_due(now) {
            return;
        }
        let day = self.utc_day();
        let taken = self.flash().take(&self.counters, day, now);
        let linger = std::mem::replace(&mut self.state().linger, taken.linger);
        if linger.is_zero() != taken.linger.is_zero() {
            let linger_ms = taken.linger.as_millis();
            tracing::info!(
                linger_ms,
                "Commits linger to keep to the flash budget, or no longer."
            );
        }
        self.put_in_time(taken.entries, now);
    }

    /// Hands the last of it to the journal, before the store closes.
    pub(crate) fn close_flash_account(&self) {
        let (day, now) = (self.utc_day(), Instant::now());
        let entries = self.flash().close(&self.counters, day, now);
        self.put_in_time(entries, now);
    }

    fn put_in_time(&self, entries: Entries, now: Instant) {
        if entries.is_empty() {
            return;
        }
        let mut state = self.state();
        for (key, value) in entries {
            state.put(key, value, now, NOTE_WITHIN);
        }
        drop(state);
        self.wake_committer();
    }

    pub(crate) fn flash_status(&self) -> FlashStatus {
        let day = self.utc_day();
        self.flash().status(&self.counters, day, Instant::now())
    }

    /// Today, if a time service has set the clock.
    fn utc_day(&self) -> Option<UtcDay> {
        let now = self.now();
        (now.quality == TimeQuality::Synced).then(|| UtcDay::of(now.ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(now: Instant) -> (FlashAccount, StoreCounters) {
        let journal = JournalState::default();
        let account = FlashAccount::new(&journal, FlashUse::NONE, None, now);
        (account, StoreCounters::default())
    }

    fn days_in(entries: &Entries) -> Vec<Option<u32>> {
        entries
            .iter()
            .map(|(key, _)| key.rest().try_into().ok().map(u32::from_be_bytes))
            .collect()
    }

    #[test]
    fn account_is_noted_only_for_records_and_rarely() {
        let start = Instant::now();
        let (mut account, counters) = account(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let day = Some(UtcDay(20_000));
        assert!(!account.is_due(at(9)));
        assert!(account.is_due(at(10)));
        // Without a record, nothing is ever written.
        for seconds in [10, 700, 9_000] {
            assert!(account.take(&counters, day, at(seconds)).entries.is_empty());
        }
        counters.committed(1, 100, 50);
        assert_eq!(
            days_in(&account.take(&counters, day, at(9_001)).entries),
            [Some(20_000)]
        );
        counters.committed(1, 100, 50);
        assert!(account.take(&counters, day, at(9_500)).entries.is_empty());
        assert_eq!(
            days_in(&account.take(&counters, day, at(9_601)).entries),
            [Some(20_000)]
        );
        assert!(account.take(&counters, day, at(20_000)).entries.is_empty());
    }

    #[test]
    fn day_that_ends_is_noted_with_the_new_one() {
        let start = Instant::now();
        let (mut account, counters) = account(start);
        account.take(&counters, Some(UtcDay(7)), start + SAMPLE_EVERY);
        counters.committed(3, 100, 50);
        let next = account.take(&counters, Some(UtcDay(8)), start + 2 * SAMPLE_EVERY);
        assert_eq!(days_in(&next.entries), [Some(8), Some(7)]);
    }

    #[test]
    fn closing_notes_what_came_since() {
        let start = Instant::now();
        let (mut account, counters) = account(start);
        assert!(
            account.close(&counters, None, start).is_empty(),
            "nothing was committed"
        );
        counters.committed(3, 100, 50);
        let entries = account.close(&counters, None, start + SAMPLE_EVERY);
        assert_eq!(days_in(&entries), [Some(u32::MAX)]);
    }

    #[test]
    fn sums_of_payloads_and_commits_go_to_the_day() {
        let start = Instant::now();
        let (mut account, counters) = account(start);
        counters.committed(3, 100, 50);
        let day = Some(UtcDay(7));
        account.take(&counters, day, start + SAMPLE_EVERY);
        counters.committed(1, 10, 5);
        let today = account
            .status(&counters, day, start + SAMPLE_EVERY)
            .today
            .unwrap();
        assert_eq!((today.records, today.commits), (4, 2));
        assert_eq!((today.payload_bytes, today.commit_bytes), (55, 110));
        assert_eq!(today.running_ms, 10_000);
    }
}
