//! What all who read the log for sessions have in common: the next part of it, the messages of a
//! commit with their places, and that others go first.

use std::time::{Duration, Instant};

use storage::{Commit, CommitNumber, CommitReader, ReadError, Store};

use crate::place::Place;
use crate::router::{Router, now};

/// How often to read where nothing comes although there should be something: a segment may have
/// been evacuated while it was read, and the next attempt finds the copy.
const ATTEMPTS: usize = 3;

/// How much longer than it took to read something the pause for live traffic is.
const OTHERS_LIVE: u32 = 3;

/// And that for an uplink that reads what is not in memory any more.
const OTHERS_UPLINK: u32 = 1;

/// How long to pause at most.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// When the reading of a part began, and what an uplink had read then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    begun: Instant,
    partition_reads: u64,
}

impl Turn {
    pub(crate) fn begin(store: &Store) -> Self {
        Self {
            begun: now(),
            partition_reads: store.counters().partition_reads(),
        }
    }
}

/// A part of the log.
pub(crate) struct Part {
    pub(crate) commits: Vec<Commit>,
    /// Where it goes on.
    pub(crate) next: CommitNumber,
    /// Nothing was left of what was durable, down to `next`.
    pub(crate) is_gone: bool,
}

/// The next part, with what `read` takes from the reader.
///
/// # Errors
/// Those of `read`.
pub(crate) fn next_part(
    store: &Store,
    reader: &mut CommitReader,
    mut read: impl FnMut(&mut CommitReader) -> Result<Vec<Commit>, ReadError>,
) -> Result<Part, ReadError> {
    // What becomes durable meanwhile is not gone.
    let (from, durable) = (reader.next_commit(), store.durable());
    for _ in 0..ATTEMPTS {
        let commits = read(reader)?;
        let next = reader.next_commit();
        if !commits.is_empty() || next > from {
            return Ok(Part {
                commits,
                next,
                is_gone: false,
            });
        }
    }
    Ok(Part {
        commits: Vec::new(),
        next: durable.next(),
        is_gone: true,
    })
}

/// Shows the messages of a commit in the order of the log. Those that cannot be read are told in the
/// log and left out.
pub(crate) fn for_each_message(commit: &Commit, mut show: impl FnMut(Place, storage::Message)) {
    for in_commit in commit.batches() {
        let partition = in_commit.partition;
        let batch = match commit.batch(partition) {
            Ok(Some(batch)) => batch,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(%error, "Messages of a batch are left out.");
                continue;
            }
        };
        for (record, index) in batch.records().zip(0..) {
            let message = record
                .map_err(|error| error.to_string())
                .and_then(|record| {
                    storage::Message::from_record(&record).map_err(|error| error.to_string())
                });
            match message {
                Ok(message) => {
                    let place = Place {
                        commit: commit.number(),
                        partition,
                        offset: in_commit.base_offset.advanced(index),
                    };
                    show(place, message);
                }
                Err(error) => tracing::error!(error, "Message cannot be read; left out."),
            }
        }
    }
}

impl Router {
    /// Live traffic goes first: as long as publishes wait for their commit, reading for sessions takes a
    /// quarter of the time. Beside an uplink that has read from flash in this turn it takes half of it.
    pub(crate) async fn give_way(&self, store: &Store, turn: Turn) {
        let others = match self.pending.borrow().len() {
            0 if store.counters().partition_reads() == turn.partition_reads => return,
            0 => OTHERS_UPLINK,
            _ => OTHERS_LIVE,
        };
        self.counters.catch_up_pauses.increment();
        let busy = now().saturating_duration_since(turn.begun);
        let pause = tokio::time::sleep((busy * others).min(PAUSE_MAX));
        let idle = async {
            loop {
                let progress = self.progress.notified();
                if others == OTHERS_LIVE && self.pending.borrow().len() == 0 {
                    return;
                }
                progress.await;
            }
        };
        tokio::select! {
            () = pause => {}
            () = idle => {}
        }
    }
}
