//! What the next version may leave in a data folder of this format, and this one tolerates: who goes
//! back to it finds the data. docs/storage-format.md, "Versions".
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use record_batch::{Batch, BatchBuilder, RecordFields};
use storage::{FolderError, JournalKey, LogOptions, Message, OpenError, Store};
use support::template::{logs, sled, template};
use support::{append, append_many, open};

/// A key of a kind that this version does not know.
fn unknown_key() -> JournalKey {
    postcard::from_bytes(&[3, 200, b'x', b'y']).unwrap()
}

#[test]
fn unknown_record_headers_are_skipped() {
    let mut builder = BatchBuilder::new(0);
    let headers: [(&[u8], Option<&[u8]>); 5] = [
        (b"?", Some(b"of a later version")),
        (b"f", Some(&[1])),
        (b"t", Some(b"a/b")),
        (b"longer", None),
        (b"c", Some(b"client")),
    ];
    let fields = RecordFields {
        timestamp_ms: 1,
        key: Some(b"k"),
        value: Some(b"payload"),
        headers: &headers,
    };
    builder.append(&fields).unwrap();
    let (batch, _) = Batch::parse(builder.finish()).unwrap();
    let message = Message::from_record(&batch.records().next().unwrap().unwrap()).unwrap();
    let expected = Message {
        topic: "a/b".into(),
        client_id: "client".into(),
        payload: "payload".into(),
        qos: 1,
        ..Message::default()
    };
    assert_eq!(message, expected);
}

/// The successor finds its entries again when the owner has gone forth once more.
#[test]
fn journal_entries_of_unknown_kinds_are_carried_from_segment_to_segment() {
    let folder = tempfile::tempdir().unwrap();
    let logs = [LogOptions::new("a", 1)];
    let (store, threads) = open(folder.path(), &logs);
    let value = Some(b"unknown content".to_vec());
    let commit = store.put_journal_entry(unknown_key(), value.clone(), Duration::ZERO);
    store.wait_durable(commit.unwrap()).unwrap();
    threads.close();
    drop(store);
    for round in 0..3 {
        let (store, threads) = open(folder.path(), &logs);
        assert_eq!(store.journal_entry(&unknown_key()), value, "round {round}");
        // A segment of its own, and more than one.
        append_many(&store, "a", 0..1500, 1000);
        threads.close();
    }
    let (store, threads) = open(folder.path(), &logs);
    assert_eq!(store.journal_entry(&unknown_key()), value);
    threads.close();
}

/// Gives the first piece of each value of a tree of the metadata another version byte.
fn set_versions(metadata: &Path, tree: &str, version: u8) -> usize {
    let database = sled(metadata, 512 * 1024).open().unwrap();
    let values = database.open_tree(tree).unwrap();
    let mut changed = 0;
    for entry in &values {
        let (key, piece) = entry.unwrap();
        let mut value = piece[4..].to_vec();
        value[0] = version;
        let checksum = crc32c::crc32c(&value).to_be_bytes();
        values
            .insert(key, [&checksum[..], &value].concat())
            .unwrap();
        changed += 1;
    }
    database.flush().unwrap();
    changed
}

#[test]
fn index_records_of_an_unknown_version_are_made_again_from_the_segments() {
    // 2 is of evacuated segments, and these records do not hold what it has behind the rest.
    for version in [2, 3, 200] {
        let copy = template().copy();
        let changed = set_versions(&copy.metadata(), "segments", version);
        assert!(changed >= template().segments.len());
        let outcome = copy.check(&[], false);
        assert_eq!((outcome.missing, outcome.leapt), (0, false), "{outcome:?}");
        assert_eq!(copy.quarantined(), [] as [&str; 0], "version {version}");
    }
}

#[test]
fn folder_that_needs_a_later_version_is_refused_before_anything_is_changed() {
    let copy = template().copy();
    let text = "tidegate data folder\nformat 1\nneeds tidegate 99.1.0\n";
    fs::write(copy.path().join("FORMAT"), text).unwrap();
    let before = files(copy.path());
    let error = Store::open(copy.path(), support::options(), &logs()).unwrap_err();
    assert!(
        matches!(error, OpenError::Folder(FolderError::Newer { .. })),
        "{error}"
    );
    assert!(files(copy.path()) == before, "something was changed");

    // What the later version wrote is not touched: with it the folder opens as before.
    let text = "tidegate data folder\nformat 1\nneeds tidegate 0.1.0\n";
    fs::write(copy.path().join("FORMAT"), text).unwrap();
    let outcome = copy.check(&[], false);
    assert_eq!((outcome.missing, outcome.leapt), (0, false));
}

/// Trees, directories and files that this version does not know stay where they are.
#[test]
fn what_is_unknown_in_the_folder_is_left_alone() {
    let copy = template().copy();
    let database = sled(&copy.metadata(), 512 * 1024).open().unwrap();
    let tree = database.open_tree("of a later version").unwrap();
    tree.insert("key", "value").unwrap();
    database.flush().unwrap();
    drop((tree, database));
    fs::create_dir(copy.path().join("later")).unwrap();
    fs::write(copy.path().join("later/file"), "x").unwrap();
    fs::create_dir(copy.path().join("log/0000000001.later")).unwrap();
    let (store, threads) = open(copy.path(), &logs());
    let at = append(&store, "a", "k", "x");
    store.wait_durable(at.commit).unwrap();
    threads.close();
    drop(store);
    assert!(copy.path().join("later/file").exists());
    assert!(copy.path().join("log/0000000001.later").exists());
    let database = sled(&copy.metadata(), 512 * 1024).open().unwrap();
    let tree = database.open_tree("of a later version").unwrap();
    assert_eq!(tree.get("key").unwrap().unwrap(), "value");
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in support::template::names(&folder) {
            let path = folder.join(name);
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}
