//! What must hold at the end, checked on what confluent-kafka reads from Kafka and on the product's
//! own books.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

use super::fleet::{Sent, client_id, parse, topic};
use super::stage::{LOG, Stage};
use crate::kafka::records::{Record, for_each};

/// Problems that are told one by one.
const PROBLEMS_TOLD: usize = 20;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// What is wrong.
    pub problems: Vec<String>,
    /// Problems beyond those that are told.
    more_problems: u64,
    /// Records in Kafka.
    records: u64,
    /// Records that repeat a message of a client: it had sent it again.
    repeated: u64,
    replicated: u64,
    published: u64,
    lag: u64,
    lost: u64,
}

/// Reads the records one by one.
struct Reading {
    verdict: Verdict,
    clients: u16,
    per_client: u64,
    /// Number of the next message of each client that was not seen yet.
    next_messages: BTreeMap<u16, u64>,
    /// Offset of the next record of each partition of the log.
    next_offsets: BTreeMap<u16, u64>,
    tg_ids: HashSet<String>,
}

impl Verdict {
    pub(super) fn of(stage: &Stage, clients: u16, per_client: u64, sent: &Sent) -> Result<Self> {
        let mut reading = Reading {
            verdict: Self::default(),
            clients,
            per_client,
            next_messages: BTreeMap::new(),
            next_offsets: BTreeMap::new(),
            tg_ids: HashSet::new(),
        };
        for_each(stage.kafka.bootstrap(), LOG, |record| {
            reading.take(&record);
            Ok(())
        })?;
        let mut verdict = reading.finish();
        verdict.check_books(stage, sent)?;
        Ok(verdict)
    }

    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_TOLD {
            self.problems.push(text);
        } else {
            self.more_problems += 1;
        }
    }

    /// Books: published = replicated + waiting + lost, counted by offsets, and as many in Kafka.
    fn check_books(&mut self, stage: &Stage, sent: &Sent) -> Result<()> {
        let status = stage.broker.status()?;
        let route = status.pointer(&format!("/bridge/routes/{LOG}"));
        let route = route.context("no route in the status")?;
        let number = |value: &Value, name: &str| {
            let number = value.get(name).and_then(Value::as_u64);
            number.with_context(|| format!("no {name} in {value}"))
        };
        let partitions = route.get("partitions").and_then(Value::as_array);
        for partition in partitions.into_iter().flatten() {
            self.published += number(partition, "high_watermark")?;
        }
        (self.replicated, self.lag) = (number(route, "replicated")?, number(route, "lag_records")?);
        self.lost = number(route, "lost")?;
        let Self {
            published,
            replicated,
            lag,
            lost,
            records,
            ..
        } = *self;
        if replicated + lag + lost != published || lag != 0 || lost != 0 {
            self.problem(format!(
                "the books: {published} published, {replicated} replicated, {lag} waiting, {lost} lost"
            ));
        }
        if records != published {
            self.problem(format!(
                "{records} records in Kafka, but {published} were published"
            ));
        }
        if records > sent.messages + sent.resent {
            self.problem(format!(
                "{records} records in Kafka of {} messages, {} of them sent again",
                sent.messages, sent.resent
            ));
        }
        let gaps = status.pointer("/store/gaps").and_then(Value::as_array);
        if gaps.is_none_or(|gaps| !gaps.is_empty()) {
            self.problem(format!("gaps: {gaps:?}"));
        }
        Ok(())
    }
}

impl Reading {
    fn take(&mut self, record: &Record) {
        self.verdict.records += 1;
        if let Err(problem) = self.check(record) {
            let (partition, offset) = (record.partition, record.offset);
            self.verdict
                .problem(format!("Kafka's record {partition}/{offset}: {problem:#}"));
        }
    }

    fn check(&mut self, record: &Record) -> Result<()> {
        let origin = record.origin()?;
        let tg_id = record.header("tg-id")?;
        if !self.tg_ids.insert(tg_id.clone()) {
            // Whatever it says, it was checked before.
            self.verdict.problem(format!("{tg_id} is in Kafka twice"));
            return Ok(());
        }
        let next = self.next_offsets.entry(origin.partition).or_default();
        if origin.offset != *next {
            let problem = format!("{tg_id} in the place of offset {next}");
            self.verdict.problem(problem);
        }
        *next = (*next).max(origin.offset + 1);

        let text = record.value_text();
        let parsed = parse(&text);
        let is_sent =
            |(client, message): &(u16, u64)| *client < self.clients && *message < self.per_client;
        let found = parsed.filter(is_sent);
        let (client, message) = found.with_context(|| format!("nobody sent {text:?}"))?;
        for (what, found, expected) in [
            ("key", record.key_text(), client_id(client)),
            (
                "client",
                record.header("mqtt-client-id")?,
                client_id(client),
            ),
            ("topic", record.header("mqtt-topic")?, topic(client)),
            ("log", origin.log, LOG.to_owned()),
        ] {
            if found != expected {
                self.verdict.problem(format!(
                    "{tg_id}: {what} {found} in the place of {expected}"
                ));
            }
        }
        let next = self.next_messages.entry(client).or_default();
        if message < *next {
            self.verdict.repeated += 1;
        } else if message == *next {
            *next += 1;
        } else {
            let problem = format!("{tg_id} is message {message} of client {client}, before {next}");
            *next = message + 1;
            self.verdict.problem(problem);
        }
        Ok(())
    }

    /// Everything was acknowledged, so everything must be there.
    fn finish(mut self) -> Verdict {
        for client in 0..self.clients {
            let next = self.next_messages.get(&client).copied().unwrap_or(0);
            if next != self.per_client {
                let missing = self.per_client - next.min(self.per_client);
                self.verdict.problem(format!(
                    "client {client}: its last {missing} messages are acknowledged and not in Kafka"
                ));
            }
        }
        self.verdict
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            problems,
            more_problems,
            records,
            repeated,
            replicated,
            published,
            lag,
            lost,
        } = self;
        writeln!(
            f,
            "Kafka: {records} records, {repeated} of them because a client sent a message again"
        )?;
        writeln!(
            f,
            "books: {published} published = {replicated} replicated + {lag} waiting + {lost} lost"
        )?;
        match problems.len() as u64 + more_problems {
            0 => write!(
                f,
                "every acknowledged message is in Kafka, in order per client; no tg-id twice; \
                 nothing that nobody sent"
            ),
            count => write!(f, "{count} problems"),
        }
    }
}
