//! Logs that reject rather than forget, and filling one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use storage::{AppendError, JournalKey, JournalKind, LogPartition, Message, OnFull, Store};

use super::{log_of, wait_for};

/// Unless none of these pins needs its records.
pub(crate) fn reject(pins: &[&str]) -> OnFull {
    OnFull::Reject {
        pins: pins.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// Appends a record of about 1000 bytes to the log `a`.
pub(crate) fn try_append(store: &Store) -> Result<(), AppendError> {
    let message = Message {
        topic: "t".into(),
        payload: "x".repeat(1000).into(),
        ..Message::default()
    };
    let appended = store.append(log_of(store, "a"), b"k", &message);
    appended.map(|_| ())
}

/// Appends to the log `a`, which keeps 2 MiB, until it is full; returns the offset behind the last record.
pub(crate) fn fill(store: &Store, partition: LogPartition) -> u64 {
    wait_for("a full log", || {
        for _ in 0..200 {
            match try_append(store) {
                Ok(()) | Err(AppendError::QueueFull) => {}
                Err(AppendError::LogFull { bytes_max, .. }) => {
                    assert_eq!(bytes_max, 2 << 20);
                    return true;
                }
                Err(other) => panic!("{other}"),
            }
        }
        false
    });
    let log = log_of(store, "a");
    assert!(store.full_logs().iter().any(|(full, _)| *full == log));
    // What was appended before is durable with this.
    let key = JournalKey::new(JournalKind::BridgeRoute, b"nothing");
    let put = store.put_journal_entry(key, None, Duration::ZERO).unwrap();
    store.wait_durable(put).unwrap();
    store.high_watermark(partition).0
}
