//! CreateTopics: replication factor, assignments and settings are taken as given and ignored.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::{Answer, Received, code};
use crate::messages;
use crate::model::server::Shared;

pub(super) fn answer(shared: &Shared, received: &Received) -> Answer {
    let layout = &messages::create_topics::REQUEST;
    let Some(request) = received.body::<CreateTopicsRequest>(layout) else {
        return Answer::Cut;
    };
    let mut node = shared.node();
    let topics = request.topics.into_iter().map(|topic| {
        let CreatableTopic {
            name,
            num_partitions,
            ..
        } = topic;
        // -1 asks for the broker's default.
        let partition_count = if num_partitions == -1 {
            1
        } else {
            num_partitions
        };
        let result = node.create_topic(&name.0, partition_count, false);
        let id = result.map_or([0; 16], |id| id.0);
        CreatableTopicResult::default()
            .with_error_code(code(&result))
            .with_topic_id(uuid::Uuid::from_bytes(id))
            .with_num_partitions(if result.is_ok() { partition_count } else { -1 })
            .with_replication_factor(if result.is_ok() { 1 } else { -1 })
            .with_name(name)
    });
    let body = CreateTopicsResponse::default().with_topics(topics.collect());
    received.reply(&body)
}
