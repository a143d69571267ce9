//! When a commit leaves: linger, what ends it, and what it does not touch.

use super::*;
use crate::flash_budget::LINGER_MAX;
use crate::logs::LogOptions;

const LINGER: Duration = Duration::from_millis(20);

/// Log 1 commits at once, log 2 lingers, log 3 has promised an interval.
fn state() -> State {
    let logs = [
        LogOptions::new("at once", 1),
        LogOptions {
            linger: LINGER,
            ..LogOptions::new("lingers", 1)
        },
        LogOptions {
            commit_within: Duration::from_millis(7),
            ..LogOptions::new("interval", 1)
        },
    ];
    let numbered = (1..).zip(logs).map(|(number, options)| {
        let log = Log {
            id: LogId(number),
            name: options.name.clone(),
            partitions: options.partitions,
            options: Some(options),
        };
        (log.id, log)
    });
    let limits = CommitLimits {
        commit_bytes: 1000,
        queue_bytes: 3000,
    };
    let (journal, commit) = (JournalState::default(), CommitNumber(0));
    State::new(limits, numbered.collect(), journal, commit, BTreeMap::new())
}

fn append(state: &mut State, log: u16, size: usize, now: Instant) -> Result<Appended, AppendError> {
    let message = Message {
        topic: "t".into(),
        payload: vec![0; size].into(),
        ..Message::default()
    };
    state.append(LogId(log), b"k", &message, vec![], 0, now)
}

/// How long after `now` the next commit is due.
fn due_in(state: &mut State, now: Instant) -> Option<Duration> {
    match state.take_due(now, false) {
        Ok(_) => Some(Duration::ZERO),
        Err(due) => due.map(|due| due - now),
    }
}

#[test]
fn record_waits_for_company_as_long_as_its_log_lingers() {
    let now = Instant::now();
    for (log, expected) in [(1, 0), (2, 20), (3, 7)] {
        let mut state = state();
        append(&mut state, log, 5, now).unwrap();
        let expected = Duration::from_millis(expected);
        assert_eq!(due_in(&mut state, now), Some(expected), "log {log}");
    }
}

#[test]
fn nothing_lingers_longer_than_the_longest_linger() {
    let now = Instant::now();
    let mut state = state();
    let log = state.logs.get_mut(&LogId(2)).unwrap();
    log.options.as_mut().unwrap().linger = Duration::from_secs(1);
    state.linger = Duration::from_secs(1);
    append(&mut state, 2, 5, now).unwrap();
    assert_eq!(due_in(&mut state, now), Some(LINGER_MAX));
}

#[test]
fn commit_leaves_for_its_least_patient_record() {
    let (mut state, now) = (state(), Instant::now());
    append(&mut state, 2, 5, now).unwrap();
    append(&mut state, 1, 5, now).unwrap();
    assert_eq!(state.take_due(now, false).unwrap().records(), 2);
}

#[test]
fn flash_budget_lengthens_the_linger_but_no_promised_interval() {
    let now = Instant::now();
    for (log, expected) in [(1, 50), (2, 50), (3, 7)] {
        let mut state = state();
        state.linger = LINGER_MAX;
        append(&mut state, log, 5, now).unwrap();
        let expected = Duration::from_millis(expected);
        assert_eq!(due_in(&mut state, now), Some(expected), "log {log}");
    }
}

#[test]
fn linger_ends_when_someone_finds_the_queue_full() {
    let (mut state, now) = (state(), Instant::now());
    append(&mut state, 2, 2_990, now).unwrap();
    assert_eq!(due_in(&mut state, now), Some(LINGER));
    assert_eq!(append(&mut state, 2, 500, now), Err(AppendError::QueueFull));
    assert_eq!(due_in(&mut state, now), Some(Duration::ZERO));
}

#[test]
fn linger_ends_when_the_commit_is_full_or_the_store_closes_or_is_hurried() {
    let now = Instant::now();
    let mut full = state();
    append(&mut full, 2, 900, now).unwrap();
    append(&mut full, 2, 900, now).unwrap();
    assert_eq!(full.next_due(), NextDue::Now);
    assert_eq!(full.take_due(now, false).unwrap().records(), 1);

    let mut closing = state();
    append(&mut closing, 2, 5, now).unwrap();
    assert_eq!(closing.take_due(now, true).unwrap().records(), 1);

    let mut hurried = state();
    append(&mut hurried, 2, 5, now).unwrap();
    hurried.hurry_records(now);
    assert_eq!(due_in(&mut hurried, now), Some(Duration::ZERO));
}

#[test]
fn commit_that_somebody_waits_for_is_sent_and_no_later_one() {
    let (mut state, now) = (state(), Instant::now());
    let hour = Duration::from_secs(3600);
    let commit = state.put(era_key(EraId(1)), None, now, hour);
    state.hurry_commit(CommitNumber(commit.0 - 1), now);
    assert_eq!(due_in(&mut state, now), Some(hour));
    state.hurry_commit(commit, now);
    assert_eq!(due_in(&mut state, now), Some(Duration::ZERO));
}

#[test]
fn hurry_does_not_send_what_only_rides_along() {
    let (mut state, now) = (state(), Instant::now());
    let hour = Duration::from_secs(3600);
    state.put(era_key(EraId(1)), None, now, hour);
    state.hurry_records(now);
    assert_eq!(due_in(&mut state, now), Some(hour));
}

#[test]
fn committer_is_waited_for_while_it_writes_or_leaves_lying_what_is_due() {
    let (mut state, now) = (state(), Instant::now());
    let later = now + Duration::from_millis(5);
    assert_eq!(state.waits_since(now), None, "nothing is there");
    append(&mut state, 3, 5, now).unwrap();
    assert_eq!(state.waits_since(later), None, "nothing is due");
    let due = now + Duration::from_millis(7);
    assert_eq!(state.waits_since(due), Some(due));

    let taken = state.take_due(due, false).unwrap();
    append(&mut state, 1, 5, later).unwrap();
    assert_eq!(state.waits_since(due + LINGER), Some(due), "it writes");
    state.committed(taken.bytes());
    assert_eq!(
        state.waits_since(due + LINGER),
        Some(later),
        "the next lies"
    );
    // Full commits count from when they were full.
    for _ in 0..3 {
        append(&mut state, 3, 700, due).unwrap();
    }
    assert_eq!(state.waits_since(due + LINGER), Some(later));
    let _ = state.take_due(due, false).unwrap();
    state.committed(0);
    assert_eq!(state.waits_since(due + LINGER), Some(due));

    state.health = Health::Poisoned(crate::store::SyncProblem::new("EIO"));
    assert_eq!(state.waits_since(due + LINGER), None, "it has failed");
}
