//! What must hold after every kill, on what the admin server shows of the logs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::publisher::{self, Publisher};
use crate::admin_log::{Record, ends, read};
use crate::broker_process::BrokerProcess;

/// Records before the first new one that are read again in every round.
const OVERLAP: u64 = 100;
/// Between two looks at the end of a partition.
const PAUSE: Duration = Duration::from_millis(3);
/// The partition that is read while clients publish.
const WITNESSED: (&str, u16) = ("small", 0);

/// Everything that was seen so far.
#[derive(Debug, Default)]
pub(super) struct Books {
    partitions: BTreeMap<(String, u16), Partition>,
    /// Number of the next message of each client that was not seen yet.
    next_messages: BTreeMap<u16, u64>,
    /// How often resent messages were seen again.
    repeats: BTreeMap<(u16, u64), u32>,
    /// Records that repeat a message.
    pub(super) repeated: u64,
    /// Records that were read before a kill.
    pub(super) shown: u64,
    pub(super) unfinished_commits: u64,
    incarnation: Option<String>,
}

/// A partition as it was seen.
#[derive(Debug, Default)]
struct Partition {
    /// What stands for the content of every offset that was ever seen.
    contents: BTreeMap<u64, u64>,
    /// First offset that was not looked at in order.
    next: u64,
    high_watermark: u64,
    last_commit: u64,
}

impl Books {
    /// Records that were looked at.
    pub(super) fn records(&self) -> u64 {
        self.partitions
            .values()
            .map(|partition| partition.next)
            .sum()
    }

    /// Where the reader that looks on is to begin.
    pub(super) fn next_of_witness(&self) -> u64 {
        let (log, number) = WITNESSED;
        let partition = self.partitions.get(&(log.to_owned(), number));
        partition.map_or(0, |partition| partition.next)
    }

    /// What it was shown must be there after the kill.
    pub(super) fn note_shown(&mut self, shown: Vec<(u64, u64)>) -> Result<()> {
        let (log, number) = WITNESSED;
        let partition = self.partitions.entry((log.to_owned(), number));
        let partition = partition.or_default();
        self.shown += shown.len() as u64;
        for (offset, content) in shown {
            partition.note_content(offset, content)?;
            partition.high_watermark = partition.high_watermark.max(offset + 1);
        }
        Ok(())
    }

    /// Reads what is new, or everything, and compares it with what was known and sent.
    pub(super) fn check(
        &mut self,
        broker: &BrokerProcess,
        publishers: &[Publisher],
        is_full: bool,
    ) -> Result<()> {
        self.check_status(&broker.status()?)?;
        for ((log, number), (log_start, high_watermark)) in ends(broker.admin())? {
            if log == "default" {
                continue;
            }
            let key = (log, number);
            let partition = self.partitions.entry(key.clone()).or_default();
            ensure!(
                high_watermark >= partition.high_watermark,
                "log {} partition {number} ends at {high_watermark}, and had {}",
                key.0,
                partition.high_watermark
            );
            partition.high_watermark = high_watermark;
            let from = match is_full {
                true => log_start,
                false => partition.next.saturating_sub(OVERLAP).max(log_start),
            };
            let read = self.read(broker, publishers, &key, from, high_watermark);
            read.with_context(|| format!("log {} partition {number}", key.0))?;
        }
        for (client, publisher) in (0..).zip(publishers) {
            let next = self.next_messages.get(&client).copied().unwrap_or(0);
            let acknowledged = publisher.acknowledged();
            ensure!(
                next >= acknowledged,
                "client {client}: {acknowledged} messages acknowledged, {next} found"
            );
        }
        Ok(())
    }

    fn check_status(&mut self, status: &Value) -> Result<()> {
        let store = status.get("store").context("no store in the status")?;
        let list = |name: &str| {
            let list = store.get(name).and_then(Value::as_array);
            list.with_context(|| format!("no {name} in {store}"))
        };
        let gaps = list("gaps")?;
        ensure!(gaps.is_empty(), "gaps: {gaps:?}");
        for event in list("recovery")? {
            let text = event.as_str().unwrap_or_default();
            ensure!(text.contains("was not finished"), "recovery: {text}");
            self.unfinished_commits += 1;
        }
        let incarnation = store.get("incarnation").and_then(Value::as_str);
        let incarnation = incarnation.context("no incarnation")?.to_owned();
        let first = self.incarnation.get_or_insert_with(|| incarnation.clone());
        ensure!(*first == incarnation, "{first} has become {incarnation}");
        Ok(())
    }

