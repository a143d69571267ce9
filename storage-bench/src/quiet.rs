//! `storage-bench quiet`: what a gateway costs on which almost nothing happens.
//!
//! The product runs three times side by side, each with a folder of its own: without messages, with
//! one device that publishes once a second, and the same with linger. Counters are of the processes,
//! so that they do not disturb each other; latency is wall clock.

mod gateway;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::cli::QuietOptions;
use crate::{figure, folder};
use gateway::{Gateway, Used};

const PAYLOAD_BYTES: usize = 200;
const EVERY: Duration = Duration::from_secs(1);
/// For what a start does later than its listeners.
const SETTLE: Duration = Duration::from_secs(5);
/// For the answer of a gateway to one packet.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &[u8] = b"plant/7/device-0001/values";
const CLIENT: &[u8] = b"device-0001";

/// What one gateway has used, and what its device saw.
#[derive(Debug)]
struct Row {
    name: String,
    messages: u64,
    seconds: f64,
    used: Used,
    median_latency: Option<Duration>,
}

/// Measures and prints a table.
///
/// # Errors
/// Anything fails.
pub(crate) fn run(options: &QuietOptions) -> anyhow::Result<()> {
    let temporary = folder::create(&options.dir, 64 << 20)?;
    let linger = format!("linger {}", options.linger);
    let rows = [
        ("idle".to_owned(), None, false),
        ("1 message/s".to_owned(), None, true),
        (linger, Some(options.linger.as_str()), true),
    ];
    let place = temporary.path();
    let rows: anyhow::Result<Vec<Row>> = thread::scope(|scope| {
        let mut measured = Vec::new();
        for (number, (name, linger, publishes)) in rows.into_iter().enumerate() {
            let place = place.join(number.to_string());
            let one = move || measure(options, &place, name, linger, publishes);
            measured.push(scope.spawn(one));
        }
        let ended = measured.into_iter().map(|thread| match thread.join() {
            Ok(row) => row,
            Err(_) => bail!("a measurement panicked"),
        });
        ended.collect()
    });
    print!("{}", table(&rows?));
    Ok(())
}

fn measure(
    options: &QuietOptions,
    place: &Path,
    name: String,
    linger: Option<&str>,
    publishes: bool,
) -> anyhow::Result<Row> {
    std::fs::create_dir(place)?;
    let gateway = Gateway::start(&options.program, place, linger)?;
    let mut device = match publishes {
        true => Some(Device::connect(gateway.mqtt()).context("connect to the gateway")?),
        false => None,
    };
    thread::sleep(SETTLE);
    let before = gateway.used()?;
    let began = Instant::now();
    let mut latencies = Vec::new();
    for second in 0..u32::try_from(options.seconds).unwrap_or(u32::MAX) {
        let at = began + EVERY * second;
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if let Some(device) = &mut device {
            latencies.push(device.publish(second).context("publish")?);
        }
    }
    thread::sleep(EVERY.saturating_sub(latencies.last().copied().unwrap_or_default()));
    let seconds = began.elapsed().as_secs_f64();
    let used = gateway.used()?.since(before);
    let messages = latencies.len() as u64;
    latencies.sort_unstable();
    Ok(Row {
        name,
        messages,
        seconds,
        used,
        median_latency: latencies.get(latencies.len() / 2).copied(),
    })
}

type Column = (&'static str, fn(&Used) -> f64);

const COLUMNS: [Column; 5] = [
    ("KiB dirtied", |used| figure(used.dirtied_bytes) / 1024.0),
    ("KiB written", |used| figure(used.written_bytes) / 1024.0),
    ("syncs", |used| figure(used.syncs)),
    ("wake-ups", |used| figure(used.wake_ups)),
    ("CPU ms", |used| used.cpu.as_secs_f64() * 1000.0),
];

fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<16}{:<13}", "", "");
    for (name, _) in COLUMNS {
        text += &format!("{name:>13}");
    }
    text += &format!("{:>16}\n", "PUBACK after ms");
    for row in rows {
        let hours = row.seconds / 3600.0;
        text += &format!("{:<16}{:<13}", row.name, "an hour");
        for (_, of) in COLUMNS {
            text += &format!("{:>13.1}", of(&row.used) / hours);
        }
        if let Some(latency) = row.median_latency {
            text += &format!("{:>16.2}", latency.as_secs_f64() * 1000.0);
        }
        text.push('\n');
        if row.messages > 0 {
            text += &format!("{:<16}{:<13}", "", "a message");
            for (_, of) in COLUMNS {
                text += &format!("{:>13.3}", of(&row.used) / figure(row.messages));
            }
            text.push('\n');
        }
    }
    text
}

/// A device that speaks just enough MQTT 3.1.1.
#[derive(Debug)]
struct Device {
    stream: TcpStream,
}

impl Device {
    fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut device = Self { stream };
        // Clean session, no keep alive.
        let mut body = b"\x00\x04MQTT\x04\x02\x00\x00".to_vec();
        put(&mut body, CLIENT);
        device.stream.write_all(&packet(0x10, &body))?;
        let answer = device.answer()?;
        ensure!(answer == [0x20, 2, 0, 0], "CONNECT was answered {answer:?}");
        Ok(device)
    }

    /// The time until it is acknowledged.
    fn publish(&mut self, number: u32) -> anyhow::Result<Duration> {
        // Packet ids go from 1 to 65535.
        let id = u16::try_from(number % 65_535 + 1).unwrap_or(1);
        let mut body = Vec::new();
        put(&mut body, TOPIC);
        body.extend_from_slice(&id.to_be_bytes());
        body.resize(body.len() + PAYLOAD_BYTES, b'x');
        let began = Instant::now();
        self.stream.write_all(&packet(0x32, &body))?;
        let [high, low] = id.to_be_bytes();
        let answer = self.answer()?;
        ensure!(
            answer == [0x40, 2, high, low],
            "PUBLISH was answered {answer:?}"
        );
        Ok(began.elapsed())
    }

    fn answer(&mut self) -> anyhow::Result<[u8; 4]> {
        let mut answer = [0; 4];
        self.stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

fn put(body: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(text);
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut left = body.len();
    loop {
        let byte = u8::try_from(left % 128).unwrap_or_default();
        left /= 128;
        packet.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_of_a_packet_takes_as_many_bytes_as_it_needs() {
        assert_eq!(packet(0x10, &[1; 127])[..2], [0x10, 127]);
        assert_eq!(packet(0x10, &[1; 128])[..3], [0x10, 0x80, 1]);
    }

    #[test]
    fn figures_are_told_by_the_hour_and_by_the_message() {
        let used = Used {
            dirtied_bytes: 1024 * 36,
            ..Used::default()
        };
        let row = Row {
            name: "one".to_owned(),
            messages: 36,
            seconds: 36.0,
            used,
            median_latency: None,
        };
        let text = table(&[row]);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[..4], ["one", "an", "hour", "3600.0"]);
        let words: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(words[..3], ["a", "message", "1.000"]);
    }
}
