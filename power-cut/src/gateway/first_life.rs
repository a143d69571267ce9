//! What is recorded: clients that publish, subscribe, come, go and are slow, and checkpoints.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use storage::{Store, StoreThreads};

use super::Running;
use super::history::History;
use super::link::World;
use super::player::Did;
use super::second_life;
use super::step;
use super::who::{self, Who};
use crate::check;
use crate::expectation::Expectation;
use crate::random::Random;
use crate::recorder::{self, Plan};
use crate::workload::{Recorded, Run};

/// Longer than the broker lets a checkpoint wait.
const CHECKPOINT_TIME: Duration = Duration::from_secs(11);
/// How long a turn waits for something to come.
const TURN: Duration = Duration::from_millis(1);
/// A broker that does not end its connections in this time hangs.
const END_MAX: Duration = Duration::from_secs(60);

/// Lets a broker serve clients, who may have had an earlier life, and returns what happened to its
/// folder and to them.
pub(crate) fn record(run: Run, folder: &Path, before: Expectation) -> Result<Recorded> {
    let mut random = Random::new(run.seed, 2);
    let one_of = |random: &mut Random, all: [usize; 3]| {
        let chosen = random.below(all.len());
        all.get(chosen).copied().unwrap_or(1)
    };
    let bytes_max = one_of(&mut random, [600, 1200, 2000]);
    let sync_us_max = one_of(&mut random, [200, 1000, 4000]);
    let is_first = before.history.is_none();
    let history = match before.history {
        Some(history) => history.with_cut(),
        None => History {
            bytes_max,
            ..History::default()
        },
    };
    step::listen_to_broker();
    recorder::begin(Plan {
        folder,
        seed: run.seed,
        control: run.control,
        sync_us_max,
        before: Expectation {
            history: Some(history.clone()),
            ..Expectation::default()
        },
    })?;
    let opened = match super::open(folder) {
        Ok(opened) => opened,
        Err(error) => return Ok(Recorded::Bad(vec![check::does_not_open(error)])),
    };
    let turns = match is_first {
        true => 400 + random.below(400),
        false => 200 + random.below(160),
    };
    match live(opened, &history, random, turns) {
        Ok(()) => Ok(Recorded::Trace(Box::new(recorder::finish()?))),
        Err(error) if is_first => Err(error.context("before any cut")),
        Err(error) => Ok(Recorded::Bad(vec![second_life::broken(&error)])),
    }
}

fn live(
    opened: (Store, StoreThreads),
    history: &History,
    random: Random,
    turns: usize,
) -> Result<()> {
    let players = history.players()?;
    let broker = Running::start(opened)?;
    let now = history.done.len();
    let world = World::new(broker.address, players, history.bytes_max, now);
    let mut life = Life {
        world,
        random,
        broker: &broker,
        mood: USUAL,
        moved: Instant::now(),
    };
    let lived = life.live(turns);
    let Life { mut world, .. } = life;
    let ended = broker.stop(|| end(&mut world));
    lived.and(ended)
}

/// Waits until the broker has ended all connections.
pub(crate) fn end(world: &mut World) -> Result<()> {
    let begun = Instant::now();
    while (0..world.len()).any(|client| world.is_connected(client)) {
        anyhow::ensure!(begun.elapsed() < END_MAX, "the broker does not end");
        world.turn(TURN)?;
    }
    Ok(())
}

/// How often something happens in a turn, in percent.
#[derive(Clone, Copy)]
struct Mood {
    publishes: u8,
    becomes_slow: u8,
    becomes_fast: u8,
}

const USUAL: Mood = Mood {
    publishes: 30,
    becomes_slow: 4,
    becomes_fast: 10,
};
/// After a calm, so that whoever has caught up falls behind.
const FLOOD: Mood = Mood {
    publishes: 90,
    becomes_slow: 30,
    becomes_fast: 5,
};
const MOOD_TURNS: usize = 40;
/// A calm is over when nothing comes in one of its turns, or after so many.
const CALM_TURN: Duration = Duration::from_millis(5);
const CALM_TURNS: usize = 200;

