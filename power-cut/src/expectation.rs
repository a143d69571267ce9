//! What the store has promised up to a moment, and what it may show beyond that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cold::Cold;
use crate::gateway::history::History;
use crate::trace::{Event, Trace};

/// Log and number of a partition.
pub(crate) type Partition = (u16, u16);

/// Promises after the cut whose records may already be on flash.
const IN_FLIGHT: usize = 4;

/// A record that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) partition: Partition,
    pub(crate) offset: u64,
    /// Records are numbered in the order in which they were appended; the content follows from it.
    pub(crate) number: u64,
}

/// A retained message that was set or cleared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retained {
    pub(crate) topic: String,
    /// Of the record.
    pub(crate) number: u64,
    pub(crate) cleared: bool,
}

/// What the store promised at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Acknowledgement {
    pub(crate) records: Vec<Written>,
    pub(crate) retained: Vec<Retained>,
    /// Entries of the journal: the number of the last record before it.
    pub(crate) entries: Vec<(String, u64)>,
    /// Cold ones, all changed by one commit.
    #[serde(default)]
    pub(crate) cold: Vec<Cold>,
    /// Starts of partitions, as far as they have moved.
    pub(crate) log_starts: Vec<(Partition, u64)>,
    /// None while the folder has no commit that says it.
    pub(crate) incarnation: Option<u64>,
}

/// A log as the checker opens it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogShape {
    pub(crate) name: String,
    pub(crate) partitions: u16,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Expectation {
    pub(crate) logs: Vec<LogShape>,
    /// Numbers of the acknowledged records by offset.
    pub(crate) records: BTreeMap<Partition, BTreeMap<u64, u64>>,
    pub(crate) entries: BTreeMap<String, u64>,
    /// The newest change of each cold entry.
    #[serde(default)]
    pub(crate) cold: BTreeMap<String, Cold>,
    /// The newest that was set or cleared of each topic.
    pub(crate) retained: BTreeMap<String, Retained>,
    /// Where partitions begin at least, and at most: retention may have decided and not yet said.
    pub(crate) starts_min: BTreeMap<Partition, u64>,
    pub(crate) starts_max: BTreeMap<Partition, u64>,
    pub(crate) incarnation: Option<u64>,
    /// What was promised after the cut, and may be there.
    pub(crate) in_flight: Vec<Acknowledgement>,
    /// Of the broker's clients, if there is a broker.
    pub(crate) history: Option<History>,
}

impl Expectation {
    /// At the cut before event `cut`.
    pub(crate) fn at(trace: &Trace, cut: usize) -> Self {
        let mut expected = trace.before.clone();
        if let Some(history) = &mut expected.history {
            let events = trace.events.iter().take(cut);
            let done = events.filter_map(|event| match event {
                Event::Client(client, did) => Some((*client, did.clone())),
                _ => None,
            });
            history.done.extend(done);
        }
        let promises = trace.events.iter().enumerate();
        let promises = promises.filter_map(|(index, event)| match event {
            Event::Acknowledged(promise) => Some((index, promise.as_ref())),
            _ => None,
        });
        for (index, promise) in promises {
            if index < cut {
                expected.take(promise);
            } else if expected.in_flight.len() < IN_FLIGHT {
                expected.in_flight.push(promise.clone());
            } else {
                break;
            }
        }
        expected.starts_max = expected.starts_min.clone();
        for promise in &expected.in_flight {
            expected
                .starts_max
                .extend(promise.log_starts.iter().copied());
        }
        expected
    }

    /// A promise was made.
    pub(crate) fn take(&mut self, promise: &Acknowledgement) {
        for written in &promise.records {
            let partition = self.records.entry(written.partition).or_default();
            partition.insert(written.offset, written.number);
        }
        for retained in &promise.retained {
            self.retained
                .insert(retained.topic.clone(), retained.clone());
        }
        self.entries.extend(promise.entries.iter().cloned());
        let cold = promise.cold.iter();
        self.cold
            .extend(cold.map(|cold| (cold.name.clone(), cold.clone())));
        self.starts_min.extend(promise.log_starts.iter().copied());
        self.incarnation = promise.incarnation.or(self.incarnation);
    }

    /// First offset that no promise has named.
    pub(crate) fn end(&self, partition: Partition) -> u64 {
        self.newest(partition).map_or(0, |(offset, _)| offset + 1)
    }

    /// Offset and number of the last record that a promise has named.
    pub(crate) fn newest(&self, partition: Partition) -> Option<(u64, u64)> {
        let (offset, number) = self.records.get(&partition)?.last_key_value()?;
        Some((*offset, *number))
    }

    /// The number after the highest that was given to a record.
    pub(crate) fn next_number(&self) -> u64 {
        let acknowledged = self.records.values().flat_map(BTreeMap::values).copied();
        let in_flight = self.in_flight.iter().flat_map(|promise| &promise.records);
        let numbers = acknowledged.chain(in_flight.map(|written| written.number));
        numbers.max().map_or(1, |number| number + 1)
    }
}
