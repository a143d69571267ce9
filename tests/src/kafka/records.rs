//! Records read back by independent clients: confluent-kafka and kcat.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::deadline::PATIENCE;
use crate::{program, python};

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers in their order; a name may occur again.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The value as text; empty when it has none.
    #[must_use]
    pub fn value_text(&self) -> String {
        text(self.value.as_deref())
    }

    /// The key as text; empty when it has none.
    #[must_use]
    pub fn key_text(&self) -> String {
        text(self.key.as_deref())
    }

    /// The value of the only header with this name, as text.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn header(&self, name: &str) -> Result<String> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(text(value.as_deref())),
            (first, _) => bail!(
                "{} headers {name} in {self:?}",
                first.map_or("no", |_| "several")
            ),
        }
    }

    /// Its `tg-id`, taken apart.
    ///
    /// # Errors
    /// When there is not exactly one, or it is not of the documented form.
    pub fn origin(&self) -> Result<Origin> {
        let id = self.header("tg-id")?;
        Origin::parse(&id).with_context(|| format!("tg-id {id:?}"))
    }
}

/// What a `tg-id` says: `gateway/incarnation/log-partition/offset`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The gateway.
    pub gateway: String,
    /// The incarnation of its data folder: 16 hexadecimal digits.
    pub incarnation: String,
    /// Name of the log.
    pub log: String,
    /// Partition of the log.
    pub partition: u16,
    /// Offset in it.
    pub offset: u64,
}

impl Origin {
    /// Takes a `tg-id` apart; `None` when it is not of the documented form.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let [gateway, incarnation, place, offset] =
            <[&str; 4]>::try_from(id.split('/').collect::<Vec<_>>()).ok()?;
        let (log, partition) = place.rsplit_once('-')?;
        let is_incarnation =
            incarnation.len() == 16 && incarnation.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_incarnation.then_some(())?;
        Some(Self {
            gateway: gateway.to_owned(),
            incarnation: incarnation.to_owned(),
            log: log.to_owned(),
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }
}

/// All records of a topic, read by confluent-kafka; in order of offset within a partition.
///
/// # Errors
/// When the topic cannot be read.
pub fn read(kafka: SocketAddr, topic: &str) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for_each(kafka, topic, |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

/// Hands over each record of a topic, read by confluent-kafka, without keeping them all.
///
/// # Errors
/// When the topic cannot be read, or `each` fails.
pub fn for_each(
    kafka: SocketAddr,
    topic: &str,
    mut each: impl FnMut(Record) -> Result<()>,
) -> Result<()> {
    let script = python::Script::spawn("kafka_consume.py", &[&kafka.to_string(), topic])?;
    script.finish_each(PATIENCE * 5, |line| {
        each(from_confluent(&line).with_context(|| format!("record {line}"))?)
    })
}

/// All records of a topic, read by kcat. Keys, values and headers must be UTF-8.
///
/// # Errors
/// When kcat is not there or cannot read the topic.
pub fn read_with_kcat(kafka: SocketAddr, topic: &str) -> Result<Vec<Record>> {
    let kcat = kcat().map_err(|reason| anyhow!(reason))?;
    let broker = kafka.to_string();
    let arguments = ["-b", &broker, "-C", "-t", topic, "-o", "beginning", "-e"];
    let output = Command::new(kcat)
        .args(arguments)
        .args(["-q", "-J"])
        .output()
        .context("run kcat")?;
    let lossy = String::from_utf8_lossy;
    ensure!(
        output.status.success(),
        "kcat ended with {}: {}",
        output.status,
        lossy(&output.stderr)
    );
    lossy(&output.stdout)
        .lines()
        .map(|line| {
            let value = serde_json::from_str(line).context("kcat's JSON")?;
            from_kcat(&value).with_context(|| format!("kcat printed {line}"))
        })
        .collect()
}

/// The path of kcat, or the reason for a skip.
///
/// # Errors
/// When it is not installed.
pub fn kcat() -> Result<std::path::PathBuf, String> {
    program::require("kcat", "kcat")
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn from_confluent(line: &Value) -> Result<Record> {
    let bytes = |value: &Value| value.as_str().map(from_base64).transpose();
    let mut headers = Vec::new();
    for header in line["headers"].as_array().into_iter().flatten() {
        let name = header[0].as_str().context("header name")?;
        headers.push((name.to_owned(), bytes(&header[1])?));
    }
    Ok(Record {
        partition: i32::try_from(line["partition"].as_i64().context("partition")?)?,
        offset: line["offset"].as_i64().context("offset")?,
        timestamp_ms: line["timestamp_ms"].as_i64().context("timestamp")?,
        key: bytes(&line["key"])?,
        value: bytes(&line["value"])?,
        headers,
    })
}

fn from_kcat(line: &Value) -> Result<Record> {
    let bytes = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
    let flat: Vec<&Value> = line["headers"].as_array().into_iter().flatten().collect();
    let headers = flat.chunks(2).map(|pair| {
        let name = pair.first().and_then(|name| name.as_str());
        let name = name.context("header name")?.to_owned();
        Ok((name, pair.get(1).and_then(|value| bytes(value))))
    });
    Ok(Record {
        partition: i32::try_from(line["partition"].as_i64().context("partition")?)?,
        offset: line["offset"].as_i64().context("offset")?,
        timestamp_ms: line["ts"].as_i64().context("timestamp")?,
        key: bytes(&line["key"]),
        value: bytes(&line["payload"]),
        headers: headers.collect::<Result<_>>()?,
    })
}

/// RFC 4648, section 4, with padding.
fn from_base64(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("{:?} in base64", char::from(byte)),
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., low] = (bits >> count).to_be_bytes();
            out.push(low);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{Origin, from_base64, from_kcat};

    #[test]
    fn base64_has_the_test_vectors_of_its_standard() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(from_base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(from_base64("//79").unwrap(), [255, 254, 253]);
        assert!(from_base64("a b").is_err());
    }

    #[test]
    fn tg_id_is_taken_apart() {
        let origin = Origin::parse("gw-1/00000000000000ab/tele-metry-3/42").unwrap();
        assert_eq!((origin.log.as_str(), origin.partition), ("tele-metry", 3));
        assert_eq!((origin.gateway.as_str(), origin.offset), ("gw-1", 42));
        assert_eq!(Origin::parse("gw-1/ab/t-3/42"), None);
        assert_eq!(Origin::parse("gw-1/00000000000000ab/t-3"), None);
    }

    #[test]
    fn headers_of_kcat_come_in_pairs() {
        let line = r#"{"partition":1,"offset":2,"ts":3,"headers":["a","1","a","2"],"key":"k","payload":null}"#;
        let record = from_kcat(&serde_json::from_str(line).unwrap()).unwrap();
        assert_eq!(record.headers.len(), 2);
        assert_eq!(record.headers[1], ("a".to_owned(), Some(b"2".to_vec())));
        assert!(record.header("a").is_err());
        assert_eq!((record.key_text().as_str(), record.value), ("k", None));
    }
}
