//! ListOffsets: earliest, latest, by time.

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Answer, Received, epoch};
use crate::error_code::ErrorCode;
use crate::messages;
use crate::model::node::Node;
use crate::model::server::Shared;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

pub(super) fn answer(shared: &Shared, received: &Received) -> Answer {
    let layout = &messages::list_offsets::REQUEST;
    let Some(request) = received.body::<ListOffsetsRequest>(layout) else {
        return Answer::Cut;
    };
    let mut node = shared.node();
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.name;
        let partitions = topic.partitions.iter().map(|asked| {
            let response =
                ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            match find(&mut node, &name.0, asked) {
                Ok((offset, timestamp_ms, leader_epoch)) => {
                    let response = response.with_offset(offset).with_timestamp(timestamp_ms);
                    if received.version < 4 {
                        response
                    } else {
                        response.with_leader_epoch(leader_epoch)
                    }
                }
                Err(code) => response.with_error_code(code.0),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    let body = ListOffsetsResponse::default().with_topics(topics.collect());
    received.reply(&body)
}

/// Offset, timestamp and leader epoch, -1 where there is none.
fn find(
    node: &mut Node,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<(i64, i64, i32), ErrorCode> {
    let current_epoch = epoch(asked.current_leader_epoch);
    let partition = node.partition(topic, asked.partition_index, current_epoch)?;
    Ok(match asked.timestamp {
        LATEST => {
            let (offset, leader_epoch) = partition.latest();
            (offset, -1, leader_epoch)
        }
        EARLIEST => {
            let (offset, leader_epoch) = partition.earliest();
            (offset, -1, leader_epoch.unwrap_or(-1))
        }
        // Kinds of offsets that later versions know.
        kind if kind < EARLIEST => return Err(ErrorCode::UNSUPPORTED_VERSION),
        timestamp_ms => partition.first_at(timestamp_ms).unwrap_or((-1, -1, -1)),
    })
}