struct Life<'a> {
    world: World,
    random: Random,
    broker: &'a Running,
    mood: Mood,
    /// When the broker's clock was moved.
    moved: Instant,
}

impl Life<'_> {
    fn live(&mut self, turns: usize) -> Result<()> {
        for number in 0..turns {
            if number % (2 * MOOD_TURNS) == 0 {
                self.mood = USUAL;
            } else if number % MOOD_TURNS == 0 {
                self.calm()?;
                self.mood = FLOOD;
            }
            self.turn()?;
        }
        Ok(())
    }

    /// All are there, and take what there is; nobody publishes.
    fn calm(&mut self) -> Result<()> {
        for _ in 0..CALM_TURNS {
            for client in 0..self.world.len() {
                let player = self.world.player(client)?;
                if !self.world.is_connected(client) {
                    self.world.connect(client)?;
                } else if player.kept.is_open() && !player.answers_at_once() {
                    self.world.acts(client, Did::AnswersAtOnce(true))?;
                }
            }
            let before = self.world.now();
            self.world.turn(CALM_TURN)?;
            self.move_clock();
            if self.world.now() == before {
                break;
            }
        }
        Ok(())
    }

    fn move_clock(&mut self) {
        self.broker.advance(self.moved.elapsed());
        self.moved = Instant::now();
    }

    fn turn(&mut self) -> Result<()> {
        self.world.turn(TURN)?;
        self.move_clock();
        if self.random.chance(4) {
            self.broker.advance(CHECKPOINT_TIME);
        }
        for client in 0..self.world.len() {
            match self.world.is_connected(client) {
                true => self.act(client)?,
                false if self.random.chance(15) => self.world.connect(client)?,
                false => {}
            }
        }
        Ok(())
    }

    fn act(&mut self, client: usize) -> Result<()> {
        let player = self.world.player(client)?;
        if !player.kept.is_open() {
            return Ok(());
        }
        let who = player.who;
        while let Some(filter) = self.world.player(client)?.is_to_ask() {
            self.world.acts(client, Did::Subscribe { filter })?;
        }
        if !who.publishes.is_empty() && self.random.chance(self.mood.publishes) {
            self.publish(client, who.publishes)?;
        }
        if !who.filters.is_empty() {
            self.answer(client)?;
            if self.world.player(client)?.may_ask() {
                self.change(client, who)?;
            }
        }
        if self.random.chance(who.goes_percent) {
            match self.random.chance(50) {
                true => self.world.acts(client, Did::Leave)?,
                false => self.world.vanish(client)?,
            }
        }
        Ok(())
    }

    /// Subscribes once more to what it has, or takes it back.
    fn change(&mut self, client: usize, who: &Who) -> Result<()> {
        let filter = who.filters.get(self.random.below(who.filters.len()));
        let filter = *filter.context("a filter")?;
        if self.random.chance(2) {
            self.world.acts(client, Did::Subscribe { filter })?;
        } else if self.random.chance(who.unsubscribes_percent) {
            self.world.acts(client, Did::Unsubscribe { filter })?;
        }
        Ok(())
    }

    fn publish(&mut self, client: usize, publishes: &[u8]) -> Result<()> {
        for _ in 0..=self.random.below(3) {
            let player = self.world.player(client)?;
            if !player.kept.has_room() {
                break;
            }
            let number = player.next_number();
            let qos = publishes.get(self.random.below(publishes.len())).copied();
            let qos = qos.context("a QoS")?;
            let topic = self.random.below(who::topics(qos));
            self.world
                .acts(client, Did::Publish { number, topic, qos })?;
        }
        Ok(())
    }

    /// Some are slow for a while.
    fn answer(&mut self, client: usize) -> Result<()> {
        let at_once = self.world.player(client)?.answers_at_once();
        let changes = match at_once {
            true => self.mood.becomes_slow,
            false => self.mood.becomes_fast,
        };
        if self.random.chance(changes) {
            self.world.acts(client, Did::AnswersAtOnce(!at_once))?;
        } else if !at_once && self.random.chance(5) {
            self.world.acts(client, Did::Answer)?;
        }
        Ok(())
    }
}
