//! Numbered messages, published by a few clients with full windows.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Context, Result};

use super::books::{Plain, payload};
use super::stage::{Stage, WINDOW};
use crate::mqtt::Version;

/// A message that is to be published.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) topic: String,
    pub(super) qos: u8,
    pub(super) bytes: usize,
    /// Which client publishes it: the same for all messages of a topic.
    pub(super) publisher: usize,
}

/// The clients and what they have before them.
#[derive(Debug)]
pub(super) struct Load {
    clients: Vec<usize>,
    queues: Vec<VecDeque<u32>>,
    /// Messages of QoS 1 that were sent again after a kill: they may be there twice.
    pub(super) sent_again: BTreeSet<u32>,
}

impl Load {
    /// Adds so many clients, which are not connected.
    pub(super) fn new(stage: &mut Stage, clients: usize) -> Self {
        let add = |number| {
            let version = Version::BOTH.into_iter().nth(number % 2);
            let version = version.unwrap_or(Version::V5);
            stage.add(version, &format!("publisher-{number}"))
        };
        Self {
            clients: (0..clients).map(add).collect(),
            queues: vec![VecDeque::new(); clients],
            sent_again: BTreeSet::new(),
        }
    }

    /// Connects them.
    pub(super) fn connect(&self, stage: &mut Stage, books: &mut Plain) -> Result<()> {
        stage.connect(self.clients.iter().copied(), books)
    }

    /// These messages are to be published.
    pub(super) fn plan(
        &mut self,
        numbers: impl IntoIterator<Item = u32>,
        message: impl Fn(u32) -> Planned,
    ) {
        let count = self.queues.len();
        for number in numbers {
            let queue = self.queues.get_mut(message(number).publisher % count);
            queue.into_iter().for_each(|queue| queue.push_back(number));
        }
    }

    /// Fills the windows.
    pub(super) fn publish(
        &mut self,
        stage: &mut Stage,
        message: &impl Fn(u32) -> Planned,
    ) -> Result<()> {
        for (client, queue) in self.clients.iter().zip(&mut self.queues) {
            let kept = stage.crowd.kept(*client)?;
            // Many at once, so that they share a commit and a sync.
            if kept.on_their_way().count() > usize::from(WINDOW / 2) {
                continue;
            }
            while kept.has_room()
                && let Some(number) = queue.pop_front()
            {
                let planned = message(number);
                let payload = payload(number, planned.bytes);
                kept.publish(&planned.topic, &payload, planned.qos, number.into())?;
            }
            stage.crowd.flush(*client)?;
        }
        Ok(())
    }

    /// Publishes until so many messages are acknowledged in all.
    pub(super) fn publish_until(
        &mut self,
        stage: &mut Stage,
        books: &mut Plain,
        message: &impl Fn(u32) -> Planned,
        acknowledged: usize,
    ) -> Result<()> {
        stage.until("acknowledgements", books, |stage, books| {
            self.publish(stage, message)?;
            Ok(books.acknowledged.len() >= acknowledged)
        })
    }

    /// SIGKILL on the product, which is started again; the clients come back.
    pub(super) fn kill_server(
        &mut self,
        stage: &mut Stage,
        books: &mut Plain,
        message: &impl Fn(u32) -> Planned,
    ) -> Result<()> {
        stage.kill()?;
        books.server_is_dead();
        for client in &self.clients {
            for tag in stage.crowd.kept(*client)?.on_their_way() {
                let number = u32::try_from(tag).context("tag")?;
                if message(number).qos == 1 {
                    self.sent_again.insert(number);
                }
            }
        }
        stage.start()?;
        self.connect(stage, books)
    }
}
