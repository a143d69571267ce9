//! Damaged and hostile input: refused with what and where, never a panic.

use bytes::Bytes;
use proptest::prelude::*;
use record_batch::{
    Batch, BatchBuilder, BatchError, BatchHeader, Compression, HEADER_BYTES, RecordFields,
    RecordProblem, batches, checksum,
};

use crate::strategy::{built, records};

/// `batch` with a changed header and the checksum made right again.
pub(crate) fn with_header(batch: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::parse(batch).unwrap();
    change(&mut header);
    let mut bytes = batch.to_vec();
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    header.crc = checksum(&bytes).unwrap();
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    Bytes::from(bytes)
}

/// A batch that claims `record_count` records and has `records` as their bytes.
fn handmade(record_count: i32, records: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(100);
    builder.append(&RecordFields::default()).unwrap();
    let mut bytes = builder.finish()[..HEADER_BYTES].to_vec();
    bytes.extend_from_slice(records);
    with_header(&bytes, |header| {
        header.batch_length = i32::try_from(bytes.len() - 12).unwrap();
        header.record_count = record_count;
        header.last_offset_delta = record_count - 1;
    })
}

/// A record of which only the parts that a test does not care about are given.
const WHOLE: [u8; 7] = [12, 0, 0, 0, 1, 1, 0];

fn first_error(bytes: Bytes) -> BatchError {
    let (batch, _) = Batch::parse(bytes).unwrap();
    batch.records().find_map(Result::err).expect("an error")
}

fn problem(records: &[u8]) -> RecordProblem {
    match first_error(handmade(1, records)) {
        BatchError::Record {
            base_offset: 100,
            index: 0,
            problem,
            ..
        } => problem,
        other => panic!("{other}"),
    }
}

