//! DescribeProducers: the producer states of a partition.

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::{Answer, Received, code};
use crate::messages;
use crate::model::partition::Partition;
use crate::model::server::Shared;

pub(super) fn answer(shared: &Shared, received: &Received) -> Answer {
    let layout = &messages::describe_producers::REQUEST;
    let Some(request) = received.body::<DescribeProducersRequest>(layout) else {
        return Answer::Cut;
    };
    let mut node = shared.node();
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.name;
        let partitions = topic.partition_indexes.into_iter().map(|index| {
            let found = node.partition(&name.0, index, None);
            PartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(code(&found))
                .with_active_producers(found.map(|found| states(found)).unwrap_or_default())
        });
        let partitions = partitions.collect();
        TopicResponse::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    let body = DescribeProducersResponse::default().with_topics(topics.collect());
    received.reply(&body)
}

fn states(partition: &Partition) -> Vec<ProducerState> {
    let state = |(id, producer): (i64, &crate::model::producers::Producer)| {
        ProducerState::default()
            .with_producer_id(id.into())
            .with_producer_epoch(producer.epoch.into())
            .with_last_sequence(producer.last_sequence())
            .with_last_timestamp(producer.last_timestamp_ms)
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(-1)
    };
    partition.producers().map(state).collect()
}
