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
    let bytes_max = one_of(&mut random, [300, 1000, 2000]);
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
        true => 500 + random.below(500),
        false => 100 + random.below(200),
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
        is_busy: true,
        moved: Instant::now(),
    };
    let lived = (0..turns).try_for_each(|_| life.turn());
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

struct Life<'a> {
    world: World,
    random: Random,
    broker: &'a Running,
    is_busy: bool,
    /// When the broker's clock was moved.
    moved: Instant,
}

impl Life<'_> {
    fn turn(&mut self) -> Result<()> {
        self.world.turn(TURN)?;
        self.broker.advance(self.moved.elapsed());
        self.moved = Instant::now();
        // Without a lull nobody would ever have caught up.
        self.is_busy ^= self.random.chance(6);
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
        if !who.publishes.is_empty() && self.is_busy && self.random.chance(40) {
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

    /// Some are slow for a while, until they fall behind and longer.
    fn answer(&mut self, client: usize) -> Result<()> {
        let at_once = self.world.player(client)?.answers_at_once();
        if self.random.chance(if at_once { 3 } else { 10 }) {
            self.world.acts(client, Did::AnswersAtOnce(!at_once))?;
        } else if !at_once && self.random.chance(10) {
            self.world.acts(client, Did::Answer)?;
        }
        Ok(())
    }
}