proptest! {
    #[test]
    fn flipped_bit_is_found_wherever_the_checksum_or_a_length_covers_it(
        records in records(),
        at in any::<proptest::sample::Index>(),
        bit in 0..8,
    ) {
        let original = built(3, &records);
        let mut bytes = original.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let outside = at < 8 || (12..16).contains(&at);
        match Batch::parse(Bytes::from(bytes)) {
            Ok((batch, _)) => {
                prop_assert!(outside, "flip of bit {} of byte {} was not found", bit, at);
                let (unharmed, _) = Batch::parse(original).unwrap();
                prop_assert_ne!(batch.header(), unharmed.header());
            }
            // Flipping the sign of the base offset may push the last offset over the end.
            Err(error) => prop_assert!(
                !outside || matches!(error, BatchError::OffsetOverflow { .. }),
                "{}", error
            ),
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = Bytes::from(bytes);
        let _ = BatchHeader::parse(&bytes);
        let _ = Batch::parse(bytes.clone());
        for batch in batches(bytes).flatten() {
            let _ = batch.records().count();
        }
    }

    /// The checksum is made right, so that the damage reaches the reader of records. What is read
    /// all the same must be what the bytes say: writing it again gives the same bytes.
    #[test]
    fn damaged_records_with_a_right_checksum_are_refused_or_mean_what_they_say(
        records in records(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = built(3, &records).to_vec();
        let record_bytes = bytes.len() - HEADER_BYTES;
        for (at, value) in changes {
            bytes[HEADER_BYTES + at.index(record_bytes)] = value;
        }
        let bytes = with_header(&bytes, |_| ());
        let (batch, _) = Batch::parse(bytes).unwrap();
        let Ok(read) = batch.records().collect::<Result<Vec<_>, _>>() else {
            return Ok(());
        };
        let mut builder = BatchBuilder::new(3);
        for record in &read {
            crate::strategy::append_all(
                &mut builder,
                &[crate::strategy::OwnedRecord::read(record)],
            );
        }
        let again = builder.finish();
        // The first record's delta may have become other than 0, which the builder never writes.
        if read[0].timestamp_ms == batch.header().base_timestamp_ms {
            prop_assert_eq!(&again[HEADER_BYTES..], &batch.as_bytes()[HEADER_BYTES..]);
        }
    }

    #[test]
    fn cut_batch_is_truncated_and_never_more(records in records(), cut in 1_usize..100) {
        let bytes = built(3, &records);
        let kept = bytes.len().saturating_sub(cut);
        let error = Batch::parse(bytes.slice(..kept)).unwrap_err();
        let BatchError::Truncated { available_bytes, .. } = error else {
            return Err(TestCaseError::fail(error.to_string()));
        };
        prop_assert_eq!(available_bytes, kept);
    }
}

#[test]
fn records_are_refused_when_the_batch_is_compressed() {
    let codecs = [
        (1, Compression::Gzip, "gzip"),
        (2, Compression::Snappy, "snappy"),
        (3, Compression::Lz4, "lz4"),
        (4, Compression::Zstd, "zstd"),
        (7, Compression::Unknown(7), "unknown codec 7"),
    ];
    for (bits, codec, name) in codecs {
        let bytes = with_header(&handmade(1, &WHOLE), |header| header.attributes = bits);
        let (batch, _) = Batch::parse(bytes).unwrap();
        let mut records = batch.records();
        let error = records.next().unwrap().unwrap_err();
        assert_eq!(
            error,
            BatchError::Compressed {
                base_offset: 100,
                codec
            }
        );
        assert!(error.to_string().contains(name), "{error}");
        assert!(records.next().is_none(), "one error, then the end");
    }
}

#[test]
fn record_is_refused_when_a_field_is_impossible() {
    use RecordProblem as P;
    assert!(
        Batch::parse(handmade(1, &WHOLE))
            .unwrap()
            .0
            .records()
            .all(|r| r.is_ok())
    );
    assert_eq!(problem(&[12, 1, 0, 0, 1, 1, 0]), P::Attributes(1));
    // 0x80 0x00 is a long way to write 0, here as timestamp delta and as offset delta.
    assert_eq!(
        problem(&[14, 0, 0x80, 0, 0, 1, 1, 0]),
        P::Varint("timestamp delta")
    );
    assert_eq!(
        problem(&[14, 0, 0, 0x80, 0, 1, 1, 0]),
        P::Varint("offset delta")
    );
    let delta = |found| P::OffsetDelta {
        found,
        lowest: 0,
        highest: 0,
    };
    assert_eq!(problem(&[12, 0, 0, 2, 1, 1, 0]), delta(1));
    assert_eq!(problem(&[12, 0, 0, 1, 1, 1, 0]), delta(-1));
    let length = |field, length, left_bytes| P::Length {
        field,
        length,
        left_bytes,
    };
    assert_eq!(problem(&[12, 0, 0, 0, 3, 1, 0]), length("key", -2, 2));
    assert_eq!(problem(&[12, 0, 0, 0, 6, 1, 0]), length("key", 3, 2));
    assert_eq!(
        problem(&[12, 0, 0, 0, 1, 2, 0][..]),
        P::Truncated("header count")
    );
    assert_eq!(problem(&[14, 0, 0, 0, 1, 1, 0]), length("record", 7, 6));
    assert_eq!(problem(&[11, 0, 0, 0, 1, 1, 0]), length("record", -6, 6));
    assert_eq!(problem(&[12, 0, 0, 0, 1, 1, 1]), P::HeaderCount(-1));
    assert_eq!(
        problem(&[12, 0, 0, 0, 1, 1, 2]),
        P::Truncated("header name length")
    );
    assert_eq!(
        problem(&[16, 0, 0, 0, 1, 1, 2, 1, 1]),
        P::HeaderNameLength(-1)
    );
    assert_eq!(
        problem(&[16, 0, 0, 0, 1, 1, 2, 0, 3]),
        length("header value", -2, 0)
    );
    assert_eq!(problem(&[14, 0, 0, 0, 1, 1, 0, 9]), P::Trailing(1));
    assert_eq!(problem(&[0, 0, 0, 0, 1, 1, 0]), P::Truncated("attributes"));
}

#[test]
fn huge_header_count_is_refused_without_reserving_for_it() {
    // Header count 2^31 - 1 in a record of eleven bytes.
    let record = [20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(
        problem(&record),
        RecordProblem::Truncated("header name length")
    );
}

#[test]
fn error_names_record_and_place_when_a_later_record_is_damaged() {
    let mut records = WHOLE.to_vec();
    records.extend_from_slice(&[12, 0, 0, 4, 1, 1, 0]);
    let error = first_error(handmade(2, &records));
    assert_eq!(
        error.to_string(),
        "record 1 of batch at offset 100, at byte 68 of the batch: \
         offset delta is 2, from 1 to 1 is allowed"
    );
}

#[test]
fn batch_is_refused_when_the_record_count_does_not_fit() {
    let too_few = with_header(&handmade(2, &WHOLE.repeat(2)), |h| h.record_count = 1);
    let error = Batch::parse(too_few.clone()).unwrap_err();
    assert!(
        matches!(
            error,
            BatchError::Count {
                record_count: 1,
                ..
            }
        ),
        "{error}"
    );
    // A broker may return such a batch, but then nothing may follow its one record.
    let (batch, _) = Batch::parse_stored(too_few).unwrap();
    let error = batch.records().find_map(Result::err).unwrap();
    assert_eq!(
        error,
        BatchError::TrailingBytes {
            base_offset: 100,
            trailing_bytes: 7
        }
    );

    let beyond_the_bytes = with_header(&handmade(1, &WHOLE), |header| {
        header.record_count = 1_000_000;
        header.last_offset_delta = 999_999;
    });
    let error = Batch::parse(beyond_the_bytes).unwrap_err();
    assert!(
        matches!(
            error,
            BatchError::Count {
                record_count: 1_000_000,
                ..
            }
        ),
        "{error}"
    );

    let none = with_header(&handmade(1, &[]), |header| header.record_count = 0);
    let error = Batch::parse(none.clone()).unwrap_err();
    assert!(
        matches!(
            error,
            BatchError::Count {
                record_count: 0,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(Batch::parse_stored(none).unwrap().0.records().count(), 0);
}

#[test]
fn holes_are_read_when_compaction_made_them_and_descending_offsets_are_not() {
    // Offset deltas 1 and 4 of a span of six.
    let mut records = [12, 0, 0, 2, 1, 1, 0].to_vec();
    records.extend_from_slice(&[12, 0, 0, 8, 1, 1, 0]);
    let compacted = with_header(&handmade(2, &records), |h| h.last_offset_delta = 5);
    let (batch, _) = Batch::parse_stored(compacted).unwrap();
    let offsets: Vec<_> = batch
        .records()
        .map(|record| record.unwrap().offset)
        .collect();
    assert_eq!(offsets, [101, 104]);

    records.rotate_left(7);
    let descending = with_header(&handmade(2, &records), |h| h.last_offset_delta = 5);
    let (batch, _) = Batch::parse_stored(descending).unwrap();
    let error = batch.records().find_map(Result::err).unwrap();
    assert!(
        error.to_string().contains("offset delta is 1, from 5 to 5"),
        "{error}"
    );
}

#[test]
fn batches_end_with_an_error_when_one_is_damaged() {
    let mut bytes = handmade(1, &WHOLE).to_vec();
    let first_end = bytes.len();
    bytes.extend_from_slice(&handmade(1, &WHOLE));
    bytes[first_end + 30] ^= 1;
    let mut reader = batches(Bytes::from(bytes));
    assert!(reader.next().unwrap().is_ok());
    let error = reader.next().unwrap().unwrap_err();
    assert!(matches!(error, BatchError::Crc { .. }), "{error}");
    assert!(reader.next().is_none());
    assert_eq!(reader.rest().len(), first_end);
}
