//! What is built comes back.

use bytes::Bytes;
use proptest::prelude::*;
use record_batch::{Batch, BatchBuilder, BatchHeader, HEADER_BYTES, RecordFields, batches};

use crate::strategy::{OwnedRecord, append_all, built, record, records};

fn read_all(batch: &Batch) -> Vec<OwnedRecord> {
    batch
        .records()
        .map(|record| OwnedRecord::read(&record.unwrap()))
        .collect()
}

proptest! {
    #[test]
    fn records_come_back_in_order_and_unchanged(
        base_offset in 0..i64::MAX - 100,
        records in records(),
    ) {
        let bytes = built(base_offset, &records);
        let (batch, consumed) = Batch::parse(bytes.clone()).unwrap();
        prop_assert_eq!(consumed, bytes.len());
        prop_assert_eq!(batch.as_bytes(), &bytes);
        prop_assert_eq!(read_all(&batch), records.clone());
        for (index, record) in batch.records().enumerate() {
            prop_assert_eq!(record.unwrap().offset, base_offset + index as i64);
        }

        let header = batch.header();
        let count = records.len() as i64;
        prop_assert_eq!(header.base_offset, base_offset);
        prop_assert_eq!(i64::from(header.record_count), count);
        prop_assert_eq!(header.next_offset(), base_offset + count);
        prop_assert_eq!((header.producer_id, header.producer_epoch), (7, 1));
        prop_assert_eq!(header.base_sequence, 40);
        prop_assert_eq!(i64::from(header.last_sequence()), 39 + count);
        prop_assert_eq!(header.base_timestamp_ms, records[0].timestamp_ms);
        let latest = records.iter().map(|record| record.timestamp_ms).max().unwrap();
        prop_assert_eq!(header.max_timestamp_ms, latest);
    }

    #[test]
    fn sizes_are_known_before_and_after_each_record(records in records(), last in record()) {
        let mut builder = BatchBuilder::new(5);
        prop_assert_eq!(builder.len_bytes(), HEADER_BYTES);
        for record in records.iter().chain([&last]) {
            let expected =
                builder.len_bytes() + record.with_fields(|fields| builder.record_bytes(fields));
            let offset = builder.next_offset();
            record.with_fields(|fields| builder.append(fields)).unwrap();
            prop_assert_eq!(builder.len_bytes(), expected);
            prop_assert_eq!(builder.next_offset(), offset + 1);
        }
        let size = builder.len_bytes();
        prop_assert_eq!(builder.finish().len(), size);
    }

    #[test]
    fn cleared_builder_builds_what_a_new_one_would(first in records(), second in records()) {
        let mut builder = BatchBuilder::new(1).with_producer(9, 9, 9);
        append_all(&mut builder, &first);
        builder.clear(17);
        append_all(&mut builder, &second);
        let mut reused = Vec::new();
        builder.finish_into(&mut reused);

        let mut fresh = BatchBuilder::new(17);
        append_all(&mut fresh, &second);
        prop_assert_eq!(Bytes::from(reused), fresh.finish());
    }

    #[test]
    fn finish_into_appends_and_may_be_repeated(first in records(), more in records()) {
        let mut builder = BatchBuilder::new(0);
        append_all(&mut builder, &first);
        let mut out = b"before".to_vec();
        builder.finish_into(&mut out);
        append_all(&mut builder, &more);
        builder.finish_into(&mut out);

        prop_assert_eq!(&out[..6], b"before");
        let read: Vec<_> =
            batches(Bytes::from(out).slice(6..)).map(|batch| read_all(&batch.unwrap())).collect();
        let both: Vec<_> = first.iter().chain(&more).cloned().collect();
        prop_assert_eq!(read, vec![first, both]);
    }

    #[test]
    fn batches_come_one_after_another_until_one_is_cut_short(
        groups in proptest::collection::vec(records(), 1..5),
        cut in 0_usize..200,
    ) {
        let mut all = Vec::new();
        let mut ends = vec![0];
        for group in &groups {
            all.extend_from_slice(&built(0, group));
            ends.push(all.len());
        }
        let kept = all.len().saturating_sub(cut);
        let whole = ends.iter().filter(|end| **end > 0 && **end <= kept).count();
        all.truncate(kept);

        let mut reader = batches(Bytes::from(all));
        let read: Vec<_> = reader.by_ref().map(|batch| read_all(&batch.unwrap())).collect();
        prop_assert_eq!(read, groups[..whole].to_vec());
        prop_assert_eq!(reader.rest().len(), kept - ends[whole]);
    }

    #[test]
    fn batch_under_another_header_keeps_its_records(
        records in records(),
        base_offset in 0..i64::MAX - 100,
        leader_epoch: i32,
        producer_id: i64,
        shift_ms: i64,
    ) {
        let (batch, _) = Batch::parse(built(0, &records)).unwrap();
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch: leader_epoch,
            producer_id,
            base_timestamp_ms: batch.header().base_timestamp_ms.wrapping_add(shift_ms),
            batch_length: 7,
            crc: 7,
            ..batch.header().clone()
        };
        let changed = batch.with_header(&header).unwrap();
        let (read, _) = Batch::parse(changed.as_bytes().clone()).unwrap();
        prop_assert_eq!(&read, &changed);
        let expected = BatchHeader {
            batch_length: batch.header().batch_length,
            crc: read.header().crc,
            ..header
        };
        prop_assert_eq!(read.header(), &expected);
        for (before, after) in batch.records().zip(read.records()) {
            let (before, after) = (before.unwrap(), after.unwrap());
            prop_assert_eq!(after.timestamp_ms, before.timestamp_ms.wrapping_add(shift_ms));
            prop_assert_eq!(after.offset, before.offset + base_offset);
            prop_assert_eq!((after.key, after.value), (before.key, before.value));
        }
    }

    #[test]
    fn checksum_stays_when_only_offset_and_leader_epoch_change(
        records in records(),
        base_offset in 0..i64::MAX - 100,
        leader_epoch: i32,
    ) {
        let (batch, _) = Batch::parse(built(0, &records)).unwrap();
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch: leader_epoch,
            ..batch.header().clone()
        };
        let placed = batch.with_header(&header).unwrap();
        prop_assert_eq!(&placed.as_bytes()[16..], &batch.as_bytes()[16..]);
    }
}

