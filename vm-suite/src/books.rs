//! What must be in the log and in Kafka, compared with what is there.
//!
//! - Offsets of a partition are dense, and none ever shows another message than before.
//! - Every message that a client was promised is there, in its order; with QoS 2 once, with QoS 1 again
//!   only if it was sent again.
//! - Kafka has each record once, and none that is not in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ::tests::admin_log::{self, Record};
use ::tests::chaos::parse;
use ::tests::deadline::retry;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::machine::BOOT_PATIENCE;
use crate::publishers::Promised;
use crate::upstream::{Replicated, TOPIC};

/// Records before the first new one that are read again each time.
const OVERLAP: u64 = 200;

/// Everything that was seen so far; kept between runs.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Books {
    /// Client and number of each message, by partition and offset.
    partitions: BTreeMap<u16, Vec<(u16, u64)>>,
    /// Number of the next message of each client that was not seen yet.
    next_messages: BTreeMap<u16, u64>,
    /// Messages of QoS 1 that may have been sent again.
    may_repeat: BTreeSet<(u16, u64)>,
    /// Records that repeat a message.
    pub(crate) repeated: u64,
}

impl Books {
    /// Records that are in the log.
    pub(crate) fn records(&self) -> u64 {
        self.partitions
            .values()
            .map(|partition| partition.len() as u64)
            .sum()
    }

    /// Notes what was on its way when the power was cut.
    pub(crate) fn note_on_their_way(&mut self, messages: Vec<(u16, u64)>) {
        self.may_repeat.extend(messages);
    }

    /// Reads what is new in the log, or everything, and compares it.
    pub(crate) fn check_log(
        &mut self,
        admin: SocketAddr,
        promised: &BTreeMap<u16, Promised>,
        is_full: bool,
    ) -> Result<()> {
        let ends = retry("the ends of the log", BOOT_PATIENCE, || {
            admin_log::ends(admin)
        })?;
        for ((log, number), (log_start, high_watermark)) in ends {
            if log != TOPIC {
                continue;
            }
            let partition = self.partitions.entry(number).or_default();
            let known = partition.len() as u64;
            ensure!(
                high_watermark >= known,
                "partition {number} ends at {high_watermark}, and had {known}"
            );
            let from = if is_full {
                log_start
            } else {
                known.saturating_sub(OVERLAP).max(log_start)
            };
            ensure!(
                from <= known,
                "retention took records of partition {number} unseen"
            );
            self.read(admin, number, from, high_watermark, promised)
                .with_context(|| format!("partition {number}"))?;
        }
        for (client, promised) in promised {
            let next = self.next_messages.get(client).copied().unwrap_or(0);
            let Promised { acknowledged, .. } = promised;
            ensure!(
                next >= *acknowledged,
                "LOST: client {client} was promised {acknowledged} messages, the log has {next}"
            );
        }
        Ok(())
    }

    fn read(
        &mut self,
        admin: SocketAddr,
        number: u16,
        from: u64,
        end: u64,
        promised: &BTreeMap<u16, Promised>,
    ) -> Result<()> {
        let key = (TOPIC.to_owned(), number);
        let mut expected = from;
        while expected < end {
            let records = retry("records", BOOT_PATIENCE, || {
                admin_log::read(admin, &key, expected)
            })?;
            ensure!(
                !records.is_empty(),
                "nothing from {expected} on, it ends at {end}"
            );
            for record in records {
                let offset = record.offset;
                ensure!(
                    offset == expected,
                    "offset {offset} in the place of {expected}"
                );
                expected += 1;
                self.take(number, &record, promised)
                    .with_context(|| format!("offset {offset}"))?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        number: u16,
        record: &Record,
        promised: &BTreeMap<u16, Promised>,
    ) -> Result<()> {
        let message = parse(&record.payload);
        let message = message.with_context(|| format!("nobody sent {:.60}", record.payload))?;
        let partition = self.partitions.entry(number).or_default();
        if let Some(known) = partition.get(usize::try_from(record.offset)?) {
            ensure!(*known == message, "{message:?} in the place of {known:?}");
            return Ok(());
        }
        partition.push(message);
        let (client, tag) = message;
        let next = self.next_messages.entry(client).or_default();
        if tag == *next {
            *next += 1;
            return Ok(());
        }
        ensure!(
            tag < *next,
            "LOST: message {tag} of client {client} in the place of {next}"
        );
        let is_exactly_once = promised
            .get(&client)
            .is_some_and(|client| client.is_exactly_once);
        ensure!(
            !is_exactly_once && self.may_repeat.contains(&message),
            "DOUBLED: message {tag} of client {client} is there again"
        );
        self.repeated += 1;
        Ok(())
    }

    /// Compares Kafka with the log.
    pub(crate) fn check_replicated(&self, replicated: &Replicated) -> Result<()> {
        ensure!(
            replicated.len() as u64 == self.records(),
            "Kafka has {} records, the log {}",
            replicated.len(),
            self.records()
        );
        for (partition, messages) in &self.partitions {
            for (offset, message) in (0..).zip(messages) {
                let found = replicated.get(&(*partition, offset));
                let found = found.with_context(|| format!("Kafka lacks {partition}/{offset}"))?;
                ensure!(
                    parse(found) == Some(*message),
                    "Kafka has {found:.60} for {partition}/{offset}, the log {message:?}"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ::tests::admin_log::Record;
    use ::tests::chaos::payload;

    use super::{Books, Promised, Replicated};

    /// Takes messages of a client into partition 0, one after the other.
    fn taken(books: &mut Books, client: u16, tags: &[u64]) -> Result<(), String> {
        let promised = [1, 2].map(|client| {
            let promised = Promised {
                is_exactly_once: client == 2,
                ..Promised::default()
            };
            (client, promised)
        });
        for tag in tags {
            let offset = books.records();
            let record = Record {
                offset,
                commit: 0,
                topic: String::new(),
                payload: payload(client, *tag),
                content: 0,
            };
            let taken = books.take(0, &record, &BTreeMap::from(promised.clone()));
            taken.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn missing_message_is_a_loss() {
        let error = taken(&mut Books::default(), 1, &[0, 1, 3]).unwrap_err();
        assert_eq!(error, "LOST: message 3 of client 1 in the place of 2");
    }

    #[test]
    fn message_may_be_there_again_only_when_it_was_on_its_way_and_of_qos_1() {
        let mut books = Books::default();
        books.note_on_their_way(vec![(1, 1), (2, 1)]);
        taken(&mut books, 1, &[0, 1, 1]).unwrap();
        assert_eq!(books.repeated, 1);
        let error = taken(&mut books, 1, &[0]).unwrap_err();
        assert_eq!(error, "DOUBLED: message 0 of client 1 is there again");
        let error = taken(&mut Books::default(), 2, &[0, 1, 1]).unwrap_err();
        assert_eq!(error, "DOUBLED: message 1 of client 2 is there again");
    }

    #[test]
    fn kafka_must_have_what_the_log_has() {
        let mut books = Books::default();
        taken(&mut books, 1, &[0, 1]).unwrap();
        let both = |second: u64| {
            let place = |offset: u64, tag| ((0, offset), payload(1, tag));
            Replicated::from([place(0, 0), place(1, second)])
        };
        books.check_replicated(&both(1)).unwrap();
        books.check_replicated(&both(0)).unwrap_err();
        books.check_replicated(&Replicated::new()).unwrap_err();
    }
}
