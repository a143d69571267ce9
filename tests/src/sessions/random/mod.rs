//! Random steps: publishers and subscribers of both versions that connect, subscribe, unsubscribe, are
//! slow, say good-bye or not, take over and start anew, and a product that is killed in between. What
//! each must get is in `model`, what groups of them must get in `shared`.

mod model;
mod shared;

use std::fmt;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::books::payload;
use super::stage::{QUIET, Stage};
use crate::chaos::seeded::Seeded;
use crate::mqtt::Version;
use crate::mqtt::kept::Loss;
use model::{Again, FILTERS, Model, SHARED, TOPICS, topic, topic_name};

/// Most messages of one step.
const BURST: u64 = 20;
/// Connections that were taken over and are open still.
const OLDER_MAX: usize = 8;
const PAYLOAD_BYTES: usize = 300;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Steps.
    pub steps: u32,
    /// Subscribers; every other one speaks MQTT 5.
    pub subscribers: usize,
    /// Publishers, likewise. Each has topics of its own.
    pub publishers: usize,
    /// One step of so many is a kill.
    pub steps_of_a_kill: u64,
    /// Decides about everything.
    pub seed: u64,
    /// The product; by default that of the tests.
    pub program: Option<PathBuf>,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    messages: usize,
    kills: u32,
    deliveries: u64,
    repeats: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            steps,
            subscribers,
            publishers,
            seed,
            ..
        } = &self.options;
        write!(
            f,
            "seed {seed}: {steps} steps of {subscribers} subscribers and {publishers} publishers, {} \
             kills; {} messages, {} deliveries, {} of them again after a kill or resend",
            self.kills, self.messages, self.deliveries, self.repeats
        )
    }
}

/// A run while it runs.
struct Run {
    stage: Stage,
    model: Model,
    random: Seeded,
    subscribers: Vec<usize>,
    publishers: Vec<usize>,
    older: Vec<TcpStream>,
    kills: u32,
    steps_of_a_kill: u64,
}

/// Mailboxes that are soon full, and fuller all together.
const SMALL: &str = "packet_bytes_max = \"8KiB\"\nmailbox_bytes_max = \"8KiB\"\n\
                     all_mailboxes_bytes_max = \"64KiB\"\n";

