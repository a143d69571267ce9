//! The home of cold journal entries: of kinds of which there may be many thousands that hardly ever
//! change, such as sessions. Each segment begins with the whole journal; they must not be in it.
//!
//! The journal is their write-ahead log. A change rides in a commit like any other, and stands in the
//! journal until the keeper has moved it here, into the metadata, and that is flushed; then the entry
//! in the journal goes with a later commit (`crate::store::cold`). A removal is an empty value in the
//! journal until it was moved likewise. So the journal's word, where it has one, is the newer one.
//!
//! ```text
//! tree      key                                            value, in pieces as in crate::metadata
//! cold      kind u8 | length of rest u16 | rest | piece    version u8 = 1 | commit u64 | value
//! (default) "cold"                         | piece         HomeState
//! ```
//!
//! The length, so that the pieces of one entry lie side by side whatever bytes a name has. The commit
//! is the one after which the value was the newest: if the log has lost its end and ends before it,
//! the journal's word is the older one.
//!
//! Invariants: an entry leaves the journal only when what it says is flushed here; the number in
//! [`HomeState`] is never above that of the entries that are there, wherever a write ends.
//!
//! Not for: what must agree with the log to the record at every moment, such as positions of the
//! bridge: those stay in the journal.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, BufMut as _};
use serde::{Deserialize, Serialize};

use crate::encoding::{EncodingError, Stored};
use crate::ids::CommitNumber;
use crate::journal::{JournalKey, JournalKind, JournalState, Operation};
use crate::metadata::{self, MetadataError, Unreadable};

/// Bytes of what tells cold entries of a kind apart: sled writes a page of 16 entries that grows above
/// 128 KiB into a file of its own, which it never syncs.
pub(crate) const COLD_KEY_BYTES_MAX: usize = 1024;
const VALUE_VERSION: u8 = 1;
const VALUE_HEADER_BYTES: usize = 9;
const STATE_KEY: &[u8] = b"cold";
/// Entries that are read at once.
const PAGE: usize = 64;

/// What the home says of itself, and the journal of the home: one of an earlier state, or an empty one
/// in the place of one that was lost, is behind what the journal says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HomeState {
    /// How often something was moved here.
    pub(crate) generation: u64,
    /// Entries, at least.
    pub(crate) entries: u64,
    /// The newest commit of which anything is here.
    pub(crate) as_of: CommitNumber,
}

impl Stored for HomeState {
    const VERSION: u8 = 1;
}

impl HomeState {
    /// Where the journal has it.
    pub(crate) fn key() -> JournalKey {
        JournalKey::new(JournalKind::ColdHome, b"")
    }
}

/// A value and the commit after which it was the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ColdValue {
    as_of: CommitNumber,
    value: Vec<u8>,
}

/// A change on its way here; `None` removes the entry.
pub(crate) type ColdChange = (JournalKey, Option<Vec<u8>>);

/// Entries whose home is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColdLoss {
    pub(crate) held: u64,
    pub(crate) found: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct ColdHome {
    database: sled::Db,
    tree: sled::Tree,
    /// Also held while an entry is written, or a few are read: pieces of two values must not mix.
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    state: HomeState,
    /// What was written since the last flush that succeeded.
    is_unflushed: bool,
    /// Entries as they were found when it was opened: how many, and those that cannot be read.
    found: u64,
    torn: Vec<JournalKey>,
}

