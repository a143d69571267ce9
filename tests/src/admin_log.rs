//! The product's logs as its admin server shows them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::http;

/// Most records of one answer.
const COUNT: u64 = 5000;

/// A record as the admin server shows it.
#[derive(Debug)]
pub struct Record {
    /// Offset in its partition.
    pub offset: u64,
    /// Number of its commit.
    pub commit: u64,
    /// Topic name.
    pub topic: String,
    /// Payload, as text.
    pub payload: String,
    /// Stands for all of the record: two records that differ have different ones.
    pub content: u64,
}

/// Log start and high watermark of each partition of each log.
pub type Ends = BTreeMap<(String, u16), (u64, u64)>;

/// Where the partitions begin and end.
///
/// # Errors
/// When the server does not answer, or not as it should.
pub fn ends(admin: SocketAddr) -> Result<Ends> {
    let mut ends = Ends::new();
    let answer = http::get(admin, "/log/list")?;
    let logs: Vec<Value> = serde_json::from_str(&answer.body).context("/log/list")?;
    for log in logs {
        let name = log.get("name").and_then(Value::as_str).context("no name")?;
        let partitions = log.get("partitions").and_then(Value::as_array);
        for partition in partitions.context("no partitions")? {
            let number = |name: &str| {
                let number = partition.get(name).and_then(Value::as_u64);
                number.with_context(|| format!("no {name} in {partition}"))
            };
            let key = (name.to_owned(), u16::try_from(number("partition")?)?);
            ends.insert(
                key,
                (number("log_start_offset")?, number("high_watermark")?),
            );
        }
    }
    Ok(ends)
}

/// The next records of a partition from an offset on.
///
/// # Errors
/// When the server does not answer, or not as it should.
pub fn read(admin: SocketAddr, (log, partition): &(String, u16), from: u64) -> Result<Vec<Record>> {
    let path = format!("/log/read?log={log}&partition={partition}&from={from}&count={COUNT}");
    let answer = http::get(admin, &path)?;
    ensure!(
        answer.status == 200,
        "{path}: {} {}",
        answer.status,
        answer.body
    );
    let records: Vec<Value> = serde_json::from_str(&answer.body).context("/log/read")?;
    records.iter().map(Record::of).collect()
}

impl Record {
    fn of(value: &Value) -> Result<Self> {
        let number = |name: &str| {
            let number = value.get(name).and_then(Value::as_u64);
            number.with_context(|| format!("no {name} in {value}"))
        };
        let text = |name: &str| {
            let text = value.get(name).and_then(Value::as_str);
            text.with_context(|| format!("no {name} in {value}"))
        };
        let (offset, commit) = (number("offset")?, number("commit")?);
        let (topic, payload) = (text("topic")?.to_owned(), text("payload")?.to_owned());
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let content = hasher.hash_one((commit, &topic, &payload, number("time_ms")?));
        Ok(Self {
            offset,
            commit,
            topic,
            payload,
            content,
        })
    }
}