impl Run {
    fn begin(options: &Options) -> Result<Self> {
        let count = options.subscribers + options.publishers;
        // With every other seed there is room for few messages in memory.
        let limits = match options.seed % 2 {
            0 => "",
            _ => SMALL,
        };
        let mut stage = Stage::set(options.program.clone(), count, limits)?;
        let add = |(stage, name): (&mut Stage, &str), number: usize| {
            let version = Version::BOTH.into_iter().nth(number % 2);
            stage.add(version.unwrap_or(Version::V5), &format!("{name}-{number}"))
        };
        let subscribers: Vec<usize> = (0..options.subscribers)
            .map(|number| add((&mut stage, "subscriber"), number))
            .collect();
        for client in &subscribers {
            stage.crowd.kept(*client)?.shares(SHARED);
        }
        let publishers: Vec<usize> = (0..options.publishers)
            .map(|number| add((&mut stage, "publisher"), number))
            .collect();
        Ok(Self {
            stage,
            model: Model::new(count),
            random: Seeded::new(options.seed),
            subscribers,
            publishers,
            older: Vec::new(),
            kills: 0,
            steps_of_a_kill: options.steps_of_a_kill,
        })
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).unwrap_or(0)
    }

    fn step(&mut self) -> Result<()> {
        if self.random.below(self.steps_of_a_kill) == 0 {
            self.kill()?;
        } else if self.random.below(2) == 0 {
            let publisher = self.below(self.publishers.len());
            self.publish(publisher)?;
        } else {
            let index = self.below(self.subscribers.len());
            let client = self.subscribers.get(index).context("a subscriber")?;
            self.move_subscriber(*client)?;
        }
        let pause = Duration::from_millis(self.random.below(4));
        self.stage.turn(pause, &mut self.model).map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        self.note_on_their_way()?;
        self.stage.kill()?;
        self.model.server_is_dead();
        self.older.clear();
        self.kills += 1;
        self.stage.start()
    }

    /// What publishers have on their way is sent again.
    fn note_on_their_way(&mut self) -> Result<()> {
        for client in &self.publishers {
            let kept = self.stage.crowd.kept(*client)?;
            self.model.sent_again(kept.on_their_way());
        }
        Ok(())
    }

    /// A publisher sends some messages to its own topics, comes, or goes.
    fn publish(&mut self, index: usize) -> Result<()> {
        let client = *self.publishers.get(index).context("a publisher")?;
        if !self.stage.crowd.kept(client)?.is_open() {
            return self.stage.connect([client], &mut self.model);
        }
        if self.random.below(100) == 0 {
            let on_their_way = self.stage.crowd.kept(client)?.on_their_way();
            self.model.sent_again(on_their_way);
            return self.stage.crowd.vanish(client, Loss::OfConnection);
        }
        for _ in 0..=self.random.below(BURST) {
            let publishers = self.publishers.len() as u64;
            let topic = topic(self.random.below(u64::from(u16::MAX)) * publishers + index as u64);
            let qos = 1 + u8::try_from(self.random.below(2)).unwrap_or(0);
            let kept = self.stage.crowd.kept(client)?;
            if !kept.has_room() {
                break;
            }
            let number = self.model.sent(topic, qos)?;
            let payload = payload(number, PAYLOAD_BYTES);
            kept.publish(&topic_name(topic), &payload, qos, number.into())?;
        }
        self.stage.crowd.flush(client)
    }

    fn move_subscriber(&mut self, client: usize) -> Result<()> {
        let kept = self.stage.crowd.kept(client)?;
        let is_v5 = kept.version() == Version::V5;
        if !kept.is_open() {
            let clean_start = is_v5 && self.random.below(20) == 0;
            return self.connect(client, clean_start);
        }
        match self.random.below(20) {
            0..=2 => {
                self.model.lost(client);
                self.stage.crowd.vanish(client, Loss::OfConnection)
            }
            3..=4 => {
                self.model.lost(client);
                self.stage.crowd.say_good_bye(client)
            }
            5 => self.connect(client, false),
            6..=10 => self.change_subscriptions(client),
            11 => self.stage.crowd.set_reading(client, false),
            12 => self.stage.crowd.set_reading(client, true),
            13..=14 => {
                kept.answer_at_once(false);
                Ok(())
            }
            15..=17 => {
                kept.answer(10);
                self.stage.crowd.flush(client)
            }
            _ => {
                kept.answer_at_once(true);
                self.stage.crowd.flush(client)
            }
        }
    }

    fn connect(&mut self, client: usize, clean_start: bool) -> Result<()> {
        let clean_start = clean_start || self.stage.crowd.kept(client)?.owes_clean_start();
        let again = self.model.connecting(client, clean_start)?;
        if let Some(older) = self.stage.crowd.connect(client, clean_start)? {
            if self.older.len() >= OLDER_MAX {
                self.older.remove(0);
            }
            self.older.push(older);
        }
        // What was asked for and not answered is asked for again, before anything else.
        if let Some(again) = again {
            self.stage.until("CONNACK", &mut self.model, |stage, _| {
                Ok(stage.crowd.kept(client)?.is_open())
            })?;
            match again {
                Again::Subscribe(filter, qos) => self.subscribe(client, filter, qos)?,
                Again::Unsubscribe(filter) => self.unsubscribe(client, filter)?,
            }
        }
        Ok(())
    }

    fn change_subscriptions(&mut self, client: usize) -> Result<()> {
        if self.model.is_waiting(client) {
            return Ok(());
        }
        let filter = self.below(FILTERS.len());
        if self.random.below(3) == 0 {
            return self.unsubscribe(client, filter);
        }
        // The same each time, so that a subscription that is made again stays as it was.
        let qos = 1 + u8::try_from((filter + client) % 2).unwrap_or(0);
        self.subscribe(client, filter, qos)
    }

    fn subscribe(&mut self, client: usize, filter: usize, qos: u8) -> Result<()> {
        self.model.subscribing(client, filter, qos)?;
        let text = FILTERS.get(filter).context("a filter")?;
        self.stage.crowd.kept(client)?.subscribe(text, qos)?;
        self.stage.crowd.flush(client)
    }

    fn unsubscribe(&mut self, client: usize, filter: usize) -> Result<()> {
        self.model.unsubscribing(client, filter)?;
        let text = FILTERS.get(filter).context("a filter")?;
        self.stage.crowd.kept(client)?.unsubscribe(text)?;
        self.stage.crowd.flush(client)
    }

    /// Everybody comes and takes what is left.
    fn finish(&mut self) -> Result<()> {
        for index in 0..self.publishers.len() {
            let client = *self.publishers.get(index).context("a publisher")?;
            if !self.stage.crowd.kept(client)?.is_open() {
                self.stage.connect([client], &mut self.model)?;
            }
        }
        for client in self.subscribers.clone() {
            // Also who is there: it may be leaving.
            self.connect(client, false)?;
            let kept = self.stage.crowd.kept(client)?;
            kept.answer_at_once(true);
            self.stage.crowd.flush(client)?;
        }
        let (publishers, subscribers) = (&self.publishers, &self.subscribers);
        let all_published = |stage: &mut Stage, _: &mut Model| {
            for client in publishers {
                if stage.crowd.kept(*client)?.on_their_way().next().is_some() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let (stage, model) = (&mut self.stage, &mut self.model);
        stage.until("acknowledgements", model, all_published)?;
        stage.until("answers to requests", model, |_, model| {
            Ok(!subscribers.iter().any(|client| model.is_waiting(*client)))
        })?;
        stage.settle(model, subscribers)?;
        stage.until_quiet(QUIET, model, |_, model| {
            let mut clients = subscribers.iter();
            Ok(clients.all(|client| model.missing(*client).is_empty())
                && model.missing_in_groups().is_empty())
        })?;
        if let Some(first) = model.missing_in_groups().first() {
            bail!(
                "{} messages of groups are missing, the first is {first}: {:?}\n{}",
                model.missing_in_groups().len(),
                model.messages.get(*first as usize),
                stage.broker.log_tail()
            );
        }
        for client in subscribers {
            let missing = model.missing(*client);
            if let Some(first) = missing.first() {
                bail!(
                    "{}: {} messages are missing, the first is {first}: {:?}\n{}",
                    stage.crowd.kept(*client)?.client_id(),
                    missing.len(),
                    model.messages.get(*first as usize),
                    stage.broker.log_tail()
                );
            }
        }
        Ok(())
    }
}

/// Runs. Every hundredth step is told to `say`.
///
/// # Errors
/// What a subscriber got or did not get against the model, with seed and step.
pub fn run(options: &Options, mut say: impl FnMut(&str)) -> Result<Report> {
    ensure!(
        TOPICS.checked_rem(options.publishers) == Some(0),
        "{} publishers: the number must divide {TOPICS}, so that each topic has one",
        options.publishers
    );
    let mut run = Run::begin(options)?;
    for step in 0..options.steps {
        let done = run.step();
        done.with_context(|| format!("seed {}, step {step}", options.seed))?;
        if step % 1000 == 999 {
            let (messages, kills) = (run.model.messages.len(), run.kills);
            say(&format!(
                "step {}: {messages} messages, {kills} kills",
                step + 1
            ));
        }
    }
    let finished = run.finish();
    finished.with_context(|| format!("seed {}, after all steps", options.seed))?;
    let (deliveries, repeats) = run.model.counts();
    Ok(Report {
        options: options.clone(),
        messages: run.model.messages.len(),
        kills: run.kills,
        deliveries,
        repeats,
    })
}
