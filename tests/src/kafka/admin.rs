//! The few Kafka requests that the suites need to set a stage: create and delete topics, see their
//! leaders, ask for end offsets and producers, change configuration. Written by hand, apart from the
//! product's client, so that the product is not judged by itself.
//!
//! Versions are the oldest that Apache Kafka 4 answers; all but DescribeProducers are without tagged
//! fields.
//! <https://kafka.apache.org/protocol>

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// An answer above this is not one of ours.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Longest silence of the broker.
const SILENCE_MAX: Duration = Duration::from_secs(30);

const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
const DESCRIBE_PRODUCERS: i16 = 61;

/// Timestamp that asks ListOffsets for the end of the partition.
const LATEST: i64 = -1;

/// Creates a topic with replication factor 1. Exists already: an error.
///
/// # Errors
/// When the broker is not there or refuses, with its code and text.
pub fn create_topic(
    broker: SocketAddr,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<()> {
    let mut request = Request::new(CREATE_TOPICS, 4);
    request
        .array(1)
        .string(name)
        .i32(partitions)
        .i16(1)
        .array(0)
        .array(configs.len());
    for (key, value) in configs {
        request.string(key).string(value);
    }
    request.i32(30_000).bool(false);
    let mut answer = request.exchange(broker)?;
    answer.i32()?; // throttle time
    for _ in 0..answer.i32()? {
        let (topic, code, text) = (answer.string()?, answer.i16()?, answer.string()?);
        ensure!(
            code == 0,
            "create topic {topic}: Kafka error {code}: {text}"
        );
    }
    Ok(())
}

/// Deletes a topic. It may still be seen for a moment.
///
/// # Errors
/// When the broker is not there or refuses.
pub fn delete_topic(broker: SocketAddr, name: &str) -> Result<()> {
    let mut request = Request::new(DELETE_TOPICS, 1);
    request.array(1).string(name).i32(30_000);
    let mut answer = request.exchange(broker)?;
    answer.i32()?; // throttle time
    for _ in 0..answer.i32()? {
        let (topic, code) = (answer.string()?, answer.i16()?);
        ensure!(code == 0, "delete topic {topic}: Kafka error {code}");
    }
    Ok(())
}

/// What a configuration belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configured<'n> {
    /// A topic.
    Topic(&'n str),
    /// Every broker of the cluster.
    Cluster,
}

/// Sets a configuration, or with `None` puts its default back.
///
/// # Errors
/// When the broker is not there or refuses, with its code and text.
pub fn configure(
    broker: SocketAddr,
    what: Configured<'_>,
    key: &str,
    value: Option<&str>,
) -> Result<()> {
    let (kind, name) = match what {
        Configured::Topic(name) => (2, name),
        Configured::Cluster => (4, ""),
    };
    let mut request = Request::new(INCREMENTAL_ALTER_CONFIGS, 0);
    request.array(1).u8(kind).string(name).array(1).string(key);
    match value {
        Some(value) => request.u8(0).string(value),
        None => request.u8(1).i16(-1),
    };
    request.bool(false);
    let mut answer = request.exchange(broker)?;
    answer.i32()?; // throttle time
    ensure!(
        answer.i32()? == 1,
        "configure {key}: not one resource in the answer"
    );
    let (code, text) = (answer.i16()?, answer.string()?);
    ensure!(code == 0, "configure {key}: Kafka error {code}: {text}");
    Ok(())
}

/// How many producer ids the leader of a partition holds state of.
///
/// # Errors
/// When the broker is not there or refuses.
pub fn producer_count(broker: SocketAddr, topic: &str, partition: i32) -> Result<usize> {
    let mut request = Request::new(DESCRIBE_PRODUCERS, 0);
    let name_len = u8::try_from(topic.len()).ok().filter(|len| *len < 127);
    // Lengths are those of the elements plus one; below 128 they take one byte.
    request.u8(0); // tagged fields of the header
    request
        .u8(2)
        .u8(name_len.context("topic name too long")? + 1);
    request.bytes.extend(topic.as_bytes());
    request.u8(2).i32(partition).u8(0).u8(0);
    let mut answer = request.exchange(broker)?;
    answer.take(1)?; // tagged fields of the header
    answer.i32()?; // throttle time
    let (topics, name) = (answer.varint()?, answer.varint()?);
    ensure!(
        topics == 2,
        "producers of {topic}: not one topic in the answer"
    );
    answer.take(name.saturating_sub(1))?;
    let partitions = answer.varint()?;
    ensure!(partitions == 2, "producers of {topic}: not one partition");
    let (_partition, code) = (answer.i32()?, answer.i16()?);
    ensure!(
        code == 0,
        "producers of partition {partition} of {topic}: Kafka error {code}"
    );
    let text = answer.varint()?;
    answer.take(text.saturating_sub(1))?;
    Ok(answer.varint()?.saturating_sub(1))
}

/// The number of partitions of a topic.
///
/// # Errors
/// When the broker is not there, does not know the topic, or a partition has no leader yet.
pub fn partition_count(broker: SocketAddr, topic: &str) -> Result<i32> {
    let mut request = Request::new(METADATA, 1);
    request.array(1).string(topic);
    let mut answer = request.exchange(broker)?;
    for _ in 0..answer.i32()? {
        answer.i32()?; // node id
        answer.string()?; // host
        answer.i32()?; // port
        answer.string()?; // rack
    }
    answer.i32()?; // controller id
    ensure!(
        answer.i32()? == 1,
        "metadata of {topic}: not one topic in the answer"
    );
    let code = answer.i16()?;
    ensure!(code == 0, "metadata of {topic}: Kafka error {code}");
    answer.string()?;
    answer.take(1)?; // is internal
    let count = answer.i32()?;
    for _ in 0..count {
        let (code, partition, leader) = (answer.i16()?, answer.i32()?, answer.i32()?);
        ensure!(
            code == 0 && leader >= 0,
            "partition {partition} of {topic} has no leader ({code})"
        );
        for _ in 0..2 {
            let nodes = answer.i32()?; // replicas, then in-sync replicas
            for _ in 0..nodes {
                answer.i32()?;
            }
        }
    }
    Ok(count)
}

/// The end offset (next to be written) of each partition, by partition number.
///
/// # Errors
/// When the broker is not there or does not know the topic.
pub fn end_offsets(broker: SocketAddr, topic: &str) -> Result<Vec<i64>> {
    let count = partition_count(broker, topic)?;
    let mut request = Request::new(LIST_OFFSETS, 1);
    request.i32(-1).array(1).string(topic).i32(count);
    for partition in 0..count {
        request.i32(partition).i64(LATEST);
    }
    let mut answer = request.exchange(broker)?;
    ensure!(
        answer.i32()? == 1,
        "offsets of {topic}: not one topic in the answer"
    );
    answer.string()?;
    let mut offsets = Vec::new();
    for _ in 0..answer.i32()? {
        let (partition, code) = (answer.i32()?, answer.i16()?);
        ensure!(
            code == 0,
            "offsets of partition {partition} of {topic}: Kafka error {code}"
        );
        answer.i64()?; // timestamp
        offsets.push((partition, answer.i64()?));
    }
    offsets.sort_unstable();
    Ok(offsets.into_iter().map(|(_, offset)| offset).collect())
}

/// A request in the making: size prefix, header version 1, body.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(api_key: i16, api_version: i16) -> Self {
        let mut request = Self { bytes: vec![0; 4] };
        request
            .i16(api_key)
            .i16(api_version)
            .i32(7)
            .string("tidegate-tests");
        request
    }

    fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(value.into())
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    fn array(&mut self, len: usize) -> &mut Self {
        self.i32(i32::try_from(len).unwrap_or(i32::MAX))
    }

    fn string(&mut self, value: &str) -> &mut Self {
        self.i16(i16::try_from(value.len()).unwrap_or(i16::MAX));
        self.bytes.extend(value.as_bytes());
        self
    }

    fn exchange(&mut self, broker: SocketAddr) -> Result<Answer> {
        let size = u32::try_from(self.bytes.len() - 4).context("request too large")?;
        if let Some(prefix) = self.bytes.first_chunk_mut() {
            *prefix = size.to_be_bytes();
        }
        let mut stream = TcpStream::connect_timeout(&broker, SILENCE_MAX)
            .with_context(|| format!("connect to Kafka at {broker}"))?;
        stream
            .set_read_timeout(Some(SILENCE_MAX))
            .context("set read timeout")?;
        stream
            .write_all(&self.bytes)
            .with_context(|| format!("write to Kafka at {broker}"))?;
        let mut size = [0; 4];
        stream
            .read_exact(&mut size)
            .with_context(|| format!("read from Kafka at {broker}"))?;
        let size = u32::from_be_bytes(size) as usize;
        if size > ANSWER_BYTES_MAX {
            bail!("answer of {size} bytes from Kafka at {broker}");
        }
        let mut bytes = vec![0; size];
        stream
            .read_exact(&mut bytes)
            .with_context(|| format!("read from Kafka at {broker}"))?;
        let mut answer = Answer { bytes, at: 0 };
        answer.i32()?; // correlation id: one request per connection
        Ok(answer)
    }
}

/// An answer's body, read from front to back.
struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take(&mut self, len: usize) -> Result<&[u8]> {
        let range = self.at..self.at.saturating_add(len);
        let bytes = self
            .bytes
            .get(range.clone())
            .context("Kafka's answer is too short")?;
        self.at = range.end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// An unsigned varint: the length of something in a flexible version, plus one.
    fn varint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a length above 2^28 in Kafka's answer")
    }

    /// A nullable string; null (length -1) reads as empty.
    fn string(&mut self) -> Result<String> {
        let len = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }
}
