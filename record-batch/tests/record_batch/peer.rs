//! The codec of the `kafka-protocol` crate reads what we write and writes what we read. It keeps
//! headers in a map by name, so that names are unique here, and it does not wrap timestamps.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;
use record_batch::Batch;

use crate::strategy::{OwnedRecord, built, records};

/// Records that both sides can express.
fn shared_records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    records().prop_map(|mut records| {
        for record in &mut records {
            record.timestamp_ms &= 0xff_ffff_ffff;
            let mut seen = std::collections::HashSet::new();
            record.headers.retain(|(name, _)| seen.insert(name.clone()));
        }
        records
    })
}

fn theirs(record: &OwnedRecord, index: i64) -> Record {
    let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap().into();
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 7,
        producer_epoch: 1,
        timestamp_type: TimestampType::Creation,
        offset: 500 + index,
        sequence: i32::try_from(40 + index).unwrap(),
        timestamp: record.timestamp_ms,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: record
            .headers
            .iter()
            .map(|(n, value)| (name(n), value.clone().map(Bytes::from)))
            .collect(),
    }
}

proptest! {
    #[test]
    fn peer_reads_what_we_write(records in shared_records()) {
        let mut bytes = built(500, &records);
        let read = RecordBatchDecoder::decode_all(&mut bytes).unwrap();
        let expected: Vec<_> = records.iter().zip(0..).map(|(r, index)| theirs(r, index)).collect();
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(&read[0].records, &expected);
    }

    #[test]
    fn we_read_what_the_peer_writes(records in shared_records()) {
        let written: Vec<_> = records.iter().zip(0..).map(|(r, index)| theirs(r, index)).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut bytes, &written, &options).unwrap();
        let (batch, consumed) = Batch::parse(bytes.clone().freeze()).unwrap();
        prop_assert_eq!(consumed, bytes.len());
        let read: Vec<_> =
            batch.records().map(|record| OwnedRecord::read(&record.unwrap())).collect();
        prop_assert_eq!(read, records);
        let header = batch.header();
        prop_assert_eq!((header.producer_id, header.producer_epoch), (7, 1));
        prop_assert_eq!((header.base_offset, header.base_sequence), (500, 40));
    }
}
