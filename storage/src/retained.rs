//! Retained messages on flash: the log is their write-ahead log, the metadata their checkpoint.
//!
//! A retained message is an ordinary record of its log. While its segment is written to, the record
//! there is the only copy; when the segment is sealed, the newest one of each topic goes into the
//! metadata. After a crash the segments that were not sealed are read anyway.
//!
//! Not for: which messages are retained and for how long, which the broker decides.

use std::collections::BTreeMap;

use bytes::Bytes;
use record_batch::{Batch, BatchBuilder, Record, RecordFields};

use crate::commit::Commit;
use crate::ids::{CommitNumber, EraId};
use crate::message::{Message, MessageError};
use crate::metadata::RetainedRecord;

/// The retained messages that a commit sets or clears; a later record of a topic wins.
pub(crate) fn retained_records(commit: &Commit) -> BTreeMap<Bytes, RetainedRecord> {
    let mut found = BTreeMap::new();
    for batch in commit.batches() {
        let Ok(Some(batch)) = commit.batch(batch.partition) else {
            continue;
        };
        for record in batch
            .records()
            .filter_map(Result::ok)
            .filter(Message::is_retained)
        {
            if let Ok(message) = Message::from_record(&record) {
                found.insert(
                    message.topic,
                    RetainedRecord::new(commit.number(), commit.era(), &record),
                );
            }
        }
    }
    found
}

impl RetainedRecord {
    fn new(commit: CommitNumber, era: EraId, record: &Record) -> Self {
        let headers: Vec<_> = record.headers.iter().collect();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_deref()))
            .collect();
        let fields = RecordFields {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let mut builder = BatchBuilder::new(record.offset);
        // The record came out of a batch, so it fits one.
        let _ = builder.append(&fields);
        Self {
            commit,
            era,
            batch: builder.finish(),
        }
    }

    /// This record, unless it clears its topic (MQTT 5 section 3.3.1.3: an empty payload does).
    pub(crate) fn kept(&self) -> Option<&Self> {
        let clears = self
            .record()
            .is_none_or(|r| r.value.is_none_or(|value| value.is_empty()));
        (!clears).then_some(self)
    }

    fn record(&self) -> Option<Record> {
        let (batch, _) = Batch::parse(self.batch.clone()).ok()?;
        batch.records().next()?.ok()
    }

    /// The message, if it is one and does not clear its topic.
    pub(crate) fn message(&self) -> Option<Result<Message, MessageError>> {
        self.kept()?;
        self.record().map(|record| Message::from_record(&record))
    }
}
