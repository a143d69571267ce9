//! How long one message takes from its publisher to a subscriber that is there, and how fast one that
//! returns gets what waits for it, by QoS and Receive Maximum; what that costs in commits and bytes.
//!
//! One client at a time is measured, on the product with its defaults. The order turns from round to round.

mod backlog;
mod live;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::broker_process::{self, BrokerProcess};
use crate::mqtt::packet::{Connect, Packet, Properties, Subscribe};
use crate::mqtt::{Client, Version};

/// Bytes of a payload: its number, and what fills it up.
const PAYLOAD_BYTES: usize = 100;
const SUCCESS: u8 = 0;
const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
const RECEIVE_MAXIMUM: u8 = 0x21;
/// The client says good-bye.
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything is measured so many times; figures are the medians.
    pub rounds: usize,
    /// Messages to the subscriber that is there.
    pub live_messages: u32,
    /// Messages that wait for those that return.
    pub backlog_messages: u32,
    /// How long each of these stays at most.
    pub backlog_time: Duration,
    /// The product; by default that of the tests.
    pub program: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    live: Vec<Vec<live::Measured>>,
    backlog: Vec<Vec<backlog::Measured>>,
}

/// What the databases did meanwhile.
#[derive(Debug, Clone, Copy)]
struct Written {
    commits: f64,
    bytes: f64,
}

impl Written {
    fn so_far(broker: &BrokerProcess) -> Result<Self> {
        let metrics = broker.metrics()?;
        let sum = |name: &str| {
            let sum = metrics.sum(name, &[]);
            sum.with_context(|| format!("the product has no metric {name}"))
        };
        Ok(Self {
            commits: sum("tidegate_log_commits_total")?,
            bytes: sum("tidegate_log_written_bytes_total")?,
        })
    }

    /// What came since, for each of so many messages.
    fn since(self, before: Self, messages: u32) -> Self {
        let messages = f64::from(messages.max(1));
        Self {
            commits: (self.commits - before.commits) / messages,
            bytes: (self.bytes - before.bytes) / messages,
        }
    }
}

fn payload(number: u32) -> Vec<u8> {
    format!("{number:0PAYLOAD_BYTES$}").into_bytes()
}

/// A client whose session stays, and that takes so many messages at a time, if that is said.
fn stay(broker: &BrokerProcess, client_id: &str, receive_maximum: Option<u16>) -> Result<Client> {
    let properties = Properties::default().number(SESSION_EXPIRY_INTERVAL, u32::MAX);
    let properties = match receive_maximum {
        Some(maximum) => properties.number(RECEIVE_MAXIMUM, maximum.into()),
        None => properties,
    };
    let connect = Connect {
        goes_on: true,
        properties,
        ..Connect::new(Version::V5, client_id)
    };
    Client::connect(broker.mqtt(), &connect)
}

fn subscribe(client: &mut Client, topic: &str, qos: u8) -> Result<()> {
    let subscribe = Subscribe {
        options: qos,
        ..Subscribe::new(topic)
    };
    client.send(&subscribe.encode(Version::V5))?;
    match next(client)? {
        Packet::Suback { codes, .. } if codes == [qos] => Ok(()),
        other => bail!("{other:?} in the place of SUBACK"),
    }
}

fn next(client: &mut Client) -> Result<Packet> {
    let packet = client.receive()?;
    packet.context("the product has ended a connection")
}

/// The one in the middle, and the one that 99 of 100 are not above; of none, nothing.
fn median_and_p99(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| {
        let index = (values.len() * part / 100).min(values.len().saturating_sub(1));
        values.get(index).copied().unwrap_or(0.0)
    };
    (at(50), at(99))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    median_and_p99(values.collect()).0
}

/// Runs.
///
/// # Errors
/// When a message does not come, comes twice or out of order, or the product cannot be started.
pub fn run(options: &Options, say: impl Fn(&str)) -> Result<Report> {
    ensure!(options.rounds > 0, "no round at all");
    let mut live = vec![Vec::new(); live::CASES.len()];
    let mut backlog = vec![Vec::new(); backlog::CASES.len()];
    for round in 0..options.rounds {
        say(&format!("round {} of {}", round + 1, options.rounds));
        let broker = BrokerProcess::start(broker_process::Options {
            program: options.program.clone(),
            ..broker_process::Options::default()
        })?;
        let measured = measure(&broker, options, round, &mut live, &mut backlog);
        measured.with_context(|| broker.log_tail())?;
    }
    Ok(Report {
        options: options.clone(),
        live,
        backlog,
    })
}