impl ColdHome {
    /// Opens the home in the metadata, and reads all of it once: sled opens many a database of which
    /// it cannot read every page.
    pub(crate) fn open(database: &sled::Db) -> Result<Self, MetadataError> {
        let tree = database.open_tree("cold")?;
        let state = metadata::get(database, STATE_KEY)?.and_then(Result::ok);
        let state = state.and_then(|state| HomeState::from_stored(&state).ok());
        let home = Self {
            database: database.clone(),
            tree,
            held: Mutex::new(Held {
                state: state.unwrap_or_default(),
                is_unflushed: false,
                found: 0,
                torn: Vec::new(),
            }),
        };
        let (mut found, mut torn) = (0, Vec::new());
        for entry in home.all(None) {
            let (key, value) = entry?;
            found += 1;
            if matches!(value, Err(Unreadable::Torn)) {
                torn.push(key);
            }
        }
        let mut held = home.held();
        (held.found, held.torn) = (found, torn);
        drop(held);
        Ok(home)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it says of itself.
    pub(crate) fn state(&self) -> HomeState {
        self.held().state
    }

    /// Compares it, when a folder is opened, with the journal as it was recovered up to `last_commit`.
    /// What is useless goes: entries that cannot be read, and words of the journal that are older
    /// than what is here. Tells if entries are lost; that is told once. Not flushed.
    pub(crate) fn settle(
        &self,
        journal: &mut JournalState,
        last_commit: CommitNumber,
    ) -> Result<Option<ColdLoss>, MetadataError> {
        let mut held = self.held();
        let torn = std::mem::take(&mut held.torn);
        // What the journal has is moved here again; an interrupted write is no loss.
        let (_, lost): (Vec<_>, Vec<_>) =
            torn.into_iter().partition(|key| journal.get(key).is_some());
        for key in &lost {
            tracing::warn!(%key, "Cold entry cannot be read and is passed over.");
            metadata::remove(&self.tree, &stored_key(key))?;
        }
        held.found = held.found.saturating_sub(lost.len() as u64);
        for kind in JournalKind::COLD {
            let keys: Vec<_> = journal.of_kind(kind).map(|(key, _)| key.clone()).collect();
            for key in keys {
                let home = metadata::get(&self.tree, &stored_key(&key))?.and_then(Result::ok);
                let home = home.and_then(|value| ColdValue::decode(&value).ok());
                if home.is_some_and(|home| home.as_of > last_commit) {
                    journal.apply(Operation::Delete { key });
                }
            }
        }
        let known = journal.get(&HomeState::key());
        let known = known.and_then(|known| HomeState::from_stored(known).ok());
        let known = known.unwrap_or_default();
        let found = held.found;
        let expected = match known.generation > held.state.generation {
            true => Some(known.entries),
            false => (held.state.entries > found).then_some(held.state.entries),
        };
        held.state.entries = found;
        if expected.is_some() {
            let generation = known.generation.max(held.state.generation) + 1;
            held.state.generation = generation;
            metadata::put(&self.database, STATE_KEY, &held.state.to_stored())?;
            let (key, value) = (HomeState::key(), held.state.to_stored());
            journal.apply(Operation::Put { key, value });
        }
        Ok(expected.map(|held| ColdLoss { held, found }))
    }

    /// Takes changes as they are after commit `as_of`, durably, and says what it holds then.
    pub(crate) fn take(
        &self,
        changes: &[ColdChange],
        as_of: CommitNumber,
    ) -> Result<HomeState, MetadataError> {
        let mut state = self.state();
        let (mut news, mut added, mut removed) = (Vec::new(), 0, 0);
        for (key, value) in changes {
            let stored = stored_key(key);
            let here = metadata::get(&self.tree, &stored)?;
            added += u64::from(here.is_none() && value.is_some());
            removed += u64::from(here.is_some() && value.is_none());
            let here = here.map(|here| here.ok().and_then(|here| ColdValue::decode(&here).ok()));
            let is_as_here = match (&here, value) {
                (None, None) => true,
                (Some(Some(here)), Some(value)) => here.value == *value,
                _ => false,
            };
            if !is_as_here {
                news.push((stored, value));
            }
        }
        if !news.is_empty() {
            self.held().is_unflushed = true;
            if removed > 0 {
                state.entries = state.entries.saturating_sub(removed);
                self.write_state(state)?;
            }
            for (key, value) in news {
                let _whole = self.held();
                match value {
                    Some(value) => metadata::put(&self.tree, &key, &encode(as_of, value))?,
                    None => metadata::remove(&self.tree, &key)?,
                }
            }
            state.entries += added;
            state.generation += 1;
            state.as_of = state.as_of.max(as_of);
            self.write_state(state)?;
        }
        if self.held().is_unflushed {
            self.database.flush()?;
        }
        self.held().is_unflushed = false;
        Ok(state)
    }

    fn write_state(&self, state: HomeState) -> Result<(), MetadataError> {
        // Also if it fails: the number is what is there at least.
        self.held().state = state;
        metadata::put(&self.database, STATE_KEY, &state.to_stored())
    }

    /// The value of an entry; one that cannot be read is passed over.
    pub(crate) fn get(&self, key: &JournalKey) -> Result<Option<Vec<u8>>, MetadataError> {
        let stored = {
            let _whole = self.held();
            metadata::get(&self.tree, &stored_key(key))?
        };
        Ok(stored.and_then(|stored| readable(key, stored.and_then(|s| ColdValue::decode(&s)))))
    }

    /// The entries of a kind, but for those that cannot be read. What changes meanwhile may be there
    /// as before or after.
    pub(crate) fn of_kind(
        &self,
        kind: JournalKind,
    ) -> impl Iterator<Item = Result<(JournalKey, Vec<u8>), MetadataError>> + use<'_> {
        self.all(Some(kind)).filter_map(|entry| match entry {
            Ok((key, value)) => readable(&key, value).map(|value| Ok((key, value))),
            Err(error) => Some(Err(error)),
        })
    }

