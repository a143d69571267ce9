//! Everything that a data folder says, as text to be compared.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::fmt::Write as _;

use storage::{CommitNumber, JournalKind, LogPartition, Message, Offset, Read, SpanId, Store};

const KINDS: [JournalKind; 8] = [
    JournalKind::Identity,
    JournalKind::Era,
    JournalKind::Span,
    JournalKind::Log,
    JournalKind::Gap,
    JournalKind::BridgeStream,
    JournalKind::BridgeRoute,
    JournalKind::Flash,
];

/// Logs, partitions, records with all headers, gaps, spans, the journal, byte by byte.
pub(crate) fn listing(store: &Store) -> String {
    let mut text = String::new();
    for log in store.logs() {
        writeln!(
            text,
            "log {} `{}`, {} partitions",
            log.id, log.name, log.partitions
        )
        .unwrap();
        for partition in log.partitions() {
            list_partition(store, partition, &mut text);
        }
    }
    for number in 0..=store.span().0 {
        let span = store.span_of(SpanId(number)).unwrap();
        write!(
            text,
            "span {number} {} {}",
            span.incarnation,
            span.reason.as_str()
        )
        .unwrap();
        for (partition, offset) in span.starts {
            write!(text, ", {partition} at {offset}").unwrap();
        }
        text.push('\n');
    }
    for gap in store.gaps() {
        let (at_most, reason) = (gap.at_most, gap.reason.as_str());
        write!(
            text,
            "gap {} {} to {}: {} ",
            gap.partition, gap.from, gap.to, gap.records
        )
        .unwrap();
        write!(
            text,
            "records, at most {at_most}, bytes {:?}, {reason}, ",
            gap.bytes
        )
        .unwrap();
        writeln!(text, "noted {}, route {:?}", gap.noted_ms, gap.route).unwrap();
    }
    for kind in KINDS {
        for (key, value) in store.journal_entries(kind) {
            writeln!(text, "journal {key} = {}", value.escape_ascii()).unwrap();
        }
    }
    let (mut commits, mut first) = (store.commit_reader(CommitNumber(0)), None);
    let mut last = None;
    loop {
        let read = commits.read(1_000_000).unwrap();
        let Some(newest) = read.last() else { break };
        first = first.or_else(|| read.first().map(storage::Commit::number));
        last = Some(newest.number());
    }
    writeln!(text, "commits {first:?} to {last:?}").unwrap();
    text
}

fn list_partition(store: &Store, partition: LogPartition, text: &mut String) {
    let (start, end) = (store.log_start(partition), store.high_watermark(partition));
    writeln!(text, "partition {partition}: {start} to {end}").unwrap();
    let mut reader = store.partition_reader(partition, Offset(0));
    loop {
        match reader.read(1_000_000).unwrap() {
            Read::UpToDate => return,
            Read::Gap { from, to, reason } => {
                writeln!(text, "  {from} to {to}: {}", reason.as_str()).unwrap();
            }
            Read::Batches(batches) => {
                for stored in batches {
                    let (commit, era, span) = (stored.commit, stored.era, stored.span);
                    for record in stored.batch.records() {
                        let record = record.unwrap();
                        let message = Message::from_record(&record).unwrap();
                        let (offset, time) = (record.offset, record.timestamp_ms);
                        write!(text, "  {offset} commit {commit} era {era} span {span} ").unwrap();
                        write!(text, "time {time} key {:?} ", record.key).unwrap();
                        list_message(&message, text);
                    }
                }
            }
        }
    }
}

/// Field by field, so that it stays the same when a field is added.
fn list_message(message: &Message, text: &mut String) {
    let Message {
        topic,
        payload,
        client_id,
        qos,
        retain,
        payload_is_utf8,
        ..
    } = message;
    write!(text, "topic {topic:?} client {client_id:?} qos {qos} ").unwrap();
    write!(text, "retain {retain} utf8 {payload_is_utf8} ").unwrap();
    write!(
        text,
        "x {:?} m {:?} ",
        message.expires_at_ms, message.content_type
    )
    .unwrap();
    write!(
        text,
        "r {:?} d {:?} ",
        message.response_topic, message.correlation_data
    )
    .unwrap();
    let session = message
        .session
        .map(|publish| (publish.session_epoch, publish.packet_id));
    write!(
        text,
        "u {:?} s {session:?} o {:?} ",
        message.user_properties, message.source
    )
    .unwrap();
    let checksum = crc32c::crc32c(payload);
    writeln!(text, "{} bytes with CRC-32C {checksum:08x}", payload.len()).unwrap();
}
