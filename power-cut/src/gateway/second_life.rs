//! After the cut: the clients come back with what they remember and finish what they had begun; then
//! some new messages, and when each subscriber has had the last of them, everything is judged.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use storage::{Store, StoreThreads};

use super::first_life;
use super::history::History;
use super::judge::{self, Records};
use super::link::World;
use super::player::{Did, Player};
use super::who::{self, GROUP, TOPICS, matches};
use super::{Running, open};
use crate::check::{self, Examined, Finding};
use crate::expectation::Expectation;

/// How long a turn waits for something to come.
const TURN: Duration = Duration::from_millis(5);
/// A broker with which nothing happens for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// New messages of each publisher, before the last ones: as many as it needs to use each packet
/// identifier again.
const NEW_MESSAGES: usize = 6;

/// Opens an image with the broker and looks whether every promise was kept.
pub(crate) fn check(folder: &Path, history: &History) -> Vec<Finding> {
    let mut examined = Examined::default();
    let opened = match open(folder) {
        Ok(opened) => opened,
        Err(error) => return vec![check::does_not_open(error)],
    };
    check::look_at_recovery(&opened.0, &Expectation::default(), &mut examined);
    let checked = history.players().and_then(|players| {
        let found = judge::read(&opened.0, history.bytes_max)?;
        judge::after_cut(&players, &found, &mut examined);
        let history = history.clone().with_cut();
        Ok((history.players()?, history.done.len()))
    });
    let (players, now) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            opened.1.close();
            examined.find("record", format!("{error:#}"));
            return examined.findings;
        }
    };
    match live(opened, players, history.bytes_max, now) {
        Ok((players, records)) => judge::at_the_end(&players, &records, &mut examined),
        Err(error) => examined.findings.push(broken(&error)),
    }
    examined.findings
}

/// What a client has found.
pub(crate) fn broken(error: &anyhow::Error) -> Finding {
    let kind = match error.root_cause().to_string() {
        text if text.starts_with(HANGS) => HANGS,
        _ => "broker breaks the protocol",
    };
    let what = format!("{error:#}");
    Finding { kind, what }
}

const HANGS: &str = "broker hangs";

fn live(
    opened: (Store, StoreThreads),
    players: Vec<Player>,
    bytes_max: usize,
    now: usize,
) -> Result<(Vec<Player>, Records)> {
    let broker = Running::start(opened)?;
    let mut world = World::new(broker.address, players, bytes_max, now);
    let store = broker.store.clone();
    let lived = Second {
        world: &mut world,
        broker: &broker,
        moved: Instant::now(),
        goal: Vec::new(),
    }
    .live();
    let records = judge::read(&store, bytes_max);
    let ended = broker.stop(|| first_life::end(&mut world));
    lived?;
    ended?;
    Ok((world.into_players(), records?))
}

struct Second<'a> {
    world: &'a mut World,
    broker: &'a Running,
    moved: Instant,
    /// The last message of each topic.
    goal: Vec<u64>,
}

impl Second<'_> {
    fn live(&mut self) -> Result<()> {
        for client in 0..self.world.len() {
            self.world.does(client, Did::AnswersAtOnce(true))?;
            self.world.connect(client)?;
        }
        let before: Vec<_> = self.world.players().map(|p| p.sent.len()).collect();
        let begun = self.world.now();
        self.turns("what was begun", |second| second.goes_on(&before))?;
        ensure!(self.world.now() > begun, "nothing happens");
        self.publish_last()?;
        self.turns("the last messages", |second| second.has_all())
    }

    /// Goes on until it is done.
    fn turns(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let mut progress = (self.world.now(), Instant::now());
        while !done(self)? {
            let ended = self.world.turn(TURN)?;
            ensure!(ended.is_empty(), "connection of clients {ended:?} is ended");
            self.broker.advance(self.moved.elapsed());
            self.moved = Instant::now();
            if self.world.now() > progress.0 {
                progress = (self.world.now(), Instant::now());
            }
            if progress.1.elapsed() > PATIENCE {
                bail!("{HANGS}: {what}{}", self.who_waits());
            }
        }
        Ok(())
    }

    /// Subscriptions and new messages; whether everything that was begun is over.
    fn goes_on(&mut self, before: &[usize]) -> Result<bool> {
        let mut is_over = true;
        for client in 0..self.world.len() {
            let player = self.world.player(client)?;
            if !player.kept.is_open() {
                is_over = false;
                continue;
            }
            while let Some(filter) = self.world.player(client)?.is_to_ask() {
                self.world.acts(client, Did::Subscribe { filter })?;
            }
            let before = before.get(client).context("no such client")?;
            self.publish(client, *before + NEW_MESSAGES)?;
            let player = self.world.player(client)?;
            is_over &= player.kept.on_their_way().next().is_none();
            is_over &= player.is_subscribed();
        }
        Ok(is_over)
    }

    fn publish(&mut self, client: usize, until: usize) -> Result<()> {
        loop {
            let player = self.world.player(client)?;
            let count = player.sent.len();
            let publishes = player.who.publishes;
            let (false, true, true) = (publishes.is_empty(), player.kept.has_room(), count < until)
            else {
                return Ok(());
            };
            let did = Did::Publish {
                number: player.next_number(),
                topic: count % TOPICS.len(),
                qos: publishes.get(count % publishes.len()).copied().unwrap_or(1),
            };
            self.world.acts(client, did)?;
        }
    }

    /// The first client publishes to each topic, when nobody else publishes any more.
    fn publish_last(&mut self) -> Result<()> {
        for topic in 0..TOPICS.len() {
            self.turns("room", |second| Ok(second.world.player(0)?.kept.has_room()))?;
            let number = self.world.player(0)?.next_number();
            self.goal.push(number);
            let qos = if topic < who::topics(1) { 1 } else { 2 };
            self.world.acts(0, Did::Publish { number, topic, qos })?;
        }
        Ok(())
    }

    fn has_all(&mut self) -> Result<bool> {
        let is_done = |player: &Player| {
            player.kept.check_finished().is_ok() && self.waits_for(player).is_empty()
        };
        Ok(self.world.players().all(is_done))
    }

    /// The last messages that a client has not got.
    fn waits_for(&self, player: &Player) -> Vec<u64> {
        let mut wanted = Vec::new();
        for (topic, number) in self.goal.iter().enumerate() {
            let mut filters = player.who.filters.iter();
            let is_wanted = filters.any(|filter| matches(*filter, topic));
            // One of the group is enough.
            let is_shared = player.who.filters.contains(&GROUP);
            let has_it = |player: &Player| player.delivered.iter().any(|d| d.number == *number);
            let has_it = match is_shared {
                true => judge::members(self.world.players()).any(has_it),
                false => has_it(player),
            };
            if is_wanted && !has_it {
                wanted.push(*number);
            }
        }
        wanted
    }

    fn who_waits(&self) -> String {
        let mut all = String::new();
        for player in self.world.players() {
            let on_their_way: Vec<_> = player.kept.on_their_way().collect();
            let (waits_for, finished) = (self.waits_for(player), player.kept.check_finished());
            // A string takes everything.
            let _ = write!(
                all,
                "; {}: on their way {on_their_way:?}, waits for {waits_for:?}, {finished:?}",
                player.kept.client_id()
            );
        }
        all
    }
}
