//! Cold entries of the journal, and entries that share the commit of a record.
//!
//! Cold ones change in groups, each group with one commit; so what is shown is exactly what was
//! promised, or that and some of the groups that were on their way, in their order. Of the records,
//! each fifth has an entry of its own, which the record fifty of these later removes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use storage::{JournalKey, JournalKind, Store};

use crate::check::{Examined, survived};
use crate::content;
use crate::expectation::{Expectation, Written};

/// Entries as the store takes them.
pub(crate) type Entries = Vec<(JournalKey, Option<Vec<u8>>)>;

/// A cold entry that was set or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cold {
    pub(crate) name: String,
    /// Of the last record before it.
    pub(crate) number: u64,
    pub(crate) removed: bool,
}

impl Cold {
    /// As the store takes it, with a value of about `bytes`.
    pub(crate) fn entry(&self, bytes: usize) -> (JournalKey, Option<Vec<u8>>) {
        let key = JournalKey::new(JournalKind::Session, self.name.as_bytes());
        let value = || {
            let mut value = self.number.to_be_bytes().to_vec();
            value.extend(content::payload(self.number, bytes));
            value
        };
        (key, (!self.removed).then(value))
    }
}

const WITH_ENTRY: u64 = 5;
const REMOVED_AFTER: u64 = 50 * WITH_ENTRY;

/// What is set and removed together with record `number`.
pub(crate) fn entries_with(number: u64) -> Entries {
    if !number.is_multiple_of(WITH_ENTRY) {
        return Vec::new();
    }
    let key = |number: u64| JournalKey::new(JournalKind::Received, &number.to_be_bytes());
    let mut entries = vec![(key(number), Some(vec![1]))];
    entries.extend(
        number
            .checked_sub(REMOVED_AFTER)
            .map(|old| (key(old), None)),
    );
    entries
}

/// The numbers of the cold entries that are there.
type Shown = BTreeMap<String, u64>;

pub(crate) fn compare_cold(store: &Store, expected: &Expectation, examined: &mut Examined) {
    let shown = match shown(store) {
        Ok(shown) => shown,
        Err(error) => return examined.find("cold entry", format!("{error:#}")),
    };
    let mut allowed: Shown = BTreeMap::new();
    apply(&mut allowed, expected.cold.values());
    let mut is_allowed = allowed == shown;
    let promised = allowed.clone();
    for promise in &expected.in_flight {
        apply(&mut allowed, &promise.cold);
        is_allowed |= allowed == shown;
    }
    if !is_allowed {
        let lost: Vec<_> = promised
            .iter()
            .filter(|(n, v)| shown.get(*n) != Some(v))
            .collect();
        let news: Vec<_> = shown
            .iter()
            .filter(|(n, v)| promised.get(*n) != Some(v))
            .collect();
        let what = format!("promised was {lost:?}, there is {news:?}");
        examined.find("cold entry", what);
    }
    // They were put after these records, which cannot be missing.
    let there = survived(expected, examined);
    let newest = shown.values().max().copied().unwrap_or(0);
    let mut before = expected.in_flight.iter().flat_map(|p| &p.records);
    if let Some(missing) = before.find(|w| w.number <= newest && !there.contains(&w.number)) {
        let what = format!("number {newest}, but record {} is missing", missing.number);
        examined.find("cold entry is ahead", what);
    }
    let known = expected.cold.keys();
    let known = known.chain(
        expected
            .in_flight
            .iter()
            .flat_map(|p| p.cold.iter().map(|c| &c.name)),
    );
    let names: BTreeSet<_> = known.chain(shown.keys()).cloned().collect();
    let now = names.into_iter().map(|name| Cold {
        number: shown.get(&name).copied().unwrap_or(0),
        removed: !shown.contains_key(&name),
        name,
    });
    examined.shown.cold = now.collect();
}

fn apply<'a>(to: &mut Shown, changes: impl IntoIterator<Item = &'a Cold>) {
    for change in changes {
        match change.removed {
            true => to.remove(&change.name),
            false => to.insert(change.name.clone(), change.number),
        };
    }
}

fn shown(store: &Store) -> Result<Shown> {
    let mut shown = BTreeMap::new();
    for entry in store.cold_entries(JournalKind::Session) {
        let (name, value) = entry?;
        let name = String::from_utf8(name)?;
        let number = value.split_first_chunk::<8>().and_then(|(number, fill)| {
            let number = u64::from_be_bytes(*number);
            (content::payload(number, fill.len()) == fill).then_some(number)
        });
        let number = number.with_context(|| format!("{name} has a wrong value"))?;
        let alone = store.journal_entry(&JournalKey::new(JournalKind::Session, name.as_bytes()));
        anyhow::ensure!(
            alone == Some(value),
            "{name} is {alone:?} when it is read alone"
        );
        anyhow::ensure!(shown.insert(name, number).is_none(), "an entry came twice");
    }
    Ok(shown)
}

/// An entry is there exactly if the record is whose commit it shares.
pub(crate) fn compare_shared(store: &Store, expected: &Expectation, examined: &mut Examined) {
    let mut durable = survived(expected, examined);
    let acknowledged = expected.records.values().flat_map(BTreeMap::values);
    durable.extend(acknowledged);
    let is_there = |number: &&u64| {
        number.is_multiple_of(WITH_ENTRY) && !durable.contains(&(**number + REMOVED_AFTER))
    };
    let wanted: BTreeSet<u64> = durable.iter().filter(is_there).copied().collect();
    let found = store.journal_entries(JournalKind::Received).into_iter();
    let found: BTreeSet<u64> = found
        .filter_map(|(key, _)| Some(u64::from_be_bytes(key.rest().try_into().ok()?)))
        .collect();
    if let Some(number) = wanted.symmetric_difference(&found).next() {
        let is = found.contains(number);
        let what = format!("record {number}: its entry is there: {is}");
        examined.find("entry without its record, or none with it", what);
    }
}

/// Cold entries that are written to a recovered store: a new one, and one that goes.
pub(crate) fn after_check(shown: &[Cold], number: u64) -> Vec<Cold> {
    let goes = shown.iter().find(|cold| !cold.removed);
    let goes = goes.map(|cold| Cold {
        number,
        removed: true,
        ..cold.clone()
    });
    let comes = Cold {
        name: format!("check {number}"),
        number,
        removed: false,
    };
    goes.into_iter().chain([comes]).collect()
}

/// The number of the newest record of a group.
pub(crate) fn newest(records: &[Written]) -> u64 {
    records.iter().map(|w| w.number).max().unwrap_or(0)
}
