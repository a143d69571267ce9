//! Ways to damage the files of a database.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::template::{BLOCK, sled, snapshots};

/// What is done to a database.
pub(crate) type Damage = (&'static str, fn(&Path));

/// Damage after which everything must be there.
pub(crate) const HARMLESS: [Damage; 13] = [
    ("empty unfinished snapshot", |database| {
        fs::write(database.join("snap.00000000000000FF.generating"), b"").unwrap();
    }),
    ("half an unfinished snapshot", |database| {
        let bytes = fs::read(&snapshots(database)[0]).unwrap();
        let half = &bytes[..bytes.len() / 2];
        fs::write(database.join("snap.00000000000000FF.generating"), half).unwrap();
    }),
    ("snapshot empty", |database| cut(&snapshots(database)[0], 0)),
    ("snapshot zeroed", |database| {
        let snapshot = &snapshots(database)[0];
        let bytes = usize::try_from(length(snapshot)).unwrap();
        fs::write(snapshot, vec![0; bytes]).unwrap();
    }),
    ("snapshot truncated", |database| {
        let snapshot = &snapshots(database)[0];
        cut(snapshot, length(snapshot) / 2);
    }),
    ("snapshot garbage", |database| {
        fs::write(&snapshots(database)[0], [0xa5; 300]).unwrap();
    }),
    ("snapshot a directory", |database| {
        let snapshot = &snapshots(database)[0];
        fs::remove_file(snapshot).unwrap();
        fs::create_dir_all(snapshot.join("lost")).unwrap();
    }),
    ("unfinished snapshot a directory", |database| {
        fs::create_dir(database.join("snap.00000000000000FF.generating")).unwrap();
    }),
    ("conf a directory", |database| {
        fs::remove_file(database.join("conf")).unwrap();
        fs::create_dir(database.join("conf")).unwrap();
    }),
    ("conf empty", |database| cut(&database.join("conf"), 0)),
    ("conf missing", |database| {
        fs::remove_file(database.join("conf")).unwrap();
    }),
    ("conf garbage", |database| {
        fs::write(database.join("conf"), b"\xff garbage \xff").unwrap();
    }),
    ("a file in blobs", |database| {
        fs::create_dir_all(database.join("blobs")).unwrap();
        fs::write(database.join("blobs/0000000000000007"), b"x").unwrap();
    }),
];

/// Makes sled write a snapshot of all that the database holds.
pub(crate) fn with_snapshot(database: &Path, segment_size: usize) {
    drop(sled(database, segment_size).open().unwrap());
    assert_eq!(snapshots(database).len(), 1);
}

pub(crate) fn zero_block(file: &Path, block: usize) {
    let mut bytes = fs::read(file).unwrap();
    let end = (block * BLOCK + BLOCK).min(bytes.len());
    bytes[block * BLOCK..end].fill(0);
    fs::write(file, bytes).unwrap();
}

pub(crate) fn cut(file: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(bytes).unwrap();
}

pub(crate) fn length(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

/// The last place at which a file has these bytes.
pub(crate) fn position(file: &Path, wanted: &[u8]) -> usize {
    let bytes = fs::read(file).unwrap();
    let mut places = bytes.windows(wanted.len());
    places.rposition(|found| found == wanted).unwrap()
}

/// Zeroes the last place at which a file has these bytes.
pub(crate) fn overwrite(file: &Path, wanted: &[u8]) {
    let (mut bytes, at) = (fs::read(file).unwrap(), position(file, wanted));
    bytes[at..at + wanted.len()].fill(0);
    fs::write(file, bytes).unwrap();
}

/// Overwrites the operations of the snapshot that a segment begins with; all checksums are right.
pub(crate) fn spoil_journal(path: &Path) {
    let database = sled(path, 1024 * 1024).open().unwrap();
    let mut names = database.tree_names();
    names.retain(|name| name.len() == 10);
    names.sort();
    let chunk = database.open_tree(&names[0]).unwrap();
    let (key, value) = chunk.first().unwrap().unwrap();
    let mut value = value.to_vec();
    // Behind the piece's header of 6 bytes, the era of 4, the entry's header of 8 and the version.
    value[19..40].fill(0xff);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&key), &value[..2]);
    let checksum = crc32c::crc32c_append(checksum, &value[6..]);
    value[2..6].copy_from_slice(&checksum.to_be_bytes());
    chunk.insert(key, value).unwrap();
    write_anew(&database, path);
}

/// Leaves nothing in the file of what was overwritten: a gateway never overwrites a piece, so that who reads
/// the file without sled may find either.
fn write_anew(database: &sled::Db, path: &Path) {
    let fresh = path.with_extension("fresh");
    let to = sled(&fresh, 1024 * 1024).open().unwrap();
    for name in database.tree_names() {
        let tree = to.open_tree(&name).unwrap();
        for entry in &database.open_tree(&name).unwrap() {
            let (key, value) = entry.unwrap();
            tree.insert(key, value).unwrap();
        }
    }
    to.flush().unwrap();
    fs::remove_dir_all(path).unwrap();
    fs::rename(&fresh, path).unwrap();
}
