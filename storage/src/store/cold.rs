//! Moving cold journal entries to their home in the metadata (`crate::cold`), and reading them.
//!
//! The keeper moves what is durable, in one batch, when there is much of it or it is old; nothing is
//! written when nothing changed. Only when the batch is flushed do the entries leave the journal, with
//! a commit that comes anyway or within a minute.
//!
//! Invariant: an entry leaves the journal only if it was not changed since it was taken for the move,
//! not by a commit that is still on its way either.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cold::{ColdChange, HomeState};
use crate::encoding::Stored as _;
use crate::free_memory;
use crate::ids::CommitNumber;
use crate::journal::{JournalKey, JournalKind};
use crate::metadata::MetadataError;
use crate::store::state::State;
use crate::store::{Health, Shared, Store};

/// How old the oldest change becomes at most before it is moved.
const MOVE_AFTER: Duration = Duration::from_secs(30);
/// Changes are moved earlier when they have this many bytes, or this part of a segment: so much more
/// than nothing is in the snapshot that each segment begins with.
const MOVE_BYTES: usize = 64 * 1024;
const MOVE_PART: u64 = 64;
/// Bytes and entries that one round moves at most; it may be one entry more.
const ROUND_BYTES: usize = 512 * 1024;
const ROUND_ENTRIES: usize = 4096;
/// How long entries that were moved wait for a commit to leave the journal with.
const LEAVE_WITHIN: Duration = Duration::from_secs(60);

/// The cold entries that the journal has, or will have with commits on their way.
#[derive(Debug, Default)]
pub(crate) struct ColdChanges {
    changes: BTreeMap<JournalKey, Change>,
    bytes: usize,
    /// When the oldest of them was made, or taken over by this process.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    /// The last that changed it.
    commit: CommitNumber,
    bytes: usize,
}

impl ColdChanges {
    /// An entry is changed by `commit`. Returns what is to be stored: of a cold one that is removed,
    /// an empty value, so that the journal has a word on it until its home has lost it.
    pub(crate) fn note(
        &mut self,
        key: &JournalKey,
        value: Option<Vec<u8>>,
        commit: CommitNumber,
        now: Instant,
    ) -> Option<Vec<u8>> {
        if !key.is_cold() {
            return value;
        }
        let value = value.unwrap_or_default();
        let bytes = key.size_bytes() + value.len();
        self.forget(key);
        self.changes.insert(key.clone(), Change { commit, bytes });
        self.bytes += bytes;
        self.since.get_or_insert(now);
        Some(value)
    }

    fn forget(&mut self, key: &JournalKey) {
        if let Some(change) = self.changes.remove(key) {
            self.bytes -= change.bytes;
        }
    }

    fn is_due(&self, now: Instant, bytes_max: usize) -> bool {
        let is_old = self
            .since
            .is_some_and(|since| now.saturating_duration_since(since) >= MOVE_AFTER);
        !self.changes.is_empty() && (is_old || self.bytes > bytes_max)
    }

    /// What was changed first, of that what is on flash.
    fn oldest(&self, durable: CommitNumber) -> Vec<(CommitNumber, JournalKey)> {
        let changes = self.changes.iter();
        let mut changes: Vec<_> = changes
            .filter(|(_, change)| change.commit <= durable)
            .map(|(key, change)| (change.commit, key, change.bytes))
            .collect();
        changes.sort_unstable();
        let mut bytes = 0;
        let within = |(_, _, size): &(CommitNumber, &JournalKey, usize)| {
            let before = bytes;
            bytes += size;
            before <= ROUND_BYTES
        };
        let taken = changes.into_iter().take_while(within).take(ROUND_ENTRIES);
        taken
            .map(|(commit, key, _)| (commit, key.clone()))
            .collect()
    }

    /// An entry was moved as it was after `commit`: whether it may leave the journal.
    fn release(&mut self, key: &JournalKey, commit: CommitNumber) -> bool {
        let change = self.changes.get(key);
        let is_unchanged = change.is_some_and(|change| change.commit == commit);
        if is_unchanged {
            self.forget(key);
        }
        is_unchanged
    }
}

/// Entries that are moved at once.
struct Batch {
    as_of: CommitNumber,
    changed_by: Vec<CommitNumber>,
    changes: Vec<ColdChange>,
}

impl State {
    /// Takes over the cold entries that a recovered journal has.
    pub(crate) fn note_recovered_cold(&mut self, now: Instant) {
        for kind in JournalKind::COLD {
            for (key, value) in self.journal.of_kind(kind) {
                let value = Some(value.to_vec());
                self.cold.note(key, value, self.durable, now);
            }
        }
    }

