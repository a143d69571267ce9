//! The balance: what the devices know against what is upstream.
//!
//! Not for: I/O. Records are taken one by one, partition by partition in the order of their offsets.
//!
//! Invariant: a record counts as a device's message only if client, topic and every byte of the
//! payload are what the device sent under that number.

mod report;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use record_batch::Record;

use super::device::{DeviceBooks, TopicBooks};
use super::message::{client_id, number_in};

pub(super) use report::{GatewayBooks, Report};

/// Findings of one sort that are told with their place; further ones are only counted.
const EXAMPLES_MAX: usize = 3;

/// Findings of one sort.
#[derive(Clone, Debug, Default)]
struct Findings {
    count: u64,
    examples: Vec<String>,
}

impl Findings {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

/// A topic of a device, and what was found of it.
#[derive(Debug)]
struct Tally {
    device: u16,
    books: TopicBooks,
    /// What was found of each number; the first is number 1.
    found: Vec<Found>,
    highest: u64,
    /// Topic and partition of the cluster where the first record was.
    place: Option<(String, i32)>,
}

/// What was found of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    times: u32,
    /// Where it was found first.
    offset: i64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Balance {
    seed: u64,
    tallies: BTreeMap<String, Tally>,
    devices: Vec<DeviceBooks>,
    /// Offset of the first record with each.
    tg_ids: HashMap<Bytes, i64>,
    records: u64,
    twice: Findings,
    out_of_order: Findings,
    unknown: Findings,
}

impl Balance {
    /// An empty balance of these devices, whose payloads follow from `seed`.
    pub(super) fn new(seed: u64, devices: Vec<DeviceBooks>) -> Self {
        let mut tallies = BTreeMap::new();
        for books in &devices {
            for topic in &books.topics {
                let published = usize::try_from(topic.published).unwrap_or(usize::MAX);
                let tally = Tally {
                    device: books.device,
                    books: *topic,
                    found: vec![Found::default(); published],
                    highest: 0,
                    place: None,
                };
                tallies.insert(topic.kind.topic(books.device), tally);
            }
        }
        Self {
            seed,
            tallies,
            devices,
            tg_ids: HashMap::new(),
            records: 0,
            twice: Findings::default(),
            out_of_order: Findings::default(),
            unknown: Findings::default(),
        }
    }

    /// A record that is upstream.
    pub(super) fn take(&mut self, topic: &str, partition: i32, record: &Record) {
        self.records += 1;
        let place = format!("{topic}-{partition} offset {}", record.offset);
        let mqtt_topic = header(record, b"mqtt-topic").unwrap_or_default();
        let mqtt_topic = String::from_utf8_lossy(&mqtt_topic).into_owned();
        let seed = self.seed;
        let tally = self.tallies.get_mut(&mqtt_topic);
        let known = tally.and_then(|tally| {
            let number = tally.number_of(seed, record)?;
            Some((tally, number))
        });
        let Some((tally, number)) = known else {
            self.unknown
                .add(|| format!("{place}: topic {mqtt_topic:?}"));
            self.take_tg_id(record, &place, "no device's message");
            return;
        };
        let message = format!("{} {mqtt_topic} message {number}", client_id(tally.device));
        // A copy by the bridge is not one by the device.
        if self.take_tg_id(record, &place, &message)
            && let Some(tally) = self.tallies.get_mut(&mqtt_topic)
            && let Err(problem) = tally.take(number, (topic, partition), record.offset)
        {
            self.out_of_order
                .add(|| format!("{message} at {place}: {problem}"));
        }
    }

    /// Every record has an id that no other has: false if another has it.
    fn take_tg_id(&mut self, record: &Record, place: &str, message: &str) -> bool {
        let Some(id) = header(record, b"tg-id") else {
            self.unknown
                .add(|| format!("{place}: {message}, without a tg-id"));
            return true;
        };
        // A copy: the slice would hold on to the whole answer that it came in.
        match self.tg_ids.entry(Bytes::copy_from_slice(&id)) {
            Entry::Occupied(first) => {
                let (first, id) = (first.get(), String::from_utf8_lossy(&id));
                self.twice
                    .add(|| format!("{message} at {place} and at offset {first}, tg-id {id}"));
                false
            }
            Entry::Vacant(free) => {
                free.insert(record.offset);
                true
            }
        }
    }
}

impl Tally {
    /// The number of the device's message that this record is.
    fn number_of(&self, seed: u64, record: &Record) -> Option<u64> {
        let value = record.value.as_deref()?;
        let number = number_in(value)?;
        let payload = self.books.kind.payload(seed, self.device, number);
        let is_from = header(record, b"mqtt-client-id")? == client_id(self.device);
        let was_sent = (1..=self.books.published).contains(&number);
        (is_from && was_sent && value == payload.as_bytes()).then_some(number)
    }

    /// Counts a message; an error if it is the first of its number and comes after a later one.
    fn take(&mut self, number: u64, place: (&str, i32), offset: i64) -> Result<(), String> {
        let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
        let Some(found) = self.found.get_mut(index) else {
            return Ok(());
        };
        found.times += 1;
        if found.times > 1 {
            return Ok(());
        }
        found.offset = offset;
        let highest = self.highest;
        self.highest = highest.max(number);
        let (topic, partition) = place;
        let first = self
            .place
            .get_or_insert_with(|| (topic.to_owned(), partition));
        if (first.0.as_str(), first.1) != place {
            return Err(format!("others are in {}-{}", first.0, first.1));
        }
        if number < highest {
            return Err(format!("after message {highest}"));
        }
        Ok(())
    }

    /// Where message `number`, which is not there, should be.
    fn gap(&self, number: u64) -> String {
        let Some((topic, partition)) = &self.place else {
            return "nothing of this topic is upstream".to_owned();
        };
        let present =
            |(number, found): &(u64, &Found)| (found.times > 0).then_some((*number, found.offset));
        let numbered = || (1..).zip(&self.found);
        let before = numbered()
            .take_while(|(n, _)| *n < number)
            .filter_map(|it| present(&it))
            .last();
        let after = numbered()
            .skip_while(|(n, _)| *n <= number)
            .find_map(|it| present(&it));
        let name = |(number, offset)| format!("message {number} (offset {offset})");
        let place = format!("{topic}-{partition}");
        match (before.map(name), after.map(name)) {
            (Some(before), Some(after)) => {
                format!("{place} has nothing between {before} and {after}")
            }
            (Some(before), None) => format!("{place} has nothing after {before}"),
            (None, Some(after)) => format!("{place} has nothing before {after}"),
            (None, None) => format!("{place} has nothing of it"),
        }
    }
}

fn header(record: &Record, name: &[u8]) -> Option<Bytes> {
    record.headers.first(name).flatten()
}

#[cfg(test)]
mod tests;
