//! SIGKILL between the publishers and subscribers with sessions: nothing that was acknowledged is lost.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::books::{Plain, Seen};
use super::load::{Load, Planned};
use super::stage::{QUIET, Stage};
use super::verdict;
use crate::chaos::seeded::Seeded;
use crate::mqtt::Version;
use crate::mqtt::kept::Loss;

/// Topics of the messages.
const TOPICS: u32 = 7;

/// What the subscribers do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribers {
    /// They are away until everything is published and the product was killed: none gets a message
    /// twice, since none was on its way.
    Away,
    /// They are there, and come again after each kill: messages of QoS 1 may come again.
    There,
    /// They come and go.
    Moving,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the subscribers do meanwhile.
    pub subscribers: Subscribers,
    /// How many there are; every other one speaks MQTT 5.
    pub count: usize,
    /// QoS of the messages and the subscriptions.
    pub qos: u8,
    /// How many messages.
    pub messages: u32,
    /// Kills; with [`Subscribers::Away`] the last one is behind the last acknowledgement.
    pub kills: u32,
    /// Decides about the times of kills, coming and going.
    pub seed: u64,
    /// The product; by default that of the tests.
    pub program: Option<PathBuf>,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    repeats: u64,
    sent_again: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            subscribers,
            count,
            qos,
            messages,
            kills,
            seed,
            ..
        } = &self.options;
        write!(
            f,
            "seed {seed}: {count} subscribers ({subscribers:?}) got {messages} messages of QoS {qos} \
             each, over {kills} kills, {} of them twice; {} messages were published again",
            self.repeats, self.sent_again
        )
    }
}

fn message(number: u32, qos: u8) -> Planned {
    Planned {
        topic: format!("a/{}", number % TOPICS),
        qos,
        bytes: 50,
        publisher: 0,
    }
}

/// Runs.
///
/// # Errors
/// When a session did not get what it must, or the product cannot be started.
pub fn run(options: &Options) -> Result<Report> {
    let Options {
        subscribers,
        count,
        qos,
        messages,
        ..
    } = *options;
    let mut random = Seeded::new(options.seed);
    let mut stage = Stage::set(options.program.clone(), count, "")?;
    let message = |number| message(number, qos);
    let clients: Vec<usize> = (0..count)
        .map(|number| {
            let version = [Version::V5, Version::V311].into_iter().nth(number % 2);
            stage.add(version.unwrap_or(Version::V5), &format!("s{number}"))
        })
        .collect();
    let mut load = Load::new(&mut stage, 1);
    let mut books = Plain::new(stage.crowd.len());
    subscribe(&mut stage, &mut books, &clients, qos)?;
    if subscribers == Subscribers::Away {
        go(&mut stage, &mut books, &clients)?;
    }
    load.connect(&mut stage, &mut books)?;
    load.plan(0..messages, message);
    for point in kill_points(options, &mut random) {
        stage.until("acknowledgements", &mut books, |stage, books| {
            load.publish(stage, &message)?;
            if subscribers == Subscribers::Moving {
                come_or_go(stage, &clients, &mut random)?;
            }
            Ok(books.acknowledged.len() >= point)
        })?;
        load.kill_server(&mut stage, &mut books, &message)?;
        if subscribers == Subscribers::There {
            stage.connect(clients.iter().copied(), &mut books)?;
        }
    }
    load.publish_until(&mut stage, &mut books, &message, messages as usize)?;
    receive_rest(&mut stage, &mut books, &clients, messages)?;
    let may_repeat = |number| match subscribers {
        Subscribers::Away => load.sent_again.contains(&number),
        Subscribers::There | Subscribers::Moving => qos == 1,
    };
    let records = stage.metric("tidegate_log_high_watermark")?;
    ensure!(
        qos == 1 || records == f64::from(messages),
        "seed {}: {records} records of {messages} messages of QoS 2",
        options.seed
    );
    let expected: Vec<u32> = (0..messages).collect();
    let mut repeats = 0;
    for client in &clients {
        let seen: &Seen = books.seen.get(*client).context("a client")?;
        let verdict = verdict::check(&expected, &seen.received, |n| n % TOPICS, may_repeat);
        repeats += verdict
            .with_context(|| format!("seed {}, subscriber {client}", options.seed))
            .with_context(|| stage.broker.log_tail())?;
    }
    Ok(Report {
        options: options.clone(),
        repeats,
        sent_again: load.sent_again.len(),
    })
}

/// After how many acknowledgements it is killed.
fn kill_points(options: &Options, random: &mut Seeded) -> Vec<usize> {
    let messages = options.messages as usize;
    let mut points: Vec<usize> = (0..options.kills)
        .map(|_| usize::try_from(random.below(options.messages.into())).unwrap_or(0))
        .collect();
    points.sort_unstable();
    if options.subscribers == Subscribers::Away
        && let Some(last) = points.last_mut()
    {
        *last = messages;
    }
    points
}

fn subscribe(stage: &mut Stage, books: &mut Plain, clients: &[usize], qos: u8) -> Result<()> {
    stage.connect(clients.iter().copied(), books)?;
    for client in clients {
        stage.crowd.kept(*client)?.subscribe("a/#", qos)?;
        stage.crowd.flush(*client)?;
    }
    stage.until("SUBACK", books, |_, books| {
        Ok(books.all(clients.iter().copied(), |seen| seen.subscribed > 0))
    })
}

fn go(stage: &mut Stage, books: &mut Plain, clients: &[usize]) -> Result<()> {
    for client in clients {
        stage.crowd.say_good_bye(*client)?;
    }
    stage.until("the end of connections", books, |_, books| {
        Ok(books.all(clients.iter().copied(), |seen| !seen.is_connected))
    })
}

/// One subscriber comes, or goes with or without a word.
fn come_or_go(stage: &mut Stage, clients: &[usize], random: &mut Seeded) -> Result<()> {
    let index = usize::try_from(random.below(clients.len() as u64)).unwrap_or(0);
    let Some(&client) = clients.get(index) else {
        return Ok(());
    };
    if !stage.crowd.kept(client)?.is_open() {
        return stage.crowd.connect(client, false).map(drop);
    }
    match random.below(3) {
        0 => stage.crowd.say_good_bye(client),
        1 => stage.crowd.vanish(client, Loss::OfConnection),
        // The connection before is taken over.
        _ => stage.crowd.connect(client, false).map(drop),
    }
}

/// Everybody comes, and stays until the last message and everything before it is there.
fn receive_rest(
    stage: &mut Stage,
    books: &mut Plain,
    clients: &[usize],
    messages: u32,
) -> Result<()> {
    stage.connect(clients.iter().copied(), books)?;
    stage.until_quiet(QUIET, books, |_, books| {
        let has_last = |seen: &Seen| seen.received.contains(&(messages - 1));
        Ok(books.all(clients.iter().copied(), has_last))
    })?;
    stage.settle(books, clients)
}
