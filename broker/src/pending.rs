//! Publishes that wait for a commit: whom to acknowledge and what to deliver when it is durable.
//!
//! ```text
//! appended:    commit 7: log 3, log 1, log 3     commit 8: log 1 ...
//! taken out:   commit 7: log 1, log 3, log 3     when 7 is durable
//! ```
//!
//! Invariant: they come out in the canonical order of the log: by commit, log, partition, and in
//! the order in which they came in there, which is that of their offsets.

use std::collections::VecDeque;
use std::rc::Rc;

use mqtt::server::PublishTicket;
use storage::{Appended, CommitNumber, LogPartition};

use crate::ahead::Place as Ahead;
use crate::place::Place;
use crate::publication::Publication;
use crate::session::Session;

/// Publishes in the order in which they were appended.
#[derive(Debug, Default)]
pub(crate) struct PendingPublishes {
    queue: VecDeque<(CommitNumber, PendingPublish)>,
    /// Those of one commit, while they are sorted; kept for its memory.
    sorted: Vec<PendingPublish>,
    next_arrival: u64,
    /// Bytes of riders.
    rider_bytes: usize,
    /// How many have a ticket.
    tickets: usize,
    /// How many a client may have.
    window: usize,
    /// Clients that have one, and clients that may have no more.
    publishers: usize,
    full_publishers: usize,
}

/// A publish that waits.
#[derive(Debug)]
pub(crate) struct PendingPublish {
    /// Where its record lies; for a rider, where the record lies that it waits for.
    partition: LogPartition,
    arrival: u64,
    /// What it takes of the bound for riders.
    rider_bytes: usize,
    pub(crate) acknowledge: Option<(Rc<Session>, PublishTicket)>,
    pub(crate) publication: Option<Publication>,
    /// Where its record lies; `None` for a rider.
    pub(crate) place: Option<Place>,
}

impl PendingPublishes {
    /// A publish waits for its own record.
    pub(crate) fn push(
        &mut self,
        appended: Appended,
        acknowledge: Option<(Rc<Session>, PublishTicket)>,
        publication: Option<Publication>,
    ) {
        let place = (appended.commit, appended.partition);
        self.push_at(place, 0, acknowledge, publication);
        if let Some((_, pending)) = self.queue.back_mut() {
            pending.place = Some(appended.into());
        }
    }

    /// A publish that is not stored, or not waited for, must not overtake an earlier one of its
    /// client, whose place is `ahead`: it rides with that one's commit, or with a later one that
    /// others are waiting for already. Gives its own place, which the next one must not overtake.
    pub(crate) fn push_rider(
        &mut self,
        ahead: Ahead,
        acknowledge: Option<(Rc<Session>, PublishTicket)>,
        publication: Publication,
    ) -> Ahead {
        let bytes = publication.size_bytes();
        self.rider_bytes += bytes;
        self.push_at(ahead, bytes, acknowledge, Some(publication))
    }

    fn push_at(
        &mut self,
        (commit, partition): Ahead,
        rider_bytes: usize,
        acknowledge: Option<(Rc<Session>, PublishTicket)>,
        publication: Option<Publication>,
    ) -> Ahead {
        // The store numbers its commits in the order of the appends; only a rider can be late, and
        // may as well come out with the newest commit.
        let commit = self.queue.back().map_or(commit, |last| last.0.max(commit));
        if let Some((session, _)) = &acknowledge {
            self.begin_wait(session);
        }
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        let pending = PendingPublish {
            partition,
            arrival,
            rider_bytes,
            acknowledge,
            publication,
            place: None,
        };
        self.queue.push_back((commit, pending));
        (commit, partition)
    }

    /// For clients that may have `window` publishes unacknowledged.
    pub(crate) fn new(window: usize) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    fn begin_wait(&mut self, session: &Session) {
        let before = session.tickets.get();
        session.tickets.set(before + 1);
        self.tickets += 1;
        self.publishers += usize::from(before == 0);
        self.full_publishers += usize::from(before + 1 == self.window);
    }

    fn end_wait(&mut self, session: &Session) {
        let before = session.tickets.get();
        session.tickets.set(before.saturating_sub(1));
        self.tickets -= 1;
        self.publishers -= usize::from(before == 1);
        self.full_publishers -= usize::from(before == self.window);
    }

    /// Whether all who wait have as many publishes on their way as they may: waiting for more
    /// company would be in vain.
    pub(crate) fn is_everybody_waiting(&self) -> bool {
        self.publishers > 0 && self.full_publishers == self.publishers
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many of them somebody waits to be acknowledged for.
    pub(crate) fn tickets(&self) -> usize {
        self.tickets
    }

    /// Bytes of publishes that wait for a commit of others.
    pub(crate) fn rider_bytes(&self) -> usize {
        self.rider_bytes
    }

    /// Takes out those of the oldest commit, when it is not newer than `durable`. They are to be
    /// given back with [`give_back`](Self::give_back) when they are worked off.
    pub(crate) fn take_commit(
        &mut self,
        durable: CommitNumber,
    ) -> Option<(CommitNumber, Vec<PendingPublish>)> {
        let commit = self.queue.front()?.0;
        if commit > durable {
            return None;
        }
        let mut taken = std::mem::take(&mut self.sorted);
        while self.queue.front().is_some_and(|next| next.0 == commit)
            && let Some((_, pending)) = self.queue.pop_front()
        {
            self.rider_bytes -= pending.rider_bytes;
            if let Some((session, _)) = &pending.acknowledge {
                self.end_wait(session);
            }
            taken.push(pending);
        }
        taken.sort_unstable_by_key(|pending| (pending.partition, pending.arrival));
        Some((commit, taken))
    }

    /// Takes the memory of an emptied list back, for the next commit.
    pub(crate) fn give_back(&mut self, mut taken: Vec<PendingPublish>) {
        taken.clear();
        self.sorted = taken;
        if self.queue.is_empty() {
            // What was for a burst; an idle broker is to be small.
            self.queue.shrink_to(QUEUE_IDLE);
            self.sorted.shrink_to(QUEUE_IDLE);
        }
    }
}

/// Places of an idle queue.
const QUEUE_IDLE: usize = 1_024;