    /// All entries, or those of a kind, a page at a time.
    fn all(
        &self,
        kind: Option<JournalKind>,
    ) -> impl Iterator<Item = Result<Entry, MetadataError>> + use<'_> {
        let mut next = vec![kind.map_or(0, |kind| kind as u8)];
        let end = kind.map_or_else(|| vec![u8::MAX; 4], |kind| vec![kind as u8 + 1]);
        let mut page = Vec::new().into_iter();
        let mut is_over = false;
        std::iter::from_fn(move || {
            if page.len() == 0 && !is_over {
                let read: Vec<_> = {
                    let _whole = self.held();
                    let range = self.tree.range(next.clone()..end.clone());
                    metadata::put_together(range).take(PAGE).collect()
                };
                is_over = read.len() < PAGE;
                if let Some(Ok((key, _))) = read.last() {
                    // Behind the last piece that it can have.
                    next = [key.as_slice(), &[u8::MAX; 2], &[0]].concat();
                } else {
                    is_over = true;
                }
                page = read.into_iter();
            }
            let entry = page.next()?;
            Some(entry.map(|(key, value)| {
                let value = value.ok_or(Unreadable::Torn);
                (
                    key_of(&key),
                    value.and_then(|value| ColdValue::decode(&value)),
                )
            }))
        })
    }

    /// Reads every entry: how many there are, and what is wrong with the others.
    pub(crate) fn check(&self) -> Result<(u64, Vec<String>), MetadataError> {
        let (mut count, mut problems) = (0, Vec::new());
        for entry in self.all(None) {
            let (key, value) = entry?;
            match value {
                Ok(_) => count += 1,
                Err(problem) => {
                    problems.push(format!("the cold entry {key} cannot be read: {problem}"));
                }
            }
        }
        let entries = self.state().entries;
        if count + (problems.len() as u64) < entries {
            problems.push(format!(
                "{entries} cold entries are expected, {count} are there"
            ));
        }
        Ok((count, problems))
    }
}

/// An entry as it was read.
type Entry = (JournalKey, Result<ColdValue, Unreadable>);

fn readable(key: &JournalKey, value: Result<ColdValue, Unreadable>) -> Option<Vec<u8>> {
    match value {
        Ok(value) => Some(value.value),
        Err(problem) => {
            tracing::warn!(%key, %problem, "Cold entry passed over.");
            None
        }
    }
}

fn encode(as_of: CommitNumber, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(VALUE_HEADER_BYTES + value.len());
    stored.put_u8(VALUE_VERSION);
    stored.put_u64(as_of.0);
    stored.extend_from_slice(value);
    stored
}

impl ColdValue {
    fn decode(mut stored: &[u8]) -> Result<Self, Unreadable> {
        let version = stored.first().copied().unwrap_or(0);
        if version != VALUE_VERSION || stored.len() < VALUE_HEADER_BYTES {
            return Err(Unreadable::Encoding(EncodingError::Version {
                found: version,
                known: VALUE_VERSION,
            }));
        }
        stored.advance(1);
        Ok(Self {
            as_of: CommitNumber(stored.get_u64()),
            value: stored.to_vec(),
        })
    }
}

fn stored_key(key: &JournalKey) -> Vec<u8> {
    let rest = key.rest();
    let length = u16::try_from(rest.len()).unwrap_or(u16::MAX);
    [&[key.kind()], length.to_be_bytes().as_slice(), rest].concat()
}

fn key_of(stored: &[u8]) -> JournalKey {
    JournalKey::of_bytes(match stored {
        [kind, _, _, rest @ ..] => [&[*kind], rest].concat(),
        other => other.to_vec(),
    })
}

#[cfg(test)]
mod tests;
