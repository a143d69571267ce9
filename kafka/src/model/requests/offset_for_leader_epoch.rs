//! OffsetForLeaderEpoch: where the records of an epoch end.

use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Answer, Received, epoch};
use crate::messages;
use crate::model::server::Shared;

pub(super) fn answer(shared: &Shared, received: &Received) -> Answer {
    let layout = &messages::offset_for_leader_epoch::REQUEST;
    let Some(request) = received.body::<OffsetForLeaderEpochRequest>(layout) else {
        return Answer::Cut;
    };
    let mut node = shared.node();
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.topic;
        let partitions = topic.partitions.iter().map(|asked| {
            let response = EpochEndOffset::default().with_partition(asked.partition);
            match node.partition(&name.0, asked.partition, epoch(asked.current_leader_epoch)) {
                Ok(partition) => {
                    let (leader_epoch, end_offset) =
                        partition.epoch_end(asked.leader_epoch).unwrap_or((-1, -1));
                    response
                        .with_leader_epoch(leader_epoch)
                        .with_end_offset(end_offset)
                }
                Err(code) => response.with_error_code(code.0),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(name)
            .with_partitions(partitions)
    });
    let body = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
    received.reply(&body)
}
