//! What the store's tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod again;
pub(crate) mod damage;
pub(crate) mod evacuated_folder;
pub(crate) mod findings;
pub(crate) mod full_log;
pub(crate) mod halves;
pub(crate) mod listing;
pub(crate) mod runs;
pub(crate) mod template;

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use storage::{
    AppendError, Appended, ClockSource, EraId, LogId, LogOptions, LogPartition, Message, Offset,
    Read, Store, StoreOptions, StoreThreads,
};

/// Small segments, so that they roll.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        segment_bytes: 1 << 20,
        ring_bytes_max: 200_000,
        ..StoreOptions::default()
    }
}

pub(crate) fn open(path: &Path, logs: &[LogOptions]) -> (Store, StoreThreads) {
    Store::open(path, options(), logs).unwrap()
}

pub(crate) fn log_of(store: &Store, name: &str) -> LogId {
    store.log(name).unwrap().id
}

pub(crate) fn append(store: &Store, log: &str, key: &str, payload: &str) -> Appended {
    let message = Message {
        topic: "some/topic".into(),
        client_id: key.to_owned().into(),
        payload: payload.to_owned().into(),
        qos: 1,
        ..Message::default()
    };
    loop {
        match store.append(log_of(store, log), key.as_bytes(), &message) {
            Err(AppendError::QueueFull) => std::thread::sleep(Duration::from_millis(1)),
            other => return other.unwrap(),
        }
    }
}

/// Appends records of about `size` bytes under a few keys and waits until they are durable.
pub(crate) fn append_many(store: &Store, log: &str, numbers: Range<usize>, size: usize) {
    let mut last = None;
    for number in numbers {
        let payload = format!("{number:>size$}");
        last = Some(append(store, log, &format!("key {}", number % 23), &payload).commit);
    }
    store.wait_durable(last.unwrap()).unwrap();
}

/// Offsets and payloads from the start of the partition on.
pub(crate) fn read_all(store: &Store, partition: LogPartition) -> Vec<(u64, String)> {
    read_from(store, partition, store.log_start(partition).0)
}

/// Offsets and payloads from `from` on; there must be no gap.
pub(crate) fn read_from(store: &Store, partition: LogPartition, from: u64) -> Vec<(u64, String)> {
    let mut reader = store.partition_reader(partition, Offset(from));
    let mut found = Vec::new();
    loop {
        match reader.read(50_000).unwrap() {
            Read::UpToDate => return found,
            Read::Gap { from, to, reason } => panic!("gap {from}..{to}: {reason:?}"),
            Read::Batches(batches) => {
                for record in batches.iter().flat_map(|stored| stored.batch.records()) {
                    let record = record.unwrap();
                    let offset = u64::try_from(record.offset).unwrap();
                    if offset >= from {
                        let message = Message::from_record(&record).unwrap();
                        found.push((offset, String::from_utf8(message.payload.to_vec()).unwrap()));
                    }
                }
            }
        }
    }
}

/// Eras of the batches of a partition, in order.
pub(crate) fn eras(store: &Store, partition: LogPartition) -> Vec<EraId> {
    let mut reader = store.partition_reader(partition, Offset(0));
    let mut eras = Vec::new();
    while let Read::Batches(batches) = reader.read(50_000).unwrap() {
        eras.extend(batches.iter().map(|stored| stored.era));
    }
    eras
}

/// As [`eras`], from the start of what is kept.
pub(crate) fn eras_kept(store: &Store, partition: LogPartition) -> Vec<EraId> {
    let mut reader = store.partition_reader(partition, store.log_start(partition));
    let mut eras = Vec::new();
    loop {
        match reader.read(50_000).unwrap() {
            Read::Batches(batches) => eras.extend(batches.iter().map(|stored| stored.era)),
            Read::Gap { .. } => {}
            Read::UpToDate => return eras,
        }
    }
}

/// Waits, with a bound that only a stuck store reaches.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A clock that tests set.
#[derive(Debug)]
pub(crate) struct FakeClock(Mutex<Times>);

#[derive(Clone, Debug)]
pub(crate) struct Times {
    pub(crate) boot: u8,
    pub(crate) since_boot_ms: i64,
    pub(crate) wall_ms: i64,
    pub(crate) error_ms: Option<u64>,
}

impl Times {
    pub(crate) fn pass(&mut self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap();
        self.since_boot_ms += ms;
        self.wall_ms += ms;
    }
}

impl FakeClock {
    pub(crate) fn new() -> Arc<Self> {
        let wall_ms = storage::RELEASE_TIME_MS + 1000;
        Arc::new(Self(Mutex::new(Times {
            boot: 1,
            since_boot_ms: 5000,
            wall_ms,
            error_ms: None,
        })))
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Times)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl ClockSource for FakeClock {
    fn boot_id(&self) -> [u8; 16] {
        [self.0.lock().unwrap().boot; 16]
    }

    fn since_boot_ms(&self) -> i64 {
        self.0.lock().unwrap().since_boot_ms
    }

    fn wall_ms(&self) -> i64 {
        self.0.lock().unwrap().wall_ms
    }

    fn wall_error_ms(&self) -> Option<u64> {
        self.0.lock().unwrap().error_ms
    }
}
