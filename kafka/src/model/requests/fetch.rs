//! Fetch: batches below the high watermark, waiting for them if there are too few. Sessions are not
//! offered.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::time::{Instant, timeout_at};

use super::{Answer, Received, epoch};
use crate::error_code::ErrorCode;
use crate::messages;
use crate::model::node::Node;
use crate::model::server::Shared;

/// Longest wait that a client gets.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What was read so far for one request.
struct Read {
    topics: Vec<FetchableTopicResponse>,
    bytes: usize,
    /// Whether a partition was refused, which is not worth waiting for.
    refused: bool,
}

pub(super) async fn answer(shared: &Shared, received: &Received) -> Answer {
    let layout = &messages::fetch::REQUEST;
    let Some(request) = received.body::<FetchRequest>(layout) else {
        return Answer::Cut;
    };
    if request.session_id != 0 {
        let code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return received.reply(&FetchResponse::default().with_error_code(code.0));
    }
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let deadline = Instant::now() + Duration::from_millis(wait_ms).min(WAIT_MAX);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    let mut changes = shared.changes();
    let read = loop {
        changes.mark_unchanged();
        let read = read(&mut shared.node(), &request);
        if read.bytes >= bytes_min || read.refused {
            break read;
        }
        // An error means that the model is gone, and then so is this task.
        if timeout_at(deadline, changes.changed()).await.is_err() {
            break read;
        }
    };
    received.reply(&FetchResponse::default().with_responses(read.topics))
}

fn read(node: &mut Node, request: &FetchRequest) -> Read {
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut read = Read {
        topics: Vec::new(),
        bytes: 0,
        refused: false,
    };
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let data = PartitionData::default()
                .with_partition_index(asked.partition)
                .with_aborted_transactions(None);
            match partition_data(node, &topic.topic.0, asked, left, read.bytes == 0) {
                Ok(data) => {
                    let bytes = data.records.as_ref().map_or(0, bytes::Bytes::len);
                    read.bytes += bytes;
                    left = left.saturating_sub(bytes);
                    data
                }
                Err(code) => {
                    read.refused = true;
                    data.with_error_code(code.0).with_high_watermark(-1)
                }
            }
        });
        let partitions = partitions.collect();
        let name = topic.topic.clone();
        let response = FetchableTopicResponse::default().with_topic(name);
        read.topics.push(response.with_partitions(partitions));
    }
    read
}

/// One partition's batches. Only the first batch of the whole answer may exceed the limits.
fn partition_data(
    node: &mut Node,
    topic: &str,
    asked: &FetchPartition,
    left: usize,
    first: bool,
) -> Result<PartitionData, ErrorCode> {
    let current_epoch = epoch(asked.current_leader_epoch);
    let partition = node.partition(topic, asked.partition, current_epoch)?;
    let bytes_max = usize::try_from(asked.partition_max_bytes)
        .unwrap_or(0)
        .min(left);
    let mut records = partition.fetch(asked.fetch_offset, bytes_max)?;
    if !first && records.len() > bytes_max {
        records.clear();
    }
    Ok(PartitionData::default()
        .with_partition_index(asked.partition)
        .with_aborted_transactions(None)
        .with_high_watermark(partition.high_watermark())
        .with_last_stable_offset(partition.high_watermark())
        .with_log_start_offset(partition.log_start_offset())
        .with_records(Some(records)))
}
