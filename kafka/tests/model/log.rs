//! Reading, offsets, leader epochs and retention of the model's log.

use std::hash::{BuildHasher, RandomState};

use kafka::ErrorCode;
use kafka::model::partition::{Partition, PartitionOptions};
use record_batch::batches;

use crate::batch::{NOW_MS, batch, batch_at, values};

/// Five batches of two records; the timestamps ascend by a second from batch to batch.
fn five_batches(options: PartitionOptions) -> Partition {
    let mut partition = Partition::new(options);
    for index in 0..5 {
        let timestamp_ms = NOW_MS - 10_000 + i64::from(index) * 1000;
        let records = batch_at(7, 0, index * 2, 2, timestamp_ms);
        partition.append(&records, NOW_MS).unwrap();
    }
    partition
}

fn lagging() -> Partition {
    five_batches(PartitionOptions {
        high_watermark_lags: true,
        ..Default::default()
    })
}

/// Base offsets of what a Fetch returns.
fn fetched(partition: &Partition, offset: i64, bytes_max: usize) -> Result<Vec<i64>, ErrorCode> {
    let records = partition.fetch(offset, bytes_max)?;
    Ok(batches(records)
        .map(|batch| batch.unwrap().header().base_offset)
        .collect())
}

#[test]
fn fetch_returns_whole_batches_from_the_one_that_holds_the_offset() {
    let partition = five_batches(PartitionOptions::default());
    assert_eq!(fetched(&partition, 0, usize::MAX), Ok(vec![0, 2, 4, 6, 8]));
    assert_eq!(fetched(&partition, 5, usize::MAX), Ok(vec![4, 6, 8]));
    assert_eq!(
        fetched(&partition, 4, 1),
        Ok(vec![4]),
        "the first one whatever its size"
    );
    let batch_bytes = batch(7, 0, 0, 2).len();
    assert_eq!(fetched(&partition, 0, 3 * batch_bytes), Ok(vec![0, 2, 4]));
    assert_eq!(
        fetched(&partition, 10, usize::MAX),
        Ok(vec![]),
        "the log end"
    );
    assert_eq!(
        fetched(&partition, 11, 1),
        Err(ErrorCode::OFFSET_OUT_OF_RANGE)
    );
    assert_eq!(
        fetched(&partition, -1, 1),
        Err(ErrorCode::OFFSET_OUT_OF_RANGE)
    );
}

#[test]
fn nothing_is_visible_above_the_high_watermark() {
    let mut partition = lagging();
    assert_eq!(partition.high_watermark(), 0);
    assert_eq!(fetched(&partition, 0, usize::MAX), Ok(vec![]));
    assert_eq!(partition.latest(), (0, 0));
    assert_eq!(partition.first_at(0), None);
    partition.advance_high_watermark(5);
    assert_eq!(
        fetched(&partition, 0, usize::MAX),
        Ok(vec![0, 2]),
        "half a batch is none"
    );
    assert_eq!(partition.latest(), (5, 0));
    partition.advance_high_watermark(3);
    assert_eq!(partition.high_watermark(), 5, "never back");
    partition.advance_high_watermark(99);
    assert_eq!(partition.high_watermark(), 10, "never beyond the log end");
    assert_eq!(partition.records().len(), 10);
}

#[test]
fn offset_by_time_is_that_of_the_first_record_not_older() {
    let partition = five_batches(PartitionOptions::default());
    let third = NOW_MS - 8000;
    assert_eq!(partition.first_at(third), Some((4, third, 0)));
    assert_eq!(partition.first_at(third - 1), Some((4, third, 0)));
    assert_eq!(partition.first_at(third + 1), Some((6, third + 1000, 0)));
    assert_eq!(partition.first_at(NOW_MS), None);
}

#[test]
fn trimming_moves_the_log_start_and_keeps_producers() {
    let mut partition = five_batches(PartitionOptions::default());
    partition.trim(5);
    assert_eq!(partition.log_start_offset(), 5);
    assert_eq!(partition.earliest(), (5, Some(0)));
    assert_eq!(
        fetched(&partition, 4, 1),
        Err(ErrorCode::OFFSET_OUT_OF_RANGE)
    );
    assert_eq!(
        fetched(&partition, 5, 1),
        Ok(vec![4]),
        "the batch that holds it"
    );
    assert_eq!(values(&partition.records())[0], "7/0/5");
    partition.trim(99);
    assert_eq!(
        (partition.log_start_offset(), partition.log_end_offset()),
        (10, 10)
    );
    assert_eq!(partition.producer(7).unwrap().last_sequence(), 9);

    let mut lagging = lagging();
    lagging.trim(4);
    assert_eq!(
        lagging.log_start_offset(),
        0,
        "not above the high watermark"
    );
}

#[test]
fn leader_epochs_tell_where_the_log_was_cut() {
    let mut partition = five_batches(PartitionOptions::default());
    assert_eq!(partition.epoch_end(0), Some((0, 10)));
    partition.new_leader_epoch(Some(7));
    assert_eq!(partition.leader_epoch(), 1);
    assert_eq!(partition.log_end_offset(), 6, "whole batches only");
    assert_eq!(partition.high_watermark(), 6);
    assert_eq!(
        partition.epoch_end(0),
        Some((0, 6)),
        "6 to 9 of epoch 0 are gone"
    );
    partition.append(&batch(7, 0, 6, 1), NOW_MS).unwrap();
    let last = partition.batches().last().unwrap().header().clone();
    assert_eq!((last.base_offset, last.partition_leader_epoch), (6, 1));
    assert_eq!(partition.epoch_end(1), Some((1, 7)));
    assert_eq!(partition.epoch_end(2), None);
}

#[test]
fn leader_epoch_of_the_client_must_be_the_leaders() {
    let mut partition = five_batches(PartitionOptions::default());
    partition.restart();
    assert_eq!(partition.leader_epoch(), 2, "nobody led in epoch 1");
    assert_eq!(partition.check_leader_epoch(None), Ok(()));
    assert_eq!(partition.check_leader_epoch(Some(2)), Ok(()));
    assert_eq!(
        partition.check_leader_epoch(Some(1)),
        Err(ErrorCode::FENCED_LEADER_EPOCH)
    );
    assert_eq!(
        partition.check_leader_epoch(Some(3)),
        Err(ErrorCode::UNKNOWN_LEADER_EPOCH)
    );
    assert_eq!(partition.epoch_end(1), Some((0, 10)));
}

#[test]
fn clones_are_equal_and_hash_alike_until_one_changes() {
    let mut partition = five_batches(PartitionOptions::default());
    let clone = partition.clone();
    let state = RandomState::new();
    assert_eq!(partition, clone);
    assert_eq!(state.hash_one(&partition), state.hash_one(&clone));
    partition.append(&batch(7, 0, 10, 1), NOW_MS).unwrap();
    assert_ne!(partition, clone);
    assert_ne!(state.hash_one(&partition), state.hash_one(&clone));
}
