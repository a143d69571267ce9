//! Makes the data folder that every later version must open: `cargo run -p storage --example
//! make_fixture -- storage/tests/fixtures/format-1`.
//!
//! To be run once for a format, and again only when the format can hold something new, into a folder
//! of another name: a fixture that was released is never changed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a tool of the tests"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage::{
    EraId, Fingerprint, Gap, GapReason, JournalKey, JournalKind, LogOptions, LogPartition, Message,
    Offset, PartitionId, SessionPublish, Store, StoreOptions, StoreThreads,
};
use support::halves::{directories, is_covered};
use support::listing::listing;
use support::template::copy_all;
use support::{FakeClock, append, append_many, log_of, runs, wait_for};

const HOUR: Duration = Duration::from_secs(3600);

fn main() {
    let Some(target) = std::env::args().nth(1) else {
        panic!("the folder to write to is missing");
    };
    let target = Path::new(&target);
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("data");
    let clock = FakeClock::new();
    first_life(&folder, &clock);
    second_life(&folder, &clock);
    evacuated_life(&folder, &clock);
    third_life(&folder, &clock);
    lose_the_end(&folder);
    let written = last_life(&folder, &clock);
    let listing = listing_of_a_copy(&folder, &clock);
    // Closing adds the account of the flash, in a commit of its own, and nothing else.
    let is_added =
        |line: &&str| line.starts_with("journal kind 10 ") || line.starts_with("commits ");
    let rest = |listing: &str| -> Vec<String> {
        let lines = listing.lines().filter(|line| !is_added(line));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(rest(&written), rest(&listing));
    fs::create_dir_all(target).unwrap();
    let packed = runs::pack(&folder);
    println!("{} bytes, {} of the listing", packed.len(), listing.len());
    fs::write(target.join("folder.txt"), packed).unwrap();
    fs::write(target.join("content.txt"), listing).unwrap();
}

/// Segments stay as they are written, but for those of [`evacuated_life`].
fn options(clock: &Arc<FakeClock>, machine: &[u8]) -> StoreOptions {
    StoreOptions {
        clock: clock.clone(),
        fingerprint: Some(Fingerprint::of(machine)),
        evacuation_bytes_per_second: 0,
        ..support::options()
    }
}

fn open(folder: &Path, clock: &Arc<FakeClock>, machine: &[u8]) -> (Store, StoreThreads) {
    let short = LogOptions {
        retention_age: Some(HOUR),
        ..LogOptions::new("short", 1)
    };
    let logs = [LogOptions::new("a", 3), LogOptions::new("b", 1), short];
    Store::open(folder, options(clock, machine), &logs).unwrap()
}

/// Messages with everything that a record can carry, and a journal of every kind.
fn first_life(folder: &Path, clock: &Arc<FakeClock>) {
    let (store, threads) = open(folder, clock, b"first board");
    publish_all_kinds(&store);
    append_many(&store, "short", 0..5, 40);
    let partition = store.log("a").unwrap().partitions().next().unwrap();
    let put = |kind, rest: &[u8], value: &[u8]| {
        let key = JournalKey::new(kind, rest);
        let commit = store.put_journal_entry(key, Some(value.to_vec()), Duration::ZERO);
        store.wait_durable(commit.unwrap()).unwrap();
    };
    // As the bridge writes them: `bridge: checkpoint::tests::stored_form_does_not_change`.
    put(
        JournalKind::BridgeStream,
        b"up\0\0\0",
        &[1, 0xac, 2, 1, 18, 2, 10, 80, 2, 5, 1],
    );
    put(
        JournalKind::BridgeRoute,
        b"up",
        &[1, 1, 1, 1, b'c', 1, b't', 0, 3],
    );
    put(JournalKind::BridgeRoute, b"gone", &[1, 1, 0, 1, b't', 0, 3]);
    let gone = JournalKey::new(JournalKind::BridgeRoute, b"gone");
    let commit = store.put_journal_entry(gone, None, Duration::ZERO).unwrap();
    store.wait_durable(commit).unwrap();
    for (number, reason) in GapReason::ALL.into_iter().enumerate() {
        let from = 1000 * (number as u64 + 1);
        let gap = gap(partition, from, reason, number % 2 == 0);
        store
            .wait_durable(store.record_gap(&gap, None).unwrap())
            .unwrap();
    }
    // The era's clock becomes known, and then its times are told upstream.
    clock.set(|times| {
        times.wall_ms += 77_000;
        times.error_ms = Some(9);
    });
    wait_for("the corrected era", || {
        store
            .era(EraId(1))
            .is_some_and(|era| era.correction.is_some())
    });
    store
        .wait_durable(store.freeze_era(EraId(1)).unwrap())
        .unwrap();
    threads.close();
}

fn gap(partition: LogPartition, from: u64, reason: GapReason, has_route: bool) -> Gap {
    Gap {
        partition,
        route: has_route.then(|| "up".to_owned()),
        from: Offset(from),
        to: Offset(from + 10),
        records: 10,
        at_most: reason == GapReason::LostEnd,
        bytes: Some(from),
        reason,
        noted_ms: 1_793_500_000_000,
    }
}

fn publish_all_kinds(store: &Store) {
    let log = log_of(store, "a");
    let plain = Message {
        topic: "plant/1/temperature".into(),
        client_id: "press-1".into(),
        payload: "21.5".into(),
        qos: 1,
        ..Message::default()
    };
    let full = Message {
        qos: 2,
        payload_is_utf8: true,
        expires_at_ms: Some(1_900_000_000_000),
        content_type: Some("text/plain".into()),
        response_topic: Some("answers/1".into()),
        correlation_data: Some(vec![0, 255, 7].into()),
        user_properties: vec![
            ("unit".into(), "C".into()),
            ("z".into(), "".into()),
            ("unit".into(), "F".into()),
        ],
        session: Some(SessionPublish {
            session_epoch: 3,
            packet_id: 65_535,
        }),
        source: Some("down/0/17".into()),
        ..plain.clone()
    };
    let empty = Message {
        qos: 0,
        payload: "".into(),
        ..plain.clone()
    };
    let retained = |topic: &'static str, payload: Vec<u8>| Message {
        topic: topic.into(),
        payload: payload.into(),
        retain: true,
        ..plain.clone()
    };
    let mut last = None;
    for (key, message) in [
        (&b"press-1"[..], &plain),
        (b"plant/1/temperature", &plain),
        (b"another key", &full),
        (b"", &empty),
        (b"k", &retained("state", b"old".to_vec())),
        (b"k", &retained("cleared", b"x".to_vec())),
        (b"k", &retained("large", vec![b'r'; 20_000])),
        (b"k", &retained("state", b"new".to_vec())),
        (b"k", &retained("cleared", Vec::new())),
        // More than one piece of a commit.
        (
            b"k",
            &Message {
                payload: vec![b'y'; 150_000].into(),
                ..plain.clone()
            },
        ),
    ] {
        last = Some(store.append(log, key, message).unwrap().commit);
        store.wait_durable(last.unwrap()).unwrap();
    }
    store.wait_durable(last.unwrap()).unwrap();
}

