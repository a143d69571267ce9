//! Segments made by hand: their ends, and what many small pieces cost.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};

use super::*;
use crate::commit::{BodyBuilder, Commit, for_each_piece};
use crate::ids::{CommitNumber, EraId, LogId, LogPartition, PartitionId};

const CAP: u8 = 2;
const LINK: u8 = 10;

/// A number as sled writes it.
fn number(out: &mut Vec<u8>, number: u64) {
    match u8::try_from(number) {
        Ok(byte) if byte <= 240 => out.push(byte),
        _ => {
            out.push(255);
            out.extend(number.to_le_bytes());
        }
    }
}

fn message(kind: u8, segment: u64, body: &[u8]) -> Vec<u8> {
    let mut head = vec![kind];
    number(&mut head, body.len() as u64);
    number(&mut head, segment);
    number(&mut head, 7);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&head);
    [&(!hasher.finalize()).to_le_bytes()[..], &head, body].concat()
}

/// A piece of a commit, as it is written first.
fn link(segment: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    for bytes in [key, value] {
        number(&mut body, bytes.len() as u64);
        body.extend(bytes);
    }
    message(LINK, segment, &body)
}

fn header(lsn: i64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[4..12].copy_from_slice(&(lsn ^ LSN_MASK).to_le_bytes());
    header[12..].copy_from_slice(&LSN_MASK.to_le_bytes());
    let checksum = !crc32fast::hash(&header[4..]);
    header[..4].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// A segment with a message up to where `left` bytes are left, and these.
fn segment(size: usize, left: &[u8]) -> Vec<u8> {
    let mut bytes = header(0).to_vec();
    let without_body = message(LINK, 0, &[]).len();
    let body = size - left.len() - bytes.len() - without_body;
    bytes.extend(message(LINK, 0, &vec![1; body]));
    bytes.extend(left);
    assert_eq!(bytes.len(), size);
    bytes
}

/// How many messages there are, and places without one.
fn walked(bytes: &[u8], size: usize) -> (usize, usize) {
    let (mut messages, mut nothing) = (0, 0);
    let flow = walk_segment(bytes, 0, size, |_, message| {
        match message {
            Some(_) => messages += 1,
            None => nothing += 1,
        }
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    (messages, nothing)
}

/// sled writes a cap where 32 bytes or more are left, unless it opened the database meanwhile: then
/// it takes a segment with 32 bytes left for full.
#[test]
fn end_that_has_no_room_for_a_message_is_no_damage() {
    const SIZE: usize = 200;
    for left in 0..=HEADER_BYTES_MAX {
        for with in [0, 0xa5] {
            let bytes = segment(SIZE, &vec![with; left]);
            assert_eq!(walked(&bytes, SIZE), (1, 0), "{left} bytes of {with}");
        }
    }
    let more = segment(SIZE, &[0; HEADER_BYTES_MAX + 1]);
    assert_eq!(walked(&more, SIZE), (1, 1), "there a message was");
}

#[test]
fn message_that_fills_a_segment_to_its_end_is_read() {
    const SIZE: usize = 200;
    for kind in [CAP, LINK] {
        let without_body = message(kind, 0, &[]).len();
        let last = message(kind, 0, &vec![1; HEADER_BYTES_MAX - without_body]);
        assert_eq!(walked(&segment(SIZE, &last), SIZE), (2, 0), "kind {kind}");
    }
}

/// Zeros are passed over many at once, but not those that a message begins with.
#[test]
fn message_behind_zeros_is_found_wherever_it_begins() {
    const SIZE: usize = 4096;
    let mut bodies = (0..=u16::MAX).map(|body| message(LINK, 0, &body.to_le_bytes()));
    let begins_with_zero = bodies.find(|message| message[0] == 0).unwrap();
    for zeros in ZEROS.len() - 10..=ZEROS.len() + 10 {
        let mut bytes = header(0).to_vec();
        bytes.resize(bytes.len() + zeros, 0);
        bytes.extend(&begins_with_zero);
        bytes.resize(SIZE, 0);
        assert_eq!(walked(&bytes, SIZE).0, 1, "behind {zeros} zeros");
    }
}

/// Where places were written again, what comes before the damage depends on what comes after it.
#[test]
fn file_is_cut_behind_damage_only_if_its_places_were_written_once() {
    const SIZE: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let up_to = |order: &[i64]| {
        let segments = order.iter().map(|number| {
            let mut bytes = segment(SIZE, &[]);
            bytes[..SEGMENT_HEADER_BYTES].copy_from_slice(&header(number * 200));
            bytes
        });
        fs::write(&path, segments.collect::<Vec<_>>().concat()).unwrap();
        let log = RawLog::open(&path, SIZE).unwrap();
        [0, 250, 400].map(|lsn| log.bytes_up_to(lsn))
    };
    assert_eq!(up_to(&[0, 1, 2]), [Some(200), Some(400), None]);
    for moved in [&[0, 2, 1][..], &[1, 0, 2], &[3, 1, 2]] {
        assert_eq!(up_to(moved), [None, None, None], "{moved:?}");
    }
}

/// `cargo test -p storage --release --lib raw::tests::list_of -- --nocapture` prints what the list
/// of a segment of 256 MiB takes, and the most that the process took.
#[test]
fn list_of_many_small_pieces_is_small() {
    const SEGMENT: usize = 1 << 20;
    let segments = if cfg!(debug_assertions) { 4 } else { 256 };
    let folder = tempfile::tempdir().unwrap();
    let mut file = BufWriter::new(File::create(folder.path().join("db")).unwrap());
    let (mut commit, mut pieces, mut buffer) = (0, 0_usize, Vec::new());
    for at in 0..segments {
        let mut bytes = header(at * i64::try_from(SEGMENT).unwrap()).to_vec();
        while bytes.len() + 400 < SEGMENT {
            commit += 1;
            let mut body = BodyBuilder::new(EraId(1));
            let journal = LogPartition {
                log: LogId::JOURNAL,
                partition: PartitionId(0),
            };
            body.entry(journal, |out| out.resize(out.len() + 200, 7));
            let commit = Commit::parse(CommitNumber(commit), body.finish()).unwrap();
            let written =
                for_each_piece(commit.number(), commit.body(), &mut buffer, |key, value| {
                    bytes.extend(link(at.unsigned_abs(), &key.to_bytes(), value));
                    pieces += 1;
                    Ok::<_, ()>(())
                });
            written.unwrap();
        }
        let cap = message(CAP, at.unsigned_abs(), &[]).len();
        let padding = SEGMENT - bytes.len() - cap - 8;
        bytes.extend(message(CAP, at.unsigned_abs(), &vec![0; padding]));
        bytes.resize(SEGMENT, 0);
        file.write_all(&bytes).unwrap();
    }
    file.into_inner().unwrap();
    let before = most_resident();
    let found = RawPieces::read(folder.path()).unwrap();
    println!(
        "{pieces} pieces in {segments} MiB: a list of {} KiB; most resident {before} before, {} now",
        found.list_bytes() / 1024,
        most_resident()
    );
    assert_eq!(found.count().commits, pieces as u64);
    assert!(
        found.list_bytes() <= pieces * 32 + 4096,
        "16 bytes each, and room to grow"
    );
}

/// The most memory that this process had so far.
fn most_resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap().trim().to_owned()
}
