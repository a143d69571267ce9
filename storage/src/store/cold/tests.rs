//! When cold entries move, what leaves the journal, and what stays because it changed meanwhile.

use super::*;
use crate::ids::LogId;
use crate::logs::LogOptions;
use crate::store::{StoreOptions, StoreThreads};

/// More than is moved by itself in time for a test.
const LARGE: usize = 20_000;

fn open(path: &std::path::Path) -> (Store, StoreThreads) {
    let options = StoreOptions {
        segment_bytes: crate::SEGMENT_BYTES_MIN,
        free_space_reserve_bytes: 0,
        ..StoreOptions::default()
    };
    Store::open(path, options, &[LogOptions::new("a", 1)]).unwrap()
}

fn key(name: &str) -> JournalKey {
    JournalKey::new(JournalKind::Session, name.as_bytes())
}

fn put(store: &Store, name: &str, value: Option<Vec<u8>>) {
    let commit = store.put_journal_entry(key(name), value, Duration::ZERO);
    store.wait_durable(commit.unwrap()).unwrap();
}

/// Waits until nothing that is cold is in the journal.
fn wait_until_moved(store: &Store) {
    let shared = store.shared();
    let is_left = || {
        let state = shared.state();
        state.journal.of_kind(JournalKind::Session).count() > 0
    };
    while is_left() {
        // Whatever comes takes what was moved out of the journal.
        let message = crate::Message::default();
        let at = store.append(LogId(1), b"k", &message).unwrap();
        store.wait_durable(at.commit).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn all(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entries = store.cold_entries(JournalKind::Session);
    let entries: Vec<_> = entries.collect::<Result<_, _>>().unwrap();
    let by_name: BTreeMap<_, _> = entries.iter().cloned().collect();
    assert_eq!(by_name.len(), entries.len(), "one came twice");
    by_name
}

#[test]
fn journal_does_not_hold_what_was_moved_and_all_of_it_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (store, threads) = open(folder.path());
    for name in ["a", "b", "c"] {
        put(&store, name, Some(vec![1; LARGE]));
    }
    wait_until_moved(&store);
    put(&store, "b", Some(vec![2; 10]));
    put(&store, "c", None);
    put(&store, "d", Some(vec![3; 10]));
    let check = |store: &Store| {
        let expected = [
            ("a", vec![1; LARGE]),
            ("b", vec![2; 10]),
            ("d", vec![3; 10]),
        ];
        let expected = expected.map(|(name, value)| (name.as_bytes().to_vec(), value));
        assert_eq!(all(store), BTreeMap::from(expected.clone()));
        for (name, value) in expected {
            let key = JournalKey::new(JournalKind::Session, &name);
            assert_eq!(store.journal_entry(&key), Some(value));
        }
        assert_eq!(store.journal_entry(&key("c")), None);
    };
    check(&store);
    threads.close();
    drop(store);
    let (store, threads) = open(folder.path());
    check(&store);
    put(&store, "e", Some(vec![4; LARGE]));
    wait_until_moved(&store);
    put(&store, "e", None);
    check(&store);
    assert_eq!(store.shared().metadata.cold.state().entries, 4);
    threads.close();
}

/// The commits are made by hand: nothing else happens between them.
fn commit(state: &mut State) {
    let now = Instant::now() + Duration::from_secs(3600);
    let open = state.take_due(now, true).unwrap();
    let number = open.number();
    let (_, operations) = open.into_body(crate::SpanId(0), None).unwrap();
    for operation in operations {
        state.journal.apply(operation);
    }
    state.durable = number;
}

fn state() -> State {
    let limits = crate::store::state::CommitLimits {
        commit_bytes: 1 << 20,
        queue_bytes: 1 << 20,
    };
    let journal = crate::journal::JournalState::default();
    State::new(
        limits,
        BTreeMap::new(),
        journal,
        CommitNumber(0),
        BTreeMap::new(),
    )
}

fn put_in(state: &mut State, name: &str, value: Option<&[u8]>) {
    let entries = vec![(key(name), value.map(<[u8]>::to_vec))];
    state
        .put_all(entries, Instant::now(), Duration::ZERO)
        .unwrap();
}

#[test]
fn entry_that_changes_while_it_is_moved_stays_in_the_journal() {
    // Changed by a commit that is still open, by one on its way, and by a durable one.
    for commits in 0..3 {
        let mut state = state();
        put_in(&mut state, "a", Some(b"1"));
        put_in(&mut state, "b", Some(b"1"));
        commit(&mut state);
        let batch = state.cold_batch(Instant::now(), 0).unwrap();
        assert_eq!(batch.changes.len(), 2);
        put_in(&mut state, "a", Some(b"2"));
        let on_its_way = (commits == 1).then(|| state.take_due(Instant::now(), true).unwrap());
        if commits == 2 {
            commit(&mut state);
        }
        state.release_cold(batch, HomeState::default(), Instant::now());
        if let Some(open) = on_its_way {
            let (_, operations) = open.into_body(crate::SpanId(0), None).unwrap();
            for operation in operations {
                state.journal.apply(operation);
            }
        }
        commit(&mut state);
        assert_eq!(
            state.journal.get(&key("a")),
            Some(b"2".as_slice()),
            "{commits}"
        );
        assert_eq!(state.journal.get(&key("b")), None, "{commits}");
        let next = state.cold_batch(Instant::now(), 0).unwrap();
        assert_eq!(next.changes, [(key("a"), Some(b"2".to_vec()))]);
    }
}

#[test]
fn change_after_the_move_wins_within_the_same_commit() {
    let mut state = state();
    put_in(&mut state, "a", Some(b"1"));
    commit(&mut state);
    let batch = state.cold_batch(Instant::now(), 0).unwrap();
    state.release_cold(batch, HomeState::default(), Instant::now());
    put_in(&mut state, "a", Some(b"2"));
    commit(&mut state);
    assert_eq!(state.journal.get(&key("a")), Some(b"2".as_slice()));
}

#[test]
fn removal_stays_in_the_journal_until_it_was_moved() {
    let mut state = state();
    put_in(&mut state, "a", None);
    commit(&mut state);
    assert_eq!(state.journal.get(&key("a")), Some(b"".as_slice()));
    let batch = state.cold_batch(Instant::now(), 0).unwrap();
    assert_eq!(batch.changes, [(key("a"), None)]);
    state.release_cold(batch, HomeState::default(), Instant::now());
    commit(&mut state);
    assert_eq!(state.journal.get(&key("a")), None);
}

#[test]
fn nothing_is_moved_before_it_is_durable_or_before_it_is_time() {
    let mut state = state();
    let now = Instant::now();
    put_in(&mut state, "a", Some(&[1; 100]));
    assert!(state.cold_batch(now, 0).is_none(), "not durable");
    commit(&mut state);
    assert!(
        state.cold_batch(now, 200).is_none(),
        "too little, too early"
    );
    assert!(state.cold_batch(now, 100).is_some());
    assert!(state.cold_batch(now + MOVE_AFTER * 2, 200).is_some());
}

#[test]
fn one_round_moves_no_more_than_its_share_and_the_oldest_first() {
    let mut state = state();
    for number in (0..100).rev() {
        put_in(&mut state, &format!("{number:03}"), Some(&[1; 16 * 1024]));
        commit(&mut state);
    }
    let batch = state.cold_batch(Instant::now(), 0).unwrap();
    assert_eq!(batch.changes.len(), 32);
    assert_eq!(batch.changes[0].0, key("099"));
    state.release_cold(batch, HomeState::default(), Instant::now());
    let batch = state.cold_batch(Instant::now(), 0).unwrap();
    assert_eq!(batch.changes[0].0, key("067"));
}

#[test]
fn entries_of_other_kinds_are_left_alone() {
    let mut state = state();
    let hot = JournalKey::new(JournalKind::Received, b"a");
    let entries = vec![(hot.clone(), Some(vec![])), (key("b"), Some(vec![1]))];
    state
        .put_all(entries, Instant::now(), Duration::ZERO)
        .unwrap();
    commit(&mut state);
    let batch = state.cold_batch(Instant::now(), 0).unwrap();
    assert_eq!(batch.changes.len(), 1);
    assert_eq!(state.journal.get(&hot), Some([].as_slice()));
    assert_eq!(
        state.put(hot.clone(), None, Instant::now(), Duration::ZERO),
        state.durable.next()
    );
    commit(&mut state);
    assert_eq!(state.journal.get(&hot), None);
}

#[test]
fn entries_that_are_too_large_are_refused_altogether() {
    let mut state = state();
    let long = "x".repeat(crate::cold::COLD_KEY_BYTES_MAX + 1);
    let large = vec![0; crate::JOURNAL_ENTRIES_BYTES_MAX + 1];
    for refused in [(key(&long), Some(vec![1])), (key("a"), Some(large))] {
        let entries = vec![(key("b"), Some(vec![1])), refused];
        let put = state.put_all(entries, Instant::now(), Duration::ZERO);
        assert!(matches!(put, Err(crate::AppendError::TooLarge { .. })));
    }
    assert!(
        state.take_due(Instant::now(), true).is_err(),
        "nothing waits"
    );
}