fn measure(
    broker: &BrokerProcess,
    options: &Options,
    round: usize,
    live: &mut [Vec<live::Measured>],
    backlog: &mut [Vec<backlog::Measured>],
) -> Result<()> {
    for turn in turns(live::CASES.len(), round) {
        let (Some(qos), Some(all)) = (live::CASES.get(turn), live.get_mut(turn)) else {
            continue;
        };
        all.push(live::measure(broker, *qos, options.live_messages)?);
    }
    let waiting = backlog::Waiting::prepare(broker, options.backlog_messages)?;
    for turn in turns(backlog::CASES.len(), round) {
        let (Some(case), Some(all)) = (backlog::CASES.get(turn), backlog.get_mut(turn)) else {
            continue;
        };
        all.push(waiting.measure(broker, *case, options.backlog_time)?);
    }
    Ok(())
}

/// All of them, another one first in each round.
fn turns(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round) % count)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            rounds,
            live_messages,
            backlog_messages,
            ..
        } = &self.options;
        writeln!(
            f,
            "{rounds} rounds, medians of them; payloads of {PAYLOAD_BYTES} bytes; subscribers with sessions\n\n\
             {live_messages} messages to a subscriber that is there, one at a time; ms after PUBLISH was sent, for each message:\n\
             {:>3} {:>17} {:>6} {:>20} {:>6} {:>10} {:>8}",
            "QoS", "at the subscriber", "p99", "publisher is through", "p99", "commits", "bytes",
        )?;
        for (qos, measured) in live::CASES.iter().zip(&self.live) {
            let of = |of: fn(&live::Measured) -> f64| median(measured.iter().map(of));
            let through = |of_it: fn(&live::Measured) -> f64| match qos {
                // Nobody tells the publisher.
                0 => "-".to_owned(),
                _ => format!("{:.2}", of(of_it)),
            };
            writeln!(
                f,
                "{qos:>3} {:>17.2} {:>6.2} {:>20} {:>6} {:>10.2} {:>8.0}",
                of(|m| m.delivered_ms.0),
                of(|m| m.delivered_ms.1),
                through(|m| m.completed_ms.0),
                through(|m| m.completed_ms.1),
                of(|m| m.written.commits),
                of(|m| m.written.bytes),
            )?;
        }
        write!(
            f,
            "\n{backlog_messages} messages of QoS 2 that wait for a subscriber, or what of them comes in {} s:\n\
             {:>3} {:>16} {:>12} {:>10} {:>10} {:>8}",
            self.options.backlog_time.as_secs(),
            "QoS",
            "Receive Maximum",
            "messages/s",
            "messages",
            "commits",
            "bytes",
        )?;
        for (case, measured) in backlog::CASES.iter().zip(&self.backlog) {
            let of = |of: fn(&backlog::Measured) -> f64| median(measured.iter().map(of));
            write!(
                f,
                "\n{:>3} {:>16} {:>12.0} {:>10.0} {:>10.3} {:>8.0}",
                case.qos,
                case.receive_maximum,
                of(|m| m.messages_per_second),
                of(|m| m.messages.into()),
                of(|m| m.written.commits),
                of(|m| m.written.bytes),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{median_and_p99, turns};

    #[test]
    fn median_and_p99_do_not_depend_on_the_order() {
        let values = (1..=200).rev().map(f64::from).collect();
        assert_eq!(median_and_p99(values), (101.0, 199.0));
        assert_eq!(median_and_p99(vec![7.0]), (7.0, 7.0));
        assert_eq!(median_and_p99(Vec::new()), (0.0, 0.0));
    }

    #[test]
    fn every_case_has_its_turn_in_every_round() {
        for round in 0..7 {
            let mut all: Vec<_> = turns(6, round).collect();
            assert_eq!(all.first(), Some(&(round % 6)));
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        }
    }
}
