//! The home of cold entries, whole and damaged, and what recovery makes of it.

use super::*;
use crate::database::{Purpose, create};

fn home() -> (tempfile::TempDir, ColdHome) {
    let parent = tempfile::tempdir().unwrap();
    let database = create(&parent.path().join("meta"), Purpose::Metadata).unwrap();
    let home = ColdHome::open(&database).unwrap();
    (parent, home)
}

/// As the next start finds it.
fn again(home: &ColdHome) -> ColdHome {
    ColdHome::open(&home.database).unwrap()
}

fn key(rest: &[u8]) -> JournalKey {
    JournalKey::new(JournalKind::Session, rest)
}

fn all(home: &ColdHome) -> Vec<(Vec<u8>, Vec<u8>)> {
    home.of_kind(JournalKind::Session)
        .map(|entry| entry.map(|(key, value)| (key.rest().to_vec(), value)))
        .collect::<Result<_, _>>()
        .unwrap()
}

fn journal_with(entries: &[(JournalKey, Vec<u8>)]) -> JournalState {
    let mut journal = JournalState::default();
    for (key, value) in entries {
        let (key, value) = (key.clone(), value.clone());
        journal.apply(Operation::Put { key, value });
    }
    journal
}

#[test]
fn entries_come_back_whatever_their_names_and_sizes() {
    let (_parent, home) = home();
    // Names of which one is the beginning of the pieces of another.
    let names: [&[u8]; 5] = [b"a", b"a\0", b"a\0\0", b"a\0\0\0\0", b""];
    let values = names.map(|name| vec![7; 1 + name.len() * 20_000]);
    let entries = names.iter().zip(&values);
    let changes: Vec<_> = entries
        .clone()
        .map(|(name, value)| (key(name), Some(value.clone())))
        .collect();
    let state = home.take(&changes, CommitNumber(3)).unwrap();
    assert_eq!((state.entries, state.generation), (5, 1));
    let mut expected: Vec<_> = entries.map(|(n, v)| (n.to_vec(), v.clone())).collect();
    expected.sort_by_key(|(name, _)| (name.len(), name.clone()));
    assert_eq!(all(&home), expected);
    for (name, value) in &expected {
        assert_eq!(home.get(&key(name)).unwrap().as_ref(), Some(value));
    }
    assert_eq!(home.get(&key(b"b")).unwrap(), None);

    let state = home
        .take(&[(key(b"a\0\0"), None)], CommitNumber(4))
        .unwrap();
    assert_eq!(state.entries, 4);
    assert_eq!(all(&again(&home)).len(), 4);
    assert_eq!(again(&home).state(), state);
    assert_eq!(home.check().unwrap(), (4, vec![]));
}

#[test]
fn more_entries_than_a_page_come_back_once_each() {
    let (_parent, home) = home();
    let name = |number: usize| format!("client {number:05}").into_bytes();
    let changes: Vec<_> = (0..10 * PAGE)
        .map(|number| (key(&name(number)), Some(name(number))))
        .collect();
    home.take(&changes, CommitNumber(1)).unwrap();
    let expected: Vec<_> = (0..10 * PAGE).map(|n| (name(n), name(n))).collect();
    assert_eq!(all(&home), expected);
}

#[test]
fn nothing_is_written_for_what_is_there_already() {
    let (_parent, home) = home();
    let changes = [(key(b"a"), Some(vec![1])), (key(b"b"), None)];
    let state = home.take(&changes, CommitNumber(1)).unwrap();
    assert_eq!(home.take(&changes, CommitNumber(2)).unwrap(), state);
}