/// Another boot; a segment that is full; age takes the log `short` of the first life.
fn second_life(folder: &Path, clock: &Arc<FakeClock>) {
    clock.set(|times| {
        times.boot = 2;
        times.since_boot_ms = 1000;
        times.wall_ms += 3 * 3_600_000;
    });
    let (store, threads) = open(folder, clock, b"first board");
    let log = log_of(&store, "b");
    for number in 0..60_u8 {
        let message = Message {
            topic: "bulk".into(),
            client_id: "c".into(),
            payload: vec![b'a' + number % 26; 30_000].into(),
            ..Message::default()
        };
        let at = store.append(log, b"k", &message).unwrap();
        store.wait_durable(at.commit).unwrap();
    }
    append_many(&store, "short", 5..8, 40);
    // A clock that says so much more than before is believed when it goes on like that.
    wait_for("the clock", || {
        store
            .era(EraId(2))
            .is_some_and(|era| era.correction.is_some())
    });
    clock.set(|times| times.pass(Duration::from_secs(31 * 60)));
    let short = LogPartition {
        log: log_of(&store, "short"),
        partition: PartitionId(0),
    };
    wait_for("retention", || store.log_start(short) >= Offset(5));
    threads.close();
}

/// A little of a log that is kept, and much of one that is not: segments are copied together.
fn evacuated_life(folder: &Path, clock: &Arc<FakeClock>) {
    let options = StoreOptions {
        evacuation_bytes_per_second: u64::MAX,
        ..options(clock, b"first board")
    };
    let fleeting = LogOptions {
        retention_bytes: 1 << 20,
        ..LogOptions::new("fleeting", 1)
    };
    let logs = [LogOptions::new("kept", 2), fleeting];
    let (store, threads) = Store::open(folder, options, &logs).unwrap();
    for number in 0..150 {
        append_many(&store, "fleeting", number..number + 1, 30_000);
        if number % 10 == 0 {
            append_many(&store, "kept", number..number + 3, 40);
        }
    }
    wait_for("an evacuation to its end", || {
        let names = directories(folder);
        let is_superseded = |name: &String| {
            let copies = names
                .iter()
                .filter(|copy| copy.contains('.') && *copy != name);
            copies.into_iter().any(|copy| is_covered(copy, name))
        };
        names.iter().any(|name| name.contains('.')) && !names.iter().any(is_superseded)
    });
    threads.close();
}

/// On another board: another incarnation.
fn third_life(folder: &Path, clock: &Arc<FakeClock>) {
    let (store, threads) = open(folder, clock, b"second board");
    append_many(&store, "a", 0..20, 50);
    threads.close();
    drop(store);
    // And a segment of its own, which is about to be lost.
    let (store, threads) = open(folder, clock, b"second board");
    append_many(&store, "a", 20..30, 50);
    threads.close();
}

/// The segment that was written to last becomes unreadable.
fn lose_the_end(folder: &Path) {
    let mut segments = support::template::names(&folder.join("log"));
    segments.sort();
    let last = folder.join("log").join(segments.last().unwrap());
    for name in support::template::names(&last) {
        if name.starts_with("snap.") {
            fs::remove_file(last.join(name)).unwrap();
        }
    }
    fs::write(last.join("db"), vec![0xa5; 1 << 20]).unwrap();
}

/// Leaps, and leaves a segment that is not sealed.
fn last_life(folder: &Path, clock: &Arc<FakeClock>) -> String {
    let (store, threads) = open(folder, clock, b"second board");
    assert_eq!(
        store.recovery_events().len(),
        1,
        "{:?}",
        store.recovery_events()
    );
    append_many(&store, "a", 30..40, 50);
    append_many(&store, "b", 0..3, 50);
    let at = append(&store, "short", "k", "the last one");
    store.wait_durable(at.commit).unwrap();
    let listing = listing(&store);
    threads.close();
    listing
}

/// What the folder holds when it is closed, the folder being left as it is.
fn listing_of_a_copy(folder: &Path, clock: &Arc<FakeClock>) -> String {
    let copy = tempfile::tempdir().unwrap();
    copy_all(folder, copy.path());
    let options = options(clock, b"second board");
    let (store, threads) = Store::open_existing(copy.path(), options).unwrap();
    assert_eq!(store.recovery_events(), []);
    let listing = listing(&store);
    threads.close();
    listing
}
