//! What the clients did and saw before a cut, and who they are after it.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::player::{Did, Player};
use super::who;

/// See the module's documentation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct History {
    /// Of payloads.
    pub(crate) bytes_max: usize,
    /// Who, and what; a thing's place is its time.
    pub(crate) done: Vec<(usize, Did)>,
}

impl History {
    /// The clients as they are then.
    pub(crate) fn players(&self) -> Result<Vec<Player>> {
        let all = who::ALL.iter().enumerate();
        let mut players: Vec<_> = all
            .map(|(number, who)| Player::new(number, who, self.bytes_max))
            .collect();
        for (at, (client, did)) in self.done.iter().enumerate() {
            let player = players.get_mut(*client).context("no such client")?;
            player.apply(at, did).context("before the cut")?;
        }
        Ok(players)
    }

    /// The same, and then the power went.
    pub(crate) fn with_cut(mut self) -> Self {
        let cuts = (0..who::ALL.len()).map(|client| (client, Did::PowerCut));
        self.done.extend(cuts);
        self
    }
}