    /// Cold entries that stand in the journal.
    pub(crate) fn cold_in_journal(&self) -> usize {
        let counts = JournalKind::COLD.map(|kind| self.journal.of_kind(kind).count());
        counts.into_iter().sum()
    }

    fn cold_batch(&self, now: Instant, bytes_max: usize) -> Option<Batch> {
        if !self.cold.is_due(now, bytes_max) {
            return None;
        }
        let (changed_by, keys): (Vec<_>, Vec<_>) =
            self.cold.oldest(self.durable).into_iter().unzip();
        let changes: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let value = self.journal.get(&key).filter(|value| !value.is_empty());
                let value = value.map(<[u8]>::to_vec);
                (key, value)
            })
            .collect();
        (!changes.is_empty()).then_some(Batch {
            as_of: self.durable,
            changed_by,
            changes,
        })
    }

    /// Lets what was moved leave the journal, but for what was changed since.
    fn release_cold(&mut self, batch: Batch, home: HomeState, now: Instant) {
        let mut released = Vec::new();
        for ((key, _), commit) in batch.changes.into_iter().zip(batch.changed_by) {
            if self.cold.release(&key, commit) {
                released.push(key);
            }
        }
        self.cold.since = (!self.cold.changes.is_empty()).then_some(now);
        for key in released {
            self.put(key, None, now, LEAVE_WITHIN);
        }
        let stored = Some(home.to_stored());
        self.put(HomeState::key(), stored, now, LEAVE_WITHIN);
    }
}

/// Moves a batch of cold entries, if it is time. Whatever it ends with, the journal has the entries
/// until they are flushed elsewhere.
pub(crate) fn move_cold(shared: &Shared) -> Result<(), MetadataError> {
    let part = usize::try_from(shared.options.segment_bytes / MOVE_PART).unwrap_or(usize::MAX);
    let batch = {
        let state = shared.state();
        let is_any_configured = state.logs.values().any(|log| log.options.is_some());
        if !is_any_configured {
            return Ok(()); // Somebody only looks at the folder.
        }
        // Half of the reserve is left for the journal, in which the entries can wait.
        let reserve = shared.options.free_space_reserve_bytes;
        let is_full = matches!(state.health, Health::DiskFull { .. });
        if is_full && shared.counters.free_bytes() < reserve / 2 {
            return Ok(());
        }
        state.cold_batch(Instant::now(), MOVE_BYTES.min(part))
    };
    let Some(batch) = batch else {
        return Ok(());
    };
    let home = shared.metadata.cold.take(&batch.changes, batch.as_of)?;
    tracing::debug!(
        count = batch.changes.len(),
        entries = home.entries,
        "Cold entries moved."
    );
    shared.state().release_cold(batch, home, Instant::now());
    // A crowd of clients came or went, and what their entries took is free with the next commit.
    free_memory::release();
    shared.wake_committer();
    Ok(())
}

impl Shared {
    /// The value of an entry, as it is on flash.
    pub(crate) fn entry(&self, key: &JournalKey) -> Option<Vec<u8>> {
        // In this order: what has left the journal was at home before.
        if let Some(value) = self.state().journal.get(key) {
            let is_removed = key.is_cold() && value.is_empty();
            return (!is_removed).then(|| value.to_vec());
        }
        if !key.is_cold() {
            return None;
        }
        self.metadata.cold.get(key).unwrap_or_else(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::error!(%key, error, "Cold entry cannot be read.");
            None
        })
    }
}

impl Store {
    /// All entries of a cold kind (such as [`JournalKind::Session`]), as they are on flash: what follows
    /// the kind in their keys, and their values, in no particular order. What changes meanwhile may be
    /// as before or after; everything else comes exactly once. Only what changed last is in memory.
    /// Reads from flash. An entry that cannot be read is passed over, with a warning.
    ///
    /// # Errors
    /// The metadata database cannot be read on.
    pub fn cold_entries(
        &self,
        kind: JournalKind,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), MetadataError>> + use<'_> {
        // In this order: what has left the journal was at home before.
        let changed: BTreeMap<_, _> = {
            let state = self.shared.state();
            let changed = state.journal.of_kind(kind);
            changed.map(|(k, v)| (k.clone(), v.to_vec())).collect()
        };
        let mut changed_keys: Vec<_> = changed.keys().cloned().collect();
        changed_keys.sort_unstable();
        let of_journal = changed
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(Ok);
        let at_home = self.shared.metadata.cold.of_kind(kind);
        let at_home = at_home.filter(move |entry| match entry {
            Ok((key, _)) => changed_keys.binary_search(key).is_err(),
            Err(_) => true,
        });
        let all = of_journal.chain(at_home);
        all.map(|entry| entry.map(|(key, value)| (key.rest().to_vec(), value)))
    }
}

#[cfg(test)]
mod tests;
