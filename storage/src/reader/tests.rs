//! Reading while segments go.

use super::*;

use crate::logs::LogOptions;
use crate::message::Message;
use crate::store::{Store, StoreOptions};

#[test]
fn segment_that_went_while_it_was_read_leaves_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let logs = [LogOptions::new("a", 1)];
    let (store, threads) = Store::open(folder.path(), StoreOptions::default(), &logs).unwrap();
    let log = store.log("a").unwrap();
    let appended = store.append(log.id, b"key", &Message::default()).unwrap();
    store.wait_durable(appended.commit).unwrap();
    let mut reader = store.partition_reader(appended.partition, Offset(0));
    let active = SegmentName::written(SegmentId(1));
    // A copy of it: what was being read, and the index does not name.
    let gone = SegmentName {
        generation: 1,
        ..active
    };
    let after = appended.commit.next();
    let read = reader.gap_after_damage(gone, after);
    assert!(
        matches!(&read, Read::Batches(batches) if batches.is_empty()),
        "{read:?}"
    );
    let read = reader.read(1000).unwrap();
    assert!(
        matches!(&read, Read::Batches(batches) if batches.len() == 1),
        "{read:?}"
    );

    reader.seek(Offset(0));
    let read = reader.gap_after_damage(active, after);
    assert!(
        matches!(
            &read,
            Read::Gap {
                from: Offset(0),
                to: Offset(1),
                ..
            }
        ),
        "{read:?}"
    );
    threads.close();
}