    /// Reads a partition from `from` up to `end`.
    fn read(
        &mut self,
        broker: &BrokerProcess,
        publishers: &[Publisher],
        key: &(String, u16),
        from: u64,
        end: u64,
    ) -> Result<()> {
        let mut expected = from;
        while expected < end {
            let records = read(broker.admin(), key, expected)?;
            ensure!(
                !records.is_empty(),
                "nothing from {expected} on; it ends at {end}"
            );
            for record in records {
                if record.offset != expected {
                    // Retention may take what was looked at in an earlier round.
                    let now = ends(broker.admin())?;
                    let (log_start, _) = now.get(key).copied().unwrap_or_default();
                    ensure!(
                        record.offset > expected && record.offset <= log_start,
                        "offset {} in the place of {expected}; it starts at {log_start}",
                        record.offset
                    );
                }
                expected = record.offset + 1;
                self.take(publishers, key, &record)?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        publishers: &[Publisher],
        key: &(String, u16),
        record: &Record,
    ) -> Result<()> {
        let offset = record.offset;
        let partition = self.partitions.entry(key.clone()).or_default();
        partition.note_content(offset, record.content)?;
        if offset < partition.next {
            return Ok(()); // Looked at in an earlier round.
        }
        ensure!(
            offset == partition.next,
            "retention took {} up to {offset} before it was looked at",
            partition.next
        );
        ensure!(
            record.commit >= partition.last_commit,
            "offset {offset} is of commit {} after commit {}",
            record.commit,
            partition.last_commit
        );
        (partition.next, partition.last_commit) = (offset + 1, record.commit);

        let sent = publisher::parse(&record.payload);
        let (client, message) =
            sent.with_context(|| format!("offset {offset}: nobody sent {:.60}", record.payload))?;
        let of_client = publishers.get(usize::from(client));
        let of_client = of_client.filter(|publisher| message < publisher.next());
        let of_client =
            of_client.with_context(|| format!("offset {offset}: {client} never sent {message}"))?;
        ensure!(
            record.topic == publisher::topic(client) && key.0 == publisher::log_of(client),
            "offset {offset}: message of client {client} under topic {}",
            record.topic
        );
        let next = self.next_messages.entry(client).or_default();
        if message < *next {
            self.repeated += 1;
            let times = self.repeats.entry((client, message)).or_default();
            *times += 1;
            ensure!(
                *times <= of_client.times_resent(message),
                "offset {offset}: message {message} of client {client} once more than it was sent"
            );
            return Ok(());
        }
        ensure!(
            message == *next,
            "offset {offset}: message {message} of client {client} in the place of {next}"
        );
        *next += 1;
        Ok(())
    }

    /// What there is, in words.
    pub(super) fn sizes(&self, broker: &BrokerProcess) -> Result<String> {
        let status = broker.status()?;
        let number = |name: &str| {
            let number = status.pointer(&format!("/store/{name}"));
            number.and_then(Value::as_u64).unwrap_or(0)
        };
        let mut text = format!(
            "{} segments with {} KiB",
            number("segments"),
            number("bytes") / 1024
        );
        for ((log, partition), (start, end)) in ends(broker.admin())? {
            if end > 0 {
                text.push_str(&format!("; {log}/{partition} has {start} to {end}"));
            }
        }
        Ok(text)
    }
}

impl Partition {
    fn note_content(&mut self, offset: u64, content: u64) -> Result<()> {
        let known = *self.contents.entry(offset).or_insert(content);
        ensure!(
            known == content,
            "offset {offset} has another content than before"
        );
        Ok(())
    }
}

/// Reads the end of a partition again and again until the process is dead; the offsets and contents
/// that it was shown.
pub(super) fn watch(admin: SocketAddr, from: u64, is_dead: &AtomicBool) -> Vec<(u64, u64)> {
    let (log, number) = WITNESSED;
    let (key, mut next) = ((log.to_owned(), number), from);
    let mut shown = Vec::new();
    while !is_dead.load(Ordering::SeqCst) {
        // An answer that was cut off by the kill shows nothing.
        for record in read(admin, &key, next).unwrap_or_default() {
            next = record.offset + 1;
            shown.push((record.offset, record.content));
        }
        thread::sleep(PAUSE);
    }
    shown
}