#[test]
fn entry_that_cannot_be_read_is_told_once_and_removed() {
    let (_parent, home) = home();
    let changes = [b"a", b"b", b"c"].map(|name| (key(name), Some(vec![7; 10_000])));
    let state = home.take(&changes, CommitNumber(1)).unwrap();
    for name in [b"a", b"b"] {
        let piece = [stored_key(&key(name)).as_slice(), &[0, 1]].concat();
        assert!(home.tree.remove(piece).unwrap().is_some());
    }
    let (count, problems) = home.check().unwrap();
    assert_eq!((count, problems.len()), (1, 2), "{problems:?}");
    assert!(
        problems[0].contains("its pieces do not belong together"),
        "{problems:?}"
    );
    // An interrupted write of what the journal still has.
    let mut journal = journal_with(&[(key(b"b"), vec![8]), (HomeState::key(), state.to_stored())]);
    let home = again(&home);
    let loss = home.settle(&mut journal, CommitNumber(9)).unwrap();
    assert_eq!(loss, Some(ColdLoss { held: 3, found: 2 }));
    let home = again(&home);
    assert_eq!(home.settle(&mut journal, CommitNumber(9)).unwrap(), None);
    home.take(&[(key(b"b"), Some(vec![8]))], CommitNumber(10))
        .unwrap();
    assert_eq!(all(&home).len(), 2);
    assert_eq!(home.check().unwrap(), (2, vec![]));
}

#[test]
fn home_that_is_lost_or_of_an_earlier_state_is_told_once() {
    let (_parent, home) = home();
    home.take(&[(key(b"a"), Some(vec![1]))], CommitNumber(1))
        .unwrap();
    let state = HomeState {
        generation: 5,
        entries: 1,
        as_of: CommitNumber(7),
    };
    let mut journal = journal_with(&[(HomeState::key(), state.to_stored())]);
    let loss = again(&home).settle(&mut journal, CommitNumber(9)).unwrap();
    assert_eq!(loss, Some(ColdLoss { held: 1, found: 1 }));
    let loss = again(&home).settle(&mut journal, CommitNumber(9)).unwrap();
    assert_eq!(loss, None);
}

/// A write that was interrupted is no loss, wherever it was.
#[test]
fn interrupted_moves_are_no_loss() {
    let (_parent, home) = home();
    let changes: Vec<_> = (0..9_u8).map(|n| (key(&[n]), Some(vec![n; 9]))).collect();
    let before = home.take(&changes, CommitNumber(1)).unwrap();
    // What `take` does before it says how many there are.
    home.write_state(HomeState {
        entries: 7,
        ..before
    })
    .unwrap();
    for name in [[0], [1]] {
        metadata::remove(&home.tree, &stored_key(&key(&name))).unwrap();
        let mut journal = journal_with(&[(HomeState::key(), before.to_stored())]);
        let loss = again(&home).settle(&mut journal, CommitNumber(9)).unwrap();
        assert_eq!(loss, None, "{name:?}");
    }
    let removals = [b"\x02", b"\x03"].map(|name| (key(name), None));
    let mut states = Vec::new();
    // The number is never above what is there while entries are removed.
    for at in 0..removals.len() {
        states.push(
            home.take(&removals[at..=at], CommitNumber(2))
                .unwrap()
                .entries,
        );
    }
    assert_eq!(states, [6, 5]);
}

#[test]
fn word_of_a_journal_that_lost_its_end_does_not_win() {
    let (_parent, home) = home();
    let changes = [b"a", b"b"].map(|name| (key(name), Some(vec![2])));
    home.take(&changes, CommitNumber(20)).unwrap();
    let older = [(key(b"a"), vec![1])];
    let mut journal = journal_with(&older);
    home.settle(&mut journal, CommitNumber(10)).unwrap();
    assert_eq!(journal.get(&key(b"a")), None, "its end is lost");
    let mut journal = journal_with(&older);
    home.settle(&mut journal, CommitNumber(20)).unwrap();
    assert_eq!(journal.get(&key(b"a")), Some([1].as_slice()));
}

#[test]
fn stored_form_does_not_change() {
    assert_eq!(stored_key(&key(b"ab")), [8, 0, 2, b'a', b'b']);
    assert_eq!(
        encode(CommitNumber(5), &[9]),
        [1, 0, 0, 0, 0, 0, 0, 0, 5, 9]
    );
    let state = HomeState {
        generation: 3,
        entries: 2,
        as_of: CommitNumber(1),
    };
    assert_eq!(state.to_stored(), [1, 3, 2, 1]);
    assert_eq!(HomeState::key().kind(), 13);
}
