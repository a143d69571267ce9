//! What a leader appends, recognises and refuses.

use bytes::Bytes;
use kafka::ErrorCode;
use kafka::model::partition::{Appended, Partition, PartitionOptions, Tampering, TimestampType};

use crate::batch::{NOW_MS, batch, batch_at, values, with_header};

fn partition() -> Partition {
    Partition::new(PartitionOptions::default())
}

/// A partition to which producer 7 has written eight batches of two records in epoch 1.
fn written() -> Partition {
    let mut partition = partition();
    for index in 0..8 {
        append(&mut partition, &batch(7, 1, index * 2, 2)).unwrap();
    }
    partition
}

fn append(partition: &mut Partition, records: &Bytes) -> Result<Appended, ErrorCode> {
    partition.append(records, NOW_MS)
}

/// The base offset, and whether the batch was recognised.
fn outcome(appended: Result<Appended, ErrorCode>) -> Result<(i64, bool), ErrorCode> {
    appended.map(|appended| (appended.base_offset, appended.duplicate))
}

#[test]
fn resent_batch_is_recognised_when_it_is_one_of_the_last_five() {
    let mut partition = written();
    for back in 1..=5 {
        let index = 8 - back;
        let resent = append(&mut partition, &batch(7, 1, index * 2, 2));
        assert_eq!(
            outcome(resent),
            Ok((i64::from(index * 2), true)),
            "{back} back"
        );
    }
    let sixth = append(&mut partition, &batch(7, 1, 4, 2));
    assert_eq!(outcome(sixth), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(partition.log_end_offset(), 16, "nothing was added");
    assert_eq!(
        outcome(append(&mut partition, &batch(7, 1, 16, 2))),
        Ok((16, false))
    );
}

#[test]
fn resent_batch_is_refused_when_its_bounds_differ() {
    let mut partition = written();
    for (sequence, count) in [(14, 1), (14, 3), (13, 2), (15, 1), (12, 4)] {
        let resent = append(&mut partition, &batch(7, 1, sequence, count));
        let expected = Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(outcome(resent), expected, "{count} from {sequence}");
    }
}

#[test]
fn batch_is_refused_when_sequences_are_missing_before_it() {
    let mut partition = written();
    let gap = append(&mut partition, &batch(7, 1, 17, 1));
    assert_eq!(outcome(gap), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
}

#[test]
fn any_sequence_is_accepted_when_the_producer_is_not_known() {
    let mut partition = partition();
    assert_eq!(
        outcome(append(&mut partition, &batch(9, 3, 12_345, 2))),
        Ok((0, false))
    );
    assert_eq!(
        outcome(append(&mut partition, &batch(9, 3, 12_347, 2))),
        Ok((2, false))
    );
    assert_eq!(partition.producer(9).unwrap().last_sequence(), 12_348);

    partition.lose_producer_state();
    let again = append(&mut partition, &batch(9, 3, 12_347, 2));
    assert_eq!(
        outcome(again),
        Ok((4, false)),
        "the second copy that nothing prevents"
    );
}

#[test]
fn epochs_only_go_up_and_begin_at_sequence_zero() {
    let mut partition = written();
    let above = append(&mut partition, &batch(7, 2, 16, 2));
    assert_eq!(outcome(above), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(
        outcome(append(&mut partition, &batch(7, 2, 0, 2))),
        Ok((16, false))
    );
    let below = append(&mut partition, &batch(7, 1, 16, 2));
    assert_eq!(outcome(below), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    let resent = append(&mut partition, &batch(7, 1, 14, 2));
    assert_eq!(
        outcome(resent),
        Err(ErrorCode::INVALID_PRODUCER_EPOCH),
        "forgotten by now"
    );
}

/// Nobody sends such a thing; Apache Kafka does this with it.
#[test]
fn producer_without_an_epoch_is_not_held_to_its_sequences() {
    let mut partition = partition();
    let below = append(&mut partition, &batch(7, -2, 0, 1));
    assert_eq!(outcome(below), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert_eq!(
        outcome(append(&mut partition, &batch(7, -1, 5, 1))),
        Ok((0, false))
    );
    assert_eq!(
        outcome(append(&mut partition, &batch(7, -1, 50, 1))),
        Ok((1, false))
    );
    assert_eq!(
        outcome(append(&mut partition, &batch(7, -1, 50, 1))),
        Ok((1, true))
    );
    assert_eq!(
        outcome(append(&mut partition, &batch(7, 3, 9, 1))),
        Ok((2, false))
    );
}

#[test]
fn sequence_goes_on_at_zero_after_its_largest_number() {
    let mut partition = partition();
    append(&mut partition, &batch(7, 0, i32::MAX - 1, 2)).unwrap();
    assert_eq!(partition.producer(7).unwrap().last_sequence(), i32::MAX);
    assert_eq!(
        outcome(append(&mut partition, &batch(7, 0, 0, 1))),
        Ok((2, false))
    );

    let mut across = self::partition();
    append(&mut across, &batch(7, 0, i32::MAX, 3)).unwrap();
    assert_eq!(across.producer(7).unwrap().last_sequence(), 1);
    let resent = append(&mut across, &batch(7, 0, i32::MAX, 3));
    assert_eq!(outcome(resent), Ok((0, true)));
}

#[test]
fn batches_without_a_producer_are_always_appended() {
    let mut partition = partition();
    let records = batch(-1, -1, -1, 2);
    assert_eq!(outcome(append(&mut partition, &records)), Ok((0, false)));
    assert_eq!(outcome(append(&mut partition, &records)), Ok((2, false)));
    assert_eq!(partition.producers().count(), 0);
}

#[test]
fn malformed_batch_is_refused_as_the_broker_refuses_it() {
    let good = batch(7, 0, 0, 2);
    let corrupt = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let cases = [
        ("no batch", Bytes::new(), ErrorCode::INVALID_RECORD),
        (
            "half a batch",
            good.slice(..good.len() - 1),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "two batches",
            [&good[..], &good].concat().into(),
            ErrorCode::INVALID_RECORD,
        ),
        ("wrong checksum", corrupt(20), ErrorCode::CORRUPT_MESSAGE),
        (
            "flipped bit in a record",
            corrupt(70),
            ErrorCode::CORRUPT_MESSAGE,
        ),
        (
            "flipped bit in the count",
            corrupt(60),
            ErrorCode::CORRUPT_MESSAGE,
        ),
        ("magic 3", corrupt(16), ErrorCode::CORRUPT_MESSAGE),
        ("base offset 1", corrupt(7), ErrorCode::INVALID_RECORD),
        (
            "control batch",
            with_header(&good, |h| h.attributes = 0x20),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "no sequence",
            with_header(&good, |h| h.base_sequence = -1),
            ErrorCode::INVALID_RECORD,
        ),
        (
            "transactional",
            with_header(&good, |h| h.attributes = 0x10),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
        (
            "compressed",
            with_header(&good, |h| h.attributes = 4),
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ),
    ];
    for (what, records, code) in cases {
        let mut partition = partition();
        assert_eq!(
            outcome(append(&mut partition, &records)),
            Err(code),
            "{what}"
        );
        assert_eq!(partition, self::partition(), "{what} left something behind");
    }
}

#[test]
fn bytes_behind_the_batch_are_ignored_when_they_are_no_batch() {
    let mut partition = partition();
    let good = batch(7, 0, 0, 2);
    let records = Bytes::from([&good[..], &good[..20]].concat());
    assert_eq!(outcome(append(&mut partition, &records)), Ok((0, false)));
    assert_eq!(partition.records().len(), 2);
}

#[test]
fn batch_is_refused_when_it_is_larger_than_allowed() {
    let records = batch(7, 0, 0, 2);
    let limit = |batch_bytes_max| PartitionOptions {
        batch_bytes_max,
        ..Default::default()
    };
    let mut partition = Partition::new(limit(records.len() - 1));
    assert_eq!(
        outcome(append(&mut partition, &records)),
        Err(ErrorCode::MESSAGE_TOO_LARGE)
    );
    let mut partition = Partition::new(limit(records.len()));
    assert_eq!(outcome(append(&mut partition, &records)), Ok((0, false)));
}

#[test]
fn timestamps_are_refused_when_too_far_ahead_or_behind() {
    const HOUR_MS: i64 = 3_600_000;
    let mut partition = partition();
    let ahead = batch_at(7, 0, 0, 1, NOW_MS + HOUR_MS + 1);
    assert_eq!(
        outcome(append(&mut partition, &ahead)),
        Err(ErrorCode::INVALID_TIMESTAMP)
    );
    let ahead = batch_at(7, 0, 0, 1, NOW_MS + HOUR_MS);
    assert_eq!(outcome(append(&mut partition, &ahead)), Ok((0, false)));
    assert_eq!(
        outcome(append(&mut partition, &batch_at(7, 0, 1, 1, 0))),
        Ok((1, false)),
        "1970 is no error by default"
    );

    let options = PartitionOptions {
        timestamp_before_max_ms: HOUR_MS,
        ..Default::default()
    };
    let mut partition = Partition::new(options);
    let behind = batch_at(7, 0, 0, 1, NOW_MS - HOUR_MS - 1);
    assert_eq!(
        outcome(append(&mut partition, &behind)),
        Err(ErrorCode::INVALID_TIMESTAMP)
    );
}

/// The trap of late uploads: the age that counts is the one that the producer wrote.
#[test]
fn producer_is_forgotten_by_the_timestamp_of_its_last_batch() {
    const DAY_MS: i64 = 86_400_000;
    let mut partition = partition();
    append(&mut partition, &batch_at(7, 0, 0, 1, NOW_MS - 2 * DAY_MS)).unwrap();
    append(&mut partition, &batch_at(8, 0, 0, 1, NOW_MS - DAY_MS + 1)).unwrap();
    partition.expire_producers(NOW_MS);
    assert!(
        partition.producer(7).is_none(),
        "written a moment ago, but two days old"
    );
    assert!(partition.producer(8).is_some());
    partition.expire_producers(NOW_MS + 1);
    assert!(partition.producer(8).is_none());
    // What an upload of old records does to a producer that was young a moment ago.
    append(&mut partition, &batch_at(9, 0, 0, 1, NOW_MS)).unwrap();
    append(&mut partition, &batch_at(9, 0, 1, 1, NOW_MS - 2 * DAY_MS)).unwrap();
    partition.expire_producers(NOW_MS);
    assert!(partition.producer(9).is_none());
    let resent = append(&mut partition, &batch_at(7, 0, 0, 1, NOW_MS - 2 * DAY_MS));
    assert_eq!(outcome(resent), Ok((4, false)), "the second copy");
}

#[test]
fn log_append_time_replaces_timestamps_and_keeps_producers_young() {
    let timestamp_type = TimestampType::LogAppendTime;
    let mut partition = Partition::new(PartitionOptions {
        timestamp_type,
        ..Default::default()
    });
    let appended = append(&mut partition, &batch_at(7, 0, 0, 2, 5)).unwrap();
    assert_eq!(appended.log_append_time_ms, NOW_MS);
    assert!(
        partition
            .records()
            .iter()
            .all(|record| record.timestamp_ms == NOW_MS)
    );
    assert_eq!(partition.producer(7).unwrap().last_timestamp_ms, NOW_MS);
    let flagged = with_header(&batch(7, 0, 2, 1), |header| header.attributes = 0x08);
    assert_eq!(
        outcome(append(&mut partition, &flagged)),
        Err(ErrorCode::INVALID_TIMESTAMP)
    );
}

#[test]
fn max_timestamp_of_the_producer_is_not_believed() {
    let mut partition = partition();
    let records = with_header(&batch(7, 0, 0, 2), |header| header.max_timestamp_ms += 99);
    append(&mut partition, &records).unwrap();
    assert_eq!(
        partition
            .batches()
            .next()
            .unwrap()
            .header()
            .max_timestamp_ms,
        NOW_MS
    );
    assert_eq!(partition.producer(7).unwrap().last_timestamp_ms, NOW_MS);
}

#[test]
fn duplicate_is_answered_with_the_timestamp_of_the_first_copy() {
    let mut partition = partition();
    let first = append(&mut partition, &batch(7, 0, 0, 2)).unwrap();
    assert_eq!(first.log_append_time_ms, -1);
    let again = append(&mut partition, &batch(7, 0, 0, 2)).unwrap();
    assert_eq!((again.log_append_time_ms, again.last_offset), (NOW_MS, 1));
}

#[test]
fn only_the_last_batch_is_recognised_after_a_restart() {
    let mut partition = written();
    partition.restart();
    let second_last = append(&mut partition, &batch(7, 1, 12, 2));
    assert_eq!(
        outcome(second_last),
        Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
    );
    assert_eq!(
        outcome(append(&mut partition, &batch(7, 1, 14, 2))),
        Ok((14, true))
    );
    assert_eq!(
        outcome(append(&mut partition, &batch(7, 1, 16, 2))),
        Ok((16, false))
    );
}

#[test]
fn truncation_takes_producer_state_back_to_what_the_log_tells() {
    let mut partition = written();
    partition.new_leader_epoch(Some(12));
    assert_eq!(partition.log_end_offset(), 12);
    assert_eq!(partition.producer(7).unwrap().last_sequence(), 11);
    assert_eq!(
        outcome(append(&mut partition, &batch(7, 1, 12, 2))),
        Ok((12, false))
    );
    partition.new_leader_epoch(Some(0));
    assert!(partition.producer(7).is_none());
    assert_eq!(partition.bytes(), 0);
}

#[test]
fn tampering_stores_something_else_and_answers_the_same() {
    let mut honest = partition();
    let records = batch(7, 0, 0, 3);
    let expected = append(&mut honest, &records).unwrap();
    for (tampering, stored) in [
        (Tampering::DropRecord, vec!["7/0/1", "7/0/2"]),
        (
            Tampering::DuplicateRecord,
            vec!["7/0/0", "7/0/0", "7/0/1", "7/0/2"],
        ),
    ] {
        let mut partition = partition();
        let appended = partition
            .append_tampered(&records, NOW_MS, Some(tampering))
            .unwrap();
        assert_eq!(appended.base_offset, expected.base_offset);
        assert_eq!(partition.producer(7), honest.producer(7));
        assert_eq!(values(&partition.records()), stored);
        let headers: Vec<_> = partition.records()[0].headers.iter().collect();
        assert_eq!(headers.len(), 2, "the other records are as they were");
    }
    let mut partition = partition();
    let single = batch(7, 0, 0, 1);
    partition
        .append_tampered(&single, NOW_MS, Some(Tampering::DropRecord))
        .unwrap();
    assert_eq!(partition.records().len(), 0);
    assert_eq!(
        outcome(append(&mut partition, &single)),
        Ok((0, true)),
        "and nobody notices"
    );
}
