//! Where replays are, on flash, while their clients are there: a long one does not begin again far back
//! after a crash.
//!
//! A session's record says it, as when it subscribes and when its client goes. It is written once more
//! when a replay has moved, with the rhythm of the shared checkpoint, for a few sessions at a time, those
//! first that have waited longest. Sessions without replays write nothing.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use storage::CommitNumber;

use crate::replays::ReplayAt;
use crate::router::Router;
use crate::session::SessionState;
use crate::session_keeping::RECORD_WITHIN;

/// The shortest time between two rounds.
const INTERVAL: Duration = Duration::from_secs(10);
/// Records that are written in one round: many sessions that read history must not cost more flash than
/// what is published.
const SESSIONS_MAX: usize = 16;

/// How far the replays of sessions with a connection are on flash.
#[derive(Debug, Default)]
pub(crate) struct WrittenReplays {
    /// By client identifier: when it was written, and the commit that is the furthest back.
    written: HashMap<Bytes, (Instant, CommitNumber)>,
    round_at: Option<Instant>,
}

/// The commit in which the replay of a session goes on that is the furthest back; `None` if none has begun.
fn position_of(state: &SessionState) -> Option<CommitNumber> {
    let outbound = state.outbound.borrow();
    let positions = outbound.replays.positions(&outbound.replayed_qos1());
    let commits = positions.iter().filter_map(|replay| match replay.at {
        ReplayAt::Place(place) => Some(place.commit),
        ReplayAt::Time { .. } | ReplayAt::Last { .. } => None,
    });
    commits.min()
}

impl Router {
    /// Writes down how far replays have come, if the last round is old enough.
    pub(crate) fn write_replays(&self, now: Instant) {
        let mut written = self.written_replays.borrow_mut();
        let is_early = written
            .round_at
            .is_some_and(|at| now.saturating_duration_since(at) < INTERVAL);
        if is_early || self.store.is_none() {
            return;
        }
        let replaying: Vec<Rc<SessionState>> = {
            let replaying = self.replaying.borrow();
            let there = replaying.iter().filter(|s| s.is_persistent());
            there.filter(|s| s.is_attached()).cloned().collect()
        };
        let client_id = |state: &SessionState| Bytes::copy_from_slice(state.client_id().as_bytes());
        let mut earlier = std::mem::take(&mut written.written);
        let mut moved = Vec::new();
        for state in replaying {
            let Some(position) = position_of(&state) else {
                continue;
            };
            let before = earlier.remove(state.client_id().as_bytes());
            if let Some(before) = before {
                written.written.insert(client_id(&state), before);
            }
            if before.is_none_or(|(_, commit)| commit != position) {
                moved.push((before.map(|(at, _)| at), position, state));
            }
        }
        if moved.is_empty() {
            return;
        }
        moved.sort_by_key(|(at, ..)| *at);
        moved.truncate(SESSIONS_MAX);
        written.round_at = Some(now);
        for (_, position, state) in moved {
            written.written.insert(client_id(&state), (now, position));
            self.write_session(&state, RECORD_WITHIN);
        }
    }
}