#[test]
fn repeated_header_names_and_null_values_are_kept() {
    let headers: &[(&[u8], Option<&[u8]>)] = &[
        (b"u", Some(b"1")),
        (b"u", Some(b"2")),
        (b"", None),
        (b"u", Some(b"")),
    ];
    let mut builder = BatchBuilder::new(0);
    builder
        .append(&RecordFields {
            headers,
            ..RecordFields::default()
        })
        .unwrap();
    let (batch, _) = Batch::parse(builder.finish()).unwrap();
    let record = batch.records().next().unwrap().unwrap();
    let read: Vec<_> = record.headers.iter().collect();
    let expected: Vec<(Bytes, Option<Bytes>)> = vec![
        (Bytes::from("u"), Some(Bytes::from("1"))),
        (Bytes::from("u"), Some(Bytes::from("2"))),
        (Bytes::new(), None),
        (Bytes::from("u"), Some(Bytes::new())),
    ];
    assert_eq!(read, expected);
    assert_eq!(record.headers.len(), 4);
    assert_eq!(record.headers.first(b"u"), Some(Some(Bytes::from("1"))));
    assert_eq!(record.headers.first(b""), Some(None));
    assert_eq!(record.headers.first(b"v"), None);
}

#[test]
fn empty_builder_finishes_to_nothing() {
    let mut builder = BatchBuilder::new(3);
    let mut out = Vec::new();
    builder.finish_into(&mut out);
    assert_eq!(out, b"");
    assert_eq!(builder.finish(), Bytes::new());
}

#[test]
fn log_append_time_replaces_the_timestamps() {
    let mut builder = BatchBuilder::new(0);
    for timestamp_ms in [10, 20, 15] {
        builder
            .append(&RecordFields {
                timestamp_ms,
                ..RecordFields::default()
            })
            .unwrap();
    }
    let bytes = crate::damage::with_header(&builder.finish(), |header| {
        header.attributes |= 0x08;
        header.max_timestamp_ms = 99;
    });
    let (batch, _) = Batch::parse(bytes).unwrap();
    assert!(batch.header().is_log_append_time());
    assert!(
        batch
            .records()
            .all(|record| record.unwrap().timestamp_ms == 99)
    );
}
