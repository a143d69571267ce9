//! Finding where a replay begins, a step at a time: each reads a bounded part of the log on another
//! thread and holds none of it afterwards.
//!
//! The last messages that match are counted from the end of the log backwards, a run of commits at a
//! time: nobody knows before how far back they lie. The runs grow where little is read, and shrink where
//! much is.

use storage::{Commit, CommitNumber, ReadError, Store};

use crate::place::Place;
use crate::replay::{matches, messages};
use crate::replays::{Counted, Replay, ReplayAt};

/// Bytes of commits that are read at once.
const READ_BYTES: usize = 65_536;

/// Commits in the first run, and bytes that a run is to have at least and at most.
const RUN_COMMITS: u64 = 64;
const RUN_BYTES_MIN: usize = 131_072;
const RUN_BYTES_MAX: usize = 524_288;

/// What a step found.
pub(crate) enum Found {
    /// The beginning, or one that is later than the replay may begin.
    Place(Place),
    /// It is to go on from here.
    Counted(Counted),
}

/// Looks for the beginning of a replay.
///
/// # Errors
/// The log cannot be read now.
pub(crate) async fn find(store: &Store, replay: &Replay) -> Result<Found, String> {
    let (store, replay) = (store.clone(), replay.clone());
    let found = tokio::task::spawn_blocking(move || match replay.at {
        ReplayAt::Place(place) => Ok(Found::Place(place)),
        ReplayAt::Time { at_ms } => {
            let mut reader = store.commit_reader(CommitNumber(0));
            reader.seek_to_time(at_ms)?;
            Ok(Found::Place(Place::beginning_of(reader.next_commit())))
        }
        ReplayAt::Last { count } => count_back(&store, &replay, count),
    });
    match found.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(ReadError::to_string(&error)),
        Err(_) => Err("the reader panicked".to_owned()),
    }
}

/// Looks at one more run of commits.
fn count_back(store: &Store, replay: &Replay, count: u32) -> Result<Found, ReadError> {
    let counted = match replay.counted {
        Some(counted) => counted,
        None => {
            let first = store.commit_reader(CommitNumber(0)).read(1)?;
            Counted {
                messages: 0,
                // Part of that commit may lie before the place.
                from: replay.at_latest.commit.next(),
                oldest: first
                    .first()
                    .map_or(replay.at_latest.commit, Commit::number),
                commits: RUN_COMMITS,
            }
        }
    };
    if counted.from <= counted.oldest {
        return Ok(Found::Place(Place::beginning_of(counted.oldest)));
    }
    let start = counted.from.0.saturating_sub(counted.commits);
    let run = CommitNumber(start).max(counted.oldest)..counted.from;
    let mut messages = 0;
    let bytes = visit(store, replay, run.clone(), |_| {
        messages += 1;
        true
    })?;
    let missing = count - counted.messages;
    if messages < missing {
        let commits = match bytes {
            ..RUN_BYTES_MIN => counted.commits.saturating_mul(2),
            RUN_BYTES_MIN..=RUN_BYTES_MAX => counted.commits,
            _ => (counted.commits / 2).max(1),
        };
        return Ok(Found::Counted(Counted {
            messages: counted.messages + messages,
            from: run.start,
            commits,
            ..counted
        }));
    }
    // Once more, for the place of the first of those that are still missing.
    let (mut surplus, mut found) = (messages - missing, Place::beginning_of(run.start));
    visit(store, replay, run, |place| {
        found = place;
        let goes_on = surplus > 0;
        surplus = surplus.saturating_sub(1);
        goes_on
    })?;
    Ok(Found::Place(found))
}

/// Shows the places of the messages that match to `found`, until it has enough. The bytes that were
/// looked through.
fn visit(
    store: &Store,
    replay: &Replay,
    run: std::ops::Range<CommitNumber>,
    mut found: impl FnMut(Place) -> bool,
) -> Result<usize, ReadError> {
    let mut bytes = 0;
    let mut reader = store.commit_reader(run.start);
    while reader.next_commit() < run.end {
        let from = reader.next_commit();
        let commits = reader.read(READ_BYTES)?;
        if commits.is_empty() && reader.next_commit() == from {
            break;
        }
        for commit in commits
            .iter()
            .take_while(|commit| commit.number() < run.end)
        {
            bytes += commit.size_bytes();
            for (place, message) in messages(store, commit) {
                let is_before = place < replay.at_latest;
                if is_before && matches(replay, &message) && !found(place) {
                    return Ok(bytes);
                }
            }
        }
    }
    Ok(bytes)
}
